//! The listening sockets of one server, on the runtime.

use std::io;

use tokio::net::{TcpListener, UnixListener};

/// A TCP port and, beside it, perhaps a Unix socket.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(super) tcp: TcpListener,
    pub(super) unix: Option<UnixListener>,
}

impl Listeners {
    /// Takes sockets that listen already and don't block. Must be called within a runtime.
    ///
    /// # Errors
    /// The runtime can't watch them.
    pub(crate) fn of(tcp: std::net::TcpListener, unix: Option<std::os::unix::net::UnixListener>) -> io::Result<Self> {
        Ok(Listeners { tcp: TcpListener::from_std(tcp)?, unix: unix.map(UnixListener::from_std).transpose()? })
    }
}
