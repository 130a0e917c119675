//! The cache: step 4 of the request path.
//!
//! [`Cache::lookup`] says what is stored and what it may be used for; [`Cache::join`] makes one
//! fetch of many; [`Cache::fulfil`] stores what a fetch brought and wakes those who wait for it.
//!
//! # Specification
//! RFC 9111, with these choices of ours: answers to requests with `Authorization` are stored (§3.5)
//! because the cache key holds the workspace, which one Flameup key decides; nothing is stored but
//! a whole Person that answers the lookup, and a 404 (§4, negative caching).
//!
//! # Invariants
//! - People and absences are stored apart, so that a flood of 404s cannot push people out.
//! - A person is found under the normal form of the lookup, an absence under its exact spelling.
//! - Storing needs the [`Obligation`] of the fetch that brought the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use jiff::Timestamp;
use smallvec::SmallVec;

pub mod alias;
pub mod change;
pub mod changes;
pub mod claims;
pub mod collapse;
pub mod control;
pub mod entry;
#[cfg(test)]
pub(crate) mod fixture;
pub mod freshness;
#[cfg(test)]
mod interleavings;
pub mod key;
pub mod people;
pub mod status;
pub mod storable;
pub mod store;
pub mod view;

use changes::{Asked, Changes, Number, Publication, Started, UnderWay};
use collapse::{Asker, Collapse, Joined, Obligation, TooManyWaiters};
use control::RequestDirectives;
use entry::{Entry, Lifetime};
use freshness::{StaleWindows, Verdict};
use key::{CacheKey, Keys};
use people::People;
use status::Reason;
use store::Store;

use crate::person::body::Identity;

/// Share of the memory that absences may take: the hundredth parts of `max_bytes`.
const ABSENCES_PERCENT: u64 = 5;

/// How the cache is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that people and absences may take together.
    pub max_bytes: u64,
    /// Whether people are found under names that they were not asked by.
    pub aliases: bool,
    /// How long a person is fresh.
    pub ttl: Duration,
    /// Largest share of a lifetime that is taken off at random, so that entries stored together do
    /// not expire together.
    pub ttl_jitter: f64,
    /// How long past its lifetime a person may be served.
    pub windows: StaleWindows,
    /// How long an absence is believed; zero for not at all.
    pub negative_ttl: Duration,
    /// After what time a fetch counts as stalled and is replaced once.
    pub stall_after: Duration,
    /// Whether Persons that pass by in lists and searches are taken note of.
    pub harvest: bool,
    /// Whether an event or a new device changes its person.
    pub events_invalidate: bool,
}

/// What is stored for a lookup, and what it may be used for.
#[derive(Debug)]
pub enum Lookup {
    /// Serve it: a person, or a 404.
    Fresh(Arc<Entry>),
    /// Serve it, and see that one refresh runs.
    Stale(Arc<Entry>),
    /// Ask Flameup first.
    Forward {
        /// Why what is stored does not do.
        reason: Reason,
        /// What was stored, for its validator.
        stored: Option<Arc<Entry>>,
        /// What was stored may be served after all, should asking fail.
        stale_if_error: bool,
    },
}

impl Lookup {
    /// Nothing stored.
    pub const NOTHING: Self = Self::Forward {
        reason: Reason::UriMiss,
        stored: None,
        stale_if_error: false,
    };

    /// Not looked for: such requests never use what is stored.
    pub const BYPASS: Self = Self::Forward {
        reason: Reason::Bypass,
        stored: None,
        stale_if_error: false,
    };
}

/// What a fetch brought, for those who wait for it.
///
/// `F` is why a fetch failed, which is the gateway's to say.
pub type Landing<F> = Result<Arc<Landed>, F>;

/// An answer of Flameup's, and what it may be stored as.
#[derive(Debug)]
pub struct Landed {
    /// The answer.
    pub entry: Arc<Entry>,
    /// What Flameup's own status was; differs from the entry's after a 304.
    pub fwd_status: StatusCode,
    /// What it may be stored as.
    pub storing: Storing,
    /// What Flameup was asked for.
    pub asked: Keys,
    /// Keeps the changes in mind that came after it was asked for. `None` for what was stored
    /// already when it was to be asked for.
    started: Option<Started>,
    /// The names that it concerns.
    names: SmallVec<[u64; 4]>,
    /// When Flameup says that the person changed last.
    updated_at: Option<Timestamp>,
    /// Which fields the person has; zero for what is no person.
    shape: u64,
    stored: AtomicBool,
    /// It is no answer of Flameup's just given, but another gateway's.
    shared: bool,
}

