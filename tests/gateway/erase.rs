//! After an erasure nothing is left that the gateway could show anybody.

use serde_json::{Value, json};

use crate::support::budgets::limited;
use crate::support::metrics::{get, metrics};
use crate::support::{Client, Harness, exact};

async fn erase(harness: &Harness, body: Value) -> Value {
    let mut operator = Client::connect(harness.admin_address()).await;
    let answer = operator.post("/v1/erase", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn the_receipt_says_what_was_removed_and_names_nobody() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    harness.get("/api/v1/people/user_1").await;
    let explained = get(&harness, "/v1/explain?id=user_1").await.json();
    let receipt = erase(&harness, json!({"id": "user_1", "hold": "5m"})).await;
    let removed =
        json!({"entries": 1, "pointers": 3, "absences": 0, "fetches": 0, "queue_places": 0});
    assert_eq!(receipt["removed"], removed, "{receipt}");
    assert_eq!(receipt["decisions"], 1);
    assert_eq!(
        receipt["tiers"],
        json!([{"tier": "memory", "confirmed": true}])
    );
    assert_eq!(receipt["person"], explained["person"]);
    assert_eq!(receipt["workspace"], "default");
    let date = |field: &str| -> jiff::Timestamp {
        let text = receipt[field].as_str().expect("a date");
        text.parse().expect("a date")
    };
    let held = date("held_until").as_second() - date("at").as_second();
    assert_eq!(held, 300);
    let id = receipt["receipt"].as_str().expect("an id");
    assert!(id.parse::<uuid::Uuid>().is_ok());
    let text = receipt.to_string();
    for name in ["user_1", &*email, &*uuid] {
        assert!(!text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_stored_again_before_the_hold_is_over_by_whatever_name() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    harness.get(&Harness::path(&email)).await;
    erase(&harness, json!({"id": "user_1", "hold": "1m"})).await;
    for target in [&*Harness::path("user_1"), &*Harness::path(&email)] {
        for _ in 0..2 {
            let answer = harness.get(target).await;
            answer.assert_flameups(200, &harness.body("user_1"));
            assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=200");
        }
    }
    let explained = get(&harness, "/v1/explain?id=user_1").await.json();
    assert_eq!(explained["changes"]["erased"], true, "{explained}");
    assert_eq!(explained["changes"]["not_stored_for_s"], 60);
    assert_eq!(explained["entry"], Value::Null);
    harness.pass(61);
    harness.get("/api/v1/people/user_1").await;
    let hit = harness.get(&Harness::path(&email)).await;
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn a_fetch_under_way_is_called_off_and_counted() {
    let harness = exact().await;
    let hold = harness.hold("user_1");
    let mut waiting = harness.asking("/api/v1/people/user_1", &[]).await;
    assert!(hold.arrived(1).await);
    let receipt = erase(&harness, json!({"id": "user_1"})).await;
    assert_eq!(receipt["removed"]["fetches"], 1, "{receipt}");
    let told = waiting.answer().await;
    assert_eq!(
        (told.status.as_u16(), told.header("retry-after")),
        (503, "1")
    );
    assert_eq!(
        told.header("proxy-status"),
        "flameup-gateway; error=http_request_denied"
    );
    assert_eq!(told.json()["code"], 503);
    hold.release();
    harness.settle().await;
    let explained = get(&harness, "/v1/explain?id=user_1").await.json();
    assert_eq!(explained["entry"], Value::Null);
    assert_eq!(explained["fetch_under_way"], false);
}

#[tokio::test]
async fn whoever_waits_for_a_person_that_is_erased_is_not_served_what_was_stored() {
    let harness = exact().await;
    harness.get("/api/v1/people/user_1").await;
    // Past the time for serving it while it is refreshed, within that for covering errors.
    harness.pass(360);
    let hold = harness.hold("user_1");
    let mut waiting = harness.asking("/api/v1/people/user_1", &[]).await;
    assert!(hold.arrived(1).await);
    erase(&harness, json!({"id": "user_1"})).await;
    assert_eq!(waiting.answer().await.status, 503);
    hold.release();
}

#[tokio::test]
async fn a_place_in_the_queue_is_given_up_and_counted() {
    let harness = limited().start().await;
    let spent = harness.spend("").await;
    let mut waiting = harness.asking("/api/v1/people/user_2", &[]).await;
    let queued = async || {
        let status = get(&harness, "/v1/status").await.json();
        status["workspaces"][0]["waiting"] == 1
    };
    harness.settle().await;
    assert!(queued().await);
    let receipt = erase(&harness, json!({"id": "user_2"})).await;
    assert_eq!(receipt["removed"]["queue_places"], 1, "{receipt}");
    assert_eq!(waiting.answer().await.status, 503);
    assert!(!queued().await);
    assert_eq!(harness.forwards(), spent);
}

#[tokio::test]
async fn absences_go_too_and_others_stay() {
    let harness = exact().await;
    for id in ["nobody", "user_2", "somebody"] {
        harness.get(&Harness::path(id)).await;
    }
    let receipt = erase(&harness, json!({"id": "nobody"})).await;
    assert_eq!(receipt["removed"]["absences"], 1, "{receipt}");
    for (id, starts) in [
        ("nobody", "fwd=uri-miss"),
        ("user_2", "hit"),
        ("somebody", "hit"),
    ] {
        let answer = harness.get(&Harness::path(id)).await;
        assert!(answer.cache_status().starts_with(starts), "{id}");
    }
}

#[tokio::test]
async fn connections_to_flameup_that_read_the_person_are_closed() {
    let harness = exact().await;
    harness.get("/api/v1/people/user_1").await;
    assert_eq!(harness.flameup.connections(), 1);
    erase(&harness, json!({"id": "user_1"})).await;
    harness.get("/api/v1/people/user_2").await;
    assert_eq!(harness.flameup.connections(), 2, "a new one was opened");
}

#[tokio::test]
async fn no_metric_and_no_admin_answer_names_whoever_was_erased() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    for id in ["user_1", &*email, &*email.to_uppercase()] {
        harness.get(&Harness::path(id)).await;
    }
    erase(&harness, json!({"uuid": uuid})).await;
    let mut seen = metrics(&harness).await.text;
    for target in [
        "/v1/status".to_owned(),
        "/v1/explain?id=user_1".to_owned(),
        format!("/v1/explain?id={email}"),
        format!("/v1/explain?uuid={uuid}"),
    ] {
        let answer = get(&harness, &target).await;
        assert_eq!(answer.status, 200);
        seen.push_str(&String::from_utf8_lossy(&answer.body));
    }
    for name in ["user_1", &*email, &*uuid] {
        assert!(
            !seen.to_lowercase().contains(&name.to_lowercase()),
            "{name}"
        );
    }
    let sum = metrics(&harness)
        .await
        .sum("invalidations_total", &[("cause", "erase")]);
    assert!((sum - 1.0).abs() < f64::EPSILON);
}
