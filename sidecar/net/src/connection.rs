//! From a TCP connection to one whose both ends know each other: TLS, then hellos.
//!
//! The side that accepted introduces itself first. So when it does not take the dialer's certificate, the dialer is
//! still listening and reads the alert that says why, instead of a reset.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use sidegrid_core::member::Member;
use sidegrid_core::{ClusterUid, MemberId};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::codec::{
    CodecError, Cut, Cutter, FORMAT, Frame, HELLO_BYTES, Hello, OLDEST_FORMAT, PARTS_FORMAT, PING_BYTES, encode_hello,
};
use crate::identity::MemberIdentity;
use crate::mesh_state::MeshState;
use crate::plane::Plane;
use crate::tls::{TlsError, TlsMode};

/// A TCP or TLS stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Boxed = Box<dyn Stream>;

/// A connection to a peer whose identity was checked.
pub(crate) struct Connection {
    /// Who it is.
    pub(crate) peer: MemberId,
    /// What it sends.
    pub(crate) reader: Reader,
    /// What it is sent.
    pub(crate) writer: WriteHalf<Boxed>,
    /// Whether it takes frames in parts.
    pub(crate) takes_parts: bool,
}

/// The frames that a connection brings.
pub(crate) struct Reader {
    io: ReadHalf<Boxed>,
    cutter: Cutter,
}

impl Reader {
    /// The next frame; an error too when the peer closes.
    ///
    /// # Cancel safety
    /// Bytes that have come stay for the next call.
    pub(crate) async fn next(&mut self) -> Result<Cut, ConnectionError> {
        loop {
            if let Some(frame) = self.cutter.cut()? {
                return Ok(frame);
            }
            if self.io.read_buf(self.cutter.room()).await.map_err(ConnectionError::of_stream)? == 0 {
                let whole = self.cutter.is_between_frames();
                return Err(if whole { ConnectionError::Closed } else { CodecError::Truncated.into() });
            }
        }
    }
}

/// Dials a member, shows who we are and checks that it is the one.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub(crate) async fn dial(mesh: &MeshState, plane: Plane, member: &Member) -> Result<Connection, ConnectionError> {
    let address = match plane {
        Plane::Data => member.data_address,
        Plane::FailureDetection => member.failure_detection_address,
    };
    let connecting = timeout(mesh.limits.connect_timeout, TcpStream::connect(address));
    let tcp = connecting.await.map_err(|_| ConnectionError::ConnectTimeout)?.map_err(ConnectionError::Connect)?;
    set_options(&tcp, mesh, plane).map_err(ConnectionError::Connect)?;
    let introducing = async {
        let (stream, shown): (Boxed, _) = match mesh.tls() {
            TlsMode::Mutual(tls) => {
                let (stream, identity) = tls.dial(tcp, address.ip(), member.id).await?;
                (Box::new(stream), Some(identity))
            }
            TlsMode::Disabled => (Box::new(tcp), None),
        };
        let mut connection = split(stream, member.id);
        connection.read_hello(mesh, plane, shown, Some(member.id)).await?;
        connection.write_hello(mesh, plane).await?;
        Ok(connection)
    };
    timeout(mesh.limits.handshake_timeout, introducing).await.map_err(|_| ConnectionError::HandshakeTimeout)?
}

/// Takes up an accepted connection: shows who we are and learns who dialed.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub(crate) async fn welcome(mesh: &MeshState, plane: Plane, tcp: TcpStream) -> Result<Connection, ConnectionError> {
    set_options(&tcp, mesh, plane).map_err(ConnectionError::Connect)?;
    let introducing = async {
        let (stream, shown): (Boxed, _) = match mesh.tls() {
            TlsMode::Mutual(tls) => {
                let (stream, identity) = tls.accept(tcp).await?;
                (Box::new(stream), Some(identity))
            }
            TlsMode::Disabled => (Box::new(tcp), None),
        };
        let mut connection = split(stream, MemberId(0));
        connection.write_hello(mesh, plane).await?;
        connection.peer = connection.read_hello(mesh, plane, shown, None).await?;
        Ok(connection)
    };
    timeout(mesh.limits.handshake_timeout, introducing).await.map_err(|_| ConnectionError::HandshakeTimeout)?
}

