//! How a connection begins: which HTTP it speaks, told by its first bytes.
//!
//! # Specification
//! HTTP/2 begins with a preface and a SETTINGS frame that acknowledges nothing (RFC 9113 §3.4). Over
//! TLS it must be agreed on (§3.2): HTTP/1.1 that was agreed on does not become HTTP/2, and HTTP/2 that
//! was agreed on does not become HTTP/1.1.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connection::asked_to_end;
use super::entrance::Stream;
use super::numbers::Limit;
use super::{Application, Server};

/// What an HTTP/2 connection begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of the frame that must follow, and the flag that it must not have (RFC 9113 §6.5).
const SETTINGS: u8 = 0x4;
const ACK: u8 = 0x1;

/// What a client is told that begins HTTP/2 otherwise: settings of ours, and GOAWAY with
/// `PROTOCOL_ERROR`.
const NO_SETTINGS: &[u8; 26] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Anything but the preface of HTTP/2, or too little to be one.
    Http1,
    /// The preface, and settings.
    Http2,
    /// HTTP/2, and no preface or no settings. The library would take other frames in their place.
    NoSettings,
}

impl Beginning {
    /// Reads what the connection begins with, and tells what that is: nothing, if there is none in
    /// time. `agreed` says whether it is HTTP/2, if that is known already.
    pub(super) async fn read(
        stream: &mut Stream,
        agreed: Option<bool>,
        server: &Server<impl Application>,
    ) -> Option<(Vec<u8>, Self)> {
        if agreed == Some(false) {
            return Some((Vec::new(), Self::Http1)); // Timed like every request.
        }
        let mut read = Vec::with_capacity(512);
        let reading = sniff(stream, &mut read);
        let found = tokio::select! {
            found = timeout(server.limits.first_request_timeout, reading) => found,
            () = asked_to_end(server) => return None,
        };
        match found {
            Ok(Some(Self::Http1)) if agreed.is_some() => Some((read, Self::NoSettings)),
            Ok(found) => found.map(|beginning| (read, beginning)),
            // A `P` may become `PUT` as well. It comes too late for either, and is told so.
            Err(_) if agreed.is_none() && (1..PREFACE.len()).contains(&read.len()) => {
                Some((read, Self::Http1))
            }
            Err(_) => {
                server.numbers.reached(Limit::FirstRequestTimeout);
                None
            }
        }
    }

    /// Tells the client why its HTTP/2 is not served. It may be gone; nothing can be done about that.
    pub(super) async fn refuse(stream: &mut (impl AsyncWriteExt + Unpin)) {
        let _ = stream.write_all(NO_SETTINGS).await;
    }
}

/// Reads just enough to tell HTTP/2 from HTTP/1: the first byte that differs from the preface, or the
/// head of the frame behind it. Nothing at all is no connection to serve.
async fn sniff(stream: &mut Stream, read: &mut Vec<u8>) -> Option<Beginning> {
    loop {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
        if let Some(beginning) = of(read) {
            return Some(beginning);
        }
    }
}

/// What `read` begins; nothing, while it may be either.
fn of(read: &[u8]) -> Option<Beginning> {
    let common = read.len().min(PREFACE.len());
    if read[..common] != PREFACE[..common] {
        return Some(Beginning::Http1);
    }
    let [_, _, _, kind, flags, ..] = *read[common..].first_chunk::<9>()?;
    let is_settings = kind == SETTINGS && flags & ACK == 0;
    Some(if is_settings {
        Beginning::Http2
    } else {
        Beginning::NoSettings
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_beginning_is_told_by_the_first_byte_that_can_tell() {
        let begin = |frame: &[u8]| of(&[PREFACE, frame].concat());
        assert_eq!(of(b"P"), None);
        assert_eq!(of(PREFACE), None);
        assert_eq!(of(b"PU"), Some(Beginning::Http1));
        assert_eq!(of(b"PRI * HTTP/2.0\r\n\r\nSN"), Some(Beginning::Http1));
        assert_eq!(begin(b"\0\0\0\x04\0\0\0\0"), None, "one byte is missing");
        assert_eq!(begin(b"\0\0\0\x04\0\0\0\0\0"), Some(Beginning::Http2));
        assert_eq!(
            begin(b"\0\0\0\x04\x01\0\0\0\0"),
            Some(Beginning::NoSettings)
        );
        assert_eq!(
            begin(b"\0\0\x08\x06\0\0\0\0\0"),
            Some(Beginning::NoSettings)
        );
    }
}
