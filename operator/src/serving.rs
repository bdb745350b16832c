//! The operator's own certificates, and serving HTTP over TLS within bounds.
//!
//! The authority (ten years) and the leaf (ninety days, renewed after two thirds of them) are in one Secret, made once
//! and shared by the replicas. Sidecars and the API server trust the authority alone, so a new leaf disturbs nobody.
//! The authority itself is not rotated: deleting the Secret makes another, which members trust only once they have
//! read the new settings ConfigMap.

mod connections;
mod shares;
#[cfg(test)]
mod tests;
mod webhook_bundle;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use sidegrid_net::service::{ServiceAuthority, ServiceCertificate, ServiceLeaf, has_names, is_renewal_due};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use connections::{Ending, Source, serve};
pub use shares::ServeLimits;
pub use webhook_bundle::{WebhookStanding, patch_webhook};

use crate::authority::{CERTIFICATE_KEY, PRIVATE_KEY, data, post, text};
use crate::kube_call::{self, CallError};
use crate::names::{SERVICE, SERVING_SECRET};

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3650 * 86_400);
const LEAF_VALIDITY: Duration = Duration::from_secs(90 * 86_400);
/// How often the certificates are looked after.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// How often the webhook's trust in them is: one read of one object, which must not be put off, since a configuration that
/// was installed anew has every labelled pod refused until the authority is in it.
const WEBHOOK_EVERY: Duration = Duration::from_secs(5);
/// Tries of one change, each after another replica was faster.
const TRIES: usize = 4;
/// Keys of the leaf in the Secret.
const LEAF_KEYS: (&str, &str) = ("tls.crt", "tls.key");

const _: () = assert!(LEAF_VALIDITY.as_secs() > DAY.as_secs());

/// Why the operator has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum ServingFault {
    /// The API server could not be asked.
    #[error("Secret {SERVING_SECRET} can't be read or written: {0}")]
    Api(#[from] CallError),
    /// What is stored can't be used.
    #[error("Secret {SERVING_SECRET} can't be used ({0}); delete it to have it made anew")]
    Damaged(String),
    /// None could be made.
    #[error("a certificate can't be made: {0}")]
    Generate(String),
    /// Other replicas were always faster.
    #[error("Secret {SERVING_SECRET} is changed by others all the time")]
    Contended,
}

/// What the operator shows and what makes it trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServingIdentity {
    authority_pem: String,
    leaf: ServiceLeaf,
}

impl ServingIdentity {
    /// The authority that clients trust, PEM.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The leaf to show.
    #[must_use]
    pub const fn leaf(&self) -> &ServiceLeaf {
        &self.leaf
    }
}

/// The names under which the operator's Service in `own_ns` is reached.
#[must_use]
pub fn dns_names(own_ns: &str) -> Vec<String> {
    let in_ns = format!("{SERVICE}.{own_ns}");
    let svc = format!("{in_ns}.svc");
    let full = format!("{svc}.cluster.local");
    vec![SERVICE.to_owned(), in_ns, svc, full]
}

/// Reads the operator's certificates, and makes them or renews the leaf where that is due.
///
/// # Errors
/// [`ServingFault`].
///
/// # Cancel safety
/// What was begun may be done; the next call finds out.
pub async fn ensure(client: &Client, own_ns: &str) -> Result<ServingIdentity, ServingFault> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), own_ns);
    let names = dns_names(own_ns);
    for _ in 0..TRIES {
        let outcome = match kube_call::read(secrets.get_opt(SERVING_SECRET)).await? {
            None => {
                let (secret, identity) = made(&names)?;
                (kube_call::change(secrets.create(&post(), &secret)).await, identity)
            }
            Some(secret) => match usable(&secret, &names)? {
                Usable::Now(identity) => return Ok(identity),
                Usable::Renewed(secret, identity) => {
                    (kube_call::change(secrets.replace(SERVING_SECRET, &post(), &secret)).await, identity)
                }
            },
        };
        match outcome {
            (Ok(_), identity) => return Ok(identity),
            // Another replica was faster: what it made counts.
            (Err(CallError::Conflict(_) | CallError::NotFound(_)), _) => {}
            (Err(error), _) => return Err(error.into()),
        }
    }
    Err(ServingFault::Contended)
}

