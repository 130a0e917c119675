//! How many forwards may be repeated: a share of the budget, so that retries can never become
//! most of the traffic of a failing upstream.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a repetition costs: the second request, and as much again, so that retries are dearer than
/// lookups of other people.
pub const COST: u32 = 2;

/// Hundredth parts of a window's requests that retries may cost together.
const PERCENT: u32 = 5;

/// Repetitions within the last window.
#[derive(Debug)]
pub struct Retries {
    window: Duration,
    taken: VecDeque<Instant>,
}

impl Retries {
    /// None yet.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            taken: VecDeque::new(),
        }
    }

    /// Whether the last window leaves room for one out of `limit` requests.
    pub fn has_room(&mut self, limit: u32, now: Instant) -> bool {
        while let Some(first) = self.taken.front()
            && now.saturating_duration_since(*first) >= self.window
        {
            self.taken.pop_front();
        }
        let room = u64::from(limit) * u64::from(PERCENT) / 100 / u64::from(COST);
        (self.taken.len() as u64) < room
    }

    /// Takes one, if there is room for it. To be asked when it is about to be sent: one that is
    /// refused its turn takes nothing.
    pub fn take(&mut self, limit: u32, now: Instant) -> bool {
        let free = self.has_room(limit, now);
        if free {
            self.taken.push_back(now);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_cost_a_twentieth_of_any_window_at_most() {
        let now = Instant::now();
        let mut retries = Retries::new(Duration::from_mins(1));
        let taken = (0..600).filter(|second| retries.take(120, now + Duration::from_secs(*second)));
        // Three of two requests each are the twentieth of 120, in each of ten windows.
        assert_eq!(taken.count(), 30);
        assert!(
            !Retries::new(Duration::from_mins(1)).take(39, now),
            "two of 39 are more"
        );
    }
}
