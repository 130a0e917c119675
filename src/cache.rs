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
use std::time::{Duration, Instant};

pub mod collapse;
pub mod control;
pub mod entry;
pub mod freshness;
pub mod key;
pub mod status;
pub mod storable;
pub mod store;

use collapse::{Collapse, Joined, Obligation, TooManyWaiters};
use control::RequestDirectives;
use entry::{Entry, Lifetime};
use freshness::{StaleWindows, Verdict};
use key::{CacheKey, Keys};
use store::Store;

/// Share of the memory that absences may take: the hundredth parts of `max_bytes`.
const ABSENCES_PERCENT: u64 = 5;

/// How the cache is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes that people and absences may take together.
    pub max_bytes: u64,
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
        reason: status::Reason,
        /// What was stored, for its validator.
        stored: Option<Arc<Entry>>,
        /// What was stored may be served after all, should asking fail.
        stale_if_error: bool,
    },
}

impl Lookup {
    /// Nothing stored.
    pub const NOTHING: Self = Self::Forward {
        reason: status::Reason::UriMiss,
        stored: None,
        stale_if_error: false,
    };
}

/// What a fetch brought, for those who wait for it.
///
/// `F` is why a fetch failed, which is the gateway's to say.
pub type Landing<F> = Result<Landed, F>;

/// An answer of Flameup's, and what it may be stored as.
#[derive(Clone, Debug)]
pub struct Landed {
    /// The answer.
    pub entry: Arc<Entry>,
    /// What Flameup's own status was; differs from the entry's after a 304.
    pub fwd_status: http::StatusCode,
    /// Where it may be stored.
    pub storing: Storing,
    /// The exact spelling that Flameup was asked for.
    pub asked: CacheKey,
}

impl Landed {
    /// Whether it is stored by the time that those who wait for it hear of it.
    pub fn is_stored(&self) -> bool {
        matches!(
            self.storing,
            Storing::Person { .. } | Storing::Absence { kept: true, .. }
        )
    }
}

/// Where an answer may be stored.
#[derive(Clone, Debug)]
pub enum Storing {
    /// A person. Proves that everyone of `proven` exists.
    Person {
        /// Where it belongs.
        keys: Keys,
        /// Identifiers that the body names; no absence of theirs is believed any longer.
        proven: Vec<CacheKey>,
    },
    /// A 404. Whoever was stored under this spelling is gone.
    Absence {
        /// Whose.
        keys: Keys,
        /// Whether the 404 itself is kept.
        kept: bool,
    },
    /// Nowhere: it goes to those who wait and is forgotten.
    Nowhere,
}

/// What is remembered of people, and the fetches under way for them.
#[derive(Debug)]
pub struct Cache<F> {
    people: Store,
    absences: Store,
    flights: Arc<Collapse<Landing<F>>>,
    settings: Settings,
    jitter: ahash::RandomState,
}

impl<F: Clone> Cache<F> {
    /// An empty cache.
    pub fn new(settings: Settings) -> Self {
        let absences_bytes = settings.max_bytes / 100 * ABSENCES_PERCENT;
        let retention = settings.ttl + settings.windows.longest();
        Self {
            people: Store::new(settings.max_bytes - absences_bytes, retention),
            absences: Store::new(absences_bytes, settings.negative_ttl),
            flights: Collapse::new(settings.stall_after),
            settings,
            jitter: ahash::RandomState::new(),
        }
    }

