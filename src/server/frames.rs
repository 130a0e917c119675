//! HTTP/2 frames as they pass, counted: what a client may make this process do without asking for
//! anything.
//!
//! Looks at the nine bytes before each frame (RFC 9113 §4.1) and at nothing else, before hyper sees
//! them. A request earns a client some frames that carry none, an answer earns it the frames that
//! open the window for it, and time earns it the rest.
//!
//! # Specification
//! Floods are named in RFC 9113 §10.5, and the error to end them with, `ENHANCE_YOUR_CALM`, in §7.
//! Nothing is judged here but quantity; whether a frame may stand where it does is hyper's to say.

use std::time::Duration;

use tokio::time::Instant;

use super::numbers::Limit;
use crate::config::Limits;

/// How long what a client has used up stays used up.
const WINDOW: Duration = Duration::from_secs(10);

/// Frames that a request earns: a PRIORITY, two `WINDOW_UPDATE`, a PING, and as much again.
const EARNED_BY_REQUEST: u32 = 8;

/// Bytes of an answer that earn a frame: `WINDOW_UPDATE` for stream and connection, and a PING to
/// measure the line, for each DATA frame of 4 KiB or more.
const BYTES_THAT_EARN: u32 = 1024;

const HEADER: usize = 9;

/// Frame types, RFC 9113 §6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ENHANCE_YOUR_CALM: u8 = 0xb;

/// What comes before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds frames in a stream of bytes that comes in pieces of any size.
#[derive(Clone, Debug, Default)]
struct Cutter {
    head: [u8; HEADER],
    /// How much of `head` has come.
    filled: usize,
    /// How much of the payload has not.
    payload: u32,
}

/// Counts the frames of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    incoming: Cutter,
    outgoing: Cutter,
    /// Bytes that come before the first frame.
    preface: usize,
    allowed: Allowance,
    left: Allowance,
    renewed: Instant,
    /// Bytes of answers that have not earned a frame yet.
    unearned: u32,
    last_stream: u32,
    block: Block,
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    resets: u32,
    control: u32,
}

/// Whether a header block is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Closed,
    Open,
    /// Its last frame has begun.
    Ending,
}

impl Cutter {
    /// Takes in bytes up to the end of the next frame head or of its payload; tells how many.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<Head>) {
        if self.payload > 0 {
            let taken = bytes.len().min(self.payload as usize);
            self.payload -= u32::try_from(taken).unwrap_or(self.payload);
            return (taken, None);
        }
        let taken = bytes.len().min(HEADER - self.filled);
        self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        if self.filled < HEADER {
            return (taken, None);
        }
        self.filled = 0;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        let head = Head {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        };
        self.payload = head.length;
        (taken, Some(head))
    }

    /// Between two frames.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }
}

impl Frames {
    /// Counts what comes over a connection after the first `preface` bytes.
    pub(super) fn new(limits: &Limits, preface: usize, now: Instant) -> Self {
        let allowed = Allowance {
            resets: limits.h2_resets,
            control: limits.h2_control_frames,
        };
        Self {
            incoming: Cutter::default(),
            outgoing: Cutter::default(),
            preface,
            allowed,
            left: allowed,
            renewed: now,
            unearned: 0,
            last_stream: 0,
            block: Block::Closed,
        }
    }

    /// Looks at bytes that came in.
    ///
    /// # Errors
    /// The limit that one of their frames is beyond.
    pub(super) fn came(&mut self, bytes: &[u8]) -> Result<(), Limit> {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let mut rest = &bytes[preface..];
        while !rest.is_empty() {
            let (taken, head) = self.incoming.take(rest);
            rest = &rest[taken..];
            if let Some(head) = head {
                self.begin(head)?;
            }
            if self.block == Block::Ending && self.incoming.is_between() {
                self.block = Block::Closed;
            }
        }
        Ok(())
    }

    /// Looks at bytes that go out.
    pub(super) fn went(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, _) = self.outgoing.take(rest);
            rest = &rest[taken..];
        }
        let written = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let unearned = self.unearned.saturating_add(written);
        self.earn(unearned / BYTES_THAT_EARN);
        self.unearned = unearned % BYTES_THAT_EARN;
    }

    /// Whether a header block has begun and not ended.
    pub(super) fn has_open_block(&self) -> bool {
        self.block != Block::Closed
    }

    /// The last words to a client that sends too much, where there is room for them between what is
    /// being sent.
    pub(super) fn farewell(&self) -> Option<[u8; 17]> {
        let [s0, s1, s2, s3] = self.last_stream.to_be_bytes();
        let frame = [
            [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0].as_slice(),
            &[s0, s1, s2, s3, 0, 0, 0, ENHANCE_YOUR_CALM],
        ];
        let frame = frame.concat().try_into().ok();
        frame.filter(|_| self.outgoing.is_between())
    }

    fn begin(&mut self, head: Head) -> Result<(), Limit> {
        let ends = head.flags & END_HEADERS != 0;
        match head.kind {
            HEADERS => {
                if head.stream > self.last_stream {
                    self.last_stream = head.stream;
                    self.earn(EARNED_BY_REQUEST);
                }
                self.block = if ends { Block::Ending } else { Block::Open };
                Ok(())
            }
            CONTINUATION => {
                if ends && self.has_open_block() {
                    self.block = Block::Ending;
                }
                self.spend(Limit::H2ControlFrames)
            }
            DATA if head.length > 0 || head.flags & END_STREAM != 0 => Ok(()),
            RST_STREAM => self.spend(Limit::H2Resets),
            _ => self.spend(Limit::H2ControlFrames),
        }
    }

    fn earn(&mut self, frames: u32) {
        let more = self.left.control.saturating_add(frames);
        self.left.control = more.min(self.allowed.control);
    }

    fn spend(&mut self, limit: Limit) -> Result<(), Limit> {
        if self.left.of(limit).checked_sub(1).is_none() {
            // The clock is read only here, so that counting costs nearly nothing.
            let now = Instant::now();
            if now.saturating_duration_since(self.renewed) < WINDOW {
                return Err(limit);
            }
            (self.left, self.renewed) = (self.allowed, now);
        }
        *self.left.of(limit) -= 1;
        Ok(())
    }
}