/// A dead peer's connection ends by itself: probed when idle, given up when nothing is acknowledged.
fn set_options(tcp: &TcpStream, mesh: &MeshState, plane: Plane) -> io::Result<()> {
    let unacknowledged = match plane {
        Plane::Data => {
            // Else the kernel would take megabytes, behind which a control message would stand.
            SockRef::from(tcp).set_tcp_notsent_lowat(mesh.limits.unsent_bytes)?;
            mesh.limits.data_unacknowledged
        }
        Plane::FailureDetection => mesh.limits.ping_unacknowledged,
    };
    sockopt::set_tcp_nodelay(tcp, true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(tcp, u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// An idle connection is probed after this.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Unanswered probes after which the connection is dead.
const KEEPALIVE_PROBES: u32 = 3;

fn split(stream: Boxed, peer: MemberId) -> Connection {
    let (io, writer) = tokio::io::split(stream);
    Connection { peer, reader: Reader { io, cutter: Cutter::new(HELLO_BYTES) }, writer, takes_parts: false }
}

impl Connection {
    async fn write_hello(&mut self, mesh: &MeshState, plane: Plane) -> Result<(), ConnectionError> {
        let hello = encode_hello(&mesh.hello(plane));
        self.writer.write_all(&hello).await.map_err(ConnectionError::of_stream)?;
        self.writer.flush().await.map_err(ConnectionError::of_stream)
    }

    async fn read_hello(
        &mut self,
        mesh: &MeshState,
        plane: Plane,
        shown: Option<MemberIdentity>,
        expected: Option<MemberId>,
    ) -> Result<MemberId, ConnectionError> {
        let hello = match self.reader.next().await?.decode()? {
            Frame::Hello(hello) => hello,
            other => return Err(CodecError::WrongKind { kind: other.kind() }.into()),
        };
        judge(&hello, mesh.cluster, plane, shown, expected)?;
        self.takes_parts = hello.formats.1 >= PARTS_FORMAT;
        match plane {
            Plane::Data => {
                self.reader.cutter.set_limit(mesh.limits.frame_bytes);
                self.reader.cutter.allow_parts();
            }
            Plane::FailureDetection => self.reader.cutter.set_limit(PING_BYTES),
        }
        Ok(hello.member.id)
    }
}

fn judge(
    hello: &Hello,
    cluster: ClusterUid,
    plane: Plane,
    shown: Option<MemberIdentity>,
    expected: Option<MemberId>,
) -> Result<(), ConnectionError> {
    let found = hello.member.id;
    if hello.cluster != cluster {
        return Err(TlsError::ForeignCluster { theirs: hello.cluster, ours: cluster }.into());
    }
    if let Some(shown) = shown
        && shown.member != found
    {
        return Err(TlsError::UnexpectedMember { found, expected: shown.member }.into());
    }
    if let Some(expected) = expected
        && expected != found
    {
        return Err(TlsError::UnexpectedMember { found, expected }.into());
    }
    if hello.plane != plane {
        return Err(ConnectionError::WrongPort { wanted: hello.plane, this: plane });
    }
    let (oldest, newest) = hello.formats;
    if newest < OLDEST_FORMAT || oldest > FORMAT {
        return Err(ConnectionError::NoCommonFormat { oldest, newest });
    }
    Ok(())
}

/// Why a connection could not be made, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("can't connect: {0}")]
    Connect(io::Error),
    #[error("no answer to a connect")]
    ConnectTimeout,
    #[error("the handshake took too long")]
    HandshakeTimeout,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the peer meant the {wanted} port, this is {this}")]
    WrongPort { wanted: Plane, this: Plane },
    #[error("the peer speaks frame formats {oldest} to {newest}, here it is {OLDEST_FORMAT} to {FORMAT}")]
    NoCommonFormat { oldest: u8, newest: u8 },
    #[error("closed by the peer")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(io::Error),
    #[error("the peer takes nothing")]
    Stuck,
    #[error("the driver has ended")]
    DriverGone,
}

impl ConnectionError {
    /// The error of a stream that may be a TLS one.
    pub(crate) fn of_stream(error: io::Error) -> ConnectionError {
        match TlsError::of_io(&error) {
            TlsError::Lost(_) => ConnectionError::Lost(error),
            tls => ConnectionError::Tls(tls),
        }
    }

    /// A stable label.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            ConnectionError::Connect(e) if is_own(e) => "own-resources",
            ConnectionError::Connect(e) if e.kind() == io::ErrorKind::ConnectionRefused => "connection-refused",
            ConnectionError::Connect(_) => "connect-failed",
            ConnectionError::ConnectTimeout => "connect-timeout",
            ConnectionError::HandshakeTimeout => "handshake-timeout",
            ConnectionError::Tls(e) => e.reason(),
            ConnectionError::Codec(e) => e.reason(),
            ConnectionError::WrongPort { .. } => "wrong-port",
            ConnectionError::NoCommonFormat { .. } => "no-common-format",
            ConnectionError::Closed => "closed",
            ConnectionError::Lost(_) => "connection-lost",
            ConnectionError::Stuck => "stuck",
            ConnectionError::DriverGone => "driver-gone",
        }
    }

    /// Whether a dial that failed so shows that the member is not there, which an error of our own never does: nobody
    /// answers at its address, or another member does. One that takes the connection and ends it in the handshake is
    /// there, and may have too much to do at its door; if it is about to end, the next dial shows it.
    pub(crate) fn shows_absence(&self) -> bool {
        match self {
            ConnectionError::Connect(e) => !is_own(e),
            ConnectionError::ConnectTimeout
            | ConnectionError::HandshakeTimeout
            | ConnectionError::Tls(TlsError::ForeignCluster { .. } | TlsError::UnexpectedMember { .. }) => true,
            ConnectionError::Closed
            | ConnectionError::Lost(_)
            | ConnectionError::Tls(_)
            | ConnectionError::Codec(_)
            | ConnectionError::WrongPort { .. }
            | ConnectionError::NoCommonFormat { .. }
            | ConnectionError::Stuck
            | ConnectionError::DriverGone => false,
        }
    }
}

/// Whether a connect failed for want of something on this machine: descriptors, memory, ports, rights, or a network.
fn is_own(error: &io::Error) -> bool {
    const OWN: [Errno; 10] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        Errno::ACCESS,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::NETUNREACH,
    ];
    error.raw_os_error().is_some_and(|raw| OWN.iter().any(|own| own.raw_os_error() == raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_our_own_show_nothing_of_a_peer() {
        let connect = |errno: Errno| ConnectionError::Connect(errno.into());
        for own in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NETUNREACH, Errno::ADDRNOTAVAIL] {
            assert!(!connect(own).shows_absence(), "{own}");
            assert_eq!(connect(own).reason(), "own-resources");
        }
        for theirs in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::CONNRESET] {
            assert!(connect(theirs).shows_absence(), "{theirs}");
        }
        for certificate in [TlsError::Expired, TlsError::Refused("CertificateExpired".into()), TlsError::UnknownIssuer]
        {
            assert!(!ConnectionError::Tls(certificate).shows_absence());
        }
        assert!(!ConnectionError::Closed.shows_absence(), "refused at the door, by somebody who is there");
    }
}
