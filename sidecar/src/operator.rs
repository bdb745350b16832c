//! The operator as this process reaches it: connections secured by `net` for the calls that `registry` makes.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use sidegrid_config::Settings;
use sidegrid_net::OperatorClient;
use sidegrid_registry::{Dial, Enrol, OperatorLimits, OperatorRegistry, OperatorSettings, Registry, Stream};
use tokio::runtime::Handle;

use crate::trust::{OperatorTrust, Trust};

struct OperatorDial {
    client: OperatorClient,
    shows_leaf: bool,
}

#[async_trait]
impl Dial for OperatorDial {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.client.connect(self.shows_leaf).await?))
    }
}

/// The address of the operator's Service, as injection puts it into the pod beside the name in `registry.url`. One that
/// can't be read is none: the name is there.
fn service_address() -> Option<IpAddr> {
    std::env::var("SIDEGRID_OPERATOR_SERVICE_HOST").ok()?.parse().ok()
}

/// The registry and the trust that `settings` name; nothing is connected yet. Calls run on `runtime`.
///
/// # Errors
/// When the URL, the authority's or the token's path is missing, or the host is none.
pub(crate) fn reach(settings: &Settings, runtime: Handle) -> io::Result<(Arc<dyn Registry>, Arc<Trust>)> {
    let set = &settings.registry;
    let missing =
        || io::Error::new(io::ErrorKind::InvalidInput, "give registry.url, registry.authority and registry.token");
    let (host, port) = set.endpoint().ok_or_else(missing)?;
    let (authority, token) = (set.authority.clone().ok_or_else(missing)?, set.token.clone().ok_or_else(missing)?);
    let client = OperatorClient::with_address(host, port, service_address(), authority)?;
    let dial = |shows_leaf| Arc::new(OperatorDial { client: client.clone(), shows_leaf });
    let bracketed = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let registry = OperatorRegistry::new(
        OperatorSettings {
            place: format!("https://{bracketed}"),
            host: bracketed,
            token,
            enrols: dial(false),
            asks: dial(true),
            limits: OperatorLimits::default(),
        },
        runtime,
    );
    let registry = Arc::new(registry);
    let enrols: Arc<dyn Enrol> = Arc::clone(&registry) as _;
    let pod_uid = settings.member.pod_uid.clone();
    let trust = Trust::Operator(OperatorTrust { enrols, client, mode: settings.tls.mode, pod_uid });
    Ok((registry, Arc::new(trust)))
}
