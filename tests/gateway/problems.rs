//! When the gateway answers for itself: every row of the table, as bytes on the wire.

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind};
use flameup_gateway::token::Token;

use crate::support::{H2, Harness, Response, Setup, Wire};

/// The answer to these bytes, on a connection of their own.
async fn answer_to(harness: &Harness, bytes: impl AsRef<[u8]>) -> Response {
    let mut wire = Wire::connect(harness.address()).await;
    wire.try_send(bytes).await;
    wire.answer().await
}

/// What every answer of the gateway's own has, whoever gets it and however early it is given.
fn assert_well_formed(answer: &Response, status: u16, error: &str) {
    answer.assert_own(status, error);
    assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
    assert!(
        answer.header("via").ends_with(" flameup-gateway"),
        "{answer:?}"
    );
    assert_eq!(answer.header("age"), "");
    assert_eq!(answer.header("server"), "");
    assert!(!answer.header("date").is_empty(), "{answer:?}");
    let list = answer.header("cache-status");
    assert!(
        sfv::Parser::new(list).parse::<sfv::List>().is_ok(),
        "{list}"
    );
    let list = answer.header("proxy-status");
    assert!(
        sfv::Parser::new(list).parse::<sfv::List>().is_ok(),
        "{list}"
    );
}

fn assert_refused(answer: &Response, status: u16) {
    assert_well_formed(answer, status, "http_request_error");
    assert_eq!(answer.cache_status(), "detail=refused");
}

#[tokio::test]
async fn an_id_that_nobody_can_have_is_a_400_and_not_forwarded() {
    let harness = Harness::start().await;
    for id in [
        "", ".", "..", "%2e%2E", "a%00b", "a%0Ab", "%zz", "%4", "%ff", "a%7Fb",
    ] {
        let answer = harness.get(&Harness::path(id)).await;
        assert_refused(&answer, 400);
    }
    let long = harness.get(&Harness::path(&"x".repeat(513))).await;
    assert_refused(&long, 400);
    let no_uuid = harness
        .get("/api/v1/workspaces/ws_demo0001/people/user_1")
        .await;
    assert_refused(&no_uuid, 400);
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_target_or_framing_that_cannot_be_trusted_is_a_400() {
    let harness = Harness::start().await;
    for bytes in [
        "GET /api/v1/people/user_1 HTTP/1.1\r\n\r\n",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET http://b/api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "GET /api/v1/people/user 1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/v1/people/user_1\r\n\r\n",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\r\n\r\n",
    ] {
        let answer = answer_to(&harness, bytes).await;
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert_refused(&answer, 400);
        assert_eq!(answer.header("connection"), "close", "{bytes:?}");
    }
    assert_eq!(harness.forwards(), 0);
}

/// A gateway with a client that may read people and one that may not, and their tokens.
async fn with_clients() -> (Harness, Token, Token) {
    let (reader, lister) = (
        Token::random().expect("random"),
        Token::random().expect("random"),
    );
    let config = format!(
        "workspaces.w.api_key_env = \"FLAMEUP_API_KEY\"\nworkspaces.w.budget.requests = 1_000_000\n\
         clients.reader.workspace = \"w\"\nclients.reader.token_sha256 = [\"{}\"]\n\
         clients.lister.workspace = \"w\"\nclients.lister.token_sha256 = [\"{}\"]\n\
         clients.lister.scopes = [\"people:list\"]",
        reader.sha256(),
        lister.sha256()
    );
    (Setup::new().config(&config).start().await, reader, lister)
}

#[tokio::test]
async fn a_caller_without_a_known_token_is_a_401_that_says_how_to_ask() {
    let (harness, reader, _) = with_clients().await;
    let key = format!("Bearer {DEMO_KEY}");
    let longer = format!("Bearer {}0", reader.expose());
    let shorter = format!("Bearer {}", &reader.expose()[..reader.expose().len() - 1]);
    let basic = format!("Basic {}", reader.expose());
    for header in [
        None,
        Some(&key),
        Some(&longer),
        Some(&shorter),
        Some(&basic),
    ] {
        let headers: Vec<_> = header
            .map(|value| ("authorization", value.as_str()))
            .into_iter()
            .collect();
        let answer = harness.get_with("/api/v1/people/user_1", &headers).await;
        assert_well_formed(&answer, 401, "http_request_denied");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.cache_status(), "detail=refused");
    }
    let right = format!("Bearer {}", reader.expose());
    let twice = [
        ("authorization", right.as_str()),
        ("authorization", right.as_str()),
    ];
    assert_refused(
        &harness.get_with("/api/v1/people/user_1", &twice).await,
        400,
    );
    assert_eq!(harness.forwards(), 0);
    harness
        .get_with("/api/v1/people/user_1", &twice[..1])
        .await
        .assert_flameups(200, &harness.body("user_1"));
}

