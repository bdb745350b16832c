//! Sidegrid's operator: CacheClusters, the injection webhook and the registry API.

pub mod authority;
mod body;
pub mod crd;
pub mod document;
#[cfg(test)]
mod fake_api;
pub mod health;
pub mod kube_call;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod orphans;
pub mod program;
pub mod proofs;
mod reason;
pub mod reconcile;
pub mod registry_api;
pub mod serving;
pub mod settings;
pub mod status;
pub mod webhook;
