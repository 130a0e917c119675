//! Flameup as the gateway meets it: the stand-in's limiter, its headers, its clock, and somebody
//! else who spends the same key.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flameup_gateway::sandbox::limiter::{Kind, Limiter, Verdict};
use flameup_gateway::shield::signals::{Reset, RetryAfter, Signals};

use crate::chance::Chance;
use crate::{LIMIT, WINDOW, World};

/// The gateway's date at the start; not on a whole second.
const WALL_AT_START: Duration = Duration::from_millis(1_800_000_000_370);

/// How long before the start the first fixed window began.
const PHASE: Duration = Duration::from_millis(17_300);

/// Time between two requests of the foreign consumer, on average: 20 a minute. Each time it is drawn
/// evenly from half of this to half as much again.
const FOREIGN_GAP: Duration = Duration::from_secs(3);

/// The limiter and what its answers say.
#[derive(Debug)]
pub(crate) struct Flameup {
    limiter: Limiter,
    skew_s: i64,
    start: Instant,
    /// Requests of the window behind us, and the most there ever were.
    lately: VecDeque<Instant>,
    most_in_a_window: usize,
}

/// When a request was counted, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    verdict: Verdict,
    at: Instant,
}

impl Flameup {
    pub(crate) fn new(world: &World, start: Instant) -> Self {
        let anchor = start.checked_sub(PHASE).expect("the start lies ahead");
        Self {
            limiter: Limiter::new(world.kind, LIMIT, WINDOW).anchored_at(anchor),
            skew_s: world.skew_s,
            start,
            lately: VecDeque::new(),
            most_in_a_window: 0,
        }
    }

    /// Counts a request of anybody.
    pub(crate) fn count(&mut self, now: Instant) -> Counted {
        self.lately.push_back(now);
        while self.lately.front().is_some_and(|&at| now - at >= WINDOW) {
            self.lately.pop_front();
        }
        self.most_in_a_window = self.most_in_a_window.max(self.lately.len());
        Counted {
            verdict: self.limiter.take(now),
            at: now,
        }
    }

    /// The most requests in any time as long as a window, refused ones included.
    pub(crate) fn most_in_a_window(&self) -> usize {
        self.most_in_a_window
    }

    /// The gateway's own date.
    pub(crate) fn wall(&self, now: Instant) -> SystemTime {
        UNIX_EPOCH + WALL_AT_START + (now - self.start)
    }

    /// What the headers of an answer that leaves at `now` say: moments in whole seconds by Flameup's
    /// clock, `Date` rounded down and the others up.
    pub(crate) fn signals(&self, counted: Counted, now: Instant) -> Signals {
        let Counted { verdict, at } = counted;
        let date_s = self.skewed(now).as_secs();
        let reset = self.skewed(at) + verdict.reset_after;
        let retry_after = Duration::from_secs(whole_seconds(verdict.retry_after));
        Signals {
            limit: Some(verdict.limit),
            remaining: Some(verdict.remaining),
            reset: Some(Reset(whole_seconds(reset))),
            retry_after: (!verdict.allowed).then_some(RetryAfter::After(retry_after)),
            date: Some(UNIX_EPOCH + Duration::from_secs(date_s)),
            is_429: !verdict.allowed,
        }
    }

    fn skewed(&self, at: Instant) -> Duration {
        let since = WALL_AT_START + (at - self.start);
        let moved_s = since.as_secs().saturating_add_signed(self.skew_s);
        Duration::new(moved_s, since.subsec_nanos())
    }
}

impl Counted {
    /// Whether it was within the limit.
    pub(crate) fn is_allowed(&self) -> bool {
        self.verdict.allowed
    }
}

/// When the foreign consumer asks.
#[derive(Debug)]
pub(crate) struct Foreign(Chance);

impl Foreign {
    pub(crate) fn new() -> Self {
        Self(Chance(0x5EED_0002))
    }

    /// Time to its next request.
    pub(crate) fn gap(&mut self) -> Duration {
        self.0.between(FOREIGN_GAP / 2, FOREIGN_GAP * 3 / 2)
    }
}

/// The word for a kind of window.
pub(crate) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Fixed => "fixed",
        Kind::Sliding => "sliding",
        Kind::Bucket => "bucket",
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
