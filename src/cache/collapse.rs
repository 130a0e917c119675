//! One forward per key: concurrent requests for one person share one fetch.
//!
//! Whoever joins gets a [`Follower`] to wait with. The first to join also gets the [`Obligation`]
//! to fetch, which is spent by value when the fetch lands. The fetch runs in a task of its own, so
//! it survives the caller that started it; an obligation that is dropped unspent wakes its
//! followers, so a fetch that vanishes strands nobody.
//!
//! A fetch waits for its turn before it is sent, and again if it is to be sent once more. A more urgent
//! caller that joins meanwhile gets an obligation too, and so do a few others that are as urgent: each
//! waits for its own turn. Whichever attempt has it first is launched, and the others are told to
//! leave. So nobody waits longer for a person because somebody else asked first.
//!
//! # Invariants
//! - At most one flight per key, and of its attempts at most one is sent, or two once the first
//!   has stalled.
//! - A landing is stored, published, and its flight forgotten in one critical section. It reaches
//!   exactly those who were waiting at that moment, and of two attempts only the one that is
//!   published is stored. Who joins later begins a new flight, and looks again at what is stored
//!   before fetching.
//! - A failed attempt is published only if no other that was sent is still out; one that never
//!   had its turn, only if no other may still have its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::key::CacheKey;

/// Most callers that wait for one key. More than this is a stampede on one person that no answer
/// of Flameup's would serve in time; each waiter costs a few hundred bytes.
pub const MAX_WAITERS: usize = 1000;

/// Most attempts of a flight that wait as urgently as each other: enough that one caller's full line
/// holds up few, and few enough that a person in demand fills no queue.
const MAX_ATTEMPTS: u8 = 4;

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
type Progresses<T> = Arc<watch::Sender<Progress<T>>>;

/// One person being fetched, and those who wait.
#[derive(Debug)]
struct Flight<T> {
    progress: Progresses<T>,
    /// The most urgent that any attempt waits as; the greater, the more urgent.
    urgency: u8,
    sent_at: Option<Instant>,
    /// The attempt that was sent has stalled, and another was let go in its place.
    replaced: bool,
    /// Those with an attempt that waits or was sent, while it waits.
    callers: SmallVec<[u32; MAX_ATTEMPTS as usize]>,
    /// Tells the attempts that nobody wants them any more.
    called_off: CancellationToken,
    /// Tells those that wait that another one is sent.
    superseded: CancellationToken,
    /// Obligations not yet spent.
    attempts: u8,
    /// Those of them that were sent.
    sent: u8,
}

/// How far a flight has come.
#[derive(Clone, Debug)]
enum Progress<T> {
    /// It waits for its turn.
    Waiting,
    /// It is sent.
    Sent,
    /// It has landed.
    Landed(T),
    /// It was called off.
    Cancelled,
}

/// Who joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// How urgent it is; the greater, the more.
    pub urgency: u8,
    /// Tells callers apart: each waits in a line of its own.
    pub caller: u32,
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
    /// The fetch was called off: what is known of its person was erased.
    #[error("the fetch was called off")]
    CalledOff,
}

impl<T: Clone> Collapse<T> {
    /// Flights that count as stalled `stall_after` they were sent.
    pub fn new(stall_after: Duration) -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: ahash::RandomState::new(),
            stall_after,
        })
    }

    /// Joins the flight for `key`. It is begun if there is none, joined with an attempt of one's
    /// own if it waits less urgently or for others alone, and replaced if it has stalled.
    ///
    /// # Errors
    /// When [`MAX_WAITERS`] wait for this key already.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        asker: Asker,
        now: Instant,
    ) -> Result<Joined<T>, TooManyWaiters> {
        let mut flights = self.shard(key).lock();
        let (flight, right) = match flights.entry(key.clone()) {
            Entry::Vacant(vacant) => (vacant.insert(Flight::new(asker)), Some(Right::First)),
            Entry::Occupied(occupied) => {
                let flight = occupied.into_mut();
                let right = flight.right(asker, self.stall_after, now);
                (flight, right)
            }
        };
        if right.is_none() && flight.progress.receiver_count() >= MAX_WAITERS {
            return Err(TooManyWaiters);
        }
        let follower = Follower {
            progress: flight.progress.subscribe(),
        };
        let obligation = right.map(|right| {
            flight.attempts += 1;
            Obligation {
                collapse: Arc::clone(self),
                key: key.clone(),
                progress: Arc::clone(&flight.progress),
                called_off: flight.called_off.clone(),
                superseded: match right {
                    Right::First => flight.superseded.clone(),
                    // It is there because another one is sent.
                    Right::Replacement => CancellationToken::new(),
                },
                right,
                launched: false,
                spent: false,
            }
        });
        Ok(Joined {
            follower,
            obligation,
        })
    }
}

