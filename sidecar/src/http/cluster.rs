//! The cluster as this member sees it.

use serde::Serialize;
use sidegrid_core::member::Member;
use sidegrid_core::snapshot::{Participation, Snapshot};
use utoipa::ToSchema;

use super::api::Api;
use super::openapi::responses::AnyProblems;
use super::problem::Problem;
use super::query::Query;
use super::{Reply, answer};
use crate::grid::Grid;

pub(crate) mod explain;

/// The cluster.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Cluster)]
pub(crate) struct ClusterState {
    /// Its name in the settings.
    name: String,
    /// This member.
    member: OwnState,
    /// The view that this member has installed; none while it has none.
    view: Option<ViewState>,
    /// What is not as it should be.
    health: Health,
}

/// This member.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Self)]
pub(crate) struct OwnState {
    /// Its id, new at each start; zeros before there is one.
    id: String,
    /// Its name.
    name: String,
    /// `joining`, `member`, `leaving`, `client` or `superseded`; `local` when no cache is clustered.
    participation: &'static str,
    /// Whether apps should be sent here.
    ready: bool,
    /// Why not, as a stable label.
    reason: &'static str,
    /// Lease that is left, in milliseconds.
    lease_left_ms: u64,
    /// Groups (a segment of the caches with one number of owners) by this member's part in them.
    groups: Groups,
}

/// Groups by this member's part in them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Groups {
    /// Primary and serving.
    primary: usize,
    /// Primary, not serving yet.
    promoting: usize,
    /// In-sync copy.
    owner: usize,
    /// Copy being filled.
    incoming: usize,
}

/// A view.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = View)]
pub(crate) struct ViewState {
    /// Its number.
    number: u64,
    /// Segments of the key space.
    segments: u16,
    /// In the order in which they joined.
    members: Vec<MemberState>,
}

/// A member of the view.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Member)]
pub(crate) struct MemberState {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// Where others reach its data port.
    data_address: String,
    /// Where others reach its failure-detection port.
    failure_detection_address: String,
    /// Region or data centre.
    site: String,
    /// Rack or zone.
    rack: String,
    /// Machine.
    machine: String,
    /// Oldest and newest protocol version that it speaks.
    protocols: [u16; 2],
    /// Whether it is this member.
    this: bool,
    /// Whether this member suspects it.
    suspected: bool,
}

/// What is not as it should be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    /// Whether the registry answered last time. Without it service goes on; changes of the view wait.
    registry_ok: bool,
    /// Older views in which a lease may still run.
    unsealed_views: usize,
    /// Why a needed exclusion can't go on, as a stable label.
    waits_for: Option<&'static str>,
    /// Groups with copies still being filled.
    under_replicated_groups: usize,
    /// Operations of this member's app under way.
    operations_in_flight: usize,
    /// Writes ordered by this member and not stable yet.
    pending_writes: usize,
}

/// Shows the view, its members with locality, and health.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "cluster",
    responses((status = 200, description = "The cluster as this member sees it", body = ClusterState), AnyProblems)
)]
pub(super) fn show_cluster(api: &Api, query: Option<&str>) -> Result<Reply, Problem> {
    Query::of(query, &[])?;
    let snapshot = api.grid.snapshot();
    Ok(answer::json(&state(api, &snapshot)))
}

fn state(api: &Api, snapshot: &Snapshot) -> ClusterState {
    let own = api.grid.member_id();
    let readiness = api.grid.readiness();
    let groups = snapshot.groups;
    ClusterState {
        name: api.cluster_name.clone(),
        member: OwnState {
            id: own.to_string(),
            name: api.member_name.clone(),
            participation: participation_label(&api.grid, snapshot),
            ready: readiness.ready,
            reason: readiness.reason,
            lease_left_ms: u64::try_from(snapshot.lease_left.as_millis()).unwrap_or(u64::MAX),
            groups: Groups {
                primary: groups.primary,
                promoting: groups.promoting,
                owner: groups.owner,
                incoming: groups.incoming,
            },
        },
        view: snapshot.view.as_ref().map(|view| ViewState {
            number: view.number.0,
            segments: view.segments,
            members: view.members.iter().map(|m| member(m, m.id == own, snapshot.suspected.contains(&m.id))).collect(),
        }),
        health: Health {
            registry_ok: snapshot.registry_ok,
            unsealed_views: snapshot.unsealed,
            waits_for: snapshot.waits_for,
            under_replicated_groups: snapshot.under_replicated,
            operations_in_flight: snapshot.operations_in_flight,
            pending_writes: snapshot.pending_writes,
        },
    }
}

fn member(member: &Member, this: bool, suspected: bool) -> MemberState {
    MemberState {
        id: member.id.to_string(),
        name: member.name.clone(),
        data_address: member.data_address.to_string(),
        failure_detection_address: member.failure_detection_address.to_string(),
        site: member.locality.site.clone(),
        rack: member.locality.rack.clone(),
        machine: member.locality.machine.clone(),
        protocols: [member.protocols.0, member.protocols.1],
        this,
        suspected,
    }
}

/// Where this node stands, as a label of the API.
pub(crate) fn participation_label(grid: &Grid, snapshot: &Snapshot) -> &'static str {
    match snapshot.participation {
        _ if !grid.is_clustered() => "local",
        Participation::Joining => "joining",
        Participation::Member => "member",
        Participation::Leaving => "leaving",
        Participation::Client => "client",
        Participation::Superseded => "superseded",
    }
}
