//! The long form of a path: a UUID, and a workspace id that is the own, unproven or foreign.

use flameup_gateway::sandbox::{DEMO_WORKSPACE, FaultKind};

use crate::support::{Harness, Setup, exact, long_path};

const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

#[tokio::test]
async fn an_external_id_that_looks_like_a_uuid_is_not_that_uuid() {
    let harness = exact().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a uuid");
    harness.create(&uuid, "lookalike@example.org");
    let (short, long) = (Harness::path(&uuid), long_path(DEMO_WORKSPACE, &uuid));
    for _ in 0..2 {
        harness
            .get(&short)
            .await
            .assert_flameups(200, &harness.body(&uuid));
        harness
            .get(&long)
            .await
            .assert_flameups(200, &harness.body("user_1"));
    }
    assert_eq!(harness.targets(), [short, long]);
}

#[tokio::test]
async fn a_uuid_of_the_configured_workspace_is_stored_and_answered_from_memory() {
    let setup = Setup::new().config("cache.ttl_jitter = 0.0").config(&format!(
        "workspaces.w.api_key_env = \"FLAMEUP_API_KEY\"\nworkspaces.w.budget.requests = 1_000_000\nworkspaces.w.workspace_id = \"{DEMO_WORKSPACE}\""
    ));
    let harness = setup.start().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a uuid");
    let path = long_path(DEMO_WORKSPACE, &uuid);
    let first = harness.get(&path).await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    let hit = harness
        .get(&long_path(DEMO_WORKSPACE, &uuid.to_uppercase()))
        .await;
    hit.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(hit.cache_status(), "hit; ttl=60");
    let absent = long_path(DEMO_WORKSPACE, UUID);
    assert_eq!(harness.get(&absent).await.status, 404);
    assert_eq!(
        harness.get(&absent).await.cache_status(),
        "hit; detail=negative; ttl=10"
    );
}

#[tokio::test]
async fn a_workspace_id_that_is_not_known_yet_is_proven_by_the_body() {
    let harness = exact().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a uuid");
    let absent = long_path(DEMO_WORKSPACE, UUID);
    for _ in 0..2 {
        let answer = harness.get(&absent).await;
        assert_eq!(
            answer.cache_status(),
            "fwd=uri-miss; fwd-status=404",
            "it proves nothing"
        );
    }
    let path = long_path(DEMO_WORKSPACE, &uuid);
    let first = harness.get(&path).await;
    first.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(harness.get(&path).await.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn another_workspace_in_the_path_is_always_flameups_to_answer() {
    let harness = exact().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a uuid");
    let (own, foreign) = (
        long_path(DEMO_WORKSPACE, &uuid),
        long_path("ws_other", &uuid),
    );
    // Before the workspace's own id is known, and after.
    assert_eq!(harness.get(&foreign).await.status, 403);
    harness
        .get(&own)
        .await
        .assert_flameups(200, &harness.body("user_1"));
    for _ in 0..2 {
        let answer = harness.get(&foreign).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.cache_status(), "fwd=bypass; fwd-status=403");
    }
    // Should Flameup answer it after all, the answer still stands for this one request.
    harness.fault(FaultKind::OtherPerson {
        external_id: "user_1".to_owned(),
    });
    for _ in 0..2 {
        let answer = harness.get(&foreign).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), "fwd=bypass; fwd-status=200");
    }
    assert_eq!(harness.forwards(), 6);
    assert_eq!(harness.get(&own).await.cache_status(), "hit; ttl=60");
}
