//! The last decisions about people, for whoever asks why a lookup went as it did.
//!
//! Plain hits are not kept: they are nearly all there is, say the least, and must take no lock that
//! another hit can hold. What is kept names nobody: a person is a keyed hash, as the index of names
//! has it.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use crate::cache::status::{CacheStatus, Outcome};

/// Decisions that are kept, of all people together: at the two forwards a second that the budget
/// allows, those of the last eight minutes, which is longer than anybody stares at one lookup. With
/// 64 bytes each they take 64 KiB.
const KEPT: usize = 1024;

/// What was decided about one lookup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision {
    /// The name that was asked for.
    pub(super) name: u64,
    /// When it was answered.
    pub(super) at: Instant,
    /// What the cache did.
    pub(super) cache: CacheStatus,
}

/// The decisions that are kept, oldest first.
#[derive(Debug, Default)]
pub(super) struct Decisions(Mutex<VecDeque<Decision>>);

impl Decisions {
    /// Keeps a decision, unless it is a plain hit. One that finds the list in use is lost: a
    /// lookup does not wait to be remembered.
    pub(super) fn note(&self, decision: impl FnOnce() -> Decision, cache: CacheStatus) {
        if cache.outcome() == Outcome::Hit {
            return;
        }
        let Some(mut kept) = self.0.try_lock() else {
            return;
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(decision());
    }

    /// Those about whoever is called by one of `names`, latest first.
    pub(super) fn about(&self, names: &[u64]) -> Vec<Decision> {
        let kept = self.0.lock();
        let about = |decision: &&Decision| names.contains(&decision.name);
        kept.iter().rev().filter(about).copied().collect()
    }

    /// Forgets those about whoever is called by one of `names`. Says how many there were.
    pub(super) fn forget(&self, names: &[u64]) -> usize {
        let mut kept = self.0.lock();
        let before = kept.len();
        kept.retain(|decision| !names.contains(&decision.name));
        before - kept.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISS: CacheStatus = CacheStatus::None { detail: "refused" };

    fn note(decisions: &Decisions, name: u64, cache: CacheStatus) {
        let at = Instant::now();
        decisions.note(|| Decision { name, at, cache }, cache);
    }

    #[test]
    fn plain_hits_are_not_kept_and_the_rest_is_bounded() {
        let decisions = Decisions::default();
        let hit = CacheStatus::Hit {
            ttl: 1,
            detail: None,
        };
        note(&decisions, 1, hit);
        assert!(decisions.about(&[1]).is_empty());
        for name in 0..2 * KEPT as u64 {
            note(&decisions, name, MISS);
        }
        assert!(decisions.about(&[0]).is_empty());
        assert_eq!(decisions.about(&[KEPT as u64, KEPT as u64 + 1]).len(), 2);
        assert_eq!(decisions.0.lock().len(), KEPT);
    }

    #[test]
    fn what_is_forgotten_is_gone_and_nothing_else() {
        let decisions = Decisions::default();
        for name in [1, 2, 1] {
            note(&decisions, name, MISS);
        }
        assert_eq!(decisions.forget(&[1, 7]), 2);
        assert!(decisions.about(&[1]).is_empty());
        assert_eq!(decisions.about(&[2]).len(), 1);
    }
}
