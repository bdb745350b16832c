//! Each CacheCluster's certificate authority: a Secret in the operator's own namespace, named by the CacheCluster's uid.
//!
//! It is made once. The API server is the arbiter of that: of two operators that make one at the same time, the loser
//! reads the winner's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use sidegrid_core::ClusterUid;
use sidegrid_net::authority::AuthorityError;
use sidegrid_net::{Authority, MemberIdentity, MemberNames};
use tokio::sync::Semaphore;

use crate::kube_call::{self, CallError};
use crate::names::{self, CLUSTER_UID_LABEL, FIELD_MANAGER, MANAGED_BY};

/// Key of the certificate in a Secret.
pub const CERTIFICATE_KEY: &str = "ca.crt";
/// Key of the private key in a Secret.
pub const PRIVATE_KEY: &str = "ca.key";
/// Ten years. It is not rotated yet.
const VALIDITY: Duration = Duration::from_secs(3650 * 86_400);
/// Keys that are made at once.
static GENERATING: Semaphore = Semaphore::const_new(1);
/// Authorities that are kept in memory; beyond them they are read again.
const MAX_CACHED: usize = 256;

/// The cluster of a CacheCluster's uid: its 128 bits. `None` when it is no UUID.
#[must_use]
pub fn cluster_uid(uid: &str) -> Option<ClusterUid> {
    let dashes = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = uid.len() == 36
        && uid.bytes().enumerate().all(|(at, b)| match b {
            b'-' => dashes(at),
            b'0'..=b'9' | b'a'..=b'f' => !dashes(at),
            _ => false,
        });
    if fits { uid.replace('-', "").parse().ok() } else { None }
}

/// The CacheCluster's uid of a cluster, as Kubernetes writes it.
#[must_use]
pub fn uid_text(cluster: ClusterUid) -> String {
    let hex = cluster.to_string();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Why there is no authority to use.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFault {
    /// The API server was not asked, or did not answer as it should.
    #[error("the authority of cluster {uid} can't be read or made: {source}")]
    Api {
        /// The CacheCluster.
        uid: String,
        /// What the call came to.
        source: CallError,
    },
    /// What is stored can't be used.
    #[error("Secret {name} holds no usable authority ({fault}); put back {CERTIFICATE_KEY} and {PRIVATE_KEY}")]
    Damaged {
        /// The Secret.
        name: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The Secret is missing although the cluster's document is there. Another authority would split the cluster: its
    /// members would not know each other.
    #[error(
        "Secret {name} is missing although the cluster has had members; put it and ConfigMap {document} back from a backup, or delete the CacheCluster and its pods and make both anew"
    )]
    Lost {
        /// The Secret.
        name: String,
        /// The document's ConfigMap.
        document: String,
    },
    /// None could be made.
    #[error("an authority can't be made: {0}")]
    Generate(String),
    /// The uid is no UUID.
    #[error("uid {0:?} is no UUID")]
    NotAUid(String),
}

impl AuthorityFault {
    /// A stable word, for metric labels and conditions.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            AuthorityFault::Api { .. } => "unavailable",
            AuthorityFault::Damaged { .. } => "damaged",
            AuthorityFault::Lost { .. } => "lost",
            AuthorityFault::Generate(_) => "generation",
            AuthorityFault::NotAUid(_) => "invalid",
        }
    }

    /// Whether it may go away by itself.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, AuthorityFault::Api { .. } | AuthorityFault::Generate(_))
    }
}

/// A CacheCluster's authority.
#[derive(Debug)]
pub struct ClusterAuthority {
    cluster: ClusterUid,
    authority: Authority,
}

impl ClusterAuthority {
    /// The cluster's identity.
    #[must_use]
    pub const fn cluster(&self) -> ClusterUid {
        self.cluster
    }

    /// The authorities that its members trust, PEM.
    #[must_use]
    pub fn authorities_pem(&self) -> &str {
        &self.authority.cert_pem
    }

    /// Signs the request of a pod's incarnation. The caller has made sure that the asker is that pod.
    ///
    /// # Errors
    /// As of [`Authority::sign`].
    pub fn sign(
        &self,
        request_pem: &str,
        identity: MemberIdentity,
        names: &MemberNames,
        validity: Duration,
    ) -> Result<String, AuthorityError> {
        self.authority.sign_named(request_pem, identity, names, validity.min(VALIDITY))
    }

    fn read(uid: &str, cluster: ClusterUid, secret: &Secret) -> Result<ClusterAuthority, AuthorityFault> {
        let damaged = |fault: String| AuthorityFault::Damaged { name: names::authority_secret(uid), fault };
        let cert = text(secret, CERTIFICATE_KEY).ok_or_else(|| damaged(format!("no {CERTIFICATE_KEY}")))?;
        let key = text(secret, PRIVATE_KEY).ok_or_else(|| damaged(format!("no {PRIVATE_KEY}")))?;
        let authority = Authority::from_pem(cert, key).map_err(|e| damaged(e.to_string()))?;
        Ok(ClusterAuthority { cluster, authority })
    }
}

/// A text value of a Secret.
pub(crate) fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

/// Values for a Secret.
pub(crate) fn data<const N: usize>(values: [(&str, &str); N]) -> BTreeMap<String, ByteString> {
    values.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec()))).collect()
}

