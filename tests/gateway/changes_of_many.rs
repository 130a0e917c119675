//! Changes of many people at once: of those that are refused, nobody knows whether all of it was.

use flameup_gateway::sandbox::Fault;
use serde_json::json;

use crate::support::passing::open;
use crate::support::{Harness, status};

const BATCH: &str = "/api/v1/people/batch";
const OTHER: &str = "/api/v1/people/user_9";

/// Has Flameup answer a change with this status, and says whether somebody who is not named in it
/// is still in memory.
async fn leaves_others(harness: &Harness, code: u16, target: &str, body: &str) -> bool {
    harness.pass(2);
    harness.get(OTHER).await;
    let remembered = async || {
        let answer = harness.get(OTHER).await;
        answer.cache_status().starts_with("hit")
    };
    assert!(remembered().await);
    harness.flameup.fault(Fault::new(status(code)).once());
    let mut client = harness.client().await;
    let answer = client.send_with("POST", target, &[], body.to_owned()).await;
    assert_eq!(answer.status, code);
    remembered().await
}

#[tokio::test]
async fn a_refusal_that_one_of_many_may_be_the_reason_for_is_an_unclear_end() {
    let harness = open().start().await;
    for target in [BATCH, "/api/v1/merge"] {
        for code in [402, 409, 418, 422, 429] {
            let left = leaves_others(&harness, code, target, "{\"people\":").await;
            assert!(!left, "{target} {code}");
            // What Flameup says of its limit is believed for a while.
            harness.pass(120);
        }
    }
}

#[tokio::test]
async fn what_is_refused_as_a_whole_and_what_can_be_read_touches_nobody_else() {
    let harness = open().start().await;
    for code in [400, 403, 404, 413] {
        assert!(leaves_others(&harness, code, BATCH, "{\"people\":").await);
        assert!(leaves_others(&harness, code, "/api/v1/merge", "{}").await);
    }
    let readable = "{\"people\":[{\"userId\":\"b1\"}]}";
    for code in [409, 422] {
        assert!(leaves_others(&harness, code, BATCH, readable).await);
        let one = "{\"userId\":";
        assert!(leaves_others(&harness, code, "/api/v1/people", one).await);
    }
}

#[tokio::test]
async fn whoever_is_dropped_with_everybody_takes_up_no_room_for_long() {
    let harness = open().start().await;
    assert!(!leaves_others(&harness, 409, BATCH, "{\"people\":").await);
    // Reads are held off yet, so nobody has been stored since.
    harness
        .until_metrics(|metrics| metrics.sum("cache_entries", &[("kind", "person")]) < 0.5)
        .await;
}

#[tokio::test]
async fn a_name_of_a_crowd_ends_everybody_only_where_nobody_says_whose_it_was() {
    let harness = open().sandbox(|options| options.people(60)).start().await;
    let shared = "nobody@example.org";
    for number in 1..=40 {
        let id = format!("user_{number}");
        harness
            .flameup
            .people()
            .set(&id, "email", shared.to_owned());
        harness.get(&Harness::path(&id)).await;
    }
    let other = Harness::path("user_50");
    let mut client = harness.client().await;
    let mut remembers_after = async |method, target: &str, body: &serde_json::Value| {
        harness.pass(3);
        harness.get(&other).await;
        assert!(harness.get(&other).await.cache_status().starts_with("hit"));
        let answer = client
            .send_with(method, target, &[], body.to_string())
            .await;
        assert!(answer.status.is_success(), "{answer:?}");
        harness.get(&other).await.cache_status().starts_with("hit")
    };
    let person = json!({"userId": "user_1", "email": shared});
    let by_id = Harness::path("user_1");
    assert!(remembers_after("PUT", &by_id, &json!({"traits": {"first_name": "Ada"}})).await);
    let upsert = "/api/v1/workspaces/ws_demo0001/people/upsert";
    assert!(!remembers_after("POST", upsert, &person).await);
}
