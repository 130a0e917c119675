//! Changes: whoever asks after one sees what it made, however it ended.

use bytes::Bytes;
use flameup_gateway::sandbox::{Fault, FaultKind, Matcher};
use http::{HeaderMap, Method};
use serde_json::json;

use crate::support::metrics::metrics;
use crate::support::passing::open;
use crate::support::{H2, Harness, Response, Setup, Wire, headers, long_path, status};

const PEOPLE: &str = "/api/v1/people";
const OTHER: &str = "/api/v1/people/user_9";

/// Sends a change and returns its answer.
async fn change(harness: &Harness, method: &str, target: &str, body: &str) -> Response {
    let mut client = harness.client().await;
    client.send_with(method, target, &[], body.to_owned()).await
}

/// Reads a person into memory and sees that it is there: once reads are no longer held off after an
/// earlier change.
async fn remember(harness: &Harness, target: &str) {
    harness.pass(2);
    harness.get(target).await;
    assert!(is_remembered(harness, target).await);
}

async fn is_remembered(harness: &Harness, target: &str) -> bool {
    harness.get(target).await.cache_status().starts_with("hit")
}

#[tokio::test]
async fn a_read_after_an_update_sees_the_new_person_by_the_same_name() {
    let harness = open().start().await;
    let uuid = harness.get(&Harness::path("user_1")).await.json()["id"].clone();
    let long = long_path("ws_demo0001", uuid.as_str().expect("a UUID"));
    for (name, target) in [("short", Harness::path("user_1")), ("long", long)] {
        remember(&harness, &target).await;
        remember(&harness, OTHER).await;
        let body = json!({"traits": {"first_name": name}}).to_string();
        let answer = change(&harness, "PUT", &target, &body).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), "fwd=method; fwd-status=200");
        let writes = metrics(&harness)
            .await
            .sum("invalidations_total", &[("cause", "write")]);
        assert!(writes >= 1.0);
        let read = harness.get(&target).await;
        read.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(read.json()["first_name"], name);
        assert!(
            is_remembered(&harness, OTHER).await,
            "nobody else is touched"
        );
    }
}

