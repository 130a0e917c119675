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
use status::Reason;
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
    pub fwd_status: http::StatusCode,
    /// Where it may be stored.
    pub storing: Storing,
    /// The exact spelling that Flameup was asked for.
    pub asked: CacheKey,
}

impl Landed {
    /// What another fetch had stored just before this one was to begin.
    pub fn recalled(entry: Arc<Entry>, asked: CacheKey) -> Self {
        Self {
            fwd_status: entry.status(),
            entry,
            storing: Storing::Nowhere,
            asked,
        }
    }

    /// Whether this answers a request too that means the same person as `asked`, spelled so.
    ///
    /// A 404 says nothing of another spelling of an e-mail, and neither does a person who was
    /// found by an external id that looks like one.
    pub fn answers(&self, asked: &CacheKey) -> bool {
        let spelled_alike = self.asked == *asked;
        let exact = self.fwd_status == http::StatusCode::NOT_FOUND || self.entry.is_exact();
        spelled_alike || !exact
    }

    /// Whether it is stored by the time that those who wait for it hear of it.
    pub fn is_stored(&self) -> bool {
        matches!(
            self.storing,
            Storing::Person { .. } | Storing::Absence { kept: true, .. }
        )
    }
}

/// Where an answer may be stored.
#[derive(Debug)]
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
    /// spelling, if Flameup was asked later than for the person that is stored.
    pub fn lookup(&self, keys: &Keys, directives: &RequestDirectives, now: Instant) -> Lookup {
        let windows = &self.settings.windows;
        let person = self.person(keys, now);
        let verdict = person
            .as_ref()
            .map(|entry| entry.freshness().judge(directives, windows, now));
        if let (Some(entry), Some(Verdict::Serve)) = (&person, verdict) {
            return Lookup::Fresh(Arc::clone(entry));
        }
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
        self.people.get(keys.person()).is_some()
    }

    /// Joins the fetch for `flight`, or is charged with it.
    ///
    /// # Errors
    /// When too many wait for it already.
    pub fn join(
        &self,
        flight: &CacheKey,
        urgency: u8,
        now: Instant,
    ) -> Result<Joined<Landing<F>>, TooManyWaiters> {
        self.flights.join(flight, urgency, now)
    }

    /// Whether somebody fetches this person already.
    pub fn is_being_fetched(&self, flight: &CacheKey) -> bool {
        self.flights.is_under_way(flight)
    }

    /// Stores what a fetch brought, where it may be stored, and wakes those who wait for it.
    ///
    /// A server error lands, but a second attempt under way may still bring something better.
    pub fn fulfil(&self, obligation: Obligation<Landing<F>>, landing: Landing<F>) {
        let conclusive = landing
            .as_ref()
            .is_ok_and(|landed| !landed.fwd_status.is_server_error());
        obligation.land(landing, conclusive, |landing| {
            if let Ok(landed) = landing {
                self.store(landed);
            }
        });
    }

    /// The lifetime of a person that is stored now.
    pub fn lifetime_of_person(&self, key: &CacheKey, now: Instant) -> Lifetime {
        self.jittered(self.settings.ttl, key, now)
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

    /// The stored person, if somebody might still be served it under this spelling. What is dead
    /// is left to the store's own expiry: removing it here could hit its successor.
    fn person(&self, keys: &Keys, now: Instant) -> Option<Arc<Entry>> {
        self.people.get(keys.person()).filter(|entry| {
            !entry.freshness().is_dead(&self.settings.windows, now)
                && (!entry.is_exact() || entry.answers_spelling(keys.spelled(), keys.person()))
        })
    }

    /// The stored absence, if it is fresh and not outdated by what is stored of the `person`.
    fn absence(&self, keys: &Keys, person: Option<&Entry>, now: Instant) -> Option<Arc<Entry>> {
        self.absences.get(keys.spelled()).filter(|absence| {
            let asked_later = |person: &Entry| absence.freshness().began_after(person.freshness());
            absence.freshness().is_fresh(now) && person.is_none_or(asked_later)
        })
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
