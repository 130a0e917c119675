//! Whom and what a request names.

use super::kit::{Fate, Kit, STORED};

/// Targets that reach nobody. `{}` is nothing special: they are sent as they stand.
const TARGETS: &[&str] = &[
    // Structure.
    "//api/v1/people/user_5",
    "/api//v1/people/user_5",
    "/api/v1//people/user_5",
    "/api/v1/people//user_5",
    "/api/v1/people/user_5/",
    "/api/v1/people/user_5//",
    "/./api/v1/people/user_5",
    "/api/./v1/people/user_5",
    "/api/v1/./people/user_5",
    "/api/v1/people/./user_5",
    "/api/v1/people/user_5/.",
    "/api/v1/people/user_5/..",
    "/x/../api/v1/people/user_5",
    "/../api/v1/people/user_5",
    "/api/v1/../v1/people/user_5",
    "/api/v1/people/../people/user_5",
    "/api/v1/people/x/../user_5",
    "/api/v1/people/..",
    "/api/v1/people/../../../admin",
    "/api/v1/people/...;/..",
    "/api/v1/people/..;/admin",
    "/api/v1/people/..;a=b",
    "/api/v1/people/.;/admin",
    "/api/v1/segments/..;/admin",
    "/api/v1/people/%2e",
    "/api/v1/people/%2e%2e",
    "/api/v1/people/.%2e",
    "/api/v1/people/%2e.",
    "/api/v1/people/%2E%2E/admin",
    "/api/v1/people/%2e%2e%2fadmin",
    "/api/v1/people/..%2fadmin",
    "/api/v1/people/..%2Fadmin",
    "/api/v1/people/x%2f..%2f..%2fadmin",
    "/api/v1/people/x%2f%2e%2e%2fadmin",
    "/api/v1/people/%2f..%2fadmin",
    "/api/v1/people/..%20",
    "/api/v1/people/%20..",
    "/api/v1/%2e%2e/v1/people/user_5",
    "/api/%2e/v1/people/user_5",
    "/%2e%2e/api/v1/people/user_5",
    "/api/v1/segments/%2e%2e/people/user_5",
    "/api/v1/workspaces/../people/user_5",
    "/api/v1/workspaces/%2e%2e/people/search",
    // Backslashes.
    "/api/v1/people/..\\admin",
    "/api/v1/people/..%5cadmin",
    "/api/v1/people/..%5Cadmin",
    "/api/v1/people/x%5c..%5cadmin",
    "/api/v1\\people\\user_5",
    "\\api\\v1\\people\\user_5",
    "/api/v1/people\\user_5",
    "/api/v1/people/a\\b",
    "/\\api/v1/people/user_5",
    "/api/v1/segments/a%5cb",
    "/api/v1/%5cpeople/user_5",
    "/api/v1/people?x=\\",
    // Encoded prefixes.
    "/%61pi/v1/people/user_5",
    "/api%2fv1/people/user_5",
    "/api%2Fv1%2Fpeople%2Fuser_5",
    "%2fapi/v1/people/user_5",
    "/%2fapi/v1/people/user_5",
    "/api/v1%2fpeople/user_5",
    "/api/v%31/people/user_5",
    "/api/%76%31/people/user_5",
    "/API/v1/people/user_5",
    "/api/V1/people/user_5",
    "/api;x/v1/people/user_5",
    "/api/v1;x/people/user_5",
    "/api/v1%20/people/user_5",
    "/api/v2/people/user_5",
    "/api/v1.1/people/user_5",
    "/api/v1",
    "/api/v1/",
    "/api",
    "/",
    "/people/user_5",
    "/admin",
    "/metrics",
    "/gateway/v1/people/lookup/",
    "/gateway/v1/people/../people/lookup",
    // Encoded more than once, or wrongly.
    "/api/v1/people/%252e%252e",
    "/api/v1/people/%252e%252e%252fadmin",
    "/api/v1/people/..%252fadmin",
    "/api/v1/people/%25252e%25252e%25252fadmin",
    "/api/v1/people/a%2500b",
    "/api/v1/people/a%250d%250aX:y",
    "/api/v1/people/%",
    "/api/v1/people/%2",
    "/api/v1/people/%zz",
    "/api/v1/people/%2g",
    "/api/v1/people/%%32e",
    "/api/v1/people/%u002e%u002e",
    "/api/v1/people/%u0061",
    "/api/v1/people/%c0%ae%c0%ae",
    "/api/v1/people/%c0%af",
    "/api/v1/people/%e0%80%ae",
    "/api/v1/people/%e0%80%af",
    "/api/v1/people/%f0%80%80%ae",
    "/api/v1/people/%f8%80%80%80%ae",
    "/api/v1/people/%c1%9c",
    "/api/v1/people/%ff",
    "/api/v1/people/%fe%ff",
    "/api/v1/people/%80",
    "/api/v1/people/%c3",
    "/api/v1/people/%c3%28",
    "/api/v1/people/%ed%a0%80",
    "/api/v1/people/%f4%90%80%80",
    "/api/v1/people/%f5%80%80%80",
    // Control characters.
    "/api/v1/people/%00",
    "/api/v1/people/user_5%00",
    "/api/v1/people/user_5%00.json",
    "/api/v1/people/a%01b",
    "/api/v1/people/a%08b",
    "/api/v1/people/a%09b",
    "/api/v1/people/a%0ab",
    "/api/v1/people/a%0db",
    "/api/v1/people/a%0d%0aHost:%20b",
    "/api/v1/people/a%0d%0a%0d%0aGET%20/x",
    "/api/v1/people/a%1bb",
    "/api/v1/people/a%7fb",
    "/api/v1/people/a%c2%85b",
    "/api/v1/people/a%c2%80b",
    "/api/v1/segments/%00",
    "/api/v1/segments/a%0d%0ab",
    // Fragments.
    "/api/v1/people/user_5#",
    "/api/v1/people/user_5#x",
    "/api/v1/people/user_5#/../x",
    "/api/v1/people/#user_5",
    "/api/v1/people/user_5?#",
    "/api/v1/people/user_5?a=b#c",
    "/api/v1/people?limit=1#x",
    "#",
    "/#",
    // Nobody, and words that are nobody.
    "/api/v1/people/",
    "/api/v1/people/%20",
    "/api/v1/people/%20%20",
    // Other forms of targets.
    "*",
    "api/v1/people/user_5",
    "?",
    "people/user_5",
    "a:80",
    "a",
    ".",
    "http://",
    "http:///api/v1/people/user_5",
    "http:/api/v1/people/user_5",
    "http:api/v1/people/user_5",
    "://a/api/v1/people/user_5",
    "//a/api/v1/people/user_5",
    "http://b/api/v1/people/user_5",
    "http://a.b/api/v1/people/user_5",
    "http://b@a/api/v1/people/user_5",
    "http://a@b/api/v1/people/user_5",
    "http://a:b@a/api/v1/people/user_5",
    "http://@a/api/v1/people/user_5",
    "http://a:81/api/v1/people/user_5",
    "http://a:/api/v1/people/user_5",
    "http://a:0/api/v1/people/user_5",
    "http://a:99999/api/v1/people/user_5",
    "http://a:x/api/v1/people/user_5",
    "http://a:-1/api/v1/people/user_5",
    "http://a:80:80/api/v1/people/user_5",
    "http://a\\b/api/v1/people/user_5",
    "http://a%2fb/api/v1/people/user_5",
    "http://[::1/api/v1/people/user_5",
    "http://\u{e9}/api/v1/people/user_5",
    "http://127.0.0.1/api/v1/people/user_5",
    "http://api.flameup.ai/api/v1/people/user_5",
    "https://b/api/v1/people/user_5",
    "ftp://a/api/v1/people/user_5",
    "file:///api/v1/people/user_5",
    "gopher://a/api/v1/people/user_5",
    "javascript://a/api/v1/people/user_5",
    "ws://a/api/v1/people/user_5",
    // Queries that mean something else.
    "/api/v1/people/user_5?_method=DELETE",
    "/api/v1/people/user_5?a=b&_method=PUT",
    "/api/v1/people/user_5?a=b;_method=PUT",
    "/api/v1/people/user_5?%5fmethod=DELETE",
    "/api/v1/people?_method=POST",
    "/api/v1/people/user_5?\u{e9}",
];

