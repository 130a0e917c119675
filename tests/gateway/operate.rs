//! What operators can see and do, and who else cannot.

use std::io::Write;

use bytes::Bytes;
use flameup_gateway::sandbox::{ErrorShape, Fault, FaultKind};
use serde_json::{Value, json};

use crate::support::metrics::{get, metrics};
use crate::support::tenants::{TOKEN_ONE, TOKEN_TWO, bearer, tenants};
use crate::support::{Client, Harness, Response, Setup, Wire, exact, long_path, status, within};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(harness: &Harness, target: &str, body: &Value) -> Response {
    let mut operator = Client::connect(harness.admin_address()).await;
    operator.post(target, body).await
}

/// What purging answers.
async fn purge(harness: &Harness, body: Value) -> Value {
    let answer = post(harness, "/v1/purge", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn explain(harness: &Harness, query: &str) -> Value {
    let answer = get(harness, &format!("/v1/explain?{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_purged_person_is_asked_for_again_whatever_the_name() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    for name in [
        json!({"id": "user_1"}),
        json!({"id": email.to_uppercase()}),
        json!({"uuid": uuid, "workspace": "default"}),
    ] {
        harness.get("/api/v1/people/user_1").await;
        harness.get("/api/v1/people/user_2").await;
        let purged = purge(&harness, name).await;
        assert_eq!(purged["removed"]["entries"], 1, "{purged}");
        assert_eq!(purged["removed"]["pointers"], 3, "{purged}");
        let again = harness.get(&Harness::path(&email)).await;
        assert!(again.cache_status().starts_with("fwd=uri-miss"));
        let other = harness.get("/api/v1/people/user_2").await;
        assert!(other.cache_status().starts_with("hit"));
    }
    let metrics = metrics(&harness).await;
    let count = metrics.sum("invalidations_total", &[("cause", "purge")]);
    assert!((count - 3.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_purged_absence_is_asked_about_again() {
    let harness = exact().await;
    harness.get("/api/v1/people/new").await;
    harness.create("new", "new@x.org");
    let purged = purge(&harness, json!({"id": "new"})).await;
    assert_eq!(purged["removed"]["absences"], 1, "{purged}");
    assert_eq!(harness.get("/api/v1/people/new").await.status, 200);
}

#[tokio::test]
async fn a_soft_purge_serves_stale_and_refreshes() {
    let harness = exact().await;
    harness.get("/api/v1/people/user_1").await;
    let purged = purge(&harness, json!({"id": "user_1", "soft": true})).await;
    assert_eq!(
        (&purged["expired"], &purged["soft"]),
        (&1.into(), &true.into())
    );
    let stale = harness.get("/api/v1/people/user_1").await;
    assert_eq!(stale.cache_status(), "hit; ttl=0; detail=revalidating");
    harness
        .until("/api/v1/people/user_1", |answer| {
            answer.cache_status().starts_with("hit; ttl=60")
        })
        .await;
    let metrics = metrics(&harness).await;
    let count = metrics.sum("invalidations_total", &[("cause", "soft_purge")]);
    assert!((count - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_workspace_is_purged_alone_and_only_if_that_is_said() {
    let harness = tenants().await;
    for token in [TOKEN_ONE, TOKEN_TWO] {
        for id in ["user_1", "user_2", "nobody"] {
            let line = [("authorization", &*bearer(token))];
            harness.get_with(&Harness::path(id), &line).await;
        }
    }
    for body in [
        json!({}),
        json!({"everyone": true}),
        json!({"workspace": "one"}),
        json!({"workspace": "three", "everyone": true}),
        json!({"workspace": "one", "everyone": true, "id": "user_1"}),
        json!({"workspace": "one", "id": "user_1", "uuid": "123e4567-e89b-12d3-a456-426614174000"}),
        json!({"workspace": "one", "id": ""}),
        json!({"workspace": "one", "uuid": "user_1"}),
        json!({"workspace": "one", "everyone": "yes"}),
        json!({"workspace": "one", "everyone": true, "hard": true}),
    ] {
        let answer = post(&harness, "/v1/purge", &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["code"], 400);
    }
    let purged = purge(&harness, json!({"workspace": "one", "everyone": true})).await;
    assert_eq!(purged["removed"]["entries"], 2, "{purged}");
    assert_eq!(purged["removed"]["absences"], 1, "{purged}");
    let hit = async |token| {
        let line = [("authorization", &*bearer(token))];
        let answer = harness.get_with("/api/v1/people/user_1", &line).await;
        answer.cache_status().starts_with("hit")
    };
    assert!(!hit(TOKEN_ONE).await && hit(TOKEN_TWO).await);
}

#[tokio::test]
async fn a_fetch_under_way_does_not_undo_a_purge() {
    let harness = exact().await;
    let hold = harness.hold("user_1");
    let mut waiting = harness.asking("/api/v1/people/user_1", &[]).await;
    assert!(hold.arrived(1).await);
    purge(&harness, json!({"id": "user_1"})).await;
    hold.release();
    assert_eq!(waiting.answer().await.status, 200);
    let next = harness.get("/api/v1/people/user_1").await;
    assert!(next.cache_status().starts_with("fwd=uri-miss"), "{next:?}");
}

#[tokio::test]
async fn explain_tells_what_a_lookup_would_get_and_why() {
    let harness = exact().await;
    let next = async |query| {
        let explained = explain(&harness, query).await;
        explained["next"]["cache"]
            .as_str()
            .expect("words")
            .to_owned()
    };
    assert_eq!(next("id=user_1").await, "fwd=uri-miss");
    harness.get("/api/v1/people/user_1").await;
    harness.pass(10);
    assert_eq!(next("id=user_1").await, "hit; ttl=50");
    harness.pass(60);
    assert_eq!(next("id=user_1").await, "hit; ttl=-10; detail=revalidating");
    harness.pass(300);
    assert_eq!(next("id=user_1").await, "fwd=stale");
    harness.pass(3600);
    assert_eq!(next("id=user_1").await, "fwd=uri-miss");
    harness.get("/api/v1/people/nobody").await;
    assert_eq!(next("id=nobody").await, "hit; detail=negative; ttl=10");
    let hold = harness.hold("user_2");
    let mut waiting = harness.asking("/api/v1/people/user_2", &[]).await;
    assert!(hold.arrived(1).await);
    assert_eq!(next("id=user_2").await, "fwd=uri-miss; collapsed");
    hold.release();
    waiting.answer().await;
}

#[tokio::test]
async fn explain_by_uuid_foretells_no_hit_while_the_workspaces_id_is_unknown() {
    let harness = exact().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    // A Person that does not say whose it is.
    let body = json!({"id": uuid, "external_id": "user_1"}).to_string();
    let kind = FaultKind::Status {
        code: 200,
        headers: Vec::new(),
        body: Some(body),
        shape: ErrorShape::E,
    };
    harness.flameup.fault(Fault::new(kind).once());
    harness.get("/api/v1/people/user_1").await;
    let by_id = explain(&harness, "id=user_1").await;
    assert_eq!(by_id["next"]["cache"], "hit; ttl=60");
    let by_uuid = explain(&harness, &format!("uuid={uuid}")).await;
    assert_eq!(by_uuid["next"]["cache"], "fwd=uri-miss");
    let told = harness.get(&long_path("ws_demo0001", &uuid)).await;
    assert!(told.cache_status().starts_with("fwd=uri-miss"));
}

#[tokio::test]
async fn explain_tells_the_truth_when_flameup_fails_or_refuses_the_key() {
    let harness = exact().await;
    harness.get("/api/v1/people/user_1").await;
    harness.pass(400);
    harness.fault(status(500));
    for id in ["a", "b", "c", "d", "e"] {
        harness.get(&Harness::path(id)).await;
    }
    let explained = explain(&harness, "id=user_1").await;
    assert_eq!(explained["standing"]["breaker"], "open", "{explained}");
    let told = harness.get("/api/v1/people/user_1").await;
    assert_eq!(explained["next"]["cache"], told.cache_status());
    let explained = explain(&harness, "id=cold").await;
    let told = harness.get("/api/v1/people/cold").await;
    assert_eq!(explained["next"]["cache"], told.cache_status());

    let harness = exact().await;
    harness.get("/api/v1/people/user_1").await;
    harness.pass(70);
    harness.fault(status(401));
    harness.get("/api/v1/people/b").await;
    let explained = explain(&harness, "id=user_1").await;
    assert_eq!(explained["standing"]["key"], "refused");
    assert_eq!(explained["entry"]["status"], 200);
    assert!(
        explained["next"]["cache"]
            .as_str()
            .is_some_and(|words| !words.contains("hit"))
    );
}

#[tokio::test]
async fn explain_shows_names_ages_and_decisions_and_names_nobody() {
    let harness = exact().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    harness.get("/api/v1/people/user_1").await;
    harness.pass(70);
    harness.get("/api/v1/people/user_1").await;
    harness.get(&Harness::path(&email.to_uppercase())).await;
    let mut hashes = Vec::new();
    for query in [
        format!("workspace=default&id={}", email.replace('@', "%40")),
        format!("uuid={uuid}"),
        "id=user_1".to_owned(),
    ] {
        let answer = get(&harness, &format!("/v1/explain?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = String::from_utf8_lossy(&answer.body).to_lowercase();
        for name in ["user_1", &*email.to_lowercase(), &*uuid] {
            assert!(!text.contains(name), "{text}");
        }
        let explained = answer.json();
        assert_eq!(explained["entry"]["status"], 200);
        assert_eq!(explained["claimants"], 1);
        let names = explained["names"].as_array().expect("names").clone();
        let kinds: Vec<_> = names.iter().map(|name| name["kind"].clone()).collect();
        assert_eq!(kinds, ["uuid", "external_id", "email"]);
        assert!(names.contains(&explained["person"]), "{explained}");
        let decisions = explained["decisions"].as_array().expect("decisions");
        let first = decisions.last().expect("the miss");
        assert_eq!(first["cache"], "fwd=uri-miss; fwd-status=200; stored");
        assert_eq!(first["ago_s"], 70);
        hashes.push(names);
    }
    assert!(hashes.iter().all(|names| *names == hashes[0]));
}

#[tokio::test]
async fn explain_says_what_is_wrong_with_a_question() {
    let harness = Harness::start().await;
    for query in [
        "",
        "id=",
        "id=%00",
        "uuid=x",
        "id=a&id=b",
        "who=a",
        "id=a&workspace=b",
    ] {
        let answer = get(&harness, &format!("/v1/explain?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test]
async fn status_shows_the_whole_gateway() {
    let harness = tenants().await;
    let line = [("authorization", &*bearer(TOKEN_ONE))];
    harness.get_with("/api/v1/people/user_1", &line).await;
    harness.pass(90);
    let status = get(&harness, "/v1/status").await.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["uptime_s"], 90);
    assert_eq!(status["draining"], false);
    assert_eq!(status["listeners"], json!([harness.address().to_string()]));
    assert_eq!(status["cache"]["people"]["entries"], 1);
    assert!(status["cache"]["max_bytes"].as_u64() > status["cache"]["people"]["bytes"].as_u64());
    let workspaces = status["workspaces"].as_array().expect("workspaces");
    let names: Vec<_> = workspaces.iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    for one in workspaces {
        assert_eq!(
            (&one["breaker"], &one["key"]),
            (&"closed".into(), &"accepted".into())
        );
        assert_eq!(
            (&one["waiting"], &one["budget"]["window"]),
            (&0.into(), &"unknown".into())
        );
    }
}

#[tokio::test]
async fn an_operator_looks_up_as_a_client_would_on_a_share_of_its_own() {
    let harness = exact().await;
    let uuid = harness.flameup.people().uuid("user_1").expect("a UUID");
    let by_uuid = json!({"uuid": uuid});
    assert_eq!(post(&harness, "/v1/lookup", &by_uuid).await.status, 409);
    let answer = post(&harness, "/v1/lookup", &json!({"id": "user_1"}))
        .await
        .json();
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["cache"], "fwd=uri-miss; fwd-status=200; stored");
    let again = post(&harness, "/v1/lookup", &by_uuid).await.json();
    assert_eq!(again["cache"], "hit; ttl=60");
    assert_eq!(
        (&again["id"], &again["person"]),
        (&uuid.into(), &answer["person"])
    );
    let metrics = metrics(&harness).await;
    let spent = metrics.sum("budget_spent_total", &[("client", "admin")]);
    assert!((spent - 1.0).abs() < f64::EPSILON);
}

/// Every closed page, and a body that it takes.
const CLOSED: [(&str, &str, &str); 6] = [
    ("GET", "/metrics", ""),
    ("GET", "/v1/status", ""),
    ("GET", "/v1/explain?id=user_1", ""),
    ("POST", "/v1/lookup", "{\"id\":\"user_1\"}"),
    ("POST", "/v1/purge", "{\"everyone\":true}"),
    ("POST", "/v1/erase", "{\"id\":\"user_1\"}"),
];

async fn send(harness: &Harness, page: (&str, &str, &str), headers: &[(&str, &str)]) -> Response {
    let (method, target, body) = page;
    let mut client = Client::connect(harness.admin_address()).await;
    let body = Bytes::copy_from_slice(body.as_bytes());
    client.send_with(method, target, headers, body).await
}

#[tokio::test]
async fn a_page_of_another_origin_sees_nothing_and_does_nothing() {
    let harness = Harness::start().await;
    harness.get("/api/v1/people/user_1").await;
    let own = format!("http://{}", harness.admin_address());
    for page in CLOSED {
        for foreign in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
            &[("host", "evil.example")],
            &[
                ("host", "evil.example:9090"),
                ("origin", "http://evil.example:9090"),
            ],
        ] {
            let answer = send(&harness, page, &[&[JSON], foreign].concat()).await;
            assert_eq!(answer.status, 403, "{page:?} {foreign:?}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!text.contains("user_1") && !text.contains("flameup_gateway_"));
        }
    }
    for page in &CLOSED[3..] {
        for kind in [
            &[][..],
            &[("content-type", "text/plain")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "multipart/form-data; boundary=x")],
        ] {
            assert_eq!(send(&harness, *page, kind).await.status, 415, "{page:?}");
        }
    }
    assert!(
        harness
            .get("/api/v1/people/user_1")
            .await
            .cache_status()
            .starts_with("hit")
    );
    assert_eq!(harness.forwards(), 1);
    let localhost = format!("localhost:{}", harness.admin_address().port());
    let at_home = [
        JSON,
        ("host", localhost.as_str()),
        ("origin", &*format!("http://{localhost}")),
        ("sec-fetch-site", "same-origin"),
    ];
    for page in CLOSED {
        assert_eq!(send(&harness, page, &at_home).await.status, 200, "{page:?}");
    }
    for open in ["/livez", "/readyz"] {
        let probe = send(&harness, ("GET", open, ""), &[("host", "probe.example")]).await;
        assert_eq!(probe.status, 200);
    }
}

#[tokio::test]
async fn every_answer_is_kept_from_browsers() {
    let harness = Harness::start().await;
    let pages = [
        ("GET", "/livez", ""),
        ("GET", "/nowhere", ""),
        ("PUT", "/v1/purge", ""),
    ];
    for page in CLOSED.into_iter().chain(pages) {
        for headers in [&[JSON][..], &[JSON, ("origin", "http://evil.example")]] {
            let answer = send(&harness, page, headers).await;
            assert_eq!(answer.header("cache-control"), "no-store", "{page:?}");
            assert_eq!(
                answer.header("x-content-type-options"),
                "nosniff",
                "{page:?}"
            );
            let named = |name: &http::HeaderName| name.as_str().starts_with("access-control");
            assert!(!answer.headers.keys().any(named));
        }
    }
    let preflight = ("OPTIONS", "/v1/purge", "");
    assert_eq!(send(&harness, preflight, &[]).await.status, 405);
}

#[tokio::test]
async fn the_token_closes_what_can_be_seen_and_done() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "an-admin-token-of-some-length").expect("room");
    let config = format!("admin.token_file = \"{}\"", file.path().display());
    let harness = Setup::new().config(&config).start().await;
    let right = ("authorization", "Bearer an-admin-token-of-some-length");
    for page in CLOSED {
        assert_eq!(send(&harness, page, &[JSON]).await.status, 401, "{page:?}");
        assert_eq!(
            send(&harness, page, &[JSON, right]).await.status,
            200,
            "{page:?}"
        );
    }
}

#[tokio::test]
async fn bodies_are_bounded_and_refused_ones_end_the_connection() {
    let harness = Harness::start().await;
    let padded = format!("{{\"everyone\":true{}}}", " ".repeat(70_000));
    let answer = send(&harness, ("POST", "/v1/purge", &padded), &[JSON]).await;
    assert_eq!(answer.status, 413);
    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        ("{\"everyone\":true} x", 400),
    ] {
        let answer = send(&harness, ("POST", "/v1/purge", body), &[JSON]).await;
        assert_eq!(answer.status, status, "{body:?}");
    }
    let mut wire = Wire::connect(harness.admin_address()).await;
    let head = "POST /v1/purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n";
    wire.send(format!("{head}Content-Length: 40\r\n\r\nGET /livez"))
        .await;
    assert_eq!(wire.answer().await.status, 415);
    within(wire.assert_closed()).await;
}
