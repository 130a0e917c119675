//! What happens while Flameup keeps failing, and while it refuses the key.

use flameup_gateway::sandbox::{ApiKey, DEMO_KEY, Fault, FaultKind, Matcher};

use crate::support::metrics::metrics;
use crate::support::passing::open;
use crate::support::{Harness, Response, Wire, exact, status, within};

fn path(number: usize) -> String {
    Harness::path(&format!("user_{number}"))
}

/// Fails so often in a row.
async fn fail(harness: &Harness, times: usize) {
    harness.fault(status(500));
    for _ in 0..times {
        let number = 1000 + harness.forwards();
        assert_eq!(harness.get(&path(number)).await.status, 500);
    }
    harness.flameup.clear_faults();
}

fn assert_open(answer: &Response, seconds: u64) {
    answer.assert_own(503, "destination_unavailable");
    assert_eq!(answer.cache_status(), "detail=breaker");
    assert_eq!(answer.retry_after(), seconds);
}

#[tokio::test]
async fn five_failures_in_a_row_open_it_and_nothing_is_sent_for_five_seconds() {
    let harness = exact().await;
    fail(&harness, 5).await;
    for _ in 0..3 {
        assert_open(&harness.get(&path(1)).await, 5);
    }
    harness.pass(4);
    assert_open(&harness.get(&path(1)).await, 1);
    assert_eq!(harness.forwards(), 5);
}

#[tokio::test]
async fn half_of_ten_failures_open_it() {
    let harness = exact().await;
    for round in 0..5 {
        assert_eq!(harness.get(&path(1 + round)).await.status, 200);
        fail(&harness, 1).await;
    }
    assert_open(&harness.get(&path(100)).await, 5);
}

#[tokio::test]
async fn one_probe_is_let_through_and_its_success_closes_it() {
    let harness = exact().await;
    fail(&harness, 5).await;
    harness.pass(5);
    let hold = harness.hold("user_1");
    let mut probe = harness.asking(&path(1), &[]).await;
    assert!(hold.arrived(1).await);
    assert_open(&harness.get(&path(2)).await, 1);
    assert_eq!(harness.forwards(), 6);
    hold.release();
    assert_eq!(probe.answer().await.status, 200);
    for number in 2..12 {
        assert_eq!(harness.get(&path(number)).await.status, 200);
    }
}

#[tokio::test]
async fn a_probe_that_fails_doubles_the_pause() {
    let harness = exact().await;
    fail(&harness, 5).await;
    for pause in [5, 10, 20, 40, 60, 60] {
        assert_open(&harness.get(&path(1)).await, pause);
        harness.pass(pause);
        fail(&harness, 1).await;
    }
    harness.pass(60);
    assert_eq!(harness.get(&path(1)).await.status, 200);
}

#[tokio::test]
async fn what_is_stored_covers_it_and_says_so() {
    let harness = exact().await;
    harness.get(&path(1)).await;
    harness.pass(400);
    fail(&harness, 5).await;
    let forwards = harness.forwards();
    let covered = harness.get(&path(1)).await;
    covered.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(covered.cache_status(), "hit; ttl=-340; detail=breaker");
    let unwilling = [("cache-control", "stale-if-error=0")];
    assert_open(&harness.get_with(&path(1), &unwilling).await, 5);
    assert_eq!(harness.forwards(), forwards);
}

#[tokio::test]
async fn absences_refusals_and_spent_limits_count_as_life() {
    for code in [404, 403, 429] {
        let harness = exact().await;
        fail(&harness, 4).await;
        let mut alive = status(code);
        if let FaultKind::Status { headers, .. } = &mut alive {
            headers.push(("retry-after".to_owned(), "3".to_owned()));
        }
        harness.flameup.fault(Fault::new(alive).once());
        assert_eq!(harness.get(&path(1)).await.status, code);
        harness.pass(61);
        fail(&harness, 4).await;
        assert_eq!(harness.get(&path(2)).await.status, 200, "{code}");
    }
}