impl Landed {
    /// The same, as another gateway got it some time ago.
    #[must_use]
    pub fn shared(self) -> Self {
        Self {
            shared: true,
            ..self
        }
    }

    /// Whether another gateway got it, some time ago.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether it is stored by the time that those who wait for it hear of it.
    pub fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }

    fn to_judge(&self) -> Asked<'_> {
        Asked {
            workspace: self.asked.person().workspace(),
            number: self.entry.number(),
            asked_at: self.entry.freshness().asked_at(),
            names: &self.names,
            updated_at: self.updated_at,
        }
    }
}

/// What an answer may be stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// A person.
    Person,
    /// A 404. Whoever was stored under this spelling is gone.
    Absence {
        /// Whether the 404 itself is kept.
        kept: bool,
    },
    /// Nothing: it goes to those who wait and is forgotten.
    Nowhere,
}

/// What is remembered of people, and the fetches under way for them.
#[derive(Debug)]
pub struct Cache<F> {
    people: People,
    absences: Store,
    changes: Arc<Changes>,
    flights: Arc<Collapse<Landing<F>>>,
    /// By workspace: which fields the last person had that was read; zero before the first.
    shapes: Box<[AtomicU64]>,
    settings: Settings,
    jitter: ahash::RandomState,
}

impl<F: Clone> Cache<F> {
    /// An empty cache for this many workspaces.
    pub fn new(settings: Settings, workspaces: usize) -> Self {
        let absences_bytes = settings.max_bytes / 100 * ABSENCES_PERCENT;
        let retention = settings.ttl + settings.windows.longest();
        Self {
            people: People::new(
                Store::new(settings.max_bytes - absences_bytes, retention),
                settings.aliases,
            ),
            changes: Changes::new(workspaces),
            absences: Store::new(absences_bytes, settings.negative_ttl),
            flights: Collapse::new(settings.stall_after),
            shapes: (0..workspaces).map(|_| AtomicU64::new(0)).collect(),
            settings,
            jitter: ahash::RandomState::new(),
        }
    }

    /// Looks up what is stored under `keys`.
    ///
    /// A fresh person is served before anything else. Next comes an absence of exactly this
    /// spelling, if Flameup was asked later than for the person that is stored.
    ///
    /// Where nobody is found, what a write was answered with is stored first, if it is due.
    pub fn lookup(&self, keys: &Keys, directives: &RequestDirectives, now: Instant) -> Lookup {
        let windows = &self.settings.windows;
        let person = self.person(keys, now);
        let verdict = person
            .as_ref()
            .map(|entry| entry.freshness().judge(directives, windows, now));
        let person = match (person, verdict) {
            (Some(entry), Some(Verdict::Serve)) => return Lookup::Fresh(entry),
            (person, _) => person,
        };
        let absence = self.absence(keys, person.as_deref(), now);
        match (absence, person, verdict) {
            (Some(absence), _, _) if absence.freshness().satisfies(directives, now) => {
                Lookup::Fresh(absence)
            }
            (Some(_), _, _) => Lookup::Forward {
                reason: Reason::Request,
                stored: None,
                stale_if_error: false,
            },
            (None, Some(entry), Some(Verdict::ServeAndRevalidate)) => Lookup::Stale(entry),
            (
                None,
                stored,
                Some(Verdict::Forward {
                    stale,
                    stale_if_error,
                }),
            ) => Lookup::Forward {
                reason: if stale {
                    Reason::Stale
                } else {
                    Reason::Request
                },
                stored,
                stale_if_error,
            },
            (None, _, _) => Lookup::NOTHING,
        }
    }

    /// Whether `entry` may still stand in, as of `now`, for an answer that did not come.
    pub fn covers(&self, entry: &Entry, directives: &RequestDirectives, now: Instant) -> bool {
        let windows = &self.settings.windows;
        matches!(
            entry.freshness().judge(directives, windows, now),
            Verdict::Forward {
                stale_if_error: true,
                ..
            }
        )
    }

    /// Whether the person is in memory, however old.
    pub fn knows(&self, keys: &Keys) -> bool {
        self.people.find(keys).is_some()
    }

