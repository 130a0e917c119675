//! Each fault by its bytes on the wire.

use std::io::ErrorKind;
use std::time::Duration;

use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, Matcher, Sandbox};
use http::Method;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{call, get, open_get, raw_get, reply, request, split, start, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Starts a stand-in with one fault; the body is what a read would answer without it.
async fn struck(kind: FaultKind) -> (Sandbox, String) {
    let sandbox = start().await;
    let body = sandbox
        .people()
        .body_by_external_id("user_1")
        .expect("exists");
    sandbox.fault(Fault::new(kind).on(Matcher::id("user_1")));
    (sandbox, String::from_utf8_lossy(&body).into_owned())
}

fn announced(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = line.expect("the head has a length");
    length.parse().expect("the length is a number")
}

#[tokio::test]
async fn hang_answers_nothing_and_ends_when_the_client_does() {
    let (sandbox, _) = struck(FaultKind::Hang).await;
    let mut stream = open_get(&sandbox, PERSON).await;
    assert!(sandbox.arrivals_reach(1).await);
    stream.shutdown().await.expect("can still be written to");
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes))
        .await
        .expect("a clean end");
    assert!(bytes.is_empty());
    assert_eq!(sandbox.received()[0].status, None);
}

#[tokio::test]
async fn reset_is_a_reset_before_and_within_the_body() {
    let (sandbox, _) = struck(FaultKind::Reset).await;
    let (bytes, ended) = raw_get(&sandbox, PERSON).await;
    assert_eq!(
        ended.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(bytes, "");
    let (sandbox, body) = struck(FaultKind::ResetMidBody).await;
    let (bytes, ended) = raw_get(&sandbox, PERSON).await;
    assert_eq!(
        ended.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    // What is in flight may be lost to the reset, but never is it more than half.
    assert!(bytes.is_empty() || split(&bytes).1 == &body[..body.len() / 2]);
}

#[tokio::test]
async fn truncate_announces_all_and_sends_a_part() {
    let (sandbox, body) = struck(FaultKind::Truncate { bytes: 100 }).await;
    let (bytes, ended) = raw_get(&sandbox, PERSON).await;
    ended.expect("a clean end");
    let (head, part) = split(&bytes);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(head.contains("x-ratelimit-remaining: "));
    assert_eq!((announced(head), part), (body.len(), &body[..100]));
}

#[tokio::test]
async fn lengths_lie_in_both_directions() {
    let (sandbox, body) = struck(FaultKind::LongLength { by: 7 }).await;
    let (bytes, _) = raw_get(&sandbox, PERSON).await;
    let (head, sent) = split(&bytes);
    assert_eq!((announced(head), sent), (body.len() + 7, body.as_str()));
    let (sandbox, body) = struck(FaultKind::ShortLength { by: 7 }).await;
    let mut stream = open_get(&sandbox, PERSON).await;
    stream.shutdown().await.expect("can still be written to");
    let mut bytes = String::new();
    within(stream.read_to_string(&mut bytes))
        .await
        .expect("text");
    let (head, sent) = split(&bytes);
    assert_eq!((announced(head), sent), (body.len() - 7, body.as_str()));
}

#[tokio::test]
async fn status_can_bring_headers_and_a_body_of_its_own() {
    let (sandbox, _) = struck(FaultKind::Status {
        code: 503,
        headers: vec![("retry-after".to_owned(), "7".to_owned())],
        body: None,
        shape: flameup_gateway::sandbox::ErrorShape::A,
    })
    .await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("7"))
    );
    assert_eq!(reply.json()["error"]["type"], "SERVICE_UNAVAILABLE");
    assert_eq!(get(&sandbox, "/api/v1/people/user_2").await.status, 200);
}

#[tokio::test]
async fn answers_can_be_whole_and_wrong() {
    let (sandbox, _) = struck(FaultKind::Html200).await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(reply.body.starts_with(b"<!doctype html>"));

    let external_id = "user_2".to_owned();
    let (sandbox, _) = struck(FaultKind::OtherPerson { external_id }).await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!(
        Some(reply.body),
        sandbox.people().body_by_external_id("user_2")
    );

    let (sandbox, _) = struck(FaultKind::EchoKey).await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!(reply.status, 500);
    assert!(String::from_utf8_lossy(&reply.body).contains(DEMO_KEY));
}

#[tokio::test]
async fn headers_are_added_to_the_normal_answer() {
    let (sandbox, body) = struck(FaultKind::SetCookie).await;
    let reply = get(&sandbox, PERSON).await;
    assert!(reply.header("set-cookie").is_some() && reply.header("x-hop").is_some());
    assert_eq!(reply.body, body);
    let headers = vec![("cache-control".to_owned(), "no-store".to_owned())];
    let (sandbox, body) = struck(FaultKind::Headers { headers }).await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.body, body);
}

