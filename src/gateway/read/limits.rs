//! Until when a read waits for a fetch, and whose time is over first.

use std::time::Duration;

use super::STALE_PATIENCE;

/// What a request allows its own attempt beyond the time that this may wait, so that it is told what the
/// attempt was told.
const OWN_GRACE: Duration = Duration::from_millis(250);

/// Until when a request waits.
#[derive(Debug)]
pub(super) struct Limits {
    /// Whatever happens.
    deadline: tokio::time::Instant,
    /// For the fetch's turn.
    turn_by: tokio::time::Instant,
    /// For the fetch's turn, where something stale may be served instead.
    pub(super) cover_by: Option<tokio::time::Instant>,
    /// It has an attempt of its own, which will tell.
    pub(super) has_attempt: bool,
    /// Before looking whether the fetch has stalled.
    look_after: Duration,
}

/// Whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Nobody's.
    Not,
    /// The whole request's.
    Deadline,
    /// That for a turn.
    Turn,
    /// That for keeping something stale back.
    Cover,
}

impl Limits {
    pub(super) fn new(
        longest: Duration,
        patience: Duration,
        covered: bool,
        look_after: Duration,
    ) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            deadline: now + longest,
            turn_by: now + patience,
            cover_by: covered.then(|| now + STALE_PATIENCE),
            has_attempt: false,
            look_after,
        }
    }

    /// What is left of the time for a turn.
    pub(super) fn left(&self) -> Duration {
        self.turn_by
            .saturating_duration_since(tokio::time::Instant::now())
    }

    /// How long to wait now; `for_turn` if the fetch still waits for its own.
    pub(super) fn patience(&self, for_turn: bool) -> Duration {
        let (until, _) = self.next(for_turn);
        until
            .saturating_duration_since(tokio::time::Instant::now())
            .min(self.look_after)
    }

    /// Whether time is over.
    pub(super) fn check(&self, for_turn: bool) -> Late {
        let (until, late) = self.next(for_turn);
        if tokio::time::Instant::now() < until {
            Late::Not
        } else {
            late
        }
    }

    /// What ends next, and when.
    fn next(&self, for_turn: bool) -> (tokio::time::Instant, Late) {
        let grace = if self.has_attempt {
            OWN_GRACE
        } else {
            Duration::ZERO
        };
        let turn = (self.turn_by + grace, Late::Turn);
        let cover = self.cover_by.map(|cover_by| (cover_by, Late::Cover));
        let waiting = [Some(turn), cover]
            .into_iter()
            .flatten()
            .filter(|_| for_turn);
        let all = waiting.chain([(self.deadline, Late::Deadline)]);
        all.min_by_key(|&(until, _)| until)
            .unwrap_or((self.deadline, Late::Deadline))
    }
}
