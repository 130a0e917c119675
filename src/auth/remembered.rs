//! Tokens that were found to be known, so that the next request with one need not be hashed with
//! SHA-256 again, which is the dearest step of an answer from memory.
//!
//! A token that has come once is found again by a hash of 128 bits under a random key of this process.
//! To be taken for one of them, a token would have to have its hash, which nobody can aim at who does
//! not know the key.
//!
//! # Invariants
//! - No token is kept, and nothing by which one could be found out without the key.
//! - Only tokens that were found by their SHA-256 get here, so there are never more than the
//!   configuration has.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::Caller;
use super::siphash::Key;

/// How many places a token may be in. If others have them all, it is hashed each time.
const PROBES: usize = 4;

/// Which tokens have come, and who speaks by them. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// A power of two, about twice as many as there are tokens. None without a key.
    places: Box<[OnceLock<Known>]>,
    key: Option<Key>,
}

#[derive(Debug)]
struct Known {
    /// The token's.
    hash: u128,
    caller: Arc<Caller>,
}

impl Remembered {
    /// Room for so many tokens.
    pub(super) fn for_tokens(tokens: usize) -> Self {
        let Some(key) = Key::random() else {
            return Self::default(); // Slower, and no less right.
        };
        let places = (2 * tokens).next_power_of_two().max(PROBES);
        Self {
            places: (0..places).map(|_| OnceLock::new()).collect(),
            key: Some(key),
        }
    }

    /// Who speaks by this token, if it has come before.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Caller>> {
        self.find_hash(self.key.as_ref()?.hash(token))
    }

    /// Remembers that by this token `caller` speaks.
    pub(super) fn add(&self, token: &[u8], caller: &Arc<Caller>) {
        let Some(key) = &self.key else {
            return;
        };
        let hash = key.hash(token);
        if self.find_hash(hash).is_some() {
            return; // Another request with it was faster.
        }
        let mut known = Known {
            hash,
            caller: Arc::clone(caller),
        };
        for place in self.places(hash) {
            match place.set(known) {
                Ok(()) => return,
                Err(back) => known = back,
            }
        }
    }

    fn find_hash(&self, hash: u128) -> Option<&Arc<Caller>> {
        let bytes = hash.to_ne_bytes();
        let known = self.places(hash).map_while(OnceLock::get);
        let mut same = known
            .filter(|known| verify_slices_are_equal(&known.hash.to_ne_bytes(), &bytes).is_ok());
        same.next().map(|known| &known.caller)
    }

    fn places(&self, hash: u128) -> impl Iterator<Item = &OnceLock<Known>> {
        let mask = self.places.len().wrapping_sub(1);
        let first = hash as usize;
        (0..PROBES).filter_map(move |step| self.places.get(first.wrapping_add(step) & mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::workspace;
    use crate::config::{EmailCase, Scopes};
    use crate::shield::queue::{CallerId, Class};

    fn caller() -> Arc<Caller> {
        let workspace = Arc::new(workspace(0, EmailCase::Insensitive));
        let caller = Caller::new(
            "c",
            CallerId(0),
            workspace,
            Scopes::NONE,
            Class::Interactive,
            1,
        );
        Arc::new(caller)
    }

    #[test]
    fn a_token_is_found_by_all_of_its_bytes_once_it_has_come() {
        let (remembered, caller) = (Remembered::for_tokens(1), caller());
        assert!(remembered.find(b"token").is_none());
        remembered.add(b"token", &caller);
        let found = remembered.find(b"token").expect("it has come");
        assert!(Arc::ptr_eq(found, &caller));
        for other in [&b"tokem"[..], b"toke", b"token\0", b""] {
            assert!(remembered.find(other).is_none());
        }
    }

    #[test]
    fn more_tokens_than_there_is_room_for_are_found_or_not_but_never_mistaken() {
        let remembered = Remembered::for_tokens(2);
        let callers: Vec<_> = (0..50_u8).map(|number| (number, caller())).collect();
        for (number, caller) in &callers {
            remembered.add(&[*number], caller);
        }
        let known = callers.iter().filter(|(number, caller)| {
            let found = remembered.find(&[*number]);
            assert!(found.is_none_or(|found| Arc::ptr_eq(found, caller)));
            found.is_some()
        });
        assert!((1..=4).contains(&known.count()));
    }

    #[test]
    fn where_nobody_has_a_token_nothing_is_remembered() {
        let remembered = Remembered::default();
        remembered.add(b"token", &caller());
        assert!(remembered.find(b"token").is_none());
    }

    #[test]
    fn neither_token_nor_key_is_shown() {
        let remembered = Remembered::for_tokens(1);
        remembered.add(b"secret", &caller());
        let shown = format!("{remembered:?}");
        let bytes = format!("{:?}", b"secret");
        assert!(!shown.contains(&bytes[1..bytes.len() - 1]));
        assert!(shown.contains("key: Some(Key(..))"), "{shown}");
    }
}
