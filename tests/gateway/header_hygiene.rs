//! Which headers pass, in both directions: those on a list, and no other.

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind, Received};
use uuid::Uuid;

use crate::support::{Harness, Response, exact, headers, status};

const USER: &str = "/api/v1/people/user_1";

/// What a client might send that is nobody's business but its own, or an attack.
const ODD: [(&str, &str); 28] = [
    ("accept", "text/html"),
    ("accept-encoding", "gzip, br"),
    ("accept-language", "de"),
    ("accept-charset", "latin1"),
    ("authorization", "Bearer client-credential"),
    ("cookie", "session=1"),
    ("connection", "x-listed, close-not, keep-alive"),
    ("x-listed", "1"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers, gzip"),
    ("proxy-connection", "keep-alive"),
    ("proxy-authorization", "Basic eA=="),
    ("content-type", "text/plain"),
    ("forwarded", "for=192.0.2.1;host=evil.example"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-proto", "http"),
    ("x-real-ip", "192.0.2.1"),
    ("x-original-url", "/api/v1/people/user_2"),
    ("x-rewrite-url", "/api/v1/people/user_2"),
    ("range", "bytes=0-9"),
    ("if-match", "\"other\""),
    ("if-modified-since", "Fri, 01 Jan 2038 00:00:00 GMT"),
    ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("if-range", "\"other\""),
    ("origin", "https://evil.example"),
    ("via", "1.0 somebody"),
    ("user-agent", "odd/1.0"),
];

/// Name and value of every header that reached Flameup, in order of name.
fn lines(request: &Received) -> Vec<(&str, &str)> {
    let readable = |value: &'_ http::HeaderValue| value.to_str().is_ok();
    assert!(request.headers.values().all(readable));
    let line = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().expect("just found readable")));
    let mut lines: Vec<_> = line.collect();
    lines.sort_unstable();
    lines
}

/// The names of an answer's headers, in order, as often as they occur.
fn names(response: &Response) -> Vec<&str> {
    let names = response.headers.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

fn assert_allowed_upstream(harness: &Harness, request: &Received, id: &str) {
    let host = harness.flameup.address().to_string();
    let agent = concat!("flameup-gateway/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", &*format!("Bearer {DEMO_KEY}")),
        ("content-type", "application/json"),
        ("host", &host),
        ("user-agent", agent),
        ("via", "1.1 flameup-gateway"),
        ("x-request-id", id),
    ];
    assert_eq!(lines(request), expected);
    assert_eq!(request.method, "GET");
    assert_eq!(request.body, "");
}

#[tokio::test]
async fn what_reaches_flameup_is_the_same_whatever_the_client_sends() {
    let harness = exact().await;
    let plain = harness.get_with(USER, &[("x-request-id", "req-1")]).await;
    let odd = [&ODD[..], &[("x-request-id", "req-2")]].concat();
    for path in ["/api/v1/people/user_2", "/api/v1/people/user_3?x=1"] {
        assert_eq!(harness.get_with(path, &odd).await.status, 200);
    }
    let mut client = harness.client().await;
    client.send("HEAD", "/api/v1/people/user_4", &odd).await;
    assert_eq!(plain.header("x-request-id"), "req-1");
    let received = harness.flameup.received();
    assert_eq!(received.len(), 4);
    for (request, id) in received.iter().zip(["req-1", "req-2", "req-2", "req-2"]) {
        assert_allowed_upstream(&harness, request, id);
    }
}

#[tokio::test]
async fn a_background_refresh_sends_nothing_else_either() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.pass(61);
    let odd = [&ODD[..], &[("x-request-id", "req-2")]].concat();
    harness.get_with(USER, &odd).await;
    assert!(harness.flameup.arrivals_reach(2).await);
    assert_allowed_upstream(&harness, &harness.flameup.received()[1], "req-2");
}

#[tokio::test]
async fn only_flameups_own_validator_is_added_when_revalidating() {
    let setup = crate::support::Setup::new();
    let setup = setup.sandbox(flameup_gateway::sandbox::Options::etags);
    let harness = setup.start().await;
    let etag = harness.get(USER).await.header("etag").to_owned();
    harness.pass(301);
    let odd = [&ODD[..], &[("if-none-match", "\"odd\"")]].concat();
    harness.get_with(USER, &odd).await;
    let received = harness.flameup.received();
    let (first, second) = (lines(&received[0]), lines(&received[1]));
    let added: Vec<_> = second.iter().filter(|line| !first.contains(line)).collect();
    let id = received[1].headers["x-request-id"]
        .to_str()
        .expect("readable");
    assert_eq!(added, [&("if-none-match", &*etag), &("x-request-id", id)]);
}

