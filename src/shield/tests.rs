//! The rim: permits, and the waiting for them.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::breaker::Outcome;
use super::key::Verdict;
use super::signals::Signals;
use super::*;
use crate::clock::Hand;
use crate::config::{Config, Sources};

const SECOND: Duration = Duration::from_secs(1);

fn key() -> ApiKey {
    key_of("a")
}

fn key_of(text: &str) -> ApiKey {
    let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", text)]));
    let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
    let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
    workspace.api_keys.remove(0).0
}

/// 120 requests a minute, ten of them at once.
fn shield() -> (Arc<Shield>, Hand) {
    shield_of(120)
}

fn shield_of(requests: u32) -> (Arc<Shield>, Hand) {
    let (clock, hand) = Clock::manual();
    let settings = Settings {
        requests,
        window: SECOND * 60,
        reserve: 0.1,
        max_wait: SECOND * 2,
        timeout: SECOND * 5,
    };
    (Shield::new(vec![key()], settings, clock), hand)
}

fn claim() -> Claim {
    Claim {
        caller: CallerId(1),
        class: Class::Interactive,
        weight: 1,
        patience: SECOND * 2,
        known: true,
        subject: Subject(1),
        told: true,
    }
}

fn remaining(shield: &Shield) -> u32 {
    shield.snapshot().0.remaining
}

/// Takes all that may be sent at once, and is refused nothing: a refusal would promise a turn.
fn take_all(shield: &Arc<Shield>) -> Vec<Permit> {
    let all = std::iter::from_fn(|| shield.admit_now(&claim()).ok());
    all.take(10).collect()
}

#[test]
fn a_permit_costs_its_unit_only_if_it_was_spent() {
    let (shield, _hand) = shield();
    let mut permits = take_all(&shield);
    assert_eq!((permits.len(), remaining(&shield)), (10, 110));
    drop(permits.pop());
    assert_eq!(remaining(&shield), 111);
    permits.push(shield.admit_now(&claim()).expect("the one given back"));
    assert!(shield.admit_now(&claim()).is_err());
    drop(permits.pop().map(Permit::spend));
    assert_eq!(remaining(&shield), 110);
    assert!(shield.admit_now(&claim()).is_err());
}

#[test]
fn a_permit_given_back_is_the_next_waiters_turn() {
    let (shield, _hand) = shield();
    let mut permits = take_all(&shield);
    let next = shield.enter(&claim(), 1).expect("a place");
    drop(permits.pop());
    assert!(next.turn_now().is_ok());
}

#[test]
fn a_turn_that_comes_as_its_waiter_leaves_is_the_next_ones() {
    let (shield, hand) = shield();
    let _permits = take_all(&shield);
    let leaves = shield.enter(&claim(), 1).expect("a place");
    let next = shield.enter(&claim(), 1).expect("a place");
    hand.advance(Duration::from_millis(550));
    shield.state.lock().call(shield.clock.now());
    drop(leaves);
    assert!(next.turn_now().is_ok());
}

#[test]
fn while_no_forward_is_free_nobody_is_called_and_the_first_that_ends_calls_the_next() {
    let (shield, _hand) = shield();
    let last = shield.admit_now(&claim()).expect("a turn");
    let all = u32::try_from(MAX_FORWARDS).expect("a few");
    let forwards = Arc::clone(&shield.state.lock().forwards);
    let _busy = forwards.try_acquire_many(all - 1).expect("one is taken");
    assert_eq!(shield.admit_now(&claim()).err(), Some(Error::NotNow));
    let waiting = enter(&shield, SECOND * 2);
    shield.state.lock().call(shield.clock.now());
    assert_eq!((remaining(&shield), shield.snapshot().1), (119, 1));
    let sent = last.spend();
    sent.settle(None, Outcome::Alive, Verdict::Accepted);
    assert!(waiting.turn_now().is_ok());
}

#[test]
fn a_new_key_is_tried_at_once_though_the_one_before_drew_a_429() {
    let (shield, _hand) = shield();
    let mut permits = take_all(&shield);
    let (late, first) = (permits.pop(), permits.pop());
    let over = Signals {
        is_429: true,
        ..Signals::default()
    };
    let over = |permit: Option<Permit>| {
        let sent = permit.expect("ten").spend();
        sent.settle(Some(&over), Outcome::Alive, Verdict::Unknown)
    };
    assert_eq!(over(first), Some(SECOND * 60));
    drop(permits);
    assert!(shield.admit_now(&claim()).is_err());
    shield.replace_keys(vec![key_of("b")], Vec::new());
    assert_eq!(over(late), None, "it was sent with the key before");
    assert!(shield.admit_now(&claim()).is_ok());
}

/// Sends so many requests, and settles them with this.
fn fail(permits: &mut Vec<Permit>, times: usize, outcome: Outcome, verdict: Verdict) {
    for permit in permits.drain(..times) {
        permit.spend().settle(None, outcome, verdict);
    }
}

fn enter(shield: &Arc<Shield>, patience: Duration) -> Waiting {
    let claim = Claim {
        patience,
        ..claim()
    };
    shield.enter(&claim, 1).expect("a place")
}

