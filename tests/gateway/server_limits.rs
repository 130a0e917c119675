//! What one client can cost: connections, time, bytes, and requests that two readers might read
//! differently.

use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, Sources};
use flameup_gateway::sandbox::DEMO_KEY;
use flameup_gateway::serve::Running;
use http::{HeaderMap, HeaderValue};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use crate::support::{H2, Harness, Setup, Wire, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Waits until a new connection is served again.
async fn room(harness: &Harness) -> Wire {
    within(async {
        loop {
            let mut wire = Wire::connect(harness.address()).await;
            if wire
                .try_send("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                && !wire.is_closed().await
            {
                return wire;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_and_the_others_go_on() {
    let harness = Setup::new()
        .config("server.limits.connections = 2")
        .start()
        .await;
    let (mut one, mut two) = (
        Wire::connect(harness.address()).await,
        Wire::connect(harness.address()).await,
    );
    for wire in [&mut one, &mut two] {
        wire.ask(PERSON).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    let started = Instant::now();
    Wire::connect(harness.address()).await.assert_closed().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    one.ask(PERSON).await;
    assert_eq!(one.answer().await.status, 200);
    drop(two);
    assert_eq!(room(&harness).await.answer().await.status, 404);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let config =
        "server.limits.idle_timeout = \"200ms\"\nserver.limits.first_request_timeout = \"200ms\"";
    let harness = Setup::new().config(config).start().await;
    let hold = harness.hold("user_1");
    let mut busy = Wire::connect(harness.address()).await;
    busy.ask(PERSON).await;
    let mut idle = Wire::connect(harness.address()).await;
    idle.ask("/nowhere").await;
    assert_eq!(idle.answer().await.status, 404);
    let mut silent = Wire::connect(harness.address()).await;
    idle.assert_closed().await;
    silent.assert_closed().await;
    assert!(hold.arrived(1).await);
    hold.release();
    assert_eq!(busy.answer().await.status, 200);
    busy.assert_closed().await;
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed() {
    let config = "server.limits.idle_timeout = \"200ms\"\nserver.limits.header_timeout = \"200ms\"";
    let harness = Setup::new().config(config).start().await;
    let mut client = H2::connect(harness.address()).await;
    assert_eq!(client.get(PERSON).await.status, 200);
    within(client.closed()).await;
}

#[tokio::test]
async fn a_byte_at_a_time_gains_no_time_for_a_head() {
    let config = "server.limits.header_timeout = \"300ms\"\nserver.limits.idle_timeout = \"60s\"";
    let harness = Setup::new().config(config).start().await;
    let started = Instant::now();
    let mut wire = Wire::connect(harness.address()).await;
    wire.send("GET /api/v1/people/user_1 HTTP/1.1\r\nX-Slow: ")
        .await;
    // The pace of this client is its subject, and not how the test waits for something.
    while started.elapsed() < Duration::from_secs(5) && wire.try_send("x").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if wire.has_answer().await {
            break;
        }
    }
    assert_eq!(wire.answer().await.status, 408);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    wire.assert_closed().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_does_not_keep_its_connection() {
    let config = "server.limits.send_timeout = \"200ms\"\nserver.limits.connections = 1";
    let harness = Setup::new().config(config).start().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut wire = Wire::over(
        socket
            .connect(harness.address())
            .await
            .expect("the gateway accepts"),
    );
    let request = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(100);
    // Requests until the gateway takes no more, for it cannot get rid of the answers.
    while let Ok(true) =
        tokio::time::timeout(Duration::from_millis(100), wire.try_send(&request)).await
    {}
    assert_eq!(room(&harness).await.answer().await.status, 404);
}

#[tokio::test]
async fn a_read_with_a_body_is_refused_and_its_connection_closed() {
    let harness = Harness::start().await;
    for body in [
        "Content-Length: 58\r\n\r\nGET /api/v1/people/user_2 HTTP/1.1\r\nHost: smuggled\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/people/user_2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut wire = Wire::connect(harness.address()).await;
        wire.send(format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n{body}"))
            .await;
        let answer = wire.answer().await;
        answer.assert_own(400, "http_request_error");
        assert_eq!(answer.header("connection"), "close");
        wire.assert_closed().await;
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn two_framings_are_refused_and_the_connection_closed() {
    // RFC 9112 section 6.1: what smuggling is made of.
    let harness = Harness::start().await;
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: gzip\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n",
    ] {
        let mut wire = Wire::connect(harness.address()).await;
        let smuggled = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.send(format!(
            "GET {PERSON} HTTP/1.1\r\nHost: a\r\n{framing}{smuggled}"
        ))
        .await;
        wire.answer().await.assert_own(400, "http_request_error");
        wire.assert_closed().await;
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_refused_and_its_connection_closed() {
    let harness = Harness::start().await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        let mut wire = Wire::connect(harness.address()).await;
        let next = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.send(format!("GET {PERSON} HTTP/1.1\r\n{hosts}\r\n{next}"))
            .await;
        wire.answer().await.assert_own(400, "http_request_error");
        wire.assert_closed().await;
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn a_target_in_absolute_form_must_name_the_host_that_host_names() {
    let harness = Harness::start().await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.send(format!(
        "GET http://a:80{PERSON} HTTP/1.1\r\nHost: A:80\r\n\r\n"
    ))
    .await;
    wire.answer()
        .await
        .assert_flameups(200, &harness.body("user_1"));
    wire.send(format!("GET http://b{PERSON} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    wire.answer().await.assert_own(400, "http_request_error");
    wire.assert_closed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut wire = Wire::connect(harness.address()).await;
    let ids = ["user_1", "nobody", "user_2", "user_1"];
    let requests = ids.map(|id| format!("GET /api/v1/people/{id} HTTP/1.1\r\nHost: a\r\n\r\n"));
    wire.send(requests.concat() + "nonsense\r\n\r\n").await;
    assert!(hold.arrived(1).await);
    hold.release();
    wire.answer()
        .await
        .assert_flameups(200, &harness.body("user_1"));
    assert_eq!(wire.answer().await.status, 404);
    wire.answer()
        .await
        .assert_flameups(200, &harness.body("user_2"));
    assert!(wire.answer().await.cache_status().starts_with("hit"));
    wire.answer().await.assert_own(400, "http_request_error");
    wire.assert_closed().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let harness = Harness::start().await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.send(format!("GET {PERSON} HTTP/1.0\r\n\r\n")).await;
    wire.answer()
        .await
        .assert_flameups(200, &harness.body("user_1"));
    wire.assert_closed().await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served() {
    let harness = Harness::start().await;
    let mut client = H2::connect(harness.address()).await;
    client
        .get(PERSON)
        .await
        .assert_flameups(200, &harness.body("user_1"));
    assert!(client.get(PERSON).await.cache_status().starts_with("hit"));
}

#[tokio::test]
async fn http2_headers_are_bounded_in_size_and_number() {
    let harness = Setup::new()
        .config("server.limits.headers = 10")
        .start()
        .await;
    let mut client = H2::connect(harness.address()).await;
    let mut many = HeaderMap::new();
    for _ in 0..11 {
        many.append("x-many", HeaderValue::from_static("1"));
    }
    let answer = client.try_send(PERSON, many).await.expect("an answer");
    answer.assert_own(431, "http_request_error");
    let mut large = HeaderMap::new();
    large.insert(
        "x-large",
        HeaderValue::from_str(&"x".repeat(20 * 1024)).expect("a value"),
    );
    let refused = client.try_send(PERSON, large).await;
    assert!(
        refused.as_ref().map_or(true, |answer| answer.status == 431),
        "{refused:?}"
    );
    assert_eq!(harness.forwards(), 0);
    let mut client = H2::connect(harness.address()).await;
    assert_eq!(client.get(PERSON).await.status, 200);
}

#[tokio::test]
async fn http2_streams_are_bounded() {
    let harness = Setup::new()
        .config("server.limits.h2_streams = 3")
        .start()
        .await;
    let hold = harness
        .flameup
        .hold(flameup_gateway::sandbox::Matcher::any());
    let mut client = H2::connect(harness.address()).await;
    assert_eq!(client.get("/nowhere").await.status, 404);
    let mut answers = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let mut client = client.clone();
        answers.spawn(async move { client.get(&Harness::path(&format!("user_{number}"))).await });
    }
    assert!(hold.arrived(3).await);
    harness.settle().await;
    assert_eq!(harness.forwards(), 3);
    hold.release();
    while let Some(answer) = within(answers.join_next()).await {
        assert_eq!(answer.expect("no panic").status, 200);
    }
}

#[tokio::test]
async fn a_connection_of_age_is_asked_to_close_between_requests() {
    let config =
        "server.limits.connection_max_age = \"1s\"\nserver.limits.header_timeout = \"400ms\"";
    let harness = Setup::new().config(config).start().await;
    let started = Instant::now();
    let mut wire = Wire::connect(harness.address()).await;
    let mut answers = 0;
    loop {
        if !wire
            .try_send(format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await
        {
            break;
        }
        if wire.is_closed().await {
            break;
        }
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        answers += 1;
        if answer.header("connection") == "close" {
            wire.assert_closed().await;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // Growing old takes real time.
    }
    assert!(answers > 1);
    let age = started.elapsed();
    assert!(
        (Duration::from_millis(700)..Duration::from_secs(3)).contains(&age),
        "{age:?}"
    );
}

fn unix_config(path: &std::path::Path) -> Config {
    let text = format!(
        "server.listen = [\"unix:{}\"]\nadmin.listen = \"off\"\n\
         upstream.base_url = \"http://127.0.0.1:9\"",
        path.display()
    );
    let environment = [("FLAMEUP_API_KEY", DEMO_KEY)];
    Config::load(&Sources::inline(text, environment))
        .expect("a valid configuration")
        .config
}

fn socket_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.sock");
    (directory, path)
}

#[tokio::test]
async fn a_unix_socket_is_served_and_its_file_removed_at_the_end() {
    let (_directory, path) = socket_path();
    let gateway = Running::start(&unix_config(&path), Clock::system())
        .await
        .expect("it starts");
    let kind = std::fs::symlink_metadata(&path)
        .expect("a file")
        .file_type();
    assert!(kind.is_socket());
    let mut wire = Wire::connect_unix(&path).await;
    wire.ask("/nowhere").await;
    wire.answer().await.assert_own(404, "http_request_error");
    drop(wire);
    within(gateway.drain()).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let (_directory, path) = socket_path();
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "left behind");
    let gateway = Running::start(&unix_config(&path), Clock::system())
        .await
        .expect("it starts");
    let second = Running::start(&unix_config(&path), Clock::system()).await;
    let error = second.expect_err("in use");
    assert!(error.to_string().contains("server.listen"), "{error}");
    let mut wire = Wire::connect_unix(&path).await;
    wire.ask("/nowhere").await;
    assert_eq!(wire.answer().await.status, 404, "the first goes on");
    drop(gateway);
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let (_directory, path) = socket_path();
    std::fs::write(&path, "precious").expect("a file");
    assert!(
        Running::start(&unix_config(&path), Clock::system())
            .await
            .is_err()
    );
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_still_sends() {
    // RFC 9112 section 9.6: closing on unread bytes would reset the connection, answer and all.
    let harness = Harness::start().await;
    let mut wire = Wire::connect(harness.address()).await;
    let head = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    wire.send(head + &"x".repeat(100_000)).await;
    let mut answer = Vec::new();
    within(wire.stream_mut().read_to_end(&mut answer))
        .await
        .expect("an end, and no reset");
    assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
}
