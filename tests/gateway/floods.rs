//! What a client may do to an HTTP/2 connection that asks for nothing, or never ends: RFC 9113 §10.5.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::Matcher;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING,
    PRIORITY, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, code, frame, get, text,
};
use crate::support::metrics::metrics;
use crate::support::{Harness, Setup, within};

const PERSON: &str = "/api/v1/people/user_1";

const INITIAL_WINDOW_SIZE: u16 = 4;

/// Longer than any limit that these tests set, and shorter than any that is set by default.
const SOON: Duration = Duration::from_secs(5);

async fn assert_counted(harness: &Harness, limit: &str) {
    let name = format!("limits_reached_total{{limit=\"{limit}\"}}");
    let text = metrics(harness).await.text;
    assert!(text.contains(&name), "{limit} is not in {text}");
}

/// Asserts that somebody else is served as if nothing had happened.
async fn assert_others_are_served(harness: &Harness) {
    let mut other = Frames::connect(harness.address(), &[]).await;
    assert!(other.send(get(1, PERSON)).await);
    assert_eq!(other.answer(1).await.as_deref(), Some("200"));
}

#[tokio::test]
async fn requests_called_off_again_and_again_end_the_connection() {
    // What became known as rapid reset: each request costs the client two short frames.
    let harness = Setup::new()
        .config("server.limits.h2_resets = 20")
        .start()
        .await;
    let mut client = Frames::connect(harness.address(), &[]).await;
    let flood: Vec<u8> = (0..200)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            [
                get(stream, PERSON),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        })
        .collect();
    client.send(flood).await;
    assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM));
    assert_counted(&harness, "h2_resets").await;
    assert_others_are_served(&harness).await;
}

#[tokio::test]
async fn frames_that_ask_for_nothing_end_the_connection_when_there_are_too_many() {
    let harness = Setup::new()
        .config("server.limits.h2_control_frames = 50")
        .start()
        .await;
    let opened = frame(HEADERS, END_HEADERS, 1, &block("GET", PERSON, &[]));
    let floods = [
        ("ping", Vec::new(), frame(PING, 0, 0, &[0; 8])),
        ("settings", Vec::new(), frame(SETTINGS, 0, 0, &[])),
        (
            "table size",
            Vec::new(),
            frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]),
        ),
        (
            "priority",
            Vec::new(),
            frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
        ),
        (
            "window",
            Vec::new(),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
        ("unknown", Vec::new(), frame(0xee, 0, 0, b"whatever")),
        ("empty data", opened, frame(DATA, 0, 1, &[])),
    ];
    for (what, before, flood) in floods {
        let mut client = Frames::connect(harness.address(), &[]).await;
        client.send(before).await;
        client.send(flood.repeat(500)).await;
        assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM), "{what}");
    }
    assert_counted(&harness, "h2_control_frames").await;
    assert_others_are_served(&harness).await;
}

#[tokio::test]
async fn a_busy_client_that_pings_and_opens_its_window_is_no_flood() {
    let harness = Setup::new()
        .config("server.limits.h2_control_frames = 20")
        .start()
        .await;
    let mut client = Frames::connect(harness.address(), &[]).await;
    let between = [
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 2, 0]),
        frame(PING, 0, 0, &[0; 8]),
    ];
    for number in 0..100 {
        let stream = 2 * number + 1;
        assert!(client.send(get(stream, PERSON)).await);
        assert_eq!(client.answer(stream).await.as_deref(), Some("200"));
        assert!(client.send(between.concat()).await);
    }
}

#[tokio::test]
async fn a_header_block_in_countless_pieces_ends_the_connection() {
    let harness = Harness::start().await;
    for piece in [&b""[..], b"\0\x01a\x01b"] {
        let mut client = Frames::connect(harness.address(), &[]).await;
        client
            .send(frame(HEADERS, END_STREAM, 1, &block("GET", PERSON, &[])))
            .await;
        client
            .send(frame(CONTINUATION, 0, 1, piece).repeat(20_000))
            .await;
        assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM));
    }
    assert_eq!(harness.forwards(), 0);
    assert_others_are_served(&harness).await;
}

#[tokio::test]
async fn few_bytes_that_name_many_headers_are_refused() {
    // RFC 7541 §7.3: one entry of the dynamic table, named again and again by a byte each.
    let harness = Harness::start().await;
    let mut client = Frames::connect(harness.address(), &[]).await;
    let mut bomb = block("GET", PERSON, &[]);
    bomb.push(0x40);
    text(&mut bomb, "x-large");
    text(&mut bomb, &"x".repeat(3900));
    bomb.extend_from_slice(&[0xbe; 10_000]);
    client
        .send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
        .await;
    assert_ne!(client.answer(1).await.as_deref(), Some("200"));
    assert_eq!(harness.forwards(), 0);
    assert_others_are_served(&harness).await;
}

