//! A leaver has stopped and another member dies before it is removed: its release goes out when it is due (C-4).

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn a_leaver_that_has_stopped_does_not_hold_up_an_exclusion() {
    others_are_served(StandingFault::LeaverStoppedAndDeath, 6);
}
