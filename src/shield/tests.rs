//! The rim: permits, and the waiting for them.

use std::time::Duration;

use super::*;
use crate::clock::Hand;
use crate::config::{Config, Sources};

const SECOND: Duration = Duration::from_secs(1);

fn key() -> ApiKey {
    let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", "a")]));
    let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
    let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
    workspace.api_keys.remove(0).0
}

/// 120 requests a minute, ten of them at once.
fn shield() -> (Arc<Shield>, Hand) {
    let (clock, hand) = Clock::manual();
    let settings = Settings {
        requests: 120,
        window: SECOND * 60,
        reserve: 0.1,
        max_wait: SECOND * 2,
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
    }
}

fn remaining(shield: &Shield) -> u32 {
    shield.snapshot().0.remaining
}

/// Takes all that may be sent at once.
fn take_all(shield: &Arc<Shield>) -> Vec<Permit> {
    std::iter::from_fn(|| shield.admit_now(&claim()).ok()).collect()
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
fn a_turn_without_a_forward_to_use_it_costs_nothing() {
    let (shield, _hand) = shield();
    let all = u32::try_from(MAX_FORWARDS).expect("a few");
    let busy = shield.forwards.try_acquire_many(all).expect("none yet");
    let refused = shield.admit_now(&claim()).expect_err("none is left");
    assert_eq!(refused, Error::TooManyForwards);
    drop(busy);
    assert_eq!(remaining(&shield), 120);
}
