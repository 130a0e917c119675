//! `Cache-Control` from both sides: what Flameup allows to be kept, and what a client demands.

use flameup_gateway::sandbox::FaultKind;

use crate::support::metrics::metrics;
use crate::support::{Harness, Response, exact, headers, status};

const USER: &str = "/api/v1/people/user_1";

/// Asks with this `Cache-Control`.
async fn demand(harness: &Harness, directives: &str) -> Response {
    harness
        .get_with(USER, &[("cache-control", directives)])
        .await
}

/// A harness with a stored person that has reached this age.
async fn stored_for(seconds: u64) -> Harness {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(seconds);
    harness
}

#[tokio::test]
async fn what_flameup_forbids_to_store_is_asked_for_each_time() {
    for line in [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=100, No-Store"),
        ("cache-control", "private=\"set-cookie\""),
        ("vary", "*"),
        ("vary", "accept, *"),
    ] {
        let harness = exact().await;
        harness.fault(headers(&[line]));
        for forwards in 1..=2 {
            let answer = harness.get(USER).await;
            answer.assert_flameups(200, &harness.body("user_1"));
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; fwd-status=200",
                "{line:?}"
            );
            assert_eq!(harness.forwards(), forwards);
        }
    }
}

#[tokio::test]
async fn flameup_may_shorten_a_lifetime_and_not_lengthen_it() {
    for (value, expected) in [
        ("max-age=5", "hit; ttl=5"),
        ("max-age=6000", "hit; ttl=60"),
        ("s-maxage=7, max-age=20", "hit; ttl=7"),
        ("s-maxage=20, max-age=7", "hit; ttl=20"),
        ("public, immutable", "hit; ttl=60"),
    ] {
        let harness = exact().await;
        harness.fault(headers(&[("cache-control", value)]));
        assert_eq!(harness.get(USER).await.header("cache-control"), value);
        let hit = harness.get(USER).await;
        assert_eq!(hit.cache_status(), expected, "{value}");
        assert_eq!(hit.header("cache-control"), value);
    }
}

#[tokio::test]
async fn what_varies_by_headers_that_never_vary_upstream_is_stored() {
    let harness = exact().await;
    harness.fault(headers(&[("vary", "accept-encoding, origin")]));
    harness.get(USER).await;
    let hit = harness.get_with(USER, &[("origin", "https://x.org")]).await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn what_must_be_revalidated_is_never_served_stale() {
    for value in ["must-revalidate", "proxy-revalidate", "s-maxage=60"] {
        let harness = exact().await;
        harness.fault(headers(&[("cache-control", value)]));
        harness.get(USER).await;
        assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=60");
        harness.pass(61);
        harness.flameup.clear_faults();
        harness.fault(status(503));
        for demanded in ["", "max-stale"] {
            let answer = demand(&harness, demanded).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("age")),
                (503, ""),
                "{value}"
            );
        }
    }
}

