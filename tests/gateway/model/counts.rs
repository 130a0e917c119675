//! What a history has seen happen, and what the gateway has counted of it.

use std::collections::BTreeMap;

use super::steps::Operation;
use crate::support::metrics::{Metrics, metrics};
use crate::support::{Harness, Response};

/// How often to look whether what runs in the background has been counted.
pub(super) const LOOKS: usize = 20;

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests sent to the data plane.
    pub(super) requests: u32,
    /// Answers to lookups, by what the cache did.
    outcomes: BTreeMap<&'static str, u32>,
    /// Fetches under way that an erasure called off.
    called_off: u32,
    /// Changes, lists and words of an operator that were done.
    done: BTreeMap<&'static str, u32>,
    /// Turns to let something go when nothing was held.
    pub(super) idle: usize,
}

impl Counts {
    /// Takes note of an answer.
    pub(super) fn answered(&mut self, operation: Operation, response: Option<&Response>) {
        if let Some(response) = response.filter(|response| response.status.is_success()) {
            *self.done.entry(operation.word()).or_default() += 1;
            let removes = matches!(operation, Operation::Purge(_) | Operation::Erase(_));
            let entries = || response.json()["removed"]["entries"].as_u64();
            if removes && entries().expect("a count") > 0 {
                *self.done.entry("removals").or_default() += 1;
            }
        }
        match (operation, response) {
            (Operation::Read(_), Some(response)) => {
                *self.outcomes.entry(outcome(response)).or_default() += 1;
            }
            (Operation::Erase(_), Some(response)) => {
                let called_off = response.json()["removed"]["fetches"].as_u64();
                self.called_off += called_off.and_then(|all| all.try_into().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }

    /// What happened in another history as well.
    pub(super) fn add(&mut self, other: &Self) {
        for (all, others) in [
            (&mut self.outcomes, &other.outcomes),
            (&mut self.done, &other.done),
        ] {
            for (word, count) in others {
                *all.entry(word).or_default() += count;
            }
        }
        self.idle += other.idle;
    }

    /// Fails unless everything has happened often that the invariants are about: of a gateway that
    /// stored nothing, or whose changes all failed, they would hold as well.
    pub(super) fn assert_telling(&self, steps: usize) {
        let least = u32::try_from(steps / SELDOM).expect("a number of steps");
        for word in &OUTCOMES[..OUTCOMES.len() - 1] {
            let seen = self.outcomes.get(word).copied().unwrap_or(0);
            let least = if *word == "hit" { least * OFTEN } else { least };
            assert!(seen >= least, "{seen} answers are {word}, of {steps} steps");
        }
        for word in DONE {
            let done = self.done.get(word).copied().unwrap_or(0);
            assert!(done >= least, "{done} {word}, of {steps} steps");
        }
    }

    /// Compares it with what the gateway counts, and with what reached Flameup.
    pub(super) async fn check(&self, harness: &Harness) -> Result<(), String> {
        let metrics = metrics(harness).await;
        same(
            "requests",
            metrics.sum("requests_total", &[]),
            self.requests,
        )?;
        for word in OUTCOMES {
            let lookups = of_lookups(&metrics, &[("cache", word)]);
            let seen = self.outcomes.get(word).copied().unwrap_or(0);
            same(word, lookups, seen)?;
        }
        let all = self.outcomes.values().sum();
        same("lookups", of_lookups(&metrics, &[]), all)?;
        let arrivals =
            u32::try_from(harness.flameup.arrivals()).map_err(|error| error.to_string())?;
        let spent = metrics.sum("budget_spent_total", &[]);
        // A retry is paid for twice.
        let retries = metrics.sum("budget_spent_total", &[("purpose", "retry")]) / 2.0;
        same("requests paid for", spent - retries, arrivals)?;
        let forwards = metrics.sum("upstream_requests_total", &[]);
        same("forwards", forwards + f64::from(self.called_off), arrivals)
    }
}

/// What is too rare to tell anything: less than one step in so many.
const SELDOM: usize = 2_000;
/// How much less rare plain hits are: what is stored is what the invariants are about.
const OFTEN: u32 = 20;
/// What else is to happen.
const DONE: [&str; 7] = [
    "writes",
    "deletions",
    "lists",
    "purges",
    "expirations",
    "erasures",
    "removals",
];

/// What the cache may have done, as metrics call it.
const OUTCOMES: [&str; 8] = [
    "hit",
    "negative",
    "stale",
    "miss",
    "revalidated",
    "collapsed",
    "failed",
    "none",
];

/// What the cache did, by the headers of the answer.
fn outcome(response: &Response) -> &'static str {
    let status = response.cache_status();
    let says = |word: &str| status.contains(word);
    match status.split(';').next().unwrap_or("") {
        "hit" if says("detail=negative") => "negative",
        "hit" if says("detail=") => "stale",
        "hit" => "hit",
        _ if says("detail=error") => "stale",
        forward if forward.starts_with("fwd=") && !response.header("proxy-status").is_empty() => {
            "failed"
        }
        forward if forward.starts_with("fwd=") && says("collapsed") => "collapsed",
        "fwd=uri-miss" => "miss",
        "fwd=stale" | "fwd=request" => "revalidated",
        _ => "none",
    }
}

fn of_lookups(metrics: &Metrics, labels: &[(&str, &str)]) -> f64 {
    let of = |route| {
        let labels = [&[("route", route)], labels].concat();
        metrics.sum("requests_total", &labels)
    };
    of("person") + of("person_by_uuid")
}

fn same(what: &str, counted: f64, happened: u32) -> Result<(), String> {
    if (counted - f64::from(happened)).abs() < 0.5 {
        return Ok(());
    }
    Err(format!(
        "{what}: {counted} counted, and {happened} happened"
    ))
}
