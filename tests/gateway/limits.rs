//! What limits do to whoever meets them, over HTTP/1: refused quickly, counted, and everybody else
//! goes on.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::DEMO_KEY;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::metrics::metrics;
use crate::support::{Harness, Process, Setup, Wire, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Longer than any limit that these tests set, and shorter than any that is set by default.
const SOON: Duration = Duration::from_secs(5);

async fn assert_counted(harness: &Harness, limit: &str) {
    let name = format!("limits_reached_total{{limit=\"{limit}\"}}");
    let text = metrics(harness).await.text;
    assert!(text.contains(&name), "{limit} is not in {text}");
}

async fn connect_from(last: u8, address: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    let local = (Ipv4Addr::new(127, 0, 0, last), 0);
    socket.bind(local.into()).expect("a loopback address");
    Wire::over(socket.connect(address).await.expect("it accepts"))
}

#[tokio::test]
async fn one_address_cannot_take_the_connections_of_all() {
    let harness = Setup::new()
        .config("server.limits.connections_per_peer = 2")
        .start()
        .await;
    let mut ours = Vec::new();
    for _ in 0..2 {
        let mut wire = connect_from(2, harness.address()).await;
        wire.ask(PERSON).await;
        assert_eq!(wire.answer().await.status, 200);
        ours.push(wire);
    }
    let started = Instant::now();
    connect_from(2, harness.address())
        .await
        .assert_closed()
        .await;
    assert!(started.elapsed() < SOON);
    let mut other = connect_from(3, harness.address()).await;
    other.ask(PERSON).await;
    assert_eq!(other.answer().await.status, 200);
    for wire in &mut ours {
        wire.ask(PERSON).await;
        assert_eq!(wire.answer().await.status, 200);
    }
    assert_counted(&harness, "connections_per_peer").await;
    ours.pop();
    within(async {
        loop {
            let mut wire = connect_from(2, harness.address()).await;
            let asked = wire.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if asked && !wire.is_closed().await {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_target_beyond_its_bytes_is_refused_and_counted() {
    let harness = Setup::new()
        .config("server.limits.target_bytes = \"256B\"")
        .start()
        .await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.ask(&format!("{PERSON}?{}", "x".repeat(256 - PERSON.len() - 1)))
        .await;
    assert_eq!(wire.answer().await.status, 200);
    wire.ask(&format!("{PERSON}?{}", "x".repeat(256 - PERSON.len())))
        .await;
    let answer = wire.answer().await;
    answer.assert_own(414, "http_request_error");
    assert_eq!(answer.header("connection"), "close");
    wire.assert_closed().await;
    assert_eq!(harness.forwards(), 1);
    assert_counted(&harness, "target_bytes").await;
}

#[tokio::test]
async fn heads_and_bodies_beyond_their_size_are_counted() {
    let harness = Setup::new()
        .config("server.limits.body_bytes = \"10B\"\nserver.limits.headers = 5")
        .config("anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]")
        .start()
        .await;
    let ten = "X-Many: 1\r\n".repeat(10);
    let large = format!("X-Large: {}\r\n", "x".repeat(20_000));
    let long = "Content-Length: 11\r\nContent-Type: application/json\r\n".to_owned();
    for (method, lines, status, limit) in [
        ("GET", ten, 431, "header_bytes"),
        ("GET", large, 431, "header_bytes"),
        ("PUT", long, 413, "body_bytes"),
    ] {
        let mut wire = Wire::connect(harness.address()).await;
        wire.send(format!(
            "{method} {PERSON} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"
        ))
        .await;
        assert_eq!(wire.answer().await.status, status);
        assert_counted(&harness, limit).await;
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn the_first_request_has_a_time_of_its_own() {
    let harness = Setup::new()
        .config("server.limits.first_request_timeout = \"300ms\"")
        .start()
        .await;
    let mut silent = Wire::connect(harness.address()).await;
    let mut slow = Wire::connect(harness.address()).await;
    slow.send("GET / HTTP/1.1\r\nHost:").await;
    // What could still become HTTP/2.
    let mut undecided = Wire::connect(harness.address()).await;
    undecided.send("PR").await;
    let mut idle = Wire::connect(harness.address()).await;
    idle.ask(PERSON).await;
    assert_eq!(idle.answer().await.status, 200);
    let started = Instant::now();
    silent.assert_closed().await;
    for wire in [&mut slow, &mut undecided] {
        wire.answer().await.assert_own(408, "http_request_error");
        wire.assert_closed().await;
    }
    assert!(started.elapsed() < SOON);
    idle.ask(PERSON).await;
    assert_eq!(idle.answer().await.status, 200);
    assert_counted(&harness, "first_request_timeout").await;
}

#[tokio::test]
async fn a_byte_at_a_time_gains_no_time_for_a_body() {
    let harness = Setup::new()
        .config("server.limits.body_timeout = \"300ms\"")
        .config("anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]")
        .start()
        .await;
    for (method, path) in [("POST", "/gateway/v1/people/lookup"), ("PUT", PERSON)] {
        let started = Instant::now();
        let mut wire = Wire::connect(harness.address()).await;
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: 100000\r\n\r\n{{"
        ))
        .await;
        // The pace of this client is its subject, and not how the test waits for something.
        while started.elapsed() < SOON && wire.try_send(" ").await && !wire.has_answer().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wire.answer().await.assert_own(408, "http_request_error");
        assert!(started.elapsed() < SOON, "{method}");
        wire.assert_closed().await;
    }
    assert_counted(&harness, "body_timeout").await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_counted() {
    let harness = Setup::new()
        .config("server.limits.send_timeout = \"200ms\"")
        .start()
        .await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let stream = socket.connect(harness.address()).await;
    let mut wire = Wire::over(stream.expect("the gateway accepts"));
    let request = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(100);
    let more = || Duration::from_millis(100);
    while let Ok(true) = tokio::time::timeout(more(), wire.try_send(&request)).await {}
    within(async {
        while !metrics(&harness)
            .await
            .text
            .contains("limit=\"send_timeout\"")
        {}
    })
    .await;
}

#[tokio::test]
async fn without_descriptors_newcomers_are_refused_too_and_the_others_go_on() {
    let environment = [
        ("FLAMEUP_API_KEY", DEMO_KEY),
        ("FLAMEUP_GATEWAY__SERVER__LISTEN", "127.0.0.1:0"),
        ("FLAMEUP_GATEWAY__SERVER__WORKERS", "1"),
        ("FLAMEUP_GATEWAY__ADMIN__LISTEN", "off"),
        ("FLAMEUP_GATEWAY__TELEMETRY__LOG_FORMAT", "json"),
    ];
    let mut command = Command::new("/bin/sh");
    let script = "ulimit -n 40; exec \"$0\" serve";
    command.args(["-c", script, env!("CARGO_BIN_EXE_flameup-gateway")]);
    let mut gateway = Process::spawn(command.stdin(Stdio::null()), &environment);
    let line: Value = serde_json::from_str(&gateway.line_with("serving")).expect("JSON");
    let address = line["server.address"].as_str().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    let (mut served, mut refused) = (Vec::new(), 0);
    let started = Instant::now();
    for _ in 0..100 {
        let mut wire = Wire::connect(address).await;
        let asked = wire
            .try_send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        if asked && !within(wire.is_closed()).await {
            assert_eq!(wire.answer().await.status, 404);
            served.push(wire);
        } else {
            refused += 1;
        }
    }
    assert!(started.elapsed() < SOON, "they are told at once");
    assert!(
        served.len() > 10 && refused > 50,
        "{} {refused}",
        served.len()
    );
    for wire in &mut served {
        wire.ask("/nowhere").await;
        assert_eq!(wire.answer().await.status, 404);
    }
    drop(served);
    within(async {
        loop {
            let mut wire = Wire::connect(address).await;
            let asked = wire.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if asked && !wire.is_closed().await {
                return;
            }
        }
    })
    .await;
}

/// Descriptors that a process has open.
fn descriptors(process: u32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    open.count()
}

#[tokio::test]
async fn at_the_limit_newcomers_are_refused_and_descriptors_come_back() {
    const ROOM: usize = 50;
    let environment = [
        ("FLAMEUP_API_KEY", DEMO_KEY),
        ("FLAMEUP_GATEWAY__SERVER__LISTEN", "127.0.0.1:0"),
        ("FLAMEUP_GATEWAY__ADMIN__LISTEN", "off"),
        ("FLAMEUP_GATEWAY__SERVER__LIMITS__CONNECTIONS", "50"),
        ("FLAMEUP_GATEWAY__TELEMETRY__LOG_FORMAT", "json"),
    ];
    let mut gateway = Process::start(&["serve"], &environment);
    let line: Value = serde_json::from_str(&gateway.line_with("serving")).expect("JSON");
    let address = line["server.address"].as_str().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    let mut first = Wire::connect(address).await;
    first.ask("/nowhere").await;
    assert_eq!(first.answer().await.status, 404);
    let before = descriptors(gateway.id());

    for _ in 0..3 {
        let mut others = Vec::new();
        for _ in 1..ROOM {
            let mut wire = Wire::connect(address).await;
            wire.ask("/nowhere").await;
            assert_eq!(wire.answer().await.status, 404);
            others.push(wire);
        }
        let started = Instant::now();
        for _ in 0..200 {
            let mut stream = TcpStream::connect(address).await.expect("a handshake");
            let end = within(stream.read(&mut [0])).await;
            assert!(matches!(end, Ok(0) | Err(_)), "it is not served");
        }
        assert!(started.elapsed() < SOON, "they are told at once");
        assert!(descriptors(gateway.id()) < before + ROOM + 5);
        for wire in others.iter_mut().chain([&mut first]) {
            wire.ask("/nowhere").await;
            assert_eq!(wire.answer().await.status, 404);
        }
        drop(others);
        within(async {
            while descriptors(gateway.id()) > before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
