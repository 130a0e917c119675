//! What a change or a purge does to what is stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;

pub mod erase;
pub mod harvest;

use super::Cache;
use super::changes::{self, Asked, HOLD_DOWN, Hold, Number, UnderWay};
use super::claims::ClaimsBuf;
use super::entry::Entry;
use super::key::{CacheKey, Keys, Place, name_of};
use super::people::Found;
use super::store::Store;
use crate::person::body::{self, Identity};
use crate::person::change::{Name, Touched};
use crate::upstream::Response;
use crate::workspace::Workspace;

/// One whole Person, as Flameup sent it in an answer that was not the read of one person.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Its bytes.
    pub body: Bytes,
    /// When the answer was asked for.
    pub asked_at: Instant,
    /// The last change before that.
    pub number: Number,
}

/// How a change ended.
#[derive(Debug)]
pub struct End<'a> {
    /// Who was meant.
    pub meant: Meant,
    /// The whole people that Flameup answered with.
    pub written: Vec<Passing>,
    /// The change itself.
    pub under_way: &'a UnderWay,
}

/// Who is meant by the names of a change, where one is that of a crowd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// Those whom another of the names leads to: Flameup has said who it was, or did nothing.
    Named,
    /// Whoever is called so.
    Called,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Stored people.
    pub people: usize,
    /// Names of theirs that led to them.
    pub names: usize,
    /// Stored absences.
    pub absences: usize,
    /// Fetches under way.
    pub fetches: usize,
    /// Fetches that waited for their turn.
    pub places: usize,
    /// Nobody in the workspace is served any more who was stored before, and a
    /// [`sweep`](Cache::sweep) is due.
    pub everybody: bool,
}

impl<F: Clone> Cache<F> {
    /// Begins a change: from now on nothing is stored that was asked for earlier, and nobody who
    /// asks later is given it.
    ///
    /// One that may touch everyone takes effect at its end alone. Until then it may turn out that
    /// Flameup refuses it, and then nobody's memory is lost to a body that cannot be read.
    pub fn begin_change(&self, workspace: &Workspace, touched: &Touched, now: Instant) {
        if *touched != Touched::Everyone {
            let hold = Hold::Reads(now + HOLD_DOWN);
            self.change_in_steps(workspace, touched, hold, now, || {});
        }
    }

    /// Ends a change, however it ended. What it was answered with is stored once reads are held off no
    /// longer, if no other change was under way beside it.
    ///
    /// Says whether it was one of everybody, so that a [`sweep`](Self::sweep) is due: also where a
    /// name is that of too many to be found, and nobody knows which of them were meant.
    ///
    /// Flameup promises no read after write. What is read within [`HOLD_DOWN`] goes to whoever
    /// asked, and is not stored.
    pub fn end_change(
        &self,
        workspace: &Workspace,
        touched: &Touched,
        end: End<'_>,
        now: Instant,
    ) -> bool {
        let hold = Hold::Reads(now + HOLD_DOWN);
        let everybody = match end.meant {
            Meant::Named => {
                self.change_in_steps(workspace, touched, hold, now, || {});
                *touched == Touched::Everyone
            }
            Meant::Called => self.change(workspace, touched, hold, now).everybody,
        };
        // Who changes one person is about to look at them. Of many, only those are kept that
        // somebody has asked for.
        let one = end.written.len() == 1;
        if one || self.settings.harvest {
            for person in end.written {
                self.keep_written(workspace, &person, one, end.under_way, now);
            }
        }
        everybody
    }

    /// Lets go of whoever another gateway is about to change, and holds reads of them off. One that may
    /// touch everyone takes effect at its end.
    pub fn hold(&self, workspace: &Workspace, touched: &Touched, hold: Hold, now: Instant) {
        if *touched != Touched::Everyone {
            self.change_in_steps(workspace, touched, hold, now, || {});
        }
    }

    /// Lets go of whoever another gateway has changed. Says whether a [`sweep`](Self::sweep) is due.
    pub fn changed_elsewhere(
        &self,
        workspace: &Workspace,
        touched: &Touched,
        hold: Hold,
        now: Instant,
    ) -> bool {
        self.change(workspace, touched, hold, now).everybody
    }

    /// Says that what changes under way are answered with may be outdated.
    pub fn disturb(&self, workspace: &Workspace) {
        self.changes.disturb(workspace.number());
    }