#[tokio::test]
async fn a_head_beyond_its_bytes_is_refused_in_our_words_and_counted() {
    let harness = Harness::start().await;
    let mut client = Frames::connect(harness.address(), &[]).await;
    let large = "x".repeat(4000);
    let fields: Vec<_> = ["x-a", "x-b", "x-c", "x-d", "x-e"]
        .map(|name| (name, &*large))
        .into();
    let block = block("GET", PERSON, &fields);
    let (first, rest) = block.split_at(16_384);
    client.send(frame(HEADERS, END_STREAM, 1, first)).await;
    client.send(frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    assert_eq!(client.answer(1).await.as_deref(), Some("431"));
    assert_counted(&harness, "header_bytes").await;
    client.send(get(3, &format!("/{}", "x".repeat(9000)))).await;
    assert_eq!(client.answer(3).await.as_deref(), Some("414"));
    assert_counted(&harness, "target_bytes").await;
    assert_eq!(harness.forwards(), 0);
    client.send(get(5, PERSON)).await;
    assert_eq!(client.answer(5).await.as_deref(), Some("200"));
}

#[tokio::test]
async fn a_header_block_that_never_ends_ends_the_connection() {
    let harness = Setup::new()
        .config("server.limits.header_timeout = \"200ms\"")
        .start()
        .await;
    let started = Instant::now();
    let mut client = Frames::connect(harness.address(), &[]).await;
    client.send(get(1, PERSON)).await;
    assert_eq!(client.answer(1).await.as_deref(), Some("200"));
    let block = block("GET", PERSON, &[]);
    client.send(frame(HEADERS, END_STREAM, 3, &block)).await;
    client.end().await;
    assert!(started.elapsed() < SOON);
    assert_counted(&harness, "header_timeout").await;
    assert_others_are_served(&harness).await;
}

#[tokio::test]
async fn a_window_that_is_never_opened_ends_the_connection_whatever_else_it_asks() {
    for window in [0, 1, 100] {
        let harness = Setup::new()
            .config("server.limits.send_timeout = \"200ms\"")
            .start()
            .await;
        let started = Instant::now();
        let settings = [(INITIAL_WINDOW_SIZE, window)];
        let mut client = Frames::connect(harness.address(), &settings).await;
        client.send(get(1, PERSON)).await;
        // What needs no window goes on, so that the connection is never idle.
        for number in 1.. {
            let stream = 2 * number + 1;
            let block = block("HEAD", PERSON, &[]);
            let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            if !client.send(head).await || client.answer(stream).await.is_none() {
                break;
            }
            assert!(started.elapsed() < SOON, "window {window}");
            tokio::time::sleep(Duration::from_millis(5)).await; // Being slow takes real time.
        }
        assert_counted(&harness, "send_timeout").await;
        assert_others_are_served(&harness).await;
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_a_408_and_the_connection_lives() {
    let harness = Setup::new()
        .config("server.limits.body_timeout = \"200ms\"")
        .start()
        .await;
    let mut client = Frames::connect(harness.address(), &[]).await;
    let json = [("content-type", "application/json")];
    let block = block("POST", "/gateway/v1/people/lookup", &json);
    client.send(frame(HEADERS, END_HEADERS, 1, &block)).await;
    client.send(frame(DATA, 0, 1, b"{\"ids\":[")).await;
    assert_eq!(client.answer(1).await.as_deref(), Some("408"));
    assert_counted(&harness, "body_timeout").await;
    client.send(get(3, PERSON)).await;
    assert_eq!(client.answer(3).await.as_deref(), Some("200"));
}

#[tokio::test]
async fn a_stream_too_many_is_refused_and_the_others_are_answered() {
    let harness = Setup::new()
        .config("server.limits.h2_streams = 2")
        .start()
        .await;
    let hold = harness.flameup.hold(Matcher::any());
    let mut client = Frames::connect(harness.address(), &[]).await;
    // The limit binds from when the client has said that it knows of it.
    client.find(|frame| frame.kind == SETTINGS).await;
    client.send(frame(SETTINGS, 1, 0, &[])).await;
    for (stream, id) in [(1, "user_1"), (3, "user_2"), (5, "user_3")] {
        client.send(get(stream, &Harness::path(id))).await;
    }
    let refused = client.find(|frame| frame.kind == RST_STREAM).await;
    let refused = refused.expect("a refusal");
    assert_eq!(
        (refused.stream, code(&refused.payload)),
        (5, REFUSED_STREAM)
    );
    assert!(hold.arrived(2).await);
    hold.release();
    let ended = |frame: &crate::support::frames::Frame| frame.flags & END_STREAM != 0;
    for _ in 0..2 {
        within(client.find(ended)).await.expect("an answer");
    }
}
