//! What apps and monitors are served.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::{size, span};

/// The cache API for apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Unix socket beside it; none: none.
    pub socket: Option<PathBuf>,
    /// `Host` names accepted beside this host's own (`localhost` and the addresses that it is reached by).
    pub allowed_hosts: Vec<String>,
    /// `Origin`s accepted; none by default.
    pub allowed_origins: Vec<String>,
    /// Largest value.
    #[serde(with = "size")]
    pub max_value_bytes: u64,
    /// Connections open at once; beyond it the one that has been idle longest is closed.
    pub max_connections: u32,
    /// How long a request's head may take.
    #[serde(with = "span")]
    pub header_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "span")]
    pub body_timeout: Duration,
    /// How long a connection may be idle between requests.
    #[serde(with = "span")]
    pub idle_timeout: Duration,
    /// How long an operation may take before it is answered with `timeout`.
    #[serde(with = "span")]
    pub request_timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Http {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7080)),
            socket: Some(PathBuf::from("/run/sidegrid/http.sock")),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_value_bytes: 8 << 20,
            max_connections: 4_096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(300),
            request_timeout: Duration::from_secs(5),
        }
    }
}

/// The same caches over RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Resp {
    /// Whether it is served; not built yet.
    pub enabled: bool,
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Resp {
    fn default() -> Self {
        Resp { enabled: false, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 6379)) }
    }
}

/// Health, metrics and the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7990)) }
    }
}
