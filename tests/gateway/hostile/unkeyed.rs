//! What is no part of a cache key never changes a stored answer, nor what is asked of Flameup.

use flameup_gateway::sandbox::Received;

use crate::support::passing::open;
use crate::support::{Harness, Response, Wire};

const PERSON: &str = "/api/v1/people/user_1";

/// Header lines that may accompany a lookup and say nothing of whom it is about.
const LINES: &[&str] = &[
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Host: evil.example, a",
    "X-Forwarded-For: 127.0.0.1",
    "X-Forwarded-Proto: http",
    "X-Forwarded-Scheme: nothttps",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Path: /api/v1/people/user_2",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-Server: evil.example",
    "X-Forwarded-Uri: /api/v1/people/user_2",
    "X-Forwarded-Method: DELETE",
    "X-Forwarded-Authorization: Bearer x",
    "X-Forwarded-User: admin",
    "Forwarded: for=\"[::1]\";host=evil.example;proto=https",
    "X-Host: evil.example",
    "X-HTTP-Host-Override: evil.example",
    "X-Original-Host: evil.example",
    "X-Backend-Host: evil.example",
    "X-Original-URL: /api/v1/people/user_2",
    "X-Original-URI: /api/v1/people/user_2",
    "X-Original-Path: /api/v1/people/user_2",
    "X-Rewrite-URL: /api/v1/people/user_2",
    "X-Override-URL: /api/v1/people/user_2",
    "X-Request-URI: /api/v1/people/user_2",
    "Request-URI: /api/v1/people/user_2",
    "Base-URL: http://evil.example",
    "Destination: http://evil.example/",
    "Proxy-Host: evil.example",
    "Proxy: http://evil.example",
    "X-Real-IP: 127.0.0.1",
    "X-Client-IP: 127.0.0.1",
    "True-Client-IP: 127.0.0.1",
    "CF-Connecting-IP: 127.0.0.1",
    "Client-IP: 127.0.0.1",
    "X-Originating-IP: 127.0.0.1",
    "X-Cluster-Client-IP: 127.0.0.1",
    "Cookie: session=1; workspace=ws_other",
    "Cookie: \u{1f36a}=1",
    "Authorization: Bearer something",
    "Authorization: Basic eDp5",
    "Proxy-Authorization: Basic eDp5",
    "X-API-Key: something",
    "X-Workspace-Id: ws_other",
    "Accept: text/html",
    "Accept: application/xml, */*;q=0",
    "Accept:",
    "Accept-Encoding: gzip, br, zstd",
    "Accept-Encoding: identity;q=0",
    "Accept-Language: de",
    "Accept-Charset: utf-7",
    "Accept-Datetime: Thu, 31 May 2007 20:35:00 GMT",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Encoding: gzip",
    "Content-Range: bytes 0-1/2",
    "Content-MD5: x",
    "Range: bytes=0-0",
    "Range: bytes=0-,0-,0-,0-",
    "Range: bytes=-1",
    "Range: lines=1",
    "If-Range: \"x\"",
    "If-Match: \"x\"",
    "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",
    "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    "If-None-Match: \"x\"",
    "User-Agent: () { :; }; echo",
    "User-Agent: Mozilla/5.0 (iPhone)",
    "Referer: http://evil.example/",
    "Origin: http://evil.example",
    "Origin: null",
    "Access-Control-Request-Method: DELETE",
    "Sec-Fetch-Site: cross-site",
    "DNT: 1",
    "Save-Data: on",
    "Via: 1.1 other",
    "Via: 1.1 flameup-gateway",
    "Max-Forwards: 0",
    "TE: trailers",
    "TE: gzip, chunked",
    "Trailer: X",
    "Connection: keep-alive, Host, Authorization, X-Request-Id",
    "Connection: Cache-Status",
    "Keep-Alive: timeout=9999",
    "Proxy-Connection: keep-alive",
    "Expect: 100-continue",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Tracestate: a=b",
    "Idempotency-Key: x",
    "Vary: Cookie",
    "Age: 99999",
    "Cache-Status: other; hit",
    "CDN-Cache-Control: no-store",
    "Surrogate-Control: max-age=99999",
    "Surrogate-Capability: abc=ESI/1.0",
    "Set-Cookie: a=b",
    "ETag: \"x\"",
    "Last-Modified: Fri, 01 Jan 2038 00:00:00 GMT",
    "Location: http://evil.example/",
    "Status: 404",
    "X-HTTP-Status-Code-Override: 404",
    "X-Timer: S1",
    "X-Accel-Redirect: /etc/passwd",
    "X-Sendfile: /etc/passwd",
    "X-Wap-Profile: http://evil.example/wap.xml",
    "X-Debug: 1",
    "X-Oversized: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "X-\u{7e}odd!: \u{e9}\u{ff}",
];

