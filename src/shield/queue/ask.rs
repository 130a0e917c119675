//! What is asked of the queue, what it sees of the budget, and what it says when it refuses.

use std::time::{Duration, Instant};

/// What the queue sees of the budget.
pub trait Pace {
    /// Earliest moment at which a request costing 1 may start if `ahead` units are to be spent
    /// before it; `now` if at once.
    fn opening(&self, ahead: u32, now: Instant) -> Instant;
    /// Share of the current window's limit that is used, 0 to 1.
    fn used(&self, now: Instant) -> f64;
    /// Units that may still be spent in the window beyond this reserve (share, 0 to 1).
    fn leftover(&self, reserve: f64, now: Instant) -> u32;
    /// Requests per window.
    fn limit(&self) -> u32;
    /// Until when nothing starts for certain; `now` if that is not known.
    fn shut_until(&self, now: Instant) -> Instant {
        now
    }
}

/// A caller, by a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerId(pub u32);

/// What is asked for, by a hash: tells requests for one person from those for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(pub u64);

/// How urgent a request is, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody looks at a screen.
    Interactive,
    /// A service waits.
    Service,
    /// A job that has time.
    Batch,
    /// A background refresh; nobody waits.
    Refresh,
}

/// A request for budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub caller: CallerId,
    /// How urgent it is.
    pub class: Class,
    /// The caller's share inside its class; 1 to 1,000, others are taken as the nearest of these.
    pub weight: u32,
    /// Latest moment at which starting makes sense.
    pub deadline: Instant,
    /// Units it costs: 1, or 2 for a retry; others are taken as the nearest of these.
    pub cost: u32,
    /// Whether this person was seen in this process.
    pub known: bool,
    /// What it is for.
    pub subject: Subject,
    /// Whether a refusal reaches somebody who may come back when told. Only then is it kept as a
    /// promise.
    pub told: bool,
}

/// What bounds the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The budget's window.
    pub window: Duration,
    /// Share of the window kept from background work, 0 to 1.
    pub reserve: f64,
    /// Most requests that wait for one caller.
    pub per_caller: usize,
    /// Most requests that wait.
    pub in_all: usize,
}

/// A request that does not get a place, or lost it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When to come back, in whole seconds, at least one.
    pub retry_after: Duration,
    /// Who is refused.
    pub caller: CallerId,
    /// In which class it asked.
    pub class: Class,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It cannot start by its deadline.
    Deadline,
    /// As many of its caller's requests wait as may.
    CallerFull,
    /// As many requests wait as may.
    QueueFull,
    /// The caller's part for unknown ids is spent, and nothing is left over in time.
    UnknownIds,
    /// A refresh, and nothing is left over in time.
    Background,
}

impl Refusal {
    /// Whether somebody else who asks would hear the same: the same caller in the same class, who waits
    /// no longer than it would take.
    pub fn concerns(&self, caller: CallerId, class: Class, patience: Duration) -> bool {
        let is_full = matches!(self.reason, Reason::CallerFull | Reason::QueueFull);
        self.caller == caller && self.class == class && (is_full || patience < self.retry_after)
    }
}

impl Ask {
    pub(super) fn within_bounds(self) -> Self {
        Self {
            weight: self.weight.clamp(1, 1_000),
            cost: self.cost.clamp(1, 2),
            ..self
        }
    }
}

/// Where a request waits: 0 to 2 the classes, 3 to 5 their unknown ids, 6 refreshes. All that has
/// a lower rank starts before it while order is strict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(pub(super) usize);

impl Rank {
    pub(super) const REFRESH: Self = Self(6);

    pub(super) fn of(class: Class, known: bool) -> Self {
        let first = if known { 0 } else { 3 };
        match class {
            Class::Interactive => Self(first),
            Class::Service => Self(first + 1),
            Class::Batch => Self(first + 2),
            Class::Refresh => Self::REFRESH,
        }
    }

    pub(super) fn is_known(self) -> bool {
        self.0 < 3
    }
}

impl Reason {
    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::CallerFull => "caller_full",
            Self::QueueFull => "queue_full",
            Self::UnknownIds => "unknown_ids",
            Self::Background => "background",
        }
    }
}

impl Class {
    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Service => "service",
            Self::Batch => "batch",
            Self::Refresh => "refresh",
        }
    }
}
