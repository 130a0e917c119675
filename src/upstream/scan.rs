//! Finds the key where it must not be: in what is about to leave for a client.
//!
//! # Invariants
//! - Of a stream that quotes the key, no byte of the key comes out, wherever its pieces are cut.
//! - What comes out is what went in, byte for byte and in order; only bytes that may be the beginning
//!   of the key wait for the next piece.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::config::ApiKey;

/// A secret half of fewer bytes than this would be found everywhere; then only the whole key counts.
const LEAST_SECRET_BYTES: usize = 16;

/// What to look for: the key, and its secret half alone.
#[derive(Debug)]
pub(super) struct Needle<'k> {
    key: &'k [u8],
    secret: &'k [u8],
}

/// Looks at a stream piece by piece.
#[derive(Debug)]
pub(super) struct Scan {
    api_key: ApiKey,
    /// Bytes that may be the beginning of the key.
    held: Bytes,
}

/// The stream quotes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted;

impl<'k> Needle<'k> {
    pub(super) fn of(key: &'k ApiKey) -> Self {
        Self::new(key.expose().as_bytes())
    }

    fn new(key: &'k [u8]) -> Self {
        let secret = key.split(|byte| *byte == b'.').next_back().unwrap_or(key);
        let secret = if secret.len() < LEAST_SECRET_BYTES {
            key
        } else {
            secret
        };
        Self { key, secret }
    }

    /// Whether it stands anywhere in `bytes`.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        // The secret is part of the key: where it is not, neither is the key.
        Finder::new(self.secret).find(bytes).is_some()
    }

    /// How many bytes at the end of `bytes` may be its beginning.
    fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let begun = |needle: &[u8]| {
            let longest = bytes.len().min(needle.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|length| bytes.ends_with(&needle[..*length]))
                .unwrap_or(0)
        };
        begun(self.key).max(begun(self.secret))
    }
}

impl Scan {
    pub(super) fn new(api_key: ApiKey) -> Self {
        Self {
            api_key,
            held: Bytes::new(),
        }
    }

    /// Takes the next piece in, and gives out what is certain not to be of the key.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<Bytes, Quoted> {
        let needle = Needle::of(&self.api_key);
        let mut piece = if self.held.is_empty() {
            piece
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + piece.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&piece);
            joined.freeze()
        };
        if needle.is_in(&piece) {
            return Err(Quoted);
        }
        self.held = piece.split_off(piece.len() - needle.begun_at_end(&piece));
        Ok(piece)
    }

    /// Gives out what was held back: the stream has ended, and it was not the key.
    pub(super) fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Sources};

    const KEY: &str = "ws_test_demo.0123456789abcdef0123456789abcdef";

    fn key() -> ApiKey {
        let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", KEY)]));
        let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
        let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
        workspace.api_keys.remove(0).0
    }

    /// What comes out of a stream in these pieces, and whether it was cut.
    fn through(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut scan, mut out) = (Scan::new(key()), Vec::new());
        for piece in pieces {
            match scan.push(Bytes::copy_from_slice(piece)) {
                Ok(bytes) => out.extend_from_slice(&bytes),
                Err(Quoted) => return (out, true),
            }
        }
        out.extend_from_slice(&scan.end());
        (out, false)
    }

    #[test]
    fn ordinary_bytes_are_not_held_back() {
        let mut scan = Scan::new(key());
        let piece = Bytes::from_static(br#"{"people":[]}"#);
        assert_eq!(scan.push(piece.clone()), Ok(piece));
    }

    proptest! {
        #[test]
        fn no_byte_of_the_key_comes_out_however_the_stream_is_cut(
            before in "[ws_te.0-3]{0,40}",
            after in "[a-f0-9]{0,20}",
            secret_only in any::<bool>(),
            cuts in prop::collection::vec(0usize..140, 0..6),
        ) {
            let quoted = if secret_only { &KEY[13..] } else { KEY };
            let stream = format!("{before}|{quoted}{after}").into_bytes();
            let (out, cut) = through(&pieces(&stream, cuts));
            prop_assert!(cut);
            prop_assert!(out.len() <= before.len() + 1, "{:?}", String::from_utf8_lossy(&out));
            prop_assert!(stream.starts_with(&out));
        }

        #[test]
        fn what_does_not_quote_it_comes_out_as_it_went_in(
            stream in "[ws_te.0-3]{0,80}",
            cuts in prop::collection::vec(0usize..140, 0..6),
        ) {
            let (out, cut) = through(&pieces(stream.as_bytes(), cuts));
            prop_assert!(!cut);
            prop_assert_eq!(out, stream.as_bytes());
        }
    }

    fn pieces(stream: &[u8], mut cuts: Vec<usize>) -> Vec<&[u8]> {
        cuts.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for cut in cuts.into_iter().filter(|cut| *cut <= stream.len()) {
            pieces.push(&stream[from..cut]);
            from = cut;
        }
        pieces.push(&stream[from..]);
        pieces
    }
}
