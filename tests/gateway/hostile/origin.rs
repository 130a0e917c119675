//! An upstream that does what none should.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, Matcher};

use crate::support::passing::{Origin, open};
use crate::support::{Harness, Wire};

const LIST: &str = "/api/v1/people";

/// Most forwards of one key under way at a time.
const MOST_FORWARDS: u64 = 64;

/// The key in the forms that encoders make of it.
fn quotes() -> Vec<String> {
    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    let hex: Vec<_> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    vec![
        DEMO_KEY.to_owned(),
        secret.to_owned(),
        format!("Bearer {DEMO_KEY}"),
        DEMO_KEY.to_uppercase(),
        DEMO_KEY.replace('.', "%2E").replace('_', "%5f"),
        DEMO_KEY.replace('.', "\\u002e"),
        format!("<b>{}</b>", DEMO_KEY.replace('.', "&#46;")),
        base64(DEMO_KEY),
        base64(secret),
        base64(&format!("Bearer {DEMO_KEY}")),
        base64(&format!("x:{DEMO_KEY}")),
        base64(&format!("{DEMO_KEY}:")),
        base64(&format!("{{\"key\":\"{DEMO_KEY}\",\"a\":1}}")),
        hex.to_uppercase(),
        hex,
    ]
}

/// As RFC 4648 §4 has it.
fn base64(text: &str) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let sign = usize::try_from(bits >> (18 - 6 * place) & 63).expect("six bits");
            let used = place <= three.len();
            out.push(if used { char::from(SIGNS[sign]) } else { '=' });
        }
    }
    out
}

/// An answer whose body quotes something, framed in three ways.
fn quoting(code: u16, quote: &str, framing: u8) -> FaultKind {
    let body = format!("{{\"error\":\"bad key {quote}\",\"message\":\"m\",\"code\":{code}}}");
    let head = format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n");
    let rest = match framing {
        0 => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        1 => format!("Connection: close\r\n\r\n{body}"),
        _ => {
            let chunk =
                |part: &[u8]| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part));
            let chunks: String = body.as_bytes().chunks(3).map(chunk).collect();
            format!("Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
        }
    };
    let bytes = (head + &rest).into_bytes();
    FaultKind::Raw { bytes }
}