#[tokio::test]
async fn a_target_that_is_not_plain_reaches_nobody() {
    let mut kit = Kit::start().await;
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        for target in TARGETS {
            let body = if method == "PUT" {
                "Content-Length: 0\r\n"
            } else {
                ""
            };
            let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{body}");
            kit.try_out(format!("{head}Connection: close\r\n\r\n"), Fate::Refused)
                .await;
        }
    }
    kit.end(700).await;
}

/// Request lines that are none.
const LINES: &[&[u8]] = &[
    b"GET  /api/v1/people/user_5 HTTP/1.1",
    b"GET /api/v1/people/user_5  HTTP/1.1",
    b"GET\t/api/v1/people/user_5 HTTP/1.1",
    b"GET /api/v1/people/user_5\tHTTP/1.1",
    b"GET /api/v1/people/user_5 HTTP/1.1 ",
    b"GET /api/v1/people/user_5 HTTP/1.1\t",
    b" GET /api/v1/people/user_5 HTTP/1.1",
    b"\tGET /api/v1/people/user_5 HTTP/1.1",
    b"\r\n\r\nGET /api/v1/people/user_5 HTTP/1.1",
    b"\nGET /api/v1/people/user_5 HTTP/1.1",
    b"\n\nGET /api/v1/people/user_5 HTTP/1.1",
    b"\rGET /api/v1/people/user_5 HTTP/1.1",
    b"\0GET /api/v1/people/user_5 HTTP/1.1",
    b"\xef\xbb\xbfGET /api/v1/people/user_5 HTTP/1.1",
    b"GET /api/v1/people/user 5 HTTP/1.1",
    b"GET /api/v1/people/user\t5 HTTP/1.1",
    b"GET /api/v1/people/user\x005 HTTP/1.1",
    b"GET /api/v1/people/user\x015 HTTP/1.1",
    b"GET /api/v1/people/user\x0b5 HTTP/1.1",
    b"GET /api/v1/people/user\x7f5 HTTP/1.1",
    b"GET /api/v1/people/user\r5 HTTP/1.1",
    b"GET /api/v1/people/user\n5 HTTP/1.1",
    b"GET /api/v1/people/user\xff5 HTTP/1.1",
    b"GET /api/v1/people/user\xc0\xae HTTP/1.1",
    b"GET /api/v1/people/user\xa05 HTTP/1.1",
    b"GET /api/v1/people/user_5",
    b"GET /api/v1/people/user_5 ",
    b"GET",
    b"GET ",
    b"/api/v1/people/user_5 HTTP/1.1",
    b"GET HTTP/1.1",
    b"GET /api/v1/people/user_5 HTTP/0.9",
    b"GET /api/v1/people/user_5 HTTP/1.2",
    b"GET /api/v1/people/user_5 HTTP/1.9",
    b"GET /api/v1/people/user_5 HTTP/2.0",
    b"GET /api/v1/people/user_5 HTTP/2",
    b"GET /api/v1/people/user_5 HTTP/3.0",
    b"GET /api/v1/people/user_5 HTTP/1",
    b"GET /api/v1/people/user_5 HTTP/1.",
    b"GET /api/v1/people/user_5 HTTP/.1",
    b"GET /api/v1/people/user_5 HTTP/1.10",
    b"GET /api/v1/people/user_5 HTTP/01.1",
    b"GET /api/v1/people/user_5 HTTP/1.01",
    b"GET /api/v1/people/user_5 HTTP/1,1",
    b"GET /api/v1/people/user_5 HTTP/+1.1",
    b"GET /api/v1/people/user_5 HTTP/-1.1",
    b"GET /api/v1/people/user_5 http/1.1",
    b"GET /api/v1/people/user_5 Http/1.1",
    b"GET /api/v1/people/user_5 HTTPS/1.1",
    b"GET /api/v1/people/user_5 HTTP 1.1",
    b"GET /api/v1/people/user_5 HTTP/1.1x",
    b"GET /api/v1/people/user_5 HTTP/1.1 HTTP/1.1",
    b"GET /api/v1/people/user_5 SIP/2.0",
    b"GET /api/v1/people/user_5 ICY/1.1",
    b"GET /api/v1/people/user_5 HTTP/1.1\r",
    b"GET /api/v1/people/user_5 HTTP/1.1\0",
    b"GET\0/api/v1/people/user_5 HTTP/1.1",
    b"G\0ET /api/v1/people/user_5 HTTP/1.1",
    b"G ET /api/v1/people/user_5 HTTP/1.1",
    b"G\xc3\x89T /api/v1/people/user_5 HTTP/1.1",
    b"G(T /api/v1/people/user_5 HTTP/1.1",
    b"GET: /api/v1/people/user_5 HTTP/1.1",
    b"\"GET\" /api/v1/people/user_5 HTTP/1.1",
    b"CONNECT a:80 HTTP/1.1",
    b"CONNECT api.flameup.ai:443 HTTP/1.1",
    b"CONNECT /api/v1/people/user_5 HTTP/1.1",
    b"CONNECT http://a/api/v1/people/user_5 HTTP/1.1",
    b"CONNECT 127.0.0.1:22 HTTP/1.0",
    b"PRI * HTTP/2.0",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"SSH-2.0-OpenSSH_9.2",
    b"EHLO a",
    b"*1\r\n$4\r\nPING",
    b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2",
    b"\r\n\r\n\x00\r\nQUIT\n",
];

