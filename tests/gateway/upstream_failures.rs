//! Whatever Flameup does wrong becomes one well-formed answer, in time, and is never stored.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, LimiterOptions, Matcher};

use crate::support::{Harness, Response, Setup};

/// Longer than `upstream.timeout` of these tests by enough for a busy machine.
const BOUND: Duration = Duration::from_secs(3);

const SHORT: &str = "upstream.timeout = \"400ms\"\nupstream.connect_timeout = \"400ms\"";

async fn impatient() -> Harness {
    Setup::new().config(SHORT).start().await
}

/// Long enough for the breaker to have forgotten what failed.
const FORGOTTEN_S: u64 = 31;

/// Has a lookup struck by `kind`, and checks what it comes to: an answer of the gateway's own, in
/// time, with nothing stored. Only a connection that closed without an answer is tried once more.
async fn struck(harness: &Harness, kind: FaultKind, status: u16, error: &str) -> Response {
    let (name, forwards) = (format!("{kind:?}"), harness.forwards());
    // Person by person, so that no earlier fault can have left anything behind.
    let id = format!("user_{}", forwards + 1);
    let attempts = if error == "connection_terminated" {
        2
    } else {
        1
    };
    let fault = Fault::new(kind).on(Matcher::id(&id));
    harness.flameup.fault(fault.times(attempts));
    let started = Instant::now();
    let answer = harness.get(&Harness::path(&id)).await;
    assert!(
        started.elapsed() < BOUND,
        "{name} took {:?}",
        started.elapsed()
    );
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    answer.assert_own(status, error);
    assert!(
        answer.cache_status().starts_with("fwd=uri-miss"),
        "{name}: {answer:?}"
    );
    assert!(
        !answer.cache_status().contains("stored"),
        "{name}: {answer:?}"
    );
    assert_eq!(
        harness.forwards() - forwards,
        attempts as usize,
        "{name} is tried so often"
    );

    let next = harness.get(&Harness::path(&id)).await;
    next.assert_flameups(200, &harness.body(&id));
    assert_eq!(
        next.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored",
        "{name}"
    );
    harness.pass(FORGOTTEN_S);
    answer
}

fn status(code: u16, headers: &[(&str, &str)], body: Option<&str>) -> FaultKind {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    FaultKind::Status {
        code,
        headers: headers.collect(),
        body: body.map(str::to_owned),
        shape: flameup_gateway::sandbox::ErrorShape::E,
    }
}