#[tokio::test]
async fn drops_add_up_to_the_whole_answer() {
    let every = Duration::from_micros(10);
    for kind in [
        FaultKind::SlowDrip { bytes: 50, every },
        FaultKind::SlowHead { bytes: 50, every },
    ] {
        let (sandbox, body) = struck(kind).await;
        let (bytes, ended) = raw_get(&sandbox, PERSON).await;
        ended.expect("a clean end");
        let (head, sent) = split(&bytes);
        assert_eq!((announced(head), sent), (body.len(), body.as_str()));
    }
}

#[tokio::test]
async fn huge_bodies_are_as_large_as_asked_for_and_json() {
    let (sandbox, _) = struck(FaultKind::Huge { bytes: 3_000_000 }).await;
    let reply = get(&sandbox, PERSON).await;
    assert_eq!((reply.status, reply.body.len()), (200, 3_000_000));
    assert!(reply.json()["padding"].is_string());
}

#[tokio::test]
async fn raw_bytes_are_sent_as_they_are() {
    let (sandbox, _) = struck(FaultKind::Raw {
        bytes: b"SSH-2.0-nonsense\r\n".to_vec(),
    })
    .await;
    let (bytes, ended) = raw_get(&sandbox, PERSON).await;
    ended.expect("a clean end");
    assert_eq!(bytes, "SSH-2.0-nonsense\r\n");
}

#[tokio::test]
async fn close_idle_closes_without_saying_so() {
    let (sandbox, body) = struck(FaultKind::CloseIdle).await;
    let (bytes, ended) = raw_get(&sandbox, PERSON).await;
    ended.expect("a clean end");
    let (head, sent) = split(&bytes);
    assert!(!head.contains("connection:"));
    assert_eq!((announced(head), sent), (body.len(), body.as_str()));
}

#[tokio::test]
async fn delay_and_a_count_leave_the_next_answer_alone() {
    let sandbox = start().await;
    let by = Duration::from_millis(1);
    sandbox.fault(Fault::new(FaultKind::Delay { by }).once());
    sandbox.fault(Fault::new(FaultKind::Html200).once());
    assert_eq!(
        get(&sandbox, PERSON).await.header("content-type"),
        Some("application/json")
    );
    assert!(get(&sandbox, PERSON).await.body.starts_with(b"<"));
    assert!(get(&sandbox, PERSON).await.body.starts_with(b"{"));
    sandbox.fault(Fault::new(FaultKind::Html200));
    sandbox.clear_faults();
    assert!(get(&sandbox, PERSON).await.body.starts_with(b"{"));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_has_happened_unless_told_otherwise() {
    let sandbox = start().await;
    let body = r#"{"traits":{"first_name":"Lost"}}"#;
    let status = || FaultKind::Status {
        code: 500,
        headers: Vec::new(),
        body: None,
        shape: flameup_gateway::sandbox::ErrorShape::A,
    };
    let put = Matcher::method(Method::PUT);
    sandbox.fault(Fault::new(status()).on(put.clone()).once());
    assert_eq!(call(&sandbox, "PUT", PERSON, body).await.status, 500);
    assert_ne!(get(&sandbox, PERSON).await.json()["first_name"], "Lost");
    sandbox.fault(Fault::new(status()).on(put).once().applied(true));
    assert_eq!(call(&sandbox, "PUT", PERSON, body).await.status, 500);
    assert_eq!(get(&sandbox, PERSON).await.json()["first_name"], "Lost");
}

#[tokio::test]
async fn open_connections_can_be_closed_and_the_address_taken_again() {
    let sandbox = start().await;
    let mut stream = open_get(&sandbox, PERSON).await;
    assert!(sandbox.arrivals_reach(1).await);
    sandbox.close_connections();
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    assert_eq!(
        get(&sandbox, PERSON).await.status,
        200,
        "new ones are served"
    );
    let address = sandbox.address();
    sandbox.stop().await;
    let options = flameup_gateway::sandbox::Options::default().listen(address);
    let sandbox = crate::support::start_with(options).await;
    assert_eq!(get(&sandbox, PERSON).await.status, 200);
}

#[tokio::test]
async fn a_fault_strikes_a_connection_that_has_served_before() {
    let (sandbox, body) = struck(FaultKind::Truncate { bytes: 10 }).await;
    let stream = tokio::net::TcpStream::connect(sandbox.address())
        .await
        .expect("it listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .expect("a client");
    tokio::spawn(connection);
    let key = format!("Bearer {DEMO_KEY}");
    let headers = [("authorization", key.as_str())];
    for target in ["/api/v1/people/user_2", "/api/v1/people/user_3"] {
        sender.ready().await.expect("the connection is kept");
        let answer = sender
            .send_request(request("GET", target, &headers, ""))
            .await;
        assert_eq!(reply(answer.expect("an answer")).await.status, 200);
    }
    sender.ready().await.expect("the connection is kept");
    let answer = sender
        .send_request(request("GET", PERSON, &headers, ""))
        .await;
    let answer = answer.expect("a head");
    assert_eq!(
        answer.headers()["content-length"],
        body.len().to_string().as_str()
    );
    assert!(within(answer.into_body().collect()).await.is_err());
    assert_eq!(sandbox.connections(), 1);
    assert_eq!(sandbox.received()[2].connection, 1);
}
