//! The queue's promises, one by one and over random traffic.

use super::promises::Promises;
use super::simulation::{Drive, Slots, ask, secs, settings};
use super::*;

#[test]
fn the_first_request_starts_at_once() {
    let mut drive = Drive::new();
    let refusal = drive.offer(ask(1, Class::Interactive, drive.now));
    assert_eq!(refusal, None);
    assert_eq!(drive.outcome.errors, [0.0]);
    assert!(drive.queue.is_empty());
}

#[test]
fn a_request_that_cannot_start_in_time_is_refused_at_once() {
    let mut drive = Drive::new();
    let deadline = drive.now + secs(2.0);
    let refusals: Vec<_> = (0..8)
        .filter_map(|_| drive.offer(ask(1, Class::Interactive, deadline)))
        .collect();
    // One starts, four wait for the slots of two seconds.
    assert_eq!(drive.queue.len(), 4);
    assert_eq!(refusals.len(), 3);
    for refusal in refusals {
        assert_eq!(refusal.reason, Reason::Deadline);
        assert!(refusal.retry_after >= secs(2.0) && refusal.retry_after <= secs(5.0));
    }
}

/// A queue and a pace whose next slot is an hour away, so that requests pile up.
fn closed() -> (Queue<u32>, Slots, Instant) {
    let now = Instant::now();
    let mut pace = Slots::every(Duration::from_millis(1), now);
    pace.used = Some(0.9);
    pace.spend(1, now);
    (Queue::new(settings()), pace, now)
}

/// Takes everything out, whatever the pace.
fn drain(queue: &mut Queue<u32>, mut pace: Slots, now: Instant) -> Vec<u32> {
    let later = now + secs(60.0);
    pace.leftover = pace.leftover.or(Some(1_000));
    std::iter::from_fn(|| queue.next(&pace, later).map(|(_, ticket)| ticket)).collect()
}

fn offer(queue: &mut Queue<u32>, ask: Ask, ticket: u32, pace: &Slots, now: Instant) -> Place {
    let taken = queue.offer(ask, ticket, pace, now);
    taken.map(|(place, _)| place).expect("room")
}

#[test]
fn classes_are_served_in_order_above_half_use_and_by_arrival_below() {
    for (used, order) in [(0.51, [2, 1, 0]), (0.5, [0, 1, 2])] {
        let (mut queue, mut pace, now) = closed();
        pace.used = Some(used);
        let classes = [Class::Batch, Class::Service, Class::Interactive];
        for (ticket, class) in (0..).zip(classes) {
            let ask = ask(ticket, class, now + secs(120.0));
            offer(&mut queue, ask, ticket, &pace, now);
        }
        assert_eq!(drain(&mut queue, pace, now), order);
    }
}

#[test]
fn batch_gets_every_twentieth_start() {
    let (mut queue, pace, now) = closed();
    for ticket in 0..60 {
        let class = if ticket < 20 {
            Class::Batch
        } else {
            Class::Interactive
        };
        let ask = ask(ticket % 4, class, now + secs(120.0));
        offer(&mut queue, ask, ticket, &pace, now);
    }
    let started = drain(&mut queue, pace, now);
    assert_eq!(started.len(), 60);
    assert!(started[19] < 20 && started[39] < 20);
    assert_eq!(
        started[..40].iter().filter(|&&ticket| ticket < 20).count(),
        2
    );
}

#[test]
fn weights_are_interleaved_and_each_caller_is_served_in_order() {
    let (mut queue, pace, now) = closed();
    for ticket in 0..80 {
        let heavy = ticket % 2;
        let ask = ask(heavy, Class::Service, now + secs(120.0));
        let weight = if heavy == 1 { 3 } else { 1 };
        offer(&mut queue, Ask { weight, ..ask }, ticket, &pace, now);
    }
    let started = drain(&mut queue, pace, now);
    let heavy = started[..40]
        .iter()
        .filter(|&ticket| ticket % 2 == 1)
        .count();
    assert!((29..=31).contains(&heavy), "{heavy} of 40");
    for caller in 0..2 {
        let own: Vec<_> = started
            .iter()
            .filter(|&ticket| ticket % 2 == caller)
            .collect();
        assert!(own.is_sorted());
    }
}

