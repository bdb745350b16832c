//! What the core reports, as log lines and counts: one line per decision, none per request.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sidegrid_core::event::Notice;
use sidegrid_core::view::View;
use sidegrid_core::{MemberId, Time};
use tracing::{debug, error, info, warn};

use crate::grid::{Grid, Phase};

/// Every new view begins without echoes: a lease that is back within this time after one was never missed.
const VIEW_GRACE: Duration = Duration::from_millis(250);

/// How long nothing is told of a registry that fails again.
const REGISTRY_QUIET: Duration = Duration::from_secs(30);

/// Where the lease stands, as it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lease {
    /// Never held, or told as lost.
    Missed,
    Held,
    /// Gone with a change of the view, at this reading: not told yet.
    Renewing(Time),
}

/// Tells of one incarnation. Keeps what is needed to call members by their names.
#[derive(Debug)]
pub(crate) struct Chronicle {
    grid: Grid,
    view: Option<Arc<View>>,
    before: Option<Arc<View>>,
    installed: Time,
    lease: Lease,
    suspected: BTreeSet<MemberId>,
    waits_for: Option<&'static str>,
    refused: Option<String>,
    registry_failed: bool,
    /// Whether that was told, and when it was told last.
    registry_told: bool,
    registry_told_at: Option<Time>,
}

impl Chronicle {
    pub(crate) fn new(grid: Grid) -> Chronicle {
        Chronicle {
            grid,
            view: None,
            before: None,
            installed: Time::ZERO,
            lease: Lease::Missed,
            suspected: BTreeSet::new(),
            waits_for: None,
            refused: None,
            registry_failed: false,
            registry_told: false,
            registry_told_at: None,
        }
    }

    /// Logs and counts one notice. True when what people are shown has changed.
    pub(crate) fn tell(&mut self, now: Time, notice: Notice) -> bool {
        match notice {
            Notice::ViewInstalled { view, joined, left, took } => {
                self.installed = now;
                self.view_installed(view, &joined, &left, took);
                return true;
            }
            Notice::LeaseLost => {
                self.lease_lost(now);
                return true;
            }
            Notice::LeaseGained => {
                if self.lease == Lease::Missed {
                    info!("the lease is held");
                }
                self.lease = Lease::Held;
                return true;
            }
            Notice::Promoted { group, resent } => {
                self.grid.counters().promotions.add_one();
                debug!(group = group.0, resent, "serving as primary");
            }
            Notice::Transferred { group, records, bytes } => {
                self.grid.counters().transfers.add_one();
                self.grid.counters().transfer_bytes.add(bytes as u64);
                debug!(group = group.0, records, bytes, "copy complete");
            }
            Notice::Removed { cache, expired } => {
                if let Some(counters) = self.grid.removals_of(cache) {
                    if expired { counters.expirations.add_one() } else { counters.evictions.add_one() }
                }
            }
            Notice::GroupsVacant { groups } => {
                warn!(
                    "the last owners of {groups} groups are out: refusing their operations until one is back, or they start empty"
                );
                return true;
            }
            Notice::GroupsLost { groups, in_order } => {
                self.groups_lost(groups, in_order);
                return true;
            }
            Notice::RegistryFailed => {
                self.registry_failed = true;
                self.tell_of_registry(now);
            }
            Notice::RegistryBehind => {
                error!("the registry's document is missing or older than the view known here: not following it");
            }
            other => self.tell_of_members(other),
        }
        false
    }

    fn tell_of_members(&mut self, notice: Notice) {
        match notice {
            Notice::Suspected { member, reason } => self.suspected(member, reason),
            Notice::Trusted { member } => {
                self.suspected.remove(&member);
                info!("{} answers again", self.name(member));
            }
            Notice::Voted { suspects } => {
                self.grid.counters().votes.add_one();
                info!("voted to exclude {}", self.names(&suspects));
            }
            Notice::VotesVoided => info!("votes given were voided through the registry"),
            // Proofs are kept for a while after the view has gone on without the member: no news then.
            Notice::ProvedDead { member } if self.view.as_ref().is_some_and(|view| view.contains(member)) => {
                info!("{} is proved dead", self.name(member));
            }
            Notice::ExclusionWaits { reason } => self.exclusion_waits(reason),
            Notice::DoubledIdentity { name, machine } => warn!(
                "refused a second member {name:?} of machine id {machine}, on another boot: {name} still answers. Machines made \
                 from one image need a machine id each"
            ),
            _ => {}
        }
    }

    fn suspected(&mut self, member: MemberId, reason: &'static str) {
        if self.suspected.insert(member) {
            self.grid.counters().suspicions.add_one();
            warn!("{} is suspected: {reason}", self.name(member));
        }
    }

