//! A client's stream as hyper sees it.
//!
//! Three things happen in between. Bytes that were read to tell the protocol are given back first.
//! The connection's activity is noted. And where hyper answers for itself, to a head that it cannot
//! parse, with a bare status line, the response is exchanged for one in the gateway's own form.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{Activity, Phase};
use super::listener::Stream;

/// How a status becomes a whole response.
type Refuse = Box<dyn Fn(StatusCode) -> Vec<u8> + Send>;

/// A client's stream.
pub(super) struct Socket {
    stream: Stream,
    activity: Arc<Activity>,
    /// Bytes to give back before reading on.
    prefix: Vec<u8>,
    given_back: usize,
    /// On HTTP/1 only; HTTP/2 answers what it cannot read with frames.
    refuse: Option<Refuse>,
    /// What goes out in place of hyper's own response, and how much of it has.
    refusal: Option<(Vec<u8>, usize)>,
    at_end: bool,
}

impl Socket {
    pub(super) fn new(stream: Stream, prefix: Vec<u8>, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            prefix,
            given_back: 0,
            refuse: None,
            refusal: None,
            at_end: false,
        }
    }

    /// Has hyper's own responses exchanged for what `refuse` makes of their status.
    pub(super) fn refusing(
        mut self,
        refuse: impl Fn(StatusCode) -> Vec<u8> + Send + 'static,
    ) -> Self {
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
        if self.given_back < self.prefix.len() {
            let rest = &self.prefix[self.given_back..];
            let given = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..given]);
            self.given_back += given;
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            self.activity.received();
        } else {
            self.at_end = true;
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
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
