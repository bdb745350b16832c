//! Many members and segments, and other times than the usual ones.

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn a_large_grid_goes_on_without_two_members() {
    others_are_served(StandingFault::LargeGrid, 1);
}
