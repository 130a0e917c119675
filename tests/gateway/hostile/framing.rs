//! Where a request ends.

use super::kit::{Fate, Kit, STORED};

/// Framing lines, each with the body that follows.
const LINES: &[(&str, &str)] = &[
    // Both framings.
    (
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "0\r\n\r\n",
    ),
    (
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "content-length: 4\r\ntransfer-encoding: chunked",
        "0\r\n\r\n",
    ),
    ("Content-Length: 4\r\nTransfer-Encoding: identity", "abcd"),
    ("Content-Length: 4\r\nTransfer-Encoding:", "abcd"),
    (
        "Content-Length: 4\r\nX: y\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Content-Length: x\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6",
        "0\r\n\r\n",
    ),
    // Lengths.
    ("Content-Length: 4\r\nContent-Length: 4", "abcd"),
    ("Content-Length: 4\r\nContent-Length: 5", "abcd"),
    ("Content-Length: 5\r\nContent-Length: 4", "abcd"),
    ("Content-Length: 0\r\nContent-Length: 4", "abcd"),
    ("Content-Length: 4\r\nX: y\r\ncontent-length: 0", "abcd"),
    ("Content-Length: 4, 4", "abcd"),
    ("Content-Length: 4, 5", "abcd"),
    ("Content-Length: 4,", "abcd"),
    ("Content-Length: ,4", "abcd"),
    ("Content-Length: +4", "abcd"),
    ("Content-Length: -4", "abcd"),
    ("Content-Length: -1", "abcd"),
    ("Content-Length: 0x4", "abcd"),
    ("Content-Length: 4h", "abcd"),
    ("Content-Length: 4.0", "abcd"),
    ("Content-Length: 4e0", "abcd"),
    ("Content-Length: 0b100", "abcd"),
    ("Content-Length: 1_0", "abcd"),
    ("Content-Length: 4 4", "abcd"),
    ("Content-Length: 4;", "abcd"),
    ("Content-Length: \"4\"", "abcd"),
    ("Content-Length: four", "abcd"),
    ("Content-Length:", "abcd"),
    ("Content-Length: ", "abcd"),
    ("Content-Length: \t", "abcd"),
    ("Content-Length: 18446744073709551616", "abcd"),
    ("Content-Length: 18446744073709551620", "abcd"),
    ("Content-Length: 99999999999999999999999999", "abcd"),
    ("Content-Length: 18446744073709551615", "abcd"),
    ("Content-Length: 9223372036854775807", "abcd"),
    ("Content-Length: 9223372036854775808", "abcd"),
    ("Content-Length: 4294967300", "abcd"),
    ("Content-Length: \u{0664}", "abcd"),
    ("Content-Length: 4\u{a0}", "abcd"),
    ("Content-Length: 4\u{b}", "abcd"),
    ("Content-Length: 4\0", "abcd"),
    ("Content-Length : 4", "abcd"),
    ("Content-Length\t: 4", "abcd"),
    (" Content-Length: 4", "abcd"),
    ("\tContent-Length: 4", "abcd"),
    ("Content_Length: 4", "abcd"),
    ("Content Length: 4", "abcd"),
    ("Content-Length: 4\r\n 5", "abcd"),
    ("Content-Length:\r\n 4", "abcd"),
    ("X: y\r\n Content-Length: 4", "abcd"),
    ("Content-Length: 4\rContent-Length: 5", "abcd"),
    ("Content-Length: 4\nContent-Length: 5", "abcd"),
    ("X: y\nContent-Length: 4", "abcd"),
    ("X: y\rContent-Length: 4", "abcd"),
    ("Content-Length: 4\0Content-Length: 5", "abcd"),
    ("Content-Length 4", "abcd"),
    ("Content-Length=4", "abcd"),
    // Codings.
    ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "0\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\ntransfer-encoding: cow",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunkedx", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked-x", "0\r\n\r\n"),
    ("Transfer-Encoding: chunk", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: identity", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"),
    ("Transfer-Encoding: deflate, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: compress", "0\r\n\r\n"),
    ("Transfer-Encoding: ,chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked,", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked; x", "0\r\n\r\n"),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
    ("Transfer-Encoding: 'chunked'", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked x", "0\r\n\r\n"),
    ("Transfer-Encoding: x chunked", "0\r\n\r\n"),
    ("Transfer-Encoding:", "0\r\n\r\n"),
    ("Transfer-Encoding: \t", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{b}chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{c}chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\u{b}", "0\r\n\r\n"),
    ("Transfer-Encoding: \0chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\0", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{a0}chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{feff}chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chun\u{212a}ed", "0\r\n\r\n"),
    ("Transfer-Encoding : chunked", "0\r\n\r\n"),
    ("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding\u{b}: chunked", "0\r\n\r\n"),
    (" Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("\tTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n\tchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n , identity", "0\r\n\r\n"),
    ("Transfer-Encoding:\n chunked", "0\r\n\r\n"),
    ("X: y\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\n\rTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\0Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer_Encoding: chunked", "0\r\n\r\n"),
    ("Transfer Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding= chunked", "0\r\n\r\n"),
    ("Transfer-Encoding chunked", "0\r\n\r\n"),
    ("\0Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("\u{a0}Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding\u{a0}: chunked", "0\r\n\r\n"),
    (":Transfer-Encoding: chunked", "0\r\n\r\n"),
];

#[tokio::test]
async fn what_says_in_two_ways_where_it_ends_is_refused() {
    let mut kit = Kit::start().await;
    for (lines, body) in LINES {
        for start in [
            "POST /api/v1/people HTTP/1.1".to_owned(),
            format!("GET {STORED} HTTP/1.1"),
        ] {
            let offence = format!("{start}\r\nHost: a\r\n{lines}\r\n\r\n{body}");
            kit.try_out(offence, Fate::Closed).await;
        }
    }
    kit.end(230).await;
}

/// Chunked bodies.
const CHUNKS: &[&str] = &[
    // Sizes.
    "g\r\nabc\r\n0\r\n\r\n",
    "\r\nabc\r\n0\r\n\r\n",
    " 3\r\nabc\r\n0\r\n\r\n",
    "\t3\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\t\r\nabc\r\n0\r\n\r\n",
    "3 ;x\r\nabc\r\n0\r\n\r\n",
    "+3\r\nabc\r\n0\r\n\r\n",
    "-3\r\nabc\r\n0\r\n\r\n",
    "-1\r\nabc\r\n0\r\n\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "3h\r\nabc\r\n0\r\n\r\n",
    "3,3\r\nabc\r\n0\r\n\r\n",
    "3 3\r\nabc\r\n0\r\n\r\n",
    "3.0\r\nabc\r\n0\r\n\r\n",
    "3_0\r\nabc\r\n0\r\n\r\n",
    "\"3\"\r\nabc\r\n0\r\n\r\n",
    "x\r\n\r\n",
    "0x0\r\n\r\n",
    "-0\r\n\r\n",
    "+0\r\n\r\n",
    "00 \r\n\r\n",
    "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "10000000000000000\r\nabc\r\n0\r\n\r\n",
    "10000000000000003\r\nabc\r\n0\r\n\r\n",
    "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "00000000000000000000003\r\nabc\r\n0\r\n\r\n",
    "\u{0663}\r\nabc\r\n0\r\n\r\n",
    "3\0\r\nabc\r\n0\r\n\r\n",
    "3\u{b}\r\nabc\r\n0\r\n\r\n",
    ";x\r\nabc\r\n0\r\n\r\n",
    // Extensions.
    "3;x\nabc\r\n0\r\n\r\n",
    "3;x\rabc\r\n0\r\n\r\n",
    "3;x\r\r\nabc\r\n0\r\n\r\n",
    "3;x\0\r\nabc\r\n0\r\n\r\n",
    "3;x\u{1}\r\nabc\r\n0\r\n\r\n",
    "3;x\u{7f}\r\nabc\r\n0\r\n\r\n",
    "3;\u{e9}\r\nabc\r\n0\r\n\r\n",
    "3;x=\"\n\"\r\nabc\r\n0\r\n\r\n",
    "3;\n0\r\n\r\n",
    "0;\n\r\n",
    // Ends.
    "3\nabc\r\n0\r\n\r\n",
    "3\rabc\r\n0\r\n\r\n",
    "3\n\rabc\r\n0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "3\r\nabc\r0\r\n\r\n",
    "3\r\nabc\n\r0\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nab\r\n0\r\n\r\n",
    "2\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc  0\r\n\r\n",
    "3\r\nabc\r\n\r\n0\r\n\r\n",
    "3\r\nabc\r\n0\n\n",
    "3\r\nabc\r\n0\n\r\n",
    "3\r\nabc\r\n0\r\r\n",
    "3\r\nabc\r\n0\r\n\n",
    "3\r\nabc\r\n0\r\n\r\r\n",
    "3\r\nabc\r\n0\r\rX",
    // Trailers.
    "3\r\nabc\r\n0\r\nX: y\n\r\n",
    "3\r\nabc\r\n0\r\nX: y\r\r\n",
    "3\r\nabc\r\n0\r\n X: y\r\n\r\n",
    "3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
    "3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n",
    "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "3\r\nabc\r\n0\r\nX : y\r\n\r\n",
    "3\r\nabc\r\n0\r\nX\r\n\r\n",
    "3\r\nabc\r\n0\r\nX: \0\r\n\r\n",
    "3\r\nabc\r\n0\r\n: y\r\n\r\n",
];

#[tokio::test]
async fn what_is_chunked_wrongly_is_refused_and_not_begun_at_flameup() {
    let mut kit = Kit::start().await;
    for (path, chunks) in ["people", "people/user_1", "segments/x"]
        .iter()
        .flat_map(|path| CHUNKS.iter().map(move |chunks| (path, chunks)))
    {
        let method = if path.len() > 10 { "PUT" } else { "POST" };
        let head = format!("{method} /api/v1/{path} HTTP/1.1\r\nHost: a\r\n");
        let offence = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}");
        kit.try_out(offence, Fate::Closed).await;
    }
    kit.end(200).await;
}

#[tokio::test]
async fn a_body_that_no_request_may_have_is_refused() {
    let mut kit = Kit::start().await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for method in ["GET", "HEAD"] {
        for framed in [
            "Content-Length: 4\r\n\r\nabcd".to_owned(),
            "Content-Length: 70\r\n\r\n".to_owned(),
            format!("{chunked}3\r\nabc\r\n0\r\n\r\n"),
            format!("{chunked}0\r\n\r\n"),
            "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
        ] {
            for path in [STORED, "/api/v1/people", "/api/v1/people/user_9?x=y"] {
                let offence = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{framed}");
                kit.try_out(offence, Fate::Closed).await;
            }
        }
    }
    for method in ["GET", "POST", "PUT"] {
        for line in ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"] {
            for rest in ["", "Connection: keep-alive\r\n", "Content-Length: 3\r\n"] {
                let head = format!("{method} /api/v1/people HTTP/1.0\r\nHost: a\r\n{rest}{line}");
                kit.try_out(format!("{head}\r\n\r\n0\r\n\r\n"), Fate::Closed)
                    .await;
            }
        }
    }
    kit.end(48).await;
}

#[tokio::test]
async fn what_is_framed_as_it_should_be_goes_through() {
    let kit = Kit::start().await;
    for framed in [
        "Content-Length: 2\r\n\r\n{}",
        "Content-Length:2\r\n\r\n{}",
        "Content-Length: \t2 \r\n\r\n{}",
        "Content-Length: 0002\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "transfer-encoding: CHUNKED\r\n\r\n02\r\n{}\r\n000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1;a=\"b c\"\r\n{\r\n1\r\n}\r\n0;x\r\nX-T: y\r\n\r\n",
    ] {
        let harness = kit.harness();
        let mut wire = crate::support::Wire::connect(harness.address()).await;
        let head = "POST /api/v1/track HTTP/1.1\r\nHost: a\r\n";
        wire.send(format!(
            "{head}{framed}\r\nGET {STORED} HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
        assert_ne!(wire.answer().await.header("x-request-id"), "");
        assert!(
            wire.answer().await.cache_status().starts_with("hit"),
            "{framed}"
        );
        let sent = harness.flameup.received().pop().expect("a forward");
        assert_eq!(sent.body, "{}");
        assert_eq!(sent.headers["content-length"], "2");
        harness.flameup.clear_received();
    }
}
