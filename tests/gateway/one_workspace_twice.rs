//! Two sections whose keys turn out to be of one Flameup workspace, which only bodies tell.

use flameup_gateway::sandbox::{ApiKey, Fault};
use serde_json::{Value, json};

use crate::support::tenants::{
    KEY_ONE, KEY_TWO, TOKEN_ONE, TOKEN_TWO, bearer, client, tenants, workspaces,
};
use crate::support::{Client, Harness, Response, status};

const USER: &str = "/api/v1/people/user_1";
const LIST: &str = "/api/v1/people";

/// Both sections, with a client each that may do everything.
async fn twins() -> Harness {
    let setup = client(workspaces(), "one", "one", &[TOKEN_ONE]);
    client(setup, "two", "two", &[TOKEN_TWO])
        .config("clients.one.scopes = [\"*\"]\nclients.two.scopes = [\"*\"]")
        .sandbox(|options| {
            let keys = [KEY_ONE, KEY_TWO];
            options.api_keys(keys.map(|key| ApiKey::new(key, "ws_one")))
        })
        .start()
        .await
}

async fn send(
    harness: &Harness,
    token: &str,
    method: &str,
    target: &str,
    body: String,
) -> Response {
    let authorization = bearer(token);
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let mut client = harness.client().await;
    client.send_with(method, target, &headers, body).await
}

async fn get(harness: &Harness, token: &str, target: &str) -> Response {
    send(harness, token, "GET", target, String::new()).await
}

