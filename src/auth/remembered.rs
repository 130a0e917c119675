//! Tokens that were found to be known, so that the next request with one need not be hashed again.
//!
//! SHA-256 is the dearest step of an answer from memory. A token that has come once is found by a fast
//! hash under a secret of this process, and then compared whole, in constant time: nothing is let in
//! for its hash alone. Only tokens that were found by their SHA-256 get here, so there are never more
//! than the configuration has.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret, SecretSlice};

use super::Caller;

/// How many places a token may be in. If others have them all, it is hashed each time.
const PROBES: usize = 4;

/// Tokens, and who speaks by them. Reading takes no lock.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// A power of two, about twice as many as there are tokens.
    places: Box<[OnceLock<Known>]>,
    hasher: ahash::RandomState,
}

#[derive(Debug)]
struct Known {
    /// Overwritten when it is let go of.
    token: SecretSlice<u8>,
    caller: Arc<Caller>,
}

impl Remembered {
    /// Room for so many tokens.
    pub(super) fn for_tokens(tokens: usize) -> Self {
        let places = (2 * tokens).next_power_of_two().max(PROBES);
        Self {
            places: (0..places).map(|_| OnceLock::new()).collect(),
            hasher: ahash::RandomState::new(),
        }
    }

    /// Who speaks by this token, if it has come before.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Arc<Caller>> {
        let known = self.places(token).map_while(OnceLock::get);
        let mut same = known
            .filter(|known| verify_slices_are_equal(known.token.expose_secret(), token).is_ok());
        same.next().map(|known| &known.caller)
    }

    /// Remembers that by this token `caller` speaks.
    pub(super) fn add(&self, token: &[u8], caller: &Arc<Caller>) {
        if self.find(token).is_some() {
            return; // Another request with it was faster.
        }
        let mut known = Known {
            token: token.to_vec().into(),
            caller: Arc::clone(caller),
        };
        for place in self.places(token) {
            match place.set(known) {
                Ok(()) => return,
                Err(back) => known = back,
            }
        }
    }

    fn places(&self, token: &[u8]) -> impl Iterator<Item = &OnceLock<Known>> {
        let mask = self.places.len().wrapping_sub(1);
        // On a machine of 32 bits the lower half does.
        #[expect(clippy::cast_possible_truncation, reason = "said above")]
        let first = self.hasher.hash_one(token) as usize;
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
    fn debug_shows_no_token() {
        let remembered = Remembered::for_tokens(1);
        remembered.add(b"secret", &caller());
        let bytes = format!("{:?}", b"secret");
        assert!(!format!("{remembered:?}").contains(&bytes[1..bytes.len() - 1]));
    }
}
