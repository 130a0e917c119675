//! Which stated limit is believed.
//!
//! A limit that is too low costs freshness, one that is too high the key. So a lowered limit is
//! believed at once, and one far above what is configured only when several answers agree: a proxy
//! on the way, or an endpoint with a limit of its own, may state something else.

/// Limits up to so many times the configured one are believed at once: other plans are within it.
const FAR: u32 = 10;

/// Answers in a row that must state the same limit for it to be believed when it lies further away.
const AGREEING: u32 = 3;

/// What answers state.
#[derive(Debug)]
pub(super) struct Limit {
    configured: u32,
    /// A limit not believed yet, and how many answers in a row stated it.
    heard: Option<(u32, u32)>,
}

impl Limit {
    pub(super) fn new(configured: u32) -> Self {
        Self {
            configured,
            heard: None,
        }
    }

    /// Takes in what an answer states while `current` is believed; returns it if it is to be
    /// believed.
    pub(super) fn hear(&mut self, stated: u32, current: u32) -> Option<u32> {
        if stated <= current.max(self.configured.saturating_mul(FAR)) {
            self.heard = None;
            return Some(stated);
        }
        let before = self.heard.filter(|&(other, _)| other == stated);
        let times = before.map_or(0, |(_, times)| times) + 1;
        self.heard = (times < AGREEING).then_some((stated, times));
        (times >= AGREEING).then_some(stated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_and_one_raised_within_reason_are_believed_at_once() {
        let mut limit = Limit::new(120);
        assert_eq!(limit.hear(1, 120), Some(1));
        assert_eq!(limit.hear(1_200, 1), Some(1_200));
        assert_eq!(limit.hear(2_000, 5_000), Some(2_000));
    }

    #[test]
    fn a_limit_raised_far_is_believed_when_three_answers_in_a_row_agree() {
        let mut limit = Limit::new(120);
        assert_eq!(limit.hear(1_000_000, 120), None);
        assert_eq!(limit.hear(1_000_000, 120), None);
        assert_eq!(limit.hear(1_201, 120), None, "another one");
        assert_eq!(limit.hear(1_201, 120), None);
        assert_eq!(limit.hear(120, 120), Some(120), "not in a row");
        assert_eq!(limit.hear(1_201, 120), None);
        assert_eq!(limit.hear(1_201, 120), None);
        assert_eq!(limit.hear(1_201, 120), Some(1_201));
    }
}