/// Names and values in order.
type Lines = Vec<(String, Vec<u8>)>;

async fn ask(harness: &Harness, line: &str) -> Response {
    let mut wire = Wire::connect(harness.address()).await;
    wire.send(format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n{line}\r\n"))
        .await;
    wire.answer().await
}

/// What a client is told, apart from what is told of this very exchange.
fn told(response: &Response) -> (u16, Lines, Vec<u8>) {
    let mut lines: Vec<_> = response
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .filter(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()))
        .collect();
    lines.sort_unstable();
    (response.status.as_u16(), lines, response.body.to_vec())
}

/// What Flameup is asked, apart from the request's own id.
fn asked(received: &Received) -> (String, Lines) {
    let mut lines: Vec<_> = received
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .filter(|(name, _)| name != "x-request-id")
        .collect();
    lines.sort_unstable();
    (format!("{} {}", received.method, received.target), lines)
}

#[tokio::test]
async fn what_no_key_holds_changes_neither_the_question_nor_any_answer() {
    let harness = open().start().await;
    ask(&harness, "")
        .await
        .assert_flameups(200, &harness.body("user_1"));
    let question = asked(&harness.flameup.received()[0]);
    let hit = told(&ask(&harness, "").await);
    for line in LINES {
        let line = format!("{line}\r\n");
        // Nothing of it spoils what is stored when it is fetched.
        harness.pass(10_000);
        harness.flameup.clear_received();
        let fetched = ask(&harness, &line).await;
        fetched.assert_flameups(200, &harness.body("user_1"));
        assert!(
            fetched.cache_status().ends_with("stored"),
            "{line} {fetched:?}"
        );
        assert_eq!(asked(&harness.flameup.received()[0]), question, "{line}");
        // Nor is anybody answered otherwise from memory, with it or after it.
        assert_eq!(told(&ask(&harness, "").await), hit, "{line}");
        assert_eq!(told(&ask(&harness, &line).await), hit, "{line}");
        assert_eq!(harness.forwards(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_query_is_answered_apart_and_leaves_what_is_stored_alone() {
    let harness = open().start().await;
    ask(&harness, "").await;
    let hit = told(&ask(&harness, "").await);
    for query in [
        "x=1",
        "utm_source=a",
        "callback=f",
        "_=1",
        "id=user_2",
        "people=user_2",
        "&",
        "=",
        "a",
        "%00",
        "..",
        "/../user_2",
        "user_1",
        "format=xml",
        "a[]=1",
        "limit=1&limit=2",
        "%",
        "+",
        "?",
        "/",
    ] {
        harness.flameup.clear_received();
        let answer = harness.get(&format!("{PERSON}?{query}")).await;
        assert!(
            answer.cache_status().starts_with("fwd=bypass"),
            "{query} {answer:?}"
        );
        assert_eq!(harness.targets(), [format!("{PERSON}?{query}")]);
        assert_eq!(told(&ask(&harness, "").await), hit, "{query}");
    }
}
