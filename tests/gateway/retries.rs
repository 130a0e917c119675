//! What is asked for a second time, how often, and what never is.

use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, Matcher};

use crate::support::budgets::limited;
use crate::support::metrics::metrics;
use crate::support::{Harness, headers, status};

fn path(number: usize) -> String {
    Harness::path(&format!("user_{number}"))
}

fn with_retry_after(code: u16, seconds: &str) -> FaultKind {
    let mut fault = status(code);
    if let FaultKind::Status { headers, .. } = &mut fault {
        headers.push(("retry-after".to_owned(), seconds.to_owned()));
    }
    fault
}

#[tokio::test]
async fn what_may_be_retried_is_retried_once_and_paid_double() {
    for kind in [FaultKind::Reset, status(502), status(503), status(504)] {
        let harness = limited().start().await;
        harness.flameup.fault(Fault::new(kind.clone()).once());
        let answer = harness.get(&path(1)).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(harness.forwards(), 2, "{kind:?}");
        let metrics = metrics(&harness).await;
        let spent = |purpose| metrics.sum("budget_spent_total", &[("purpose", purpose)]);
        assert_eq!((spent("miss"), spent("retry")), (1.0, 2.0), "{kind:?}");

        harness.fault(kind.clone());
        let failed = harness.get(&path(2)).await;
        assert!(failed.status.is_server_error(), "{kind:?}: {failed:?}");
        assert_eq!(harness.forwards(), 4, "{kind:?}: there is no third attempt");
    }
}

#[tokio::test]
async fn a_retry_takes_two_turns_from_those_who_come_after() {
    let mut turns = Vec::new();
    for failures in [0, 1] {
        let harness = limited().start().await;
        if failures > 0 {
            harness
                .flameup
                .fault(Fault::new(status(503)).times(failures));
        }
        assert_eq!(harness.get(&path(1)).await.status, 200);
        let remaining = metrics(&harness).await.sum("budget_remaining", &[]);
        assert!(
            (remaining - f64::from(119 - 2 * failures)).abs() < 0.5,
            "{remaining}"
        );
        turns.push(harness.spend("").await);
    }
    assert_eq!(turns, [9, 7], "of a burst of ten");
}

#[tokio::test]
async fn what_a_second_attempt_would_not_mend_is_not_retried() {
    for kind in [
        status(400),
        status(401),
        status(404),
        status(500),
        status(501),
        FaultKind::Html200,
        FaultKind::Truncate { bytes: 10 },
        headers(&[("content-encoding", "gzip")]),
    ] {
        let harness = limited().start().await;
        harness.flameup.fault(Fault::new(kind.clone()).once());
        assert_ne!(harness.get(&path(1)).await.status, 200, "{kind:?}");
        assert_eq!(harness.forwards(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_429_is_never_retried() {
    let harness = limited().start().await;
    let fault = Fault::new(with_retry_after(429, "30"));
    harness.flameup.fault(fault.once());
    let refused = harness.get(&path(1)).await;
    refused.assert_own(429, "http_request_denied");
    assert_eq!(harness.forwards(), 1);
    assert!(refused.retry_after() >= 30, "{refused:?}");
    for number in 2..6 {
        assert_eq!(harness.get(&path(number)).await.status, 429);
    }
    assert_eq!(harness.forwards(), 1, "the window is spent");
    harness.pass(refused.retry_after());
    assert_eq!(harness.get(&path(1)).await.status, 200);
}

/// Answers with this status of which nothing but the head is of use.
fn unusable(code: u16) -> [FaultKind; 3] {
    let with = |header: Option<(&str, &str)>, text: Option<String>| {
        let mut fault = with_retry_after(code, "30");
        if let FaultKind::Status { headers, body, .. } = &mut fault {
            headers.extend(header.map(|(name, value)| (name.to_owned(), value.to_owned())));
            *body = text;
        }
        fault
    };
    [
        with(Some(("content-encoding", "gzip")), None),
        with(None, Some(format!("\"{DEMO_KEY}\""))),
        with(None, Some("x".repeat(1024 * 1024 + 1))),
    ]
}

#[tokio::test]
async fn a_429_is_heard_whatever_its_body_is_worth() {
    let list = "/api/v1/people?limit=1".to_owned();
    for target in [path(1), list] {
        for kind in unusable(429) {
            let anybody = "anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]";
            let harness = limited().config(anybody).start().await;
            harness.flameup.fault(Fault::new(kind).once());
            let refused = harness.get(&target).await;
            assert_eq!(refused.status, 429, "{refused:?}");
            assert!(refused.retry_after() >= 30, "{refused:?}");
            assert_eq!(harness.get(&path(2)).await.status, 429);
            assert_eq!(harness.forwards(), 1, "the window is spent");
        }
    }
}

#[tokio::test]
async fn a_401_is_heard_whatever_its_body_is_worth() {
    for kind in unusable(401) {
        let harness = limited().start().await;
        harness.flameup.fault(Fault::new(kind).once());
        for number in 1..3 {
            let refused = harness.get(&path(number)).await;
            refused.assert_own(502, "proxy_configuration_error");
        }
        assert_eq!(harness.forwards(), 1, "the key is refused");
    }
}

#[tokio::test]
async fn a_429_that_ends_soon_is_waited_out_and_not_a_retry() {
    let harness = limited().start().await;
    let fault = Fault::new(with_retry_after(429, "1"));
    harness.flameup.fault(fault.once());
    let mut waiting = harness.asking(&path(1), &[]).await;
    assert!(harness.flameup.arrivals_reach(1).await);
    harness.settle().await;
    assert!(!waiting.has_answer().await);
    harness.until_arrivals(2).await;
    assert_eq!(waiting.answer().await.status, 200);
    let metrics = metrics(&harness).await;
    let retries = metrics.sum("budget_spent_total", &[("purpose", "retry")]);
    assert!(retries < 1.0, "{retries}");
}

#[tokio::test]
async fn retries_cost_a_twentieth_of_the_budget_at_most() {
    let harness = limited().start().await;
    let mut retried = Vec::new();
    for round in 0..6 {
        let (bad, good) = (format!("user_{}", 100 + round), 200 + round);
        let fault = Fault::new(status(503)).on(Matcher::id(&bad));
        harness.flameup.fault(fault.once());
        let before = harness.forwards();
        let answer = harness.get(&Harness::path(&bad)).await;
        retried.push(answer.status == 200);
        let attempts = if answer.status == 200 { 2 } else { 1 };
        assert_eq!(harness.forwards() - before, attempts, "{answer:?}");
        // So that Flameup counts as well.
        assert_eq!(harness.get(&path(good)).await.status, 200);
        assert_eq!(harness.get(&path(good + 100)).await.status, 200);
        harness.pass(if round == 4 { 60 } else { 5 });
    }
    assert_eq!(retried, [true, true, true, false, false, true]);
}
