//! One forward per key: concurrent requests for one person share one fetch.
//!
//! Whoever joins gets a [`Follower`] to wait with. The first to join also gets the [`Obligation`]
//! to fetch, which is spent by value when the fetch lands. The fetch runs in a task of its own, so
//! it survives the caller that started it; an obligation that is dropped unspent wakes its
//! followers, so a fetch that vanishes strands nobody.
//!
//! # Invariants
//! - At most one flight per key; a flight has one attempt, or two once the first has stalled.
//! - A landing is stored, published, and its flight forgotten in one critical section. It reaches
//!   exactly those who were waiting at that moment, and of two attempts only the one that is
//!   published is stored. Who joins later begins a new flight, and looks again at what is stored
//!   before fetching.
//! - A failed attempt is published only if no other attempt is still out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::key::CacheKey;

/// Most callers that wait for one key. More than this is a stampede on one person that no answer
/// of Flameup's would serve in time; each waiter costs a few hundred bytes.
pub const MAX_WAITERS: usize = 1000;

/// Independent locks, so that misses for different people do not wait for one another.
const SHARDS: usize = 16;

/// All flights under way.
#[derive(Debug)]
pub struct Collapse<T> {
    shards: [Mutex<Flights<T>>; SHARDS],
    hasher: ahash::RandomState,
    stall_after: Duration,
}

type Flights<T> = HashMap<CacheKey, Flight<T>, ahash::RandomState>;

/// One fetch, or two where the first stalled, and those who wait for it.
#[derive(Debug)]
struct Flight<T> {
    landing: Arc<watch::Sender<Option<T>>>,
    started_at: Instant,
    attempts: Attempts,
}

/// How many fetches of a flight are out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempts {
    /// The first.
    First,
    /// The first, which has stalled, and its replacement.
    Both,
    /// One of the two has failed. There is no third.
    Last,
}

/// What joining gives.
#[derive(Debug)]
pub struct Joined<T> {
    /// To wait for the landing with.
    pub follower: Follower<T>,
    /// To fetch, if that fell to this caller.
    pub obligation: Option<Obligation<T>>,
}

/// As many callers as may already wait for this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests wait for the same person")]
pub struct TooManyWaiters;

/// Why waiting ended without a landing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The waiter's own deadline passed.
    #[error("waiting for the answer took too long")]
    Deadline,
    /// The fetch went away without an outcome.
    #[error("the fetch was abandoned")]
    Abandoned,
}

impl<T: Clone> Collapse<T> {
    /// Flights that count as stalled `stall_after` their start.
    pub fn new(stall_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: ahash::RandomState::new(),
            stall_after,
        })
    }

    /// Joins the flight for `key`, starting it if there is none and replacing it if it stalled.
    ///
    /// # Errors
    /// When [`MAX_WAITERS`] wait for this key already.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        now: Instant,
    ) -> Result<Joined<T>, TooManyWaiters> {
        let mut flights = self.shard(key).lock();
        let flight = match flights.entry(key.clone()) {
            Entry::Vacant(vacant) => {
                let flight = vacant.insert(Flight::start(now));
                let obligation = Some(self.obligation(key, flight));
                return Ok(Joined {
                    follower: flight.follow(),
                    obligation,
                });
            }
            Entry::Occupied(occupied) => occupied.into_mut(),
        };
        let stalled = now.saturating_duration_since(flight.started_at) >= self.stall_after;
        let obligation = if stalled && flight.attempts == Attempts::First {
            flight.attempts = Attempts::Both;
            Some(self.obligation(key, flight))
        } else if flight.landing.receiver_count() >= MAX_WAITERS {
            return Err(TooManyWaiters);
        } else {
            None
        };
        Ok(Joined {
            follower: flight.follow(),
            obligation,
        })
    }

    fn obligation(self: &Arc<Self>, key: &CacheKey, flight: &Flight<T>) -> Obligation<T> {
        Obligation {
            collapse: Arc::clone(self),
            key: key.clone(),
            landing: Arc::clone(&flight.landing),
            spent: false,
        }
    }
}

