//! What a connection is busy with, and since when.
//!
//! The request path only sets a word in an atomic; no clock is read for it. The connection's own
//! timer looks from time to time and counts how long it has seen the same word, so a time limit is
//! kept to within one look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// A request that the application has, and an answer that hyper has, as [`Activity`] counts both in
/// one number.
const REQUEST: u64 = 1;
const ANSWER: u64 = 1 << 32;

/// What a connection is busy with.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests handed to the application and not yet answered, and in the upper half answers that
    /// hyper has not yet taken to the end. On HTTP/2 each is counted by a task of its own.
    open: AtomicU64,
    /// What hyper has taken may not have left yet.
    unflushed: AtomicBool,
    /// Requests that have come so far. Written by the connection's own task only.
    requests: AtomicU32,
    /// Bytes of a request's head have come.
    head_begun: AtomicBool,
    /// The connection will be closed soon, and answers should say so.
    ending: AtomicBool,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The application.
    Busy,
    /// The client to take its answer.
    Answering,
}

impl Activity {
    pub(super) fn phase(&self) -> Phase {
        let open = self.open.load(Ordering::Relaxed);
        if open & (ANSWER - REQUEST) > 0 {
            Phase::Busy
        } else if open > 0 || self.unflushed.load(Ordering::Relaxed) {
            Phase::Answering
        } else if self.head_begun.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Bytes have come in.
    pub(super) fn received(&self) {
        if self.phase() == Phase::Idle {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Everything written has left.
    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Ordering::Relaxed);
    }

    /// The connection is about to end.
    pub(super) fn announce_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// A request goes to the application, until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.head_begun.store(false, Ordering::Relaxed);
        let requests = self.requests.load(Ordering::Relaxed);
        self.requests
            .store(requests.wrapping_add(1), Ordering::Relaxed);
        self.open.fetch_add(REQUEST, Ordering::Relaxed);
        UnderWay(Some(Arc::clone(self)))
    }
}

/// A request that the application has.
#[derive(Debug)]
pub(super) struct UnderWay(Option<Arc<Activity>>);

impl UnderWay {
    /// Whether the connection is about to end.
    pub(super) fn is_last(&self) -> bool {
        let activity = self.0.as_ref();
        activity.is_some_and(|activity| activity.ending.load(Ordering::Relaxed))
    }

    /// The application has answered; the answer leaves until the guard is dropped.
    pub(super) fn answered(mut self) -> Leaving {
        let activity = self.0.take();
        if let Some(activity) = &activity {
            activity.open.fetch_add(ANSWER - REQUEST, Ordering::Relaxed);
        }
        Leaving(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.open.fetch_sub(REQUEST, Ordering::Relaxed);
        }
    }
}

/// An answer that hyper has. There is always an activity; only a request that became an answer has
/// given its own away.
#[derive(Debug)]
pub(super) struct Leaving(Option<Arc<Activity>>);

impl Leaving {
    /// The application has the next piece of the answer still to come, until the guard is dropped.
    pub(super) fn waits(&self) -> UnderWay {
        if let Some(activity) = &self.0 {
            activity.open.fetch_add(REQUEST, Ordering::Relaxed);
        }
        UnderWay(self.0.clone())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.unflushed.store(true, Ordering::Relaxed);
            activity.open.fetch_sub(ANSWER, Ordering::Relaxed);
        }
    }
}

/// Counts how long a connection has been seen in one phase.
#[derive(Debug)]
pub(super) struct Watch {
    header_timeout: Duration,
    idle_timeout: Duration,
    /// `idle_timeout` until the connection is asked to end; for an answer it stays what it was.
    pause: Duration,
    multiplexed: bool,
    seen: (Phase, u32),
    since: Instant,
}

/// What a look at a connection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Fine,
    /// A request's head does not come to an end.
    HeadTooSlow,
    /// It has been idle for too long, or its client does not take its answer.
    Unused,
}

impl Watch {
    /// Watches a connection that begins at `now`. Bytes on a `multiplexed` one (HTTP/2) need not
    /// belong to a request.
    pub(super) fn new(limits: &Limits, multiplexed: bool, now: Instant) -> Self {
        Self {
            header_timeout: limits.header_timeout,
            idle_timeout: limits.idle_timeout,
            pause: limits.idle_timeout,
            multiplexed,
            seen: (Phase::Idle, 0),
            since: now,
        }
    }

