//! Keeping a 404: byte for byte, for a short time, and never against a person who exists.

use flameup_gateway::sandbox::{ErrorShape, FaultKind};

use crate::support::{Harness, Setup, exact, headers, status};

const NOBODY: &str = "/api/v1/people/nobody";
const USER: &str = "/api/v1/people/user_1";

const SHAPE_B: &[u8] =
    br#"{"error":{"code":"not_found","message":"The requested resource was not found"}}"#;
const SHAPE_E: &[u8] =
    br#"{"error":"Not Found","message":"The requested resource was not found","code":404}"#;

/// Flameup answers 404 with this body.
fn absent_with(headers: &[(&str, &str)], body: &str) -> FaultKind {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    FaultKind::Status {
        code: 404,
        headers: headers.iter().map(owned).collect(),
        body: Some(body.to_owned()),
        shape: ErrorShape::E,
    }
}

#[tokio::test]
async fn a_404_is_kept_byte_for_byte_in_both_documented_shapes() {
    for (shape, body) in [(ErrorShape::B, SHAPE_B), (ErrorShape::E, SHAPE_E)] {
        let setup = Setup::new().config("cache.ttl_jitter = 0.0");
        let setup = setup.sandbox(|mut options| {
            options.not_found = shape;
            options
        });
        let harness = setup.start().await;
        let first = harness.get(NOBODY).await;
        first.assert_flameups(404, body);
        assert_eq!(first.header("content-type"), "application/json");
        assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=404; stored");

        harness.pass(2);
        let second = harness.get(NOBODY).await;
        second.assert_flameups(404, body);
        assert_eq!(second.header("content-type"), "application/json");
        assert_eq!(second.cache_status(), "hit; detail=negative; ttl=8");
        assert_eq!(second.header("age"), "2");
        assert_eq!(harness.forwards(), 1);
    }
}