    /// What requests for this person collapse on: the same for all names of a person who is in
    /// memory.
    pub fn flight(&self, keys: &Keys) -> CacheKey {
        self.stored_under(keys)
            .unwrap_or_else(|| keys.person().clone())
    }

    /// The key that the person of a lookup is stored under, if that is another than the lookup's.
    fn stored_under(&self, keys: &Keys) -> Option<CacheKey> {
        let found = self.people.found_elsewhere(keys)?;
        let key = self.people.key_of(&found)?;
        let stays = !self.is_outdated_with_all(&found.entry);
        stays.then_some(key)
    }

    /// Whether what is stored is older than a change of everybody: it is served to nobody, and a
    /// sweep will remove it.
    fn is_outdated_with_all(&self, entry: &Entry) -> bool {
        self.changes
            .outdates_everybody(entry.workspace(), entry.number())
    }

    /// The number of the last change. What landed after this is judged against it.
    pub fn last_change(&self) -> Number {
        self.changes.last()
    }

    /// Says that a change is about to be sent, one of the workspaces of these numbers.
    pub fn change_begins(&self, workspaces: impl Iterator<Item = u32>) -> UnderWay {
        self.changes.change_begins(workspaces)
    }

    /// Says that a fetch is about to be sent.
    pub fn fetch_begins(&self) -> Started {
        self.changes.fetch_begins()
    }

    /// Whether what landed answers a lookup with these `keys` too.
    ///
    /// A person answers whoever means them, unless somebody else is called so as well. A 404 says
    /// nothing of another spelling, and neither does an error that may lie in how it was asked; a
    /// failure of Flameup's is everyone's.
    pub fn answers(&self, landed: &Landed, keys: &Keys) -> bool {
        if landed.asked.spelled() == keys.spelled() || landed.fwd_status.is_server_error() {
            return true;
        }
        self.is_meant(&landed.entry, keys)
    }

    /// Whether `entry` is the person whom a lookup with these `keys` means, though Flameup was
    /// asked by another name.
    pub fn is_meant(&self, entry: &Entry, keys: &Keys) -> bool {
        entry.status() == StatusCode::OK
            && entry.claims().answer(keys)
            && !self.people.is_claimed_by_others(keys, entry)
    }

    /// Whether what landed may show what was before a change that came before `waiter` asked.
    ///
    /// What was not fetched, but found to be stored already, is outdated once it is stored no
    /// longer: whoever joined since then asked after the change that removed it.
    pub fn is_outdated(&self, landed: &Landed, waiter: Number) -> bool {
        if landed.started.is_none() {
            return !self.still_stores(landed);
        }
        self.changes.came_between(&landed.to_judge(), waiter)
    }

    fn still_stores(&self, landed: &Landed) -> bool {
        if self.is_outdated_with_all(&landed.entry) {
            return false;
        }
        let is_it = |stored: Arc<Entry>| Arc::ptr_eq(&stored, &landed.entry);
        self.people.find(&landed.asked).is_some_and(is_it)
            || self
                .absences
                .get(landed.asked.spelled().as_bytes())
                .is_some_and(is_it)
    }

    /// What a fetch brought, ready to land.
    pub fn landed(
        &self,
        entry: Entry,
        fwd_status: StatusCode,
        storing: Storing,
        asked: Keys,
        started: Started,
    ) -> Landed {
        let entry = entry.asked_after(started.number());
        let mut names = SmallVec::new();
        names.push(self.name(asked.person().as_bytes()));
        names.extend(entry.claims().iter().map(|claim| self.name(claim.key())));
        let person = || Identity::read(entry.body()).ok()?.updated_at();
        let shape = match storing {
            Storing::Person => change::shape_of(entry.body()),
            Storing::Absence { .. } | Storing::Nowhere => 0,
        };
        Landed {
            shape,
            updated_at: (storing == Storing::Person).then(person).flatten(),
            entry: Arc::new(entry),
            fwd_status,
            storing,
            asked,
            started: Some(started),
            names,
            stored: AtomicBool::new(false),
            shared: false,
        }
    }

    /// What another fetch had stored just before this one was to begin.
    pub fn recalled(&self, entry: Arc<Entry>, asked: Keys) -> Landed {
        Landed {
            fwd_status: entry.status(),
            entry,
            storing: Storing::Nowhere,
            asked,
            started: None,
            names: SmallVec::new(),
            updated_at: None,
            shape: 0,
            stored: AtomicBool::new(false),
            shared: false,
        }
    }

