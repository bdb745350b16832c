//! The operator's program.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use sidegrid_operator::names::{ADMIN_PORT, REGISTRY_PORT, SERVICE_HOST_VARIABLE, WEBHOOK_PORT};
use sidegrid_operator::program::{self, Options, Ports};
use sidegrid_operator::webhook::InjectSettings;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// The sidecar of the operator's own release.
const SIDECAR_IMAGE: &str = concat!("sidegrid.dev/sidecar:", env!("CARGO_PKG_VERSION"));

/// Sidegrid's operator: injects sidecars, keeps registry and certificates, and reconciles CacheClusters.
#[derive(Debug, Parser)]
#[command(name = "sidegrid-operator", version)]
struct Arguments {
    /// What to do; by default `serve`.
    #[command(subcommand)]
    command: Option<Command>,
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
    log_format: LogFormat,
    /// Least severe level logged, or directives such as `info,sidegrid_operator=debug`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    log_level: String,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Command {
    /// Serve webhook, registry API and health, and reconcile while leader.
    Serve,
    /// Print the definition of CacheCluster as YAML.
    Crd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Crd) => print_definition(),
        None | Some(Command::Serve) => serve(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // Nobody is left to tell when standard error is gone.
            let _gone = writeln!(std::io::stderr(), "sidegrid-operator: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_definition() -> anyhow::Result<()> {
    let text = sidegrid_operator::crd::definition_file()?;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&arguments.log_level)
        .map_err(|e| anyhow::anyhow!("LOG_LEVEL: {e}; give error, warn, info, debug or trace"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_timer(SystemTime).with_writer(std::io::stderr);
    match arguments.log_format {
        LogFormat::Json => lines.json().flatten_event(true).init(),
        LogFormat::Text => lines.init(),
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        anyhow::bail!("another crypto provider is installed already");
    }
    let options = Options {
        namespace: arguments.namespace,
        name: arguments.name,
        ports: Ports {
            webhook: arguments.webhook_port,
            registry: arguments.registry_port,
            admin: arguments.admin_port,
        },
        inject: InjectSettings {
            images: arguments.sidecar_images,
            service_address: arguments.service_address,
            ..InjectSettings::new(arguments.sidecar_image)
        },
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(program::run(options))
}