impl Allowance {
    fn of(&mut self, limit: Limit) -> &mut u32 {
        match limit {
            Limit::H2Resets => &mut self.resets,
            _ => &mut self.control,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Sources};

    const PING: u8 = 6;

    fn frames(resets: u32, control: u32) -> Frames {
        let key = [("FLAMEUP_API_KEY", "ws_test_a.b")];
        let config = Config::load(&Sources::inline("", key)).expect("the defaults");
        let limits = Limits {
            h2_resets: resets,
            h2_control_frames: control,
            ..config.config.server.limits
        };
        Frames::new(&limits, 0, Instant::now())
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short payload");
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_comes_back_with_time_and_not_before() {
        let mut frames = frames(2, 100);
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        assert_eq!(frames.came(&reset.repeat(2)), Ok(()));
        tokio::time::advance(WINDOW).await;
        assert_eq!(frames.came(&reset.repeat(2)), Ok(()));
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(frames.came(&reset), Err(Limit::H2Resets));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_answers_earn_frames() {
        let mut frames = frames(1, 16);
        let ping = frame(PING, 0, &[0; 8]);
        let mut request = frame(HEADERS, END_HEADERS | END_STREAM, &[0x82]);
        for number in 1..=100 {
            request[8] = 2 * number + 1;
            assert_eq!(frames.came(&request), Ok(()));
            assert_eq!(frames.came(&ping.repeat(8)), Ok(()));
            frames.went(&frame(DATA, 0, &[0; 200]).repeat(10));
            assert_eq!(frames.came(&ping), Ok(()));
        }
        assert_eq!(
            frames.came(&ping.repeat(17)),
            Err(Limit::H2ControlFrames),
            "what is earned does not pile up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn data_costs_nothing_unless_it_is_empty() {
        let mut frames = frames(1, 16);
        assert_eq!(frames.came(&frame(DATA, 0, b"x").repeat(100)), Ok(()));
        assert_eq!(frames.came(&frame(DATA, END_STREAM, b"")), Ok(()));
        let flood = frame(DATA, 0, b"").repeat(17);
        assert_eq!(frames.came(&flood), Err(Limit::H2ControlFrames));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_is_open_until_its_last_byte() {
        let mut frames = frames(1, 16);
        assert_eq!(frames.came(&frame(HEADERS, 0, &[0x82])), Ok(()));
        assert!(frames.has_open_block());
        let last = frame(CONTINUATION, END_HEADERS, &[0x84, 0x86]);
        assert_eq!(frames.came(&last[..last.len() - 1]), Ok(()));
        assert!(frames.has_open_block());
        assert_eq!(frames.came(&last[last.len() - 1..]), Ok(()));
        assert!(!frames.has_open_block());
        assert_eq!(frames.came(&frame(HEADERS, END_HEADERS, &[])), Ok(()));
        assert!(!frames.has_open_block(), "nor is an empty one");
    }

    #[tokio::test(start_paused = true)]
    async fn the_farewell_does_not_break_into_a_frame() {
        let mut frames = frames(1, 16);
        let answer = frame(DATA, 0, b"abc");
        frames.went(&answer[..10]);
        assert_eq!(frames.farewell(), None);
        frames.went(&answer[10..]);
        let farewell = frames.farewell().expect("room");
        assert_eq!(farewell[3], GOAWAY);
        assert_eq!(farewell[16], ENHANCE_YOUR_CALM);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(
            kinds in prop::collection::vec((0..12u8, any::<u8>(), 0..20usize), 0..40),
            cuts in prop::collection::vec(1..30usize, 1..20),
        ) {
            let bytes: Vec<u8> = kinds
                .iter()
                .flat_map(|(kind, flags, length)| frame(*kind, *flags, &vec![1; *length]))
                .collect();
            let (mut whole, mut cut) = (frames(10, 16), frames(10, 16));
            let expected = whole.came(&bytes);
            let mut rest = &bytes[..];
            let mut found = Ok(());
            for length in cuts.iter().cycle() {
                if rest.is_empty() || found.is_err() {
                    break;
                }
                let (piece, others) = rest.split_at((*length).min(rest.len()));
                found = cut.came(piece);
                rest = others;
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(cut.has_open_block(), whole.has_open_block());
        }
    }
}
