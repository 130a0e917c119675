//! Two workspaces behind one gateway: what is stored for one is never the other's.

use bytes::Bytes;
use flameup_gateway::sandbox::{ApiKey, Matcher};
use serde_json::{Map, Value};

use crate::support::tenants::{
    KEY_ONE, KEY_TWO, TOKEN_ONE, TOKEN_TWO, bearer, client, tenants, workspaces,
};
use crate::support::{Harness, Response, status};

const USER: &str = "/api/v1/people/user_1";

/// The workspaces as the sandbox calls them, and the tokens of their clients.
const TENANTS: [(&str, &str); 2] = [("ws_one", TOKEN_ONE), ("ws_two", TOKEN_TWO)];

async fn ask(harness: &Harness, token: &str, target: &str) -> Response {
    let lines = [("authorization", bearer(token))];
    let lines = lines
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    harness.get_with(target, &lines).await
}

fn body(harness: &Harness, workspace: &str, id: &str) -> Bytes {
    let people = harness.flameup.people_of(workspace);
    people
        .body_by_external_id(id)
        .expect("this workspace has this person")
}

fn create(harness: &Harness, workspace: &str, id: &str, email: &str) {
    let fields = Map::from_iter([("email".to_owned(), Value::from(email))]);
    harness.flameup.people_of(workspace).upsert(id, &fields);
}

/// The keys that reached Flameup, in order.
fn keys(harness: &Harness) -> Vec<String> {
    let received = harness.flameup.received().into_iter();
    let key = |request: &flameup_gateway::sandbox::Received| {
        let value = request.headers["authorization"].to_str();
        value.expect("a readable key").to_owned()
    };
    received.map(|request| key(&request)).collect()
}

#[tokio::test]
async fn the_same_id_is_another_person_in_each_workspace() {
    let harness = tenants().await;
    assert_ne!(
        body(&harness, "ws_one", "user_1"),
        body(&harness, "ws_two", "user_1")
    );
    for cache_status in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl=60"] {
        for (workspace, token) in TENANTS {
            let answer = ask(&harness, token, USER).await;
            answer.assert_flameups(200, &body(&harness, workspace, "user_1"));
            assert_eq!(answer.cache_status(), cache_status);
        }
    }
    assert_eq!(keys(&harness), [bearer(KEY_ONE), bearer(KEY_TWO)]);
}

