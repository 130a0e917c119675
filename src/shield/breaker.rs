//! Circuit breaker: spares Flameup, and the budget, lookups that would fail.
//!
//! Closed, it lets everything pass and counts. Open, it refuses. When its delay is over it is
//! half-open: the next lookup that comes is the probe, and its end decides. There are no requests
//! made up for the purpose.
//!
//! # Invariants
//! - Half-open, one probe is under way at a time. One that was given up is taken for
//!   lost, and not believed any more.
//! - It is half-open at most its longest delay after it opened: nothing locks for ever.
//! - What was sent before it opened or closed has no say afterwards.
//! - It remembers at most as many counts as its window has seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http::StatusCode;

pub use super::probe::Delays;
use super::probe::{Probing, Token};

/// Failures without a success between them that open it: Flameup is down.
const IN_A_ROW: u32 = 5;

/// Failures open it too when they are at least half of at least so many answers within [`WINDOW`]:
/// Flameup is not down, but of little use.
const AT_LEAST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(30);

/// What the window moves by.
const STEP: Duration = Duration::from_secs(1);

/// Lets lookups pass, or keeps them from an upstream that fails.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// How often it opened or closed: tells what was sent before from what was sent since.
    turn: u64,
    settings: Settings,
}

/// When a breaker opens, and when it tries again.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Failures without a success between them that open it.
    pub in_a_row: u32,
    /// Between its probes.
    pub delays: Delays,
    /// A probe is given up after so long.
    pub give_up_after: Duration,
}

#[derive(Debug)]
enum Phase {
    Closed(Recent),
    /// Open until the probing is due, half-open from then on.
    Open(Probing),
}

/// The right to try one lookup; give it back with [`Breaker::report`]. Dropping it says nothing
/// about Flameup, and frees a probe's place.
#[derive(Debug)]
#[must_use = "a probe's place is free again when its pass is dropped"]
pub struct Pass {
    turn: u64,
    probe: Option<Token>,
}

/// How a lookup ended, as far as it shows whether Flameup is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, be it that there is no such person or that the limit is spent.
    Alive,
    /// It did not: no connection, no whole answer in time, a 5xx, or an answer of no use.
    Failed,
    /// Nobody knows: the lookup was given up.
    Abandoned,
}

/// Why a lookup does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream keeps failing")]
pub struct Open {
    /// When it may be worth coming back; never zero.
    pub retry_after: Duration,
}

/// What a breaker is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open {
        /// The end of it.
        until: Instant,
    },
    /// One probe passes at a time.
    HalfOpen,
}

impl Breaker {
    /// A closed breaker before Flameup, whose probes are given up after so long.
    pub fn new(give_up_after: Duration) -> Self {
        Self::with(Settings {
            in_a_row: IN_A_ROW,
            delays: Delays::FLAMEUP,
            give_up_after,
        })
    }

    /// A closed breaker with settings of its own.
    pub fn with(settings: Settings) -> Self {
        Self {
            phase: Phase::Closed(Recent::default()),
            turn: 0,
            settings,
        }
    }

    /// Lets a lookup pass at `now`, as the probe if one is due. To be asked when the lookup is
    /// about to be sent: a probe that queues keeps others waiting.
    ///
    /// # Errors
    /// When it is open, or half-open with a probe under way.
    pub fn admit(&mut self, now: Instant) -> Result<Pass, Open> {
        let probe = match &mut self.phase {
            Phase::Closed(_) => None,
            Phase::Open(probing) => {
                let probe = probing.admit(now);
                Some(probe.map_err(|retry_after| Open { retry_after })?)
            }
        };
        let turn = self.turn;
        Ok(Pass { turn, probe })
    }