#[tokio::test]
async fn a_first_line_that_is_none_ends_the_connection() {
    let mut kit = Kit::start().await;
    for line in LINES {
        for rest in [
            "\r\nHost: a\r\n\r\n",
            "\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        ] {
            kit.try_out([line, rest.as_bytes()].concat(), Fate::Closed)
                .await;
        }
    }
    kit.end(140).await;
}

#[tokio::test]
async fn a_method_that_is_not_one_of_the_paths_reaches_nobody() {
    let mut kit = Kit::start().await;
    for method in [
        "TRACE",
        "TRACK",
        "DEBUG",
        "OPTIONS",
        "get",
        "Get",
        "gEt",
        "head",
        "post",
        "GETS",
        "GE",
        "PURGE",
        "BAN",
        "PROPFIND",
        "MOVE",
        "COPY",
        "MKCOL",
        "LOCK",
        "LINK",
        "SEARCH",
        "QUERY",
        "X",
        "G'ET",
        "M-SEARCH",
        "SUBSCRIBE",
        "REPORT",
        "BASELINE-CONTROL",
        "_",
        "!",
        "INVALIDATE",
        "REFRESH",
    ] {
        for target in [STORED, "/api/v1/people", "/api/v1/segments/x", "*"] {
            for body in ["", "Content-Length: 2\r\n"] {
                let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{body}");
                let rest = if body.is_empty() { "" } else { "{}" };
                let offence = format!("{head}Connection: close\r\n\r\n{rest}");
                kit.try_out(offence, Fate::Refused).await;
            }
        }
    }
    kit.end(240).await;
}

