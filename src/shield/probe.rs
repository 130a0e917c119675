//! Trying again what is known to fail: one probe at a time, after growing delays.
//!
//! # Invariants
//! - At most one probe is under way that has not been given up.
//! - The next probe is at most the longest delay away once none is under way: nothing locks for ever.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Until the first probe: long enough for a restart, short enough that callers hardly notice.
pub(super) const FIRST_DELAY: Duration = Duration::from_secs(5);

/// Delays double up to this.
pub(super) const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// What who comes while a probe is under way is told to wait. The probe's end cannot be foreseen;
/// most lookups are answered within this.
const WHILE_PROBED: Duration = Duration::from_secs(1);

/// How long to wait before trying again.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// Before the first probe.
    pub first: Duration,
    /// They double up to this.
    pub longest: Duration,
}

impl Delays {
    /// Of Flameup, where each probe is one of few requests.
    pub(super) const FLAMEUP: Self = Self {
        first: FIRST_DELAY,
        longest: LONGEST_DELAY,
    };
}

/// Something that failed, waiting to be tried again.
#[derive(Debug)]
pub(super) struct Probing {
    due: Instant,
    delay: Duration,
    longest: Duration,
    /// A probe that is under way for longer is taken for lost, and its report for nothing: whoever
    /// held it may never give it back.
    give_up_after: Duration,
    /// The latest probe and when it went out. It is under way as long as its [`Token`] exists.
    probe: Option<(Weak<()>, Instant)>,
}

/// Held by the one probe under way; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Token(Arc<()>);

impl Probing {
    /// Something that failed at `now`.
    pub(super) fn since(now: Instant, delays: Delays, give_up_after: Duration) -> Self {
        Self {
            due: now + delays.first,
            delay: delays.first,
            longest: delays.longest,
            give_up_after,
            probe: None,
        }
    }

    /// When the next probe may go, unless one is under way.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Lets a probe go, or says how long to wait.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Token, Duration> {
        let wait = self.due.saturating_duration_since(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        if self.is_under_way(now) {
            return Err(WHILE_PROBED);
        }
        let token = Arc::new(());
        self.probe = Some((Arc::downgrade(&token), now));
        Ok(Token(token))
    }

    /// Whether `token` is the probe that counts.
    pub(super) fn knows(&self, token: &Token) -> bool {
        let probe = self.probe.as_ref();
        probe.is_some_and(|(probe, _)| probe.as_ptr() == Arc::as_ptr(&token.0))
    }

    /// The probe failed at `now`: the next one waits twice as long.
    pub(super) fn failed(&mut self, now: Instant) {
        self.delay = (self.delay * 2).min(self.longest);
        self.postpone(now);
    }

    /// The probe, back at `now`, told nothing: the next one waits as long again.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.due = now + self.delay;
        self.probe = None;
    }

    fn is_under_way(&self, now: Instant) -> bool {
        self.probe.as_ref().is_some_and(|(probe, since)| {
            probe.strong_count() > 0 && now.saturating_duration_since(*since) < self.give_up_after
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(3);

    #[test]
    fn delays_double_to_a_minute_and_no_further() {
        let mut now = Instant::now();
        let mut probing = Probing::since(now, Delays::FLAMEUP, PATIENCE);
        for seconds in [5, 10, 20, 40, 60, 60] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(probing.admit(now).err(), Some(delay));
            now += delay;
            assert!(probing.admit(now).is_ok());
            probing.failed(now);
        }
        probing.postpone(now);
        assert_eq!(probing.due(), now + LONGEST_DELAY);
    }

    #[test]
    fn a_probe_holds_the_place_until_it_is_dropped_or_overdue() {
        let start = Instant::now();
        let now = start + FIRST_DELAY;
        let mut probing = Probing::since(start, Delays::FLAMEUP, PATIENCE);
        let dropped = probing.admit(now).expect("due");
        assert_eq!(probing.admit(now).err(), Some(WHILE_PROBED));
        drop(dropped);
        let overdue = probing.admit(now).expect("there is room again");
        assert!(probing.admit(now + PATIENCE / 2).is_err());
        assert!(probing.knows(&overdue));
        let latest = probing
            .admit(now + PATIENCE)
            .expect("the other one is lost");
        assert!(probing.knows(&latest) && !probing.knows(&overdue));
    }
}
