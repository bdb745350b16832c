//! Why a pod is not admitted.

use std::fmt::Write;

use thiserror::Error;

/// Why a pod is not admitted: the field at fault, what is wrong with it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}; {fix}")]
pub struct Refusal {
    /// What kind of fault.
    pub kind: RefusalKind,
    /// Path in the pod, such as `spec.containers[0].ports[1].containerPort`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What was asked can't be read as a pod.
    Unreadable,
    /// The CacheCluster that the label names isn't there.
    NoCluster,
    /// The CacheCluster is being deleted.
    ClusterDeleted,
    /// The cluster label is no name of a CacheCluster.
    InvalidLabel,
    /// A role or readiness word that there isn't.
    UnknownWord,
    /// The pod uses its node's network.
    HostNetwork,
    /// The pod runs on another operating system.
    OperatingSystem,
    /// A container or volume has a name that injection needs.
    NameTaken,
    /// A container has a port that injection needs.
    PortTaken,
    /// The pod carries the sidecar of another CacheCluster.
    OtherCluster,
    /// The CacheCluster names an image that the operator doesn't allow.
    ImageNotAllowed,
}

impl Refusal {
    /// A refusal of this kind for this field.
    pub(super) fn new(
        kind: RefusalKind,
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Refusal {
        Refusal { kind, field: field.into(), problem: problem.into(), fix: fix.into() }
    }

    /// The HTTP code of the answer: 400, 403 or 422.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self.kind {
            RefusalKind::Unreadable => 400,
            RefusalKind::NoCluster
            | RefusalKind::ClusterDeleted
            | RefusalKind::HostNetwork
            | RefusalKind::ImageNotAllowed => 403,
            _ => 422,
        }
    }

    /// A stable word for logs and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            RefusalKind::Unreadable => "unreadable",
            RefusalKind::NoCluster => "no-cluster",
            RefusalKind::ClusterDeleted => "cluster-deleted",
            RefusalKind::InvalidLabel => "invalid-label",
            RefusalKind::UnknownWord => "unknown-word",
            RefusalKind::HostNetwork => "host-network",
            RefusalKind::OperatingSystem => "operating-system",
            RefusalKind::NameTaken => "name-taken",
            RefusalKind::PortTaken => "port-taken",
            RefusalKind::OtherCluster => "other-cluster",
            RefusalKind::ImageNotAllowed => "image-not-allowed",
        }
    }
}

/// The path of a label or annotation, whose name has dots and a slash: `metadata.labels[sidegrid.dev/role]`.
pub(super) fn keyed(map: &str, key: &str) -> String {
    let mut path = String::from("metadata.");
    // Writing to a String can't fail.
    let _written = write!(path, "{map}[{key}]");
    path
}
