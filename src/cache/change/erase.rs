//! Erasing a person: by all names that the memory knows, in everything that it stores, fetches and
//! remembers.
//!
//! # Invariants
//! - Nothing of whoever is erased is stored for as long as the bar stands: names are barred before
//!   what they lead to is removed, and what is found then has been stored before.
//! - Nothing is confirmed to be gone whose bytes the store still has, as far as a name leads to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Removed;
use crate::cache::Cache;
use crate::cache::changes::{self, Hold};
use crate::cache::claims::Claims;
use crate::cache::key::{CacheKey, folded, name_of};
use crate::cache::people::Found;
use crate::cache::store::Watch;
use crate::person::change::Name;

/// What an erasure has let go of, and what is to be looked for afterwards.
#[derive(Debug)]
pub struct Erased {
    /// What it has let go of.
    pub removed: Removed,
    /// All names of the person.
    names: Vec<CacheKey>,
    /// The workspaces where one of the names is crowded, and everybody is to go.
    crowded: Vec<u32>,
    /// Of each store, since the first of what was erased was.
    watches: Vec<[Watch; 2]>,
}

impl Erased {
    /// Joins an erasure of the same person by other names.
    pub fn join(&mut self, other: Self) {
        self.removed += other.removed;
        self.names.extend(other.names);
        self.crowded.extend(other.crowded);
        self.watches.extend(other.watches);
    }
}

impl<F: Clone> Cache<F> {
    /// Lets go of everything that is known of a person in the workspaces of these numbers, by all
    /// names that the memory knows, and stores nothing of them for as long as `bar`. What one of
    /// the workspaces knows the person to be called, they are called in all.
    pub fn erase(&self, workspaces: &[u32], name: CacheKey, bar: Duration, now: Instant) -> Erased {
        self.erase_in_steps(workspaces, name, bar, now, || {})
    }

    /// Erases; `between` looking and removing others may store or change something.
    pub(super) fn erase_in_steps(
        &self,
        workspaces: &[u32],
        name: CacheKey,
        bar: Duration,
        now: Instant,
        mut between: impl FnMut(),
    ) -> Erased {
        let watches = [self.people.store().watch(), self.absences.watch()];
        let in_all = |name: CacheKey| {
            let numbers = workspaces.iter();
            numbers.map(move |number| name.in_workspace(*number))
        };
        let mut touched: Vec<CacheKey> = in_all(name).collect();
        let mut known: HashSet<CacheKey> = touched.iter().cloned().collect();
        let mut removed = Removed::default();
        // A write under way by another name may bring them back.
        for number in workspaces {
            self.changes.disturb(*number);
        }
        // Barred before the first look, so that what lands after it is not stored. What waits to be
        // stored goes with the bar, and tells names as well.
        let mut written = self.bar(&touched, &[], bar, now);
        // Each round finds what the names of the last round lead to, and what was stored before
        // they were barred. The last one finds nothing.
        loop {
            let found = self.all_called(&touched);
            between();
            removed.people += written.len();
            let claimed = found.iter().map(|found| &found.entry);
            let claimed = claimed.chain(written.iter().map(|written| &written.entry));
            let claims = claimed.flat_map(|entry| entry.claims().iter());
            let names = claims.map(|claim| CacheKey::from_bytes(claim.key()));
            // What the fetches of their other names collapse on.
            let flights = found.iter().filter_map(|found| self.people.key_of(found));
            touched.extend(
                names
                    .chain(flights)
                    .flat_map(in_all)
                    .filter(|name| known.insert(name.clone())),
            );
            let more = self.bar(&touched, &found, bar, now);
            removed += self.remove(&touched, &found);
            if found.is_empty() && written.is_empty() {
                break;
            }
            written = more;
        }
        (removed.fetches, removed.places) = self.cancel(&touched);
        let crowded = touched.iter().filter(|name| self.uncounted(name) > 0);
        let mut crowded: Vec<u32> = crowded.map(CacheKey::workspace).collect();
        crowded.sort_unstable();
        crowded.dedup();
        for number in &crowded {
            self.changes.note_everybody(*number, Hold::None);
        }
        Erased {
            removed,
            crowded,
            names: touched,
            watches: vec![watches],
        }
    }

    /// Has nothing stored for as long as `bar` of whoever is called so, and of those who were `found`.
    /// Hands out what waited to be stored of them.
    fn bar(
        &self,
        names: &[CacheKey],
        found: &[Found],
        bar: Duration,
        now: Instant,
    ) -> Vec<Arc<changes::Written>> {
        let names = self.names_of(names, found);
        let hold = Hold::Everything(now + bar);
        self.changes.note_and_take(&names, hold, now).1
    }

    /// Removes those whom an erasure could not find one by one. Takes as long as the store is large.
    pub fn sweep_erased(&self, erased: &mut Erased) {
        for number in std::mem::take(&mut erased.crowded) {
            erased.removed += self.sweep_number(number);
        }
        self.people.store().maintain();
    }

    /// Sees that not even the names of an erased person are left in the stores, and looks for
    /// anything else that is. Says whether nothing was found. Takes a moment where much is stored,
    /// and there may be one at a time.
    pub fn confirm_erased(&self, erased: Erased) -> bool {
        let Erased { names, watches, .. } = erased;
        let mut gone = true;
        for [people, absences] in watches {
            gone &= self.people.store().see_gone(people);
            gone &= self.absences.see_gone(absences);
        }
        gone && names.iter().all(|name| self.knows_nobody(name))
    }

    /// All names of whoever was erased, in the form that decisions about them are kept by.
    pub fn names_of_erased(&self, erased: &Erased) -> Vec<u64> {
        let names = erased.names.iter();
        names.map(|name| self.name(name.as_bytes())).collect()
    }

    /// What whoever was erased can be asked for by.
    pub fn called_erased(&self, erased: &Erased) -> Vec<Name> {
        let names = erased.names.iter().map(CacheKey::as_bytes);
        let mut known = HashSet::new();
        let names = names.filter_map(name_of);
        names.filter(|name| known.insert(name.clone())).collect()
    }

    /// Whether nothing is stored, or waits to be, of anybody who is called so.
    fn knows_nobody(&self, name: &CacheKey) -> bool {
        let key = name.as_bytes();
        let aliases = self.absences.aliases();
        self.people.all_called(key).is_empty()
            && self.uncounted(name) == 0
            && aliases.claimants(aliases.name(key)).found.is_empty()
            && self.absences.get(key).is_none()
            && self.absences.get(&folded(key)).is_none()
            && self.changes.written(self.name(key)).is_none()
    }

    /// Ends the fetches for whoever is called so. Nobody waits for them any longer.
    fn cancel(&self, names: &[CacheKey]) -> (usize, usize) {
        self.flights
            .cancel(|flight| names.iter().any(|name| name.is_of_the_same(flight)))
    }
}

/// What whoever has these claims can be asked for by.
pub fn names_of(claims: &Claims) -> Vec<Name> {
    let keys = claims.iter().map(|claim| claim.key());
    keys.filter_map(name_of).collect()
}
