//! What is measured in one row, and the sums made of it.

use std::time::Duration;

use flameup_gateway::shield::queue::Class;

use crate::traffic::CALLERS;
use crate::{LIMIT, WINDOW};

/// Fewest starts a gateway of each class, on average, of which fairness is told.
const FEWEST_STARTS: usize = 20;

/// How a lookup was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// From memory, fresh.
    Fresh,
    /// From memory, while it is refreshed.
    Revalidating,
    /// From memory, for want of budget.
    StaleBudget,
    /// By Flameup, for this lookup or one it waited with.
    Forwarded,
    /// Not: 429 and when to come back.
    Refused,
}

/// Everything that happened in the measured time; 429s, in all of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By [`Answer`].
    pub(crate) answers: [u32; 5],
    pub(crate) ages_s: Vec<f64>,
    /// By class: from the offer to the start.
    pub(crate) waits_s: [Vec<f64>; 3],
    /// Between foretold and actual start.
    pub(crate) errors_s: Vec<f64>,
    /// Started for each caller, refreshes apart.
    pub(crate) starts: Vec<u32>,
    /// Had a place and lost it at the deadline.
    pub(crate) expired: u32,
    /// Turns nobody needed any more.
    pub(crate) unneeded: u32,
    /// Requests within the limit.
    pub(crate) own: u32,
    pub(crate) foreign: u32,
    pub(crate) refused_ever: u32,
    /// 429s and all forwards once three windows have passed.
    pub(crate) refused_later: u32,
    pub(crate) forwards_later: u32,
    /// The most requests in any time as long as a window.
    pub(crate) most: usize,
    /// Calls to Redis in the measured time.
    pub(crate) calls: u32,
    /// Starts by class of each gateway.
    by_gateway: Vec<[u32; 3]>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let callers = CALLERS.iter().map(|&(_, callers)| callers).sum();
        Self {
            starts: vec![0; callers],
            ..Self::default()
        }
    }

    /// Notes an answer; `age` if there was a person in it.
    pub(crate) fn answered(&mut self, answer: Answer, age: Option<Duration>) {
        self.answers[answer as usize] += 1;
        self.ages_s.extend(age.map(|age| age.as_secs_f64()));
    }

    /// Notes that a turn came.
    pub(crate) fn started(&mut self, class: Class, caller: usize, wait: Duration, apart: Duration) {
        if let Some(waits) = self.waits_s.get_mut(class as usize) {
            waits.push(wait.as_secs_f64());
            self.errors_s.push(apart.as_secs_f64());
            self.starts[caller] += 1;
        }
    }

    /// What all gateways did together.
    pub(crate) fn of_all(tallies: Vec<Self>) -> Self {
        let mut all = Self::new();
        for tally in tallies {
            let mut by_class = [0; 3];
            for (class, waits) in tally.waits_s.iter().enumerate() {
                by_class[class] = u32::try_from(waits.len()).expect("fewer than four billion");
                all.waits_s[class].extend(waits);
            }
            all.by_gateway.push(by_class);
            let sum = |to: &mut [u32], of: &[u32]| to.iter_mut().zip(of).for_each(|(a, b)| *a += b);
            sum(&mut all.answers, &tally.answers);
            sum(&mut all.starts, &tally.starts);
            all.ages_s.extend(tally.ages_s);
            all.errors_s.extend(tally.errors_s);
            all.expired += tally.expired;
            all.unneeded += tally.unneeded;
            all.own += tally.own;
            all.foreign += tally.foreign;
            all.refused_ever += tally.refused_ever;
            all.refused_later += tally.refused_later;
            all.forwards_later += tally.forwards_later;
        }
        all.sort();
        all
    }

    /// The most requests in any time as long as a window.
    pub(crate) fn most_in_a_window(&self) -> f64 {
        f64::from(u32::try_from(self.most).expect("a few hundred"))
    }

    /// The least of the classes' Jain indices over gateways; `None` where so few starts are each one's
    /// that chance decides.
    pub(crate) fn fairness_of_gateways(&self) -> Option<f64> {
        let of_class = |class| -> Option<f64> {
            let counts = self
                .by_gateway
                .iter()
                .map(|counts: &[u32; 3]| counts[class]);
            let counts: Vec<u32> = counts.collect();
            let starts = usize::try_from(counts.iter().sum::<u32>()).ok()?;
            (starts >= counts.len() * FEWEST_STARTS).then(|| jain(&counts))
        };
        (0..3)
            .map(of_class)
            .try_fold(1.0, |least: f64, index| Some(least.min(index?)))
    }

    /// Sorts what percentiles are taken of.
    fn sort(&mut self) {
        let waits = self.waits_s.iter_mut();
        for values in waits.chain([&mut self.ages_s, &mut self.errors_s]) {
            values.sort_by(f64::total_cmp);
        }
    }

    /// Answers of one kind, in per cent.
    pub(crate) fn share(&self, answer: Answer) -> f64 {
        percent(self.answers[answer as usize], self.answers.iter().sum())
    }

    /// Per cent of what Flameup allows that was used by us, and by all.
    pub(crate) fn used(&self, measured: Duration) -> (f64, f64) {
        let windows = measured.as_secs_f64() / WINDOW.as_secs_f64();
        let of_budget = |units: u32| 100.0 * f64::from(units) / (f64::from(LIMIT) * windows);
        (of_budget(self.own), of_budget(self.own + self.foreign))
    }

    /// The least of the classes' Jain indices: 1 if callers with equal demand had equally many
    /// starts.
    pub(crate) fn fairness(&self) -> f64 {
        let mut rest = self.starts.as_slice();
        let mut least: f64 = 1.0;
        for (_, callers) in CALLERS {
            let (own, others) = rest.split_at(callers);
            least = least.min(jain(own));
            rest = others;
        }
        least
    }

    /// Per cent of those with a place in the queue that lost it.
    pub(crate) fn late(&self) -> f64 {
        let started: u32 = self.starts.iter().sum();
        percent(self.expired, started + self.expired)
    }

    /// 429s in per cent of forwards once three windows have passed.
    pub(crate) fn refused_later_percent(&self) -> f64 {
        percent(self.refused_later, self.forwards_later)
    }
}

/// The value below which so large a part of the sorted values lies; 0 of none.
pub(crate) fn percentile(sorted: &[f64], part: f64) -> f64 {
    let last = u32::try_from(sorted.len().saturating_sub(1)).expect("fewer than four billion");
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between zero and the length"
    )]
    let index = (f64::from(last) * part).ceil() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}

/// The mean; 0 of none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    let count = u32::try_from(values.len()).expect("fewer than four billion");
    values.iter().sum::<f64>() / f64::from(count.max(1))
}

pub(crate) fn percent(part: u32, of: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(of.max(1))
}

fn jain(counts: &[u32]) -> f64 {
    let values = || counts.iter().map(|&count| f64::from(count));
    let (sum, squares): (f64, f64) = (values().sum(), values().map(|value| value * value).sum());
    let count = u32::try_from(counts.len()).expect("a few callers");
    if squares > 0.0 {
        sum * sum / (f64::from(count) * squares)
    } else {
        1.0
    }
}