    /// A name, given as a key's bytes, in the form that changes of it are remembered by.
    pub(crate) fn name(&self, key: &[u8]) -> u64 {
        self.people.store().aliases().name(key)
    }

    /// Joins the fetch for `flight`, or is charged with it.
    ///
    /// # Errors
    /// When too many wait for it already.
    pub fn join(
        &self,
        flight: &CacheKey,
        asker: Asker,
        now: Instant,
    ) -> Result<Joined<Landing<F>>, TooManyWaiters> {
        self.flights.join(flight, asker, now)
    }

    /// Whether somebody fetches this person already.
    pub fn is_being_fetched(&self, flight: &CacheKey) -> bool {
        self.flights.is_under_way(flight)
    }

    /// Stores what a fetch brought, where it may be stored, and wakes those who wait for it. Hands
    /// out what landed.
    ///
    /// A server error lands, but a second attempt under way may still bring something better.
    pub fn fulfil(
        &self,
        obligation: Obligation<Landing<F>>,
        landing: Result<Landed, F>,
        now: Instant,
    ) -> Option<Arc<Landed>> {
        let conclusive = landing
            .as_ref()
            .is_ok_and(|landed| !landed.fwd_status.is_server_error());
        let landing = landing.map(Arc::new);
        let landed = landing.as_ref().ok().map(Arc::clone);
        obligation.land(landing, conclusive, |landing| {
            if let Ok(landed) = landing {
                self.store(landed, now);
            }
        });
        landed
    }

    /// Puts what another gateway has got into memory. Hands out what memory has for the lookup then, or
    /// nothing if the person has changed here since it was asked for.
    pub fn adopt(
        &self,
        landed: &Landed,
        directives: &RequestDirectives,
        now: Instant,
    ) -> Option<Lookup> {
        match self.store(landed, now) {
            Publication::Stored | Publication::Older => {
                Some(self.lookup(&landed.asked, directives, now))
            }
            Publication::Outdated | Publication::Held => None,
        }
    }

    /// What `entry` may be used for, for one request.
    pub fn judge(&self, entry: &Entry, directives: &RequestDirectives, now: Instant) -> Verdict {
        let windows = &self.settings.windows;
        entry.freshness().judge(directives, windows, now)
    }

    /// The lifetime of a person that is stored now.
    pub fn lifetime_of_person(&self, key: &CacheKey, now: Instant) -> Lifetime {
        self.jittered(self.settings.ttl, key, now)
    }

    /// The longest that a person is fresh.
    pub fn longest_lifetime(&self) -> Duration {
        self.settings.ttl
    }

    /// The longest that an absence is believed.
    pub fn longest_absence(&self) -> Duration {
        self.settings.negative_ttl
    }

    /// After what time a fetch counts as stalled.
    pub fn stall_after(&self) -> Duration {
        self.settings.stall_after
    }

    /// Whether absences are kept at all.
    pub fn keeps_absences(&self) -> bool {
        !self.settings.negative_ttl.is_zero()
    }

    /// The lifetime of an absence that is stored now.
    pub fn lifetime_of_absence(&self, key: &CacheKey, now: Instant) -> Lifetime {
        self.jittered(self.settings.negative_ttl, key, now)
    }

    /// Whether people are found under names that they were not asked by.
    pub fn finds_by_aliases(&self) -> bool {
        self.settings.aliases
    }

    /// Whether Persons that pass by are taken note of.
    pub fn harvests(&self) -> bool {
        self.settings.harvest
    }

    /// Whether an event or a new device changes its person.
    pub fn events_invalidate(&self) -> bool {
        self.settings.events_invalidate
    }

    /// Lets go of what has outlived its retention or its room. Called about once a second.
    pub fn maintain(&self, now: Instant) {
        // Keeps in mind what changes meanwhile.
        let _remembered = self.changes.fetch_begins();
        for written in self.changes.all_due(now) {
            self.store_written(&written, now);
        }
        self.people.store().maintain();
        self.absences.maintain();
    }

    /// The store of people.
    pub fn people(&self) -> &Store {
        self.people.store()
    }

