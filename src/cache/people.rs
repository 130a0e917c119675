//! The people that are stored: one entry each, found under any of their names.
//!
//! An entry is stored under the name that it was first asked by, and found under the others
//! through the index of names. Where two people claim one name, only what Flameup answered to that
//! very name is served, and it is stored under it. A name that dozens claim is crowded: not all of
//! them are found by it, so a change of whoever is called so is one of everybody.
//!
//! # Invariants
//! - What is found under a name was Flameup's answer to it, or claims it in its body while nobody
//!   else does.
//! - Of one person the answer that was asked for last is stored. Copies of older ones go.

use std::sync::Arc;

use smallvec::SmallVec;

use super::claims::Claims;
use super::entry::Entry;
use super::key::{CacheKey, Keys, Place, folded};
use super::store::Store;

/// People by name.
#[derive(Debug)]
pub struct People {
    store: Store,
    /// Whether they are found under names that they were not asked by.
    aliases: bool,
}

/// An entry, and where it is stored.
#[derive(Clone, Debug)]
pub struct Found {
    /// The place of its key.
    pub place: Place,
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
        match self.directly(keys) {
            Ok(entry) => Some(entry),
            Err(other) => self.find_by_claim(keys, other).map(|found| found.entry),
        }
    }

    /// The person of a lookup, if they are stored under another key than the lookup's.
    pub fn found_elsewhere(&self, keys: &Keys) -> Option<Found> {
        let other = self.directly(keys).err()?;
        self.find_by_claim(keys, other)
    }

    /// What is stored under the normal form of a lookup, if it answers its spelling; otherwise
    /// whoever is stored there.
    fn directly(&self, keys: &Keys) -> Result<Arc<Entry>, Option<Arc<Entry>>> {
        match self.store.get(keys.person().as_bytes()) {
            Some(entry) if self.is_served_as(&entry, keys) => Ok(entry),
            other => Err(other),
        }
    }

    /// Whether an entry that is stored under the normal form of a lookup answers its spelling.
    fn is_served_as(&self, entry: &Entry, keys: &Keys) -> bool {
        entry.is_answer_to(keys.spelled())
            || entry.claims().answer(keys) && !self.is_claimed_by_others(keys, entry)
    }

    /// The one person who claims to be called so. Somebody may be stored under the very name.
    fn find_by_claim(&self, keys: &Keys, directly: Option<Arc<Entry>>) -> Option<Found> {
        if !self.aliases {
            return None;
        }
        let (mut claimants, crowded) = self.claimants(keys.person().as_bytes());
        if crowded {
            return None;
        }
        claimants.extend(directly.map(|entry| Found {
            place: self.store.place(keys.person().as_bytes()),
            entry,
        }));
        claimants.retain(|found| found.entry.claims().answer(keys));
        let one = claimants.pop()?;
        let same = |other: &Found| other.entry.claims().are_of(one.entry.claims());
        claimants.iter().all(same).then_some(one)
    }

    /// What claims a name, given as a key's bytes, in whatever spelling; and whether there is more.
    fn claimants(&self, name: &[u8]) -> (SmallVec<[Found; 2]>, bool) {
        let aliases = self.store.aliases();
        let pointers = aliases.claimants(aliases.name(name));
        let follow = |place: Place| {
            let entry = self.store.get_at(place)?;
            Some(Found { place, entry })
        };
        let found = pointers
            .found
            .iter()
            .filter_map(|pointer| follow(pointer.place()))
            .collect();
        (found, pointers.others > 0)
    }

    /// How many more claim a name, given as a key's bytes, than [`all_called`](Self::all_called)
    /// finds; the name is crowded if any do.
    pub fn uncounted(&self, name: &[u8]) -> usize {
        let aliases = self.store.aliases();
        aliases.uncounted(aliases.name(name))
    }

    /// What is stored under a name, and whatever else claims it; of a crowd, some.
    pub fn all_called(&self, name: &[u8]) -> SmallVec<[Found; 2]> {
        let (mut all, _) = self.claimants(name);
        let folded = folded(name);
        for key in [name, &folded] {
            let place = self.store.place(key);
            let new = all.iter().all(|found| found.place != place);
            if let Some(entry) = self.store.get_at(place).filter(|_| new) {
                all.push(Found { place, entry });
            }
        }
        all
    }

    /// Whether somebody else than the person of `entry` is stored who claims to be called so too.
    pub fn is_claimed_by_others(&self, keys: &Keys, entry: &Entry) -> bool {
        if self.uncounted(keys.person().as_bytes()) > 0 {
            return true;
        }
        let all = self.all_called(keys.person().as_bytes());
        let claims = all.iter().map(|found| found.entry.claims());
        claims
            .filter(|claims| !claims.are_of(entry.claims()))
            .any(|others| others.answer(keys))
    }

    /// Everything that is stored of the person with these claims.
    pub fn holders(&self, claims: Claims<'_>) -> SmallVec<[Found; 2]> {
        let mut holders = claims
            .who()
            .map_or_else(SmallVec::new, |who| self.all_called(who));
        holders.retain(|found| found.entry.claims().are_of(claims));
        holders
    }

    /// Where to store what came with the answer to something else, instead of what is held: under
    /// who it is, not as an answer to a name.
    pub fn place_of(&self, held: &Found) -> Option<Keys> {
        let who = held.entry.claims().who().filter(|_| self.aliases);
        who.map_or_else(|| self.keys_of(held), |who| Some(Keys::stored_under(who)))
    }

    /// The key that an entry is stored under. Whatever is stored knows it, by the names that it
    /// claims or was asked by.
    pub fn key_of(&self, found: &Found) -> Option<CacheKey> {
        self.store.aliases().key_of(found.place, &found.entry)
    }

    fn keys_of(&self, found: &Found) -> Option<Keys> {
        let key = self.key_of(found)?;
        Some(Keys::stored_under(key.as_bytes()))
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
        let kept = holders.iter().find(|held| self.keeps_its_key(held, entry));
        let place = kept.map_or_else(
            || self.store.place(asked.person().as_bytes()),
            |held| held.place,
        );
        self.store.insert_at(place, Arc::clone(entry));
        for held in holders.iter().filter(|held| held.place != place) {
            self.store.remove_at(held.place);
        }
        self.dispute(entry);
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

    /// Whether an entry may take the place of an earlier one of its person: only where that is
    /// under a name that the person still has, and nobody else.
    fn keeps_its_key(&self, held: &Found, entry: &Entry) -> bool {
        let keys = self.keys_of(held);
        keys.is_some_and(|keys| {
            entry.claims().answer(&keys) && !self.is_claimed_by_others(&keys, entry)
        })
    }

    /// Disputes answers to names that this later answer says are somebody else's: an e-mail was
    /// reassigned, an external id was moved, two people were merged.
    ///
    /// They stay, though no longer as answers to that name. Were they to go, nobody would know any
    /// more that two people claim it, and Flameup may well have two of one e-mail.
    fn dispute(&self, entry: &Entry) {
        for claim in entry.claims().iter() {
            // E-mails are stored under their own spelling or a folded one, as is configured.
            for key in [claim.key(), &folded(claim.key())] {
                let outdated = |other: &Arc<Entry>| {
                    !other.claims().are_of(entry.claims())
                        && other.claims().contradict(claim)
                        && !other.began_after(entry)
                };
                if let Some(other) = self.store.get(key).filter(outdated) {
                    other.dispute();
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
    /// so any more, or did so when it was asked for `absence`.
    pub fn forget_spelling(&self, keys: &Keys, absence: &Entry) {
        let place = self.store.place(keys.person().as_bytes());
        for found in self.all_called(keys.person().as_bytes()) {
            let direct = found.place == place && found.entry.is_answer_to(keys.spelled());
            let called_so = direct || found.entry.claims().spell(keys.spelled());
            if called_so && !found.entry.began_after(absence) {
                self.store.remove_at(found.place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