#[test]
fn a_caller_that_slept_has_no_credit() {
    let (mut queue, pace, now) = closed();
    for ticket in 0..40 {
        offer(
            &mut queue,
            ask(1, Class::Service, now + secs(120.0)),
            ticket,
            &pace,
            now,
        );
    }
    assert_eq!(
        drain(&mut queue, Slots::every(secs(0.001), now), now).len(),
        40
    );
    for ticket in 0..40 {
        let caller = 1 + ticket % 2;
        offer(
            &mut queue,
            ask(caller, Class::Service, now + secs(120.0)),
            ticket,
            &pace,
            now,
        );
    }
    let started = drain(&mut queue, pace, now);
    let of_sleeper = started[..20]
        .iter()
        .filter(|&ticket| ticket % 2 == 1)
        .count();
    assert!((9..=11).contains(&of_sleeper), "{of_sleeper} of 20");
}

#[test]
fn queues_are_bounded_per_caller_and_in_all() {
    let (mut queue, pace, now) = closed();
    let mut refused = BTreeMap::new();
    for ticket in 0..1_200 {
        let ask = ask(ticket % 12, Class::Service, now + secs(3_000.0));
        if let Err((back, refusal)) = queue.offer(ask, ticket, &pace, now) {
            assert_eq!(back, ticket);
            *refused.entry(refusal.reason).or_insert(0) += 1;
        }
    }
    assert_eq!(queue.len(), 500);
    assert_eq!(queue.waiting(Class::Service), 500);
    assert_eq!(refused, BTreeMap::from([(Reason::QueueFull, 700)]));
    let (mut queue, pace, now) = closed();
    for ticket in 0..50 {
        offer(
            &mut queue,
            ask(1, Class::Service, now + secs(3_000.0)),
            ticket,
            &pace,
            now,
        );
    }
    let one_more = queue.offer(ask(1, Class::Service, now + secs(3_000.0)), 50, &pace, now);
    let refusal = one_more.expect_err("full").1;
    assert_eq!(refusal.reason, Reason::CallerFull);
}

#[test]
fn refreshes_take_only_what_is_left_over_while_nobody_waits() {
    let (mut queue, mut pace, now) = closed();
    let deadline = now + secs(120.0);
    pace.leftover = Some(5);
    offer(&mut queue, ask(1, Class::Refresh, deadline), 1, &pace, now);
    offer(&mut queue, ask(2, Class::Batch, deadline), 2, &pace, now);
    let later = now + secs(60.0);
    assert_eq!(queue.next(&pace, later).map(|(_, ticket)| ticket), Some(2));
    pace.leftover = Some(0);
    assert_eq!(queue.next(&pace, later), None);
    assert!(queue.wake_at(&pace, later).is_some_and(|at| at > later));
    pace.leftover = Some(1);
    assert_eq!(queue.wake_at(&pace, later), Some(later));
    assert_eq!(queue.next(&pace, later).map(|(_, ticket)| ticket), Some(1));
}

#[test]
fn a_refresh_without_left_over_budget_is_refused() {
    let mut drive = Drive::new();
    drive.pace.leftover = Some(0);
    let refusal = drive.offer(ask(1, Class::Refresh, drive.now + secs(2.0)));
    assert_eq!(
        refusal.map(|refusal| refusal.reason),
        Some(Reason::Background)
    );
}

#[test]
fn unknown_ids_beyond_a_quarter_of_the_share_wait_behind_everybody_known() {
    let (mut queue, _, now) = closed();
    let mut pace = Slots::new(now);
    pace.used = Some(0.9);
    pace.leftover = Some(1_000);
    pace.spend(1, now);
    let deadline = now + secs(120.0);
    // Two callers share 120: a quarter of 60 is 15.
    offer(&mut queue, ask(2, Class::Batch, deadline), 100, &pace, now);
    for ticket in 0..20 {
        let ask = ask(1, Class::Interactive, deadline);
        offer(
            &mut queue,
            Ask {
                known: false,
                ..ask
            },
            ticket,
            &pace,
            now,
        );
    }
    for ticket in 101..110 {
        offer(
            &mut queue,
            ask(2, Class::Batch, deadline),
            ticket,
            &pace,
            now,
        );
    }
    let started = drain(&mut queue, pace, now);
    let known: Vec<_> = (15..25).map(|at| started[at] >= 100).collect();
    assert_eq!(known, [true; 10], "{started:?}");
    assert_eq!(started[25..], [15, 16, 17, 18, 19]);
}