#[tokio::test]
async fn one_connection_may_speak_for_one_client_after_the_other() {
    let harness = tenants().await;
    let mut connection = harness.client().await;
    for _ in 0..3 {
        for (workspace, token) in TENANTS {
            let line = [("authorization", &*bearer(token))];
            let answer = connection.send("GET", USER, &line).await;
            answer.assert_flameups(200, &body(&harness, workspace, "user_1"));
        }
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn who_exists_in_one_workspace_only_is_found_and_missed_there_only() {
    let harness = tenants().await;
    create(&harness, "ws_one", "only_one", "shared@example.org");
    create(&harness, "ws_two", "only_two", "shared@example.org");
    let email = "/api/v1/people/shared@example.org";
    for _ in 0..2 {
        assert_eq!(
            ask(&harness, TOKEN_TWO, "/api/v1/people/only_one")
                .await
                .status,
            404
        );
        let found = ask(&harness, TOKEN_ONE, "/api/v1/people/only_one").await;
        found.assert_flameups(200, &body(&harness, "ws_one", "only_one"));
        let found = ask(&harness, TOKEN_ONE, email).await;
        found.assert_flameups(200, &body(&harness, "ws_one", "only_one"));
        let found = ask(&harness, TOKEN_TWO, email).await;
        found.assert_flameups(200, &body(&harness, "ws_two", "only_two"));
    }
    // A body of one workspace proves nothing about an absence in the other.
    let still = ask(&harness, TOKEN_TWO, "/api/v1/people/only_one").await;
    assert_eq!(still.cache_status(), "hit; detail=negative; ttl=10");
}

#[tokio::test]
async fn requests_for_the_same_id_never_wait_for_the_other_workspaces_answer() {
    let harness = tenants().await;
    let hold = harness.flameup.hold(Matcher::any());
    let ask = |token| ask(&harness, token, USER);
    let (one, two, one_too, two_too, ()) = tokio::join!(
        ask(TOKEN_ONE),
        ask(TOKEN_TWO),
        ask(TOKEN_ONE),
        ask(TOKEN_TWO),
        async {
            assert!(hold.arrived(2).await);
            hold.release();
        }
    );
    for answer in [one, one_too] {
        answer.assert_flameups(200, &body(&harness, "ws_one", "user_1"));
    }
    for answer in [two, two_too] {
        answer.assert_flameups(200, &body(&harness, "ws_two", "user_1"));
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn an_outage_is_covered_by_the_own_workspaces_answer_only() {
    let harness = tenants().await;
    ask(&harness, TOKEN_ONE, USER).await;
    harness.pass(301);
    harness.fault(status(503));
    let covered = ask(&harness, TOKEN_ONE, USER).await;
    covered.assert_flameups(200, &body(&harness, "ws_one", "user_1"));
    assert_eq!(ask(&harness, TOKEN_TWO, USER).await.status, 503);
    let line = [
        ("authorization", &*bearer(TOKEN_TWO)),
        ("cache-control", "only-if-cached"),
    ];
    harness
        .get_with(USER, &line)
        .await
        .assert_own(504, "http_request_denied");
}

#[tokio::test]
async fn a_path_with_the_other_workspaces_id_is_answered_by_flameup_alone() {
    let harness = tenants().await;
    let uuid = harness
        .flameup
        .people_of("ws_one")
        .uuid("user_1")
        .expect("a uuid");
    let path = format!("/api/v1/workspaces/ws_one/people/{uuid}");
    for round in 0..2 {
        // In the second round each workspace knows its own id, and the person is stored.
        assert_eq!(
            ask(&harness, TOKEN_TWO, &path).await.status,
            403,
            "round {round}"
        );
        let own = ask(&harness, TOKEN_ONE, &path).await;
        own.assert_flameups(200, &body(&harness, "ws_one", "user_1"));
        ask(&harness, TOKEN_TWO, USER).await;
    }
    assert_eq!(
        ask(&harness, TOKEN_ONE, &path).await.cache_status(),
        "hit; ttl=60"
    );
    let foreign = ask(&harness, TOKEN_TWO, &path).await;
    assert_eq!(foreign.cache_status(), "fwd=bypass; fwd-status=403");
}

#[tokio::test]
async fn what_a_key_suddenly_shows_of_another_workspace_is_not_stored() {
    let harness = tenants().await;
    let known = ask(&harness, TOKEN_ONE, USER).await.body;
    harness.flameup.accept_key(ApiKey::new(KEY_ONE, "ws_two"));
    let other = "/api/v1/people/user_2";
    for _ in 0..2 {
        let answer = ask(&harness, TOKEN_ONE, other).await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=200");
    }
    // What is stored already stays what it was, even where a refresh brings the other.
    ask(&harness, TOKEN_ONE, USER)
        .await
        .assert_flameups(200, &known);
    harness.pass(61);
    let wanted = harness.forwards() + 3;
    let seen_enough = |answer: &Response| {
        answer.assert_flameups(200, &known);
        harness.forwards() >= wanted
    };
    let line = [("authorization", &*bearer(TOKEN_ONE))];
    harness.until_with(USER, &line, seen_enough).await;
}

#[tokio::test]
async fn two_clients_of_one_workspace_share_what_is_stored() {
    let setup = client(workspaces(), "billing", "one", &[TOKEN_ONE]);
    let harness = client(setup, "support", "one", &[TOKEN_TWO]).start().await;
    ask(&harness, TOKEN_ONE, USER).await;
    let hit = ask(&harness, TOKEN_TWO, USER).await;
    hit.assert_flameups(200, &body(&harness, "ws_one", "user_1"));
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}
