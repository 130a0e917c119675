//! What has changed lately, so that nothing older is stored or served as the answer to a later
//! question.
//!
//! Whatever is stored goes at once when its person changes. Left are the fetches under way: they
//! may bring what was before. Changes are numbered, and a fetch remembers how many there had been
//! when it was sent. What it brings is stored only if none of the names that it turns out to have
//! has changed since, and given to a waiter only if that waiter asked before the change.
//!
//! This is the generation of a person, kept where it is needed: a number for each name that
//! changed while a fetch was under way that began before, and none for the millions that did not.
//!
//! # Invariants
//! - What is remembered of a name is kept while reads are held off from it, and then while any
//!   fetch lives, its answer included, that began before that was over.
//! - Judging an answer and storing it is one critical section with noting a change: whichever
//!   comes second sees the first.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::entry::Entry;
use super::key::Keys;

/// How long after a change nothing that is read is stored. Flameup does not promise that a read
/// sees the write before it; two seconds are what replicas of a database take on a bad day.
pub const HOLD_DOWN: Duration = Duration::from_secs(2);

/// Names remembered. At 120 writes a minute of 100 people with three names each, two seconds of
/// holding off take 1,200; beyond the bound everything stored counts as changed.
const MAX_NAMES: usize = 65_536;

/// The number of a change; the first is 1.
pub type Number = u64;

/// All changes, and the fetches that they may concern.
#[derive(Debug)]
pub struct Changes {
    last: AtomicU64,
    /// By workspace: the last change that concerned everybody in it.
    everybody: Box<[AtomicU64]>,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    names: HashMap<u64, Record, ahash::RandomState>,
    /// The fetches that live, counted from 0.
    fetches: BTreeSet<u64>,
    /// How many have begun.
    begun: u64,
    /// By workspace: its changes under way through the gateway.
    under_way: HashMap<u32, Overlap, ahash::RandomState>,
    /// By workspace: what was held off from everybody in it.
    everybody: HashMap<u32, Record, ahash::RandomState>,
}

/// The changes of one workspace that are under way through the gateway.
#[derive(Debug, Default)]
struct Overlap {
    count: u32,
    /// Whether two have been under way together since there was none, or somebody was let go of.
    together: bool,
}

/// What is remembered of a name.
#[derive(Debug, Default)]
struct Record {
    /// The last change.
    number: Number,
    /// Until when nothing that is read is stored.
    held_until: Option<Instant>,
    /// Until when nothing at all is stored: the person was erased.
    barred_until: Option<Instant>,
    /// Somebody called so was stored when the change came.
    was_stored: bool,
    /// What a write was answered with, to be stored once reads are held off no longer.
    written: Option<Arc<Written>>,
    /// How many fetches had begun when this was first found to concern no later one.
    concerns: Option<u64>,
}

/// A person as a write was answered with, not stored yet.
#[derive(Debug)]
pub struct Written {
    /// The person.
    pub entry: Arc<Entry>,
    /// Where to store it.
    pub keys: Keys,
    /// Under which names it waits.
    pub names: Box<[u64]>,
    /// The change that brought it.
    pub number: Number,
    /// When Flameup says that the person changed last.
    pub updated_at: Option<Timestamp>,
}

/// A fetch that lives: it was sent, and somebody may still use its answer.
#[derive(Debug)]
pub struct Started {
    changes: Arc<Changes>,
    /// Which of all fetches.
    count: u64,
    number: Number,
}

/// How a change holds off what is read after it.
#[derive(Clone, Copy, Debug)]
pub enum Hold {
    /// Not at all.
    None,
    /// Reads are not stored until then.
    Reads(Instant),
    /// The same, though more was foreseen.
    Exactly(Instant),
    /// Nothing is stored until then.
    Everything(Instant),
}

/// A change that is under way through the gateway.
#[derive(Debug)]
pub struct UnderWay {
    changes: Arc<Changes>,
    /// The numbers of the workspaces that it is one of.
    workspaces: SmallVec<[u32; 1]>,
}

