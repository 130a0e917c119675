//! The rules one by one.

use proptest::prelude::*;

use super::*;
use crate::sandbox::limiter::{self, Limiter};
use crate::shield::signals::{Reset, RetryAfter};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const SETTINGS: Settings = Settings {
    requests: 120,
    window: MINUTE,
    timeout: Duration::from_secs(5),
};

fn start() -> Instant {
    Instant::now() + SECOND * 1_000_000
}

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + SECOND * 1_800_000_000
}

/// Spends one unit, answered at once.
fn ask(budget: &mut Budget, signals: &Signals, now: Instant) {
    let spent = budget.spend(1, now).expect("room");
    budget.settle(spent, Some(signals), now, wall());
}

fn over_limit(retry_after: Option<RetryAfter>) -> Signals {
    Signals {
        is_429: true,
        retry_after,
        ..Signals::default()
    }
}

#[test]
fn before_anything_is_known_ten_go_at_once_and_then_two_a_second() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    for _ in 0..10 {
        ask(&mut budget, &Signals::default(), now);
    }
    let interval = (MINUTE / 120).div_f64(SAFETY);
    assert!(budget.spend(1, now).is_none());
    assert_eq!(budget.opening(0, now), now + interval);
    assert_eq!(budget.opening(4, now), now + interval * 5);
}

#[test]
fn a_429_marks_the_window_spent_and_a_single_request_goes_first_after_it() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let told = over_limit(Some(RetryAfter::After(SECOND * 7)));
    ask(&mut budget, &told, now);
    assert_eq!(budget.opening(0, now), now + SECOND * 7);
    assert!(budget.used(now) >= 1.0);
    assert_eq!(budget.leftover(0.0, now), 0);
    let then = now + SECOND * 7;
    let probe = budget.spend(1, then).expect("the hold is over");
    assert!(budget.spend(1, then).is_none());
    budget.settle(probe, Some(&Signals::default()), then, wall());
    assert!(budget.spend(1, then).is_some());
}

#[test]
fn of_two_429s_the_one_that_holds_longer_counts_whichever_comes_last() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let all: Vec<_> = (0..2)
        .map(|_| budget.spend(1, now).expect("room"))
        .collect();
    let waits = all.into_iter().zip([7, 2]).map(|(spent, seconds)| {
        let told = over_limit(Some(RetryAfter::After(SECOND * seconds)));
        budget.settle(spent, Some(&told), now, wall())
    });
    let waits: Vec<_> = waits.collect();
    assert_eq!(waits, [Some(SECOND * 7), Some(SECOND * 7)]);
    assert_eq!(budget.opening(0, now), now + SECOND * 7);
}

#[test]
fn a_429_that_tells_nothing_holds_for_a_window() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    ask(&mut budget, &over_limit(None), now);
    assert_eq!(budget.opening(0, now), now + MINUTE);
    assert_eq!(budget.snapshot(now).reset_in, Some(MINUTE));
}

#[test]
fn a_probe_that_is_dropped_stops_nothing_once_it_is_given_up() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    ask(&mut budget, &over_limit(None), now);
    let then = now + MINUTE;
    drop(budget.spend(1, then).expect("the hold is over"));
    assert!(budget.opening(0, then + MINUTE * 2) > then + MINUTE * 2);
    assert_eq!(budget.opening(0, then + MINUTE * 3), then + MINUTE * 3);
}

#[test]
fn the_limit_is_learned_and_followed() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let said = |limit| Signals {
        limit: Some(limit),
        ..Signals::default()
    };
    ask(&mut budget, &said(5), now);
    assert_eq!(budget.snapshot(now).limit, 5);
    assert_eq!(budget.leftover(0.0, now), 4);
    assert_eq!(budget.leftover(0.5, now), 1);
    for _ in 0..4 {
        ask(&mut budget, &said(5), now);
    }
    assert_eq!(budget.opening(0, now), now + MINUTE);
    ask(&mut budget, &said(1_000), now + MINUTE);
    assert!(budget.opening(0, now + MINUTE) <= now + MINUTE + SECOND / 10);
}

#[test]
fn a_limit_far_above_the_configured_one_is_not_believed_from_one_answer() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let said = Signals {
        limit: Some(MOST_REQUESTS),
        ..Signals::default()
    };
    for believed in [120, 120, MOST_REQUESTS] {
        ask(&mut budget, &said, now);
        assert_eq!(budget.snapshot(now).limit, believed);
    }
}

#[test]
fn a_retry_pays_what_it_costs() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let spent = budget.spend(2, now).expect("room");
    budget.settle(spent, None, now, wall());
    assert_eq!(budget.snapshot(now).remaining, 118);
    assert!(budget.spend(u32::MAX, now).is_none());
}

#[test]
fn what_was_never_sent_may_be_spent_again() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    let mut spent: Vec<_> = std::iter::from_fn(|| budget.spend(1, now)).collect();
    assert_eq!(spent.len(), 10);
    assert_eq!(budget.snapshot(now).remaining, 110);
    let unsent = spent.pop().expect("ten");
    budget.give_back(unsent, now);
    assert_eq!(budget.snapshot(now).remaining, 111);
    let again = budget.spend(1, now).expect("the one given back");
    assert!(budget.spend(1, now).is_none());
    budget.settle(again, None, now, wall());
    assert_eq!(budget.snapshot(now).remaining, 110);
}

