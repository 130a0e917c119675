//! How long it takes to refuse a request, in real time.

use std::time::{Duration, Instant};

use flameup_gateway::shield::budget::{self, Budget};
use flameup_gateway::shield::queue::{Ask, CallerId, Class, Queue, Subject};

use crate::gateway::QUEUE;
use crate::tally::percentile;
use crate::{LIMIT, TIMEOUT, WINDOW};

/// One place is left, so that its start is foretold before a request is refused.
const WAITING: u32 = 499;
const CALLERS: u32 = 20;
const REFUSED: u32 = 5_000;

/// Microseconds that a refusal takes while the queue is full: median, 99th percentile, and that of one
/// who comes as all who wait have expired.
pub(crate) fn measure() -> [f64; 3] {
    let now = Instant::now() + Duration::from_hours(24);
    let settings = budget::Settings {
        requests: LIMIT,
        window: WINDOW,
        timeout: TIMEOUT,
    };
    let budget = Budget::new(settings, now);
    let mut queue = Queue::new(QUEUE);
    let classes = [Class::Interactive, Class::Service, Class::Batch];
    let ask = |nth: u32, patience| Ask {
        caller: CallerId(nth % CALLERS),
        class: classes[nth as usize % classes.len()],
        weight: 1 + nth % 7,
        deadline: now + patience,
        cost: 1,
        known: !nth.is_multiple_of(5),
        subject: Subject(nth.into()),
        told: true,
    };
    for nth in 0..WAITING {
        let offered = queue.offer(ask(nth, Duration::from_hours(1)), (), &budget, now);
        assert!(offered.is_ok(), "an hour is enough for 500");
    }
    let mut took_us = Vec::new();
    for nth in 0..REFUSED {
        // Those refused are promised later turns, which are looked at too.
        let ask = ask(nth, Duration::from_secs(2));
        let began = Instant::now();
        let refused = queue.offer(ask, (), &budget, now);
        took_us.push(began.elapsed().as_secs_f64() * 1e6);
        assert!(refused.is_err(), "499 are before it");
    }
    took_us.sort_by(f64::total_cmp);
    let late = now + Duration::from_hours(2);
    let ask = Ask {
        deadline: now,
        ..ask(0, Duration::ZERO)
    };
    let began = Instant::now();
    let refused = queue.offer(ask, (), &budget, late);
    let expired = queue.expired(&budget, late);
    let worst_us = began.elapsed().as_secs_f64() * 1e6;
    assert!(refused.is_err() && expired.len() > 1, "all are too late");
    [
        percentile(&took_us, 0.5),
        percentile(&took_us, 0.99),
        worst_us,
    ]
}
