//! Members by what their pods and the view say.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use sidegrid_core::document::Document;
use sidegrid_core::member::{Member, PlatformIdentity};

use crate::crd::MemberStatus;
use crate::names::{CONTAINER, ROLE_LABEL};

/// How a pod or a member stands to the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In the view, and its sidecar runs.
    Member,
    /// It uses the caches and holds no data.
    Client,
    /// Not in the view yet.
    Joining,
    /// Its pod is being deleted.
    Leaving,
    /// In the view, but its pod is gone, its sidecar does not run or is not ready, or its node is silent.
    Unreachable,
    /// It bears the label and has no sidecar.
    NotInjected,
}

impl State {
    /// The word in a status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Member => "Member",
            State::Client => "Client",
            State::Joining => "Joining",
            State::Leaving => "Leaving",
            State::Unreachable => "Unreachable",
            State::NotInjected => "NotInjected",
        }
    }
}

/// Whether the sidecar was injected into the pod.
#[must_use]
pub fn is_injected(pod: &Pod) -> bool {
    let containers = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    containers.is_some_and(|all| all.iter().any(|c| c.name == CONTAINER))
}

/// Whether the pod uses the caches without holding data.
#[must_use]
pub fn is_client(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|l| l.get(ROLE_LABEL)).is_some_and(|role| role == "client")
}

/// Whether all of the pod's containers have ended for good.
#[must_use]
pub fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether Kubernetes takes the pod for healthy.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the pod's sidecar is in the document's view.
#[must_use]
pub fn is_member(document: &Document, pod: &Pod) -> bool {
    document.view.members.iter().any(|member| is_of(member, pod))
}

/// How a pod that has not finished stands to the grid, as far as the platform can see. A sidecar that was told to serve
/// and is not ready may be one that refuses: it counts as out of reach.
#[must_use]
pub fn state(pod: &Pod, in_view: bool, now: Timestamp) -> State {
    // The end of its grace. A pod that is still there then is on a node that doesn't answer.
    let overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 < now);
    if !is_injected(pod) {
        State::NotInjected
    } else if is_client(pod) {
        State::Client
    } else if in_view && (overdue || is_on_silent_node(pod)) {
        State::Unreachable
    } else if pod.metadata.deletion_timestamp.is_some() {
        State::Leaving
    } else if !in_view {
        State::Joining
    } else if sidecar(pod).is_some_and(|s| s.state.as_ref().is_some_and(|s| s.running.is_none()) || !s.ready) {
        State::Unreachable
    } else {
        State::Member
    }
}

/// Whether the pod is told to be not ready while its containers are said to be: so the control plane marks the pods of a
/// node that it no longer hears from. A pod with readiness gates of its own may be so for other reasons.
fn is_on_silent_node(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is = |kind: &str, status: &str| conditions.iter().any(|c| c.type_ == kind && c.status == status);
    !gates && is("Ready", "False") && is("ContainersReady", "True")
}

pub(super) fn sidecar(pod: &Pod) -> Option<&ContainerStatus> {
    let all = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    all.iter().find(|c| c.name == CONTAINER)
}

/// All pods that have not finished, and members of the view without a pod, by name.
pub(super) fn members(document: Option<&Document>, pods: &[Pod], now: Timestamp) -> Vec<MemberStatus> {
    let view = document.map(|d| d.view.members.as_slice()).unwrap_or_default();
    let running = || pods.iter().filter(|pod| !is_finished(pod));
    let of = |pod: &Pod| view.iter().find(|m| is_of(m, pod));
    let mut told: Vec<MemberStatus> = running().map(|pod| of_pod(pod, of(pod), now)).collect();
    let orphans = view.iter().filter(|m| !running().any(|pod| is_of(m, pod)));
    told.extend(orphans.map(without_pod));
    told.sort_by(|a, b| a.name.cmp(&b.name));
    told
}

fn is_of(member: &Member, pod: &Pod) -> bool {
    let uid = pod.metadata.uid.as_deref();
    matches!(&member.identity, PlatformIdentity::Pod { uid: own } if Some(own.as_str()) == uid)
}

fn of_pod(pod: &Pod, member: Option<&Member>, now: Timestamp) -> MemberStatus {
    let place = member.map(|m| m.locality.clone()).unwrap_or_default();
    MemberStatus {
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default(),
        site: place.site,
        rack: place.rack,
        machine: place.machine,
        state: state(pod, member.is_some(), now).word().to_owned(),
        version: version(pod),
    }
}

fn without_pod(member: &Member) -> MemberStatus {
    MemberStatus {
        name: member.name.clone(),
        node: String::new(),
        site: member.locality.site.clone(),
        rack: member.locality.rack.clone(),
        machine: member.locality.machine.clone(),
        state: State::Unreachable.word().to_owned(),
        version: String::new(),
    }
}

/// The tag of the sidecar's image; empty for an image without one.
fn version(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten());
    let image = containers.filter(|c| c.name == CONTAINER).find_map(|c| c.image.as_deref()).unwrap_or_default();
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split_once(':').map(|(_, tag)| tag.to_owned()).unwrap_or_default()
}
