//! What is listened to: TCP addresses and Unix sockets, bound here or by systemd.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::config::ListenAddress;

/// A connection of either kind, as it was accepted.
pub type Plain = Either<TcpStream, UnixStream>;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a path, which is removed again at the end if it is ours.
    Unix(UnixListener, Option<SocketFile>),
}

/// A socket's path, as long as it is ours.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Listener {
    /// Listens on `address`. A socket file that nobody listens to any more is replaced.
    ///
    /// # Errors
    /// When the address is in use or may not be used.
    pub async fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            ListenAddress::Unix(path) => {
                remove_abandoned(path).await?;
                Ok(Self::Unix(
                    UnixListener::bind(path)?,
                    Some(SocketFile(path.clone())),
                ))
            }
        }
    }

    /// The sockets that this process was started with (`LISTEN_FDS`, see `sd_listen_fds(3)`). They are
    /// handed out once.
    ///
    /// # Errors
    /// When there are none, or one that cannot be listened on.
    pub fn inherited() -> io::Result<Vec<Self>> {
        let mut sockets = ListenFd::from_env();
        if sockets.len() == 0 {
            let problem = "this process was not started with any";
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        let indices = 0..sockets.len();
        indices.map(|index| take(&mut sockets, index)).collect()
    }

    /// Where it listens, with the port that the system chose if none was named.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => Ok(ListenAddress::Tcp(listener.local_addr()?)),
            Self::Unix(listener, _) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new("(no path)"));
                Ok(ListenAddress::Unix(path.to_owned()))
            }
        }
    }

    /// The next connection, and whose it is if it has an address.
    ///
    /// # Errors
    /// When the system has no room for it, or its client has left already.
    ///
    /// # Cancellation
    /// Loses no connection.
    pub async fn accept(&self) -> io::Result<(Plain, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written whole; waiting for more to send would only delay them. On some
                // systems the socket of a client that has left has no options: it does not matter then.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Some(peer.ip())))
            }
            Self::Unix(listener, _) => Ok((Either::Right(listener.accept().await?.0), None)),
        }
    }
}

/// Whether accepting failed for a client that has left already. Then there is nothing to wait for:
/// whoever leaves often enough must not keep others from being accepted.
pub(super) fn is_of_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing can be done about a file that cannot be removed; the next start replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes an inherited socket as what it is.
fn take(sockets: &mut ListenFd, index: usize) -> io::Result<Listener> {
    // The socket is left where it is when it is of the other kind.
    if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
        listener.set_nonblocking(true)?;
        return Ok(Listener::Tcp(TcpListener::from_std(listener)?));
    }
    match sockets.take_unix_listener(index)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            // Its file is systemd's to remove.
            Ok(Listener::Unix(UnixListener::from_std(listener)?, None))
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Removes a socket that a process left behind, but none that somebody listens to, and nothing that
/// is no socket: connecting to a plain file is refused as well.
async fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = |file: std::fs::Metadata| file.file_type().is_socket();
    if !std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        return Ok(()); // Whatever is there, binding will not take its place.
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(_) => Ok(()),
    }
}