fn raw(bytes: impl AsRef<[u8]>) -> FaultKind {
    FaultKind::Raw {
        bytes: bytes.as_ref().to_vec(),
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_a_504() {
    let harness = impatient().await;
    let every = Duration::from_millis(50);
    for kind in [
        FaultKind::Hang,
        FaultKind::Delay {
            by: Duration::from_secs(30),
        },
        FaultKind::SlowDrip { bytes: 1, every },
        FaultKind::SlowHead { bytes: 1, every },
    ] {
        struck(&harness, kind, 504, "http_response_timeout").await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_502() {
    let harness = impatient().await;
    for (kind, error) in [
        (FaultKind::Reset, "connection_terminated"),
        (raw(""), "connection_terminated"),
        (
            raw("HTTP/1.1 200 OK\r\ncontent-le"),
            "connection_terminated",
        ),
        (
            raw("HTTP/1.1 100 Continue\r\n\r\n"),
            "connection_terminated",
        ),
        (
            raw("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
            "connection_terminated",
        ),
        (FaultKind::ResetMidBody, "http_response_incomplete"),
        (FaultKind::Truncate { bytes: 0 }, "http_response_incomplete"),
        (
            FaultKind::Truncate { bytes: 100 },
            "http_response_incomplete",
        ),
        (FaultKind::LongLength { by: 1 }, "http_response_incomplete"),
        (
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\""),
            "http_response_incomplete",
        ),
    ] {
        struck(&harness, kind, 502, error).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_502() {
    let harness = impatient().await;
    let long = format!(
        "HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n",
        "x".repeat(100 * 1024)
    );
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-many: 1\r\n".repeat(200));
    for bytes in [
        "\u{0}\u{1}garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        &long,
        &many,
    ] {
        struck(&harness, raw(bytes), 502, "http_protocol_error").await;
    }
}

#[tokio::test]
async fn a_200_that_is_not_the_person_is_a_502() {
    let harness = impatient().await;
    for kind in [
        FaultKind::Html200,
        FaultKind::ShortLength { by: 1 },
        FaultKind::OtherPerson {
            external_id: "user_99".to_owned(),
        },
        status(200, &[], Some("[]")),
        status(200, &[], Some("{}")),
        status(200, &[], Some("null")),
        status(200, &[], Some("")),
        status(200, &[], Some("{\"id\":\"\"}")),
        status(200, &[], Some("{\"error\":\"Not Found\",\"code\":404}")),
    ] {
        let answer = struck(&harness, kind, 502, "http_protocol_error").await;
        assert!(
            answer
                .header("proxy-status")
                .ends_with("received-status=200"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_status_that_no_lookup_has_is_a_502_and_no_redirect_is_followed() {
    let harness = impatient().await;
    let location = [("location", "/api/v1/people/user_99")];
    for (code, headers) in [
        (204, &[][..]),
        (206, &[("content-range", "bytes 0-1/9")]),
        (201, &[]),
        (203, &[]),
        (300, &[]),
        (301, &location),
        (302, &location),
        (304, &[]),
        (307, &location),
        (308, &location),
    ] {
        let answer = struck(
            &harness,
            status(code, headers, None),
            502,
            "http_protocol_error",
        )
        .await;
        let received = format!("received-status={code}");
        assert!(
            answer.header("proxy-status").ends_with(&received),
            "{answer:?}"
        );
        assert_eq!(answer.header("location"), "");
    }
    let switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    struck(&harness, raw(switching), 502, "http_protocol_error").await;
}

#[tokio::test]
async fn a_huge_answer_is_refused_before_it_is_taken_in() {
    let harness = impatient().await;
    let bytes = 64 * 1024 * 1024;
    struck(
        &harness,
        FaultKind::Huge { bytes },
        502,
        "http_response_body_size",
    )
    .await;
    // Refused for what it announces: no room is made for it, whether it comes or not.
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 67108864\r\n\r\n";
    let error = "http_response_body_size";
    struck(&harness, raw(announced), 502, error).await;
    let endless = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40)
    );
    struck(&harness, raw(endless), 502, "http_response_body_size").await;
}

#[tokio::test]
async fn an_answer_in_a_coding_nobody_asked_for_is_a_502() {
    let harness = impatient().await;
    for coding in ["gzip", "br", "identity, gzip"] {
        let headers = vec![("content-encoding".to_owned(), coding.to_owned())];
        let kind = FaultKind::Headers { headers };
        struck(&harness, kind, 502, "http_response_content_coding").await;
    }
}

#[tokio::test]
async fn an_answer_that_quotes_the_key_reaches_nobody() {
    let harness = impatient().await;
    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    let header = [("x-debug", secret)];
    let body = format!("{{\"error\":\"bad key {secret}\"}}");
    for kind in [
        FaultKind::EchoKey,
        status(404, &[], Some(&body)),
        status(403, &header, None),
    ] {
        let answer = struck(&harness, kind, 502, "http_protocol_error").await;
        assert!(!format!("{answer:?}").contains(secret));
    }
    let refused = status(401, &header, Some(&body));
    harness.fault(refused);
    let answer = harness.get("/api/v1/people/user_900").await;
    answer.assert_own(502, "proxy_configuration_error");
    assert!(!format!("{answer:?}").contains(secret));
}

#[tokio::test]
async fn a_cookie_and_the_servers_own_headers_are_left_behind() {
    let harness = impatient().await;
    harness
        .flameup
        .fault(Fault::new(FaultKind::SetCookie).once());
    for outcome in ["fwd=uri-miss", "hit"] {
        let answer = harness.get("/api/v1/people/user_1").await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert!(answer.cache_status().starts_with(outcome), "{answer:?}");
        let foreign = [
            "set-cookie",
            "server",
            "keep-alive",
            "x-hop",
            "proxy-authenticate",
        ];
        assert!(
            foreign.iter().all(|name| answer.header(name).is_empty()),
            "{answer:?}"
        );
        assert!(
            !answer
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("x-ratelimit"))
        );
    }
}

#[tokio::test]
async fn a_connection_that_died_idle_costs_no_answer() {
    let harness = Harness::start().await;
    harness.flameup.fault(Fault::new(FaultKind::CloseIdle));
    for number in 1..20 {
        let answer = harness.get(&Harness::path(&format!("user_{number}"))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(harness.forwards(), 19);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_502() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let harness = Setup::new()
        .config(SHORT)
        .upstream(&format!("http://{address}"))
        .start()
        .await;
    let refused = harness.get("/api/v1/people/user_1").await;
    refused.assert_own(502, "connection_refused");
    assert_eq!(refused.cache_status(), "fwd=uri-miss");
}

#[tokio::test]
async fn an_upstream_whose_name_does_not_resolve_is_a_502() {
    let harness = Setup::new()
        .upstream("https://nobody.invalid")
        .start()
        .await;
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_own(502, "dns_error");
}

#[tokio::test]
async fn flameups_own_errors_are_relayed_word_for_word_and_not_stored() {
    let harness = impatient().await;
    let bodies = [
        "{ \"success\":false, \"error\":{\"type\":\"X\",\"message\":\"m\"}, \"request_id\":\"r\" }",
        "{\"error\":{\"code\":\"x\",\"message\":\"m\"}}\n",
        "{\"error\":{\"code\":\"x\",\"message\":\"m\",\"details\":{\"fields\":{\"a\":\"b\"}}}}",
        "{\"error\":\"X\",\"message\":\"\\u00fc\"}",
        "{\"error\":\"X\",\"message\":\"m\",\"code\":1}",
        "<html>not JSON at all",
    ];
    let codes = [
        400, 402, 403, 405, 409, 410, 418, 422, 451, 500, 501, 502, 503, 504, 599,
    ];
    for (at, code) in codes.into_iter().enumerate() {
        let (id, body) = (format!("user_{}", at + 1), bodies[at % bodies.len()]);
        let headers = [("content-type", "application/problem+json; charset=utf-8")];
        let kind = status(code, &headers, Some(body));
        // What a machine before Flameup may have said is asked for once more.
        let attempts = if matches!(code, 502..=504) { 2 } else { 1 };
        let fault = Fault::new(kind).on(Matcher::id(&id));
        harness.flameup.fault(fault.times(attempts));
        let answer = harness.get(&Harness::path(&id)).await;
        answer.assert_flameups(code, body.as_bytes());
        assert_eq!(answer.header("content-type"), headers[0].1);
        assert_eq!(
            answer.cache_status(),
            format!("fwd=uri-miss; fwd-status={code}")
        );
        let next = harness.get(&Harness::path(&id)).await;
        assert!(
            next.cache_status().starts_with("fwd=uri-miss"),
            "{code}: {next:?}"
        );
        assert_eq!(next.status, 200, "{code}: {next:?}");
        harness.pass(FORGOTTEN_S);
    }
}

#[tokio::test]
async fn a_refused_key_is_the_operators_problem_and_nothing_stale_covers_it() {
    let harness = Harness::start().await;
    harness.get("/api/v1/people/user_1").await;
    harness.flameup.revoke_key(DEMO_KEY);
    let cold = harness.get("/api/v1/people/user_2").await;
    cold.assert_own(502, "proxy_configuration_error");
    assert_eq!(cold.header("www-authenticate"), "");
    assert!(
        cold.header("proxy-status").ends_with("received-status=401"),
        "{cold:?}"
    );
    harness.pass(400); // Stale beyond revalidating in the background, not beyond covering errors.
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_own(502, "proxy_configuration_error");

    harness
        .flameup
        .accept_key(flameup_gateway::sandbox::ApiKey::default());
    harness.pass(10); // Refused once more as a probe, it is tried again after twice five seconds.
    harness
        .get("/api/v1/people/user_2")
        .await
        .assert_flameups(200, &harness.body("user_2"));
}

#[tokio::test]
async fn a_spent_limit_is_a_429_that_says_when_the_window_ends() {
    let harness = Harness::start().await;
    let paths: Vec<_> = (1..=6)
        .map(|n| Harness::path(&format!("user_{n}")))
        .collect();
    for path in &paths {
        harness.get(path).await;
    }
    harness.flameup.clear_received();
    harness.flameup.change_limiter(LimiterOptions {
        limit: 5,
        ..LimiterOptions::default()
    });
    harness.pass(20);
    // All of them are sent before the first answer tells that there are only five.
    let hold = harness.flameup.hold(Matcher::any());
    let anew = [("cache-control", "no-cache, stale-if-error=0")];
    let mut waiting = Vec::new();
    for path in &paths {
        waiting.push(harness.asking(path, &anew).await);
    }
    assert!(hold.arrived(6).await);
    hold.release();
    let mut answers = Vec::new();
    for wire in &mut waiting {
        answers.push(wire.answer().await);
    }
    let (refused, answered): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| !answer.header("retry-after").is_empty());
    assert!(answered.iter().all(|answer| answer.status == 200));
    assert_eq!(refused.len(), 1, "{answers:?}");
    refused[0].assert_own(429, "http_request_denied");
    assert_eq!(harness.forwards(), 6, "a 429 is not tried again");
    let wait = refused[0].header("retry-after").parse::<u64>();
    let wait = wait.expect("whole seconds");
    // The window that Flameup counts in ends in 40 seconds. As long as it may be a sliding one, the
    // five sent just now count for a minute; up to a second more keeps the refused apart.
    assert!((60..=61).contains(&wait), "{wait}");
    harness.pass(wait);
    harness
        .get_with(&paths[0], &anew)
        .await
        .assert_flameups(200, &harness.body("user_1"));
}
