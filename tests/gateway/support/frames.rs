//! HTTP/2 by hand: frames of any kind in any order, as no client library would send them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that anything may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A connection whose frames are the test's.
pub(crate) struct Frames<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

/// A frame from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len())
        .expect("a short payload")
        .to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block without compression: a request for `path`, and further literal fields.
pub(crate) fn block(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    // RFC 7541 §6.2.2, literal without indexing: names 2 to 7 and 1 are in the static table (A).
    let mut block = vec![0x02];
    text(&mut block, method);
    block.push(0x86); // :scheme http
    block.push(0x04);
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, "gateway");
    for (name, value) in fields {
        block.push(0x00);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A whole GET.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let block = block("GET", path, &[]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

/// A string literal (RFC 7541 §5.2), its length an integer with a prefix of seven bits (§5.1).
pub(crate) fn text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 127 {
        block.push(u8::try_from(length).expect("it is short"));
    } else {
        block.push(127);
        length -= 127;
        while length >= 128 {
            block.push(u8::try_from(length % 128).expect("it is small") | 128);
            length /= 128;
        }
        block.push(u8::try_from(length).expect("it is small"));
    }
    block.extend_from_slice(text.as_bytes());
}

impl Frames {
    /// A connection after its preface, with these settings.
    pub(crate) async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the gateway accepts");
        Self::over(stream, settings).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub(crate) async fn over(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self {
            stream,
            unread: Vec::new(),
        };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat();
        assert!(frames.send(hello).await, "the gateway reads");
        frames
    }

    /// Sends bytes; says whether the gateway still took them.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("an end in time").is_ok()
    }

    /// The next frame; none at the end, be it a reset.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read_frame())
            .await
            .expect("a frame or the end in time")
    }

    /// Reads to the next frame that satisfies; none if the connection ends before.
    pub(crate) async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads to the end of the answer on a stream; tells its status by the head's first byte (RFC
    /// 7541, appendix A), and whether it came to its end.
    pub(crate) async fn answer(&mut self, stream: u32) -> Option<Status> {
        let is_of = |frame: &Frame| frame.stream == stream;
        let head = self
            .find(|frame| is_of(frame) && frame.kind == HEADERS)
            .await?;
        let status = status(&head.payload);
        if head.flags & END_STREAM == 0 {
            self.find(|frame| is_of(frame) && frame.flags & END_STREAM != 0)
                .await?;
        }
        Some(status)
    }

    /// Reads to the end of the connection; tells the error of its last GOAWAY.
    pub(crate) async fn end(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                error = Some(code(&frame.payload[4..]));
            }
        }
        error
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.unread.split_at_checked(9) {
                let length = code(&[0, head[0], head[1], head[2]]) as usize;
                if rest.len() >= length {
                    let frame = Frame {
                        kind: head[3],
                        flags: head[4],
                        stream: code(&head[5..]) & 0x7fff_ffff,
                        payload: rest[..length].to_vec(),
                    };
                    self.unread.drain(..9 + length);
                    return Some(frame);
                }
            }
            if !matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {
                return None;
            }
        }
    }
}

/// The status of an answer: an index into the static table, or a literal.
pub(crate) type Status = String;

fn status(block: &[u8]) -> Status {
    // A change of the table's size may come first (RFC 7541 §6.3).
    let block = match block {
        [0x20..0x3f, rest @ ..] => rest,
        block => block,
    };
    let indexed = ["200", "204", "206", "304", "400", "404", "500"];
    match block {
        [first @ 0x88..=0x8e, ..] => indexed[usize::from(first - 0x88)].to_owned(),
        [_, length, rest @ ..] if length & 0x80 != 0 => {
            huffman_digits(&rest[..usize::from(length & 0x7f)])
        }
        [_, length, rest @ ..] => {
            String::from_utf8_lossy(&rest[..usize::from(*length)]).into_owned()
        }
        _ => String::new(),
    }
}

/// Digits in the code of RFC 7541, appendix B: `0` to `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> String {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut digits = String::new();
    while digits.len() < 3 {
        let five = bits.by_ref().take(5).fold(0, |code, bit| code << 1 | bit);
        let digit = if five < 3 {
            five
        } else {
            (five << 1 | bits.next().unwrap_or(0)) - 0x19 + 3
        };
        digits.push(char::from(b'0' + digit));
    }
    digits
}

/// Four bytes as a number.
pub(crate) fn code(bytes: &[u8]) -> u32 {
    let bytes = bytes.first_chunk().expect("four bytes");
    u32::from_be_bytes(*bytes)
}
