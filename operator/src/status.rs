//! What is told of a CacheCluster, from its document and its pods. Pure: time is an argument.

mod conditions;
mod members;
mod missing;
mod placement;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use sidegrid_core::document::Document;

use crate::crd::{CacheCluster, CacheClusterStatus, LossStatus, MemberStatus};

pub use conditions::{ConditionReason, Fact};
pub use members::{State, is_client, is_finished, is_injected, is_member, is_ready, state};

/// Whether a copy is being filled somewhere.
#[must_use]
pub fn is_filling(document: &Document) -> bool {
    placement::is_rebalancing(&document.view)
}

/// What a status is made of.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    /// The CacheCluster, with the status before.
    pub cluster: &'a CacheCluster,
    /// The document; none before the first member.
    pub document: Option<&'a Document>,
    /// Why the document can't be told; then the view, members' states and placement of the status before are kept.
    pub document_fault: Option<String>,
    /// All pods of its namespace that bear its label.
    pub pods: &'a [Pod],
    /// Why settings can't be given to pods; none when they can.
    pub settings_fault: Option<Fact>,
    /// Why pods that are made now don't get their sidecar; none as far as is known.
    pub webhook_fault: Option<Fact>,
    /// Whether members can be certified.
    pub certificates: Fact,
    /// Whether evictions are guarded.
    pub guard: Fact,
}

/// The status as of `now`. Conditions keep the time of their last transition while they stay the same.
#[must_use]
pub fn status(seen: &Seen<'_>, now: Timestamp) -> CacheClusterStatus {
    let before = seen.cluster.status.clone().unwrap_or_default();
    let members = members::members(seen.document, seen.pods, now);
    let mut status = CacheClusterStatus {
        observed_generation: seen.cluster.metadata.generation.unwrap_or(0),
        ..CacheClusterStatus::default()
    };
    let lost = seen.document.and_then(|document| placement::lost(&document.view, before.view));
    status.last_loss = lost
        .map(|(segments, view)| LossStatus { view: view.0, segments, seen: now.to_string() })
        .or_else(|| before.last_loss.clone());
    if seen.document_fault.is_some() {
        // What was known is told on; the condition says that it may be old.
        status.view = before.view;
        status.segments = before.segments;
        status.caches = before.caches.clone();
        status.survives = before.survives.clone();
        status.ready = before.ready.clone();
        status.members = before.members.clone();
    } else {
        status.view = seen.document.map_or(0, |d| d.view.number.0);
        status.segments = seen.document.map(|d| placement::segments(&d.view)).unwrap_or_default();
        status.caches = placement::caches(seen.document, seen.cluster);
        status.survives = placement::summary(&status.caches, seen.cluster);
        status.ready = format!("{}/{}", in_view(&members), expected(&members));
        status.members = members;
    }
    let rebalancing = seen.document.is_some_and(is_filling);
    status.conditions = conditions::conditions(seen, &status, rebalancing, &before.conditions, now);
    status
}

fn count(members: &[MemberStatus], state: State) -> usize {
    members.iter().filter(|m| m.state == state.word()).count()
}

/// Members that are in the view and run.
fn in_view(members: &[MemberStatus]) -> usize {
    count(members, State::Member)
}

/// Members that there should be in the view: those in it, on their way into it, or gone from it without leave.
fn expected(members: &[MemberStatus]) -> usize {
    [State::Member, State::Joining, State::Unreachable].into_iter().map(|s| count(members, s)).sum()
}

#[cfg(test)]
mod tests;