    /// Once for each reason and view.
    fn exclusion_waits(&mut self, reason: &'static str) {
        if self.waits_for.replace(reason) != Some(reason) {
            warn!("an exclusion can't go on: {reason}");
        }
    }

    /// Logs why this node can't join, once for each reason.
    pub(crate) fn join_refused(&mut self, why: String) {
        if self.refused.as_ref() != Some(&why) {
            warn!("can't join yet: {why}");
            self.refused = Some(why);
        }
    }

    fn view_installed(&mut self, view: Arc<View>, joined: &[String], left: &[String], took: Duration) {
        let counters = self.grid.counters();
        counters.views_installed.add_one();
        let gone = self.suspected.iter().filter(|&&id| !view.contains(id)).count();
        counters.exclusions.add(gone as u64);
        self.suspected.retain(|&id| view.contains(id));
        self.waits_for = None;
        self.refused = None;
        info!("{}", view_line(&view, joined, left, took));
        self.before = self.view.replace(view);
    }

    fn lease_lost(&mut self, now: Time) {
        if self.grid.phase() >= Phase::Draining {
            // Given up on purpose (C-3).
            self.lease = Lease::Missed;
        } else if now.since(self.installed) < VIEW_GRACE {
            self.lease = Lease::Renewing(now);
        } else {
            self.lease_missed();
        }
    }

    fn lease_missed(&mut self) {
        self.lease = Lease::Missed;
        self.grid.counters().leases_lost.add_one();
        warn!("the lease ran out: too few members answer; refusing service until they do");
    }

    /// Tells what only time shows. Called a few times a second at least.
    pub(crate) fn tend(&mut self, now: Time) {
        self.tell_of_registry(now);
        if let Lease::Renewing(since) = self.lease
            && now.since(since) >= VIEW_GRACE
        {
            self.lease_missed();
        }
    }

    fn groups_lost(&self, groups: usize, in_order: bool) {
        self.grid.counters().groups_lost.add(groups as u64);
        let none_left = self.view.as_ref().is_some_and(|view| view.members.is_empty());
        if none_left && self.grid.phase() >= Phase::Draining {
            info!("the last member has left: nobody holds the {groups} groups any more");
        } else if in_order {
            warn!("{groups} groups went with members that left while nobody stayed to take them");
        } else {
            error!("every copy of {groups} groups is lost: they start empty");
        }
    }

    /// Once for each time that the registry is away, but not for each of many short ones: it may answer reads and carry out
    /// nothing.
    fn tell_of_registry(&mut self, now: Time) {
        let quiet = self.registry_told_at.is_some_and(|at| now.since(at) < REGISTRY_QUIET);
        if self.registry_failed && !self.registry_told && !quiet {
            (self.registry_told, self.registry_told_at) = (true, Some(now));
            warn!("the registry can't be reached; service goes on, changes of the view wait");
        }
    }

    /// The registry answered.
    pub(crate) fn registry_answered(&mut self) {
        self.registry_failed = false;
        if std::mem::take(&mut self.registry_told) {
            info!("the registry answers again");
        }
    }

    fn name(&self, id: MemberId) -> String {
        let mut views = [&self.view, &self.before].into_iter().flatten();
        let member = views.find_map(|view| view.member(id));
        member.map_or_else(|| id.to_string(), |member| member.name.clone())
    }

    fn names(&self, ids: &[MemberId]) -> String {
        ids.iter().map(|&id| self.name(id)).collect::<Vec<_>>().join(", ")
    }
}