    /// Looks up what is stored under `keys`.
    ///
    /// A fresh person is served before anything else. Next comes an absence of exactly this
    /// spelling, which is younger than any stale person: Flameup was asked since.
    pub fn lookup(&self, keys: &Keys, directives: &RequestDirectives, now: Instant) -> Lookup {
        let person = self.person(keys, now);
        let verdict = person.as_ref().map(|entry| {
            entry
                .freshness()
                .judge(directives, &self.settings.windows, now)
        });
        if let (Some(entry), Some(Verdict::Serve)) = (&person, verdict) {
            return Lookup::Fresh(Arc::clone(entry));
        }
        match (self.absence(keys, directives, now), person, verdict) {
            (Some(absence), _, _) => Lookup::Fresh(absence),
            (None, Some(entry), Some(Verdict::ServeAndRevalidate)) => Lookup::Stale(entry),
            (
                None,
                stored,
                Some(Verdict::Forward {
                    stale,
                    stale_if_error,
                }),
            ) => {
                let reason = if stale {
                    status::Reason::Stale
                } else {
                    status::Reason::Request
                };
                Lookup::Forward {
                    reason,
                    stored,
                    stale_if_error,
                }
            }
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

    /// Joins the fetch for `flight`, or is charged with it.
    ///
    /// # Errors
    /// When too many wait for it already.
    pub fn join(
        &self,
        flight: &CacheKey,
        now: Instant,
    ) -> Result<Joined<Landing<F>>, TooManyWaiters> {
        self.flights.join(flight, now)
    }

    /// Stores what a fetch brought, where it may be stored, and wakes those who wait for it.
    ///
    /// Storing comes first: a request that arrives in between finds the answer or the fetch. A
    /// fetch that was replaced, and lands after its replacement, brings what was asked for earlier
    /// and must not take the place of what was asked for later.
    pub fn fulfil(&self, obligation: Obligation<Landing<F>>, landing: Landing<F>) {
        if let Ok(landed) = &landing
            && obligation.is_awaited()
        {
            self.store(landed);
        }
        let conclusive = landing.is_ok();
        obligation.land(landing, conclusive);
    }

    /// The lifetime of a person that is stored now.
    pub fn lifetime_of_person(&self, key: &CacheKey, now: Instant) -> Lifetime {
        self.jittered(self.settings.ttl, key, now)
    }

    /// Whether absences are kept at all.
    pub fn keeps_absences(&self) -> bool {
        !self.settings.negative_ttl.is_zero()
    }

    /// The lifetime of an absence that is stored now.
    pub fn lifetime_of_absence(&self, key: &CacheKey, now: Instant) -> Lifetime {
        self.jittered(self.settings.negative_ttl, key, now)
    }

    /// Lets go of what has outlived its retention or its room. Called about once a second.
    pub fn maintain(&self) {
        self.people.maintain();
        self.absences.maintain();
    }

    /// The store of people.
    pub fn people(&self) -> &Store {
        &self.people
    }

    /// The store of absences.
    pub fn absences(&self) -> &Store {
        &self.absences
    }

    /// The stored person, if somebody might still be served it.
    fn person(&self, keys: &Keys, now: Instant) -> Option<Arc<Entry>> {
        let entry = self.people.get(keys.person())?;
        if entry.freshness().is_dead(&self.settings.windows, now) {
            self.people.remove(keys.person());
            return None;
        }
        Some(entry)
    }

    /// The stored absence, if this request may be answered with it.
    fn absence(
        &self,
        keys: &Keys,
        directives: &RequestDirectives,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let entry = self.absences.get(keys.spelled())?;
        if entry.freshness().is_dead(&StaleWindows::NONE, now) {
            self.absences.remove(keys.spelled());
            return None;
        }
        let verdict = entry
            .freshness()
            .judge(directives, &StaleWindows::NONE, now);
        (verdict == Verdict::Serve).then_some(entry)
    }

    fn store(&self, landed: &Landed) {
        match &landed.storing {
            Storing::Person { keys, proven } => {
                self.people.insert(keys.person(), Arc::clone(&landed.entry));
                self.absences.remove(keys.spelled());
                for key in proven {
                    self.absences.remove(key);
                }
            }
            Storing::Absence { keys, kept } => {
                if *kept {
                    self.absences
                        .insert(keys.spelled(), Arc::clone(&landed.entry));
                }
                // The person is gone if Flameup was asked in the spelling that once found them.
                let gone =
                    |entry: &Arc<Entry>| entry.answers_spelling(keys.spelled(), keys.person());
                if self.people.get(keys.person()).as_ref().is_some_and(gone) {
                    self.people.remove(keys.person());
                }
            }
            Storing::Nowhere => {}
        }
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