#[tokio::test]
async fn bodies_that_clients_leave_unfinished_do_not_open_it() {
    let harness = open()
        .config("server.limits.body_timeout = \"100ms\"")
        .config("server.limits.body_bytes = \"64KiB\"")
        .start()
        .await;
    let piece = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let bodies = [
        ("Content-Length: 40000", "x".repeat(0x8000), 408),
        ("Transfer-Encoding: chunked", piece.clone(), 408),
        ("Transfer-Encoding: chunked", piece.clone() + "zz\r\n", 400),
        ("Transfer-Encoding: chunked", piece.repeat(3), 413),
        ("Content-Length: 40000", "x".repeat(0x8000), 0),
    ];
    for (at, (framing, body, status)) in bodies.into_iter().enumerate() {
        for _ in 0..6 {
            let mut client = Wire::connect(harness.address()).await;
            let head = format!("POST /api/v1/people HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
            client.try_send(head + &body).await;
            if status > 0 {
                let answer = client.answer().await;
                assert_eq!(answer.status, status, "{framing}: {answer:?}");
            }
        }
        // Those who were not told anything have left by now too.
        within(async { while !metrics(&harness).await.text.contains("_connections 0\n") {} }).await;
        let answer = harness.get(&path(at + 1)).await;
        assert_eq!(answer.status, 200, "{framing}, {status}");
    }
}

#[tokio::test]
async fn while_the_key_is_refused_nothing_stale_is_served_and_it_is_tried_again() {
    let harness = exact().await;
    harness.get(&path(1)).await;
    harness.get(&path(2)).await;
    harness.pass(70); // Within what may be served while it is revalidated.
    harness.flameup.revoke_key(DEMO_KEY);
    let first = harness.get(&path(1)).await;
    assert_eq!(first.cache_status(), "hit; ttl=-10; detail=revalidating");
    assert!(harness.flameup.arrivals_reach(3).await);
    harness.settle().await;
    for number in [1, 2, 3] {
        let refused = harness.get(&path(number)).await;
        refused.assert_own(502, "proxy_configuration_error");
    }
    assert_eq!(harness.forwards(), 3, "nothing is sent with it");

    harness.pass(5);
    let probe = harness.get(&path(2)).await;
    probe.assert_own(502, "proxy_configuration_error");
    assert_eq!(harness.forwards(), 4, "it is tried once");
    harness.flameup.accept_key(ApiKey::default());
    harness.pass(9);
    let early = harness.get(&path(2)).await;
    early.assert_own(502, "proxy_configuration_error");
    harness.pass(1);
    assert_eq!(harness.get(&path(2)).await.status, 200);
    assert_eq!(
        harness.get(&path(1)).await.cache_status(),
        "hit; ttl=-25; detail=revalidating"
    );
}

#[tokio::test]
async fn what_failed_is_covered_by_nothing_stale_if_the_key_was_refused_meanwhile() {
    let harness = exact().await;
    harness.get(&path(1)).await;
    harness.pass(400);
    let failing = Fault::new(status(500)).on(Matcher::id("user_1"));
    harness.flameup.fault(failing);
    let hold = harness.hold("user_1");
    let mut waiting = harness.asking(&path(1), &[]).await;
    assert!(hold.arrived(1).await);
    harness.flameup.revoke_key(DEMO_KEY);
    assert_eq!(harness.get(&path(2)).await.status, 502);
    hold.release();
    let answer = waiting.answer().await;
    assert_eq!((answer.status.as_u16(), answer.header("age")), (500, ""));
}

#[tokio::test]
async fn what_is_fresh_is_served_while_the_key_is_refused() {
    let harness = exact().await;
    harness.get(&path(1)).await;
    harness
        .flameup
        .fault(Fault::new(status(401)).on(Matcher::id("user_2")));
    assert_eq!(harness.get(&path(2)).await.status, 502);
    assert_eq!(harness.get(&path(1)).await.cache_status(), "hit; ttl=60");
}
