//! Frames as bytes (RFC 9113 §4.1), well-formed or not.

use std::fmt;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const PRIORITISED: u8 = 0x20;

/// The flags of a HEADERS frame that is a whole request.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(crate) const HEADER_TABLE_SIZE: u16 = 0x1;
pub(crate) const ENABLE_PUSH: u16 = 0x2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub(crate) const MAX_FRAME_SIZE: u16 = 0x5;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 0x6;

/// The size every endpoint must take, and the largest the gateway announces to take.
pub(crate) const LARGEST_FRAME: usize = 1 << 14;

/// Writes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).expect("a payload of some bytes");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn data(stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

pub(crate) fn last_data(stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, payload)
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

pub(crate) fn ping(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, payload)
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

pub(crate) fn reset(stream: u32, code: Code) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.0.to_be_bytes())
}

pub(crate) fn priority(stream: u32, depends_on: u32) -> Vec<u8> {
    frame(PRIORITY, 0, stream, dependency(depends_on))
}

/// The five bytes of a priority: what a stream depends on, and a weight.
pub(crate) fn dependency(on: u32) -> Vec<u8> {
    let mut bytes = on.to_be_bytes().to_vec();
    bytes.push(15);
    bytes
}

pub(crate) fn goaway(last_stream: u32, code: Code) -> Vec<u8> {
    let mut payload = last_stream.to_be_bytes().to_vec();
    payload.extend(code.0.to_be_bytes());
    frame(GOAWAY, 0, 0, payload)
}

/// Puts padding around a payload: its length, and that many zeros.
pub(crate) fn padded(payload: impl AsRef<[u8]>, padding: u8) -> Vec<u8> {
    let mut bytes = vec![padding];
    bytes.extend(payload.as_ref());
    bytes.resize(bytes.len() + usize::from(padding), 0);
    bytes
}

/// A frame that came.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Takes a frame off the front of what was read, once all of it is there.
    pub(crate) fn take(read: &mut Vec<u8>) -> Option<Self> {
        let head = read.first_chunk::<9>()?;
        let [high, middle, low, kind, flags, stream @ ..] = *head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let end = 9 + usize::try_from(length).expect("24 bits");
        if read.len() < end {
            return None;
        }
        let payload = read.drain(..end).skip(9).collect();
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    pub(crate) fn is_ack_of(&self, kind: u8) -> bool {
        self.kind == kind && self.flags & ACK == ACK
    }

    /// Whether it is the last of its stream.
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM == END_STREAM
    }

    /// The error code of a `RST_STREAM` or a GOAWAY.
    pub(crate) fn code(&self) -> Code {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        Code(self.number(at))
    }

    /// The 32 bits that begin with this byte of the payload.
    pub(crate) fn number(&self, at: usize) -> u32 {
        let bytes = self.payload[at..].first_chunk().expect("four bytes");
        u32::from_be_bytes(*bytes)
    }
}

/// An error code (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u32);

impl Code {
    pub(crate) const NO_ERROR: Self = Self(0x0);
    pub(crate) const PROTOCOL_ERROR: Self = Self(0x1);
    pub(crate) const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub(crate) const STREAM_CLOSED: Self = Self(0x5);
    pub(crate) const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub(crate) const REFUSED_STREAM: Self = Self(0x7);
    pub(crate) const CANCEL: Self = Self(0x8);
    pub(crate) const COMPRESSION_ERROR: Self = Self(0x9);
    pub(crate) const ENHANCE_YOUR_CALM: Self = Self(0xb);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NO_ERROR => "NO_ERROR",
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::STREAM_CLOSED => "STREAM_CLOSED",
            Self::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::CANCEL => "CANCEL",
            Self::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            Self::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            Self(other) => return write!(f, "{other:#x}"),
        })
    }
}
