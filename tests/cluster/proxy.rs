//! The way between a gateway and Redis, which a test can make slow, deaf or broken.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Pass,
    /// They are kept back, and nobody hears of it, as when cables are pulled.
    Hold,
    /// They come so much later.
    Delay(Duration),
    /// Connections break, and no other one lasts.
    Cut,
}

/// A way of its own for one gateway. It ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A way to `target`, on which everything passes.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mode = watch::Sender::new(Mode::Pass);
        let task = tokio::spawn(accept(listener, target, mode.subscribe()));
        Self {
            address,
            mode,
            task,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    loop {
        let Ok((near, _)) = listener.accept().await else {
            continue;
        };
        let (cut, mode) = (mode.clone(), mode.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = is_cut(cut) => {}
                // Either side may break off.
                _ = join(near, target, mode) => {}
            }
        });
    }
}

/// Ends when connections break, or when the proxy is gone.
async fn is_cut(mut mode: watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| *mode == Mode::Cut).await;
}

async fn join(near: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        there = pump(from_near, to_far, mode.clone()) => there,
        back = pump(from_far, to_near, mode) => back,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let open = mode.wait_for(|mode| *mode != Mode::Hold).await;
        let open = *open.map_err(io::Error::other)?;
        if let Mode::Delay(delay) = open {
            sleep(delay).await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
