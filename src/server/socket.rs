//! A client's stream as hyper sees it.
//!
//! Four things happen in between. Bytes that were read to tell the protocol are given back first.
//! The connection's activity is noted. Of HTTP/1, what is not read by all alike is spoilt. Where hyper
//! answers for itself on HTTP/1, to a head that it cannot parse, with a bare status line, the response
//! is exchanged for one in the gateway's own form. On HTTP/2 frames are counted, and a client that sends
//! too many is told to leave.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Phase};
use super::entrance::Stream;
use super::frames::Frames;
use super::guard::Guard;
use super::numbers::Numbers;

/// How much is read from a client that was told to leave. Closing on unread bytes would reset the
/// connection and could take the reason with it.
const PARTING_BYTES: usize = 256 * 1024;

/// How a status becomes a whole response.
type Refuse = Box<dyn Fn(StatusCode) -> Vec<u8> + Send>;

/// A client's stream.
pub(super) struct Socket {
    stream: Stream,
    activity: Arc<Activity>,
    /// Bytes to give back before reading on.
    prefix: Vec<u8>,
    given_back: usize,
    /// On HTTP/1 only; HTTP/2 frames by lengths alone.
    guard: Option<Guard>,
    /// On HTTP/1 only; HTTP/2 answers what it cannot read with frames.
    refuse: Option<Refuse>,
    /// What goes out in place of hyper's own response, and how much of it has.
    refusal: Option<(Vec<u8>, usize)>,
    at_end: bool,
    /// On HTTP/2 only.
    frames: Option<Box<(Frames, Numbers)>>,
    parting: Option<Parting>,
}

/// How far a client has been told to leave.
#[derive(Debug)]
enum Parting {
    /// So much of the last words has been said.
    Saying([u8; 17], usize),
    /// Nothing more is said.
    Closing,
    /// So much more is listened to.
    Listening(usize),
}

impl Socket {
    pub(super) fn new(stream: Stream, prefix: Vec<u8>, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            prefix,
            given_back: 0,
            guard: None,
            refuse: None,
            refusal: None,
            at_end: false,
            frames: None,
            parting: None,
        }
    }

    /// Has the frames of an HTTP/2 connection counted.
    pub(super) fn counting(mut self, frames: Frames, numbers: Numbers) -> Self {
        self.frames = Some(Box::new((frames, numbers)));
        self
    }

    /// Has what is ambiguous spoilt, and hyper's own responses exchanged for what `refuse` makes of
    /// their status.
    pub(super) fn refusing(
        mut self,
        refuse: impl Fn(StatusCode) -> Vec<u8> + Send + 'static,
    ) -> Self {
        self.guard = Some(Guard::default());
        self.refuse = Some(Box::new(refuse));
        self
    }

    /// Whether the client has said its last word.
    pub(super) fn at_end(&self) -> bool {
        self.at_end
    }

    /// The status of a response that hyper writes by itself: one that begins while no request is
    /// under way.
    fn own_refusal(&self, bytes: &[u8]) -> Option<StatusCode> {
        const START: &[u8] = b"HTTP/1.1 ";
        if matches!(self.activity.phase(), Phase::Busy | Phase::Answering) {
            return None;
        }
        let digits = bytes.strip_prefix(START)?.get(..3)?;
        StatusCode::from_bytes(digits)
            .ok()
            .filter(StatusCode::is_client_error)
    }

    /// Notes what has come in, and says whether it may go on to hyper.
    fn note(&mut self, bytes: &[u8]) -> bool {
        let Some(counting) = &mut self.frames else {
            self.activity.received();
            return true;
        };
        let (frames, numbers) = &mut **counting;
        let counted = frames.came(bytes);
        self.activity.has_open_block(frames.has_open_block());
        let Err(limit) = counted else {
            return true;
        };
        numbers.reached(limit);
        self.activity.part();
        let farewell = frames.farewell();
        let said = farewell.map_or(Parting::Closing, |words| Parting::Saying(words, 0));
        self.parting = Some(said);
        false
    }

    /// Tells the client to leave; hyper is told that the connection has broken.
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut stream = Pin::new(&mut self.stream);
        loop {
            let next = match &mut self.parting {
                Some(Parting::Saying(words, said)) if *said < words.len() => {
                    match ready!(stream.as_mut().poll_write(cx, &words[*said..])) {
                        Ok(more) if more > 0 => Parting::Saying(*words, *said + more),
                        _ => Parting::Listening(0),
                    }
                }
                Some(Parting::Saying(..)) => Parting::Closing,
                Some(Parting::Closing) => {
                    // Whether that succeeds or not, there is nothing more to say.
                    let _ = ready!(stream.as_mut().poll_shutdown(cx));
                    Parting::Listening(PARTING_BYTES)
                }
                Some(Parting::Listening(left)) if *left > 0 => {
                    let mut ignored = [0; 4096];
                    let mut ignored = ReadBuf::new(&mut ignored);
                    let read = ready!(stream.as_mut().poll_read(cx, &mut ignored));
                    match (read, ignored.filled().len()) {
                        (Ok(()), 1..) => {
                            Parting::Listening(left.saturating_sub(ignored.filled().len()))
                        }
                        _ => Parting::Listening(0),
                    }
                }
                _ => return Poll::Ready(io::ErrorKind::ConnectionAborted.into()),
            };
            self.parting = Some(next);
        }
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((refusal, written)) = &mut self.refusal {
            while *written < refusal.len() {
                let stream = Pin::new(&mut self.stream);
                let more = ready!(stream.poll_write(cx, &refusal[*written..]))?;
                if more == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                *written += more;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.parting.is_some() {
            return self.poll_part(cx).map(Err);
        }
        if let Some(last_word) = self.guard.as_mut().and_then(Guard::last_word)
            && buf.remaining() >= last_word.len()
        {
            buf.put_slice(last_word);
            return Poll::Ready(Ok(()));
        }
        if self.given_back < self.prefix.len() {
            let rest = &self.prefix[self.given_back..];
            let given = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..given]);
            self.given_back += given;
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        if let Some(guard) = &mut self.guard {
            guard.inspect(&mut buf.filled_mut()[before..]);
        }
        if buf.filled().len() == before {
            self.at_end = true;
        } else if !self.note(&buf.filled()[before..]) {
            buf.set_filled(before);
            return self.poll_part(cx).map(Err);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none()
            && let Some(refuse) = &self.refuse
            && let Some(status) = self.own_refusal(bytes)
        {
            self.refusal = Some((refuse(status), 0));
        }
        if self.refusal.is_some() {
            ready!(self.poll_refusal(cx))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.parting.is_some() {
            return Poll::Ready(Ok(bytes.len())); // It would not be read.
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        if let Some(counting) = &mut self.frames {
            counting.0.went(&bytes[..written]);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Writes a response out in full, as the last one of an HTTP/1.1 connection.
pub(super) fn to_bytes(response: &Response<Bytes>) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let length = response.body().len();
    let end = format!("date: {date}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(response.body());
    bytes
}