impl<T> Collapse<T> {
    fn shard(&self, key: &CacheKey) -> &Mutex<Flights<T>> {
        let hash = self.hasher.hash_one(key.as_bytes());
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    /// Whether there is a flight for `key`.
    pub fn is_under_way(&self, key: &CacheKey) -> bool {
        self.shard(key).lock().contains_key(key)
    }

    /// Calls off the flights whose key is `meant`: those who wait hear that they were called off,
    /// and nothing that they bring is stored. Says how many were sent, and how many waited for
    /// their turn.
    pub fn cancel(&self, meant: impl Fn(&CacheKey) -> bool) -> (usize, usize) {
        let (mut sent, mut waiting) = (0, 0);
        for shard in &self.shards {
            shard.lock().retain(|key, flight| {
                let cancels = meant(key);
                if cancels {
                    flight.progress.send_replace(Progress::Cancelled);
                    flight.called_off.cancel();
                    if flight.sent_at.is_some() {
                        sent += 1;
                    } else {
                        waiting += 1;
                    }
                }
                !cancels
            });
        }
        (sent, waiting)
    }

    /// Does something to the flight of an obligation, if it is still under way.
    fn with_flight<R>(
        &self,
        obligation: &Obligation<T>,
        change: impl FnOnce(&mut Flight<T>) -> R,
    ) -> Option<R> {
        let mut flights = self.shard(&obligation.key).lock();
        let flight = flights.get_mut(&obligation.key)?;
        // Otherwise another attempt has landed, and a new flight has begun since.
        Arc::ptr_eq(&flight.progress, &obligation.progress).then(|| change(flight))
    }

    /// Ends an attempt.
    fn end(
        &self,
        obligation: &Obligation<T>,
        outcome: Option<T>,
        conclusive: bool,
        first: impl FnOnce(&T),
    ) {
        let mut flights = self.shard(&obligation.key).lock();
        let Entry::Occupied(mut flight) = flights.entry(obligation.key.clone()) else {
            return;
        };
        if !Arc::ptr_eq(&flight.get().progress, &obligation.progress) {
            return;
        }
        if flight.get_mut().leaves(obligation.launched, conclusive) {
            return;
        }
        if let Some(outcome) = outcome {
            first(&outcome);
            flight
                .get()
                .progress
                .send_replace(Progress::Landed(outcome));
        }
        flight.get().superseded.cancel();
        flight.remove();
    }
}

/// By what right an attempt may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// If none has been sent.
    First,
    /// Although one has been sent, for that one has stalled.
    Replacement,
}

impl<T> Flight<T> {
    fn new(asker: Asker) -> Self {
        let progress = Arc::new(watch::Sender::new(Progress::Waiting));
        Self {
            progress,
            urgency: asker.urgency,
            sent_at: None,
            replaced: false,
            callers: SmallVec::from_iter([asker.caller]),
            called_off: CancellationToken::new(),
            superseded: CancellationToken::new(),
            attempts: 0,
            sent: 0,
        }
    }

    /// Ends an attempt. Says whether that leaves the flight to the others: a failure of what was
    /// sent is all there is to hear, unless another was sent too; one that never had its turn
    /// says nothing while another may still have its own.
    fn leaves(&mut self, launched: bool, conclusive: bool) -> bool {
        self.attempts -= 1;
        self.sent -= u8::from(launched);
        let others = if launched { self.sent } else { self.attempts };
        !conclusive && others > 0
    }

