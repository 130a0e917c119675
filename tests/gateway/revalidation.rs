//! Conditional requests, from clients and to Flameup.

use flameup_gateway::sandbox::FaultKind;

use crate::support::{Harness, Response, Setup, exact, headers, status};

const USER: &str = "/api/v1/people/user_1";

/// Flameup sends validators, and lifetimes can be counted on.
async fn with_etags() -> Harness {
    let setup = Setup::new().config("cache.ttl_jitter = 0.0");
    setup
        .sandbox(flameup_gateway::sandbox::Options::etags)
        .start()
        .await
}

async fn ask_unless(harness: &Harness, etag: &str) -> Response {
    harness.get_with(USER, &[("if-none-match", etag)]).await
}

fn assert_not_modified(response: &Response, etag: &str) {
    assert_eq!(response.status, 304, "{response:?}");
    assert_eq!(response.body, "");
    assert_eq!(response.header("etag"), etag);
    assert_eq!(response.header("content-type"), "");
    assert!(!response.header("cache-status").is_empty());
}

/// The `If-None-Match` that each request to Flameup carried; empty without one.
fn conditions(harness: &Harness) -> Vec<String> {
    let condition = |request: flameup_gateway::sandbox::Received| {
        let value = request.headers.get("if-none-match")?.to_str().ok()?;
        Some(value.to_owned())
    };
    let received = harness.flameup.received().into_iter();
    received
        .map(|request| condition(request).unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn a_client_that_has_the_answer_gets_304_and_no_body() {
    let harness = exact().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    assert!(etag.starts_with('"'), "a strong validator: {etag}");
    harness.pass(5);
    for condition in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"other\", {etag}"),
        format!("\"other\",W/{etag} , \"third\""),
        "*".to_owned(),
    ] {
        let answer = ask_unless(&harness, &condition).await;
        assert_not_modified(&answer, &etag);
        assert_eq!(answer.cache_status(), "hit; ttl=55", "{condition}");
        assert_eq!(answer.header("age"), "5");
    }
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn a_client_that_has_something_else_gets_the_whole_answer() {
    let harness = exact().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    let unquoted = etag.trim_matches('"');
    for condition in ["\"other\"", "W/\"other\"", "", unquoted, "\"\"", "\"*\""] {
        let answer = ask_unless(&harness, condition).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.header("etag"), etag);
    }
}

#[tokio::test]
async fn a_condition_is_the_clients_own_and_never_reaches_flameup() {
    let harness = exact().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    harness.pass(301);
    let answer = ask_unless(&harness, &etag).await;
    assert_not_modified(&answer, &etag);
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_eq!(conditions(&harness), ["", ""]);
}

#[tokio::test]
async fn a_changed_body_has_another_validator() {
    let harness = exact().await;
    let old = harness.get(USER).await.header("etag").to_owned();
    let new = harness.flameup.people().set("user_1", "first_name", "New");
    harness.pass(301);
    let answer = ask_unless(&harness, &old).await;
    answer.assert_flameups(200, &new);
    assert_ne!(answer.header("etag"), old);
}

#[tokio::test]
async fn a_404_is_no_304_whatever_the_condition() {
    let harness = exact().await;
    for _ in 0..2 {
        let condition = [("if-none-match", "*")];
        let answer = harness.get_with("/api/v1/people/nobody", &condition).await;
        assert_eq!(answer.status, 404);
        assert!(!answer.body.is_empty());
    }
}