    /// Whoever is `touched`, and the UUIDs that any of these workspaces knows them by. Where they
    /// are one workspace at Flameup, each may know some of their names, and finds the others by UUID.
    pub fn known_in(&self, workspaces: &[&Arc<Workspace>], touched: &Touched) -> Touched {
        let Touched::People(names) = touched else {
            return Touched::Everyone;
        };
        let called = |workspace: &&Arc<Workspace>| self.called(workspace, names);
        let found: Vec<Found> = workspaces.iter().flat_map(called).collect();
        let who = found.iter().filter_map(|found| found.entry.claims().who());
        let uuids = who.filter_map(name_of).collect();
        touched.clone().and(Touched::People(uuids))
    }

    /// Lets go of whoever is `touched`, stored or absent. Reads of them are not held off.
    ///
    /// Of everybody nothing is served from now on; what is stored of them goes with a
    /// [`sweep`](Self::sweep), which says how much it was.
    pub fn purge(&self, workspace: &Workspace, touched: &Touched, now: Instant) -> Removed {
        // A write under way by another name of theirs may bring what was before.
        self.changes.disturb(workspace.number());
        self.change(workspace, touched, Hold::None, now)
    }

    /// Removes what changes of everybody have outdated. None of it is served any more, so this is
    /// for room alone, and takes as long as the store is large: not on a thread that answers.
    pub fn sweep(&self, workspace: &Workspace) -> Removed {
        self.sweep_number(workspace.number())
    }

    fn sweep_number(&self, workspace: u32) -> Removed {
        let mut removed = Removed::default();
        for (store, count) in [
            (self.people.store(), &mut removed.people),
            (&self.absences, &mut removed.absences),
        ] {
            for place in store.places_of(workspace) {
                *count += usize::from(self.remove_outdated(store, place));
            }
        }
        removed
    }

    /// Marks whoever is `touched` as past their lifetime, so that they are asked for again; they
    /// may still be served stale. Absences, which are never served stale, go. Says how many people.
    pub fn expire(&self, workspace: &Workspace, touched: &Touched, now: Instant) -> usize {
        self.remove_absences_of(workspace, touched);
        self.changes.disturb(workspace.number());
        let found = match touched {
            Touched::People(names) if !self.is_crowded(workspace, touched) => {
                let found = self.called(workspace, names);
                // What is under way for them was asked for earlier, and is not stored as fresh.
                let keys: Vec<_> = names
                    .iter()
                    .map(|name| workspace.key_of_name(name))
                    .collect();
                self.changes
                    .note(&self.names_of(&keys, &found), Hold::None, now);
                found
            }
            Touched::People(_) | Touched::Everyone => self.everybody(workspace),
        };
        found
            .iter()
            .filter(|found| self.expire_one(found, now))
            .count()
    }
}

impl<F: Clone> Cache<F> {
    fn change(
        &self,
        workspace: &Workspace,
        touched: &Touched,
        hold: Hold,
        now: Instant,
    ) -> Removed {
        let mut removed = self.change_in_steps(workspace, touched, hold, now, || {});
        removed.everybody = *touched == Touched::Everyone;
        if self.is_crowded(workspace, touched) {
            // Of those who are called so, some were not found.
            self.changes.note_everybody(workspace.number(), hold);
            removed.everybody = true;
        }
        removed
    }

    /// Whether one of the names is that of more people than can be found by it.
    fn is_crowded(&self, workspace: &Workspace, touched: &Touched) -> bool {
        let Touched::People(names) = touched else {
            return false;
        };
        let mut keys = names.iter().map(|name| workspace.key_of_name(name));
        keys.any(|key| self.uncounted(&key) > 0)
    }

    fn uncounted(&self, name: &CacheKey) -> usize {
        self.people.uncounted(name.as_bytes())
    }