/// Labels of what the operator keeps for a CacheCluster in its own namespace.
pub(crate) fn labels(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned()),
        (CLUSTER_UID_LABEL.to_owned(), uid.to_owned()),
    ])
}

/// Reads the authority of the CacheCluster with this uid; `None` when it has not been made.
///
/// # Errors
/// [`AuthorityFault`] but `Lost` and `Generate`.
///
/// # Cancel safety
/// Cancel safe.
pub async fn read(client: &Client, own_ns: &str, uid: &str) -> Result<Option<ClusterAuthority>, AuthorityFault> {
    let cluster = cluster_uid(uid).ok_or_else(|| AuthorityFault::NotAUid(uid.to_owned()))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    let name = names::authority_secret(uid);
    let api = |source| AuthorityFault::Api { uid: uid.to_owned(), source };
    match kube_call::read(secrets.get_opt(&name)).await.map_err(api)? {
        Some(secret) => ClusterAuthority::read(uid, cluster, &secret).map(Some),
        None => Ok(None),
    }
}

/// Reads the authority of the CacheCluster with this uid, or makes it (some seconds of one processor, on a thread that
/// may block). With `had_members` it is not made: members run that trust the one that is missing, and whoever were
/// certified by a new one would begin a second cluster beside theirs.
///
/// # Errors
/// [`AuthorityFault`].
///
/// # Cancel safety
/// It may or may not be made; the next call finds out.
pub async fn ensure(
    client: &Client,
    own_ns: &str,
    uid: &str,
    had_members: bool,
) -> Result<ClusterAuthority, AuthorityFault> {
    if let Some(there) = read(client, own_ns, uid).await? {
        return Ok(there);
    }
    let cluster = cluster_uid(uid).ok_or_else(|| AuthorityFault::NotAUid(uid.to_owned()))?;
    let api = |source| AuthorityFault::Api { uid: uid.to_owned(), source };
    let documents: Api<ConfigMap> = Api::namespaced(client.clone(), own_ns);
    let document = names::document_config_map(uid);
    let name = names::authority_secret(uid);
    if had_members || kube_call::read(documents.get_metadata_opt(&document)).await.map_err(api)?.is_some() {
        return Err(AuthorityFault::Lost { name, document });
    }
    // One at a time: each takes seconds of a processor, and whoever makes CacheClusters by the dozen waits, not those who
    // are served.
    let turn = GENERATING.acquire().await.map_err(|e| AuthorityFault::Generate(e.to_string()))?;
    let made = tokio::task::spawn_blocking(move || Authority::generate(cluster, VALIDITY)).await;
    drop(turn);
    let made = made.map_err(|e| AuthorityFault::Generate(e.to_string()))?;
    let authority = made.map_err(|e| AuthorityFault::Generate(e.to_string()))?;
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.clone()), labels: Some(labels(uid)), ..ObjectMeta::default() },
        data: Some(data([(CERTIFICATE_KEY, &authority.cert_pem), (PRIVATE_KEY, &authority.key_pem)])),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    match kube_call::change(secrets.create(&post(), &secret)).await {
        Ok(_) => {
            tracing::info!(cluster = uid, "made the cluster's certificate authority");
            Ok(ClusterAuthority { cluster, authority })
        }
        // Another operator was faster: its authority counts.
        Err(CallError::Conflict(_)) => {
            let gone = || AuthorityFault::Generate("it was taken away while it was made; try again".to_owned());
            read(client, own_ns, uid).await?.ok_or_else(gone)
        }
        Err(source) => Err(api(source)),
    }
}

/// Parameters of a write, with the operator's name on it.
pub(crate) fn post() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

/// Authorities kept in memory, since reading one back costs a call and some parsing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authorities {
    own_ns: Arc<str>,
    cached: Arc<Mutex<HashMap<ClusterUid, Arc<ClusterAuthority>>>>,
}

impl Authorities {
    /// Those of the operator's own namespace.
    #[must_use]
    pub fn new(own_ns: &str) -> Authorities {
        Authorities { own_ns: own_ns.into(), cached: Arc::default() }
    }

    /// The authority of the CacheCluster with this uid; `None` when it has not been made.
    ///
    /// # Errors
    /// As of [`read`].
    pub async fn get(&self, client: &Client, uid: &str) -> Result<Option<Arc<ClusterAuthority>>, AuthorityFault> {
        let cluster = cluster_uid(uid).ok_or_else(|| AuthorityFault::NotAUid(uid.to_owned()))?;
        let cached = self.lock().get(&cluster).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(found) = read(client, &self.own_ns, uid).await? else { return Ok(None) };
        let found = Arc::new(found);
        let mut cached = self.lock();
        if cached.len() >= MAX_CACHED {
            cached.clear();
        }
        cached.insert(cluster, Arc::clone(&found));
        Ok(Some(found))
    }

    /// Forgets one, because its Secret has changed or is gone.
    pub fn forget(&self, cluster: ClusterUid) {
        self.lock().remove(&cluster);
    }

    /// Forgets all.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterUid, Arc<ClusterAuthority>>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "authority/tests.rs"]
mod tests;
