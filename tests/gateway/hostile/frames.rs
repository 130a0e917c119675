//! The same over HTTP/2, where framing is done by lengths and the first line by pseudo-headers.

use tokio::io::AsyncReadExt;

use super::kit::{Kit, STORED};
use crate::support::{Wire, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Header lines in the order they are sent.
type Lines<'a> = Vec<(&'a str, &'a str)>;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals without index (RFC 7541 §6.2.2), none of them compressed.
fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in lines {
        bytes.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 0x7f {
                bytes.push(u8::try_from(length).expect("short"));
            } else {
                bytes.push(0x7f);
                length -= 0x7f;
                while length >= 0x80 {
                    bytes.push(u8::try_from(length % 0x80).expect("seven bits") | 0x80);
                    length /= 0x80;
                }
                bytes.push(u8::try_from(length).expect("seven bits"));
            }
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// What comes of a stream: nothing at all if it is refused, otherwise why not.
async fn outcome(wire: &mut Wire) -> Option<String> {
    let reading = async {
        let stream = wire.stream_mut();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return None;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("it fits")];
            if stream.read_exact(&mut payload).await.is_err() {
                return None;
            }
            match head[3] {
                RST_STREAM | GOAWAY => return None,
                HEADERS => return (!is_client_error(&payload)).then(|| format!("{payload:?}")),
                _ => {}
            }
        }
    };
    within(reading).await
}

/// Whether a header block begins with a status of 400 and above, below 500 (RFC 7541 appendices A, B).
fn is_client_error(block: &[u8]) -> bool {
    match block {
        [0x8c | 0x8d, ..] => true,
        // `:status` by its name's index, the value compressed: `4` is 011010.
        [0x48 | 0x08, length, digit, ..] if length & 0x80 != 0 => digit >> 2 == 0b01_1010,
        [0x48 | 0x08, _, digit, ..] => *digit == b'4',
        _ => false,
    }
}

/// A request with these bodies; the last one ends it.
async fn try_out(kit: &mut Kit, lines: &Lines<'_>, bodies: &[Vec<u8>]) {
    let mut wire = Wire::connect(kit.harness().address()).await;
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let end = if bodies.is_empty() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block(lines)));
    bytes.extend(bodies.concat());
    let _ = wire.try_send(&bytes).await;
    let problem = outcome(&mut wire).await;
    kit.count(&format!("{lines:?} {bodies:?}"), problem);
}

/// The pseudo-headers of a request.
fn start<'a>(method: &'a str, path: &'a str) -> Lines<'a> {
    let (scheme, authority) = ((":scheme", "http"), (":authority", "a"));
    vec![(":method", method), scheme, authority, (":path", path)]
}

#[tokio::test]
async fn pseudo_headers_that_are_wrong_make_no_request() {
    let mut kit = Kit::start().await;
    let good = start("GET", STORED);
    // Each is missing, comes twice, or comes late.
    for at in 0..good.len() {
        let mut missing = good.clone();
        missing.remove(at);
        try_out(&mut kit, &missing, &[]).await;
        let mut twice = good.clone();
        twice.insert(at, good[at]);
        try_out(&mut kit, &twice, &[]).await;
        let mut late = good.clone();
        let moved = late.remove(at);
        late.extend([("x-a", "b"), moved]);
        try_out(&mut kit, &late, &[]).await;
        let mut empty = good.clone();
        empty[at].1 = "";
        try_out(&mut kit, &empty, &[]).await;
    }
    for extra in [
        (":status", "200"),
        (":unknown", "x"),
        (":protocol", "websocket"),
        (":Method", "GET"),
        (":", "x"),
        ("::path", "/"),
        (":host", "a"),
    ] {
        let mut lines = good.clone();
        lines.push(extra);
        try_out(&mut kit, &lines, &[]).await;
        lines.rotate_right(1);
        try_out(&mut kit, &lines, &[]).await;
    }
    for (at, value) in [
        (0, "GE T"),
        (0, "GET\0"),
        (0, "GET\r\n"),
        (0, "CONNECT"),
        (0, "get"),
        (0, "TRACE"),
        (0, "OPTIONS"),
        (1, "ftp"),
        (1, "file"),
        (1, "h ttp"),
        (1, "http://"),
        (1, "javascript"),
        (2, "b@a"),
        (2, "b:c@a"),
        (2, "@a"),
        (2, "a:"),
        (2, "a:0"),
        (2, "a:99999"),
        (2, "a:x"),
        (2, "a/b"),
        (2, "a b"),
        (2, "a\\b"),
        (2, "a,b"),
        (2, "\u{e9}"),
        (2, "a\0"),
        (2, "a%2fb"),
        (2, "http://a"),
        (2, "[::1"),
        (3, "*"),
        (3, "api/v1/people/user_5"),
        (3, "http://a/api/v1/people/user_5"),
        (3, "//api/v1/people/user_5"),
        (3, "/api/v1/../v1/people/user_5"),
        (3, "/api/v1/./people/user_5"),
        (3, "/api/v1/people/.."),
        (3, "/api/v1/people/%2e%2e%2fadmin"),
        (3, "/api/v1/people/..;/admin"),
        (3, "/api/v1/people/..\\admin"),
        (3, "/api/v1/people/%252e%252e"),
        (3, "/api/v1/people/%00"),
        (3, "/api/v1/people/%c0%ae"),
        (3, "/api/v1/people/user 5"),
        (3, "/api/v1/people/user\t5"),
        (3, "/api/v1/people/user\r\nx: y"),
        (3, "/api/v1/people/user\u{0}5"),
        (3, "/api/v1/people/user_5 HTTP/1.1"),
        (3, "/api/v1/people?_method=DELETE"),
        (3, "?x"),
        (3, "#x"),
        (3, "/metrics"),
    ] {
        let mut lines = good.clone();
        lines[at].1 = value;
        try_out(&mut kit, &lines, &[]).await;
    }
    kit.end(75).await;
}

