//! What operators are told, and what they are not.

use std::collections::BTreeSet;
use std::io::Write;

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind};
use http::StatusCode;

use crate::support::metrics::{get, metrics};
use crate::support::{Client, Harness, Setup, Wire};

#[tokio::test]
async fn a_gateway_that_runs_is_alive_and_ready() {
    let harness = Harness::start().await;
    for (target, text) in [("/livez", "live\n"), ("/readyz", "ready\n")] {
        let answer = get(&harness, target).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (StatusCode::OK, text.as_bytes())
        );
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_failing_upstream_is_no_reason_to_be_replaced() {
    let harness = Harness::start().await;
    harness.fault(FaultKind::Reset);
    assert_eq!(harness.get("/api/v1/people/user_1").await.status, 502);
    assert_eq!(get(&harness, "/livez").await.status, 200);
    assert_eq!(get(&harness, "/readyz").await.status, 200);
}

#[tokio::test]
async fn unknown_paths_methods_and_bodies_are_refused_in_the_envelope() {
    let harness = Harness::start().await;
    let client = async || Client::connect(harness.admin_address()).await;
    for target in ["/nothing", "/metrics/", "/livez/x", "/api/v1/people/user_1"] {
        let answer = client().await.get(target).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["code"], 404);
    }
    for target in ["/livez", "/readyz", "/metrics"] {
        let answer = client().await.send("POST", target, &[]).await;
        assert_eq!(answer.status, 405);
        assert_eq!(
            (answer.header("allow"), &answer.json()["code"]),
            ("GET, HEAD", &405.into())
        );
        assert_eq!(client().await.send("HEAD", target, &[]).await.status, 200);
    }
    let mut wire = Wire::connect(harness.admin_address()).await;
    let next = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    wire.send(format!(
        "GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n{next}"
    ))
    .await;
    assert_eq!(wire.answer().await.status, 400);
    wire.assert_closed().await;
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_configured_token_closes_everything_but_health() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "an-admin-token-of-some-length").expect("room");
    let config = format!("admin.token_file = \"{}\"", file.path().display());
    let harness = Setup::new().config(&config).start().await;
    for open in ["/livez", "/readyz"] {
        assert_eq!(get(&harness, open).await.status, 200);
    }
    let send = async |headers: &[(&str, &str)]| {
        Client::connect(harness.admin_address())
            .await
            .send("GET", "/metrics", headers)
            .await
    };
    let right = ("authorization", "Bearer an-admin-token-of-some-length");
    let key = format!("Bearer {DEMO_KEY}");
    for headers in [
        &[][..],
        &[("authorization", "Bearer an-admin-token-of-some-lengt")],
        &[("authorization", "Bearer an-admin-token-of-some-length ")],
        &[("authorization", "Bearer AN-ADMIN-TOKEN-OF-SOME-LENGTH")],
        &[("authorization", "Basic an-admin-token-of-some-length")],
        &[("authorization", key.as_str())],
    ] {
        let answer = send(headers).await;
        if headers
            .first()
            .is_some_and(|header| header.1.ends_with(' '))
        {
            // White space at the end of a field is no part of it (RFC 9110 section 5.5).
            assert_eq!(answer.status, 200);
            continue;
        }
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert_eq!(answer.json()["code"], 401);
        assert!(!String::from_utf8_lossy(&answer.body).contains("flameup_gateway_"));
    }
    assert_eq!(send(&[right, right]).await.status, 400);
    assert_eq!(send(&[right]).await.status, 200);
}

