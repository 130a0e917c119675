//! The people that are stored: one entry each, found under any of their names.
//!
//! An entry is stored under the name that it was first asked by, and found under the others
//! through the index of names. Where two people claim one name, only what Flameup answered to that
//! very name is served, and it is stored under it.
//!
//! # Invariants
//! - What is found under a name was Flameup's answer to it, or claims it in its body while nobody
//!   else does.
//! - Of one person the answer that was asked for last is stored. Copies of older ones go.

use std::sync::Arc;

use smallvec::SmallVec;

use super::claims::Claims;
use super::entry::Entry;
use super::key::{CacheKey, Keys, folded};
use super::store::Store;

/// People by name.
#[derive(Debug)]
pub struct People {
    store: Store,
    /// Whether they are found under names that they were not asked by.
    aliases: bool,
}

/// An entry, and the key that it is stored under.
#[derive(Clone, Debug)]
pub struct Found {
    /// The key's bytes.
    pub key: Arc<[u8]>,
    /// The entry.
    pub entry: Arc<Entry>,
}

impl People {
    /// People in `store`; found under all their names if `aliases`.
    pub fn new(store: Store, aliases: bool) -> Self {
        Self { store, aliases }
    }

    /// Where they are stored.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who is stored for a lookup.
    pub fn find(&self, keys: &Keys) -> Option<Arc<Entry>> {
        match self.store.get(keys.person().as_bytes()) {
            Some(entry) => self.is_served_as(&entry, keys).then_some(entry),
            None => self.find_by_claim(keys).map(|found| found.entry),
        }
    }

    /// The key that the person of a lookup is stored under, if that is another than the lookup's.
    pub fn stored_under(&self, keys: &Keys) -> Option<CacheKey> {
        if self.store.get(keys.person().as_bytes()).is_some() {
            return None;
        }
        let found = self.find_by_claim(keys)?;
        Some(CacheKey::from_bytes(&found.key))
    }

    /// Whether an entry that is stored under the normal form of a lookup answers its spelling too.
    fn is_served_as(&self, entry: &Entry, keys: &Keys) -> bool {
        entry.answers_spelling(keys.spelled(), keys.person())
            || !entry.is_exact() && self.others_who_claim(keys.person(), entry).is_empty()
    }

    /// The one person who claims to be called so.
    fn find_by_claim(&self, keys: &Keys) -> Option<Found> {
        if !self.aliases {
            return None;
        }
        let mut claimants = self.claimants(keys.person().as_bytes());
        claimants.retain(|found| found.entry.claims().answer(keys));
        let one = claimants.pop()?;
        let same = |other: &Found| other.entry.claims().are_of(one.entry.claims());
        claimants.iter().all(same).then_some(one)
    }

    /// Everything that claims a name, given as a key's bytes, in whatever spelling.
    fn claimants(&self, name: &[u8]) -> SmallVec<[Found; 2]> {
        let aliases = self.store.aliases();
        let pointers = aliases.claimants(aliases.name(name));
        let follow = |key: &Arc<[u8]>| {
            let entry = self.store.get(key)?;
            let key = Arc::clone(key);
            Some(Found { key, entry })
        };
        pointers
            .iter()
            .filter_map(|pointer| follow(pointer.key()))
            .collect()
    }

    /// What is stored under a name, and whatever else claims it.
    pub fn all_called(&self, name: &[u8]) -> SmallVec<[Found; 2]> {
        let mut all = self.claimants(name);
        let folded = folded(name);
        for key in [name, &folded] {
            let new = all.iter().all(|found| *found.key != *key);
            if let Some(entry) = self.store.get(key).filter(|_| new) {
                let key = Arc::from(key);
                all.push(Found { key, entry });
            }
        }
        all
    }

    fn others_who_claim(&self, name: &CacheKey, entry: &Entry) -> SmallVec<[Found; 2]> {
        let mut others = self.claimants(name.as_bytes());
        others.retain(|other| !other.entry.claims().are_of(entry.claims()));
        others
    }

    /// Everything that is stored of the person with these claims.
    pub fn holders(&self, claims: &Claims) -> SmallVec<[Found; 2]> {
        let mut holders = claims
            .who()
            .map_or_else(SmallVec::new, |who| self.all_called(who));
        holders.retain(|found| found.entry.claims().are_of(claims));
        holders
    }

    /// Stores Flameup's answer to a lookup, unless a later one is stored. Says whether it did.
    pub fn put(&self, asked: &Keys, entry: &Arc<Entry>) -> bool {
        if !self.aliases {
            return self.put_as_asked(asked, entry);
        }
        let holders = self.holders(entry.claims());
        if holders.iter().any(|held| held.entry.began_after(entry)) {
            return false;
        }
        let kept = holders.iter().find(|held| keeps_its_key(held, entry));
        let key: Arc<[u8]> = kept.map_or_else(
            || Arc::from(asked.person().as_bytes()),
            |held| Arc::clone(&held.key),
        );
        self.store.insert(&key, Arc::clone(entry));
        for held in holders.iter().filter(|held| held.key != key) {
            self.store.remove(&held.key);
        }
        self.contradict(entry);
        self.answer_to_that_very_name(asked, entry);
        true
    }

    fn put_as_asked(&self, asked: &Keys, entry: &Arc<Entry>) -> bool {
        let key = asked.person().as_bytes();
        let stored = self.store.get(key);
        if stored.is_some_and(|stored| stored.began_after(entry)) {
            return false;
        }
        self.store.insert(key, Arc::clone(entry));
        true
    }

    /// Lets go of answers to names that this later answer says are somebody else's: an e-mail was
    /// reassigned, an external id was moved, two people were merged.
    fn contradict(&self, entry: &Entry) {
        for claim in entry.claims().iter() {
            // E-mails are stored under their own spelling or a folded one, as is configured.
            for key in [claim.key(), &folded(claim.key())] {
                let outdated = |other: Arc<Entry>| {
                    !other.claims().are_of(entry.claims())
                        && other.claims().contradict(claim)
                        && !other.began_after(entry)
                };
                if self.store.get(key).is_some_and(outdated) {
                    self.store.remove(key);
                }
            }
        }
    }

    /// Sees that the name that was asked by leads to this entry and no other: where it does not of
    /// itself, because somebody else is stored under it or claims it too, the entry is stored
    /// under it as well.
    fn answer_to_that_very_name(&self, asked: &Keys, entry: &Arc<Entry>) {
        let leads_here = self
            .find(asked)
            .is_some_and(|found| Arc::ptr_eq(&found, entry));
        if !leads_here {
            self.store
                .insert(asked.person().as_bytes(), Arc::clone(entry));
        }
    }

    /// Lets go of whoever was found by exactly this spelling: Flameup says that nobody is called
    /// so any more.
    pub fn forget_spelling(&self, keys: &Keys) {
        for found in self.all_called(keys.person().as_bytes()) {
            let direct = *found.key == *keys.person().as_bytes()
                && found.entry.answers_spelling(keys.spelled(), keys.person());
            if direct || found.entry.claims().spell(keys.spelled()) {
                self.store.remove(&found.key);
            }
        }
    }
}

/// Whether the key that a person is stored under is still a name of theirs, and one that does not
/// depend on how it was spelled.
fn keeps_its_key(held: &Found, entry: &Entry) -> bool {
    !entry.is_exact() && entry.claims().iter().any(|claim| claim.key() == &*held.key)
}
