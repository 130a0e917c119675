//! Which stored responses claim which names: an index from names to entries.
//!
//! A pointer says that the body under some key claims a name. It is made when that body is stored
//! and goes when the body goes, by the same hand: the store's own notice of removal. What a
//! pointer leads to is always asked whether it claims the name, so a collision of hashes finds
//! nobody instead of somebody else.
//!
//! Names are indexed without regard to the case of an e-mail, since Flameup does not say whether
//! it tells them apart: a change to one spelling must find what is stored under the others.
//! Whether a lookup may use what it finds is decided by the claim itself.
//!
//! # Invariants
//! - Whatever is stored has a pointer from each of its names but the one it is stored under.
//!   Pointers are made before the entry is stored, so that removal always comes later.
//! - Reading takes no lock.

use std::sync::Arc;

use papaya::{HashMap, Operation};
use seize::Collector;
use smallvec::SmallVec;

use super::entry::Entry;
use super::key::folded;

/// Pointers of one name. Two people who claim it have two; more than this many are not kept apart
/// from "many", since none of them may answer.
type Pointers = SmallVec<[Pointer; 1]>;

/// Where an entry is stored that claims a name.
#[derive(Clone, Debug)]
pub struct Pointer {
    key: Arc<[u8]>,
    /// Which entry: its place in memory, unique while it lives, and the pointer lives no longer.
    entry: usize,
}

/// The index.
#[derive(Debug)]
pub struct Aliases {
    pointers: HashMap<u64, Pointers, ahash::RandomState>,
    names: ahash::RandomState,
}

impl Default for Aliases {
    fn default() -> Self {
        // What is let go of is freed at once, not in batches: keys are personal data.
        let collector = Collector::new().batch_size(1);
        Self {
            pointers: HashMap::builder()
                .hasher(ahash::RandomState::new())
                .collector(collector)
                .build(),
            names: ahash::RandomState::new(),
        }
    }
}

impl Aliases {
    /// A name, given as a key's bytes, in the form that it is indexed and remembered by.
    pub fn name(&self, key: &[u8]) -> u64 {
        self.names.hash_one(&*folded(key))
    }

    /// Points from the names that `entry` claims to `key`, where it is about to be stored.
    pub fn add(&self, key: &Arc<[u8]>, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(key, entry) {
            let pointer = Pointer::to(key, entry);
            pointers.update_or_insert_with(
                name,
                |others| {
                    let mut all = others.clone();
                    all.push(pointer.clone());
                    all
                },
                || SmallVec::from_iter([pointer.clone()]),
            );
        }
    }

    /// Takes back what [`add`](Self::add) did: the entry is not stored there any longer.
    pub fn remove(&self, key: &Arc<[u8]>, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(key, entry) {
            let gone = Pointer::to(key, entry);
            pointers.compute(name, |found| {
                let Some((_, all)) = found else {
                    return Operation::Abort(());
                };
                let left: Pointers = all.iter().filter(|one| !one.is(&gone)).cloned().collect();
                if left.is_empty() {
                    Operation::Remove
                } else {
                    Operation::Insert(left)
                }
            });
        }
    }

    /// Where whatever claims this name is stored.
    pub fn claimants(&self, name: u64) -> Pointers {
        let pointers = self.pointers.pin();
        pointers.get(&name).cloned().unwrap_or_default()
    }

    /// The names that `entry` claims, but for the one that `key` already is.
    fn names_apart<'a>(
        &'a self,
        key: &'a Arc<[u8]>,
        entry: &'a Arc<Entry>,
    ) -> impl Iterator<Item = u64> + 'a {
        let others = entry
            .claims()
            .iter()
            .filter(|claim| *folded(claim.key()) != **key);
        others.map(|claim| self.name(claim.key()))
    }
}

impl Pointer {
    fn to(key: &Arc<[u8]>, entry: &Arc<Entry>) -> Self {
        Self {
            key: Arc::clone(key),
            entry: Arc::as_ptr(entry).addr(),
        }
    }

    /// Under which key.
    pub fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    fn is(&self, other: &Self) -> bool {
        self.entry == other.entry && self.key == other.key
    }
}
