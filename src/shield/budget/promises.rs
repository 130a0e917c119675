//! What the budget promises, held against every kind of limiter.

use std::time::Duration;

use proptest::prelude::*;

use super::Kind;
use super::simulation::{Demand, KINDS, Simulation, World, documented};
use crate::sandbox::limiter;

const SECOND: Duration = Duration::from_secs(1);

/// What must be used of the budget when more is asked for.
fn bar(kind: limiter::Kind) -> f64 {
    match kind {
        limiter::Kind::Sliding => 0.90,
        limiter::Kind::Fixed | limiter::Kind::Bucket => 0.95,
    }
}

fn proven(kind: limiter::Kind) -> Kind {
    match kind {
        limiter::Kind::Fixed => Kind::Fixed,
        limiter::Kind::Sliding => Kind::Sliding,
        limiter::Kind::Bucket => Kind::Bucket,
    }
}

#[test]
fn alone_and_saturated_the_budget_is_used_up_and_never_overdrawn() {
    for kind in KINDS {
        for skew_s in [-300, 0, 300] {
            for delay_ms in [(0, 20), (50, 300), (0, 3_000)] {
                let world = World {
                    skew_s,
                    delay_ms,
                    ..documented(kind)
                };
                let (outcome, last) = Simulation::new(world).run(42);
                let used = outcome.used(&world, 2, 42);
                assert_eq!(outcome.all_refused(), 0);
                assert!(used >= bar(kind), "{kind:?} {used}");
                assert_eq!(last.kind, proven(kind));
                // `Date` is as old as the way back; a slow one moves it by more than its quantum.
                assert!((last.skew_s - skew_s).abs() <= 1);
                assert!(last.foreign_per_window <= 0.0);
                assert!(outcome.broken * 50 <= outcome.predicted, "{outcome:?}");
            }
        }
    }
}

#[test]
fn a_foreign_consumer_is_found_and_left_room() {
    for kind in KINDS {
        for delay_ms in [(0, 20), (50, 300), (0, 3_000)] {
            let world = World {
                delay_ms,
                foreign_per_window: 20,
                ..documented(kind)
            };
            let (outcome, last) = Simulation::new(world).run(123);
            let used = outcome.used(&world, 3, 123);
            let refused: u32 = outcome.refused[3..].iter().sum();
            let own: u32 = outcome.own[3..].iter().sum();
            assert!(u64::from(refused) * 1_000 <= u64::from(own));
            assert!(used >= bar(kind), "{kind:?} {used}");
            assert!(last.foreign_per_window > 5.0);
        }
    }
}

#[test]
fn a_foreign_consumer_that_went_is_forgotten() {
    for kind in KINDS {
        let world = World {
            foreign_per_window: 20,
            foreign_windows: (4, 10),
            ..documented(kind)
        };
        let (_, during) = Simulation::new(world).run(8);
        assert!(during.foreign_per_window > 5.0, "{kind:?} {during:?}");
        let (outcome, after) = Simulation::new(world).run(30);
        assert!(after.foreign_per_window <= 0.0, "{kind:?} {after:?}");
        let used = outcome.used(&world, 14, 30);
        assert!(used >= bar(kind), "{kind:?} {used}");
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let seconds = prop_oneof![1_u32..=5, 5_u32..=120];
    let limiter = (0_usize..3, 5_u32..=200, seconds, 0_u64..120_000);
    // Of short windows, the slowest answers take longer than two.
    let slowest = prop_oneof![3 => 0_u64..3_000, 1 => 0_u64..30_000];
    let few = || prop_oneof![Just(0), 0_u64..60];
    let answers = (slowest, 0_u64..10, few(), few());
    let world = (-300_i64..=300, answers, any::<u64>());
    (limiter, world, any::<bool>()).prop_map(|(limiter, world, saturated)| {
        let (kind, limit, window, phase_ms) = limiter;
        let (skew_s, (slow, lost_percent, unsent_percent, dear_percent), seed) = world;
        World {
            kind: KINDS[kind],
            limit,
            window: SECOND * window,
            skew_s,
            delay_ms: (0, slow),
            lost_percent,
            unsent_percent,
            dear_percent,
            phase_ms,
            foreign_per_window: 0,
            foreign_windows: (0, 0),
            demand: if saturated {
                Demand::Saturated
            } else {
                Demand::Random
            },
            seed,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nobody_alone_ever_draws_a_429(world in worlds()) {
        let (outcome, last) = Simulation::new(world).run(12);
        prop_assert_eq!(outcome.all_refused(), 0, "{:?}", last);
        prop_assert!(last.foreign_per_window <= 0.0);
    }

    #[test]
    fn what_answers_in_time_uses_the_budget_up(world in worlds()) {
        // A sliding log cannot hold more than its window leaves room for beside the delay; what ends in
        // whole seconds cannot be spent to the end if it is not much longer; and a price is no request.
        let world = World { window: world.window.max(SECOND * 5), dear_percent: 0, ..world };
        let slowest = u64::try_from(world.window.as_millis()).expect("a small number") / 20;
        let delay_ms = (0, world.delay_ms.1.min(slowest));
        let world = World { delay_ms, lost_percent: 0, demand: Demand::Saturated, ..world };
        let (outcome, last) = Simulation::new(world).run(22);
        let used = outcome.used(&world, 2, 22);
        let proven = last.kind == proven(world.kind) && last.kind != Kind::Sliding;
        let bar = if proven { 0.95 } else { 0.90 };
        prop_assert!(used >= bar, "used {} as {:?}", used, last);
    }
}