    /// Does what a change does; `between` any two of its critical sections others may do theirs.
    pub(super) fn change_in_steps(
        &self,
        workspace: &Workspace,
        touched: &Touched,
        hold: Hold,
        now: Instant,
        mut between: impl FnMut(),
    ) -> Removed {
        let Touched::People(names) = touched else {
            self.changes.note_everybody(workspace.number(), hold);
            return Removed::default();
        };
        // Keeps the note in mind until all is removed, for whoever renews what is stored.
        let _remembered = self.changes.fetch_begins();
        let keys: Vec<_> = names
            .iter()
            .map(|name| workspace.key_of_name(name))
            .collect();
        let found = self.all_called(&keys);
        let names = self.names_of(&keys, &found);
        between();
        // First the note: what is stored after it was asked for later.
        self.changes.note(&names, hold, now);
        // Not all who are touched: of a batch, some may be stored and some not.
        self.changes.were_stored(&self.names_of(&[], &found));
        between();
        let removed = self.remove(&keys, &found);
        between();
        // What was stored between looking and noting is found now, and is the last.
        removed + self.remove(&keys, &self.all_called(&keys))
    }

    /// Removes what is stored at a place, unless it was asked for after the last change of
    /// everybody: whoever is stored anew meanwhile stays.
    fn remove_outdated(&self, store: &Store, place: Place) -> bool {
        self.changes.alone(|| {
            let stored = store.get_at(place);
            let outdated = stored.is_some_and(|entry| self.is_outdated_with_all(&entry));
            outdated && store.remove_at(place).is_some()
        })
    }

    fn called(&self, workspace: &Workspace, names: &[Name]) -> Vec<Found> {
        let keys: Vec<_> = names
            .iter()
            .map(|name| workspace.key_of_name(name))
            .collect();
        self.all_called(&keys)
    }

    fn all_called(&self, keys: &[CacheKey]) -> Vec<Found> {
        let called = |key: &CacheKey| self.people.all_called(key.as_bytes());
        keys.iter().flat_map(called).collect()
    }

    fn everybody(&self, workspace: &Workspace) -> Vec<Found> {
        let store = self.people.store();
        let found = |place: Place| {
            let entry = store.get_at(place)?;
            Some(Found { place, entry })
        };
        store
            .places_of(workspace.number())
            .filter_map(found)
            .collect()
    }

    /// Stores an entry anew, stale, unless it has changed or been replaced meanwhile.
    fn expire_one(&self, found: &Found, now: Instant) -> bool {
        let Found { place, entry } = found;
        let store = self.people.store();
        self.changes.alone(|| {
            let stays = store
                .get_at(*place)
                .is_some_and(|stored| Arc::ptr_eq(&stored, entry));
            if stays {
                store.insert_at(*place, Arc::new(entry.expired(now)));
            }
            stays
        })
    }

