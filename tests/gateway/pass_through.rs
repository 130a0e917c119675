//! Requests that are no lookups: who may send them, what of them goes on, and what comes back.

use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind};
use tokio::net::TcpListener;

use crate::support::budgets::{authorization, caller, limited};
use crate::support::metrics::metrics;
use crate::support::passing::{OPERATIONS, Origin, UUID, open};
use crate::support::{Harness, Setup, Wire, headers, raw_get, status};

const LIST: &str = "/api/v1/people?limit=3&status=active";

/// Bytes that no parser would write so, as Flameup might answer them.
const ODD_BODY: &str = "{ \"odd\" :\t[1.0,\"\\u0041\", 1 ] , \"odd\":null}\r\n";

/// Flameup answers with this status and body, once.
fn once(harness: &Harness, code: u16, body: &str) {
    let kind = FaultKind::Status {
        code,
        headers: Vec::new(),
        body: Some(body.to_owned()),
        shape: flameup_gateway::sandbox::ErrorShape::E,
    };
    harness.flameup.fault(Fault::new(kind).once());
}

#[tokio::test]
async fn every_documented_route_goes_through_byte_for_byte() {
    let harness = open().start().await;
    let mut client = harness.client().await;
    for (method, path, _, _) in OPERATIONS {
        let target = format!("/api/v1/{path}?a=b%20c&a=d+e&x");
        let body = if method == "GET" { "" } else { ODD_BODY };
        once(&harness, 207, ODD_BODY);
        let answer = client.send_with(method, &target, &[], body).await;
        answer.assert_flameups(207, ODD_BODY.as_bytes());
        assert_eq!(answer.header("content-length"), ODD_BODY.len().to_string());
        let forward = if method == "GET" { "bypass" } else { "method" };
        let expected = format!("fwd={forward}; fwd-status=207");
        assert_eq!(answer.cache_status(), expected);
        let received = harness.flameup.received().pop().expect("it was forwarded");
        assert_eq!(
            (received.method.as_str(), &*received.target),
            (method, &*target)
        );
        assert_eq!(received.body, body);
        let length = received.headers.get("content-length");
        let length = length.map(|length| length.to_str().expect("digits").to_owned());
        assert_eq!(length.unwrap_or("0".to_owned()), body.len().to_string());
    }
    assert_eq!(harness.forwards(), OPERATIONS.len());
}

