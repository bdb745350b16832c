//! The cluster's certificate authority, kept in the registry, and this member's leaf certificates.

use std::time::Duration;

use rand::random;
use serde::{Deserialize, Serialize};
use sidegrid_config::{Settings, TlsMode as Mode};
use sidegrid_core::{ClusterUid, MemberId};
use sidegrid_net::{Authority, AuthorityError, MemberIdentity, TlsConfig, TlsError, TlsMode};
use sidegrid_registry::{Registry, RegistryError, Secret};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten years: the authority is replaced by making a new cluster.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_653 * 24 * 60 * 60);

/// What makes this process able to join: the cluster's identity and its authority.
#[derive(Debug)]
pub(crate) struct Trust {
    cluster: ClusterUid,
    authority: Authority,
    mode: Mode,
    renewal: Duration,
}

/// Why certificates can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the registry's certificate authority can't be read: it has another form than this build's")]
    Form,
    #[error("certificate authority: {0}")]
    Authority(#[from] AuthorityError),
    #[error("certificate: {0}")]
    Certificate(#[from] TlsError),
}

/// The secret's form in the registry. It carries the cluster's identity, so that the authority and the document that
/// the first member creates can't be of two clusters.
#[derive(Serialize, Deserialize)]
struct Kept {
    cluster: ClusterUid,
    certificate: String,
    key: String,
}

impl Trust {
    /// Takes the authority from the registry; makes it when there is none yet, which takes up to some seconds of
    /// processor time on the calling thread.
    ///
    /// # Errors
    /// [`TrustError`].
    ///
    /// # Cancel safety
    /// A dropped call may have stored the authority; the next one takes it.
    pub(crate) async fn establish(registry: &dyn Registry, settings: &Settings) -> Result<Trust, TrustError> {
        let secret = match registry.authority().await? {
            Some(secret) => secret,
            None => registry.create_authority(make()?).await?,
        };
        let kept: Kept = serde_json::from_slice(secret.expose()).map_err(|_| TrustError::Form)?;
        Ok(Trust {
            cluster: kept.cluster,
            authority: Authority::from_pem(&kept.certificate, &kept.key)?,
            mode: settings.tls.mode,
            renewal: DAY * u32::from(settings.tls.rotation_interval_days),
        })
    }

    /// The cluster's identity.
    pub(crate) fn cluster(&self) -> ClusterUid {
        self.cluster
    }

    /// How often the leaf is renewed; none without certificates.
    pub(crate) fn renewal(&self) -> Option<Duration> {
        (self.mode == Mode::Auto).then_some(self.renewal)
    }

    /// A new leaf for an incarnation, with a key that never leaves this process.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn leaf(&self, member: MemberId) -> Result<TlsConfig, TrustError> {
        let leaf = self.authority.issue(MemberIdentity { cluster: self.cluster, member }, self.renewal * 2)?;
        Ok(TlsConfig::new(&self.authority.cert_pem, &leaf, self.cluster, member)?)
    }

    /// How an incarnation's connections are secured.
    ///
    /// # Errors
    /// When its leaf can't be made.
    pub(crate) fn mode(&self, member: MemberId) -> Result<TlsMode, TrustError> {
        match self.mode {
            Mode::Auto => Ok(TlsMode::Mutual(self.leaf(member)?)),
            Mode::Disabled => Ok(TlsMode::Disabled),
        }
    }
}

fn make() -> Result<Secret, TrustError> {
    let cluster = ClusterUid(random());
    tracing::info!("making the certificate authority of a new cluster {cluster}");
    let authority = Authority::generate(cluster, AUTHORITY_VALIDITY)?;
    let kept = Kept { cluster, certificate: authority.cert_pem, key: authority.key_pem };
    Ok(Secret::new(serde_json::to_vec(&kept).map_err(|_| TrustError::Form)?))
}
