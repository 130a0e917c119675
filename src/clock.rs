//! Time, handed in at the edge.
//!
//! Everything that judges freshness, age or a budget takes `now` as a value; only this module reads
//! a clock. A server is built with [`Clock::system`]; a test builds it with [`Clock::manual`] and
//! moves time by hand, so that no test sleeps to see something grow old. Deadlines of real waits
//! (sockets, timers) are Tokio's business and not read from here.

use std::future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

/// A source of time that can be cloned into whatever needs one.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

impl Clock {
    /// The machine's own clocks: monotonic for durations, wall for dates.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is told to advance, and the hand that advances it.
    pub fn manual() -> (Self, Hand) {
        let manual = Arc::new(Manual {
            start: Instant::now(),
            start_wall: SystemTime::now(),
            elapsed_ms: AtomicU64::new(0),
            moved: Notify::new(),
        });
        (Self(Source::Manual(Arc::clone(&manual))), Hand(manual))
    }

    /// The current moment; never goes backwards.
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(manual) => manual.start + manual.elapsed(),
        }
    }

    /// Waits until a manual clock is moved after this call; the machine's own never is. A timer that
    /// stands for a moment of this clock is to be set anew then.
    pub fn moved(&self) -> impl Future<Output = ()> + Send + '_ {
        let moved = match &self.0 {
            Source::System => None,
            // From here on, not from when it is first polled.
            Source::Manual(manual) => Some(manual.moved.notified()),
        };
        async move {
            match moved {
                Some(moved) => moved.await,
                None => future::pending().await,
            }
        }
    }

    /// The current date; may jump when the machine's date is set.
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::System => SystemTime::now(),
            Source::Manual(manual) => manual.start_wall + manual.elapsed(),
        }
    }
}

/// Moves a manual [`Clock`] and all its clones.
#[derive(Clone, Debug)]
pub struct Hand(Arc<Manual>);

impl Hand {
    /// Lets `by` pass at once, in whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.0.elapsed_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }
}

#[derive(Debug)]
struct Manual {
    start: Instant,
    start_wall: SystemTime,
    elapsed_ms: AtomicU64,
    /// Tells those who wait for a moment.
    moved: Notify,
}

impl Manual {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_all_clones_together() {
        let (clock, hand) = Clock::manual();
        let twin = clock.clone();
        let (before, wall) = (clock.now(), clock.wall());
        assert_eq!(clock.now(), before);
        hand.advance(Duration::from_secs(61));
        assert_eq!(twin.now(), before + Duration::from_secs(61));
        assert_eq!(twin.wall(), wall + Duration::from_secs(61));
    }

    #[tokio::test]
    async fn who_waits_for_a_manual_clock_misses_no_move() {
        let (clock, hand) = Clock::manual();
        let moved = clock.moved();
        hand.advance(Duration::from_secs(1));
        moved.await;
    }
}
