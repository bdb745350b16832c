//! More is written than links carry: members stay members, and writes go on or are refused as overloaded (B-1).

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn overload_is_not_taken_for_death() {
    others_are_served(StandingFault::Overload, 1);
}
