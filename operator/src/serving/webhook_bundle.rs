//! The webhook configuration's trust in the operator's authority.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::kube_call::{self, CallError};
use crate::names::{FIELD_MANAGER, WEBHOOK_CONFIGURATION};

/// Puts the authority into every webhook of the operator's configuration that does not have it. Server-side apply of
/// that one field, so that whoever installs the rest keeps it. Returns whether anything was to be changed.
///
/// # Errors
/// [`CallError`]; `NotFound` when the configuration is not installed.
///
/// # Cancel safety
/// It may or may not be done; the next call finds out.
pub async fn patch_webhook(client: &Client, ca_pem: &str) -> Result<bool, CallError> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = kube_call::read(configurations.get_opt(WEBHOOK_CONFIGURATION)).await?;
    let missing = || CallError::NotFound(format!("MutatingWebhookConfiguration {WEBHOOK_CONFIGURATION}; install it"));
    let found = found.ok_or_else(missing)?;
    let wanted = ByteString(ca_pem.as_bytes().to_vec());
    let webhooks = found.webhooks.unwrap_or_default();
    if webhooks.iter().all(|webhook| webhook.client_config.ca_bundle.as_ref() == Some(&wanted)) {
        return Ok(false);
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
    kube_call::change(configurations.patch(WEBHOOK_CONFIGURATION, &params, &Patch::Apply(patch))).await?;
    tracing::info!("put the operator's authority into the webhook configuration");
    Ok(true)
}
