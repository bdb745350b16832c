//! The two listening sockets, which outlive an incarnation.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::plane::Plane;

/// The bound ports of this process. A mesh accepts on them while it runs; the next incarnation's mesh accepts on the
/// same ones, so that a port is never lost to somebody else between two incarnations. While no mesh runs, connections
/// wait in the kernel's bounded backlog; once this is dropped they are refused.
#[derive(Debug)]
pub struct Listeners {
    data: TcpListener,
    failure_detection: TcpListener,
}

impl Listeners {
    /// Binds both ports. Port 0 takes a free one; see [`Listeners::address`].
    ///
    /// # Errors
    /// The plane whose port could not be bound, and why.
    pub fn bind(data: SocketAddr, failure_detection: SocketAddr) -> Result<Listeners, BindError> {
        let bind = |plane, address| {
            // The standard library sets SO_REUSEADDR: a port in TIME_WAIT can be bound again at once.
            let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
            listener.map_err(|source| BindError { plane, address, source })
        };
        Ok(Listeners {
            data: bind(Plane::Data, data)?,
            failure_detection: bind(Plane::FailureDetection, failure_detection)?,
        })
    }

    /// Where one of them listens.
    ///
    /// # Errors
    /// When the kernel can't tell.
    pub fn address(&self, plane: Plane) -> io::Result<SocketAddr> {
        self.of(plane).local_addr()
    }

    /// A second handle on one of the sockets, for one mesh.
    pub(crate) fn handle(&self, plane: Plane) -> io::Result<TcpListener> {
        self.of(plane).try_clone()
    }

    fn of(&self, plane: Plane) -> &TcpListener {
        match plane {
            Plane::Data => &self.data,
            Plane::FailureDetection => &self.failure_detection,
        }
    }
}

/// A port that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address} for {plane}: {source}")]
pub struct BindError {
    /// Which port.
    pub plane: Plane,
    /// The address asked for.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl BindError {
    /// A stable label.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => "address-in-use",
            io::ErrorKind::AddrNotAvailable => "address-not-available",
            io::ErrorKind::PermissionDenied => "permission-denied",
            _ => "bind-failed",
        }
    }
}
