//! How a replica stands to the log of one workspace, for whoever looks people up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::position::Position;

/// How far a replica has followed a log, and what time it is there.
#[derive(Debug)]
pub struct Standing {
    /// Changes may have been missed: memory alone is not believed.
    suspect: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    applied: Position,
    /// A moment at Redis, and when that was heard here.
    time: Option<(Duration, Instant)>,
}

/// Before anything was heard, changes may have been missed.
impl Default for Standing {
    fn default() -> Self {
        Self {
            suspect: AtomicBool::new(true),
            known: Mutex::default(),
        }
    }
}

impl Standing {
    /// Whether changes may have been missed. One load, for the hit path.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// Says whether changes may have been missed.
    pub fn suspect(&self, suspect: bool) {
        self.suspect.store(suspect, Ordering::Release);
    }

    /// Up to where all changes have been applied here. What is asked for from now on shows them.
    pub fn applied(&self) -> Position {
        self.known.lock().applied
    }

    /// All changes up to there have been applied.
    pub fn apply(&self, position: Position) {
        let mut known = self.known.lock();
        known.applied = known.applied.max(position);
    }

    /// The log was lost and begins anew.
    pub fn restart(&self, position: Position) {
        self.known.lock().applied = position;
    }

    /// Redis said at `heard` that it was `time_ms` there, or a little before.
    pub fn heard(&self, time_ms: u64, heard: Instant) {
        self.known.lock().time = Some((Duration::from_millis(time_ms), heard));
    }

    /// What time it was at Redis at this moment, in milliseconds: that, or a little later. `None`
    /// before anything was heard.
    pub fn redis_ms(&self, moment: Instant) -> Option<u64> {
        let (time, heard) = self.known.lock().time?;
        let time = match moment.checked_duration_since(heard) {
            Some(since) => time.saturating_add(since),
            None => time.saturating_sub(heard.saturating_duration_since(moment)),
        };
        u64::try_from(time.as_millis()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_by_the_last_thing_heard() {
        let (standing, before) = (Standing::default(), Instant::now());
        assert_eq!(standing.redis_ms(before), None);
        let second = Duration::from_secs(1);
        standing.heard(10_000, before + second);
        assert_eq!(standing.redis_ms(before), Some(9_000));
        assert_eq!(standing.redis_ms(before + second * 2), Some(11_000));
    }

    #[test]
    fn what_was_applied_stays_applied_unless_the_log_is_lost() {
        let standing = Standing::default();
        let at = |ms| Position { ms, sequence: 0 };
        standing.apply(at(2));
        standing.apply(at(1));
        assert_eq!(standing.applied(), at(2));
        standing.restart(at(1));
        assert_eq!(standing.applied(), at(1));
    }
}
