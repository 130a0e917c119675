//! What is served from memory, for how long, and what the answer says about it.

use crate::support::{Harness, Setup};

#[tokio::test]
async fn a_person_is_asked_for_once_and_then_answered_from_memory() {
    let harness = Harness::start().await;
    let first = harness.get("/api/v1/people/user_1").await;
    first.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(first.header("age"), "");

    harness.pass(7);
    let second = harness.get("/api/v1/people/user_1").await;
    second.assert_flameups(200, &harness.body("user_1"));
    assert!(second.cache_status().starts_with("hit; ttl="), "{second:?}");
    assert_eq!(second.header("age"), "7");
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn freshness_ends_with_the_ttl_and_jitter_only_shortens_it() {
    let harness = Setup::new().config("cache.ttl_jitter = 0.0").start().await;
    harness.get("/api/v1/people/user_1").await;
    harness.pass(59);
    assert_eq!(
        harness.get("/api/v1/people/user_1").await.cache_status(),
        "hit; ttl=1"
    );
    harness.pass(1);
    let stale = harness.get("/api/v1/people/user_1").await;
    assert_eq!(stale.cache_status(), "hit; ttl=0; detail=revalidating");
}