    /// The store of absences.
    pub fn absences(&self) -> &Store {
        &self.absences
    }

    /// The stored person, if somebody might still be served it under this spelling. What is dead
    /// is left to the store's own expiry: removing it here could hit its successor.
    fn person(&self, keys: &Keys, now: Instant) -> Option<Arc<Entry>> {
        let found = self.people.find(keys).or_else(|| {
            // Keeps in mind what changes meanwhile.
            let _remembered = self.changes.fetch_begins();
            let written = self.changes.due(self.name(keys.person().as_bytes()), now)?;
            self.store_written(&written, now);
            self.people.find(keys)
        });
        found.filter(|entry| self.stands(entry, now))
    }

    /// Whether an entry may still be served to somebody: not dead, and not older than a change of
    /// everybody.
    fn stands(&self, entry: &Entry, now: Instant) -> bool {
        !entry.freshness().is_dead(&self.settings.windows, now) && !self.is_outdated_with_all(entry)
    }

    /// The stored absence, if it is fresh and not outdated by what is stored of the `person`.
    fn absence(&self, keys: &Keys, person: Option<&Entry>, now: Instant) -> Option<Arc<Entry>> {
        self.absences
            .get(keys.spelled().as_bytes())
            .filter(|absence| {
                let asked_later = |person: &Entry| absence.began_after(person);
                absence.is_answer_to(keys.spelled())
                    && absence.freshness().is_fresh(now)
                    && self.stands(absence, now)
                    && person.is_none_or(asked_later)
            })
    }

    /// Lets go of whoever was found by exactly the spelling that was `asked` for: Flameup has
    /// answered it with another person, so nobody is called so who was before it was asked.
    pub fn forget_spelling(&self, asked: &Keys, answer: &Entry) {
        self.changes
            .alone(|| self.people.forget_spelling(asked, answer));
    }

    /// Stores what landed, unless something says that it is not the last word.
    fn store(&self, landed: &Landed, now: Instant) -> Publication {
        if landed.storing == Storing::Nowhere {
            return Publication::Older;
        }
        let publication = self
            .changes
            .publish(landed.to_judge(), now, || match landed.storing {
                Storing::Person => {
                    self.note_shape(landed);
                    self.put_person(&landed.asked, &landed.entry)
                }
                Storing::Absence { kept } => self.put_absence(landed, kept),
                Storing::Nowhere => false,
            });
        let stored = publication == Publication::Stored;
        landed.stored.store(stored, Ordering::Relaxed);
        publication
    }

    /// Stores a person, unless Flameup has said since that nobody is called so. Nobody who is
    /// called like them is absent any longer.
    fn put_person(&self, asked: &Keys, entry: &Arc<Entry>) -> bool {
        let claims = entry.claims().iter().map(|claim| claim.key());
        let names: SmallVec<[&[u8]; 4]> = claims.chain([asked.spelled().as_bytes()]).collect();
        if names.iter().any(|name| self.is_absent_since(name, entry)) {
            return false;
        }
        for name in names {
            self.absences.remove(name);
        }
        self.people.put(asked, entry)
    }

    /// Stores an absence, unless Flameup has said something since.
    fn put_absence(&self, landed: &Landed, kept: bool) -> bool {
        let (asked, entry) = (&landed.asked, &landed.entry);
        let spelled = asked.spelled().as_bytes();
        let found = self.people.find(asked);
        let is_found_since = found.is_some_and(|person| person.began_after(entry));
        if is_found_since || self.is_absent_since(spelled, entry) {
            return false;
        }
        // A change must find all spellings of a name, so there are never more than it can.
        let aliases = self.absences.aliases();
        let kept = kept && !aliases.is_full(aliases.name(spelled));
        if kept {
            self.absences.insert(spelled, Arc::clone(entry));
        }
        self.people.forget_spelling(asked, entry);
        kept
    }

    fn is_absent_since(&self, name: &[u8], entry: &Entry) -> bool {
        let absence = self.absences.get(name);
        absence.is_some_and(|absence| absence.began_after(entry))
    }

    fn jittered(&self, ttl: Duration, key: &CacheKey, now: Instant) -> Lifetime {
        let random = self.jitter.hash_one((key.as_bytes(), now));
        let share = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        Lifetime {
            ttl,
            jitter: self.settings.ttl_jitter * share,
        }
    }
}

#[cfg(test)]
mod tests;
