//! The listening sockets of the cache API and the admin port.
//!
//! The supervisor binds them once and hands them to each member that it starts, so that an app's connection waits a
//! moment in the kernel's queue while the member restarts, instead of being refused. They travel over a socket that
//! is the member's standard input.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use sidegrid_config::Settings;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// The sockets, bound and listening.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The cache API.
    pub(crate) http: TcpListener,
    /// Health, metrics and the console.
    pub(crate) admin: TcpListener,
    /// The cache API's Unix socket.
    pub(crate) socket: Option<UnixListener>,
    /// Its file, which goes with whoever made it.
    pub(crate) file: Option<SocketFile>,
}

/// A Unix socket's file; removed when dropped, unless another stands in its place by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// The file of a socket that has just been bound to `path`.
    fn of(path: &Path) -> io::Result<SocketFile> {
        let made = fs::symlink_metadata(path)?;
        Ok(SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode)) {
            // Gone meanwhile is as good.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// A socket that can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoundError {
    /// A port.
    #[error("{setting}: can't listen on {address}: {source}; choose another or end what uses it")]
    Port { setting: &'static str, address: SocketAddr, source: io::Error },
    /// The Unix socket.
    #[error("http.socket: can't listen on {}: {source}; choose another path or none", path.display())]
    Socket { path: PathBuf, source: io::Error },
    /// The handover between supervisor and member.
    #[error("the listening sockets did not come from the supervisor: {0}")]
    Handover(#[from] io::Error),
}

impl Bound {
    /// Binds all of them.
    ///
    /// # Errors
    /// All that can't be bound.
    pub(crate) fn bind(settings: &Settings) -> Result<Bound, Vec<BoundError>> {
        let http = port("http.listen", settings.http.listen);
        let admin = on_both_families("admin.listen", settings.admin.listen);
        let socket = settings.http.socket.as_deref().map(unix).transpose();
        match (http, admin, socket) {
            (Ok(http), Ok(admin), Ok(socket)) => {
                let (socket, file) = socket.unzip();
                Ok(Bound { http, admin, socket, file })
            }
            (http, admin, socket) => Err([http.err(), admin.err(), socket.err()].into_iter().flatten().collect()),
        }
    }

    /// Puts a copy of every socket into a new stream, of which the receiver's end is returned.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn hand_over(&self) -> io::Result<OwnedFd> {
        let (giver, taker) = UnixStream::pair()?;
        let mut sockets = vec![self.http.as_fd(), self.admin.as_fd()];
        sockets.extend(self.socket.as_ref().map(AsFd::as_fd));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("no room for the sockets"));
        }
        sendmsg(&giver, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
        Ok(taker.into())
    }

    /// For the member: takes the sockets from its standard input.
    ///
    /// # Errors
    /// When they are not there.
    pub(crate) fn take_over() -> Result<Bound, BoundError> {
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        receive(stream.as_fd())
    }
}

fn receive(stream: impl AsFd) -> Result<Bound, BoundError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC);
    received.map_err(io::Error::from)?;
    let mut sockets = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect::<Vec<OwnedFd>>(),
        _ => Vec::new(),
    });
    let mut next = || sockets.next().ok_or_else(|| io::Error::other("too few of them"));
    let (http, admin) = (TcpListener::from(next()?), TcpListener::from(next()?));
    Ok(Bound { http, admin, socket: sockets.next().map(UnixListener::from), file: None })
}

/// All addresses are those of both families where this machine has them: the kubelet asks a pod at the address that it has,
/// which may be of either.
fn on_both_families(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BoundError> {
    if address.ip() == Ipv4Addr::UNSPECIFIED
        && let Ok(listener) = port(setting, SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port())))
    {
        return Ok(listener);
    }
    // Where it failed as the port is taken this tells so too, with the address that was asked for.
    port(setting, address)
}

fn port(setting: &'static str, address: SocketAddr) -> Result<TcpListener, BoundError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // Again, only for a longer queue than the standard library asks for.
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    };
    bind().map_err(|source| BoundError::Port { setting, address, source })
}

