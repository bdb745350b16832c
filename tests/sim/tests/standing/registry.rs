//! The registry is away for all, or one of its replicas is behind.

use sidegrid_sim::StandingFault;

use crate::others_are_served;

/// While the view stays the registry may be away (promise 4 of the protocol).
#[test]
fn a_registry_that_is_away_is_not_noticed() {
    others_are_served(StandingFault::RegistryAway, 6);
}

/// G-1, G-3: reads may come from before; swaps are compared with what is there.
#[test]
fn a_replica_that_is_behind_delays_little() {
    others_are_served(StandingFault::RegistryReplicaBehind, 6);
}