impl UnderWay {
    /// Whether no other change of its workspaces was under way at any time since this one began, and
    /// nobody was let go of.
    /// Of two that overlap nobody knows which Flameup made last, so what either is answered with may
    /// be outdated.
    pub fn was_alone(&self) -> bool {
        self.changes.recent.lock().was_alone(self)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut recent = self.changes.recent.lock();
        for number in &self.workspaces {
            if let Slot::Occupied(mut all) = recent.under_way.entry(*number) {
                all.get_mut().count -= 1;
                if all.get().count == 0 {
                    all.remove();
                }
            }
        }
    }
}

impl Changes {
    /// Says that a change is about to be sent, one of the workspaces of these numbers.
    pub fn change_begins(self: &Arc<Self>, workspaces: impl Iterator<Item = u32>) -> UnderWay {
        let workspaces: SmallVec<[u32; 1]> = workspaces.collect();
        let mut recent = self.recent.lock();
        for number in &workspaces {
            let all = recent.under_way.entry(*number).or_default();
            all.together |= all.count > 0;
            all.count += 1;
        }
        UnderWay {
            changes: Arc::clone(self),
            workspaces,
        }
    }

    /// Says that what changes under way are answered with may be outdated, though nobody knows of
    /// them yet whom they change.
    pub fn disturb(&self, workspace: u32) {
        if let Some(all) = self.recent.lock().under_way.get_mut(&workspace) {
            all.together = true;
        }
    }

    /// No changes yet, in this many workspaces.
    pub fn new(workspaces: usize) -> Arc<Self> {
        Arc::new(Self {
            last: AtomicU64::new(0),
            everybody: (0..workspaces).map(|_| AtomicU64::new(0)).collect(),
            recent: Mutex::default(),
        })
    }

    /// The number of the last change.
    pub fn last(&self) -> Number {
        self.last.load(Ordering::Acquire)
    }

    /// Says that a fetch is about to be sent.
    pub fn fetch_begins(self: &Arc<Self>) -> Started {
        let mut recent = self.recent.lock();
        let count = recent.begun;
        recent.begun += 1;
        recent.fetches.insert(count);
        Started {
            changes: Arc::clone(self),
            count,
            number: self.last(),
        }
    }

    /// Notes a change of everyone called by one of `names`.
    pub fn note(&self, names: &[u64], hold: Hold, now: Instant) -> Number {
        self.note_and_take(names, hold, now).0
    }

    /// The same; hands out what waited to be stored of them, and is not any more.
    pub fn note_and_take(
        &self,
        names: &[u64],
        hold: Hold,
        now: Instant,
    ) -> (Number, Vec<Arc<Written>>) {
        let mut taken = Vec::new();
        let mut recent = self.recent.lock();
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        recent.forget(now);
        if recent.names.len() + names.len() > MAX_NAMES {
            recent
                .names
                .retain(|_, record| record.barred_until.is_some());
            for (workspace, everybody) in (0..).zip(&self.everybody) {
                everybody.store(number, Ordering::Release);
                let record = recent.everybody.entry(workspace).or_default();
                record.changed(number, Hold::Reads(now + HOLD_DOWN));
            }
        }
        for name in names {
            let record = recent.names.entry(*name).or_default();
            record.changed(number, hold);
            if let Some(written) = record.written.take() {
                recent.take(&written);
                taken.push(written);
            }
        }
        (number, taken)
    }

    /// Notes a change of everybody in a workspace.
    pub fn note_everybody(&self, workspace: u32, hold: Hold) {
        let mut recent = self.recent.lock();
        let number = self.last.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(everybody) = self.of(workspace) {
            everybody.store(number, Ordering::Release);
        }
        let record = recent.everybody.entry(workspace).or_default();
        record.changed(number, hold);
    }

    /// Does something while nothing else is noted or stored.
    pub fn alone<R>(&self, act: impl FnOnce() -> R) -> R {
        let _recent = self.recent.lock();
        act()
    }

    /// Whether what was sent for after change `number` is older than a change of everybody.
    pub fn outdates_everybody(&self, workspace: u32, number: Number) -> bool {
        self.of(workspace)
            .is_some_and(|everybody| everybody.load(Ordering::Acquire) > number)
    }

    /// Remembers that somebody was stored under `names`, all of which have just changed.
    pub fn were_stored(&self, names: &[u64]) {
        let mut recent = self.recent.lock();
        for name in names {
            if let Some(record) = recent.names.get_mut(name) {
                record.was_stored = true;
            }
        }
    }