async fn rename(harness: &Harness, token: &str, name: &str) {
    let body = json!({"traits": {"first_name": name}}).to_string();
    let answer = send(harness, token, "PUT", USER, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// An operator's word on the first section, and what it removed.
async fn operate(harness: &Harness, target: &str, body: &Value) -> Value {
    let mut operator = Client::connect(harness.admin_address()).await;
    let answer = operator.post(target, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn first_name(answer: &Response) -> Value {
    answer.json()["first_name"].clone()
}

#[tokio::test]
async fn a_write_through_one_key_is_seen_through_the_other() {
    let harness = twins().await;
    get(&harness, TOKEN_ONE, USER).await;
    get(&harness, TOKEN_TWO, USER).await;
    rename(&harness, TOKEN_ONE, "Ada").await;
    let seen = get(&harness, TOKEN_TWO, USER).await;
    assert_eq!(first_name(&seen), "Ada");
    assert_eq!(seen.cache_status(), "fwd=uri-miss; fwd-status=200");
}

#[tokio::test]
async fn a_key_that_only_writes_has_not_shown_which_workspace_it_is_of() {
    let harness = twins().await;
    get(&harness, TOKEN_TWO, USER).await;
    let body = json!({"userId": "user_1", "traits": {"first_name": "Ada"}}).to_string();
    let upsert = "/api/v1/workspaces/ws_one/people/upsert";
    let answer = send(&harness, TOKEN_ONE, "POST", upsert, body).await;
    assert_eq!(answer.body, "{}", "it names nobody");
    assert_eq!(first_name(&get(&harness, TOKEN_TWO, USER).await), "Ada");
    // Nor does one that anybody may have been changed by.
    harness.pass(3);
    get(&harness, TOKEN_TWO, USER).await;
    let hit = get(&harness, TOKEN_TWO, USER).await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
    harness.flameup.fault(Fault::new(status(500)).once());
    send(
        &harness,
        TOKEN_ONE,
        "POST",
        "/api/v1/merge",
        "{}".to_owned(),
    )
    .await;
    let again = get(&harness, TOKEN_TWO, USER).await;
    assert!(again.cache_status().starts_with("fwd="), "{again:?}");
}

#[tokio::test]
async fn a_fetch_under_way_through_one_key_is_outdated_by_a_write_through_the_other() {
    let harness = twins().await;
    let hold = harness.hold("user_1");
    let asked = get(&harness, TOKEN_TWO, USER);
    let ((), before) = tokio::join!(
        async {
            assert!(hold.arrived(1).await);
            let body = json!({"userId": "user_1", "traits": {"first_name": "Ada"}}).to_string();
            let upsert = "/api/v1/workspaces/ws_one/people/upsert";
            send(&harness, TOKEN_ONE, "POST", upsert, body).await;
            hold.release();
        },
        asked
    );
    assert_eq!(before.cache_status(), "fwd=uri-miss; fwd-status=200");
    assert_eq!(first_name(&get(&harness, TOKEN_TWO, USER).await), "Ada");
}

#[tokio::test]
async fn a_list_through_one_key_refreshes_what_is_held_of_the_other() {
    let harness = twins().await;
    get(&harness, TOKEN_TWO, USER).await;
    get(&harness, TOKEN_ONE, "/api/v1/people/user_2").await;
    harness.pass(50);
    assert_eq!(get(&harness, TOKEN_ONE, LIST).await.status, 200);
    let hit = get(&harness, TOKEN_TWO, USER).await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn purge_and_erasure_are_of_both() {
    let harness = twins().await;
    let both = async || {
        for token in [TOKEN_ONE, TOKEN_TWO] {
            get(&harness, token, USER).await;
        }
    };
    both().await;
    let soft = json!({"workspace": "one", "id": "user_1", "soft": true});
    let purged = operate(&harness, "/v1/purge", &soft).await;
    assert_eq!(purged["expired"], 2);
    for whom in [
        json!({"workspace": "one", "id": "user_1"}),
        json!({"workspace": "one", "everyone": true}),
    ] {
        both().await;
        let purged = operate(&harness, "/v1/purge", &whom).await;
        assert_eq!(purged["removed"]["entries"], 2, "{whom}");
    }
    both().await;
    let whom = json!({"workspace": "one", "id": "user_1"});
    let receipt = operate(&harness, "/v1/erase", &whom).await;
    assert_eq!(receipt["removed"]["entries"], 2);
    assert_eq!(receipt["tiers"][0]["confirmed"], true);
    both().await;
    let seen = get(&harness, TOKEN_TWO, USER).await;
    assert_eq!(seen.cache_status(), "fwd=uri-miss; fwd-status=200");
}

#[tokio::test]
async fn what_another_workspace_is_known_to_be_stays_as_it_is() {
    let harness = tenants().await;
    for token in [TOKEN_ONE, TOKEN_TWO] {
        get(&harness, token, USER).await;
    }
    let everyone = json!({"workspace": "one", "everyone": true});
    let purged = operate(&harness, "/v1/purge", &everyone).await;
    assert_eq!(purged["removed"]["entries"], 1);
    let hit = get(&harness, TOKEN_TWO, USER).await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn whoever_only_the_other_section_knows_by_the_changed_name_is_changed_there_too() {
    for purged in [true, false] {
        let harness = twins().await;
        get(&harness, TOKEN_TWO, USER).await;
        let people = harness.flameup.people_of("ws_one");
        people.set("user_1", "email", "new@example.org".to_owned());
        get(&harness, TOKEN_ONE, USER).await;
        if purged {
            let whom = json!({"workspace": "one", "id": "new@example.org"});
            let done = operate(&harness, "/v1/purge", &whom).await;
            assert_eq!(done["removed"]["entries"], 2, "{done}");
        } else {
            let target = Harness::path("new@example.org");
            let answer = send(&harness, TOKEN_ONE, "DELETE", &target, String::new()).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
        let seen = get(&harness, TOKEN_TWO, USER).await;
        assert!(seen.cache_status().starts_with("fwd="), "{seen:?}");
    }
}

#[tokio::test]
async fn who_shares_an_e_mail_with_whoever_is_purged_stays() {
    let harness = twins().await;
    let people = harness.flameup.people_of("ws_one");
    for id in ["user_1", "user_2"] {
        people.set(id, "email", "shared@example.org".to_owned());
        get(&harness, TOKEN_TWO, &Harness::path(id)).await;
    }
    get(&harness, TOKEN_ONE, USER).await;
    let whom = json!({"workspace": "one", "id": "user_1"});
    let done = operate(&harness, "/v1/purge", &whom).await;
    assert_eq!(done["removed"]["entries"], 2, "{done}");
    let other = get(&harness, TOKEN_TWO, "/api/v1/people/user_2").await;
    assert!(other.cache_status().starts_with("hit"), "{other:?}");
}