#[test]
fn a_sweep_is_refused_when_nothing_is_left_over() {
    let mut drive = Drive::new();
    drive.pace.leftover = Some(0);
    let patient = drive.now + secs(20.0);
    let refusals: Vec<_> = (0..40)
        .filter_map(|_| {
            drive.offer(Ask {
                known: false,
                ..ask(1, Class::Service, patient)
            })
        })
        .collect();
    assert_eq!(refusals.len(), 10, "a quarter of 120 waits or has started");
    assert!(
        refusals
            .iter()
            .all(|refusal| refusal.reason == Reason::UnknownIds)
    );
    drive.pass(drive.now + secs(20.0));
    assert_eq!(drive.outcome.started.values().sum::<u32>(), 30);
}

#[test]
fn a_request_overtaken_past_its_deadline_expires_with_a_new_prediction() {
    let mut drive = Drive::new();
    drive.pace.used = Some(0.9);
    drive.offer(ask(1, Class::Interactive, drive.now));
    drive.offer(ask(2, Class::Service, drive.now + secs(1.0)));
    drive.pace.spend(10, drive.now);
    let wake = drive
        .queue
        .wake_at(&drive.pace, drive.now)
        .expect("one waits");
    assert_eq!(wake, drive.now + secs(1.0) + Duration::from_nanos(1));
    assert!(
        drive
            .queue
            .expired(&drive.pace, drive.now + secs(1.0))
            .is_empty()
    );
    let expired = drive.queue.expired(&drive.pace, wake);
    let refusal = expired.first().expect("its deadline has passed").1;
    assert_eq!(refusal.reason, Reason::Deadline);
    assert!(
        refusal.retry_after >= secs(4.0),
        "{:?}",
        refusal.retry_after
    );
    assert!(drive.queue.is_empty());
    assert_eq!(drive.queue.wake_at(&drive.pace, wake), None);
}

/// A queue in which interactive callers took so many of every ten slots for a minute, and a pace
/// that opens a quarter of a second from now.
fn busy(of_ten: u32) -> Drive {
    let mut drive = Drive::new();
    let begun = drive.now;
    for nth in 0..120 {
        drive.pass(begun + secs(0.5) * nth);
        if nth * of_ten % 10 < of_ten {
            drive.offer(ask(1, Class::Interactive, drive.now));
        }
    }
    drive.pass(begun + secs(60.0));
    drive.pace.used = Some(0.9);
    drive.offer(ask(1, Class::Interactive, drive.now));
    drive.pass(drive.now + secs(0.25));
    drive
}

#[test]
fn a_slot_about_to_open_is_foretold_though_higher_classes_take_most() {
    let mut drive = busy(8);
    let (now, ticket) = (drive.now, (drive.now, drive.now));
    let ask = ask(2, Class::Service, now + secs(2.0));
    let offered = drive.queue.offer(ask, ticket, &drive.pace, now);
    let (_, start) = offered.map_err(|(_, refusal)| refusal).expect("in time");
    assert_eq!(start, now + secs(0.25));
}

#[test]
fn who_would_be_too_late_if_overtaken_somewhat_more_is_not_let_in() {
    let mut drive = busy(5);
    drive.pace.spend(1, drive.now);
    // The slot in 0.75 s is to be expected to go to somebody higher, the next one perhaps too.
    let service = |drive: &Drive, patience| ask(2, Class::Service, drive.now + secs(patience));
    assert!(drive.offer(service(&drive, 1.5)).is_some());
    assert!(drive.offer(service(&drive, 2.0)).is_none());
}

#[test]
fn of_hundreds_that_expire_at_once_a_call_takes_out_a_few_dozen() {
    let (mut queue, mut pace, now) = closed();
    pace.spend(1, now);
    for ticket in 0..100 {
        let ask = ask(ticket % 4, Class::Service, now + secs(1.0));
        offer(&mut queue, ask, ticket, &pace, now);
    }
    let later = now + secs(2.0);
    let mut out = Vec::new();
    for taken in [32, 32, 32, 4] {
        assert_eq!(queue.wake_at(&pace, later), Some(later));
        let expired = queue.expired(&pace, later);
        assert_eq!(expired.len(), taken);
        out.extend(expired.into_iter().map(|(ticket, _)| ticket));
    }
    assert_eq!(queue.wake_at(&pace, later), None);
    assert!(out.into_iter().eq(0..100));
}