#[tokio::test]
async fn headers_that_http_2_must_not_have_make_no_request() {
    let mut kit = Kit::start().await;
    for line in [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        ("X-A", "b"),
        ("x-A", "b"),
        ("Host", "a"),
        ("host", "b"),
        ("host", ""),
        ("host", "a:80"),
        ("host", "b@a"),
        ("x a", "b"),
        ("x:a", "b"),
        ("x\0a", "b"),
        ("x\ra", "b"),
        ("x\na", "b"),
        ("x\u{e9}", "b"),
        ("", "b"),
        ("x-a", "b\0"),
        ("x-a", "b\r\nc: d"),
        ("x-a", "b\rc"),
        ("x-a", "b\nc"),
        ("x-a", "\u{1}"),
        ("x-a", "\u{7f}"),
        ("expect", "x"),
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("content-length", "4"),
        ("content-length", "-1"),
        ("content-length", "+0"),
        ("content-length", "0x0"),
        ("content-length", "x"),
        ("content-length", ""),
        ("content-length", "99999999999999999999"),
    ] {
        for (method, path) in [("GET", STORED), ("DELETE", "/api/v1/people/user_1")] {
            let mut lines = start(method, path);
            lines.push(line);
            try_out(&mut kit, &lines, &[]).await;
        }
    }
    let mut lines = start("GET", STORED);
    lines.extend([("host", "a"), ("host", "a")]);
    try_out(&mut kit, &lines, &[]).await;
    kit.end(87).await;
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_reaches_nobody() {
    let mut kit = Kit::start().await;
    let data = |flags, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |flags, lines: &[(&str, &str)]| frame(HEADERS, flags, 1, &block(lines));
    let whole = END_STREAM | END_HEADERS;
    let many = "x".repeat(9000);
    for length in [
        "0", "1", "3", "5", "40", "-4", "+4", "0x4", "4,4", "4, 4", "four", "4 ", "1e9",
    ] {
        for bodies in [
            vec![data(END_STREAM, b"abcd")],
            vec![data(0, b"ab"), data(END_STREAM, b"cd")],
            vec![data(0, b"abcd"), data(END_STREAM, b"")],
            vec![data(0, b"abcd"), trailers(whole, &[("x-t", "y")])],
        ] {
            let mut lines = start("POST", "/api/v1/people");
            lines.push(("content-length", length));
            try_out(&mut kit, &lines, &bodies).await;
        }
    }
    let mut twice = start("POST", "/api/v1/people");
    twice.extend([("content-length", "4"), ("content-length", "5")]);
    try_out(&mut kit, &twice, &[data(END_STREAM, b"abcd")]).await;
    for bad in [
        vec![trailers(whole, &[(":path", "/api/v1/people/user_5")])],
        vec![trailers(whole, &[(":method", "DELETE")])],
        vec![trailers(whole, &[(":status", "200")])],
        vec![trailers(whole, &[("X-T", "y")])],
        vec![trailers(whole, &[("connection", "close")])],
        vec![trailers(whole, &[("transfer-encoding", "chunked")])],
        vec![trailers(whole, &[("x-t", "a\0")])],
        vec![trailers(whole, &[("x t", "a")])],
        vec![trailers(END_HEADERS, &[("x-t", "y")])],
        vec![trailers(whole, &[("x-t", &many), ("x-u", &many)])],
        // Continuing what has ended, beginning anew, or belonging to no stream.
        vec![frame(DATA, END_STREAM, 0, b"x")],
        vec![frame(DATA, END_STREAM, 3, b"x")],
        vec![frame(HEADERS, whole, 2, &block(&start("GET", STORED)))],
        vec![frame(HEADERS, whole, 0, &block(&start("GET", STORED)))],
        vec![frame(9, 4, 1, &block(&[("x-t", "y")]))],
        vec![frame(DATA, END_STREAM | 8, 1, b"\x09x")],
        vec![
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            data(END_STREAM, b"x"),
            frame(GOAWAY, 0, 1, b""),
        ],
    ] {
        let bodies = [vec![data(0, b"{}")], bad].concat();
        try_out(&mut kit, &start("POST", "/api/v1/people"), &bodies).await;
    }
    for path in [STORED, "/api/v1/people", "/api/v1/segments/x"] {
        for method in ["GET", "HEAD"] {
            try_out(&mut kit, &start(method, path), &[data(END_STREAM, b"x")]).await;
        }
    }
    kit.end(75).await;
}
