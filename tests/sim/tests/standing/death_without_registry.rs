//! Only the coordinator is cut off from the registry, and a member dies: the next in order proposes (V-7, V-10).

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn the_next_in_order_proposes() {
    others_are_served(StandingFault::CoordinatorWithoutRegistry, 6);
}
