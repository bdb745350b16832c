//! The webhook configuration's trust in the operator's authority.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;

use crate::kube_call::{self, CallError};
use crate::names::{FIELD_MANAGER, WEBHOOK_CONFIGURATION};
use crate::status::{ConditionReason, Fact};

/// How the webhook configuration stood when it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebhookStanding {
    /// It has not been read yet.
    #[default]
    Unknown,
    /// It is there and holds the operator's authority.
    InPlace,
    /// It is not there, or names no webhook: pods are made without the sidecar.
    Missing,
    /// The operator's authority is not in it and can't be put in: labelled pods are refused.
    Untrusted,
}

impl WebhookStanding {
    /// Why pods that are made now don't get their sidecar; none when they do, or it isn't known.
    #[must_use]
    pub fn fault(self) -> Option<Fact> {
        let name = WEBHOOK_CONFIGURATION;
        match self {
            WebhookStanding::Unknown | WebhookStanding::InPlace => None,
            WebhookStanding::Missing => Some(Fact::no(
                ConditionReason::WebhookMissing,
                format!(
                    "there is no webhook in MutatingWebhookConfiguration {name}, so pods are made without the sidecar; \
                     apply the operator's manifests again"
                ),
            )),
            WebhookStanding::Untrusted => Some(Fact::no(
                ConditionReason::WebhookUntrusted,
                format!(
                    "MutatingWebhookConfiguration {name} does not hold the operator's authority, so labelled pods are \
                     refused; let the operator patch it"
                ),
            )),
        }
    }
}

/// Looks at the configuration once, puts the authority in where it is not, and tells how it stands. While it can't be
/// read, it is taken to be as it was.
///
/// # Cancel safety
/// As of [`patch_webhook`].
pub(super) async fn look(client: &Client, ca_pem: &str, standing: &watch::Sender<WebhookStanding>) {
    let found = match patch_webhook(client, ca_pem).await {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "the webhook configuration can't be read");
            return;
        }
    };
    let has_changed = standing.send_if_modified(|known| std::mem::replace(known, found) != found);
    if has_changed && let Some(fault) = found.fault() {
        tracing::warn!(fault = fault.message, "the webhook configuration can't be looked after");
    }
}

/// Puts the authority into every webhook of the operator's configuration that does not have it. Server-side apply of
/// that one field, so that whoever installs the rest keeps it. Returns how the configuration stands then.
///
/// # Errors
/// [`CallError`], when the configuration can't be read.
///
/// # Cancel safety
/// It may or may not be done; the next call finds out.
pub async fn patch_webhook(client: &Client, ca_pem: &str) -> Result<WebhookStanding, CallError> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let Some(found) = kube_call::read(configurations.get_opt(WEBHOOK_CONFIGURATION)).await? else {
        return Ok(WebhookStanding::Missing);
    };
    let wanted = ByteString(ca_pem.as_bytes().to_vec());
    let webhooks = found.webhooks.unwrap_or_default();
    if webhooks.is_empty() {
        return Ok(WebhookStanding::Missing);
    }
    if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&wanted)) {
        return Ok(WebhookStanding::InPlace);
    }
    let bundles: Vec<_> =
        webhooks.iter().map(|webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": wanted}})).collect();
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        // With the uid, so that one that was deleted meanwhile is not made anew with nothing but this.
        "metadata": {"name": WEBHOOK_CONFIGURATION, "uid": found.metadata.uid},
        "webhooks": bundles,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match kube_call::change(configurations.patch(WEBHOOK_CONFIGURATION, &params, &Patch::Apply(patch))).await {
        Ok(_) => {
            tracing::info!("put the operator's authority into the webhook configuration");
            Ok(WebhookStanding::InPlace)
        }
        Err(error) => {
            tracing::debug!(%error, "the operator's authority can't be put into the webhook configuration");
            Ok(WebhookStanding::Untrusted)
        }
    }
}