#[tokio::test]
async fn the_metrics_have_the_names_that_dashboards_know() {
    let harness = Harness::start().await;
    harness.get("/api/v1/people/user_1").await;
    let metrics = metrics(&harness).await;
    let names: BTreeSet<&str> = metrics
        .samples
        .keys()
        .map(|(name, _)| name.as_str())
        .collect();
    for name in [
        "requests_total",
        "request_duration_seconds_bucket",
        "upstream_requests_total",
        "upstream_duration_seconds_bucket",
        "cache_entries",
        "cache_bytes",
        "cache_evictions_total",
        "collapsed_total",
        "connections",
        "build_info",
    ] {
        let name = format!("flameup_gateway_{name}");
        assert!(
            names.contains(name.as_str()),
            "{name} is missing of {names:#?}"
        );
    }
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    assert!((metrics.sum("build_info", &build) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn the_counts_add_up() {
    let harness = Harness::start().await;
    let email = harness.flameup.people().email("user_2").expect("an e-mail");
    let uuid = harness.flameup.people().uuid("user_3").expect("a UUID");
    let long = format!("/api/v1/workspaces/ws_demo0001/people/{uuid}");
    for target in [
        "/api/v1/people/user_1",     // miss
        "/api/v1/people/user_1",     // hit
        "/api/v1/people/user_1",     // hit
        "/api/v1/people/nobody",     // miss, 404
        "/api/v1/people/nobody",     // negative
        &Harness::path(&email),      // miss
        &long,                       // miss
        &long,                       // hit
        "/api/v1/people/user_1?a=b", // bypass
        "/api/v1/people/%00",        // refused
        "/nowhere",                  // refused
    ] {
        harness.get(target).await;
    }
    let hold = harness.hold("user_4");
    let mut two = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(harness.address()).await;
        wire.ask("/api/v1/people/user_4").await;
        two.push(wire);
    }
    assert!(hold.arrived(1).await);
    harness.settle().await; // Three more that are refused.
    hold.release();
    for wire in &mut two {
        wire.answer().await;
    }

    let metrics = metrics(&harness).await;
    let requests = |labels: &[(&str, &str)]| metrics.sum("requests_total", labels);
    let ours = ("workspace", "default");
    assert_eq!(requests(&[]), 16.0);
    assert_eq!(
        requests(&[("cache", "hit"), ("route", "person"), ours]),
        2.0
    );
    assert_eq!(
        requests(&[("cache", "hit"), ("route", "person_by_uuid"), ours]),
        1.0
    );
    assert_eq!(requests(&[("status", "404"), ("route", "person")]), 2.0);
    assert_eq!(requests(&[("status", "400")]), 1.0);
    assert_eq!(requests(&[("client", "anonymous")]), 16.0);
    assert_eq!(metrics.sum("collapsed_total", &[]), 1.0);
    assert_eq!(metrics.sum("request_duration_seconds_count", &[]), 16.0);
    assert_eq!(metrics.sum("upstream_requests_total", &[]), 6.0);
    assert_eq!(harness.forwards(), 6);
    assert_eq!(
        metrics.sum("upstream_requests_total", &[("purpose", "bypass")]),
        1.0
    );
    assert_eq!(
        metrics.sum(
            "upstream_requests_total",
            &[("status", "404"), ("purpose", "miss")]
        ),
        1.0
    );
    assert_eq!(metrics.sum("upstream_duration_seconds_count", &[]), 6.0);
    assert_eq!(metrics.sum("cache_entries", &[("kind", "person")]), 4.0);
    assert_eq!(metrics.sum("cache_entries", &[("kind", "absence")]), 1.0);
    assert!(metrics.sum("cache_bytes", &[("kind", "person")]) > 4.0 * 500.0);

    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    for private in [
        "user_",
        "nobody",
        email.as_str(),
        uuid.as_str(),
        secret,
        "ws_demo0001",
    ] {
        assert!(!metrics.text.contains(private), "{private}");
    }
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn what_failed_and_what_was_refused_is_counted() {
    let harness = Setup::new()
        .config("server.limits.connections = 2")
        .start()
        .await;
    let mut open = [harness.client().await, harness.client().await];
    for (client, kind) in open.iter_mut().zip([FaultKind::Html200, FaultKind::Reset]) {
        harness.flameup.clear_faults();
        harness.fault(kind);
        assert_eq!(client.get("/api/v1/people/user_1").await.status, 502);
    }
    Wire::connect(harness.address()).await.assert_closed().await;
    let metrics = metrics(&harness).await;
    assert_eq!(metrics.sum("requests_total", &[("status", "502")]), 2.0);
    assert_eq!(
        metrics.sum("upstream_requests_total", &[("status", "200")]),
        1.0
    );
    assert_eq!(
        metrics.sum("upstream_requests_total", &[("status", "none")]),
        2.0,
        "what closed without an answer is asked once more"
    );
    assert_eq!(metrics.sum("connections_refused_total", &[]), 1.0);
    assert_eq!(metrics.sum("connections", &[]), 2.0);
    assert_eq!(metrics.sum("cache_entries", &[]), 0.0);
    drop(open);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn memory_counts_each_entrys_own_header_values() {
    let harness = Harness::start().await;
    harness.get("/api/v1/people/user_1").await;
    let plain = metrics(&harness).await.sum("cache_bytes", &[]);
    let long = "x".repeat(4000);
    let lines = vec![("content-language".to_owned(), long)];
    harness.fault(FaultKind::Headers { headers: lines });
    for id in ["user_2", "user_3"] {
        harness.get(&Harness::path(id)).await;
    }
    let metrics = metrics(&harness).await;
    let all = metrics.sum("cache_bytes", &[]);
    assert_eq!(metrics.sum("cache_entries", &[("kind", "person")]), 3.0);
    let each = (all - plain) / 2.0;
    assert!((4000.0..4000.0 + 2.0 * plain).contains(&each), "{each}");
}
