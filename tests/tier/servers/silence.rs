//! A way to a server on which connections can fall silent, as where a machine is gone from the network.

use std::future::pending;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A way to a server.
pub(crate) struct Silence {
    address: SocketAddr,
    fallen: watch::Sender<()>,
    listening: JoinHandle<()>,
}

impl Silence {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (fallen, has_fallen) = watch::channel(());
        let listening = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                // A channel that this connection has not yet heard anything of.
                let mut has_fallen = has_fallen.clone();
                has_fallen.mark_unchanged();
                tokio::spawn(carry(near, port, has_fallen));
            }
        });
        Self {
            address,
            fallen,
            listening,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing comes through any more on the connections that there are; new ones are well.
    pub(crate) fn fall(&self) {
        self.fallen.send_replace(());
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(mut near: TcpStream, port: u16, mut has_fallen: watch::Receiver<()>) {
    let far = TcpStream::connect(("127.0.0.1", port)).await;
    let mut far = far.expect("the server listens");
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        // The sockets stay open, with nobody at them.
        Ok(()) = has_fallen.changed() => pending().await,
    }
}
