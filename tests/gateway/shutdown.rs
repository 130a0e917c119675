//! A gateway that is told to stop: what it accepted is answered, and it does stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{DEMO_KEY, Hold, Matcher, Options, Sandbox};
use tokio::net::TcpStream;

use crate::support::frames::{ACK, Frame, Frames, GOAWAY, PING, code, frame, get};
use crate::support::{Client, H2, Harness, Process, Setup, Wire, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Waits until the gateway says that it drains.
async fn draining(admin: SocketAddr) {
    within(async {
        loop {
            let answer = Client::connect(admin).await.get("/readyz").await;
            if answer.status == 503 {
                assert_eq!(answer.body, "draining\n");
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_accepted_is_answered_and_then_the_connection_closed() {
    let harness = Harness::start().await;
    let (address, admin) = (harness.address(), harness.admin_address());
    let hold = harness.hold("user_1");
    let mut waiting = Wire::connect(address).await;
    waiting.ask(PERSON).await;
    let mut h2 = H2::connect(address).await;
    let mut stream = h2.clone();
    let over_h2 = tokio::spawn(async move { stream.get(PERSON).await });
    assert!(hold.arrived(1).await);
    harness.settle().await;
    let body = harness.body("user_1");
    let Harness {
        gateway,
        flameup: _flameup,
        ..
    } = harness;
    let drain = tokio::spawn(gateway.drain());
    draining(admin).await;
    let live = Client::connect(admin).await.get("/livez").await;
    assert_eq!(live.status, 200, "it drains, and lives");
    // Nobody new is accepted once those who waited already have been.
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    assert!(!drain.is_finished());

    hold.release();
    let answer = waiting.answer().await;
    answer.assert_flameups(200, &body);
    assert_eq!(answer.header("connection"), "close");
    waiting.assert_closed().await;
    within(over_h2)
        .await
        .expect("no panic")
        .assert_flameups(200, &body);
    within(h2.closed()).await;
    within(drain).await.expect("no panic");
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test]
async fn the_end_of_an_http_2_connection_is_announced_and_streams_in_flight_are_answered() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut client = Frames::connect(harness.address(), &[]).await;
    assert!(client.send(get(1, PERSON)).await);
    assert!(hold.arrived(1).await);
    let Harness {
        gateway, flameup, ..
    } = harness;
    let drain = tokio::spawn(gateway.drain());
    // In two steps (RFC 9113 §6.8): what is on its way is still taken, and then nothing more.
    let is_goaway = |frame: &Frame| frame.kind == GOAWAY;
    let last_and_error = |frame: &Frame| (code(&frame.payload), code(&frame.payload[4..]));
    let announced = client.find(is_goaway).await.expect("an announcement");
    assert_eq!(last_and_error(&announced), (0x7fff_ffff, 0));
    let ping = client.find(|frame| frame.kind == PING).await;
    let ping = ping.expect("it wants to know when that was read");
    assert!(client.send(frame(PING, ACK, 0, &ping.payload)).await);
    let final_one = client.find(is_goaway).await.expect("the last stream");
    assert_eq!(last_and_error(&final_one), (1, 0));
    assert!(client.send(get(3, "/api/v1/people/user_2")).await);
    assert!(!drain.is_finished());

    hold.release();
    assert_eq!(client.answer(1).await.as_deref(), Some("200"));
    assert_eq!(client.end().await, None, "nothing was wrong");
    within(drain).await.expect("no panic");
    assert_eq!(flameup.arrivals(), 1, "what came after it was not taken");
}

#[tokio::test]
async fn a_request_just_sent_over_an_idle_connection_is_answered() {
    let harness = Harness::start().await;
    let mut wire = Wire::connect(harness.address()).await;
    wire.ask(PERSON).await;
    assert_eq!(wire.answer().await.status, 200);
    let body = harness.body("user_2");
    let Harness {
        gateway,
        flameup: _flameup,
        ..
    } = harness;
    // Polled once, the drain has begun before the request is on its way.
    let mut drain = Box::pin(gateway.drain());
    assert!(
        tokio::time::timeout(Duration::ZERO, &mut drain)
            .await
            .is_err()
    );
    wire.ask("/api/v1/people/user_2").await;
    let drain = tokio::spawn(drain);
    wire.answer().await.assert_flameups(200, &body);
    wire.assert_closed().await;
    within(drain).await.expect("no panic");
}

#[tokio::test]
async fn a_connection_that_waits_to_be_accepted_is_answered() {
    let harness = Harness::start().await;
    let body = harness.body("user_1");
    let mut wires = Vec::new();
    for _ in 0..20 {
        // Blocking calls: the gateway, on the same thread, gets no chance to accept meanwhile.
        let mut stream = std::net::TcpStream::connect(harness.address()).expect("a backlog");
        let request = format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("a buffer");
        stream.set_nonblocking(true).expect("a mode");
        wires.push(Wire::over(TcpStream::from_std(stream).expect("a socket")));
    }
    let Harness {
        gateway,
        flameup: _flameup,
        ..
    } = harness;
    let drain = tokio::spawn(gateway.drain());
    for wire in &mut wires {
        wire.answer().await.assert_flameups(200, &body);
    }
    within(drain).await.expect("no panic");
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let harness = Harness::start().await;
    let mut idle = Wire::connect(harness.address()).await;
    idle.ask("/nowhere").await;
    idle.answer().await;
    let mut silent = Wire::connect(harness.address()).await;
    let mut h2 = H2::connect(harness.address()).await;
    h2.get("/nowhere").await;
    let started = Instant::now();
    harness.gateway.drain().await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    idle.assert_closed().await;
    silent.assert_closed().await;
}

#[tokio::test]
async fn what_never_ends_is_ended_at_the_deadline() {
    let harness = Setup::new()
        .config("server.drain_timeout = \"300ms\"")
        .start()
        .await;
    let hold = harness.hold("user_1");
    let mut stuck = Wire::connect(harness.address()).await;
    stuck.ask(PERSON).await;
    assert!(hold.arrived(1).await);
    let started = Instant::now();
    harness.gateway.drain().await;
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(2)).contains(&took),
        "{took:?}"
    );
    stuck.assert_closed().await;
}

/// The program before a sandbox with a request that is held, and the client that waits for it.
struct Busy {
    _flameup: Sandbox,
    hold: Hold,
    program: Process,
    client: Wire,
}

impl Busy {
    async fn start() -> Self {
        let flameup = Sandbox::start(Options::default())
            .await
            .expect("a free port");
        let hold = flameup.hold(Matcher::any());
        let mut program = Process::start(
            &["serve"],
            &[
                ("FLAMEUP_API_KEY", DEMO_KEY),
                ("FLAMEUP_GATEWAY__SERVER__LISTEN", "127.0.0.1:0"),
                ("FLAMEUP_GATEWAY__ADMIN__LISTEN", "off"),
                ("FLAMEUP_GATEWAY__UPSTREAM__BASE_URL", &flameup.base_url()),
                ("FLAMEUP_GATEWAY__UPSTREAM__TIMEOUT", "60s"),
            ],
        );
        let line: serde_json::Value =
            serde_json::from_str(&program.line_with("server.address")).expect("a JSON line");
        let address = line["server.address"].as_str().expect("an address").parse();
        let mut client = Wire::connect(address.expect("an address")).await;
        client.ask(PERSON).await;
        assert!(hold.arrived(1).await);
        Self {
            _flameup: flameup,
            hold,
            program,
            client,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_ends_well_on_sigterm_and_sigint() {
    for signal in ["TERM", "INT"] {
        let mut busy = Busy::start().await;
        busy.program.signal(signal);
        busy.program.line_with("draining");
        busy.hold.release();
        assert_eq!(busy.client.answer().await.status, 200);
        let (status, lines) = busy.program.end();
        assert_eq!(status.code(), Some(0), "{signal}: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_hurries() {
    let mut busy = Busy::start().await;
    busy.program.signal("TERM");
    busy.program.line_with("draining");
    let started = Instant::now();
    busy.program.signal("TERM");
    let (status, lines) = busy.program.end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "the deadline is 25 s"
    );
    busy.client.assert_closed().await;
}
