//! Finds the key where it must not be: in what is about to leave for a client.
//!
//! # Invariants
//! - The key counts in any of its forms ([`Needles`](crate::shield::credential::Needles)).
//! - Of a stream that quotes the key, no byte of the key comes out, wherever its pieces are cut.
//! - What comes out is what went in, byte for byte and in order; only bytes that may be the beginning
//!   of the key wait for the next piece.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::shield::Credential;

/// What compressed bodies begin with (gzip, RFC 1952 §2.3.1), and no text does.
const GZIP: u8 = 0x1f;

/// Looks at a stream piece by piece.
#[derive(Debug)]
pub(super) struct Scan {
    credential: Arc<Credential>,
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

impl Scan {
    pub(super) fn new(credential: Arc<Credential>) -> Self {
        Self {
            credential,
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
        if self.credential.needles.are_in(&piece) {
            return Err(Quoted);
        }
        let begun = self.credential.needles.begun_at_end(&piece);
        self.held = piece.split_off(piece.len() - begun);
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

    const KEY: &str = "ws_test_demo.0123456789abcdef0123456789abcdef";

    fn scan() -> Scan {
        Scan::new(Arc::new(Credential::for_tests(KEY)))
    }

    /// What comes out of a stream in these pieces, and whether it was cut.
    fn through(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let (mut scan, mut out) = (scan(), Vec::new());
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
        let mut scan = scan();
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
