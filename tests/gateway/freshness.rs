//! What is served from memory, for how long, and what the answer says about it.

use std::collections::BTreeSet;

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind};

use crate::support::{Harness, Response, Setup, exact, headers, status};

const USER: &str = "/api/v1/people/user_1";

/// The oldest that the shipped defaults let an answer become: `ttl` and the longer window.
const BOUND_S: u64 = 60 + 14 * 60;

/// The `ttl` parameter of a hit.
fn ttl(response: &Response) -> i64 {
    let (_, ttl) = response.cache_status().split_once("ttl=").expect("a hit");
    let digits = ttl.split(';').next().expect("split yields something");
    digits.parse().expect("whole seconds")
}

#[tokio::test]
async fn a_person_is_asked_for_once_and_then_answered_from_memory() {
    let harness = Harness::start().await;
    let first = harness.get(USER).await;
    first.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(first.header("age"), "");

    harness.pass(7);
    let second = harness.get(USER).await;
    second.assert_flameups(200, &harness.body("user_1"));
    assert!(second.cache_status().starts_with("hit; ttl="), "{second:?}");
    assert_eq!(second.header("age"), "7");
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn freshness_ends_with_the_ttl() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(59);
    assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=1");
    harness.pass(1);
    let stale = harness.get(USER).await;
    assert_eq!(stale.cache_status(), "hit; ttl=0; detail=revalidating");
    assert_eq!(stale.header("age"), "60");
}

#[tokio::test]
async fn jitter_only_shortens_lifetimes_and_sets_people_apart() {
    let setup = Setup::new().config("cache.ttl_jitter = 0.5");
    let harness = setup.start().await;
    let mut client = harness.client().await;
    let mut lifetimes = BTreeSet::new();
    for number in 1..=40 {
        let path = Harness::path(&format!("user_{number}"));
        client.get(&path).await;
        lifetimes.insert(ttl(&client.get(&path).await));
    }
    assert!(lifetimes.iter().all(|ttl| (30..=60).contains(ttl)));
    assert!(lifetimes.len() >= 8, "{lifetimes:?}");
}

#[tokio::test]
async fn a_stale_person_is_served_at_once_while_a_single_refresh_runs() {
    let harness = exact().await;
    let old = harness.get(USER).await.body;
    let new = harness.flameup.people().set("user_1", "first_name", "New");
    harness.pass(61);

    let hold = harness.hold("user_1");
    for _ in 0..3 {
        let stale = harness.get(USER).await;
        stale.assert_flameups(200, &old);
        assert_eq!(stale.cache_status(), "hit; ttl=-1; detail=revalidating");
        assert_eq!(stale.header("age"), "61");
        assert!(hold.arrived(1).await);
    }
    assert_eq!(harness.forwards(), 2);

    hold.release();
    let fresh = harness.until(USER, |response| response.body == new).await;
    assert_eq!(fresh.cache_status(), "hit; ttl=60");
    assert_eq!(fresh.header("age"), "0");
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_answer_in_place() {
    let harness = exact().await;
    let old = harness.get(USER).await.body;
    harness.pass(61);
    harness.fault(status(503));
    for refresh in 2..=4 {
        // A refresh that is still landing is joined; then the next request asks for another.
        let asked = |_: &Response| harness.forwards() >= refresh;
        let stale = harness.until(USER, asked).await;
        stale.assert_flameups(200, &old);
        assert_eq!(stale.cache_status(), "hit; ttl=-1; detail=revalidating");
    }
}

#[tokio::test]
async fn past_the_revalidation_window_a_caller_waits_for_the_fetch() {
    let harness = exact().await;
    harness.get(USER).await;
    let new = harness.flameup.people().set("user_1", "first_name", "New");
    harness.pass(60 + 4 * 60);
    let answer = harness.get(USER).await;
    answer.assert_flameups(200, &new);
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(answer.header("age"), "");
}

#[tokio::test]
async fn whatever_goes_wrong_with_flameup_is_covered_by_what_is_stored() {
    let harness = exact().await;
    for (fault, cache_status) in [
        (status(500), "fwd=stale; fwd-status=500; detail=error"),
        (status(503), "fwd=stale; fwd-status=503; detail=error"),
        (status(204), "fwd=stale; fwd-status=204; detail=error"),
        (FaultKind::EchoKey, "fwd=stale; detail=error"),
        (FaultKind::Reset, "fwd=stale; detail=error"),
        (FaultKind::ResetMidBody, "fwd=stale; detail=error"),
        (FaultKind::Truncate { bytes: 9 }, "fwd=stale; detail=error"),
        (FaultKind::LongLength { by: 9 }, "fwd=stale; detail=error"),
        (
            FaultKind::Huge { bytes: 2 << 20 },
            "fwd=stale; detail=error",
        ),
        (
            FaultKind::Raw {
                bytes: b"!\r\n\r\n".into(),
            },
            "fwd=stale; detail=error",
        ),
        (
            FaultKind::Html200,
            "fwd=stale; fwd-status=200; detail=error",
        ),
    ] {
        let stored = harness.get(USER).await.body;
        harness.pass(301);
        harness.fault(fault.clone());
        let answer = harness.get(USER).await;
        answer.assert_flameups(200, &stored);
        assert_eq!(answer.cache_status(), cache_status, "{fault:?}");
        assert_eq!(answer.header("age"), "301");
        harness.flameup.clear_faults();
        harness.get(USER).await;
    }
}

#[tokio::test]
async fn a_flameup_that_hangs_is_covered_by_what_is_stored() {
    let setup = Setup::new().config("upstream.timeout = \"1s\"\nupstream.connect_timeout = \"1s\"");
    let harness = setup.start().await;
    let stored = harness.get(USER).await.body;
    harness.pass(301);
    harness.fault(FaultKind::Hang);
    let answer = harness.get(USER).await;
    answer.assert_flameups(200, &stored);
    assert_eq!(answer.cache_status(), "fwd=stale; detail=error");
}

#[tokio::test]
async fn a_flameup_that_cannot_be_reached_is_covered_by_what_is_stored() {
    let harness = Harness::start().await;
    let mut client = harness.client().await;
    let stored = client.get(USER).await.body;
    harness.pass(301);
    harness.flameup.stop().await;
    let answer = client.get(USER).await;
    answer.assert_flameups(200, &stored);
    assert_eq!(answer.cache_status(), "fwd=stale; detail=error");
    client
        .get("/api/v1/people/user_2")
        .await
        .assert_own(502, "connection_refused");
}

#[tokio::test]
async fn past_both_windows_nothing_covers_an_error() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(BOUND_S);
    harness.fault(status(503));
    let answer = harness.get(USER).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["code"], 503);
    assert_eq!(answer.header("age"), "");
}

