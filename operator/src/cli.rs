//! The operator's command line.

use std::net::IpAddr;

use clap::{Parser, Subcommand, ValueEnum};
use sidegrid_operator::names::{ADMIN_PORT, REGISTRY_PORT, SERVICE_HOST_VARIABLE, WEBHOOK_PORT};
use sidegrid_operator::program::{Options, Ports};
use sidegrid_operator::webhook::InjectSettings;

/// The sidecar of the operator's own release.
const SIDECAR_IMAGE: &str = concat!("sidegrid.dev/sidecar:", env!("CARGO_PKG_VERSION"));

/// Sidegrid's operator: injects sidecars, keeps registry and certificates, and reconciles CacheClusters.
#[derive(Debug, Parser)]
#[command(name = "sidegrid-operator", version)]
pub(crate) struct Arguments {
    /// What to do; by default `serve`.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The namespace that the operator runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "sidegrid-system", global = true)]
    namespace: String,
    /// This replica's name: it holds the leader's Lease and tells events.
    #[arg(long, env = "POD_NAME", default_value = "sidegrid-operator", global = true)]
    name: String,
    /// Image of the sidecar where a CacheCluster names none.
    #[arg(long, env = "SIDECAR_IMAGE", default_value = SIDECAR_IMAGE, global = true)]
    sidecar_image: String,
    /// Further images that a CacheCluster may name in `spec.sidecar.image`, apart by commas: a repository, for all of its
    /// tags; one image; or a beginning that ends with `/*`. `*` is any. The repository of `--sidecar-image` is always
    /// among them.
    #[arg(long, env = "SIDECAR_IMAGES", value_delimiter = ',', global = true)]
    sidecar_images: Vec<String>,
    /// Address of the operator's own Service, given to sidecars for pods that can't resolve its name.
    #[arg(long, env = SERVICE_HOST_VARIABLE, global = true)]
    service_address: Option<IpAddr>,
    /// Port of the admission webhook.
    #[arg(long, env = "WEBHOOK_PORT", default_value_t = WEBHOOK_PORT, global = true)]
    webhook_port: u16,
    /// Port of the registry API.
    #[arg(long, env = "REGISTRY_PORT", default_value_t = REGISTRY_PORT, global = true)]
    registry_port: u16,
    /// Port of health and metrics.
    #[arg(long, env = "ADMIN_PORT", default_value_t = ADMIN_PORT, global = true)]
    admin_port: u16,
    /// Form of a log line.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Json, global = true)]
    pub(crate) log_format: LogFormat,
    /// Least severe level logged, or directives such as `info,sidegrid_operator=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    pub(crate) log_level: String,
    /// Threads that serve; by default one for each processor that the container may use, four at most.
    #[arg(long, env = "WORKER_THREADS", global = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) worker_threads: Option<u16>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve webhook, registry API and health, and reconcile while leader.
    Serve,
    /// Print the definition of CacheCluster as YAML.
    Crd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Arguments {
    /// What the program is run with.
    pub(crate) fn options(&self) -> Options {
        Options {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ports: Ports { webhook: self.webhook_port, registry: self.registry_port, admin: self.admin_port },
            inject: InjectSettings {
                images: self.sidecar_images.clone(),
                service_address: self.service_address,
                ..InjectSettings::new(self.sidecar_image.clone())
            },
        }
    }
}