fn made(names: &[String]) -> Result<(Secret, ServingIdentity), ServingFault> {
    let generate = |e: sidegrid_net::AuthorityError| ServingFault::Generate(e.to_string());
    let authority = ServiceAuthority::generate("sidegrid operator", AUTHORITY_VALIDITY).map_err(generate)?;
    let leaf = authority.issue(names, LEAF_VALIDITY).map_err(generate)?;
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SERVING_SECRET.to_owned()), ..ObjectMeta::default() },
        data: Some(data([
            (CERTIFICATE_KEY, &authority.cert_pem),
            (PRIVATE_KEY, &authority.key_pem),
            (LEAF_KEYS.0, &leaf.cert_pem),
            (LEAF_KEYS.1, &leaf.key_pem),
        ])),
        ..Secret::default()
    };
    Ok((secret, ServingIdentity { authority_pem: authority.cert_pem, leaf }))
}

enum Usable {
    Now(ServingIdentity),
    /// The Secret with a new leaf, still to be stored.
    Renewed(Box<Secret>, ServingIdentity),
}

fn usable(secret: &Secret, names: &[String]) -> Result<Usable, ServingFault> {
    let damaged = |e: sidegrid_net::AuthorityError| ServingFault::Damaged(e.to_string());
    let value = |key: &str| text(secret, key).ok_or_else(|| ServingFault::Damaged(format!("it has no {key}")));
    let authority_pem = value(CERTIFICATE_KEY)?.to_owned();
    if let (Some(cert), Some(key)) = (text(secret, LEAF_KEYS.0), text(secret, LEAF_KEYS.1)) {
        let leaf = ServiceLeaf { cert_pem: cert.to_owned(), key_pem: key.to_owned() };
        let readable = ServiceCertificate::new(&leaf).is_ok();
        if readable && !is_renewal_due(cert).map_err(damaged)? && has_names(cert, names).map_err(damaged)? {
            return Ok(Usable::Now(ServingIdentity { authority_pem, leaf }));
        }
    }
    let authority = ServiceAuthority::from_pem(&authority_pem, value(PRIVATE_KEY)?).map_err(damaged)?;
    let leaf = authority.issue(names, LEAF_VALIDITY).map_err(|e| ServingFault::Generate(e.to_string()))?;
    let mut renewed = secret.clone();
    renewed.metadata.managed_fields = None;
    let values = renewed.data.get_or_insert_default();
    values.extend(data([(LEAF_KEYS.0, &leaf.cert_pem), (LEAF_KEYS.1, &leaf.key_pem)]));
    Ok(Usable::Renewed(Box::new(renewed), ServingIdentity { authority_pem, leaf }))
}

/// Looks after the certificates until `shutdown`: renews the leaf in time, shows the newest in `certificate`, keeps the
/// webhook's trust in the authority, and tells in `webhook` how its configuration stands.
///
/// # Cancel safety
/// Cancel safe.
pub async fn keep(
    client: Client,
    own_ns: String,
    certificate: ServiceCertificate,
    webhook: watch::Sender<WebhookStanding>,
    shutdown: CancellationToken,
) {
    let mut interval = tokio::time::interval(WEBHOOK_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut authority_pem = None;
    let mut due = Instant::now();
    loop {
        // Both branches are cancel safe.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        if due <= Instant::now() {
            due = Instant::now() + CHECK_EVERY;
            match ensure(&client, &own_ns).await {
                Ok(identity) => {
                    if let Err(error) = certificate.replace(identity.leaf()) {
                        tracing::error!(%error, "the serving certificate can't be used; the one before is shown on");
                    }
                    authority_pem = Some(identity.authority_pem);
                }
                Err(error) => tracing::warn!(%error, "the serving certificate can't be looked after"),
            }
        }
        if let Some(pem) = &authority_pem {
            webhook_bundle::look(&client, pem, &webhook).await;
        }
    }
}
