//! A key and a token that would be noticed anywhere: they go in, and never come out.

use bytes::{BufMut, BytesMut};
use flameup_gateway::sandbox::{ApiKey, ErrorShape, FaultKind};

use crate::support::tenants::{bearer, client};
use crate::support::{Client, Harness, Response, Setup, headers, raw_status, status};

const KEY: &str = "ws_live_canary01_bird.c4c4ca9a9d1e5f7e8b0a6c3d2e1f00112233445566778899aabb";
const TOKEN: &str = "fgw_canary_7d0f3b5a9c8e1d2f4a6b8c0e2f4a6b8c0d1e3f5a7b9c1d3e5f7a9b1c3d5e7f90";

/// Everything that came out of the gateway.
#[derive(Default)]
struct Seen(BytesMut);

impl Seen {
    fn add(&mut self, response: &Response) {
        self.0.put_slice(response.status.as_str().as_bytes());
        for (name, value) in &response.headers {
            self.0.put_slice(name.as_str().as_bytes());
            self.0.put_slice(value.as_bytes());
        }
        self.0.put_slice(&response.body);
    }

    fn assert_without_secrets(&self) {
        let (name, secret) = KEY.split_once('.').expect("a key has two parts");
        let seen = String::from_utf8_lossy(&self.0).to_lowercase();
        for (what, needle) in [
            ("key", KEY),
            ("secret half", secret),
            ("name", name),
            ("token", TOKEN),
        ] {
            assert!(!seen.contains(needle), "the {what} came out");
        }
    }
}

async fn start() -> Harness {
    let setup = Setup::new()
        .environment("CANARY", KEY)
        .config("workspaces.bird.api_key_env = \"CANARY\"")
        .config("workspaces.bird.budget.requests = 1_000_000")
        // The clock stands still while a request waits, and a 429 of one second is among the faults.
        .config("workspaces.bird.budget.max_wait = \"0s\"")
        .sandbox(|options| options.api_keys([ApiKey::new(KEY, "ws_bird")]));
    client(setup, "cat", "bird", &[TOKEN]).start().await
}

/// Answers of Flameup's that are as bad as they get, many of them quoting the key.
fn faults() -> Vec<FaultKind> {
    let secret = KEY.split_once('.').expect("a key has two parts").1;
    let quoting = |code, text: &str| FaultKind::Status {
        code,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        body: Some(format!(
            "{{\"error\":\"{text}\",\"message\":\"{text}\",\"code\":{code}}}"
        )),
        shape: ErrorShape::E,
    };
    let mut faults = vec![
        FaultKind::EchoKey,
        FaultKind::SetCookie,
        FaultKind::Html200,
        FaultKind::Reset,
        FaultKind::Truncate { bytes: 9 },
        FaultKind::Huge { bytes: 2 << 20 },
        FaultKind::OtherPerson {
            external_id: "user_9".to_owned(),
        },
        FaultKind::Raw {
            bytes: format!("HTTP/1.1 200 {KEY}\r\n{KEY}\r\n\r\n").into_bytes(),
        },
        status(401),
        status(403),
        status(429),
        status(503),
    ];
    for code in [200, 400, 401, 403, 404, 429, 500, 503] {
        faults.extend([
            quoting(code, KEY),
            quoting(code, secret),
            quoting(code, &bearer(KEY)),
        ]);
    }
    for name in [
        "content-language",
        "cache-control",
        "last-modified",
        "retry-after",
        "etag",
    ] {
        faults.extend([
            headers(&[(name, KEY)]),
            headers(&[(name, &format!("\"{secret}\""))]),
        ]);
    }
    faults
}

