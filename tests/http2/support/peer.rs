//! A connection that sends any bytes, and reads frames.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frame::{
    ACK, DATA, Frame, HEADER_TABLE_SIZE, HEADERS, PING, RST_STREAM, SETTINGS, frame, ping,
    settings, window_update,
};
use super::hpack::{get, status};

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the ends of questions are marked with.
const MARK: [u8; 8] = *b"that-all";

/// The client's end of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What may come of waiting.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(Frame),
    Closed,
    /// Nothing came for too long.
    Silence,
}

impl Peer {
    /// Connects, and says nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        // Small writes in a row are what most cases consist of.
        stream.set_nodelay(true).expect("a socket of this kind");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Connects, and gets the beginnings of both sides out of the way.
    pub(crate) async fn greeted(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address).await;
        // Without a dynamic table each answer can be read by itself.
        let own = settings(&[(HEADER_TABLE_SIZE, 0)]);
        peer.send([PREFACE, &own].concat()).await;
        let first = peer.expect("settings first", |_| true).await;
        assert_eq!((first.kind, first.flags), (SETTINGS, 0), "{first:?}");
        peer.send(frame(SETTINGS, ACK, 0, [])).await;
        peer.expect("settings taken", |frame| frame.is_ack_of(SETTINGS))
            .await;
        peer
    }

    /// Sends bytes. A gateway that has hung up already shows when it is listened to.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
    }

    /// Has the gateway acknowledge all that was sent before: frames are taken in their order.
    pub(crate) async fn mark(&mut self) {
        self.send(ping(MARK)).await;
    }

    pub(crate) fn is_mark(frame: &Frame) -> bool {
        frame.is_ack_of(PING) && frame.payload == MARK
    }

    /// Sends no more.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next thing that happens.
    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.read())
            .await
            .unwrap_or(Event::Silence)
    }

    async fn read(&mut self) -> Event {
        loop {
            if let Some(frame) = Frame::take(&mut self.unread) {
                return Event::Frame(frame);
            }
            // A reset is an end like any other.
            let read = self.stream.read_buf(&mut self.unread).await;
            if read.unwrap_or(0) == 0 {
                return Event::Closed;
            }
        }
    }

    /// Waits for a frame, past others.
    pub(crate) async fn expect(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        self.find(is_it)
            .await
            .unwrap_or_else(|instead| panic!("{what}: {instead}"))
    }

    /// Looks for a frame, past others; tells what came instead.
    pub(crate) async fn find(&mut self, is_it: impl Fn(&Frame) -> bool) -> Result<Frame, String> {
        let mut others = Vec::new();
        loop {
            match self.next().await {
                Event::Frame(frame) if is_it(&frame) => return Ok(frame),
                Event::Frame(frame) => others.push(frame),
                end => return Err(format!("{end:?} after {others:x?}")),
            }
        }
    }

    /// Asks for the person that is in the cache; tells what was wrong with the answer.
    pub(crate) async fn ask(&mut self, stream: u32) -> Result<(), String> {
        // However small the initial window was made, this one lets an answer through.
        self.send([get(stream), window_update(stream, 1 << 20)].concat())
            .await;
        let of_stream = |frame: &Frame| frame.stream == stream;
        let head = self
            .find(|frame| of_stream(frame) && frame.kind != DATA)
            .await?;
        if head.kind != HEADERS || status(&head.payload) != 200 {
            return Err(format!("{head:x?}"));
        }
        let is_last = |frame: &Frame| frame.ends_stream() || frame.kind == RST_STREAM;
        let last = self
            .find(|frame| of_stream(frame) && is_last(frame))
            .await?;
        if last.kind == RST_STREAM {
            return Err(format!("{last:x?}"));
        }
        Ok(())
    }

    /// Asserts that this connection serves requests.
    pub(crate) async fn assert_served(&mut self, stream: u32) {
        self.ask(stream).await.expect("an answer");
    }
}
