//! What is served although it is no longer fresh: why, for how long, and not to whom.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{Fault, FaultKind};

use crate::support::budgets::{AT_ONCE, authorization, caller, limited};
use crate::support::metrics::metrics;
use crate::support::{Harness, exact, status};

const KNOWN: &str = "/api/v1/people/user_1";

/// Bounds what comes at once, and what comes after a second and a half, on a busy machine.
const AT_ONCE_TAKES: Duration = Duration::from_millis(1200);
const PATIENCE_TAKES: (Duration, Duration) = (Duration::from_millis(1400), Duration::from_secs(4));

/// A gateway that knows a person since `age` seconds and has no turn left, and its callers' headers.
async fn spent(age: u64) -> (Harness, String, String) {
    let setup = caller(
        caller(limited(), "desk", "interactive"),
        "other",
        "interactive",
    );
    let harness = setup.start().await;
    let (desk, other) = (authorization("desk"), authorization("other"));
    let known = harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    assert_eq!(known.status, 200, "{known:?}");
    harness.pass(age);
    assert!(harness.spend(&other).await > 5);
    (harness, desk, other)
}

#[tokio::test]
async fn what_is_revalidated_is_served_at_once_to_all_and_asked_for_once() {
    let harness = exact().await;
    harness.get(KNOWN).await;
    harness.pass(70);
    let hold = harness.hold("user_1");
    for _ in 0..20 {
        let answer = harness.get(KNOWN).await;
        assert_eq!(answer.cache_status(), "hit; ttl=-10; detail=revalidating");
        assert_eq!(answer.header("age"), "70");
    }
    assert!(hold.arrived(1).await);
    assert_eq!(harness.forwards(), 2);
    hold.release();
    let fresh = harness.until(KNOWN, |answer| answer.cache_status() == "hit; ttl=60");
    fresh.await.assert_flameups(200, &harness.body("user_1"));
}

#[tokio::test]
async fn with_the_budget_spent_it_is_served_at_once_without_a_refresh() {
    let (harness, desk, _) = spent(70).await;
    let forwards = harness.forwards();
    let started = Instant::now();
    let answer = harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    assert!(started.elapsed() < AT_ONCE_TAKES, "{:?}", started.elapsed());
    answer.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(answer.cache_status(), "hit; ttl=-10; detail=budget");
    assert_eq!(harness.forwards(), forwards);
    harness.pass(30); // There is budget again.
    let answer = harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    assert_eq!(answer.cache_status(), "hit; ttl=-40; detail=revalidating");
    assert!(harness.flameup.arrivals_reach(forwards as u64 + 1).await);
}

#[tokio::test]
async fn past_revalidation_it_is_kept_back_for_a_second_and_a_half_of_waiting_at_most() {
    let (harness, desk, _) = spent(400).await;
    let started = Instant::now();
    let answer = harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    let took = started.elapsed();
    assert_eq!(answer.cache_status(), "hit; ttl=-340; detail=budget");
    let (least, most) = PATIENCE_TAKES;
    assert!((least..most).contains(&took), "{took:?}");
}

#[tokio::test]
async fn past_revalidation_it_is_served_at_once_where_waiting_would_be_in_vain() {
    let (harness, desk, _) = spent(400).await;
    let started = Instant::now();
    let headers = [AT_ONCE, ("authorization", &desk)];
    let answer = harness.get_with(KNOWN, &headers).await;
    assert_eq!(answer.cache_status(), "hit; ttl=-340; detail=budget");
    assert!(started.elapsed() < AT_ONCE_TAKES, "{:?}", started.elapsed());
}

#[tokio::test]
async fn past_its_last_bound_it_is_served_to_nobody() {
    let (harness, desk, _) = spent(60 + 14 * 60).await;
    let headers = [AT_ONCE, ("authorization", &desk)];
    let refused = harness.get_with(KNOWN, &headers).await;
    refused.assert_own(429, "http_request_denied");
    assert!(refused.retry_after() >= 1);
}