/// Requests of many kinds, most of them wrong.
async fn ask_around(client: &mut Client, seen: &mut Seen, person: usize) {
    let authorization = bearer(TOKEN);
    let known = [("authorization", &*authorization)];
    let path = Harness::path(&format!("user_{person}"));
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    for target in [
        &*path,
        &*path,
        &format!("{path}?x=1"),
        &format!("/api/v1/workspaces/ws_bird/people/{uuid}"),
        "/api/v1/people/%00",
        "/api/v1/people",
        "/nowhere",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            seen.add(&client.send(method, target, &known).await);
        }
    }
    for value in [
        KEY,
        TOKEN,
        &bearer(KEY),
        &format!("Basic {TOKEN}"),
        &format!("{authorization}x"),
    ] {
        seen.add(&client.send("GET", &path, &[("authorization", value)]).await);
        let lines = [("authorization", &*authorization), ("authorization", value)];
        seen.add(&client.send("GET", &path, &lines).await);
    }
    for demand in ["no-cache", "only-if-cached", "max-stale"] {
        let lines = [
            ("authorization", &*authorization),
            ("cache-control", demand),
        ];
        seen.add(&client.send("GET", &path, &lines).await);
    }
    let lines = [
        ("authorization", &*authorization),
        ("x-request-id", "a b"),
        ("cookie", TOKEN),
    ];
    seen.add(&client.send("GET", &path, &lines).await);
}

/// Requests that are no HTTP, with the secrets in them.
async fn send_garbage(harness: &Harness, seen: &mut Seen) {
    for request in [
        format!("GET / HTTP/1.1\r\nauthorization: Bearer {TOKEN}\0\r\n\r\n"),
        format!("GET {TOKEN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        format!("{TOKEN} {KEY}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: x\r\nbroken {TOKEN}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nconnection: close\r\nauthorization: Bearer {TOKEN}\r\n\r\n"),
    ] {
        let (_, answer) = raw_status(harness.address(), request.as_bytes()).await;
        seen.0.put_slice(answer.as_bytes());
    }
}

/// What operators see.
async fn read_admin(harness: &Harness, seen: &mut Seen) {
    let mut operator = Client::connect(harness.admin_address()).await;
    let authorization = bearer(TOKEN);
    for target in ["/livez", "/readyz", "/metrics", "/nowhere"] {
        let line = [("authorization", &*authorization)];
        seen.add(&operator.send("GET", target, &line).await);
    }
}

#[tokio::test]
async fn neither_key_nor_token_comes_out_whatever_goes_wrong() {
    let harness = start().await;
    let mut client = harness.client().await;
    let mut seen = Seen::default();
    ask_around(&mut client, &mut seen, 1).await;
    for (number, fault) in faults().into_iter().enumerate() {
        // Somebody unknown, somebody fresh, somebody stale, and somebody with nothing but errors.
        harness.fault(fault);
        ask_around(&mut client, &mut seen, number + 2).await;
        ask_around(&mut client, &mut seen, 1).await;
        harness.pass(301);
        ask_around(&mut client, &mut seen, 1).await;
        harness.flameup.clear_faults();
        ask_around(&mut client, &mut seen, number + 2).await;
    }
    send_garbage(&harness, &mut seen).await;
    read_admin(&harness, &mut seen).await;
    let text = String::from_utf8_lossy(&seen.0);
    assert!(
        text.contains("user_1@example.com") || text.contains("\"user_1\""),
        "people came out"
    );
    assert!(
        text.contains("flameup_gateway_requests"),
        "metrics came out"
    );
    seen.assert_without_secrets();
}

#[tokio::test]
async fn an_answer_that_quotes_the_key_reaches_nobody_and_is_not_stored() {
    let harness = start().await;
    let line = [("authorization", &*bearer(TOKEN))];
    for (person, fault) in [
        (1, FaultKind::EchoKey),
        (2, headers(&[("content-language", KEY)])),
        (3, headers(&[("x-debug", &bearer(KEY))])),
    ] {
        let path = Harness::path(&format!("user_{person}"));
        harness.fault(fault);
        harness
            .get_with(&path, &line)
            .await
            .assert_own(502, "http_protocol_error");
        harness.flameup.clear_faults();
        let next = harness.get_with(&path, &line).await;
        assert_eq!(next.status, 200);
        assert!(next.cache_status().starts_with("fwd=uri-miss"), "{next:?}");
    }
}
