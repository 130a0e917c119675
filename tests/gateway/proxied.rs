//! Connections that are made for somebody else, and sockets that somebody else has bound.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::DEMO_KEY;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::identity::{Authority, Files, over};
use crate::support::metrics::metrics;
use crate::support::{Harness, Process, Setup, Wire, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Longer than any limit that these tests set, and shorter than any that is set by default.
const SOON: Duration = Duration::from_secs(5);

/// The proxy is 127.0.0.2; nobody may have more than one connection.
const PROXIED: &str = "server.proxy_protocol_from = [\"127.0.0.2\"]\n\
                       server.limits.connections_per_peer = 1";

async fn connect_from(last: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    let local = (Ipv4Addr::new(127, 0, 0, last), 0);
    socket.bind(local.into()).expect("a loopback address");
    socket.connect(address).await.expect("it accepts")
}

async fn proxied(harness: &Harness, header: &[u8]) -> Wire {
    let mut wire = Wire::over(connect_from(2, harness.address()).await);
    wire.send(header).await;
    wire
}

#[tokio::test]
async fn a_proxys_clients_are_counted_each_for_itself() {
    let harness = Setup::new().config(PROXIED).start().await;
    let one = b"PROXY TCP4 192.0.2.1 198.51.100.1 49152 80\r\n";
    let two = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 2, 198, 51, 100, 1, 0xc0, 0, 0, 80],
    ]
    .concat();
    let unknown = b"PROXY UNKNOWN\r\n";
    let mut served = Vec::new();
    for header in [&one[..], &two, unknown, unknown] {
        let mut wire = proxied(&harness, header).await;
        wire.ask(PERSON).await;
        assert_eq!(wire.answer().await.status, 200);
        served.push(wire);
    }
    for header in [&one[..], &two] {
        let mut wire = proxied(&harness, header).await;
        let ask = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.try_send(ask).await;
        assert!(wire.is_closed().await);
    }
    let text = metrics(&harness).await.text;
    assert!(
        text.contains("limits_reached_total{limit=\"connections_per_peer\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn who_is_trusted_must_send_a_header_and_nobody_else_may() {
    let config = format!("{PROXIED}\nserver.limits.handshake_timeout = \"200ms\"");
    let harness = Setup::new().config(&config).start().await;
    let ask = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n");
    for header in [&b""[..], b"PROXY TCP4 nonsense\r\n"] {
        let mut wire = proxied(&harness, header).await;
        wire.try_send(&ask).await;
        assert!(wire.is_closed().await, "{header:?}");
    }
    let started = Instant::now();
    let mut slow = proxied(&harness, b"PROXY TCP4 192.0.2.1").await;
    slow.assert_closed().await;
    assert!(started.elapsed() < SOON);
    let mut other = Wire::over(connect_from(3, harness.address()).await);
    other
        .send(b"PROXY TCP4 192.0.2.1 198.51.100.1 49152 80\r\n")
        .await;
    other.send(&ask).await;
    assert_eq!(other.answer().await.status, 400);
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn tls_follows_the_header() {
    let authority = Authority::new();
    let files = Files::new(&authority.pair("gateway", &["localhost"]), None);
    let config = format!("{PROXIED}\n{}", files.config(false));
    let harness = Setup::new().config(&config).start().await;
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.1 49152 443\r\n";
    let mut wire = proxied(&harness, header).await;
    let client = authority.client(None, &[]);
    let stream = std::mem::replace(wire.stream_mut(), connect_from(3, harness.address()).await);
    let mut wire = Wire::over(over(stream, &client).await.expect("TLS"));
    wire.ask(PERSON).await;
    assert_eq!(wire.answer().await.status, 200);
}

/// Starts the program as systemd does, with a socket as its descriptor 3.
fn started_with(socket: OwnedFd, listen: &str) -> Process {
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve";
    let digest = "0".repeat(64);
    let environment = [
        ("FLAMEUP_API_KEY", DEMO_KEY),
        ("FLAMEUP_GATEWAY__SERVER__LISTEN", listen),
        ("FLAMEUP_GATEWAY__ADMIN__LISTEN", "off"),
        ("FLAMEUP_GATEWAY__CLIENTS__A__WORKSPACE", "default"),
        ("FLAMEUP_GATEWAY__CLIENTS__A__TOKEN_SHA256", digest.as_str()),
    ];
    let mut command = Command::new("/bin/sh");
    let program = env!("CARGO_BIN_EXE_flameup-gateway");
    command.args(["-c", script, program]).stdin(socket);
    Process::spawn(&mut command, &environment)
}

#[tokio::test]
async fn sockets_of_a_systemd_unit_are_served_and_left_as_they_are() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut gateway = started_with(socket.into(), "systemd");
    gateway.line_with(&address.to_string());
    let mut wire = Wire::connect(address).await;
    wire.ask(PERSON).await;
    assert_eq!(wire.answer().await.status, 401);
    gateway.signal("TERM");
    assert!(within(async { gateway.end().0 }).await.success());

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("gateway.sock");
    let socket = UnixListener::bind(&path).expect("a socket");
    let mut gateway = started_with(socket.into(), "systemd,127.0.0.1:0");
    gateway.line_with("gateway.sock");
    let mut wire = Wire::connect_unix(&path).await;
    wire.ask(PERSON).await;
    assert_eq!(wire.answer().await.status, 401);
    gateway.signal("TERM");
    assert!(within(async { gateway.end().0 }).await.success());
    assert!(path.exists(), "it is not ours to remove");
}

#[tokio::test]
async fn without_sockets_of_a_systemd_unit_it_does_not_start() {
    let digest = "0".repeat(64);
    let environment = [
        ("FLAMEUP_API_KEY", DEMO_KEY),
        ("FLAMEUP_GATEWAY__SERVER__LISTEN", "systemd"),
        ("FLAMEUP_GATEWAY__CLIENTS__A__WORKSPACE", "default"),
        ("FLAMEUP_GATEWAY__CLIENTS__A__TOKEN_SHA256", digest.as_str()),
    ];
    let (status, lines) = Process::start(&["serve"], &environment).end();
    assert_eq!(status.code(), Some(2), "{lines:?}");
    assert!(lines.concat().contains("server.listen"), "{lines:?}");
}
