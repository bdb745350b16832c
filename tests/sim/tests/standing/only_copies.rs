//! A dead member held the only copies of one cache: another cache does not wait for them (V-9).

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn a_cache_with_other_copies_does_not_wait() {
    others_are_served(StandingFault::OnlyCopiesDead, 6);
}
