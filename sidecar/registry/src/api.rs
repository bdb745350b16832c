//! The operator's registry API, as both sides speak it: JSON over HTTPS.
//!
//! | request | who | answers |
//! | --- | --- | --- |
//! | `POST /v1/enrol` with [`EnrolRequest`] | a pod's token (`Authorization: Bearer`, audience `sidegrid`) | 200 [`Enrolment`] |
//! | `GET /v1/document` | a member's leaf | 200 the document (see [`encode`](crate::encode)); 404: none, and none was lost; 410: it was created once and is missing |
//! | `POST /v1/document` with the document | a member's leaf | 201; 409 [`Conflict`]; 410 as above |
//! | `PUT /v1/document` with [`SwapRequest`] | a member's leaf | 200; 409 [`Conflict`]; 422 [`ApiProblem`] when it can never be done |
//! | `POST /v1/republish` with [`RepublishRequest`] | a member's leaf | 202 |
//!
//! Every other status is an [`ApiProblem`]: 401 the token or leaf is not accepted, 403 it is of somebody else,
//! 404 no such CacheCluster, 422 what is asked can't be done, 429 and 503 try again.

use serde::{Deserialize, Serialize};
use sidegrid_core::document::{Document, Expected};
use sidegrid_core::member::Locality;
use sidegrid_core::{ClusterUid, MemberId, ViewNumber};

/// A sidecar asks to be certified as an incarnation of its pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnrolRequest {
    /// The incarnation.
    pub member: MemberId,
    /// PKCS #10, PEM, signed with the leaf's key.
    pub request: String,
}

/// What an enrolled sidecar is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// The cluster's identity: the CacheCluster's uid.
    pub cluster: ClusterUid,
    /// The leaf, PEM.
    pub certificate: String,
    /// The authorities to trust, PEM, one after another while one takes over from another.
    pub authorities: String,
    /// Seconds after which the leaf should be renewed.
    pub renew_after_s: u64,
    /// Where the pod's node is.
    pub locality: Locality,
    /// The pod's uid.
    pub pod_uid: String,
}

/// A swap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwapRequest {
    /// What a fresh read must show.
    pub expected: Expected,
    /// What takes its place.
    pub next: Document,
}

/// What a member knows, told to a registry that is behind (G-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepublishRequest {
    /// The newest view that it has installed, and installs none newer than until the registry is mended.
    pub view: ViewNumber,
    /// The newest document that it knows; it may be of an older view.
    pub document: Document,
}

/// What was there instead of what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The document, if there is one.
    pub there: Option<Document>,
}

/// Words of [`ApiProblem::reason`].
pub mod reason {
    /// 503 to a change: it was on its way when its answer was lost, so that it may have been made or not.
    pub const UNKNOWN_OUTCOME: &str = "unknown_outcome";
    /// 503: what the operator needs can't be asked. Nothing was changed.
    pub const UNAVAILABLE: &str = "unavailable";
    /// 503: too much is under way. Nothing was changed.
    pub const OVERLOADED: &str = "overloaded";
    /// 401: no token or leaf, or one that is not accepted.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// 403: the token or leaf is somebody else's.
    pub const FORBIDDEN: &str = "forbidden";
    /// 404 to an enrolment: no such CacheCluster.
    pub const UNKNOWN_CLUSTER: &str = "unknown_cluster";
    /// 404 to a read: no document, and none was lost.
    pub const NO_DOCUMENT: &str = "no_document";
    /// 410: the document was created once and is missing.
    pub const LOST: &str = "lost";
    /// 500: what is stored can't be understood; it was left as it is.
    pub const CORRUPT: &str = "corrupt";
    /// 413 and 422: what is asked can never be done.
    pub const INVALID: &str = "invalid";
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiProblem {
    /// A stable word.
    pub reason: String,
    /// For people: what is wrong and what to do.
    pub detail: String,
}
