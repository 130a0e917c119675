//! Who asks for whom, and when.
//!
//! # What "offered" means
//! A load of 1 is as many lookups as make a cache that keeps each answer for its time to live, before
//! a Flameup without limits, forward exactly the budget: 2 a second. Each person is asked for at
//! random moments at a rate `l`, so such a cache forwards `l / (1 + l * ttl)` for them.
//!
//! Refused callers do not come back: what is offered stays what it says.

use std::time::Duration;

use flameup_gateway::shield::queue::Class;

use crate::chance::Chance;
use crate::{BUDGET_PER_S, TTL};

/// People, of whom the `n`th most wanted is asked for in proportion to `n` to the power of -0.9.
pub(crate) const PEOPLE: usize = 20_000;
const ZIPF: f64 = 0.9;

/// Callers by class; all of one class ask equally often and weigh the same.
pub(crate) const CALLERS: [(Class, usize); 3] = [
    (Class::Interactive, 4),
    (Class::Service, 4),
    (Class::Batch, 12),
];

/// Most lookups of the interactive callers together, as a share of the budget, and of the service
/// callers too; batch asks for the rest. Below four times that they ask for a quarter each.
const URGENT_SHARE: f64 = 0.25;

/// One lookup.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    pub(crate) caller: usize,
    pub(crate) person: u32,
}

/// The same lookups each time for the same load.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    chance: Chance,
    people: Vec<f64>,
    callers: Vec<f64>,
    per_s: f64,
}

impl Traffic {
    pub(crate) fn new(load: f64) -> Self {
        let weights = popularity();
        let per_s = lookups_per_s(&weights, load * BUDGET_PER_S);
        let urgent = (URGENT_SHARE * BUDGET_PER_S).min(per_s / 4.0);
        let rates = CALLERS.iter().flat_map(|&(class, callers)| {
            let together = match class {
                Class::Batch => per_s - 2.0 * urgent,
                _ => urgent,
            };
            std::iter::repeat_n(together / float(callers), callers)
        });
        Self {
            chance: Chance(0x5EED_0001),
            callers: cumulative(rates),
            people: cumulative(weights.iter().copied()),
            per_s,
        }
    }

    /// The part of one of so many gateways, at other moments than the others.
    pub(crate) fn of_one(mut self, gateways: usize, other: u64) -> Self {
        self.chance.0 += other;
        self.per_s /= float(gateways);
        self
    }

    /// Lookups a second.
    pub(crate) fn per_s(&self) -> f64 {
        self.per_s
    }

    /// The next lookup, and how long after the one before it comes.
    pub(crate) fn next(&mut self) -> (Duration, Lookup) {
        let gap = -(1.0 - self.chance.share()).ln() / self.per_s;
        let caller = drawn(&self.callers, self.chance.share());
        let person = drawn(&self.people, self.chance.share());
        let person = u32::try_from(person).expect("there are 20,000");
        (Duration::from_secs_f64(gap), Lookup { caller, person })
    }
}

/// The class of a caller.
pub(crate) fn class_of(caller: usize) -> Class {
    let classes = CALLERS
        .iter()
        .flat_map(|&(class, callers)| std::iter::repeat_n(class, callers));
    classes.into_iter().nth(caller).unwrap_or(Class::Batch)
}

/// Each person's part of all lookups.
fn popularity() -> Vec<f64> {
    let weights: Vec<f64> = (1..=PEOPLE).map(|n| float(n).powf(-ZIPF)).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / all).collect()
}

/// The lookups a second of which a cache without limits forwards so many.
fn lookups_per_s(popularity: &[f64], forwards: f64) -> f64 {
    let ttl = TTL.as_secs_f64();
    let forwarded = |per_s: f64| -> f64 {
        let of_one = |part: &f64| per_s * part / (1.0 + per_s * part * ttl);
        popularity.iter().map(of_one).sum()
    };
    let (mut low, mut high) = (0.0, 100_000.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if forwarded(middle) < forwards {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn cumulative(parts: impl Iterator<Item = f64>) -> Vec<f64> {
    let sums = parts.scan(0.0, |sum, part| {
        *sum += part;
        Some(*sum)
    });
    sums.collect()
}

/// Which of the parts a number between 0 and 1 falls on.
fn drawn(cumulative: &[f64], share: f64) -> usize {
    let at = share * cumulative.last().copied().unwrap_or(0.0);
    let index = cumulative.partition_point(|&sum| sum <= at);
    index.min(cumulative.len().saturating_sub(1))
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}
