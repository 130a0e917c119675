//! A gateway that hostile clients besiege while good ones go on.
//!
//! All at once and over and over: bytes that are no HTTP, requests that mean two things, heads and bodies
//! that never end, answers that nobody takes, connections opened by the hundred, HTTP/2 that resets,
//! pings, continues and never ends. Good clients must be answered all the while, each time and soon, and
//! afterwards the process must have what it had before: no connection, no descriptor and no memory more.
//!
//! `SIEGE_SECONDS` says how long, 10 unless told.

mod bad;
mod good;

use std::env;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use process::Process;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[path = "../gateway/support/process.rs"]
mod process;

/// Limits that are reached within a siege of seconds. Each peer has room for less than all of it.
const CONFIG: &str = "
server.listen = [\"127.0.0.1:0\"]
admin.listen = \"127.0.0.1:0\"
telemetry.log_format = \"json\"
telemetry.access_log = \"off\"
cache.max_bytes = \"4MiB\"
anonymous.workspace = \"default\"
anonymous.scopes = [\"*\"]
server.limits.connections_per_peer = 100
server.limits.h2_resets = 100
server.limits.first_request_timeout = \"700ms\"
server.limits.header_timeout = \"700ms\"
server.limits.body_timeout = \"700ms\"
server.limits.send_timeout = \"700ms\"
server.limits.idle_timeout = \"1s\"
workspaces.default.budget.requests = 1_000_000
workspaces.default.api_key_env = \"FLAMEUP_API_KEY\"
";

/// What everything may take to come to an end; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Within what half of the good requests must be answered, nearly all of them, and each one. Where the
/// attackers have processors of their own it is a few milliseconds; here they take turns.
const HALF: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_millis(500);
const WORST: Duration = Duration::from_secs(3);

/// Memory that the C library may keep of what was given back to it.
const KEPT_BYTES: u64 = 24 * 1024 * 1024;

/// A gateway as a process of its own.
struct Besieged {
    program: Process,
    address: SocketAddr,
    admin: SocketAddr,
    flameup: Sandbox,
}

/// What a process has of the system.
#[derive(Debug)]
struct Held {
    connections: u64,
    descriptors: usize,
    resident: u64,
}

impl Besieged {
    async fn start() -> Self {
        let flameup = Sandbox::start(Options::default().unlimited()).await;
        let flameup = flameup.expect("a free port");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let config = format!("upstream.base_url = \"{}\"\n{CONFIG}", flameup.base_url());
        std::fs::write(file.path(), config).expect("it is ours");
        let path = file.path().display().to_string();
        // Otherwise nobody may look at what it holds.
        let open = ("FLAMEUP_GATEWAY__SECRETS__CORE_DUMPS", "true");
        let key = ("FLAMEUP_API_KEY", DEMO_KEY);
        let mut program = Process::start(&["serve", "--config", &path], &[key, open]);
        let address = address_in(&program.line_with("\"serving\""));
        let admin = address_in(&program.line_with("\"serving operators\""));
        Self {
            program,
            address,
            admin,
            flameup,
        }
    }

    /// What it holds once everybody has left, Flameup too, and no descriptor is held for them.
    async fn at_rest(&self, descriptors: usize) -> Held {
        let until = Instant::now() + PATIENCE;
        loop {
            let held = self.held().await;
            if held.connections == 0 {
                // Not before: what is under way would fail, and Flameup would be left alone for it.
                self.flameup.close_connections();
            }
            if held.connections == 0 && held.descriptors <= descriptors {
                return held;
            }
            assert!(
                Instant::now() < until,
                "{descriptors} were held before: {held:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn held(&self) -> Held {
        let proc = |file: &str| format!("/proc/{}/{file}", self.program.id());
        let status = std::fs::read_to_string(proc("status")).expect("it runs");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next())
            .and_then(|kibibytes| kibibytes.parse().ok())
            .map(|kibibytes: u64| kibibytes * 1024);
        let metrics = good::get(self.admin, "/metrics").await;
        Held {
            connections: value(&metrics, "flameup_gateway_connections "),
            descriptors: std::fs::read_dir(proc("fd")).expect("it runs").count(),
            resident: resident.expect("a number"),
        }
    }
}

fn address_in(line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(line).expect("JSON");
    let address = line["server.address"].as_str().expect("an address");
    address.parse().expect("an address")
}

/// The value of the metric whose line begins so.
fn value(metrics: &str, start: &str) -> u64 {
    let mut lines = metrics.lines();
    let found = lines.find_map(|line| line.strip_prefix(start)?.parse().ok());
    found.unwrap_or_else(|| panic!("no {start:?} in {metrics}"))
}

/// Attacks for so long, from several addresses, and returns when the last attacker has left.
async fn siege(gateway: SocketAddr, duration: Duration) {
    let (over, attackers) = (CancellationToken::new(), TaskTracker::new());
    for (number, attack) in (1..).zip(bad::attacks()) {
        let over = over.clone();
        attackers.spawn(async move {
            tokio::select! {
                () = attack.repeat(gateway, number) => {}
                () = over.cancelled() => {}
            }
        });
    }
    tokio::time::sleep(duration).await;
    over.cancel();
    attackers.close();
    attackers.wait().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_siege_good_clients_are_answered_and_afterwards_nothing_is_left() {
    let seconds = env::var("SIEGE_SECONDS").map_or(10, |text| {
        text.parse().expect("SIEGE_SECONDS is a number of seconds")
    });
    let besieged = Besieged::start().await;
    let address = besieged.address;
    let descriptors = besieged.held().await.descriptors;
    // What is allocated once and kept, as buffers and threads, is there after this.
    good::Tally::of(address, Duration::from_secs(1)).await;
    siege(address, Duration::from_secs(2)).await;
    let before = besieged.at_rest(descriptors).await;

    let duration = Duration::from_secs(seconds);
    let (tally, ()) = tokio::join!(good::Tally::of(address, duration), siege(address, duration));
    let after = besieged.at_rest(descriptors).await;
    let limits = good::get(besieged.admin, "/metrics").await;
    let report = format!(
        "{tally:?}\nbefore {before:?}\nafter  {after:?}\n{}\n",
        met(&limits)
    );
    let _ = std::io::stderr().write_all(report.as_bytes());

    assert_eq!(tally.wrong(), 0, "{report}");
    assert!(tally.answered() > 20 * seconds, "{report}");
    assert!(tally.share_of(0.5) < HALF, "{report}");
    assert!(tally.share_of(0.99) < MOST, "{report}");
    assert!(tally.share_of(1.0) < WORST, "{report}");
    assert!(after.resident < before.resident + KEPT_BYTES, "{report}");
    // Otherwise it was no siege.
    for limit in [
        "connections_per_peer",
        "target_bytes",
        "header_bytes",
        "first_request_timeout",
        "header_timeout",
        "body_timeout",
        "send_timeout",
        "idle_timeout",
        "h2_resets",
        "h2_control_frames",
    ] {
        assert!(report.contains(&format!("limit=\"{limit}\"")), "{report}");
    }
    besieged.program.signal("TERM");
    let (status, _) = besieged.program.end();
    assert_eq!(status.code(), Some(0));
}

/// The lines of the metrics that tell who met which limit.
fn met(metrics: &str) -> String {
    let limits = metrics.lines().filter(|line| line.contains("{limit="));
    limits.collect::<Vec<_>>().join("\n")
}
