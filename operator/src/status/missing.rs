//! Why a pod's sidecar is not in the view, as far as the platform says.

use k8s_openapi::api::core::v1::Pod;

use super::members::sidecar;
use super::{State, is_finished};
use crate::crd::MemberStatus;

/// Pods of which the message says why.
const TOLD: usize = 3;
/// Longest text of the platform's, or of a container's last lines, that is passed on, in characters.
const MAX_TEXT: usize = 200;

/// Which of the expected members are missing and why, for the first of them; empty when nothing is known.
pub(super) fn told(members: &[MemberStatus], pods: &[Pod]) -> String {
    let is_missing = |m: &&MemberStatus| [State::Joining.word(), State::Unreachable.word()].contains(&m.state.as_str());
    let missing: Vec<&MemberStatus> = members.iter().filter(is_missing).collect();
    let mut parts: Vec<String> = missing.iter().take(TOLD).map(|member| of(member, pods)).collect();
    if missing.len() > TOLD {
        parts.push(format!("{} more", missing.len() - TOLD));
    }
    parts.join("; ")
}

fn of(member: &MemberStatus, pods: &[Pod]) -> String {
    let is_it = |pod: &&Pod| pod.metadata.name.as_deref() == Some(&member.name) && !is_finished(pod);
    let why = match pods.iter().find(is_it) {
        None => "its pod is gone".to_owned(),
        Some(pod) => unscheduled(pod).or_else(|| container(pod)).unwrap_or_else(|| match member.state.as_str() {
            "Unreachable" => "its sidecar is not ready, or its node is silent".to_owned(),
            _ => "its sidecar is starting".to_owned(),
        }),
    };
    format!("{}: {why}", member.name)
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = condition.message.as_deref().unwrap_or("no reason is given");
    Some(format!("it has no node: {}", short(message)))
}

/// What the sidecar's container waits for, or ended with; its last lines are in the message of its end.
fn container(pod: &Pod) -> Option<String> {
    let status = sidecar(pod)?;
    let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let end = state?.terminated.as_ref()?;
        let reason = end.reason.as_deref().unwrap_or("Error");
        let said = end.message.as_deref().map(|message| format!(": {}", short(message))).unwrap_or_default();
        Some(format!("its sidecar ended with code {} ({reason}){said}", end.exit_code))
    };
    let waiting = || {
        let waiting = status.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().filter(|reason| *reason != "PodInitializing")?;
        let said = waiting.message.as_deref().map(|message| format!(": {}", short(message))).unwrap_or_default();
        Some(format!("its sidecar waits, {reason}{said}"))
    };
    // The last end says more than that the next start is waited for.
    ended(status.state.as_ref()).or_else(|| ended(status.last_state.as_ref())).or_else(waiting)
}

/// The end of a text, where a log says why it ended, on one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = line.chars().count();
    if length <= MAX_TEXT {
        return line;
    }
    format!("... {}", line.chars().skip(length - MAX_TEXT).collect::<String>())
}
