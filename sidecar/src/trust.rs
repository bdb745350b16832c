//! What lets an incarnation in: the cluster's own authority, kept in the registry, or the operator, which signs.

use std::sync::Arc;
use std::time::Duration;

use rand::random;
use serde::{Deserialize, Serialize};
use sidegrid_config::{Settings, TlsMode as Mode};
use sidegrid_core::member::Locality;
use sidegrid_core::{ClusterUid, MemberId};
use sidegrid_net::{
    Authority, AuthorityError, LeafRequest, MemberIdentity, OperatorClient, TlsConfig, TlsError, TlsMode,
};
use sidegrid_registry::api::EnrolRequest;
use sidegrid_registry::{Enrol, Registry, RegistryError, Secret};

#[cfg(test)]
mod tests;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten years: the authority is replaced by making a new cluster.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_653 * 24 * 60 * 60);

/// Where an incarnation's certificate comes from.
pub(crate) enum Trust {
    /// This process signs with the cluster's authority.
    Own(Box<OwnAuthority>),
    /// The operator signs.
    Operator(OperatorTrust),
}

/// The cluster's authority, as the registry keeps it.
pub(crate) struct OwnAuthority {
    cluster: ClusterUid,
    authority: Authority,
    mode: Mode,
    renewal: Duration,
}

/// How the operator is asked.
pub(crate) struct OperatorTrust {
    /// Whom to ask.
    pub(crate) enrols: Arc<dyn Enrol>,
    /// What shows the leaf to the operator afterwards.
    pub(crate) client: OperatorClient,
    /// How members secure connections between them.
    pub(crate) mode: Mode,
    /// The pod that the settings say this is.
    pub(crate) pod_uid: String,
}

/// What an incarnation is given.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The cluster's identity.
    pub(crate) cluster: ClusterUid,
    /// How its connections are secured.
    pub(crate) tls: TlsMode,
    /// After which time it should ask again; none: never.
    pub(crate) renew_after: Option<Duration>,
    /// Where it runs, if whoever signed knows.
    pub(crate) locality: Option<Locality>,
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
    #[error("member.podUid is {set:?}, and the operator knows this pod as {known:?}: give the pod's metadata.uid")]
    Pod { set: String, known: String },
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
        Ok(Trust::Own(Box::new(OwnAuthority {
            cluster: kept.cluster,
            authority: Authority::from_pem(&kept.certificate, &kept.key)?,
            mode: settings.tls.mode,
            renewal: DAY * u32::from(settings.tls.rotation_interval_days),
        })))
    }

    /// Lets an incarnation in, or in again with a new leaf, whose key never leaves this process.
    ///
    /// # Errors
    /// When the leaf can't be made, or the operator does not sign.
    ///
    /// # Cancel safety
    /// Cancel safe: a leaf may have been signed that nobody uses.
    pub(crate) async fn admit(&self, member: MemberId) -> Result<Admission, TrustError> {
        match self {
            Trust::Own(own) => own.admit(member),
            Trust::Operator(operator) => operator.admit(member).await,
        }
    }
}

impl OwnAuthority {
    fn admit(&self, member: MemberId) -> Result<Admission, TrustError> {
        let tls = match self.mode {
            Mode::Auto => {
                let identity = MemberIdentity { cluster: self.cluster, member };
                let leaf = self.authority.issue(identity, self.renewal * 2)?;
                TlsMode::Mutual(TlsConfig::new(&self.authority.cert_pem, &leaf, self.cluster, member)?)
            }
            Mode::Disabled => TlsMode::Disabled,
        };
        let renew_after = (self.mode == Mode::Auto).then_some(self.renewal);
        Ok(Admission { cluster: self.cluster, tls, renew_after, locality: None })
    }
}

impl OperatorTrust {
    async fn admit(&self, member: MemberId) -> Result<Admission, TrustError> {
        let request = LeafRequest::new()?;
        let asked = EnrolRequest { member, request: request.request_pem()? };
        let enrolment = self.enrols.enrol(asked).await?;
        if enrolment.pod_uid != self.pod_uid {
            return Err(TrustError::Pod { set: self.pod_uid.clone(), known: enrolment.pod_uid });
        }
        let leaf = request.into_leaf(&enrolment.certificate)?;
        // Checks the leaf, also where members go without.
        let config = TlsConfig::new(&enrolment.authorities, &leaf, enrolment.cluster, member)?;
        let tls = match self.mode {
            Mode::Auto => TlsMode::Mutual(config),
            Mode::Disabled => TlsMode::Disabled,
        };
        self.client.set_leaf(leaf);
        self.enrols.renewed();
        Ok(Admission {
            cluster: enrolment.cluster,
            tls,
            renew_after: Some(Duration::from_secs(enrolment.renew_after_s.max(1))),
            locality: Some(enrolment.locality),
        })
    }
}

fn make() -> Result<Secret, TrustError> {
    let cluster = ClusterUid(random());
    tracing::info!("making the certificate authority of a new cluster {cluster}");
    let authority = Authority::generate(cluster, AUTHORITY_VALIDITY)?;
    let kept = Kept { cluster, certificate: authority.cert_pem, key: authority.key_pem };
    Ok(Secret::new(serde_json::to_vec(&kept).map_err(|_| TrustError::Form)?))
}