#[tokio::test]
async fn no_answer_is_older_than_its_bound_whatever_is_asked() {
    const DEMANDS: [&str; 5] = [
        "",
        "max-stale",
        "max-stale=99999",
        "max-age=99999, max-stale",
        "stale-if-error=99999",
    ];
    const AGES: [u64; 12] = [0, 30, 59, 61, 120, 299, 301, 600, 899, 900, 901, 4000];
    for failing in [false, true] {
        let harness = Harness::start().await;
        let mut client = harness.client().await;
        let path =
            |age, demand| Harness::path(&format!("user_{}", age * DEMANDS.len() + demand + 1));
        for person in 0..AGES.len() * DEMANDS.len() {
            client.get(&path(0, person)).await;
        }
        if failing {
            harness.fault(status(503));
        }
        let mut now = 0;
        for (index, age) in AGES.into_iter().enumerate() {
            harness.pass(age - now);
            now = age;
            for (number, demand) in DEMANDS.into_iter().enumerate() {
                let lines = [("cache-control", demand)];
                let answer = client.send("GET", &path(index, number), &lines).await;
                let told = answer.header("age");
                let real = if told.is_empty() {
                    0
                } else {
                    told.parse().expect("seconds")
                };
                assert!(real <= BOUND_S, "{demand}: {answer:?}");
                assert!(real == 0 || real == age, "{demand}: {answer:?}");
                assert!(age < BOUND_S || told.is_empty(), "{demand}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_outlives_its_bound_while_flameup_is_asked_is_not_served() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(BOUND_S - 1);
    harness.fault(status(503));
    let hold = harness.hold("user_1");
    let (answer, ()) = tokio::join!(harness.get(USER), async {
        assert!(hold.arrived(1).await);
        harness.pass(2);
        hold.release();
    });
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("age"), "");
}

#[tokio::test]
async fn nothing_stale_is_served_when_flameup_refuses_the_key() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(301);
    assert!(harness.flameup.revoke_key(DEMO_KEY));
    let answer = harness.get(USER).await;
    answer.assert_own(502, "proxy_configuration_error");
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=401");
    assert_eq!(answer.header("age"), "");
}

#[tokio::test]
async fn a_spent_limit_is_bridged_by_what_is_stored() {
    let harness = exact().await;
    let stored = harness.get(USER).await.body;
    harness.pass(360);
    harness.fault(status(429));
    let answer = harness.get(USER).await;
    answer.assert_flameups(200, &stored);
    assert_eq!(answer.cache_status(), "hit; ttl=-300; detail=budget");
    assert_eq!(answer.header("age"), "360");

    let unknown = harness.get("/api/v1/people/user_2").await;
    unknown.assert_own(429, "http_request_denied");
    assert!(!unknown.header("retry-after").is_empty());
}

#[tokio::test]
async fn an_age_that_flameups_answer_arrives_with_counts() {
    let harness = exact().await;
    harness.fault(headers(&[("age", "20")]));
    assert_eq!(harness.get(USER).await.header("age"), "20");
    harness.pass(5);
    let hit = harness.get(USER).await;
    assert_eq!(hit.cache_status(), "hit; ttl=35");
    assert_eq!(hit.header("age"), "25");
}
