//! What is listened to: TCP addresses and Unix sockets.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::config::ListenAddress;

/// A connection of either kind.
pub type Stream = Either<TcpStream, UnixStream>;

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a path, which is removed again at the end.
    Unix(UnixListener, SocketFile),
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
                    SocketFile(path.clone()),
                ))
            }
        }
    }

    /// Where it listens, with the port that the system chose if none was named.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => Ok(ListenAddress::Tcp(listener.local_addr()?)),
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.0.clone())),
        }
    }

    /// The next connection, and whose it is if it has an address.
    ///
    /// # Errors
    /// When the system has no room for it, or its client has left already.
    ///
    /// # Cancellation
    /// Loses no connection.
    pub async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written whole; waiting for more to send would only delay them.
                stream.set_nodelay(true)?;
                Ok((Either::Left(stream), Some(peer.ip())))
            }
            Self::Unix(listener, _) => Ok((Either::Right(listener.accept().await?.0), None)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Nothing can be done about a file that cannot be removed; the next start replaces it.
        let _ = std::fs::remove_file(&self.0);
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