    /// How often to look, so that a limit is overrun by a quarter at most.
    pub(super) fn interval(limits: &Limits) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(10);
        const LONGEST: Duration = Duration::from_secs(5);
        (limits.header_timeout.min(limits.idle_timeout) / 4).clamp(SHORTEST, LONGEST)
    }

    /// Lets a connection that was asked to end pause no longer than `pause`.
    pub(super) fn shorten_pause(&mut self, pause: Duration) {
        self.pause = self.pause.min(pause);
        self.header_timeout = self.header_timeout.min(pause);
    }

    /// Looks at the connection.
    pub(super) fn look(&mut self, activity: &Activity, now: Instant) -> Look {
        let phase = match activity.phase() {
            Phase::Head if self.multiplexed => Phase::Idle,
            phase => phase,
        };
        let requests = activity.requests.load(Ordering::Relaxed);
        let seen = (phase, requests);
        if seen != self.seen {
            (self.seen, self.since) = (seen, now);
            return Look::Fine;
        }
        let lasted = now.saturating_duration_since(self.since);
        match phase {
            Phase::Head if lasted >= self.header_timeout => Look::HeadTooSlow,
            // A connection that never brought a request has the time of a head, not of a pause.
            Phase::Idle if requests == 0 && lasted >= self.header_timeout => Look::Unused,
            Phase::Idle if lasted >= self.pause => Look::Unused,
            Phase::Answering if lasted >= self.idle_timeout => Look::Unused,
            // The application has deadlines of its own; the others are not over yet.
            Phase::Busy | Phase::Head | Phase::Idle | Phase::Answering => Look::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn limits() -> Limits {
        let key = [("FLAMEUP_API_KEY", "ws_test_a.b")];
        let config = Config::load(&Sources::inline("", key)).expect("the defaults");
        let (header_timeout, idle_timeout) = (Duration::from_secs(10), Duration::from_secs(75));
        Limits {
            header_timeout,
            idle_timeout,
            ..config.config.server.limits
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_that_never_ends_is_too_slow_however_often_a_byte_comes() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        activity.received();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        for second in 1..10 {
            activity.received();
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
        }
        assert_eq!(watch.look(&activity, now + seconds(10)), Look::HeadTooSlow);
    }

    #[test]
    fn a_request_under_way_is_left_alone_and_a_pause_after_it_is_not() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        activity.received();
        let request = activity.begin();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        let answer = request.answered();
        assert_eq!(activity.phase(), Phase::Answering);
        activity.flushed();
        assert_eq!(
            activity.phase(),
            Phase::Answering,
            "hyper still has some of it"
        );
        drop(answer);
        assert_eq!(activity.phase(), Phase::Answering);
        activity.flushed();
        assert_eq!(activity.phase(), Phase::Idle);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1074)), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1075)), Look::Unused);
    }

    #[test]
    fn an_answer_whose_next_piece_is_still_to_come_is_not_the_clients_fault() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        let answer = activity.begin().answered();
        let waiting = answer.waits();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1000)), Look::Fine);
        drop(waiting);
        assert_eq!(watch.look(&activity, now + seconds(1001)), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(1076)), Look::Unused);
    }

    #[test]
    fn asking_a_connection_to_end_cuts_no_answer_short() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), true, now);
        watch.shorten_pause(seconds(1));
        let answer = activity.begin().answered();
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(20)), Look::Fine);
        drop(answer);
        activity.flushed();
        assert_eq!(watch.look(&activity, now + seconds(20)), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(21)), Look::Unused);
    }

    #[test]
    fn requests_between_two_looks_start_the_pause_anew() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        for second in [50, 100, 150] {
            activity.received();
            drop(activity.begin().answered());
            activity.flushed();
            assert_eq!(watch.look(&activity, now + seconds(second)), Look::Fine);
        }
    }

    #[test]
    fn a_connection_without_a_request_has_the_time_of_a_head() {
        for multiplexed in [false, true] {
            let activity = Activity::default();
            let now = Instant::now();
            let mut watch = Watch::new(&limits(), multiplexed, now);
            if multiplexed {
                activity.received(); // A preface is no request.
            }
            assert_eq!(watch.look(&activity, now + seconds(9)), Look::Fine);
            assert_eq!(watch.look(&activity, now + seconds(10)), Look::Unused);
        }
    }

    #[test]
    fn a_client_that_does_not_take_its_answer_is_let_go() {
        let activity = Arc::new(Activity::default());
        let now = Instant::now();
        let mut watch = Watch::new(&limits(), false, now);
        drop(activity.begin().answered());
        assert_eq!(watch.look(&activity, now), Look::Fine);
        assert_eq!(watch.look(&activity, now + seconds(75)), Look::Unused);
    }
}