    /// Whether somebody was stored under one of `names` when it changed.
    pub fn was_stored(&self, names: &[u64]) -> bool {
        let recent = self.recent.lock();
        let mut records = names.iter().filter_map(|name| recent.names.get(name));
        records.any(|record| record.was_stored)
    }

    /// Keeps what a write was answered with until reads are held off no longer; not at all if it was
    /// not alone, or the person was erased.
    pub fn keep_written(&self, written: Written, under_way: &UnderWay) {
        let written = Arc::new(written);
        let mut recent = self.recent.lock();
        if !recent.was_alone(under_way) {
            return;
        }
        // Also where the bar is over by now: the write was sent before the person was erased, or its
        // name would have been forgotten.
        let barred = |name| {
            recent
                .names
                .get(name)
                .is_some_and(|record| record.barred_until.is_some())
        };
        if written.names.iter().any(barred) {
            return;
        }
        for name in &written.names {
            if let Some(record) = recent.names.get_mut(name) {
                record.written = Some(Arc::clone(&written));
            }
        }
    }

    /// Does `store` with an answer that concerns `names`, if it may be stored. Says whether.
    pub fn publish(
        &self,
        answer: Asked<'_>,
        now: Instant,
        store: impl FnOnce() -> bool,
    ) -> Publication {
        let mut recent = self.recent.lock();
        if self.outdates_everybody(answer.workspace, answer.number) {
            return Publication::Outdated;
        }
        let mut held = recent.holds_everybody(answer.workspace, answer.asked_at);
        for name in answer.names {
            let Some(record) = recent.names.get(name) else {
                continue;
            };
            if record.number > answer.number || record.is_barred(now) {
                return Publication::Outdated;
            }
            held |= record.holds(answer.asked_at);
        }
        if !held {
            return if store() {
                Publication::Stored
            } else {
                Publication::Older
            };
        }
        recent.supersede(&answer);
        Publication::Held
    }

    /// Does `store` with something that is stored already, unless those who are called `names` have
    /// changed after change `number`. Says whether it did.
    pub fn renew(
        &self,
        workspace: u32,
        number: Number,
        names: &[u64],
        store: impl FnOnce() -> bool,
    ) -> bool {
        let recent = self.recent.lock();
        let changed = |name: &u64| recent.number_of(*name) > number;
        !self.outdates_everybody(workspace, number) && !names.iter().any(changed) && store()
    }

    /// What was written to whoever is called `name` and is not stored yet.
    pub fn written(&self, name: u64) -> Option<Arc<Written>> {
        let recent = self.recent.lock();
        recent.names.get(&name)?.written.clone()
    }

    /// What was written to whoever is called `name`, once it may be stored. It is given out once.
    pub fn due(&self, name: u64, now: Instant) -> Option<Arc<Written>> {
        let mut recent = self.recent.lock();
        let record = recent.names.get(&name)?;
        let written = record.written.clone().filter(|_| !record.holds(now))?;
        recent.take(&written);
        Some(written)
    }

    /// All that was written and may be stored by now. Forgets what concerns nobody any more.
    pub fn all_due(&self, now: Instant) -> Vec<Arc<Written>> {
        let mut recent = self.recent.lock();
        let mut due: Vec<Arc<Written>> = Vec::new();
        for record in recent.names.values().filter(|record| !record.holds(now)) {
            if let Some(written) = &record.written
                // It waits under each of its names.
                && !due.iter().any(|other| Arc::ptr_eq(other, written))
            {
                due.push(Arc::clone(written));
            }
        }
        for written in &due {
            recent.take(written);
        }
        recent.forget(now);
        due
    }

    /// Whether a change came after the fetch was sent, and possibly before a waiter asked. It is
    /// better to ask once more than to show what was before.
    pub fn came_between(&self, answer: &Asked<'_>, waiter: Number) -> bool {
        if waiter <= answer.number {
            return false;
        }
        if self.outdates_everybody(answer.workspace, answer.number) {
            return true;
        }
        let recent = self.recent.lock();
        let changed = |name: &u64| recent.number_of(*name) > answer.number;
        answer.names.iter().any(changed)
    }

    /// Whether nothing may be stored of whoever is called `name`.
    pub fn is_barred(&self, name: u64, now: Instant) -> bool {
        self.recent.lock().bars(name, now)
    }