#[tokio::test]
async fn of_flameups_headers_only_those_on_the_list_reach_a_client() {
    let passed = [
        ("cache-control", "max-age=30"),
        ("content-language", "en"),
        ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("retry-after", "7"),
        ("etag", "\"flameups\""),
    ];
    let kept_back = [
        ("set-cookie", "session=1"),
        ("server", "flameup"),
        ("x-ratelimit-remaining", "0"),
        ("x-powered-by", "something"),
        ("x-request-id", "flameups-own"),
        ("via", "1.0 somebody"),
        ("cache-status", "someone; hit"),
        ("proxy-status", "someone; error=dns_error"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("www-authenticate", "Basic"),
        ("location", "https://evil.example/"),
        ("link", "<https://evil.example/>; rel=preload"),
        ("access-control-allow-origin", "*"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h2=\":443\""),
        ("warning", "110 - stale"),
        ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("x-debug", "1"),
    ];
    let harness = exact().await;
    harness.fault(headers(&[&passed[..], &kept_back[..]].concat()));
    let own = [
        "cache-status",
        "content-length",
        "content-type",
        "date",
        "via",
        "x-request-id",
    ];
    let mut expected = [&own[..], &passed.map(|(name, _)| name)].concat();
    expected.sort_unstable();
    let miss = harness.get(USER).await;
    assert_eq!(names(&miss), expected);
    expected.insert(0, "age");
    let hit = harness.get(USER).await;
    assert_eq!(names(&hit), expected);
    for answer in [miss, hit] {
        for (name, value) in passed {
            assert_eq!(answer.header(name), value);
        }
        assert_eq!(answer.header("via"), "1.1 flameup-gateway");
        assert!(
            answer
                .header("cache-status")
                .starts_with("flameup-gateway; ")
        );
    }
}

#[tokio::test]
async fn neither_cookies_nor_limits_of_flameups_reach_a_client_on_any_kind_of_answer() {
    let common = [
        "cache-status",
        "content-length",
        "content-type",
        "date",
        "via",
        "x-request-id",
    ];
    let harness = exact().await;
    harness.fault(FaultKind::SetCookie);
    for (path, further) in [
        (USER, &["etag"][..]),
        ("/api/v1/people/nobody", &[][..]),
        ("/api/v1/people/user_2?x=1", &["etag"][..]),
    ] {
        let mut expected = [&common[..], further].concat();
        expected.sort_unstable();
        assert_eq!(names(&harness.get(path).await), expected, "{path}");
    }
    harness.flameup.clear_faults();
    harness.fault(status(500));
    assert_eq!(names(&harness.get("/api/v1/people/user_3").await), common);
    harness.flameup.clear_faults();
    harness.fault(FaultKind::Html200);
    let mut own = [&common[..], &["cache-control", "proxy-status"]].concat();
    own.sort_unstable();
    assert_eq!(names(&harness.get("/api/v1/people/user_3").await), own);
}

#[tokio::test]
async fn a_request_id_is_taken_or_made_and_always_passed_on() {
    let harness = exact().await;
    let long = "x".repeat(129);
    for (number, sent) in [
        "req-7.a:b/c",
        "",
        "a b",
        "ada@example.org",
        "\"q\"",
        &long,
        "<x>",
    ]
    .into_iter()
    .enumerate()
    {
        harness.flameup.clear_received();
        let path = Harness::path(&format!("user_{}", number + 1));
        let answer = harness.get_with(&path, &[("x-request-id", sent)]).await;
        let id = answer.header("x-request-id");
        if number == 0 {
            assert_eq!(id, sent);
        } else {
            assert!(id.parse::<Uuid>().is_ok(), "{sent} became {id}");
        }
        assert_eq!(harness.flameup.received()[0].headers["x-request-id"], id);
    }
}

#[tokio::test]
async fn each_answer_carries_its_own_requests_id_also_from_memory() {
    let harness = exact().await;
    for id in ["first", "second", "third"] {
        let answer = harness.get_with(USER, &[("x-request-id", id)]).await;
        assert_eq!(answer.header("x-request-id"), id);
        let refused = harness.get_with("/nowhere", &[("x-request-id", id)]).await;
        assert_eq!(refused.header("x-request-id"), id);
        assert_eq!(refused.header("via"), "1.1 flameup-gateway");
    }
    let one = harness.get(USER).await.header("x-request-id").to_owned();
    assert_ne!(harness.get(USER).await.header("x-request-id"), one);
}

#[tokio::test]
async fn what_no_key_holds_never_changes_a_stored_answer() {
    let told = |response: &Response| {
        let mut lines: Vec<_> = response
            .headers
            .iter()
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        lines.retain(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
        lines.sort_unstable_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        (response.status, lines, response.body.clone())
    };
    let untouched = exact().await;
    untouched.get(USER).await;
    let expected = told(&untouched.get(USER).await);
    for odd in ODD {
        let harness = exact().await;
        harness
            .get_with(USER, &[odd])
            .await
            .assert_flameups(200, &harness.body("user_1"));
        assert_eq!(told(&harness.get(USER).await), expected, "{odd:?}");
        assert_eq!(
            told(&harness.get_with(USER, &[odd]).await),
            expected,
            "{odd:?}"
        );
    }
}