#[tokio::test]
async fn who_demands_more_pays_for_it() {
    let setup = caller(
        caller(limited(), "desk", "interactive"),
        "picky",
        "interactive",
    );
    let harness = setup.start().await;
    let (desk, picky) = (authorization("desk"), authorization("picky"));
    harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    harness.pass(70);
    let demands = ["no-cache", "max-age=10", "min-fresh=1000"];
    for (at, demand) in demands.into_iter().enumerate() {
        let headers = [("authorization", &*picky), ("cache-control", demand)];
        let answer = harness.get_with(KNOWN, &headers).await;
        assert_eq!(answer.status, 200, "{demand}: {answer:?}");
        assert!(
            answer.cache_status().starts_with("fwd="),
            "{demand}: {answer:?}"
        );
        assert_eq!(harness.forwards(), at + 2, "{demand}");
        harness.pass(20);
    }
    let metrics = metrics(&harness).await;
    let spent = |client| metrics.sum("budget_spent_total", &[("client", client)]);
    assert_eq!((spent("desk"), spent("picky")), (1.0, 3.0));
}

#[tokio::test]
async fn who_takes_nothing_stale_is_refused_where_others_are_served() {
    let (harness, desk, _) = spent(70).await;
    for demand in [
        "no-cache, stale-if-error=0",
        "max-age=10, stale-if-error=0",
        "min-fresh=1000, stale-if-error=0",
    ] {
        let headers = [AT_ONCE, ("authorization", &desk), ("cache-control", demand)];
        let refused = harness.get_with(KNOWN, &headers).await;
        refused.assert_own(429, "http_request_denied");
        assert_eq!(refused.cache_status(), "detail=budget", "{demand}");
    }
    let served = harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    assert_eq!(served.cache_status(), "hit; ttl=-10; detail=budget");
}

#[tokio::test]
async fn each_cause_is_counted_apart_and_ages_are_measured() {
    let (harness, desk, _) = spent(70).await;
    harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    harness.pass(30);
    harness.get_with(KNOWN, &[("authorization", &desk)]).await;
    let metrics = metrics(&harness).await;
    let stale = |cause| metrics.sum("stale_total", &[("cause", cause)]);
    assert_eq!(
        (stale("budget"), stale("revalidating")),
        (1.0, 1.0),
        "{}",
        metrics.text
    );
    assert!(metrics.sum("served_age_seconds_sum", &[]) >= 170.0);
    assert!(metrics.sum("served_age_seconds_count", &[]) >= 2.0);
}

/// A gateway whose lookups wait for long and which knows a person since `age` seconds; the next request
/// is over the limit, for half a minute.
async fn held(age: u64) -> Harness {
    let long = "workspaces.default.budget.max_wait = \"60s\"\nupstream.timeout = \"50s\"";
    let harness = limited().config(long).start().await;
    assert_eq!(harness.get(KNOWN).await.status, 200);
    harness.pass(age);
    let mut fault = status(429);
    if let FaultKind::Status { headers, .. } = &mut fault {
        headers.push(("retry-after".to_owned(), "30".to_owned()));
    }
    harness.flameup.fault(Fault::new(fault).once());
    harness
}

#[tokio::test]
async fn it_is_served_after_a_second_and_a_half_of_waiting_for_another_turn_too() {
    let harness = held(400).await;
    let started = Instant::now();
    let answer = harness.get(KNOWN).await;
    let took = started.elapsed();
    assert_eq!(answer.cache_status(), "hit; ttl=-340; detail=budget");
    let (least, most) = PATIENCE_TAKES;
    assert!((least..most).contains(&took), "{took:?}");
}

#[tokio::test]
async fn who_shares_its_answer_with_nobody_is_not_kept_waiting_for_another_turn_either() {
    let harness = held(400).await;
    let started = Instant::now();
    let headers = [("cache-control", "no-store")];
    let answer = harness.get_with(KNOWN, &headers).await;
    assert_eq!(answer.cache_status(), "hit; ttl=-340; detail=budget");
    assert!(started.elapsed() < PATIENCE_TAKES.1);
}

#[tokio::test]
async fn what_grew_too_old_meanwhile_ends_no_wait() {
    let harness = held(890).await;
    let mut waiting = harness.asking(KNOWN, &[]).await;
    assert!(harness.flameup.arrivals_reach(2).await);
    harness.settle().await;
    harness.pass(15);
    // Past the time for which it would have been kept back.
    tokio::time::sleep(PATIENCE_TAKES.0 * 3 / 2).await;
    assert!(!waiting.has_answer().await);
    harness.pass(16);
    assert_eq!(waiting.answer().await.status, 200);
}
