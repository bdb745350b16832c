//! A member is frozen: it is excluded, and the others go on.

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn a_frozen_member_is_put_out() {
    others_are_served(StandingFault::MemberFrozen, 6);
}

/// L-4: a core that hangs is suspected although its failure-detection thread answers.
#[test]
fn a_member_whose_core_hangs_is_put_out() {
    others_are_served(StandingFault::CoreWedged, 6);
}