#[tokio::test]
async fn whoever_is_created_is_there_at_once_though_nobody_was_before() {
    let harness = open().start().await;
    let create = |id: &str| json!({"userId": id, "email": format!("{id}@new.org")}).to_string();
    let batch = format!("{{\"people\":[{},{}]}}", create("b1"), create("b2"));
    for (target, body, ids) in [
        (PEOPLE, create("c1"), &["c1"][..]),
        (
            "/api/v1/workspaces/ws_demo0001/people",
            create("c2"),
            &["c2"],
        ),
        (
            "/api/v1/workspaces/ws_demo0001/people/upsert",
            create("u1"),
            &["u1"],
        ),
        ("/api/v1/people/batch", batch, &["b1", "b2"]),
    ] {
        let names = ids
            .iter()
            .flat_map(|id| [(*id).to_owned(), format!("{id}@new.org")]);
        let names: Vec<_> = names.map(|name| Harness::path(&name)).collect();
        for name in &names {
            assert_eq!(harness.get(name).await.status, 404);
            assert!(is_remembered(&harness, name).await, "nobody");
        }
        let answer = change(&harness, "POST", target, &body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        for name in &names {
            assert_eq!(harness.get(name).await.status, 200, "{name} after {target}");
        }
    }
}

#[tokio::test]
async fn whoever_is_deleted_is_gone_at_once() {
    let harness = open().start().await;
    let target = Harness::path("user_1");
    remember(&harness, &target).await;
    let answer = change(&harness, "DELETE", &target, "").await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert_eq!(harness.get(&target).await.status, 404);
}

#[tokio::test]
async fn a_change_that_names_somebody_in_its_body_touches_them_too() {
    let harness = open().start().await;
    harness.create("user_1", "old@x.org");
    for name in ["user_1", "old@x.org", "Old@X.org"] {
        remember(&harness, &Harness::path(name)).await;
    }
    let body = json!({"email": "old@x.org", "traits": {"first_name": "New"}}).to_string();
    change(&harness, "PUT", &Harness::path("user_1"), &body).await;
    for name in ["old@x.org", "OLD@x.org"] {
        let read = harness.get(&Harness::path(name)).await;
        assert_eq!(read.json()["first_name"], "New", "{name}");
    }
}

#[tokio::test]
async fn an_unclear_end_is_an_end_like_any_other() {
    for kind in [
        FaultKind::Reset,
        FaultKind::ResetMidBody,
        FaultKind::Truncate { bytes: 3 },
        FaultKind::Hang,
        status(500),
        status(503),
        FaultKind::Html200,
        FaultKind::EchoKey,
    ] {
        let config = "upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"";
        let harness = open().config(config).start().await;
        let target = Harness::path("user_1");
        remember(&harness, &target).await;
        let fault = Fault::new(kind.clone()).on(Matcher::method(Method::PUT));
        harness.flameup.fault(fault.applied(true));
        let request = "{\"traits\":{\"first_name\":\"New\"}}";
        let mut wire = Wire::connect(harness.address()).await;
        let length = request.len();
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        wire.send(head + request).await;
        wire.rest().await;
        let read = harness.get(&target).await;
        assert_eq!(read.json()["first_name"], "New", "{kind:?}");
        let sent = harness.flameup.received();
        let writes = sent.iter().filter(|got| got.method == Method::PUT).count();
        assert_eq!(writes, 1, "never sent twice: {kind:?}");
    }
}

#[tokio::test]
async fn a_change_is_seen_to_its_end_though_its_client_has_left() {
    let harness = open().start().await;
    let target = Harness::path("user_1");
    remember(&harness, &target).await;
    let hold = harness
        .flameup
        .hold_unanswered(Matcher::method(Method::PUT));
    let request = "{\"traits\":{\"first_name\":\"New\"}}";
    let mut wire = Wire::connect(harness.address()).await;
    let length = request.len();
    wire.send(format!(
        "PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{request}"
    ))
    .await;
    assert!(hold.arrived(1).await);
    drop(wire);
    harness.settle().await;
    // Somebody reads what is still so, into memory.
    remember(&harness, &target).await;
    hold.release();
    let read = harness
        .until(&target, |read| read.json()["first_name"] == "New")
        .await;
    read.assert_flameups(200, &harness.body("user_1"));
}

#[tokio::test]
async fn a_body_that_cannot_be_read_touches_everyone_unless_flameup_refuses_it() {
    let harness = open().start().await;
    remember(&harness, OTHER).await;
    let refused = change(&harness, "POST", PEOPLE, "{\"userId\":").await;
    assert_eq!(refused.status, 400, "by Flameup");
    assert!(is_remembered(&harness, OTHER).await);
    let mut client = harness.client().await;
    let coded = [("content-encoding", "gzip")];
    let body = "{\"userId\":\"c1\"}";
    let taken = client.send_with("POST", PEOPLE, &coded, body).await;
    assert_eq!(taken.status, 201);
    assert!(!is_remembered(&harness, OTHER).await);
}

#[tokio::test]
async fn nobody_knows_whom_an_undocumented_change_touches() {
    let harness = open().start().await;
    remember(&harness, OTHER).await;
    assert_eq!(
        change(&harness, "POST", "/api/v1/merge", "{}").await.status,
        404
    );
    assert!(is_remembered(&harness, OTHER).await, "Flameup refused it");
    assert_eq!(harness.get("/api/v1/merge").await.status, 404);
    assert!(
        is_remembered(&harness, OTHER).await,
        "a read changes nothing"
    );
    harness.flameup.fault(Fault::new(status(200)).once());
    assert_eq!(
        change(&harness, "POST", "/api/v1/merge", "{}").await.status,
        200
    );
    assert!(!is_remembered(&harness, OTHER).await);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_touches_everyone() {
    for kind in [
        FaultKind::Truncate { bytes: 3 },
        headers(&[("content-encoding", "gzip")]),
        FaultKind::Html200,
    ] {
        let harness = open().start().await;
        remember(&harness, OTHER).await;
        let fault = Fault::new(kind).on(Matcher::method(Method::PUT));
        harness.flameup.fault(fault.applied(true));
        let mut wire = Wire::connect(harness.address()).await;
        let target = Harness::path("user_1");
        wire.send(format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        ))
        .await;
        wire.rest().await;
        assert!(!is_remembered(&harness, OTHER).await);
    }
}

#[tokio::test]
async fn messages_change_nobody() {
    let harness = open().start().await;
    remember(&harness, OTHER).await;
    for path in [
        "push/send",
        "workspaces/ws_demo0001/campaigns",
        "workspaces/ws_demo0001/campaigns/c1/trigger",
        "workspaces/ws_demo0001/transactional/send",
    ] {
        harness.flameup.fault(Fault::new(status(200)).once());
        let body = "{\"person_id\":\"user_9\",\"user_id\":\"user_9\"}";
        change(&harness, "POST", &format!("/api/v1/{path}"), body).await;
        assert!(is_remembered(&harness, OTHER).await, "{path}");
    }
}

/// Tracks an event about `user_9` and registers a device of theirs; says whether they are still in
/// memory after each.
async fn after_events(setup: Setup) -> [bool; 3] {
    let harness = setup.start().await;
    let event = "{\"external_id\":\"user_9\",\"event\":\"seen\"}";
    let device = "{\"token\":\"t\",\"platform\":\"ios\"}";
    let mut remembered = [false; 3];
    for (at, (target, body)) in [
        ("/api/v1/track", event),
        ("/api/v1/workspaces/ws_demo0001/events", event),
        ("/api/v1/people/user_9/devices", device),
    ]
    .into_iter()
    .enumerate()
    {
        remember(&harness, OTHER).await;
        remember(&harness, &Harness::path("user_8")).await;
        let answer = change(&harness, "POST", target, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        remembered[at] = is_remembered(&harness, OTHER).await;
        assert!(is_remembered(&harness, &Harness::path("user_8")).await);
    }
    remembered
}

#[tokio::test]
async fn an_event_or_a_device_touches_its_person_only_where_that_is_wanted() {
    assert_eq!(after_events(open()).await, [true; 3]);
    let wanted = open().config("cache.events_invalidate = true");
    assert_eq!(after_events(wanted).await, [false; 3]);
}

#[tokio::test]
async fn a_change_over_http2_is_one_too() {
    let harness = open().start().await;
    let target = Harness::path("user_1");
    remember(&harness, &target).await;
    let mut client = H2::connect(harness.address()).await;
    let body = Bytes::from_static(b"{\"traits\":{\"first_name\":\"New\"}}");
    let answer = client.try_send_with("PUT", &target, HeaderMap::new(), body.clone());
    let answer = answer.await.expect("an answer");
    answer.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(
        harness.flameup.received().pop().expect("a forward").body,
        body
    );
    assert_eq!(client.get(&target).await.json()["first_name"], "New");
}

#[tokio::test]
async fn whoever_has_the_answer_to_a_change_reads_what_it_made() {
    let harness = open().start().await;
    let target = Harness::path("user_1");
    let mut client = harness.client().await;
    for round in 0..50 {
        client.get(&target).await;
        let name = format!("round {round}");
        let body = json!({"traits": {"first_name": name}}).to_string();
        let answer = client.send_with("PUT", &target, &[], body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            client.get(&target).await.json()["first_name"],
            name.as_str()
        );
    }
}