    /// Whether a caller that joins now gets an attempt of its own.
    fn right(&mut self, asker: Asker, stall_after: Duration, now: Instant) -> Option<Right> {
        match self.sent_at {
            None if asker.urgency > self.urgency => {
                self.urgency = asker.urgency;
                self.callers.push(asker.caller);
                Some(Right::First)
            }
            None if asker.urgency == self.urgency
                && self.attempts < MAX_ATTEMPTS
                && !self.callers.contains(&asker.caller) =>
            {
                self.callers.push(asker.caller);
                Some(Right::First)
            }
            Some(sent_at)
                if !self.replaced && now.saturating_duration_since(sent_at) >= stall_after =>
            {
                self.replaced = true;
                Some(Right::Replacement)
            }
            None | Some(_) => None,
        }
    }
}

/// Waits for a flight to land.
#[derive(Debug)]
pub struct Follower<T> {
    progress: watch::Receiver<Progress<T>>,
}

impl<T: Clone> Follower<T> {
    /// Waits for the landing, for as long as `patience`, or until a fetch that was sent waits for its
    /// turn again: that is the end of this wait too, and who joins anew may be charged with a fetch.
    ///
    /// # Errors
    /// When there is none in time; see [`Error`].
    ///
    /// # Cancellation
    /// A follower that is dropped leaves; the flight goes on.
    pub async fn wait(&mut self, patience: Duration) -> Result<T, Error> {
        let was_sent = !self.is_waiting();
        let ends = |progress: &Progress<T>| match progress {
            Progress::Landed(_) | Progress::Cancelled => true,
            Progress::Waiting => was_sent,
            Progress::Sent => false,
        };
        match tokio::time::timeout(patience, self.progress.wait_for(ends)).await {
            Err(_) => Err(Error::Deadline),
            Ok(Ok(progress)) => match &*progress {
                Progress::Landed(outcome) => Ok(outcome.clone()),
                Progress::Waiting => Err(Error::Deadline),
                Progress::Cancelled => Err(Error::CalledOff),
                Progress::Sent => Err(Error::Abandoned),
            },
            Ok(Err(_)) => Err(Error::Abandoned),
        }
    }

    /// What there is to hear by now.
    #[cfg(test)]
    pub(super) fn heard(&self) -> Option<Result<T, Error>> {
        match &*self.progress.borrow() {
            Progress::Landed(outcome) => Some(Ok(outcome.clone())),
            Progress::Cancelled => Some(Err(Error::CalledOff)),
            Progress::Waiting | Progress::Sent => {
                let abandoned = self.progress.has_changed().is_err();
                abandoned.then_some(Err(Error::Abandoned))
            }
        }
    }

    /// Whether the fetch still waits for its turn.
    pub fn is_waiting(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Waiting)
    }
}

/// The duty to fetch for a key, and the only right to land its flight.
#[derive(Debug)]
pub struct Obligation<T> {
    collapse: Arc<Collapse<T>>,
    key: CacheKey,
    progress: Progresses<T>,
    called_off: CancellationToken,
    superseded: CancellationToken,
    right: Right,
    launched: bool,
    spent: bool,
}

impl<T> Obligation<T> {
    /// Says that this attempt is about to be sent. `false` if another has been, or the flight has
    /// landed: then this one must not be.
    pub fn launch(&mut self, now: Instant) -> bool {
        let launched = self.collapse.with_flight(self, |flight| {
            if flight.sent_at.is_some() && self.right == Right::First {
                return false;
            }
            flight.sent_at.get_or_insert(now);
            flight.sent += 1;
            flight.superseded.cancel();
            flight.progress.send_if_modified(|progress| {
                let waiting = matches!(progress, Progress::Waiting);
                if waiting {
                    *progress = Progress::Sent;
                }
                waiting
            });
            true
        });
        self.launched = launched.unwrap_or(false);
        self.launched
    }

    /// Says that this attempt, which was sent in vain, waits for another turn. Unless another is under
    /// way, the flight waits with it: who joins may get an attempt again.
    pub fn wait_again(&mut self) {
        if !std::mem::take(&mut self.launched) {
            return;
        }
        self.right = Right::First;
        let superseded = self.collapse.with_flight(self, |flight| {
            flight.sent -= 1;
            if flight.sent == 0 {
                flight.sent_at = None;
                flight.replaced = false;
                flight.superseded = CancellationToken::new();
                flight.progress.send_replace(Progress::Waiting);
            }
            flight.superseded.clone()
        });
        if let Some(superseded) = superseded {
            self.superseded = superseded;
        }
    }