#[tokio::test]
async fn each_route_needs_its_own_scope_and_no_other_will_do() {
    let scopes: Vec<_> = OPERATIONS.iter().map(|(_, _, scope, _)| *scope).collect();
    let mut words = scopes.clone();
    words.push("people:read");
    words.sort_unstable();
    words.dedup();
    let name = |scope: &str| scope.replace([':', '*'], "_");
    let mut setup = Setup::new().config("workspaces.default.budget.requests = 1_000_000");
    for word in &words {
        setup = caller(setup, &name(word), "interactive")
            .config(&format!("clients.{}.scopes = [\"{word}\"]", name(word)));
    }
    let harness = setup.start().await;
    let mut client = harness.client().await;
    for (method, path, scope, _) in OPERATIONS {
        let target = format!("/api/v1/{path}");
        for word in &words {
            let authorization = authorization(&name(word));
            let before = harness.forwards();
            let line = [("authorization", &*authorization)];
            let answer = client.send(method, &target, &line).await;
            let may = *word == scope || *word == "*";
            assert_eq!(
                answer.header("proxy-status").is_empty(),
                may,
                "{target} {word}"
            );
            assert_eq!(harness.forwards() - before, usize::from(may));
            if !may {
                answer.assert_own(403, "http_request_denied");
                let message = answer.json()["message"].to_string();
                assert!(message.contains(scope), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn another_method_on_a_documented_path_is_a_405_with_allow() {
    let harness = open().start().await;
    let long = format!("/api/v1/workspaces/ws/people/{UUID}");
    for (method, target, allow) in [
        ("DELETE", "/api/v1/people", "GET, HEAD, POST"),
        ("GET", "/api/v1/people/batch", "POST"),
        ("GET", "/api/v1/track", "POST"),
        (
            "POST",
            "/api/v1/people/user_1",
            "GET, HEAD, PUT, PATCH, DELETE",
        ),
        ("POST", &long, "GET, HEAD, PUT, PATCH, DELETE"),
        ("POST", "/api/v1/workspaces/ws/people/search", "GET, HEAD"),
        ("PUT", "/api/v1/workspaces/ws/events", "GET, HEAD, POST"),
        (
            "OPTIONS",
            "/api/v1/segments",
            "GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
        (
            "TRACE",
            "/api/v1/segments",
            "GET, HEAD, POST, PUT, PATCH, DELETE",
        ),
    ] {
        let answer = harness.client().await.send(method, target, &[]).await;
        answer.assert_own(405, "http_request_error");
        assert_eq!(answer.header("allow"), allow, "{target}");
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_target_that_two_readers_may_read_in_two_ways_reaches_nobody() {
    let harness = open().start().await;
    for path in [
        "",
        "x/",
        "/x",
        "x//y",
        "./x",
        "../x",
        "x/..",
        "%2e%2E/x",
        "x/%2e",
        "x/..%2fy",
        "x/%2e%2e%2fy",
        "x\\y",
        "..\\x",
        "x/%5cy",
        "x/%zz",
        "x/%",
        "x/%00",
        "x/%0d%0aHost:y",
        "x/%7f",
        "x/%ff",
        "workspaces/../people/x/y",
        "people/user_1/",
        "people/%2e%2e/devices",
    ] {
        let target = format!("/api/v1/{path}");
        let (status, answer) = raw_get(harness.address(), target.as_bytes()).await;
        assert!([400, 405].contains(&status), "{path}: {answer}");
    }
    assert_eq!(harness.forwards(), 0);
    for (path, forwarded) in [
        ("%73egments/%61%2Fb+c", "segments/a%2Fb%2Bc"),
        ("People/user_1", "People/user_1"),
        ("people/%73earch?q=a%2Fb", "people/search?q=a%2Fb"),
    ] {
        raw_get(harness.address(), format!("/api/v1/{path}").as_bytes()).await;
        assert_eq!(
            harness.targets().pop(),
            Some(format!("/api/v1/{forwarded}"))
        );
    }
}

#[tokio::test]
async fn an_id_that_nobody_can_have_is_a_400_in_a_write_too() {
    let harness = open().start().await;
    for id in ["%20", "%00", "%zz", "%2e%2e", "%ff", &"x".repeat(513)] {
        for method in ["PUT", "PATCH", "DELETE"] {
            let answer = harness
                .client()
                .await
                .send(method, &Harness::path(id), &[])
                .await;
            answer.assert_own(400, "http_request_error");
        }
    }
    let named = Harness::path("a%2fb%2b%C3%A9%20%40c");
    harness.client().await.send("PUT", &named, &[]).await;
    assert_eq!(harness.targets(), [Harness::path("a%2Fb%2B%C3%A9%20@c")]);
}

#[tokio::test]
async fn only_headers_on_the_lists_pass_in_either_direction() {
    let harness = open().start().await;
    harness.fault(headers(&[
        ("etag", "\"v1\""),
        ("set-cookie", "a=b"),
        ("server", "secret"),
        ("location", "http://inside/"),
        ("content-language", "en"),
        ("x-custom", "1"),
    ]));
    let sent = [
        ("accept", "application/vnd.x+json"),
        ("content-type", "text/weird; charset=x"),
        ("idempotency-key", "once"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", "a=b"),
        ("accept-encoding", "gzip"),
        ("authorization", "Bearer mine"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "192.0.2.1"),
        ("te", "trailers"),
        ("if-match", "*"),
        ("x-request-id", "trace-7"),
        ("x-custom", "1"),
    ];
    let mut client = harness.client().await;
    let answer = client.send_with("POST", "/api/v1/track", &sent, "{}").await;
    let mut names: Vec<_> = answer
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let expected = [
        "cache-status",
        "content-language",
        "content-length",
        "content-type",
        "date",
        "etag",
        "via",
        "x-request-id",
    ];
    assert_eq!(names, expected);
    let received = harness.flameup.received().pop().expect("it was forwarded");
    let mut lines: Vec<_> = received
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("readable")))
        .collect();
    lines.sort_unstable();
    let (host, key) = (
        harness.flameup.address().to_string(),
        format!("Bearer {DEMO_KEY}"),
    );
    let expected = [
        ("accept", "application/vnd.x+json"),
        ("accept-encoding", "identity"),
        ("authorization", &*key),
        ("content-length", "2"),
        ("content-type", "text/weird; charset=x"),
        ("host", &*host),
        ("idempotency-key", "once"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("tracestate", "a=b"),
        (
            "user-agent",
            concat!("flameup-gateway/", env!("CARGO_PKG_VERSION")),
        ),
        ("via", "1.1 flameup-gateway"),
        ("x-request-id", "trace-7"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_list_is_never_stored_and_a_head_of_it_is_asked_as_one() {
    let harness = open().start().await;
    let (first, second) = (harness.get(LIST).await, harness.get(LIST).await);
    assert_eq!(first.json()["people"].as_array().map(Vec::len), Some(3));
    assert_eq!(first.body, second.body);
    assert_eq!(second.cache_status(), "fwd=bypass; fwd-status=200");
    let mut wire = Wire::connect(harness.address()).await;
    wire.send(format!(
        "HEAD {LIST} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ))
    .await;
    let head = String::from_utf8(wire.rest().await).expect("text");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let length = format!("content-length: {}\r\n", first.body.len());
    assert!(head.contains(&length), "{head}");
    let received = harness.flameup.received();
    let methods: Vec<_> = received.iter().map(|got| got.method.as_str()).collect();
    assert_eq!(methods, ["GET", "GET", "HEAD"]);
}

#[tokio::test]
async fn a_read_with_a_body_is_refused_and_not_forwarded() {
    let harness = open().start().await;
    let answer = harness
        .client()
        .await
        .send_with("GET", LIST, &[], "hi")
        .await;
    answer.assert_own(400, "http_request_error");
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn flameups_own_refusals_pass_unchanged_and_nothing_is_sent_twice() {
    let harness = open().start().await;
    let mut client = harness.client().await;
    for code in [201, 400, 403, 404, 409, 422, 500, 502, 503, 504] {
        for (method, target) in [("GET", LIST), ("POST", "/api/v1/track")] {
            // A breaker that opens would answer in Flameup's place.
            if code >= 500 {
                client.get("/api/v1/people/user_1").await;
                harness.pass(400);
            }
            let before = harness.forwards();
            once(&harness, code, ODD_BODY);
            let answer = client.send(method, target, &[]).await;
            answer.assert_flameups(code, ODD_BODY.as_bytes());
            assert_eq!(harness.forwards() - before, 1, "{code}");
        }
    }
}

#[tokio::test]
async fn what_is_between_flameup_and_the_gateway_stays_there() {
    for (code, ours, error) in [
        (401, 502, "proxy_configuration_error"),
        (429, 429, "http_request_denied"),
        (302, 502, "http_protocol_error"),
    ] {
        for (method, target) in [("GET", LIST), ("POST", "/api/v1/track")] {
            let harness = open().start().await;
            harness.fault(status(code));
            let answer = harness.client().await.send(method, target, &[]).await;
            answer.assert_own(ours, error);
            assert_eq!(
                answer.header("retry-after").is_empty(),
                code != 429,
                "{answer:?}"
            );
            assert_eq!(harness.forwards(), 1, "{code}");
        }
    }
}

#[tokio::test]
async fn a_failing_upstream_is_a_502_or_504_and_asked_once() {
    for (kind, ours) in [(FaultKind::Reset, 502), (FaultKind::Hang, 504)] {
        for (method, target) in [("GET", LIST), ("POST", "/api/v1/track")] {
            let harness = open().config("upstream.timeout = \"300ms\"");
            let harness = harness
                .config("upstream.connect_timeout = \"300ms\"")
                .start()
                .await;
            harness.fault(kind.clone());
            let answer = harness.client().await.send(method, target, &[]).await;
            assert_eq!(answer.status, ours, "{answer:?}");
            assert_eq!(harness.flameup.arrivals(), 1);
        }
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let harness = open().upstream(&format!("http://{address}")).start().await;
    let mut client = harness.client().await;
    let answer = client.send_with("POST", "/api/v1/people", &[], "{}").await;
    answer.assert_own(502, "connection_refused");
}

#[tokio::test]
async fn an_answer_that_quotes_the_key_in_its_head_is_replaced() {
    let harness = open().start().await;
    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    for line in [("etag", DEMO_KEY), ("x-custom", secret)] {
        harness.flameup.clear_faults();
        harness.fault(headers(&[line]));
        for (method, target) in [("GET", LIST), ("POST", "/api/v1/track")] {
            let answer = harness.client().await.send(method, target, &[]).await;
            answer.assert_own(502, "http_protocol_error");
            assert!(!format!("{answer:?}").contains(secret));
        }
        harness.pass(400);
    }
}

#[tokio::test]
async fn an_answer_with_a_coding_or_beyond_the_limit_is_refused() {
    let harness = open().start().await;
    harness.fault(headers(&[("content-encoding", "gzip")]));
    let answer = harness.get(LIST).await;
    answer.assert_own(502, "http_response_content_coding");
    harness.flameup.clear_faults();
    harness.fault(FaultKind::Huge { bytes: 17 << 20 });
    let answer = harness.get(LIST).await;
    answer.assert_own(502, "http_response_body_size");
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn forwards_pay_from_the_budget_in_their_callers_class() {
    let setup = caller(limited(), "nightly", "batch").config("clients.nightly.scopes = [\"*\"]");
    let harness = setup.start().await;
    let token = authorization("nightly");
    let line = [("authorization", &*token), ("prefer", "wait=0")];
    let mut client = harness.client().await;
    let (mut reads, mut writes) = (0.0, 0.0);
    let refused = loop {
        let answer = client.send("GET", LIST, &line).await;
        if answer.status == 429 {
            break answer;
        }
        reads += 1.0;
        let answer = client.send_with("POST", "/api/v1/track", &line, "{}").await;
        if answer.status == 429 {
            break answer;
        }
        writes += 1.0;
        assert!(reads < 100.0, "there is no end of turns");
    };
    refused.assert_own(429, "http_request_denied");
    assert_eq!(refused.cache_status(), "detail=budget");
    assert!(reads > 1.0 && writes > 1.0);
    assert_eq!(harness.flameup.limiter().refused, 0);
    let numbers = metrics(&harness).await;
    let spent = |purpose| {
        let labels = [("client", "nightly"), ("purpose", purpose)];
        numbers.sum("budget_spent_total", &labels)
    };
    assert_eq!((spent("pass_through"), spent("write")), (reads, writes));
    let waited = numbers.sum("budget_wait_seconds_count", &[("class", "batch")]);
    assert_eq!(waited, reads + writes);
    assert_eq!(
        numbers.sum(
            "requests_total",
            &[("route", "event_track"), ("cache", "bypass")]
        ),
        writes
    );
}

#[tokio::test]
async fn a_caller_refused_its_turn_has_not_been_asked_for_its_body() {
    let harness = limited()
        .config("anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]")
        .start()
        .await;
    harness.spend("").await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.send(
        "POST /api/v1/track HTTP/1.1\r\nHost: a\r\nPrefer: wait=0\r\nContent-Length: 5\r\n\
         Expect: 100-continue\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await;
    answer.assert_own(429, "http_request_denied");
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn an_origin_sees_the_length_that_the_client_announced() {
    let origin = Origin::listen().await;
    let harness = open().upstream(&origin.base_url()).start().await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.send("POST /api/v1/track HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        .await;
    let mut upstream = origin.accept().await;
    let head = upstream.until("\r\n\r\n").await;
    assert!(
        head.to_lowercase().contains("content-length: 5\r\n"),
        "{head}"
    );
    wire.send("cde").await;
    upstream.until("abcde").await;
    upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 204);
}

#[tokio::test]
async fn a_client_that_wants_only_what_is_cached_is_never_given_a_list() {
    let harness = open().start().await;
    let line = [("cache-control", "only-if-cached")];
    let answer = harness.get_with(LIST, &line).await;
    answer.assert_own(504, "http_request_denied");
    assert_eq!(harness.forwards(), 0);
}