#[tokio::test]
async fn an_absence_is_believed_for_its_own_lifetime_and_not_a_moment_longer() {
    let harness = exact().await;
    harness.get(NOBODY).await;
    harness.create("nobody", "nobody@example.org");
    harness.pass(9);
    let last = harness.get(NOBODY).await;
    assert_eq!(last.cache_status(), "hit; detail=negative; ttl=1");
    harness.pass(1);
    let found = harness.get(NOBODY).await;
    found.assert_flameups(200, &harness.body("nobody"));
    assert_eq!(found.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
}

#[tokio::test]
async fn an_absence_is_never_served_stale() {
    let harness = exact().await;
    harness.get(NOBODY).await;
    harness.pass(10);
    harness.fault(status(503));
    assert_eq!(harness.get(NOBODY).await.status, 503);
    let demand = [("cache-control", "max-stale")];
    assert_eq!(harness.get_with(NOBODY, &demand).await.status, 503);
}

#[tokio::test]
async fn without_a_lifetime_no_absence_is_kept_nor_called_stored() {
    let harness = Setup::new()
        .config("cache.negative_ttl = \"0s\"")
        .start()
        .await;
    for forwards in 1..=2 {
        let answer = harness.get(NOBODY).await;
        answer.assert_flameups(404, SHAPE_E);
        assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=404");
        assert_eq!(harness.forwards(), forwards);
    }
}

#[tokio::test]
async fn a_body_that_proves_a_person_exists_ends_their_absence_at_once() {
    let harness = exact().await;
    harness
        .get("/api/v1/people/ext_9")
        .await
        .assert_flameups(404, SHAPE_E);
    harness
        .get("/api/v1/people/grace@example.org")
        .await
        .assert_flameups(404, SHAPE_E);
    harness.create("ext_9", "grace@example.org");
    harness
        .get_with(
            "/api/v1/people/grace@example.org",
            &[("cache-control", "no-cache")],
        )
        .await;
    let by_id = harness.get("/api/v1/people/ext_9").await;
    by_id.assert_flameups(200, &harness.body("ext_9"));
    assert_eq!(by_id.cache_status(), "hit; ttl=60");
    let by_email = harness.get("/api/v1/people/grace@example.org").await;
    assert_eq!(by_email.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn a_body_ends_the_absence_of_its_email_and_its_uuid_too() {
    let harness = exact().await;
    let people = harness.flameup.people();
    let (uuid, email) = (
        people.uuid("user_1").expect("a uuid"),
        people.email("user_1"),
    );
    let by_email = Harness::path(&email.expect("an email"));
    let by_uuid = format!("/api/v1/workspaces/{}/people/{uuid}", people.workspace());
    harness.get("/api/v1/people/user_2").await; // Teaches the workspace's own id.
    harness.fault(status(404));
    for path in [&by_email, &by_uuid] {
        assert_eq!(harness.get(path).await.status, 404);
        assert_eq!(
            harness.get(path).await.cache_status(),
            "hit; detail=negative; ttl=10"
        );
    }
    harness.flameup.clear_faults();
    harness
        .get(USER)
        .await
        .assert_flameups(200, &harness.body("user_1"));
    for path in [&by_email, &by_uuid] {
        harness
            .get(path)
            .await
            .assert_flameups(200, &harness.body("user_1"));
    }
}

#[tokio::test]
async fn a_stored_person_whom_flameup_no_longer_knows_is_gone() {
    let harness = exact().await;
    harness.get(USER).await;
    assert!(harness.flameup.people().delete("user_1"));
    harness.pass(301);
    let answer = harness.get(USER).await;
    answer.assert_flameups(404, SHAPE_E);
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=404; stored");
    let hit = harness.get(USER).await;
    assert_eq!(hit.cache_status(), "hit; detail=negative; ttl=10");
    harness.pass(10);
    harness.fault(status(503));
    assert_eq!(
        harness.get(USER).await.status,
        503,
        "no stale person covers this"
    );
}

#[tokio::test]
async fn a_404_that_may_not_be_kept_still_ends_the_stored_person() {
    for (config, lines) in [
        ("cache.negative_ttl = \"0s\"", &[][..]),
        ("", &[("cache-control", "no-store")][..]),
    ] {
        let harness = Setup::new().config(config).start().await;
        harness.get(USER).await;
        harness.pass(301);
        harness.fault(absent_with(lines, r#"{"error":"Not Found"}"#));
        let answer = harness.get(USER).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=404");
        harness.flameup.clear_faults();
        harness.fault(status(503));
        assert_eq!(harness.get(USER).await.status, 503, "{config} {lines:?}");
    }
}

#[tokio::test]
async fn a_background_refresh_finds_out_that_a_person_is_gone() {
    let harness = exact().await;
    let stored = harness.get(USER).await.body;
    assert!(harness.flameup.people().delete("user_1"));
    harness.pass(61);
    harness.get(USER).await.assert_flameups(200, &stored);
    let gone = harness.until(USER, |response| response.status == 404).await;
    assert_eq!(gone.cache_status(), "hit; detail=negative; ttl=10");
}

#[tokio::test]
async fn a_404_that_is_no_envelope_is_relayed_unchanged_and_not_kept() {
    const PAGE: &str = "<html><title>404</title></html>";
    for (lines, body) in [
        (&[("content-type", "text/html")][..], PAGE),
        (&[][..], ""),
        (&[][..], "[]"),
        (&[][..], "\"gone\""),
        (&[][..], r#"{"error":"cut"#),
        (
            &[("cache-control", "no-store")][..],
            r#"{"error":"Not Found"}"#,
        ),
    ] {
        let harness = exact().await;
        harness.fault(absent_with(lines, body));
        for forwards in 1..=2 {
            let answer = harness.get(NOBODY).await;
            answer.assert_flameups(404, body.as_bytes());
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; fwd-status=404",
                "{body}"
            );
            assert_eq!(harness.forwards(), forwards);
        }
    }
}

#[tokio::test]
async fn other_errors_of_flameups_are_relayed_and_never_kept() {
    for code in [400, 403, 410, 422, 500, 503] {
        let harness = exact().await;
        harness.fault(status(code));
        harness.get(NOBODY).await;
        let answer = harness.get(NOBODY).await;
        assert_eq!(answer.status, code);
        assert_eq!(answer.header("proxy-status"), "");
        assert_eq!(
            answer.cache_status(),
            format!("fwd=uri-miss; fwd-status={code}")
        );
        // A 503 may be a machine's before Flameup, and is asked for once more.
        let attempts = if code == 503 { 2 } else { 1 };
        assert_eq!(harness.forwards(), 2 * attempts);
    }
}

#[tokio::test]
async fn flameup_may_shorten_the_lifetime_of_an_absence() {
    let harness = exact().await;
    harness.fault(headers(&[("cache-control", "max-age=3")]));
    harness.get(NOBODY).await;
    let hit = harness.get(NOBODY).await;
    assert_eq!(hit.cache_status(), "hit; detail=negative; ttl=3");
}

#[tokio::test]
async fn a_flood_of_absences_pushes_no_person_out() {
    const PEOPLE: usize = 300;
    let setup = Setup::new().config("cache.max_bytes = \"1MiB\"");
    let harness = setup.start().await;
    let mut client = harness.client().await;
    for number in 1..=PEOPLE {
        client.get(&Harness::path(&format!("user_{number}"))).await;
    }
    // Asked twice each, so that they are wanted more than any person; together above the memory.
    let padding = "x".repeat(480);
    for number in 0..700 {
        let path = Harness::path(&format!("absent_{number}_{padding}"));
        client.get(&path).await;
        client.get(&path).await;
    }
    client.get("/api/v1/people/user_1").await;
    for number in 1..=PEOPLE {
        let hit = client.get(&Harness::path(&format!("user_{number}"))).await;
        assert!(hit.cache_status().starts_with("hit; ttl="), "{number}");
    }
}