#[tokio::test]
async fn a_caller_that_may_not_is_a_403_whatever_is_stored() {
    let (harness, reader, lister) = with_clients().await;
    let (may, may_not) = (
        format!("Bearer {}", reader.expose()),
        format!("Bearer {}", lister.expose()),
    );
    harness
        .get_with("/api/v1/people/user_1", &[("authorization", &may)])
        .await;
    let answer = harness
        .get_with("/api/v1/people/user_1", &[("authorization", &may_not)])
        .await;
    assert_well_formed(&answer, 403, "http_request_denied");
    assert!(
        answer.json()["message"]
            .as_str()
            .expect("text")
            .contains("people:read")
    );
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn what_is_no_route_is_a_404_and_another_method_a_405_with_allow() {
    let harness = Harness::start().await;
    for target in ["/", "/api/v1", "/api/v2/people/user_1", "/metrics"] {
        assert_refused(&harness.get(target).await, 404);
    }
    for method in ["POST", "OPTIONS", "TRACE", "FLAME"] {
        let answer = harness
            .client()
            .await
            .send(method, "/api/v1/people/user_1", &[])
            .await;
        assert_refused(&answer, 405);
        assert_eq!(answer.header("allow"), "GET, HEAD, PUT, PATCH, DELETE");
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_a_413_before_it_is_sent() {
    let harness = Setup::new()
        .config("server.limits.body_bytes = \"1KiB\"")
        .start()
        .await;
    let head = "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    let answer = answer_to(&harness, head).await;
    assert_refused(&answer, 413);
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn a_target_that_is_too_long_is_a_414() {
    let harness = Setup::new()
        .config("server.limits.header_bytes = \"128KiB\"")
        .start()
        .await;
    for length in [9_000, 70_000] {
        let target = format!("/api/v1/people/{}", "x".repeat(length));
        let answer = answer_to(
            &harness,
            format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        )
        .await;
        assert_refused(&answer, 414);
    }
}

#[tokio::test]
async fn headers_too_large_or_too_many_are_a_431() {
    let harness = Setup::new()
        .config("server.limits.headers = 10")
        .start()
        .await;
    let head = "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\n";
    let large = format!("{head}X-Large: {}\r\n\r\n", "x".repeat(20 * 1024));
    let many = format!("{head}{}\r\n", "X-Many: 1\r\n".repeat(10));
    for bytes in [large, many] {
        let answer = answer_to(&harness, bytes).await;
        assert_refused(&answer, 431);
        assert_eq!(answer.header("connection"), "close");
    }
    let just = format!("{head}{}\r\n", "X-Many: 1\r\n".repeat(9));
    assert_eq!(answer_to(&harness, just).await.status, 200);
}

#[tokio::test]
async fn a_head_that_never_ends_is_a_408() {
    let harness = Setup::new()
        .config("server.limits.header_timeout = \"200ms\"")
        .start()
        .await;
    let answer = answer_to(
        &harness,
        "GET /api/v1/people/user_1 HTTP/1.1\r\nHost: a\r\nX-",
    )
    .await;
    assert_refused(&answer, 408);
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn a_missing_entry_is_a_504_to_a_client_that_wants_no_forward() {
    let harness = Harness::start().await;
    let headers = [("cache-control", "only-if-cached")];
    let answer = harness.get_with("/api/v1/people/user_1", &headers).await;
    assert_well_formed(&answer, 504, "http_request_denied");
    assert_eq!(answer.cache_status(), "detail=only-if-cached");
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_failing_upstream_is_told_from_a_slow_one_and_from_a_spent_limit() {
    let config = "upstream.timeout = \"200ms\"\nupstream.connect_timeout = \"200ms\"";
    let harness = Setup::new().config(config).start().await;
    for (kind, status, error) in [
        (FaultKind::Html200, 502, "http_protocol_error"),
        (FaultKind::Hang, 504, "http_response_timeout"),
    ] {
        harness.flameup.clear_faults();
        harness.fault(kind);
        let answer = harness.get("/api/v1/people/user_1").await;
        assert_well_formed(&answer, status, error);
    }
    harness.flameup.clear_faults();
    let spent = flameup_gateway::sandbox::LimiterOptions {
        limit: 0,
        ..Default::default()
    };
    harness.flameup.change_limiter(spent);
    let answer = harness.get("/api/v1/people/user_1").await;
    assert_well_formed(&answer, 429, "http_request_denied");
    assert!(!answer.header("retry-after").is_empty());
}

#[tokio::test]
async fn a_head_request_is_refused_without_a_body_and_with_its_length() {
    let harness = Harness::start().await;
    let get = harness.get("/nowhere").await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.send("HEAD /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = String::from_utf8(wire.rest().await).expect("text");
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    assert!(
        answer.contains(&format!("content-length: {}\r\n", get.body.len())),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_refusal_over_http2_has_the_same_form() {
    let harness = Harness::start().await;
    let mut client = H2::connect(harness.address()).await;
    assert_refused(&client.get("/nowhere").await, 404);
    let answer = client.get("/api/v1/people/%00").await;
    assert_refused(&answer, 400);
    assert_eq!(answer.header("connection"), "");
}

#[tokio::test]
async fn a_request_id_is_taken_over_if_it_is_plain_and_made_otherwise() {
    let harness = Harness::start().await;
    let named = harness
        .get_with("/nowhere", &[("x-request-id", "trace-7")])
        .await;
    assert_eq!(named.header("x-request-id"), "trace-7");
    let email = harness
        .get_with("/nowhere", &[("x-request-id", "ada@example.com")])
        .await;
    assert!(!format!("{email:?}").contains("ada@example.com"));
    let (one, other) = (harness.get("/nowhere").await, harness.get("/nowhere").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}
