//! Which kind of limiter Flameup has, as far as its answers prove it.
//!
//! The docs do not say. Each kind is taken for proven only by what the other kinds cannot do, even
//! with someone else spending the same key (who can only make `Remaining` smaller):
//!
//! - A sliding log counts each request for a whole window. `Remaining` above the limit less what we
//!   surely sent in the last window refutes it.
//! - A bucket fills evenly. A rise of `Remaining` by more than flows back meanwhile refutes it, and
//!   so does a `Reset` that is not the time to fill what is missing.
//! - A fixed window ends where it ends. A `Reset` that is no whole number of windows from an earlier
//!   one refutes it, and so does `Remaining` that rises before the end.
//!
//! Only answers are compared of which one was sent after the other had arrived: among those in
//! flight together, nothing tells the order in which they were counted.

use std::time::{Duration, Instant};

use super::Kind;
use super::log::Own;
use super::skew::{Ending, nanos};

/// Boundaries at which a fixed window must be seen to open. One refutes the other kinds; the second
/// rules out that the limiter was restarted at that moment.
const OPENINGS: u32 = 2;

/// Answers that must speak for a bucket or a sliding window without one that speaks against it.
const ANSWERS: u32 = 8;

/// What is unknown of the end of a window is at most one part in this many of it: with more, there is
/// no more to gain from the proof than the caution at each boundary costs.
const BLUR: u32 = 8;

/// One answer with everything it tells of the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// How many requests it says were counted: none if it is a 429.
    pub(super) requests: u32,
    pub(super) own: Own,
    /// Own requests answered before this was sent.
    pub(super) settled_before: u64,
    pub(super) ending: Ending,
}

/// The evidence so far.
#[derive(Debug)]
pub(super) struct Evidence {
    window: Duration,
    kind: Kind,
    last: Option<Sample>,
    openings: u32,
    bucket: Run,
    sliding: Run,
}

/// Answers in a row that fit a kind.
#[derive(Debug, Default)]
struct Run {
    first: Option<Sample>,
    answers: u32,
}

impl Evidence {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            kind: Kind::Unknown,
            last: None,
            openings: 0,
            bucket: Run::default(),
            sliding: Run::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Forgets everything: after a 429 that cannot have been, or when the limit changes.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.window);
    }

    pub(super) fn observe(&mut self, sample: &Sample) {
        let blur = sample.received.saturating_duration_since(sample.sent) + sample.ending.width();
        let in_order = self.last.is_none_or(|last| sample.sent >= last.received);
        if blur > self.window / BLUR || !in_order {
            return;
        }
        if let Some(last) = self.last.replace(*sample) {
            self.judge_fixed(&last, sample);
        }
        self.judge_creeping(sample);
    }

    fn judge_fixed(&mut self, last: &Sample, sample: &Sample) {
        let moved = sample.ending.after(&last.ending);
        let rise = sample.remaining.saturating_sub(last.remaining);
        let same = moved == 0 && rise == 0;
        let next = moved >= nanos(self.window) - nanos(Duration::from_secs(1))
            && sample.ending.succeeds(&last.ending, sample.received);
        if !same && !next {
            self.openings = 0;
            self.refute(Kind::Fixed);
        } else if next && refutes_sliding(sample) && f64::from(rise) > self.flow(last, sample) + 1.0
        {
            self.openings = self.openings.saturating_add(1);
            if self.openings >= OPENINGS {
                self.kind = Kind::Fixed;
            }
        }
    }

    /// Judges the two kinds whose `Reset` creeps along.
    fn judge_creeping(&mut self, sample: &Sample) {
        let fills = self.is_time_to_fill(sample);
        let (window, beyond) = (self.window, refutes_sliding(sample));
        if !fills {
            self.refute(Kind::Bucket);
        }
        if beyond {
            self.refute(Kind::Sliding);
        }
        if self.bucket.fits(fills, beyond, sample, window) >= window {
            self.kind = Kind::Bucket;
        }
        if self.sliding.fits(!beyond, !fills, sample, window) >= window / 2
            && self.kind == Kind::Unknown
        {
            self.kind = Kind::Sliding;
        }
    }

    fn refute(&mut self, kind: Kind) {
        if self.kind == kind {
            self.kind = Kind::Unknown;
        }
    }

    /// Units that flow back into a bucket between two answers, at most.
    fn flow(&self, last: &Sample, sample: &Sample) -> f64 {
        let between = sample.received.saturating_duration_since(last.sent);
        f64::from(sample.limit) * between.as_secs_f64() / self.window.as_secs_f64()
    }

    /// Whether `Reset` may be the time until a bucket with so much remaining is full.
    fn is_time_to_fill(&self, sample: &Sample) -> bool {
        let missing = sample.limit.saturating_sub(sample.remaining);
        let unit = self.window / sample.limit.max(1);
        let earliest = sample.sent + unit * missing.saturating_sub(1);
        let latest = sample.received + unit * missing.saturating_add(1);
        sample.ending.earliest <= latest && earliest <= sample.ending.latest
    }
}

impl Run {
    /// Takes in whether an answer `fits`; a `telling` one also refutes the other kind. Returns how
    /// long the run is once it proves something.
    fn fits(&mut self, fits: bool, telling: bool, sample: &Sample, window: Duration) -> Duration {
        if !fits {
            *self = Self::default();
            return Duration::ZERO;
        }
        let first = *self.first.get_or_insert(*sample);
        if telling && sample.ending.off_grid(&first.ending, window) {
            self.answers = self.answers.saturating_add(1);
        }
        if self.answers < ANSWERS {
            return Duration::ZERO;
        }
        sample.received.saturating_duration_since(first.sent)
    }
}

/// Whether more remains than a sliding log would leave after what we surely sent in the window.
fn refutes_sliding(sample: &Sample) -> bool {
    u64::from(sample.remaining) + u64::from(sample.own.least) > u64::from(sample.limit)
}
