//! Many lookups in one call.

use flameup_gateway::sandbox::FaultKind;
use http_body_util::BodyExt;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};

use crate::support::budgets::{AT_ONCE, authorization, caller, limited};
use crate::support::metrics::metrics;
use crate::support::{Client, Harness, Response, Setup, exact, status};

const PATH: &str = "/gateway/v1/people/lookup";

async fn look_up(harness: &Harness, ids: &[&str]) -> Vec<Value> {
    let answer = harness
        .client()
        .await
        .post(PATH, &json!({ "ids": ids }))
        .await;
    people(&answer)
}

fn people(answer: &Response) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.cache_status(), "detail=per-id");
    let body = answer.json();
    body["people"].as_array().expect("a list").clone()
}

fn person(harness: &Harness, id: &str) -> Value {
    serde_json::from_slice(&harness.body(id)).expect("JSON")
}

#[tokio::test]
async fn each_id_is_answered_in_the_order_given_with_the_bytes_that_flameup_sent() {
    let harness = exact().await;
    harness.get("/api/v1/people/user_2").await;
    harness.pass(7);
    let body = json!({ "ids": ["user_1", "user_2", "nobody", "", "a/../b", "search"] });
    let answer = harness.client().await.post(PATH, &body).await;
    let people = people(&answer);
    let text = String::from_utf8_lossy(&answer.body);
    let sent = harness.body("user_1");
    assert!(text.contains(std::str::from_utf8(&sent).expect("text")));
    assert_eq!(
        people[0],
        json!({"id": "user_1", "status": 200, "person": person(&harness, "user_1"),
               "cache": "fwd=uri-miss; fwd-status=200; stored"})
    );
    assert_eq!(people[1]["age"], 7);
    assert_eq!(people[1]["cache"], "hit; ttl=53");
    assert_eq!(people[2]["status"], 404);
    assert_eq!(people[2]["cache"], "fwd=uri-miss; fwd-status=404; stored");
    assert_eq!(people[2]["error_body"]["error"], "Not Found");
    assert!(people[2].get("person").is_none() && people[2].get("error").is_none());
    for refused in &people[3..] {
        assert_eq!(refused["status"], 400);
        assert_eq!(refused["error"], "Bad Request");
        assert_eq!(refused["cache"], "detail=refused");
    }
    assert_eq!(harness.forwards(), 3);
}

#[tokio::test]
async fn spellings_and_names_of_one_person_are_one_fetch() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let shouted = email.to_uppercase();
    let cold = look_up(&harness, &[&email, &shouted, &email, "user_2", "user_2"]).await;
    assert!(cold.iter().all(|one| one["status"] == 200), "{cold:?}");
    assert_eq!(cold[1]["cache"], "fwd=uri-miss; collapsed");
    assert_eq!(cold[1]["id"], shouted);
    assert_eq!(harness.forwards(), 2);

    // Known by another name, and stale beyond service.
    harness.pass(3600);
    let again = look_up(&harness, &["user_1", &email, &shouted]).await;
    assert!(again.iter().all(|one| one["status"] == 200), "{again:?}");
    assert!(harness.forwards() <= 4, "{:?}", harness.targets());
}