impl<T> Collapse<T> {
    fn shard(&self, key: &CacheKey) -> &Mutex<Flights<T>> {
        let hash = self.hasher.hash_one(key.as_bytes());
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    /// Ends an attempt of the flight that `landing` belongs to.
    fn end(
        &self,
        key: &CacheKey,
        landing: &Arc<watch::Sender<Option<T>>>,
        outcome: Option<T>,
        conclusive: bool,
        first: impl FnOnce(&T),
    ) {
        let mut flights = self.shard(key).lock();
        let Entry::Occupied(mut flight) = flights.entry(key.clone()) else {
            return;
        };
        if !Arc::ptr_eq(&flight.get().landing, landing) {
            return; // The other attempt has landed, and a new flight has begun since.
        }
        if flight.get().attempts == Attempts::Both && !conclusive {
            flight.get_mut().attempts = Attempts::Last;
            return;
        }
        if let Some(outcome) = outcome {
            first(&outcome);
            flight.get().landing.send_replace(Some(outcome));
        }
        flight.remove();
    }
}

impl<T> Flight<T> {
    fn start(now: Instant) -> Self {
        let landing = Arc::new(watch::Sender::new(None));
        Self {
            landing,
            started_at: now,
            attempts: Attempts::First,
        }
    }

    fn follow(&self) -> Follower<T> {
        Follower {
            landing: self.landing.subscribe(),
        }
    }
}

/// Waits for a flight to land.
#[derive(Debug)]
pub struct Follower<T> {
    landing: watch::Receiver<Option<T>>,
}

impl<T: Clone> Follower<T> {
    /// Waits for the landing, for as long as `patience`.
    ///
    /// # Errors
    /// When there is none in time; see [`Error`].
    ///
    /// # Cancellation
    /// A follower that is dropped leaves; the flight goes on.
    pub async fn wait(mut self, patience: Duration) -> Result<T, Error> {
        let landed = tokio::time::timeout(patience, self.landing.wait_for(Option::is_some)).await;
        match landed {
            Err(_) => Err(Error::Deadline),
            Ok(Err(_)) => Err(Error::Abandoned),
            Ok(Ok(outcome)) => outcome.clone().ok_or(Error::Abandoned),
        }
    }
}

/// The duty to fetch for a key, and the only right to land its flight.
#[derive(Debug)]
pub struct Obligation<T> {
    collapse: Arc<Collapse<T>>,
    key: CacheKey,
    landing: Arc<watch::Sender<Option<T>>>,
    spent: bool,
}

impl<T> Obligation<T> {
    /// Lands the flight with `outcome`.
    ///
    /// `first` is done with it before anybody hears of it, and only if it is what they will hear:
    /// a fetch that was replaced, and lands after its replacement, changes nothing any more.
    ///
    /// An outcome that is not `conclusive`, a failure, is kept to itself while the replacement of
    /// a stalled fetch, or the stalled one itself, may still bring a better one.
    pub fn land(mut self, outcome: T, conclusive: bool, first: impl FnOnce(&T)) {
        self.spent = true;
        let outcome = Some(outcome);
        self.collapse
            .end(&self.key, &self.landing, outcome, conclusive, first);
    }
}

impl<T> Drop for Obligation<T> {
    fn drop(&mut self) {
        if !self.spent {
            self.collapse
                .end(&self.key, &self.landing, None, false, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(2);
    const PATIENCE: Duration = Duration::from_mins(1);

    fn flights() -> (Arc<Collapse<u32>>, CacheKey, Instant) {
        (
            Collapse::new(STALL),
            CacheKey::of_id(0, "u1"),
            Instant::now(),
        )
    }

    fn join(
        collapse: &Arc<Collapse<u32>>,
        key: &CacheKey,
        now: Instant,
    ) -> (Follower<u32>, Option<Obligation<u32>>) {
        let joined = collapse.join(key, now).expect("room for one more waiter");
        (joined.follower, joined.obligation)
    }

    #[tokio::test(start_paused = true)]
    async fn one_obligation_serves_all_who_joined() {
        let (collapse, key, now) = flights();
        let (leader, obligation) = join(&collapse, &key, now);
        let (follower, none) = join(&collapse, &key, now);
        assert!(none.is_none());
        obligation
            .expect("the first to join fetches")
            .land(7, true, |_| {});
        assert_eq!(leader.wait(PATIENCE).await, Ok(7));
        assert_eq!(follower.wait(PATIENCE).await, Ok(7));
        assert!(
            join(&collapse, &key, now).1.is_some(),
            "a landed flight is gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_attempt_that_is_published_is_stored() {
        let (collapse, key, now) = flights();
        let (_, stalled) = join(&collapse, &key, now);
        let (_, replacement) = join(&collapse, &key, now + STALL);
        let stored = std::cell::Cell::new(0);
        let replacement = replacement.expect("a stalled fetch is replaced");
        replacement.land(2, true, |outcome| stored.set(*outcome));
        let stalled = stalled.expect("the first to join fetches");
        stalled.land(1, true, |outcome| stored.set(*outcome));
        assert_eq!(stored.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_leaves_takes_nobody_with_it() {
        let (collapse, key, now) = flights();
        let (leader, obligation) = join(&collapse, &key, now);
        let (follower, _) = join(&collapse, &key, now);
        drop(leader);
        obligation
            .expect("the first to join fetches")
            .land(7, true, |_| {});
        assert_eq!(follower.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_obligation_wakes_its_followers_and_frees_the_key() {
        let (collapse, key, now) = flights();
        let (follower, obligation) = join(&collapse, &key, now);
        drop(obligation);
        assert_eq!(follower.wait(PATIENCE).await, Err(Error::Abandoned));
        assert!(join(&collapse, &key, now).1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn each_waiter_has_its_own_deadline() {
        let (collapse, key, now) = flights();
        let (impatient, obligation) = join(&collapse, &key, now);
        let (patient, _) = join(&collapse, &key, now);
        assert_eq!(
            impatient.wait(Duration::from_millis(5)).await,
            Err(Error::Deadline)
        );
        obligation
            .expect("the first to join fetches")
            .land(7, true, |_| {});
        assert_eq!(patient.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_fetch_is_replaced_once_and_the_first_success_wins() {
        let (collapse, key, now) = flights();
        let (early, stalled) = join(&collapse, &key, now);
        assert!(join(&collapse, &key, now + STALL / 2).1.is_none());
        let (late, replacement) = join(&collapse, &key, now + STALL);
        assert!(
            join(&collapse, &key, now + STALL * 3).1.is_none(),
            "there is no third"
        );
        replacement
            .expect("a stalled fetch is replaced")
            .land(2, true, |_| {});
        assert_eq!(early.wait(PATIENCE).await, Ok(2));
        assert_eq!(late.wait(PATIENCE).await, Ok(2));
        let (next, obligation) = join(&collapse, &key, now + STALL * 4);
        stalled
            .expect("the first to join fetches")
            .land(1, true, |_| {});
        obligation.expect("a new flight").land(3, true, |_| {});
        assert_eq!(
            next.wait(PATIENCE).await,
            Ok(3),
            "a late landing touches no later flight"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_for_the_other_attempt() {
        let (collapse, key, now) = flights();
        let (follower, stalled) = join(&collapse, &key, now);
        let (_, replacement) = join(&collapse, &key, now + STALL);
        replacement
            .expect("a stalled fetch is replaced")
            .land(500, false, |_| {});
        stalled
            .expect("the first to join fetches")
            .land(1, true, |_| {});
        assert_eq!(follower.wait(PATIENCE).await, Ok(1));

        let (follower, stalled) = join(&collapse, &key, now);
        let (_, replacement) = join(&collapse, &key, now + STALL);
        drop(stalled);
        replacement
            .expect("a stalled fetch is replaced")
            .land(500, false, |_| {});
        assert_eq!(
            follower.wait(PATIENCE).await,
            Ok(500),
            "the last failure is published"
        );
    }

    #[test]
    fn waiters_for_one_key_are_bounded() {
        let (collapse, key, now) = flights();
        let waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| join(&collapse, &key, now))
            .collect();
        assert_eq!(collapse.join(&key, now).map(|_| ()), Err(TooManyWaiters));
        let other = CacheKey::of_id(0, "u2");
        assert!(collapse.join(&other, now).is_ok());
        drop(waiting);
        assert!(collapse.join(&key, now).is_ok());
    }
}