#[test]
fn when_the_breaker_or_the_key_shuts_all_who_wait_are_told_at_once_and_nothing_is_spent() {
    let cases = [
        (5, Outcome::Failed, Verdict::Unknown, "breaker"),
        (1, Outcome::Alive, Verdict::Refused, "key"),
    ];
    for (times, outcome, verdict, word) in cases {
        let (shield, hand) = shield();
        let mut permits = take_all(&shield);
        let waiting: Vec<_> = (0..3).map(|_| enter(&shield, SECOND * 9)).collect();
        fail(&mut permits, times, outcome, verdict);
        for waiting in waiting {
            let told = waiting.turn_now().expect_err("shut");
            assert_eq!(told.word(), word);
        }
        assert_eq!(shield.snapshot().1, 0);
        drop(permits);
        hand.advance(SECOND * 2);
        let spent = u32::try_from(times).expect("a few");
        assert_eq!(remaining(&shield), 120 - spent, "{word}");
    }
}

#[test]
fn half_open_the_first_whose_turn_comes_is_the_probe_and_the_others_are_told() {
    let (shield, hand) = shield_of(5);
    let mut permits = take_all(&shield);
    fail(&mut permits, 5, Outcome::Failed, Verdict::Unknown);
    assert!(matches!(
        shield.enter(&claim(), 1),
        Err(Error::BreakerOpen { .. })
    ));
    hand.advance(SECOND * 5);
    let mut waiting: Vec<_> = (0..3).map(|_| enter(&shield, SECOND * 90)).collect();
    shield.state.lock().call(shield.clock.now());
    assert_eq!(shield.snapshot().1, 3, "no turn has come yet");
    hand.advance(SECOND * 56);
    shield.state.lock().call(shield.clock.now());
    let others = waiting.split_off(1).into_iter().map(Waiting::turn_now);
    for told in others {
        assert_eq!(told.expect_err("the probe is under way").word(), "breaker");
    }
    let probe = waiting.pop().map(Waiting::turn_now);
    let probe = probe.expect("the first").expect("its turn");
    assert_eq!(remaining(&shield), 4);
    probe
        .spend()
        .settle(None, Outcome::Alive, Verdict::Accepted);
    assert!(shield.admit_now(&claim()).is_ok());
}

/// Sends a repetition, if one is admitted.
async fn repeat(shield: &Arc<Shield>, patience: Duration) -> Result<Sent, Error> {
    let claim = Claim {
        patience,
        ..claim()
    };
    let permit = shield.admit_again(&claim).await;
    permit.map(Permit::spend)
}

#[tokio::test]
async fn a_repetition_that_is_refused_its_turn_takes_nothing_of_what_may_be_repeated() {
    let (shield, hand) = shield();
    let _permits = take_all(&shield);
    for _ in 0..3 {
        let refused = repeat(&shield, Duration::ZERO).await;
        assert!(matches!(refused, Err(Error::Budget(_))), "{refused:?}");
    }
    hand.advance(SECOND * 10);
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(
            repeat(&shield, SECOND * 2)
                .await
                .expect("a twentieth of 120"),
        );
    }
    let refused = repeat(&shield, SECOND * 2).await.err();
    assert_eq!(refused, Some(Error::TooManyRetries));
}

#[tokio::test]
async fn those_who_wait_to_repeat_together_are_held_to_it_too() {
    let (shield, hand) = shield();
    let _permits = take_all(&shield);
    let waiting = (0..5).map(|_| {
        let shield = Arc::clone(&shield);
        tokio::spawn(async move { repeat(&shield, SECOND * 20).await.map(drop) })
    });
    let waiting: Vec<_> = waiting.collect();
    while shield.snapshot().1 < 5 {
        tokio::task::yield_now().await;
    }
    hand.advance(SECOND * 10);
    let mut ends = Vec::new();
    for waiting in waiting {
        ends.push(waiting.await.expect("no panic"));
    }
    let refused = Err(Error::TooManyRetries);
    assert_eq!(ends.iter().filter(|&&end| end == Ok(())).count(), 3);
    assert_eq!(ends.iter().filter(|&&end| end == refused).count(), 2);
    assert_eq!(remaining(&shield), 110 - 6);
}

/// Counts how often a future is polled.
async fn counted<T>(future: impl Future<Output = T>, polls: &AtomicUsize) -> T {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(context)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_turn_wakes_its_waiter_and_nobody_else() {
    let (shield, hand) = shield();
    let _permits = take_all(&shield);
    let polls: Arc<[AtomicUsize; 3]> = Arc::default();
    let mut waiting = Vec::new();
    for nth in 0..3 {
        let (shield, polls) = (Arc::clone(&shield), Arc::clone(&polls));
        let admitted = async move {
            let waiting = shield.enter(&claim(), 1).expect("a place");
            counted(waiting.turn(), &polls[nth])
                .await
                .map(Permit::spend)
        };
        waiting.push(tokio::spawn(admitted));
        tokio::task::yield_now().await;
    }
    // Long enough for whoever would look by itself.
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(shield.snapshot().1, 3);
    hand.advance(Duration::from_millis(550));
    // Nothing but tasks that are ready runs from here: no timer is needed.
    let first = waiting.remove(0).await.expect("no panic");
    let _sent = first.expect("its turn");
    let polls = polls.each_ref().map(|polls| polls.load(Ordering::Relaxed));
    assert_eq!(polls, [2, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_waits_any_more_the_lookout_ends_and_the_next_one_starts_another() {
    let (shield, hand) = shield();
    let mut sent = take_all(&shield);
    for _ in 0..3 {
        let waiting = shield.enter(&claim(), 1).expect("a place");
        let (permit, ()) = tokio::join!(waiting.turn(), async {
            tokio::task::yield_now().await;
            hand.advance(Duration::from_millis(550));
        });
        sent.push(permit.expect("its turn"));
        tokio::time::sleep(SECOND).await;
        assert!(!shield.state.lock().is_looked_out);
    }
}