#[tokio::test]
async fn an_absence_is_shared_by_the_same_spelling_only() {
    let harness = exact().await;
    let ids = ["Nobody@x.org", "nobody@x.org", "nobody@x.org"];
    let people = look_up(&harness, &ids).await;
    assert!(people.iter().all(|one| one["status"] == 404));
    assert_eq!(people[2]["cache"], "fwd=uri-miss; collapsed");
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn a_hundred_cold_ids_are_sixteen_at_a_time() {
    let harness = Harness::start().await;
    let holds: Vec<_> = (1..=100)
        .map(|number| harness.hold(&format!("user_{number}")))
        .collect();
    let ids: Vec<_> = (1..=100).map(|number| format!("user_{number}")).collect();
    let mut client = harness.client().await;
    let asked = tokio::spawn(async move { client.post(PATH, &json!({ "ids": ids })).await });
    harness.flameup.arrivals_reach(16).await;
    harness.settle().await;
    assert_eq!(harness.flameup.arrivals(), 16);
    holds
        .iter()
        .for_each(flameup_gateway::sandbox::Hold::release);
    let people = people(&asked.await.expect("an answer"));
    assert_eq!(people.len(), 100);
    assert!(people.iter().all(|one| one["status"] == 200));
}

#[tokio::test]
async fn what_is_not_there_by_the_deadline_is_said_to_be_late() {
    let harness = Setup::new()
        .config("upstream.timeout = \"1s\"\nupstream.connect_timeout = \"1s\"")
        .config("workspaces.default.budget.max_wait = \"0s\"")
        .config("workspaces.default.budget.requests = 1_000_000")
        .start()
        .await;
    harness.get("/api/v1/people/user_1").await;
    let _held = harness.hold("user_2");
    let people = look_up(&harness, &["user_1", "user_2"]).await;
    assert_eq!(people[0]["status"], 200);
    assert_eq!(people[1]["status"], 504, "{people:?}");
    assert_eq!(people[1]["error"], "Gateway Timeout");
}

#[tokio::test]
async fn each_miss_is_charged_to_the_callers_share() {
    let harness = caller(limited(), "sweeper", "batch").start().await;
    let authorization = authorization("sweeper");
    harness.spend(&authorization).await;
    let headers = [
        AT_ONCE,
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    let before = harness.forwards();
    let body = json!({"ids": ["user_1", "user_2"]}).to_string();
    let mut client = harness.client().await;
    let answer = client.send_with("POST", PATH, &headers, body).await;
    for refused in people(&answer) {
        assert_eq!(refused["status"], 429, "{refused}");
        assert_eq!(refused["error"], "Too Many Requests");
        assert!(
            refused["retry_after"]
                .as_u64()
                .is_some_and(|seconds| seconds > 0)
        );
    }
    assert_eq!(harness.forwards(), before);
    let metrics = metrics(&harness).await;
    let refused = [("client", "sweeper"), ("cache", "none")];
    assert!((metrics.sum("looked_up_total", &refused) - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn flameups_own_errors_come_as_they_are() {
    let harness = Harness::start().await;
    harness.fault(status(500));
    let people = look_up(&harness, &["user_1"]).await;
    assert_eq!(people[0]["status"], 500);
    assert!(people[0]["error_body"].is_object() && people[0].get("error").is_none());
    harness.flameup.clear_faults();
    harness.fault(FaultKind::Html200);
    let people = look_up(&harness, &["user_2"]).await;
    assert_eq!(people[0]["status"], 502);
    assert_eq!(people[0]["error"], "Bad Gateway");
}

/// An answer whose head has come, and whose body nobody reads yet.
async fn unread(harness: &Harness, ids: &[&str]) -> http::Response<hyper::body::Incoming> {
    let stream = tokio::net::TcpStream::connect(harness.address()).await;
    let stream = TokioIo::new(stream.expect("the gateway accepts"));
    let (mut sender, connection) = handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let request = http::Request::post(PATH)
        .header("host", "gateway")
        .header("content-type", "application/json")
        .body(json!({ "ids": ids }).to_string());
    let request = request.expect("a request that http can build");
    sender.send_request(request).await.expect("an answer")
}

#[tokio::test]
async fn answers_that_nobody_reads_leave_no_room_for_further_large_ones() {
    let harness = exact().await;
    let large = Value::from("x".repeat(160_000));
    let fields = Map::from_iter([("attributes".to_owned(), json!({ "note": large }))]);
    harness.flameup.people().upsert("large", &fields);
    assert!(harness.body("large").len() > 160_000);
    let ids = vec!["large"; 100];
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let answer = unread(&harness, &ids).await;
        assert_eq!(answer.status(), 200);
        waiting.push(answer);
    }
    let body = json!({ "ids": ids });
    let refused = harness.client().await.post(PATH, &body).await;
    refused.assert_own(503, "connection_limit_reached");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(look_up(&harness, &["large"]).await[0]["status"], 200);
    let counted = metrics(&harness)
        .await
        .sum("lookups_without_room_total", &[]);
    assert!((counted - 1.0).abs() < f64::EPSILON);

    for answer in waiting {
        let whole = answer.into_body().collect().await.expect("a whole body");
        assert!(whole.to_bytes().len() > 16_000_000);
    }
    assert_eq!(look_up(&harness, &ids).await.len(), 100);
}

#[tokio::test]
async fn a_call_of_no_use_is_refused_whole() {
    let harness = Harness::start().await;
    let many: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    for body in [
        json!({}),
        json!({"ids": []}),
        json!({"ids": many}),
        json!({"ids": [1]}),
        json!({"ids": "user_1"}),
        json!({"ids": ["user_1"], "class": "interactive"}),
        json!(["user_1"]),
    ] {
        let answer = harness.client().await.post(PATH, &body).await;
        answer.assert_own(400, "http_request_error");
    }
    let send = async |method, kind, body: Vec<u8>| {
        let headers = [("content-type", kind)];
        let mut client = harness.client().await;
        client.send_with(method, PATH, &headers, body).await
    };
    let body = || b"{\"ids\":[\"user_1\"]}".to_vec();
    assert_eq!(send("POST", "text/plain", body()).await.status, 415);
    let get = send("GET", "application/json", Vec::new()).await;
    assert_eq!((get.status.as_u16(), get.header("allow")), (405, "POST"));
    assert_eq!(
        send("POST", "application/json", vec![b' '; 500_000])
            .await
            .status,
        413
    );
    assert_eq!(
        send("POST", "application/json", b"{".to_vec()).await.status,
        400
    );
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn it_takes_a_token_and_the_scope_to_read() {
    let setup = caller(Setup::new().budgeted(), "writer", "service")
        .config("clients.writer.scopes = [\"people:write\"]");
    let harness = setup.start().await;
    let body = json!({"ids": ["user_1"]});
    let mut client = harness.client().await;
    assert_eq!(client.post(PATH, &body).await.status, 401);
    let headers = [
        ("content-type", "application/json"),
        ("authorization", &*authorization("writer")),
    ];
    let mut client = Client::connect(harness.address()).await;
    let answer = client
        .send_with("POST", PATH, &headers, body.to_string())
        .await;
    assert_eq!(answer.status, 403);
    assert_eq!(harness.forwards(), 0);
}