/// Has Flameup answer well, so that it does not count as down.
async fn mend(harness: &Harness) {
    harness.pass(31);
    let anew = [("cache-control", "no-cache")];
    let answer = harness.get_with("/api/v1/people/user_1", &anew).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn no_error_that_quotes_the_key_in_any_form_reaches_a_client() {
    let harness = open().start().await;
    let secret = DEMO_KEY.split('.').next_back().expect("a secret half");
    let mut cases = 0;
    for quote in quotes() {
        for code in [400, 403, 404, 422, 500] {
            for framing in 0..3 {
                for target in ["/api/v1/people/user_900", LIST] {
                    harness
                        .flameup
                        .fault(Fault::new(quoting(code, &quote, framing)).once());
                    let answer = harness.get(target).await;
                    answer.assert_own(502, "http_protocol_error");
                    let told = format!("{answer:?}").to_lowercase();
                    assert!(!told.contains(secret) && !told.contains(&quote.to_lowercase()));
                    mend(&harness).await;
                    cases += 1;
                }
            }
        }
        for name in [
            "etag",
            "x-debug",
            "location",
            "content-language",
            "retry-after",
        ] {
            for target in ["/api/v1/people/user_900", LIST] {
                let head = format!("HTTP/1.1 404 X\r\n{name}: {quote}\r\n");
                let bytes = (head + "Content-Length: 2\r\n\r\n{}").into_bytes();
                harness
                    .flameup
                    .fault(Fault::new(FaultKind::Raw { bytes }).once());
                harness
                    .get(target)
                    .await
                    .assert_own(502, "http_protocol_error");
                mend(&harness).await;
                cases += 1;
            }
        }
    }
    assert!(cases >= 500, "{cases}");
}

#[tokio::test]
async fn a_compressed_answer_is_refused_whether_it_says_so_or_not() {
    let harness = open().start().await;
    for head in [
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: br\r\n",
        "Content-Encoding:\r\n",
        "",
    ] {
        for target in ["/api/v1/people/user_900", LIST] {
            let mut bytes =
                format!("HTTP/1.1 404 X\r\n{head}Content-Length: 4\r\n\r\n").into_bytes();
            bytes.extend(b"\x1f\x8b\x08\x00");
            harness
                .flameup
                .fault(Fault::new(FaultKind::Raw { bytes }).once());
            let answer = harness.get(target).await;
            answer.assert_own(502, "http_response_content_coding");
            mend(&harness).await;
        }
    }
}

#[tokio::test]
async fn an_error_that_drips_is_a_504_and_one_that_breaks_off_a_502() {
    let limits = "upstream.timeout = \"400ms\"\nupstream.connect_timeout = \"400ms\"";
    let harness = open().config(limits).start().await;
    let head = "HTTP/1.1 422 X\r\nContent-Length: 9\r\n\r\nabc";
    let bytes = head.as_bytes().to_vec();
    harness
        .flameup
        .fault(Fault::new(FaultKind::Raw { bytes }).once());
    harness
        .get(LIST)
        .await
        .assert_own(502, "http_response_incomplete");
    let origin = Origin::listen().await;
    let harness = open()
        .config(limits)
        .upstream(&origin.base_url())
        .start()
        .await;
    for target in ["/api/v1/people/user_1", LIST] {
        let began = Instant::now();
        let mut client = harness.asking(target, &[]).await;
        let mut upstream = origin.accept().await;
        upstream
            .send("HTTP/1.1 500 X\r\nContent-Length: 9999\r\n\r\n")
            .await;
        // A byte every now and then: the pace is the subject of this test.
        while upstream.try_send("x").await && !client.has_answer().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client
            .answer()
            .await
            .assert_own(504, "http_response_timeout");
        assert!(began.elapsed() < Duration::from_secs(3));
    }
}

#[tokio::test]
async fn connections_come_of_age_under_constant_traffic_and_take_no_answer_with_them() {
    for (age, many) in [("60ms", true), ("0s", false)] {
        let age = format!("upstream.connection_max_age = \"{age}\"");
        let harness = open().config(&age).start().await;
        let hold = harness.hold("user_1");
        let mut waiting = harness.asking("/api/v1/people/user_1", &[]).await;
        assert!(hold.arrived(1).await);
        for number in 2..30 {
            assert_eq!(
                harness
                    .get(&Harness::path(&format!("user_{number}")))
                    .await
                    .status,
                200
            );
            tokio::time::sleep(Duration::from_millis(10)).await; // Growing old takes real time.
        }
        hold.release();
        assert_eq!(waiting.answer().await.status, 200);
        let connections = harness.flameup.connections();
        assert_eq!(connections > 3, many, "{age}: {connections}");
    }
}

/// Answers one request with a 404 and keeps the connection.
async fn answered(upstream: &mut Wire) {
    upstream.until("\r\n\r\n").await;
    upstream
        .send("HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}")
        .await;
}

#[tokio::test]
async fn a_lookup_on_a_dying_connection_is_asked_once_more_on_a_new_one() {
    let origin = Origin::listen().await;
    let harness = open().upstream(&origin.base_url()).start().await;
    // Five connections that stay.
    let (mut clients, mut dying) = (Vec::new(), Vec::new());
    for number in 0..5 {
        clients.push(
            harness
                .asking(&Harness::path(&format!("user_{number}")), &[])
                .await,
        );
        let mut upstream = origin.accept().await;
        upstream.until("\r\n\r\n").await;
        dying.push(upstream);
    }
    for (client, upstream) in clients.iter_mut().zip(&mut dying) {
        upstream
            .send("HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\n{}")
            .await;
        assert_eq!(client.answer().await.status, 404);
    }
    // Each takes its next request and dies of it.
    let mut tasks = tokio::task::JoinSet::new();
    for mut upstream in dying {
        tasks.spawn(async move { !upstream.is_closed().await });
    }
    let mut client = harness.asking("/api/v1/people/user_9", &[]).await;
    let mut upstream = origin.accept().await;
    answered(&mut upstream).await;
    assert_eq!(client.answer().await.status, 404);
    drop((upstream, harness));
    let mut asked = 0;
    while let Some(one) = tasks.join_next().await {
        asked += usize::from(one.expect("no panic"));
    }
    assert_eq!(asked, 1, "one of the old ones was asked, and the new one");
}

#[tokio::test]
async fn a_change_on_a_dying_connection_is_not_sent_again() {
    let origin = Origin::listen().await;
    let harness = open().upstream(&origin.base_url()).start().await;
    let mut client = harness.asking(LIST, &[]).await;
    let mut upstream = origin.accept().await;
    answered(&mut upstream).await;
    client.answer().await;
    let post = "POST /api/v1/people HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    client.send(post).await;
    upstream.until("{}").await;
    drop(upstream);
    client
        .answer()
        .await
        .assert_own(502, "connection_terminated");
    // The next connection brings the next request, and not that one again.
    client.ask(LIST).await;
    let mut upstream = origin.accept().await;
    assert!(upstream.until("\r\n\r\n").await.starts_with("GET "));
}

#[tokio::test]
async fn forwards_under_way_are_bounded() {
    let harness = open().start().await;
    let hold = harness.flameup.hold(Matcher::any());
    let mut waiting = Vec::new();
    for number in 0..80 {
        waiting.push(
            harness
                .asking(&Harness::path(&format!("user_{number}")), &[])
                .await,
        );
    }
    assert!(hold.arrived(64).await);
    harness.settle().await;
    assert_eq!(harness.flameup.arrivals(), MOST_FORWARDS);
    hold.release();
    for wire in &mut waiting {
        assert!(matches!(wire.answer().await.status.as_u16(), 200 | 404));
    }
    assert_eq!(harness.flameup.arrivals(), 80);
}

#[tokio::test]
async fn a_redirection_is_neither_followed_nor_passed_on() {
    let elsewhere = Harness::start().await;
    let target = format!(
        "http://{}/api/v1/people/user_1",
        elsewhere.flameup.address()
    );
    let harness = open().start().await;
    for code in [300, 301, 302, 303, 305, 307, 308] {
        for asked in ["/api/v1/people/user_900", LIST] {
            let head =
                format!("HTTP/1.1 {code} X\r\nLocation: {target}\r\nRefresh: 0;url={target}");
            let bytes = format!("{head}\r\nContent-Length: 0\r\n\r\n").into_bytes();
            harness
                .flameup
                .fault(Fault::new(FaultKind::Raw { bytes }).once());
            let answer = harness.get(asked).await;
            answer.assert_own(502, "http_protocol_error");
            assert!(!format!("{answer:?}").contains(&target));
            mend(&harness).await;
        }
    }
    assert_eq!(elsewhere.flameup.connections(), 0);
}
