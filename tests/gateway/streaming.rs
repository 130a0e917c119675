//! Bodies go through piece by piece, within limits, and never with the key in them.

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind};
use std::time::Duration;

use crate::support::passing::{Origin, open};
use crate::support::{Harness, Wire, within};

const LIST: &str = "/api/v1/people";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

/// A gateway before an upstream that the test plays.
async fn played(config: &str) -> (Origin, Harness) {
    let origin = Origin::listen().await;
    let setup = open().upstream(&origin.base_url()).config(config);
    let harness = setup.start().await;
    (origin, harness)
}

/// A client that has asked for a list, and the upstream that was asked.
async fn asked(origin: &Origin, harness: &Harness) -> (Wire, Wire) {
    let client = harness.asking(LIST, &[]).await;
    let mut upstream = origin.accept().await;
    upstream.until("\r\n\r\n").await;
    (client, upstream)
}

#[tokio::test]
async fn the_first_part_of_an_answer_is_there_while_the_rest_is_still_to_come() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let chunked = framing.starts_with('T');
        let (origin, harness) = played("").await;
        let (mut client, mut upstream) = asked(&origin, &harness).await;
        upstream.send(format!("{OK}{framing}\r\n\r\n")).await;
        let head = client.until("\r\n\r\n").await.to_lowercase();
        assert!(head.contains(&framing.to_lowercase()), "{head}");
        upstream
            .send(if chunked { "5\r\nfirst\r\n" } else { "first" })
            .await;
        client.until("first").await;
        let last = if chunked {
            "5\r\nagain\r\n0\r\nX-T: 1\r\n\r\n"
        } else {
            "again"
        };
        upstream.send(last).await;
        client.until("again").await;
        if chunked {
            assert_eq!(
                client.until("0\r\n\r\n").await,
                "\r\n0\r\n\r\n",
                "no trailers"
            );
        }
        client.ask("/nowhere").await;
        assert_eq!(client.answer().await.status, 404, "the connection goes on");
    }
}

/// A chunk beyond what is taken in before anything is sent.
fn long_chunk() -> String {
    format!("10000\r\n{}\r\n", " ".repeat(0x10000))
}