    /// Until when reads of whoever is called `name` are not stored, and the number of the change.
    pub fn of_name(&self, name: u64, now: Instant) -> Option<(Number, Option<Instant>)> {
        let recent = self.recent.lock();
        let record = recent.names.get(&name)?;
        let until = record.held_until.max(record.barred_until);
        Some((record.number, until.filter(|until| now < *until)))
    }

    fn of(&self, workspace: u32) -> Option<&AtomicU64> {
        self.everybody.get(usize::try_from(workspace).ok()?)
    }
}

/// What is to be judged of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The number of its workspace.
    pub workspace: u32,
    /// The last change before it was asked for.
    pub number: Number,
    /// When it was asked for.
    pub asked_at: Instant,
    /// The names that it concerns.
    pub names: &'a [u64],
    /// When Flameup says that the person changed last.
    pub updated_at: Option<Timestamp>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// It is stored.
    Stored,
    /// Something newer is.
    Older,
    /// Its person has changed since it was asked for, or was erased.
    Outdated,
    /// Its person changed just before it was asked for, and it may show what was before.
    Held,
}

impl Recent {
    /// Whether a change has been the only one of its workspaces since it began.
    fn was_alone(&self, change: &UnderWay) -> bool {
        let together = |number| self.under_way.get(number).is_some_and(|all| all.together);
        !change.workspaces.iter().any(together)
    }

    /// The last change of a name that is still in mind; 0 for none.
    fn number_of(&self, name: u64) -> Number {
        self.names.get(&name).map_or(0, |record| record.number)
    }

    fn bars(&self, name: u64, now: Instant) -> bool {
        let record = self.names.get(&name);
        record.is_some_and(|record| record.is_barred(now))
    }

    fn holds_everybody(&self, workspace: u32, moment: Instant) -> bool {
        let record = self.everybody.get(&workspace);
        record.is_some_and(|record| record.holds(moment))
    }

    /// Forgets the names that no fetch and nobody else needs.
    fn forget(&mut self, now: Instant) {
        let oldest = self.fetches.first().copied();
        let concerns_any = |record: &mut Record| {
            if record.is_active(now) {
                return true;
            }
            let begun_before = *record.concerns.get_or_insert(self.begun);
            oldest.is_some_and(|oldest| oldest < begun_before)
        };
        self.names.retain(|_, record| concerns_any(record));
        self.everybody.retain(|_, record| concerns_any(record));
    }

    /// What was written to these people is no longer the last that is known of them, unless
    /// Flameup says that what was read is older still. They will be asked for again.
    fn supersede(&mut self, answer: &Asked<'_>) {
        for name in answer.names {
            let written = self
                .names
                .get(name)
                .and_then(|record| record.written.clone());
            if let Some(written) = written
                && !written.is_at_least_as_new_as(answer.updated_at)
            {
                self.take(&written);
            }
        }
    }

    fn take(&mut self, written: &Arc<Written>) {
        for name in &written.names {
            if let Some(record) = self.names.get_mut(name) {
                record.written.take_if(|other| Arc::ptr_eq(other, written));
            }
        }
    }
}

impl Written {
    fn is_at_least_as_new_as(&self, read: Option<Timestamp>) -> bool {
        matches!((self.updated_at, read), (Some(own), Some(read)) if read <= own)
    }
}

impl Record {
    fn changed(&mut self, number: Number, hold: Hold) {
        self.number = number;
        self.concerns = None;
        match hold {
            Hold::None => {}
            Hold::Reads(until) => self.held_until = self.held_until.max(Some(until)),
            Hold::Exactly(until) => self.held_until = Some(until),
            Hold::Everything(until) => self.barred_until = self.barred_until.max(Some(until)),
        }
    }

    fn holds(&self, moment: Instant) -> bool {
        self.held_until.is_some_and(|until| moment < until)
    }

    fn is_barred(&self, now: Instant) -> bool {
        self.barred_until.is_some_and(|until| now < until)
    }

    fn is_active(&self, now: Instant) -> bool {
        self.holds(now) || self.is_barred(now) || self.written.is_some()
    }
}

impl Started {
    /// The last change before the fetch was sent.
    pub fn number(&self) -> Number {
        self.number
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.changes.recent.lock().fetches.remove(&self.count);
    }
}

#[cfg(test)]
mod tests;