#[tokio::test]
async fn no_cache_gets_flameups_own_answer_and_stores_it_for_everybody() {
    let harness = stored_for(10).await;
    let new = harness.flameup.people().set("user_1", "first_name", "New");
    let answer = demand(&harness, "no-cache").await;
    answer.assert_flameups(200, &new);
    assert_eq!(answer.cache_status(), "fwd=request; fwd-status=200; stored");
    assert_eq!(answer.header("age"), "");
    let hit = harness.get(USER).await;
    hit.assert_flameups(200, &new);
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn no_cache_is_never_answered_from_memory_even_when_flameup_fails() {
    let harness = stored_for(301).await;
    harness.fault(status(503));
    let answer = demand(&harness, "no-cache").await;
    assert_eq!((answer.status.as_u16(), answer.header("age")), (503, ""));
    harness.flameup.clear_faults();
    harness.fault(FaultKind::Reset);
    demand(&harness, "no-cache")
        .await
        .assert_own(502, "connection_terminated");
}

#[tokio::test]
async fn a_client_bounds_age_and_remaining_freshness() {
    for (demanded, seconds, expected) in [
        ("max-age=10", 10, "hit; ttl=50"),
        ("max-age=9", 10, "fwd=request; fwd-status=200; stored"),
        ("max-age=0", 1, "fwd=request; fwd-status=200; stored"),
        ("min-fresh=50", 10, "hit; ttl=50"),
        ("min-fresh=51", 10, "fwd=request; fwd-status=200; stored"),
        (
            "max-age=9, max-age=100",
            10,
            "fwd=request; fwd-status=200; stored",
        ),
        (
            "max-age=nonsense",
            10,
            "fwd=request; fwd-status=200; stored",
        ),
        ("max-age=\"10\"", 10, "hit; ttl=50"),
        ("MAX-AGE=9", 10, "fwd=request; fwd-status=200; stored"),
        ("unknown, x=\"no-cache\"", 10, "hit; ttl=50"),
    ] {
        let answer = demand(&stored_for(seconds).await, demanded).await;
        assert_eq!(answer.cache_status(), expected, "{demanded}");
    }
}

#[tokio::test]
async fn a_client_that_bounds_age_gets_nothing_stale_unless_it_says_so() {
    for (demanded, expected) in [
        ("", "hit; ttl=-10; detail=revalidating"),
        ("max-age=100", "fwd=stale; fwd-status=200; stored"),
        (
            "max-age=100, max-stale",
            "hit; ttl=-10; detail=revalidating",
        ),
        ("max-age=69, max-stale", "fwd=stale; fwd-status=200; stored"),
        ("max-stale=10", "hit; ttl=-10; detail=revalidating"),
        ("max-stale=9", "fwd=stale; fwd-status=200; stored"),
        ("min-fresh=1", "fwd=stale; fwd-status=200; stored"),
    ] {
        let answer = demand(&stored_for(70).await, demanded).await;
        assert_eq!(answer.cache_status(), expected, "{demanded}");
    }
}

#[tokio::test]
async fn max_stale_reaches_as_far_as_the_configured_bound() {
    let harness = stored_for(899).await;
    let answer = demand(&harness, "max-stale").await;
    assert_eq!(answer.cache_status(), "hit; ttl=-839; detail=revalidating");
    let answer = demand(&stored_for(900).await, "max-stale").await;
    assert_eq!((answer.status.as_u16(), answer.header("age")), (200, ""));
}

#[tokio::test]
async fn only_if_cached_never_makes_a_caller_wait_for_flameup() {
    let harness = exact().await;
    let answer = demand(&harness, "only-if-cached").await;
    answer.assert_own(504, "http_request_denied");
    assert_eq!(answer.cache_status(), "detail=only-if-cached");
    assert_eq!(harness.forwards(), 0);

    harness.get(USER).await;
    let hit = demand(&harness, "only-if-cached").await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
    let strict = demand(&harness, "only-if-cached, no-cache").await;
    strict.assert_own(504, "http_request_denied");
    harness.pass(301);
    demand(&harness, "only-if-cached")
        .await
        .assert_own(504, "http_request_denied");
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn only_if_cached_gets_what_is_stale_without_a_word_of_a_refresh_it_did_not_want() {
    let harness = stored_for(70).await;
    let stale = demand(&harness, "only-if-cached").await;
    stale.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(stale.cache_status(), "hit; ttl=-10");
    assert_eq!(stale.header("age"), "70");
    harness.settle().await;
    assert_eq!(harness.flameup.arrivals(), 1);

    // Not even while somebody else's refresh runs.
    let hold = harness.hold("user_1");
    let other = harness.get(USER).await;
    assert_eq!(other.cache_status(), "hit; ttl=-10; detail=revalidating");
    assert!(hold.arrived(1).await);
    let stale = demand(&harness, "only-if-cached").await;
    assert_eq!(stale.cache_status(), "hit; ttl=-10");

    let metrics = metrics(&harness).await;
    let unasked = metrics.sum("stale_total", &[("cause", "only_if_cached")]);
    let counted = metrics.sum("requests_total", &[("cache", "stale")]);
    assert_eq!((unasked, counted), (2.0, 3.0), "{}", metrics.text);
}

#[tokio::test]
async fn an_answer_that_a_client_wants_kept_nowhere_is_kept_nowhere() {
    let harness = exact().await;
    for _ in 0..2 {
        let answer = demand(&harness, "no-store").await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=200");
    }
    let next = harness.get(USER).await;
    assert_eq!(next.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(
        demand(&harness, "no-store").await.cache_status(),
        "hit; ttl=60"
    );
    assert_eq!(harness.forwards(), 3);
}

#[tokio::test]
async fn a_client_may_narrow_what_covers_an_error_and_never_widen_it() {
    for (demanded, seconds, expected) in [
        ("stale-if-error=0", 301, 503),
        ("stale-if-error=241", 301, 503),
        ("stale-if-error=242", 301, 200),
        ("stale-if-error=99999", 901, 503),
    ] {
        let harness = stored_for(seconds).await;
        harness.fault(status(503));
        let answer = demand(&harness, demanded).await;
        assert_eq!(answer.status, expected, "{demanded}");
    }
}