    /// Takes `pass` back at `now`, with what became of it.
    pub fn report(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        if pass.turn != self.turn {
            return;
        }
        match (&mut self.phase, outcome) {
            (_, Outcome::Abandoned) => {}
            (Phase::Closed(recent), outcome) => {
                if recent.count(outcome, self.settings.in_a_row, now) {
                    let probing = self.settings.probing(now);
                    self.turn_to(Phase::Open(probing));
                }
            }
            (Phase::Open(probing), outcome) => {
                // A probe that was given up for lost has been replaced.
                if !pass.probe.is_some_and(|probe| probing.knows(&probe)) {
                    return;
                }
                if outcome == Outcome::Failed {
                    probing.failed(now);
                } else {
                    self.turn_to(Phase::Closed(Recent::default()));
                }
            }
        }
    }

    /// What it is at `now`.
    pub fn state(&self, now: Instant) -> State {
        match &self.phase {
            Phase::Closed(_) => State::Closed,
            Phase::Open(probing) if now < probing.due() => State::Open {
                until: probing.due(),
            },
            Phase::Open(_) => State::HalfOpen,
        }
    }

    fn turn_to(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn = self.turn.wrapping_add(1);
    }
}

impl Settings {
    fn probing(&self, now: Instant) -> Probing {
        Probing::since(now, self.delays, self.give_up_after)
    }
}

impl Pass {
    /// Whether its end decides over the breaker.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Outcome {
    /// What a whole and usable answer with this status shows. 404 and 429 show a Flameup that is
    /// well; so does 401, which is the key's trouble.
    pub fn of_status(status: StatusCode) -> Self {
        if status.as_u16() < 500 {
            Self::Alive
        } else {
            Self::Failed
        }
    }
}

/// How the latest lookups ended.
#[derive(Debug, Default)]
struct Recent {
    failed_in_a_row: u32,
    /// Oldest first, a [`STEP`] or more apart, all within [`WINDOW`].
    counts: VecDeque<Count>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    all: u32,
    failed: u32,
}

impl Recent {
    /// Counts one end; returns whether it was one failure too many.
    fn count(&mut self, outcome: Outcome, in_a_row: u32, now: Instant) -> bool {
        let failed = outcome == Outcome::Failed;
        let is_past = |count: &Count| now.saturating_duration_since(count.since) >= WINDOW;
        while self.counts.front().is_some_and(is_past) {
            self.counts.pop_front();
        }
        let is_current = |count: &&mut Count| now.saturating_duration_since(count.since) < STEP;
        if let Some(count) = self.counts.back_mut().filter(is_current) {
            count.add(failed);
        } else {
            let mut count = Count {
                since: now,
                all: 0,
                failed: 0,
            };
            count.add(failed);
            self.counts.push_back(count);
        }
        if failed {
            self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        } else {
            self.failed_in_a_row = 0;
        }
        failed && (self.failed_in_a_row >= in_a_row || self.is_half_failed())
    }

    fn is_half_failed(&self) -> bool {
        let sum = |of: fn(&Count) -> u32| self.counts.iter().map(of).fold(0, u32::saturating_add);
        let (all, failed) = (sum(|count| count.all), sum(|count| count.failed));
        all >= AT_LEAST && failed >= all.div_ceil(2)
    }
}

