//! A keyed hash of few bytes that takes few instructions.
//!
//! # Specification
//! [SipHash-2-4] with 128 bits of output: without its key nobody can tell what it makes of any bytes, nor
//! find the bytes by what it made of them.
//!
//! [SipHash-2-4]: https://www.aumasson.jp/siphash/siphash.pdf

use std::fmt;

use aws_lc_rs::rand;

/// A key of this process.
pub(super) struct Key([u64; 2]);

impl Key {
    /// A random key; none, if the system gives no random numbers.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        Some(Self::of(bytes))
    }

    fn of(bytes: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(bytes);
        Self([low_half(key), low_half(key >> 64)])
    }

    /// The hash of `bytes`.
    pub(super) fn hash(&self, bytes: &[u8]) -> u128 {
        let Self([low, high]) = *self;
        let mut state = State([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ]);
        let (words, rest) = bytes.as_chunks();
        for word in words {
            state.take(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // Of the length, its lowest byte counts.
        last[7] = bytes.len().to_le_bytes()[0];
        state.take(u64::from_le_bytes(last));
        state.0[2] ^= 0xee;
        let first = state.finish();
        state.0[1] ^= 0xdd;
        u128::from(first) | u128::from(state.finish()) << 64
    }
}

/// Shows nothing: with the key, tokens can be tried against hashes.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
fn low_half(number: u128) -> u64 {
    number as u64
}

struct State([u64; 4]);

impl State {
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn finish(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        self.0 = [a, b, c.rotate_left(32), d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_reference() {
        let key = Key::of(std::array::from_fn(|at| u8::try_from(at).expect("small")));
        // Vectors of the reference implementation: of no byte, and of one zero.
        for (bytes, expected) in [
            (&[][..], 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293),
            (&[0][..], 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
        ] {
            assert_eq!(key.hash(bytes), u128::from_be(expected), "{bytes:?}");
        }
    }

    #[test]
    fn every_bit_of_every_byte_counts_at_every_length() {
        let key = Key::random().expect("random numbers");
        for length in 1..40 {
            let mut bytes = vec![0x55; length];
            let hash = key.hash(&bytes);
            for bit in 0..length * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(key.hash(&bytes), hash, "bit {bit} of {length} bytes");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            assert_ne!(key.hash(&bytes[1..]), hash);
        }
    }
}