#[tokio::test]
async fn head_is_answered_like_get_without_the_body() {
    let harness = exact().await;
    for (path, forwards) in [(USER, 1), ("/api/v1/people/nobody", 2)] {
        let mut client = harness.client().await;
        client.send("HEAD", path, &[]).await;
        let get = client.get(path).await;
        let head = client.send("HEAD", path, &[]).await;
        assert_eq!(head.status, get.status);
        assert_eq!(head.body, "");
        for name in [
            "content-length",
            "content-type",
            "etag",
            "age",
            "cache-status",
            "via",
        ] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
        assert_eq!(head.header("content-length"), get.body.len().to_string());
        assert_eq!(
            harness.forwards(),
            forwards,
            "one answer serves both methods"
        );
    }
    let received = harness.flameup.received();
    assert!(received.iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn head_knows_conditions_too() {
    let harness = exact().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    let mut client = harness.client().await;
    let answer = client.send("HEAD", USER, &[("if-none-match", &etag)]).await;
    assert_not_modified(&answer, &etag);
}

#[tokio::test]
async fn flameups_validator_is_passed_on_and_used_to_revalidate() {
    let harness = with_etags().await;
    let first = harness.get(USER).await;
    let etag = first.header("etag").to_owned();
    harness.pass(301);
    let answer = harness.get(USER).await;
    answer.assert_flameups(200, &first.body);
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; stored");
    assert_eq!(answer.header("etag"), etag);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(conditions(&harness), ["", &etag]);

    let hit = harness.get(USER).await;
    hit.assert_flameups(200, &first.body);
    assert_eq!(
        (hit.cache_status(), hit.header("age")),
        ("hit; ttl=60", "0")
    );
}

#[tokio::test]
async fn what_was_freshened_can_be_revalidated_again_and_again() {
    let harness = with_etags().await;
    let first = harness.get(USER).await;
    for _ in 0..3 {
        harness.pass(301);
        let answer = harness.get(USER).await;
        answer.assert_flameups(200, &first.body);
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; stored");
    }
}

#[tokio::test]
async fn a_background_refresh_revalidates_too() {
    let harness = with_etags().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    harness.pass(61);
    harness.get(USER).await;
    let fresh = |response: &Response| response.cache_status() == "hit; ttl=60";
    harness.until(USER, fresh).await;
    assert_eq!(conditions(&harness), ["", &etag]);
}

#[tokio::test]
async fn a_changed_person_replaces_what_was_revalidated() {
    let harness = with_etags().await;
    let old = harness.get(USER).await.header("etag").to_owned();
    let new = harness.flameup.people().set("user_1", "first_name", "New");
    harness.pass(301);
    let answer = harness.get(USER).await;
    answer.assert_flameups(200, &new);
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=200; stored");
    assert_ne!(answer.header("etag"), old);
    harness.get(USER).await.assert_flameups(200, &new);
}

#[tokio::test]
async fn a_304_that_forbids_storing_freshens_nothing() {
    let harness = with_etags().await;
    let stored = harness.get(USER).await.body;
    harness.pass(301);
    harness.fault(headers(&[("cache-control", "no-store")]));
    for _ in 0..2 {
        let answer = harness.get(USER).await;
        answer.assert_flameups(200, &stored);
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304");
    }
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_answer() {
    let harness = exact().await;
    harness.fault(status(304));
    let answer = harness.get(USER).await;
    answer.assert_own(502, "http_protocol_error");
    assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=304");
    assert_eq!(
        answer
            .header("proxy-status")
            .matches("received-status=304")
            .count(),
        1
    );
    // Not even to a client that would have been content with it.
    ask_unless(&harness, "*")
        .await
        .assert_own(502, "http_protocol_error");
}

#[tokio::test]
async fn a_304_confirms_nothing_that_had_no_validator_of_flameups() {
    let harness = exact().await;
    let stored = harness.get(USER).await.body;
    harness.pass(301);
    harness.fault(status(304));
    for _ in 0..2 {
        let answer = harness.get(USER).await;
        answer.assert_flameups(200, &stored);
        assert_eq!(
            answer.cache_status(),
            "fwd=stale; fwd-status=304; detail=error"
        );
        assert_eq!(answer.header("age"), "301");
    }
    harness.flameup.clear_faults();
    harness.fault(FaultKind::Reset);
    assert_eq!(harness.get(USER).await.header("age"), "301");
}

#[tokio::test]
async fn a_304_about_another_validator_confirms_nothing() {
    let harness = with_etags().await;
    let stored = harness.get(USER).await;
    harness.pass(301);
    harness.fault(FaultKind::Status {
        code: 304,
        headers: vec![("etag".to_owned(), "\"other\"".to_owned())],
        body: None,
        shape: flameup_gateway::sandbox::ErrorShape::E,
    });
    for _ in 0..2 {
        let answer = harness.get(USER).await;
        answer.assert_flameups(200, &stored.body);
        assert_eq!(
            answer.cache_status(),
            "fwd=stale; fwd-status=304; detail=error"
        );
        assert_eq!(answer.header("etag"), stored.header("etag"));
        assert_eq!(answer.header("age"), "301");
    }
    let asked = conditions(&harness);
    assert_eq!(asked, ["", stored.header("etag"), stored.header("etag")]);
}