/// `view 7: 3 members [web-1, web-2, web-3] (joined web-3; 412 ms)`
fn view_line(view: &View, joined: &[String], left: &[String], took: Duration) -> String {
    let names: Vec<&str> = view.members.iter().map(|member| member.name.as_str()).collect();
    let members = if names.len() == 1 { "member" } else { "members" };
    let mut changes = Vec::new();
    if !joined.is_empty() {
        changes.push(format!("joined {}", joined.join(", ")));
    }
    if !left.is_empty() {
        changes.push(format!("left {}", left.join(", ")));
    }
    changes.push(format!("{} ms", took.as_millis()));
    format!("view {}: {} {members} [{}] ({})", view.number, names.len(), names.join(", "), changes.join("; "))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sidegrid_config::Settings;
    use sidegrid_core::ViewNumber;
    use sidegrid_core::member::{Locality, Member, PlatformIdentity};
    use sidegrid_net::Clock;

    use super::*;

    fn member(id: u64) -> Member {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        Member {
            id: MemberId(id),
            name: format!("web-{id}"),
            identity: PlatformIdentity::Pod { uid: id.to_string() },
            incarnation: 1,
            data_address: nowhere,
            failure_detection_address: nowhere,
            locality: Locality::default(),
            protocols: (1, 1),
            joined: id,
        }
    }

    fn view(number: u64, ids: &[u64]) -> Arc<View> {
        Arc::new(View {
            number: ViewNumber(number),
            members: ids.iter().map(|&id| member(id)).collect(),
            classes: Vec::new(),
            segments: 1,
            groups: Vec::new(),
            next_joined: 9,
        })
    }

    #[test]
    fn the_view_line_is_what_operators_are_promised() {
        let took = Duration::from_millis(412);
        let three = view(7, &[1, 2, 3]);
        let joined = ["web-3".to_owned()];
        let expected = "view 7: 3 members [web-1, web-2, web-3] (joined web-3; 412 ms)";
        assert_eq!(view_line(&three, &joined, &[], took), expected);
        let left = ["web-2".to_owned(), "web-3".to_owned()];
        let expected = "view 8: 1 member [web-1] (left web-2, web-3; 412 ms)";
        assert_eq!(view_line(&view(8, &[1]), &[], &left, took), expected);
    }

    #[test]
    fn a_suspect_that_is_gone_from_the_next_view_counts_as_excluded() {
        let grid = Grid::new(&Settings::default(), Clock::boottime());
        let mut chronicle = Chronicle::new(grid.clone());
        let install = |view| Notice::ViewInstalled { view, joined: vec![], left: vec![], took: Duration::ZERO };
        assert!(chronicle.tell(Time::ZERO, install(view(1, &[1, 2, 3]))));
        for member in [MemberId(2), MemberId(3), MemberId(3)] {
            chronicle.tell(Time::ZERO, Notice::Suspected { member, reason: "silent" });
        }
        chronicle.tell(Time::ZERO, Notice::Trusted { member: MemberId(2) });
        chronicle.tell(Time::ZERO, install(view(2, &[1])));
        assert_eq!(chronicle.name(MemberId(3)), "web-3", "known from the view before");
        assert_eq!(grid.counters().suspicions.get(), 2);
        assert_eq!(grid.counters().exclusions.get(), 1);
        assert_eq!(grid.counters().views_installed.get(), 2);
    }

    #[test]
    fn a_registry_that_comes_and_goes_is_told_of_now_and_then() {
        let mut chronicle = Chronicle::new(Grid::new(&Settings::default(), Clock::boottime()));
        let at = |s| Time::ZERO + Duration::from_secs(s);
        chronicle.tell(at(1), Notice::RegistryFailed);
        assert!(chronicle.registry_told);
        for second in 2..=30 {
            chronicle.registry_answered();
            chronicle.tell(at(second), Notice::RegistryFailed);
            assert!(!chronicle.registry_told, "at {second} s");
        }
        // It stays away: that is told, only later.
        chronicle.tend(at(31));
        assert!(chronicle.registry_told);
    }

    #[test]
    fn only_a_lease_that_is_missed_counts_as_lost() {
        let grid = Grid::new(&Settings::default(), Clock::boottime());
        let mut chronicle = Chronicle::new(grid.clone());
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let install =
            Notice::ViewInstalled { view: view(1, &[1, 2]), joined: vec![], left: vec![], took: Duration::ZERO };
        chronicle.tell(at(1_000), install);
        chronicle.tell(at(1_000), Notice::LeaseLost);
        chronicle.tell(at(1_005), Notice::LeaseGained);
        chronicle.tend(at(2_000));
        assert_eq!(grid.counters().leases_lost.get(), 0, "renewed with the view");
        chronicle.tell(at(2_000), Notice::LeaseLost);
        assert_eq!(grid.counters().leases_lost.get(), 1, "ran out");
        chronicle.tell(at(2_500), Notice::LeaseGained);
        chronicle.tell(
            at(3_000),
            Notice::ViewInstalled { view: view(2, &[1, 2]), joined: vec![], left: vec![], took: Duration::ZERO },
        );
        chronicle.tell(at(3_000), Notice::LeaseLost);
        chronicle.tend(at(3_100));
        assert_eq!(grid.counters().leases_lost.get(), 1, "may still come");
        chronicle.tend(at(3_250));
        chronicle.tend(at(3_400));
        assert_eq!(grid.counters().leases_lost.get(), 2, "did not come");
        grid.advance(Phase::Draining);
        chronicle.tell(at(4_000), Notice::LeaseGained);
        chronicle.tell(at(5_000), Notice::LeaseLost);
        assert_eq!(grid.counters().leases_lost.get(), 2, "given up on purpose");
    }
}