    /// All names of those who are meant, as far as the memory knows them.
    fn names_of(&self, keys: &[CacheKey], found: &[Found]) -> SmallVec<[u64; 8]> {
        let given = keys.iter().map(|key| self.name(key.as_bytes()));
        let claimed = found.iter().flat_map(|found| {
            let claims = found.entry.claims().iter();
            claims.map(|claim| self.name(claim.key()))
        });
        let mut names: SmallVec<[u64; 8]> = given.chain(claimed).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn remove(&self, keys: &[CacheKey], found: &[Found]) -> Removed {
        let mut removed = Removed::default();
        for found in found {
            if self.people.store().remove_at(found.place).is_some() {
                removed.people += 1;
                removed.names += found.entry.claims().iter().count();
            }
            for claim in found.entry.claims().iter() {
                removed.absences += self.remove_absences(claim.key());
            }
        }
        for key in keys {
            removed.absences += self.remove_absences(key.as_bytes());
        }
        removed
    }

    /// Removes the absences of a name in whatever spelling.
    fn remove_absences(&self, key: &[u8]) -> usize {
        let aliases = self.absences.aliases();
        let others = aliases.claimants(aliases.name(key));
        let removed = |place| usize::from(self.absences.remove_at(place).is_some());
        let pointed_at: usize = others.found.iter().map(|one| removed(one.place())).sum();
        let folded = super::key::folded(key);
        pointed_at + removed(self.absences.place(key)) + removed(self.absences.place(&folded))
    }

    fn remove_absences_of(&self, workspace: &Workspace, touched: &Touched) {
        match touched {
            Touched::People(names) => {
                for name in names {
                    self.remove_absences(workspace.key_of_name(name).as_bytes());
                }
            }
            Touched::Everyone => {
                for place in self.absences.places_of(workspace.number()) {
                    self.absences.remove_at(place);
                }
            }
        }
    }

    /// Keeps a person that a write was answered with, to be stored when reads are held off no
    /// longer.
    fn keep_written(
        &self,
        workspace: &Workspace,
        person: &Passing,
        unasked: bool,
        under_way: &UnderWay,
        now: Instant,
    ) {
        let Some((identity, claims)) = read(workspace, &person.body) else {
            return;
        };
        let claims = claims.claims();
        let Some(keys) = claims.who().map(Keys::stored_under) else {
            return;
        };
        let updated_at = identity.updated_at();
        let names: Box<[u64]> = claims.iter().map(|claim| self.name(claim.key())).collect();
        // Names that only the answer tells have changed as well.
        let number = self.changes.note(&names, Hold::Reads(now + HOLD_DOWN), now);
        for found in claims
            .iter()
            .flat_map(|claim| self.people.all_called(claim.key()))
        {
            self.people.store().remove_at(found.place);
        }
        for claim in claims.iter() {
            self.remove_absences(claim.key());
        }
        let wanted = unasked || self.changes.was_stored(&names);
        if !wanted || self.shape(workspace) != Some(shape_of(&person.body)) {
            return;
        }
        // Its age counts from now on: it was true when Flameup had written it.
        let entry = self.entry_of(&person.body, None, &keys, now);
        let entry = entry.claiming(claims).asked_after(number);
        let written = changes::Written {
            entry: Arc::new(entry),
            keys,
            names,
            number,
            updated_at,
        };
        self.changes.keep_written(written, under_way);
    }

    /// Stores what a write was answered with, unless something has happened since.
    pub(super) fn store_written(&self, written: &changes::Written, now: Instant) {
        let answer = Asked {
            workspace: written.keys.person().workspace(),
            number: written.number,
            // Reads have been held off until now, and this is no read.
            asked_at: now,
            names: &written.names,
            updated_at: written.updated_at,
        };
        self.changes.publish(answer, now, || {
            self.put_person(&written.keys, &written.entry)
        });
    }

    /// The shape of the last read of one person; `None` before the first.
    fn shape(&self, workspace: &Workspace) -> Option<u64> {
        let shape = self.shapes.get(usize::try_from(workspace.number()).ok()?)?;
        Some(shape.load(Ordering::Relaxed)).filter(|shape| *shape != 0)
    }

    /// Remembers the shape of a read of one person.
    pub(super) fn note_shape(&self, landed: &super::Landed) {
        let number = landed.asked.person().workspace();
        let shape = usize::try_from(number)
            .ok()
            .and_then(|number| self.shapes.get(number));
        if let Some(shape) = shape {
            shape.store(landed.shape, Ordering::Relaxed);
        }
    }

    /// An entry of a Person's own bytes, with the headers of the answer that is `held`.
    fn entry_of(
        &self,
        body: &Bytes,
        held: Option<&Entry>,
        keys: &Keys,
        asked_at: Instant,
    ) -> Entry {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(held) = held {
            let content_type = held
                .headers()
                .iter()
                .find(|(name, _)| *name == CONTENT_TYPE);
            if let Some((name, value)) = content_type {
                headers.insert(name, value.clone());
            }
        }
        let response = Response {
            status: StatusCode::OK,
            headers,
            // The bytes around it are let go of.
            body: Bytes::copy_from_slice(body),
            requested_at: asked_at,
        };
        Entry::new(&response, self.lifetime_of_person(keys.person(), asked_at))
    }
}

impl std::ops::Add for Removed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            people: self.people + other.people,
            names: self.names + other.names,
            absences: self.absences + other.absences,
            fetches: self.fetches + other.fetches,
            places: self.places + other.places,
            everybody: self.everybody || other.everybody,
        }
    }
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Reads who a Person is, if it is one of this workspace.
fn read<'a>(workspace: &Workspace, body: &'a [u8]) -> Option<(Identity<'a>, ClaimsBuf)> {
    let identity = Identity::read(body).ok()?;
    identity.uuid()?;
    if identity
        .workspace_id()
        .is_some_and(|id| !workspace.recognises(id))
    {
        return None;
    }
    let claims = workspace.claims(&identity);
    Some((identity, claims))
}

/// Which fields a Person has, as a number that is not zero. What a write is answered with is
/// stored as the answer to a read only if it has the fields of one.
pub(super) fn shape_of(body: &[u8]) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(body::fields(body)) | 1
}

#[cfg(test)]
mod tests;