#[test]
fn one_that_leaves_is_forgotten_once() {
    let (mut queue, pace, now) = closed();
    let first = offer(
        &mut queue,
        ask(1, Class::Service, now + secs(120.0)),
        1,
        &pace,
        now,
    );
    offer(
        &mut queue,
        ask(1, Class::Service, now + secs(120.0)),
        2,
        &pace,
        now,
    );
    assert_eq!(queue.leave(first), Some(1));
    assert_eq!(queue.leave(first), None);
    assert_eq!(drain(&mut queue, pace, now), [2]);
}

#[test]
fn a_retry_pays_double_by_delaying_those_after_it() {
    let mut drive = Drive::new();
    let patient = drive.now + secs(10.0);
    drive.offer(Ask {
        cost: 2,
        ..ask(1, Class::Service, patient)
    });
    drive.offer(Ask {
        cost: 2,
        ..ask(1, Class::Service, patient)
    });
    drive.offer(ask(1, Class::Service, patient));
    drive.pass(patient);
    assert_eq!(drive.outcome.waits[&Class::Service], [0.0, 1.0, 2.0]);
    assert_eq!(drive.outcome.errors, [0.0, 0.0, 0.0]);
}

#[test]
fn who_gives_a_start_back_is_next_again() {
    let now = Instant::now();
    let (mut queue, pace) = (Queue::new(settings()), Slots::new(now));
    for (ticket, caller) in [(1, 1), (2, 1), (3, 2)] {
        let deadline = now + secs(9.0);
        offer(
            &mut queue,
            ask(caller, Class::Interactive, deadline),
            ticket,
            &pace,
            now,
        );
    }
    let (start, ticket) = queue.next(&pace, now).expect("the first");
    assert_eq!(ticket, 1);
    queue.give_back(&start, now);
    assert_eq!(queue.next(&pace, now).map(|(_, ticket)| ticket), Some(2));
    assert_eq!(queue.next(&pace, now).map(|(_, ticket)| ticket), Some(3));
}

#[test]
fn what_is_given_back_is_no_part_of_what_a_caller_may_ask_of_unknown_ids() {
    let now = Instant::now();
    let (mut queue, pace) = (Queue::new(settings()), Slots::new(now));
    for ticket in 0..100 {
        let unknown = Ask {
            known: false,
            ..ask(1, Class::Interactive, now)
        };
        offer(&mut queue, unknown, ticket, &pace, now);
        let (start, _) = queue.next(&pace, now).expect("it is alone");
        assert!(start.reserved, "{ticket} of thirty");
        queue.give_back(&start, now);
    }
}

#[test]
fn what_is_overdue_takes_up_no_place() {
    let now = Instant::now();
    let (mut queue, pace) = (Queue::new(settings()), Slots::new(now));
    for ticket in 0..50 {
        let deadline = now + secs(30.0);
        offer(
            &mut queue,
            ask(1, Class::Interactive, deadline),
            ticket,
            &pace,
            now,
        );
    }
    let later = now + secs(31.0);
    let one_more = ask(1, Class::Interactive, later + secs(1.0));
    assert!(queue.offer(one_more, 50, &pace, later).is_ok());
}

/// A queue before which everything that may start at once has, and that much later.
fn refused(told: bool) -> (Drive, Duration) {
    let mut drive = Drive::new();
    drive.offer(ask(9, Class::Service, drive.now));
    let first = Ask {
        subject: Subject(1),
        told,
        ..ask(1, Class::Service, drive.now)
    };
    let refusal = drive.offer(first).expect("one has started");
    (drive, refusal.retry_after)
}

#[test]
fn a_promise_is_redeemed_only_for_whom_it_was_made() {
    let (mut drive, wait) = refused(true);
    let rank = Rank::of(Class::Service, true).0;
    drive.now += wait;
    for (subject, left) in [(2, 1), (1, 0)] {
        let back = Ask {
            subject: Subject(subject),
            ..ask(1, Class::Service, drive.now + secs(9.0))
        };
        drive.offer(back);
        assert_eq!(drive.queue.promises[rank].len(), left);
    }
}

#[test]
fn what_nobody_is_told_is_no_promise() {
    let (drive, _) = refused(false);
    let mut promises = drive.queue.promises.iter();
    assert!(promises.all(Promises::is_empty));
}
