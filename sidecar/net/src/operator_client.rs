//! Connections to the operator: name resolution, TLS 1.3 against its authority, and the member's leaf where it is shown.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::authority::Leaf;

/// How long one address may take to answer a dial, when there are others to try.
const ADDRESS_WAIT: Duration = Duration::from_millis(500);
/// How long one question to a name server may take, and how often it is asked.
const LOOKUP_WAIT: Duration = Duration::from_millis(400);
const LOOKUP_TRIES: usize = 2;
/// How long all questions for a name may take: less than a connection may, or what failed would never be told.
const LOOKUP_TOTAL: Duration = Duration::from_millis(900);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// The largest file of authorities.
const MAX_AUTHORITIES_BYTES: u64 = 1 << 20;

/// A secured connection to the operator.
pub type OperatorStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Dials the operator. Shared by its clones.
#[derive(Clone)]
pub struct OperatorClient(Arc<Inner>);

struct Inner {
    host: String,
    /// Where the host is as well, told by whoever knows.
    address: Option<IpAddr>,
    port: u16,
    name: ServerName<'static>,
    authority: PathBuf,
    leaf: RwLock<Option<Leaf>>,
    resolver: Mutex<Option<TokioResolver>>,
}

impl fmt::Debug for OperatorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorClient").field("host", &self.0.host).field("port", &self.0.port).finish_non_exhaustive()
    }
}

impl OperatorClient {
    /// A client of `host` (a name or an IP address without brackets) and `port`, whose certificate must be for that host
    /// and signed by one of the authorities in the PEM file `authority`, which is read at each connection.
    ///
    /// # Errors
    /// When `host` is neither a name nor an address.
    pub fn new(host: &str, port: u16, authority: PathBuf) -> io::Result<OperatorClient> {
        OperatorClient::with_address(host, port, None, authority)
    }

