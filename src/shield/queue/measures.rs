//! What the queue achieves under load, in virtual time.

use super::Class::{Batch, Interactive, Service};
use super::simulation::{Drive, ask, jain, percentile, secs, traffic};
use super::*;

const SLOTS_IN_TEN_MINUTES: u32 = 1_200;

fn started(drive: &Drive) -> u32 {
    drive.outcome.started.values().sum()
}

fn shares(drive: &Drive, class: Class) -> Vec<f64> {
    let started = drive.outcome.started.iter();
    let own = started.filter(|((other, _), _)| *other == class);
    own.map(|(_, &units)| f64::from(units)).collect()
}

fn error_p95(drive: &Drive) -> f64 {
    percentile(&drive.outcome.errors, 0.95)
}

#[test]
fn equal_callers_share_equally_and_leave_nothing_unused_at_twice_and_twenty_times_the_budget() {
    for (load, used) in [(2.0, 0.95), (20.0, 0.97)] {
        let drive = traffic(&[(Interactive, 1, load * 0.1); 20]);
        let shares = shares(&drive, Interactive);
        assert_eq!(shares.len(), 20);
        assert!(jain(&shares) >= 0.98, "{shares:?}");
        let least = f64::from(SLOTS_IN_TEN_MINUTES) * used;
        assert!(f64::from(started(&drive)) >= least, "{}", started(&drive));
        assert!(error_p95(&drive) <= 1.0, "{}", error_p95(&drive));
    }
}

#[test]
fn a_caller_that_is_alone_gets_the_whole_budget() {
    let drive = traffic(&[(Interactive, 1, 40.0)]);
    assert!(started(&drive) >= SLOTS_IN_TEN_MINUTES * 99 / 100);
    let drive = traffic(&[(Interactive, 1, 4.0)]);
    assert!(started(&drive) >= SLOTS_IN_TEN_MINUTES * 95 / 100);
}

#[test]
fn shares_follow_weights() {
    let asking = [(1, 8.0), (2, 8.0), (5, 8.0)].map(|(weight, rate)| (Service, weight, rate));
    let drive = traffic(&asking);
    let shares = shares(&drive, Service);
    let by_weight: Vec<_> = shares
        .iter()
        .zip([1.0, 2.0, 5.0])
        .map(|(a, b)| a / b)
        .collect();
    assert!(jain(&by_weight) >= 0.95, "{shares:?}");
}

#[test]
fn all_classes_at_twenty_times_the_budget_are_foretold_within_a_second() {
    let classes = [Interactive, Service, Batch];
    let callers: Vec<_> = (0..21).map(|n| (classes[n % 3], 1, 40.0 / 21.0)).collect();
    let drive = traffic(&callers);
    assert!(error_p95(&drive) <= 1.0, "{}", error_p95(&drive));
    assert!(jain(&shares(&drive, Interactive)) >= 0.95);
    let all = f64::from(started(&drive));
    assert!(all >= f64::from(SLOTS_IN_TEN_MINUTES) * 0.95, "{all}");
    let batch: f64 = shares(&drive, Batch).iter().sum();
    assert!(batch >= 0.04 * all, "{batch} of {all}");
}

#[test]
fn interactive_callers_hardly_wait_while_batch_asks_for_twenty_times_the_budget() {
    let drive = traffic(&[(Interactive, 1, 0.5), (Batch, 1, 40.0)]);
    let waits = &drive.outcome.waits[&Interactive];
    assert!(percentile(waits, 0.95) < 1.0, "{}", percentile(waits, 0.95));
    let all = started(&drive);
    assert!(all >= SLOTS_IN_TEN_MINUTES * 95 / 100, "{all}");
}

/// Callers that are refused together and come back when told; how many were refused again.
fn refused_again(callers: u32, each: u32, known: bool) -> (u32, f64) {
    let mut drive = Drive::new();
    let begun = drive.now;
    let mut back = BTreeSet::new();
    for n in 0..callers * each {
        back.insert((drive.now, n));
    }
    let (mut first, mut again) = (BTreeSet::new(), 0);
    while let Some((at, n)) = back.pop_first() {
        drive.pass(at);
        let ask = ask(n % callers, Class::Interactive, at + secs(2.0));
        if let Some(refusal) = drive.offer(Ask {
            known,
            subject: Subject(n.into()),
            ..ask
        }) {
            again += u32::from(!first.insert(n));
            back.insert((at + refusal.retry_after, n));
        }
    }
    drive.pass(drive.now + secs(3.0));
    let started: u32 = drive.outcome.started.values().sum();
    assert_eq!(started, callers * each);
    (again, (drive.now - begun).as_secs_f64())
}

#[test]
fn callers_that_come_back_when_told_are_served_without_another_refusal() {
    let (again, seconds) = refused_again(200, 1, true);
    assert_eq!(again, 0);
    assert!(seconds <= 120.0, "{seconds} for 200 slots of half a second");
}

#[test]
fn a_burst_of_a_thousand_from_twenty_callers_is_served_as_told() {
    for known in [true, false] {
        let (again, seconds) = refused_again(20, 50, known);
        assert_eq!(again, 0, "known: {known}");
        assert!(
            seconds <= 600.0,
            "{seconds} for 1,000 slots of half a second"
        );
    }
}

#[test]
fn newcomers_do_not_take_what_was_promised() {
    let mut drive = Drive::new();
    let patience = Duration::from_secs(2);
    let mut back = BTreeSet::new();
    for n in 0..60 {
        let refusal = drive.offer(ask(n, Interactive, drive.now + patience));
        back.extend(refusal.map(|refusal| (drive.now + refusal.retry_after, n)));
    }
    let (mut again, begun) = (0, drive.now);
    for tenth in 0..600 {
        // A stranger asks ten times a second meanwhile.
        let moment = begun + Duration::from_millis(100) * tenth;
        drive.pass(moment);
        drive.offer(ask(1_000, Interactive, moment + patience));
        while let Some(&(due, n)) = back.first().filter(|&&(due, _)| due <= moment) {
            back.remove(&(due, n));
            let refusal = drive.offer(ask(n, Interactive, moment + patience));
            again += u32::from(refusal.is_some());
        }
    }
    assert!(back.is_empty());
    assert!(again <= 1, "{again} of 55 refused again");
    assert!(drive.outcome.expired <= 2, "{}", drive.outcome.expired);
}
