//! A value is not shown after its time to live (E-1, E-2). That it is not absent before is part of linearizability.

use crate::clock::{Instant, MAX_RATE_PPM, SEC};
use crate::history::{Asked, KeyIndex, Operation, Told};
use crate::world::World;

/// How much later than its deadline a value may be shown: the deadline travels as time left, so that each copy that is
/// made of it adds the time of a message, which may wait for a node that stands still.
const SLACK: u64 = SEC;

impl World {
    /// Looks at every value that was put with a time to live.
    pub(crate) fn check_lifetimes(&mut self) {
        let latest_pause = self.profile.longest_standstill();
        let found = self.keys().find_map(|key| self.outlived(key, latest_pause));
        if let Some((key, what)) = found {
            self.violated("lifetime", what, Some(key));
        }
    }

    fn outlived(&self, key: KeyIndex, standstill: u64) -> Option<(KeyIndex, String)> {
        let operations: Vec<&Operation> = self.history.operations.iter().filter(|o| o.key == key).collect();
        let puts = operations.iter().filter_map(|o| match (&o.asked, &o.told) {
            (Asked::Put { value, ttl: Some(ttl), .. }, Told::Stored { .. }) => {
                Some((*value, o.invoked, latest(o.returned, ttl.as_nanos())))
            }
            _ => None,
        });
        puts.into_iter().find_map(|(value, put, own)| {
            let touched = operations.iter().filter(|o| o.returned > put).filter_map(|o| match (&o.asked, &o.told) {
                (Asked::Touch { .. }, Told::Refused(_) | Told::Absent) => None,
                (Asked::Touch { ttl }, _) => Some(latest(o.returned, ttl.as_nanos())),
                _ => None,
            });
            let deadline = touched.fold(own, Instant::max);
            let late = deadline.saturating_add(SLACK + standstill);
            let shown = operations.iter().find(|o| {
                o.invoked > late && o.attempts == 1 && o.observed().is_some_and(|seen| seen.value == value)
            })?;
            Some((key, format!("a value whose time was over at {:.3} s is shown: {shown}", deadline as f64 / 1e9)))
        })
    }
}

/// The latest instant at which a deadline set at `from` passes, by the slowest clock allowed.
fn latest(from: Instant, ttl_ns: u128) -> Instant {
    let slowest = u128::from((1_000_000 - MAX_RATE_PPM).unsigned_abs());
    from.saturating_add(u64::try_from(ttl_ns * 1_000_000 / slowest).unwrap_or(Instant::MAX))
}