impl Count {
    fn add(&mut self, failed: bool) {
        self.all = self.all.saturating_add(1);
        self.failed = self.failed.saturating_add(u32::from(failed));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::shield::probe::LONGEST_DELAY;

    const PATIENCE: Duration = Duration::from_mins(3);

    const SECOND: Duration = Duration::from_secs(1);

    fn end(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
        let pass = breaker.admit(now).expect("it lets lookups pass");
        breaker.report(pass, outcome, now);
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(PATIENCE);
        for _ in 0..IN_A_ROW {
            end(&mut breaker, Outcome::Failed, now);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_do_not() {
        let now = Instant::now();
        let mut breaker = Breaker::new(PATIENCE);
        for _ in 0..4 {
            end(&mut breaker, Outcome::Failed, now);
        }
        end(&mut breaker, Outcome::Abandoned, now);
        assert_eq!(breaker.state(now), State::Closed);
        end(&mut breaker, Outcome::Failed, now);
        let until = now + 5 * SECOND;
        assert_eq!(breaker.state(now), State::Open { until });
        let refusal = breaker.admit(now + SECOND).expect_err("it is open");
        assert_eq!(refusal.retry_after, 4 * SECOND);
        assert_eq!(breaker.state(until), State::HalfOpen);
    }

    #[test]
    fn one_with_settings_of_its_own_opens_and_tries_again_by_them() {
        let mut now = Instant::now();
        let mut breaker = Breaker::with(Settings {
            in_a_row: 1,
            delays: Delays {
                first: SECOND,
                longest: 2 * SECOND,
            },
            give_up_after: PATIENCE,
        });
        for delay in [1, 2, 2] {
            end(&mut breaker, Outcome::Failed, now);
            let until = now + delay * SECOND;
            assert_eq!(breaker.state(now), State::Open { until });
            now = until;
        }
    }

    #[test]
    fn half_of_ten_within_thirty_seconds_open_it() {
        let start = Instant::now();
        for (spread, state) in [
            (
                2 * SECOND,
                State::Open {
                    until: start + 23 * SECOND,
                },
            ),
            (4 * SECOND, State::Closed),
        ] {
            let mut breaker = Breaker::new(PATIENCE);
            for number in 0..10 {
                let outcome = [Outcome::Alive, Outcome::Failed][number as usize % 2];
                assert_eq!(breaker.state(start), State::Closed);
                end(&mut breaker, outcome, start + spread * number);
            }
            assert_eq!(breaker.state(start + 18 * SECOND), state);
        }
    }

    #[test]
    fn fewer_than_half_never_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::new(PATIENCE);
        for number in 0..999 {
            let outcome = if number % 3 == 2 {
                Outcome::Failed
            } else {
                Outcome::Alive
            };
            end(&mut breaker, outcome, now);
        }
        assert_eq!(breaker.state(now), State::Closed);
    }

    #[test]
    fn a_probe_that_succeeds_closes_it_and_the_next_opening_is_short_again() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for delay in [5, 10, 20, 40, 60, 60] {
            let until = now + delay * SECOND;
            assert_eq!(breaker.state(now), State::Open { until });
            now = until;
            end(&mut breaker, Outcome::Failed, now);
        }
        now += LONGEST_DELAY;
        let probe = breaker.admit(now).expect("the probe");
        assert!(probe.is_probe());
        breaker.report(probe, Outcome::Alive, now);
        assert_eq!(breaker.state(now), State::Closed);
        for _ in 0..IN_A_ROW {
            end(&mut breaker, Outcome::Failed, now);
        }
        let until = now + 5 * SECOND;
        assert_eq!(breaker.state(now), State::Open { until });
    }

    #[test]
    fn one_probe_at_a_time_and_a_vanished_one_frees_the_place() {
        let start = Instant::now();
        let now = start + 5 * SECOND;
        let mut breaker = opened(start);
        let probe = breaker.admit(now).expect("the probe");
        let refusal = breaker.admit(now).expect_err("one is under way");
        assert!(!refusal.retry_after.is_zero());
        drop(probe);
        let probe = breaker.admit(now).expect("the next probe");
        breaker.report(probe, Outcome::Abandoned, now);
        assert_eq!(breaker.state(now), State::HalfOpen);
        assert!(breaker.admit(now).is_ok());
    }

    #[test]
    fn what_was_sent_before_it_opened_or_closed_has_no_say() {
        let now = Instant::now();
        let mut breaker = Breaker::new(PATIENCE);
        let early: Vec<_> = (0..8)
            .map(|_| breaker.admit(now).expect("closed"))
            .collect();
        let mut early = early.into_iter();
        for pass in early.by_ref().take(5) {
            breaker.report(pass, Outcome::Failed, now);
        }
        let until = now + 5 * SECOND;
        let mut late = |breaker: &mut Breaker, outcome, at| {
            breaker.report(early.next().expect("one more"), outcome, at);
        };
        late(&mut breaker, Outcome::Alive, now + SECOND);
        late(&mut breaker, Outcome::Failed, now + SECOND);
        assert_eq!(breaker.state(now + SECOND), State::Open { until });
        end(&mut breaker, Outcome::Alive, until);
        for _ in 1..IN_A_ROW {
            end(&mut breaker, Outcome::Failed, until);
        }
        late(&mut breaker, Outcome::Failed, until);
        assert_eq!(breaker.state(until), State::Closed);
    }

    #[test]
    fn a_lost_probe_is_replaced_and_no_longer_believed() {
        let start = Instant::now();
        let now = start + 5 * SECOND;
        let mut breaker = opened(start);
        let lost = breaker.admit(now).expect("the probe");
        let latest = breaker.admit(now + PATIENCE).expect("another probe");
        breaker.report(lost, Outcome::Alive, now + PATIENCE);
        assert_eq!(breaker.state(now + PATIENCE), State::HalfOpen);
        breaker.report(latest, Outcome::Alive, now + PATIENCE);
        assert_eq!(breaker.state(now + PATIENCE), State::Closed);
    }

    #[test]
    fn only_a_5xx_counts_against_it() {
        for (status, outcome) in [
            (200, Outcome::Alive),
            (401, Outcome::Alive),
            (404, Outcome::Alive),
            (429, Outcome::Alive),
            (499, Outcome::Alive),
            (500, Outcome::Failed),
            (599, Outcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Outcome::of_status(status), outcome);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        Report(usize, Outcome),
        Drop(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let outcome = prop_oneof![
            1 => Just(Outcome::Alive),
            3 => Just(Outcome::Failed),
            1 => Just(Outcome::Abandoned),
        ];
        let step = prop_oneof![
            2 => (0u64..8_000).prop_map(Step::Wait),
            4 => Just(Step::Admit),
            4 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Step::Report(which, outcome)),
            1 => any::<usize>().prop_map(Step::Drop),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn never_two_probes_and_nothing_locks_for_ever(steps in steps()) {
            let start = Instant::now();
            let mut now = start;
            let mut breaker = Breaker::new(PATIENCE);
            let mut passes: Vec<(Pass, Instant)> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Admit => match breaker.admit(now) {
                        Ok(pass) => {
                            let probes = passes.iter().filter(|(other, since)| {
                                other.is_probe() && other.turn == pass.turn && now - *since < PATIENCE
                            });
                            prop_assert!(!pass.is_probe() || probes.count() == 0);
                            passes.push((pass, now));
                        }
                        Err(open) => {
                            prop_assert!(open.retry_after > Duration::ZERO);
                            prop_assert!(open.retry_after <= LONGEST_DELAY);
                        }
                    },
                    Step::Report(which, outcome) if !passes.is_empty() => {
                        let (pass, _) = passes.swap_remove(which % passes.len());
                        breaker.report(pass, outcome, now);
                    }
                    Step::Drop(which) if !passes.is_empty() => {
                        drop(passes.swap_remove(which % passes.len()));
                    }
                    Step::Report(..) | Step::Drop(_) => {}
                }
                if let State::Open { until } = breaker.state(now) {
                    prop_assert!(until - now <= LONGEST_DELAY);
                }
                if let Phase::Closed(recent) = &breaker.phase {
                    prop_assert!(recent.counts.len() <= 30);
                }
            }
            // Whatever is still held: when it is given up a lookup passes, and its success closes it.
            now += PATIENCE;
            let pass = breaker.admit(now);
            prop_assert!(pass.is_ok());
            breaker.report(pass.expect("asserted"), Outcome::Alive, now);
            prop_assert_eq!(breaker.state(now), State::Closed);
        }
    }
}