#[tokio::test]
async fn the_first_part_of_a_request_is_on_its_way_while_the_rest_is_still_to_come() {
    let (origin, harness) = played("").await;
    let mut client = Wire::connect(harness.address()).await;
    let head = "POST /api/v1/people HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{}", long_chunk())).await;
    let mut upstream = origin.accept().await;
    upstream.until("\r\n\r\n").await;
    client.send("4\r\n{\"a\"\r\n3\r\n:1}\r\n").await;
    // The latest piece waits until it is certain whom the body names.
    upstream.until("{\"a\"").await;
    client.send("0\r\n\r\n").await;
    upstream.until(":1}\r\n0\r\n\r\n").await;
    upstream
        .send(format!("{OK}Content-Length: 2\r\n\r\n{{}}"))
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"{}"[..]));
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_so() {
    let (origin, harness) = played("").await;
    let mut client = Wire::connect(harness.address()).await;
    client
        .send("POST /api/v1/track HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("{}").await;
    let mut upstream = origin.accept().await;
    let request = upstream.until("{}").await.to_lowercase();
    assert!(!request.contains("expect"), "{request}");
    upstream
        .send(format!("{OK}Content-Length: 2\r\n\r\n[]"))
        .await;
    assert_eq!(client.answer().await.body, "[]");
}

#[tokio::test]
async fn the_key_is_cut_out_of_a_stream_before_its_first_byte() {
    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    for quoted in [DEMO_KEY, secret] {
        for cut in [0, 1, 7, quoted.len() - 1] {
            let (origin, harness) = played("").await;
            let (mut client, mut upstream) = asked(&origin, &harness).await;
            upstream
                .send(format!("{OK}Content-Length: 900\r\n\r\nbefore|"))
                .await;
            let mut seen = client.until("before|").await;
            upstream.send(&quoted[..cut]).await;
            harness.settle().await;
            assert!(!client.has_answer().await, "nothing of the key is out");
            upstream.send(format!("{}and more", &quoted[cut..])).await;
            seen += &String::from_utf8(client.rest().await).expect("text");
            assert!(seen.ends_with("before|"), "{seen}");
        }
    }
}

#[tokio::test]
async fn what_only_begins_like_the_key_comes_through_whole() {
    let (origin, harness) = played("").await;
    let (mut client, mut upstream) = asked(&origin, &harness).await;
    let begun = &DEMO_KEY[..DEMO_KEY.len() - 1];
    let length = 2 * begun.len();
    upstream
        .send(format!("{OK}Content-Length: {length}\r\n\r\n{begun}"))
        .await;
    upstream.send(begun).await;
    assert_eq!(client.answer().await.body, begun.repeat(2));
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_takes_too_long_is_cut_and_never_passed_for_whole() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        for closes in [true, false] {
            let (origin, harness) =
                played("upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"").await;
            let (mut client, mut upstream) = asked(&origin, &harness).await;
            let body = if framing.starts_with('T') {
                "5\r\nfirst\r\n"
            } else {
                "first"
            };
            upstream.send(format!("{OK}{framing}\r\n\r\n{body}")).await;
            client.until("first").await;
            let upstream = (!closes).then_some(upstream);
            let rest = String::from_utf8(client.rest().await).expect("text");
            assert!(!rest.contains("0\r\n\r\n"), "{rest}");
            drop(upstream);
        }
    }
}

#[tokio::test]
async fn a_slow_drip_gains_nothing_over_the_deadline() {
    let config = "upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"";
    let harness = open().config(config).start().await;
    harness.fault(FaultKind::SlowDrip {
        bytes: 1,
        every: Duration::from_millis(20),
    });
    let mut client = harness.asking(LIST, &[]).await;
    client.until("{").await;
    let rest = client.rest().await;
    assert!(rest.len() < 100, "{}", rest.len());
}

#[tokio::test]
async fn a_body_that_is_too_large_by_its_own_account_is_a_413_and_not_sent() {
    let harness = open()
        .config("server.limits.body_bytes = \"1KiB\"")
        .start()
        .await;
    let mut client = harness.client().await;
    let answer = client
        .send_with("POST", "/api/v1/track", &[], "x".repeat(1025))
        .await;
    answer.assert_own(413, "http_request_error");
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(harness.flameup.arrivals(), 0);
    let just = harness
        .client()
        .await
        .send_with("POST", "/api/v1/x", &[], "x".repeat(1024))
        .await;
    assert_eq!(just.status, 404, "by Flameup");
    assert_eq!(harness.flameup.arrivals(), 1);
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_a_413_and_never_whole_at_flameup() {
    let (origin, harness) = played("server.limits.body_bytes = \"65546B\"").await;
    let mut client = Wire::connect(harness.address()).await;
    let head = "POST /api/v1/people HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client
        .send(format!("{head}{}4\r\nabcd\r\n", long_chunk()))
        .await;
    let mut upstream = origin.accept().await;
    upstream.until("\r\n\r\n").await;
    client.send("7\r\nefghijk\r\n").await;
    let answer = client.answer().await;
    answer.assert_own(413, "http_request_error");
    assert_eq!(answer.header("connection"), "close");
    let rest = String::from_utf8(upstream.rest().await).expect("text");
    assert!(!rest.contains("0\r\n\r\n") && !rest.contains('e'), "{rest}");
}

#[tokio::test]
async fn a_body_that_is_broken_from_the_first_is_never_begun_at_flameup() {
    let harness = open()
        .config("server.limits.body_bytes = \"10B\"")
        .start()
        .await;
    for (chunks, status) in [
        ("4\r\nabcd\r\n7\r\nefghijk\r\n", 413),
        ("4\r\nabcde\r\n", 400),
    ] {
        let mut client = Wire::connect(harness.address()).await;
        let head = "POST /api/v1/people HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked";
        client.send(format!("{head}\r\n\r\n{chunks}")).await;
        client
            .answer()
            .await
            .assert_own(status, "http_request_error");
        client.assert_closed().await;
    }
    assert_eq!(harness.flameup.connections(), 0);
}

#[tokio::test]
async fn a_body_that_does_not_end_in_time_is_a_408() {
    let config = "upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"";
    let (origin, harness) = played(config).await;
    let mut client = Wire::connect(harness.address()).await;
    client
        .send("POST /api/v1/people HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let _upstream = origin.accept().await;
    let answer = client.answer().await;
    answer.assert_own(408, "http_request_error");
    assert_eq!(answer.header("connection"), "close");
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_body_takes_the_request_with_it() {
    for (framing, first) in [
        ("Content-Length: 9", String::new()),
        ("Transfer-Encoding: chunked", long_chunk()),
    ] {
        let (origin, harness) = played("").await;
        let mut client = Wire::connect(harness.address()).await;
        client
            .send(format!(
                "POST /api/v1/people HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{first}4\r\nabc"
            ))
            .await;
        let mut upstream = origin.accept().await;
        upstream.until("\r\n\r\n").await;
        drop(client);
        let rest = String::from_utf8(upstream.rest().await).expect("text");
        let whole = rest.contains("0\r\n\r\n") || rest.len() == 9 && framing.starts_with('C');
        assert!(!whole, "{rest}");
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_ends_the_connection() {
    let (origin, harness) = played("").await;
    let mut client = Wire::connect(harness.address()).await;
    client
        .send("POST /api/v1/people HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        .await;
    let mut upstream = origin.accept().await;
    upstream.until("\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nown")
        .await;
    let answer = client.answer().await;
    answer.assert_flameups(413, b"own");
    assert_eq!(answer.header("connection"), "close");
    within(client.rest()).await;
}

#[tokio::test]
async fn a_pause_in_flameups_answer_is_no_idle_client() {
    let (origin, harness) = played("server.limits.idle_timeout = \"100ms\"").await;
    let (mut client, mut upstream) = asked(&origin, &harness).await;
    upstream
        .send(format!("{OK}Content-Length: 10\r\n\r\nfirst"))
        .await;
    client.until("first").await;
    let closed = tokio::time::timeout(Duration::from_millis(400), client.is_closed()).await;
    assert!(closed.is_err(), "nothing happens to the connection");
    upstream.send("again").await;
    client.until("again").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_keeps_no_place_beyond_the_deadline() {
    let config = "upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"";
    let (origin, harness) = played(config).await;
    let (_client, mut upstream) = asked(&origin, &harness).await;
    upstream
        .send(format!("{OK}Content-Length: 15000000\r\n\r\n"))
        .await;
    // More than all buffers take: it ends when the gateway hangs up.
    let piece = vec![b'x'; 16 * 1024];
    while upstream.try_send(&piece).await {}
}