#[tokio::test]
async fn what_is_longer_than_it_may_be_is_refused() {
    let mut kit = Kit::start().await;
    let long = |length| "x".repeat(length);
    for (target, headers) in [
        (format!("{STORED}{}", long(513)), String::new()),
        (format!("{STORED}{}", long(8 * 1024)), String::new()),
        (format!("{STORED}{}", long(70_000)), String::new()),
        (format!("{STORED}?{}", long(8 * 1024)), String::new()),
        (format!("{STORED}?{}", long(70_000)), String::new()),
        (format!("/{}", long(70_000)), String::new()),
        (format!("/api/v1/{}", "a/".repeat(5_000)), String::new()),
        (STORED.to_owned(), format!("X: {}\r\n", long(70_000))),
        (STORED.to_owned(), format!("{}: x\r\n", long(70_000))),
        (STORED.to_owned(), "X: y\r\n".repeat(101)),
        (STORED.to_owned(), "X: y\r\n".repeat(10_000)),
        (
            STORED.to_owned(),
            format!("Cookie: {}\r\n", "a=b; ".repeat(20_000)),
        ),
    ] {
        let offence =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        kit.try_out(offence, Fate::Refused).await;
    }
    kit.try_out(long(100_000), Fate::Closed).await;
    kit.try_out(
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", long(100_000)),
        Fate::Closed,
    )
    .await;
    kit.end(14).await;
}