/// Any user of this host may ask the cache, as on the loopback port; the socket's folder is what keeps others out.
fn unix(path: &Path) -> Result<(UnixListener, SocketFile), BoundError> {
    let bind = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let file = SocketFile::of(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok((listener, file))
    };
    bind().map_err(|source| BoundError::Socket { path: path.to_owned(), source })
}

/// Removes a socket file that nobody listens on any more, and nothing else.
///
/// # Errors
/// When somebody listens on it, or it can't be removed.
pub(crate) fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket")),
    }
    if is_listened_on(path)? {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
    }
    fs::remove_file(path)
}

/// Whether anybody listens on the socket at `path`. Never waits.
fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // Also one whose queue is full, since it is stopped or slow.
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn settings(folder: &Path) -> Settings {
        let mut settings = Settings::default();
        settings.http.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.admin.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        settings.http.socket = Some(folder.join("deep/http.sock"));
        settings
    }

    #[test]
    fn what_was_handed_over_answers_on_the_same_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let bound = Bound::bind(&settings).unwrap();
        let (http, admin) = (bound.http.local_addr().unwrap(), bound.admin.local_addr().unwrap());
        let taken = receive(bound.hand_over().unwrap()).unwrap();
        let Bound { http: first, admin: second, socket: third, file: _file } = bound;
        drop((first, second, third));
        assert_eq!(taken.http.local_addr().unwrap(), http);
        assert_eq!(taken.admin.local_addr().unwrap(), admin);
        taken.socket.as_ref().unwrap().set_nonblocking(false).unwrap();
        let mut app = UnixStream::connect(settings.http.socket.unwrap()).unwrap();
        app.write_all(b"hi").unwrap();
        let mut greeting = [0; 2];
        taken.socket.unwrap().accept().unwrap().0.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"hi");
        TcpStream::connect(http).unwrap();
    }

    fn faults(settings: &Settings) -> Vec<String> {
        Bound::bind(settings).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_socket_that_cannot_be_had_is_named_and_those_that_others_have_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        let taken = Bound::bind(&settings).unwrap();
        settings.http.listen = taken.http.local_addr().unwrap();
        let found = faults(&settings);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("http.listen: can't listen on 127.0.0.1:"), "{found:?}");
        assert!(found[1].starts_with("http.socket: can't listen on "), "{found:?}");
        assert!(found[1].ends_with("another process listens there; choose another path or none"), "{found:?}");
        UnixStream::connect(settings.http.socket.unwrap()).unwrap();
    }

    #[test]
    fn any_user_may_connect_and_the_file_goes_with_who_made_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        let path = settings.http.socket.clone().unwrap();
        let bound = Bound::bind(&settings).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        drop(bound);
        assert!(!path.exists());
        // Also when a port can't be had.
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        settings.http.listen = port.local_addr().unwrap();
        assert_eq!(faults(&settings).len(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn all_addresses_are_those_of_both_families() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        settings.admin.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        let bound = Bound::bind(&settings).unwrap();
        let port = bound.admin.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // A machine may have no IPv6 at all.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
        settings.admin.listen = SocketAddr::from(([0, 0, 0, 0], port));
        settings.http.socket = None;
        assert!(faults(&settings)[0].starts_with("admin.listen: can't listen on 0.0.0.0:"));
    }

    #[test]
    fn a_successors_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let path = settings.http.socket.clone().unwrap();
        let first = Bound::bind(&settings).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Bound::bind(&settings).unwrap();
        drop(first);
        UnixStream::connect(path).unwrap();
    }

    #[test]
    fn only_a_dead_socket_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        remove_stale(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert_eq!(remove_stale(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    #[test]
    fn a_listener_that_takes_nobody_in_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        // Its queue holds one.
        let _waits = UnixStream::connect(&path).unwrap();
        assert_eq!(remove_stale(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }
}
