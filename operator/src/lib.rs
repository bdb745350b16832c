//! Sidegrid's operator: CacheClusters, the injection webhook and the registry API.

pub mod crd;
pub mod names;
pub mod webhook;