#[test]
fn a_probe_that_was_never_sent_makes_room_for_another() {
    let now = start();
    let mut budget = Budget::new(SETTINGS, now);
    ask(&mut budget, &over_limit(None), now);
    let then = now + MINUTE;
    let probe = budget.spend(1, then).expect("the hold is over");
    budget.give_back(probe, then);
    assert!(budget.spend(1, then).is_some());
    assert!(budget.spend(1, then).is_none());
}

/// A budget of so many whose window is proven to be fixed, a moment after it was, and the limiter.
fn proven_fixed(limit: u32) -> (Budget, Instant) {
    let began = start();
    let settings = Settings {
        requests: limit,
        ..SETTINGS
    };
    let mut limiter = Limiter::new(limiter::Kind::Fixed, limit, MINUTE).anchored_at(began);
    let (mut budget, mut now) = (Budget::new(settings, began), began);
    while budget.snapshot(now).kind != Kind::Fixed {
        now = budget.opening(0, now + SECOND / 10);
        assert!(now < began + MINUTE * 10, "it can be proven");
        let verdict = limiter.take(now);
        assert!(verdict.allowed);
        let since_epoch = |at: Instant| 1_800_000_000 + (at - began).as_secs();
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(since_epoch(now));
        let signals = Signals {
            limit: Some(limit),
            remaining: Some(verdict.remaining),
            reset: Some(Reset(since_epoch(now + verdict.reset_after))),
            date: Some(date),
            ..Signals::default()
        };
        let spent = budget.spend(1, now).expect("the opening is honest");
        budget.settle(spent, Some(&signals), now, date);
    }
    (budget, now)
}

#[test]
fn a_fixed_window_used_up_by_answers_that_never_came_is_foretold_to_recover() {
    let (mut budget, proven) = proven_fixed(10);
    // A window of which no answer tells.
    let mut now = proven + MINUTE * 3;
    let first_lost = now + SECOND / 10;
    for _ in 0..10 {
        let spent = budget.spend(1, now).expect("a burst");
        now += SECOND / 10;
        budget.settle(spent, None, now, wall());
    }
    let told = budget.opening(0, now);
    assert_eq!(told, first_lost + MINUTE);
    assert!(budget.opening(9, now) >= now + MINUTE);
    // What is told holds to the moment, whenever it is asked.
    let later = now + (told - now) / 2;
    assert_eq!(budget.opening(0, later), told);
    assert!(budget.opening(0, later + SECOND) > later + SECOND);
    assert!(budget.spend(1, told).is_some());
}

#[test]
fn absurd_settings_are_brought_into_range() {
    let now = start();
    for (requests, window) in [(0, Duration::ZERO), (u32::MAX, Duration::MAX)] {
        let mut budget = Budget::new(
            Settings {
                requests,
                window,
                timeout: window,
            },
            now,
        );
        ask(&mut budget, &Signals::default(), now);
        assert!(budget.opening(500, now) >= now);
    }
}

fn signals() -> impl Strategy<Value = Signals> {
    let near = 1_799_999_000_u64..1_800_001_000;
    let moment = prop_oneof![0_u64..200, near.clone(), Just(u64::MAX), any::<u64>()];
    let date = prop_oneof![near, 0_u64..253_402_300_799];
    let date = date.prop_map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let remaining = prop_oneof![0_u32..200, any::<u32>()];
    let retry_after = any::<u64>().prop_map(|wait| RetryAfter::After(Duration::from_secs(wait)));
    (
        prop::option::of(1_u32..120),
        prop::option::of(remaining),
        prop::option::of(moment.prop_map(Reset)),
        prop::option::of(retry_after),
        prop::option::of(date),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(limit, remaining, reset, retry_after, date, is_429)| Signals {
                limit,
                remaining,
                reset,
                retry_after,
                date,
                is_429,
            },
        )
}

proptest! {
    #[test]
    fn no_answer_opens_the_gate_wider_than_the_limit_or_shuts_it_for_good(
        answers in prop::collection::vec((signals(), 0_u64..2_000, prop::bool::weighted(0.8)), 1..400)
    ) {
        let mut now = start();
        let mut budget = Budget::new(SETTINGS, now);
        let mut sent = Vec::new();
        for (signals, pause_ms, is_sent) in answers {
            now += Duration::from_millis(pause_ms);
            let opening = budget.opening(0, now);
            prop_assert!(opening <= now + MINUTE * 2 + SECOND * 3, "{:?}", opening - now);
            prop_assert!(budget.opening(500, now) >= opening);
            now = opening;
            let spent = budget.spend(1, now);
            prop_assert!(spent.is_some(), "{budget:?}");
            let spent = spent.expect("just seen");
            if is_sent {
                sent.push(now);
                budget.settle(spent, Some(&signals), now, wall());
            } else {
                budget.give_back(spent, now);
            }
            budget.leftover(0.5, now);
            prop_assert!((0.0..=1.0).contains(&budget.used(now)));
            let within = sent.iter().filter(|&&at| now - at < MINUTE).count();
            prop_assert!(within <= 120 * 2);
        }
    }
}