    /// The same, for a host that is known to be at `address` too: that is tried first, so that a resolver that doesn't know
    /// the name keeps nobody away. Whoever is there has to have the host's certificate; if not, the name is asked for.
    ///
    /// # Errors
    /// As [`OperatorClient::new`].
    pub fn with_address(
        host: &str,
        port: u16,
        address: Option<IpAddr>,
        authority: PathBuf,
    ) -> io::Result<OperatorClient> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host's name")))?;
        let (leaf, resolver) = (RwLock::default(), Mutex::default());
        let host = host.to_owned();
        Ok(OperatorClient(Arc::new(Inner { host, address, port, name, authority, leaf, resolver })))
    }

    /// The leaf that connections made from now on show, when they show one.
    pub fn set_leaf(&self, leaf: Leaf) {
        *self.0.leaf.write().unwrap_or_else(PoisonError::into_inner) = Some(leaf);
    }

    /// A new connection. With `shows_leaf` the member's leaf is shown on it. The caller bounds the time.
    ///
    /// # Errors
    /// When the name has no address, none of its addresses answers, or the handshake fails; the text says which. Also
    /// when a leaf is to be shown and there is none yet.
    ///
    /// # Cancel safety
    /// Dropping it closes what was opened.
    pub async fn connect(&self, shows_leaf: bool) -> io::Result<OperatorStream> {
        let config = Arc::new(self.config(shows_leaf).await?);
        let Some(address) = self.0.address else { return self.secured(self.reach().await?, config).await };
        let error = match timeout(ADDRESS_WAIT, self.at(address, Arc::clone(&config))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{address} does not answer within {} ms", ADDRESS_WAIT.as_millis()),
        };
        // The operator may have another address by now, or another host this one.
        let by_name = async { self.secured(self.reach().await?, config).await }.await;
        by_name.map_err(|by_name| told(&by_name, format!("{by_name}; before that: {error}")))
    }

    async fn at(&self, address: IpAddr, config: Arc<ClientConfig>) -> io::Result<OperatorStream> {
        let address = SocketAddr::new(address, self.0.port);
        let reached = TcpStream::connect(address).await;
        let tcp = reached.map_err(|error| told(&error, format!("{address} can't be reached: {error}")))?;
        self.secured(tcp, config).await
    }

    async fn secured(&self, tcp: TcpStream, config: Arc<ClientConfig>) -> io::Result<OperatorStream> {
        tcp.set_nodelay(true)?;
        TlsConnector::from(config)
            .connect(self.0.name.clone(), tcp)
            .await
            .map_err(|error| told(&error, format!("the handshake with {} failed: {error}", self.0.host)))
    }

    async fn config(&self, shows_leaf: bool) -> io::Result<ClientConfig> {
        let unusable = |error: rustls::Error| io::Error::other(format!("TLS can't be set up: {error}"));
        let roots = self.roots().await?;
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(roots);
        let mut config = if shows_leaf {
            let leaf = self.0.leaf.read().unwrap_or_else(PoisonError::into_inner);
            let leaf = leaf.as_ref().ok_or_else(|| io::Error::other("this member is not certified yet"))?;
            builder.with_client_auth_cert(vec![leaf.cert.clone()], leaf.key.clone_key()).map_err(unusable)?
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    async fn roots(&self) -> io::Result<RootCertStore> {
        let path = &self.0.authority;
        let fault = |kind, why: String| io::Error::new(kind, format!("{}: {why}", path.display()));
        let size = tokio::fs::metadata(path).await.map_err(|e| fault(e.kind(), e.to_string()))?.len();
        if size > MAX_AUTHORITIES_BYTES {
            return Err(fault(io::ErrorKind::InvalidData, format!("has more than {MAX_AUTHORITIES_BYTES} bytes")));
        }
        let pem = tokio::fs::read(path).await.map_err(|e| fault(e.kind(), e.to_string()))?;
        let invalid = |why: String| fault(io::ErrorKind::InvalidData, why);
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&pem) {
            let cert = cert.map_err(|e| invalid(format!("holds no usable certificate: {e}")))?;
            roots.add(cert).map_err(|e| invalid(format!("holds no usable certificate: {e}")))?;
        }
        if roots.is_empty() {
            return Err(invalid("holds no certificate".to_owned()));
        }
        Ok(roots)
    }

    async fn reach(&self) -> io::Result<TcpStream> {
        let (host, port) = (&self.0.host, self.0.port);
        let addresses = self.addresses().await?;
        let mut last = format!("{host} has no address");
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match timeout(ADDRESS_WAIT, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => last = format!("{address} of {host} can't be reached: {error}"),
                Err(_) => last = format!("{address} of {host} does not answer within {} ms", ADDRESS_WAIT.as_millis()),
            }
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, last))
    }

    /// A static program has no resolver of the system's, so this asks the name servers of `/etc/resolv.conf` itself.
    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let host = self.0.host.as_str();
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let resolver = self.resolver()?;
        let why = match timeout(LOOKUP_TOTAL, resolver.lookup_ip(host)).await {
            Ok(Ok(found)) => return Ok(found.iter().take(MAX_ADDRESSES).collect()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no name server answered within {} ms", LOOKUP_TOTAL.as_millis()),
        };
        // The name servers may be others by now.
        self.0.resolver.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(io::Error::other(format!("{host} can't be resolved by DNS: {why}; in a pod look at spec.dnsPolicy")))
    }

    fn resolver(&self) -> io::Result<TokioResolver> {
        let mut kept = self.0.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(resolver) = &*kept {
            return Ok(resolver.clone());
        }
        let unusable = |error| io::Error::other(format!("names can't be resolved: /etc/resolv.conf: {error}"));
        let mut builder = TokioResolver::builder_tokio().map_err(unusable)?;
        builder.options_mut().timeout = LOOKUP_WAIT;
        builder.options_mut().attempts = LOOKUP_TRIES;
        let resolver = builder.build().map_err(unusable)?;
        *kept = Some(resolver.clone());
        Ok(resolver)
    }
}

/// The same kind of error with another text.
fn told(error: &io::Error, text: String) -> io::Error {
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
#[path = "operator_client_tests.rs"]
mod tests;
