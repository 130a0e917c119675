//! Finds the key where it must not be: in what is about to leave for a client.
//!
//! # Invariants
//! - The key counts in any of its forms: as it is, in either case, percent-encoded, escaped as in JSON, in
//!   hexadecimal, and in base64 wherever it stands in what was encoded.
//! - Of a stream that quotes the key, no byte of the key comes out, wherever its pieces are cut.
//! - What comes out is what went in, byte for byte and in order; only bytes that may be the beginning
//!   of the key wait for the next piece.

use std::fmt;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

mod forms;

use crate::config::ApiKey;

/// A secret half of fewer bytes than this would be found everywhere; then only the whole key counts.
const LEAST_SECRET_BYTES: usize = 16;

/// What compressed bodies begin with (gzip, RFC 1952 §2.3.1), and no text does.
const GZIP: u8 = 0x1f;

/// What to look for: the key, its secret half alone, and that in other forms.
pub(super) struct Needles(Vec<Finder<'static>>);

/// Looks at a stream piece by piece.
#[derive(Debug)]
pub(super) struct Scan {
    needles: Needles,
    /// Bytes that may be the beginning of the key.
    held: Bytes,
}

/// The stream quotes the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted;

/// Whether a body is compressed though it does not say so: the key could not be found in it.
pub(super) fn is_compressed(body: &[u8]) -> bool {
    body.first() == Some(&GZIP)
}

impl Needles {
    pub(super) fn of(key: &ApiKey) -> Self {
        let mut forms = forms::of(key.expose(), LEAST_SECRET_BYTES);
        forms.sort_unstable();
        forms.dedup();
        let finders = forms.iter().map(|form| Finder::new(form).into_owned());
        Self(finders.collect())
    }

    /// Whether any stands anywhere in `bytes`.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|finder| finder.find(bytes).is_some())
    }

    /// How many bytes at the end of `bytes` may be the beginning of one.
    fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let begun = |finder: &Finder<'_>| {
            let needle = finder.needle();
            let longest = bytes.len().min(needle.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|length| bytes.ends_with(&needle[..*length]))
                .unwrap_or(0)
        };
        self.0.iter().map(begun).max().unwrap_or(0)
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles([REDACTED])")
    }
}

impl Scan {
    pub(super) fn new(needles: Needles) -> Self {
        Self {
            needles,
            held: Bytes::new(),
        }
    }

    /// Takes the next piece in, and gives out what is certain not to be of the key.
    pub(super) fn push(&mut self, piece: Bytes) -> Result<Bytes, Quoted> {
        let mut piece = if self.held.is_empty() {
            piece
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + piece.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&piece);
            joined.freeze()
        };
        if self.needles.are_in(&piece) {
            return Err(Quoted);
        }
        self.held = piece.split_off(piece.len() - self.needles.begun_at_end(&piece));
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
        let (mut scan, mut out) = (Scan::new(Needles::of(&key())), Vec::new());
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
        let mut scan = Scan::new(Needles::of(&key()));
        let piece = Bytes::from_static(br#"{"people":[]}"#);
        assert_eq!(scan.push(piece.clone()), Ok(piece));
    }

    #[test]
    fn the_key_is_found_in_every_form() {
        let needles = Needles::of(&key());
        for quoted in [
            "0123456789ABCDEF0123456789ABCDEF",
            "3031323334353637383961626364656630313233343536373839616263646566",
            // Of the key, of `Bearer KEY`, and of `x:KEY`, as base64(1) has them.
            "d3NfdGVzdF9kZW1vLjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm",
            "QmVhcmVyIHdzX3Rlc3RfZGVtby4wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==",
            "eDp3c190ZXN0X2RlbW8uMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ] {
            assert!(needles.are_in(quoted.as_bytes()), "{quoted}");
        }
        assert!(!needles.are_in(b"ws_test_demo.0123456789abcdef"));
        assert!(!format!("{needles:?}").contains("012"));
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
