//! A link that is cut in part: its data port alone, or one direction.

use sidegrid_sim::StandingFault;

use crate::others_are_served;

#[test]
fn a_cut_data_port_is_a_cut_link() {
    others_are_served(StandingFault::DataPortCut, 6);
}

#[test]
fn a_cut_of_one_direction_is_a_cut_link() {
    others_are_served(StandingFault::OneWayCut, 6);
}