    /// Resolves when this attempt need not wait any longer, as another one is sent or has landed; not
    /// otherwise.
    pub fn superseded(&self) -> impl Future<Output = ()> + Send + use<T> {
        self.superseded.clone().cancelled_owned()
    }

    /// Resolves when the flight is called off, and otherwise never.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<T> {
        self.called_off.clone().cancelled_owned()
    }

    /// Lands the flight with `outcome`.
    ///
    /// `first` is done with it before anybody hears of it, and only if it is what they will hear:
    /// a fetch that was replaced, and lands after its replacement, changes nothing any more.
    ///
    /// An outcome that is not `conclusive`, a failure, is kept to itself while another attempt may
    /// still bring a better one.
    pub fn land(mut self, outcome: T, conclusive: bool, first: impl FnOnce(&T)) {
        self.spent = true;
        let collapse = Arc::clone(&self.collapse);
        collapse.end(&self, Some(outcome), conclusive, first);
    }
}

impl<T> Drop for Obligation<T> {
    fn drop(&mut self) {
        if !self.spent {
            self.collapse.end(self, None, false, |_| {});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(2);
    const ASKER: Asker = asker(1, 1);
    const PATIENCE: Duration = Duration::from_mins(1);

    const fn asker(urgency: u8, caller: u32) -> Asker {
        Asker { urgency, caller }
    }

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
        let joined = collapse
            .join(key, ASKER, now)
            .expect("room for one more waiter");
        let mut obligation = joined.obligation;
        if let Some(obligation) = &mut obligation {
            assert!(obligation.launch(now));
        }
        (joined.follower, obligation)
    }

    #[tokio::test(start_paused = true)]
    async fn one_obligation_serves_all_who_joined() {
        let (collapse, key, now) = flights();
        let (mut leader, obligation) = join(&collapse, &key, now);
        let (mut follower, none) = join(&collapse, &key, now);
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
        let (mut follower, _) = join(&collapse, &key, now);
        drop(leader);
        obligation
            .expect("the first to join fetches")
            .land(7, true, |_| {});
        assert_eq!(follower.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_obligation_wakes_its_followers_and_frees_the_key() {
        let (collapse, key, now) = flights();
        let (mut follower, obligation) = join(&collapse, &key, now);
        drop(obligation);
        assert_eq!(follower.wait(PATIENCE).await, Err(Error::Abandoned));
        assert!(join(&collapse, &key, now).1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn each_waiter_has_its_own_deadline() {
        let (collapse, key, now) = flights();
        let (mut impatient, obligation) = join(&collapse, &key, now);
        let (mut patient, _) = join(&collapse, &key, now);
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
        let (mut early, stalled) = join(&collapse, &key, now);
        assert!(join(&collapse, &key, now + STALL / 2).1.is_none());
        let (mut late, replacement) = join(&collapse, &key, now + STALL);
        assert!(
            join(&collapse, &key, now + STALL * 3).1.is_none(),
            "there is no third"
        );
        replacement
            .expect("a stalled fetch is replaced")
            .land(2, true, |_| {});
        assert_eq!(early.wait(PATIENCE).await, Ok(2));
        assert_eq!(late.wait(PATIENCE).await, Ok(2));
        let (mut next, obligation) = join(&collapse, &key, now + STALL * 4);
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
        let (mut follower, stalled) = join(&collapse, &key, now);
        let (_, replacement) = join(&collapse, &key, now + STALL);
        replacement
            .expect("a stalled fetch is replaced")
            .land(500, false, |_| {});
        stalled
            .expect("the first to join fetches")
            .land(1, true, |_| {});
        assert_eq!(follower.wait(PATIENCE).await, Ok(1));

        let (mut follower, stalled) = join(&collapse, &key, now);
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
        assert_eq!(
            collapse.join(&key, ASKER, now).map(|_| ()),
            Err(TooManyWaiters)
        );
        let other = CacheKey::of_id(0, "u2");
        assert!(collapse.join(&other, ASKER, now).is_ok());
        drop(waiting);
        assert!(collapse.join(&key, ASKER, now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_more_urgent_caller_waits_in_its_own_class_and_one_attempt_is_sent() {
        let (collapse, key, now) = flights();
        let mut batch = collapse.join(&key, asker(0, 1), now).expect("room");
        let mut waiting = batch.obligation.take().expect("the first to join fetches");
        let urgent = collapse.join(&key, asker(2, 1), now).expect("room");
        let mut overtaking = urgent.obligation.expect("it must not wait as a batch does");
        assert!(
            collapse
                .join(&key, asker(2, 1), now)
                .expect("room")
                .obligation
                .is_none()
        );
        assert!(batch.follower.is_waiting());
        assert!(overtaking.launch(now));
        assert!(!batch.follower.is_waiting());
        assert!(!waiting.launch(now), "another attempt is sent");
        drop(waiting);
        overtaking.land(7, true, |_| {});
        assert_eq!(batch.follower.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_attempt_leaves_the_flight_to_the_one_that_still_waits() {
        let (collapse, key, now) = flights();
        let mut batch = collapse.join(&key, asker(0, 1), now).expect("room");
        let mut waiting = batch.obligation.take().expect("the first to join fetches");
        let urgent = collapse.join(&key, asker(2, 1), now).expect("room");
        urgent
            .obligation
            .expect("an attempt of its own")
            .land(429, false, |_| {});
        assert!(waiting.launch(now));
        waiting.land(7, true, |_| {});
        assert_eq!(batch.follower.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_and_failed_is_heard_at_once_though_another_still_waits() {
        let (collapse, key, now) = flights();
        let mut batch = collapse.join(&key, asker(0, 1), now).expect("room");
        let mut waiting = batch.obligation.take().expect("the first to join fetches");
        let urgent = collapse.join(&key, asker(2, 1), now).expect("room");
        let mut overtaking = urgent.obligation.expect("an attempt of its own");
        assert!(overtaking.launch(now));
        overtaking.land(503, false, |_| {});
        assert_eq!(batch.follower.wait(PATIENCE).await, Ok(503));
        assert!(!waiting.launch(now), "there is nobody left to fetch for");
    }

    #[tokio::test(start_paused = true)]
    async fn others_as_urgent_wait_on_their_own_and_leave_when_one_is_sent() {
        let (collapse, key, now) = flights();
        let mut attempts = Vec::new();
        for caller in [1, 2, 2, 3, 4, 5, 6] {
            let joined = collapse.join(&key, asker(1, caller), now).expect("room");
            attempts.extend(joined.obligation.map(|obligation| (caller, obligation)));
        }
        let callers: Vec<_> = attempts.iter().map(|(caller, _)| *caller).collect();
        assert_eq!(callers, [1, 2, 3, 4]);
        let (_, mut second) = attempts.remove(1);
        assert!(second.launch(now));
        for (_, mut other) in attempts {
            other.superseded().await;
            assert!(!other.launch(now));
        }
        let mut late = collapse.join(&key, asker(1, 7), now).expect("room");
        assert!(late.obligation.is_none());
        second.land(7, true, |_| {});
        assert_eq!(late.follower.wait(PATIENCE).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_in_vain_waits_again_and_may_be_overtaken() {
        let (collapse, key, now) = flights();
        let (mut follower, obligation) = join(&collapse, &key, now);
        let mut first = obligation.expect("the first to join fetches");
        assert!(!follower.is_waiting());
        first.wait_again();
        assert!(follower.is_waiting());
        let stalled = collapse.join(&key, ASKER, now + STALL * 2).expect("room");
        assert!(stalled.obligation.is_none(), "nothing stalls that waits");
        let other = collapse.join(&key, asker(1, 2), now).expect("room");
        let mut other = other.obligation.expect("it waits");
        assert!(other.launch(now));
        first.superseded().await;
        assert!(!first.launch(now), "another attempt is sent");
        drop(first);
        other.land(7, true, |_| {});
        assert_eq!(follower.wait(PATIENCE).await, Ok(7));
    }
}
