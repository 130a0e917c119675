//! The Redis of the examples: that a server takes its settings, and that the user of the gateway may do
//! all that a gateway does, and little else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{Options, Sandbox};
use tempfile::TempDir;

use super::monitoring::{Gateway, ask};
use super::port::free_port;
use super::{command, printed};

/// Told from the root of the file system, as the server changes its directory before it reads them.
const USERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/redis/users.acl");
const CONFIG: &str = "deploy/redis/redis.conf";

/// Its SHA-256 is in the example.
const PASSWORD: &str = "example-password-of-the-gateway!";

/// What no line of ours names: the client's own, of connections, scripts and Clusters.
const CONNECTING: [&str; 9] = [
    "ping",
    "auth",
    "select",
    "evalsha",
    "script|load",
    "cluster|slots",
    "cluster|shards",
    "cluster|nodes",
    "asking",
];

/// The longest that it may take to start; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with the users of the example. Dropping it ends it.
pub(crate) struct Redis {
    process: Child,
    port: u16,
    files: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let files = tempfile::tempdir().expect("a directory");
        let plain = ["--tls-port", "0", "--bind", "127.0.0.1"];
        let process = command("redis-server")
            .arg(CONFIG)
            .args(["--port", &port.to_string(), "--aclfile", USERS, "--dir"])
            .arg(files.path())
            .args(plain)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts; tests/run.sh installs it");
        fs::write(files.path().join("password"), PASSWORD).expect("room");
        fs::write(files.path().join("key"), "k".repeat(64)).expect("room");
        let redis = Self {
            process,
            port,
            files,
        };
        let until = Instant::now() + PATIENCE;
        while !redis.says(&["PING"]).contains("PONG") {
            assert!(Instant::now() < until, "it does not answer");
            sleep(Duration::from_millis(20));
        }
        redis
    }

    /// What a gateway needs to share it.
    pub(crate) fn settings(&self) -> [(&'static str, String); 5] {
        let file = |name: &str| self.files.path().join(name).display().to_string();
        [
            (
                "FLAMEUP_GATEWAY__REDIS__URL",
                format!("redis://127.0.0.1:{}", self.port),
            ),
            ("FLAMEUP_GATEWAY__REDIS__USERNAME", "gateway".to_owned()),
            ("FLAMEUP_GATEWAY__REDIS__PASSWORD_FILE", file("password")),
            ("FLAMEUP_GATEWAY__REDIS__ENCRYPTION_KEY_FILE", file("key")),
            // Processes take turns here.
            ("FLAMEUP_GATEWAY__REDIS__TIMEOUT", "500ms".to_owned()),
        ]
    }

    /// What it answers to the user of the gateway.
    fn says(&self, arguments: &[&str]) -> String {
        let mut cli = command("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--user", "gateway"]);
        let output = cli.env("REDISCLI_AUTH", PASSWORD).args(arguments).output();
        let output = output.expect("redis-cli is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn the_user_of_the_example_may_do_what_a_gateway_does() {
    let flameup = Sandbox::start(Options::default()).await;
    let flameup = flameup.expect("a free port");
    let metrics = tokio::task::spawn_blocking(move || {
        let redis = Redis::start();
        let gateway = Gateway::before(&flameup, &redis);
        let json = "Content-Type: application/json\r\n";
        // Found by another name once it is shared, changed, not there, purged, erased.
        let body = r#"{"traits":{"first_name":"New"}}"#;
        let change = "PUT /api/v1/people/user_1";
        answered(200, || {
            ask(&gateway.address, "GET /api/v1/people/user_1", "", "")
        });
        answered(404, || {
            ask(&gateway.address, "GET /api/v1/people/nobody", "", "")
        });
        answered(200, || ask(&gateway.address, change, json, body));
        for operation in ["POST /v1/purge", "POST /v1/erase"] {
            answered(200, || {
                ask(&gateway.admin, operation, json, r#"{"id":"user_1"}"#)
            });
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let metrics = ask(&gateway.admin, "GET /metrics", "", "");
            let hears = metrics.contains("_redis_suspect{workspace=\"default\"} 0\n");
            if hears && metrics.contains("redis_writes_total{result=\"stored\"} ") {
                return metrics;
            }
            assert!(Instant::now() < until, "it is not shared: {metrics}");
            sleep(Duration::from_millis(20));
        }
    });
    let metrics = metrics.await.expect("it does not panic");
    let calls = metrics
        .lines()
        .filter(|line| line.contains("redis_calls_total{"));
    // While it starts there is no connection.
    let failed: Vec<_> = calls
        .filter(|line| !line.contains("\"ok\"") && !line.contains("\"unconnected\""))
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn the_user_of_the_example_may_use_the_commands_that_a_gateway_uses_and_no_others() {
    let mut used: BTreeSet<String> = CONNECTING.iter().map(|&name| name.to_owned()).collect();
    for (folder, before) in [("src/tier/scripts", "redis.call('"), ("src/tier", "cmd(\"")] {
        for text in texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let calls = text.match_indices(before);
            let names = calls.map(|(at, _)| &text[at + before.len()..]);
            let end = |rest: &str| rest.find(['\'', '"']).expect("it is closed");
            used.extend(names.map(|rest| rest[..end(rest)].to_lowercase()));
        }
    }
    assert!(used.remove("xinfo") && used.insert("xinfo|stream".to_owned()));
    // Sentinels are others than who keeps the data, and are asked without a user.
    used.remove("sentinel");
    let users = fs::read_to_string(USERS).expect("the example");
    let words = users.lines().flat_map(str::split_whitespace);
    let allowed: BTreeSet<String> = words
        .filter_map(|word| Some(word.strip_prefix('+')?.to_owned()))
        .collect();
    assert_eq!(used, allowed);
}

/// The text of each file in a folder and those inside it.
fn texts(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let text = |path: PathBuf| {
        if path.is_dir() {
            return texts(&path);
        }
        vec![fs::read_to_string(&path).expect("text")]
    };
    paths.flat_map(text).collect()
}

/// Asks until the answer has this status: gateways have no part of the budget at first.
fn answered(status: u16, request: impl Fn() -> String) {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = request();
        if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            return;
        }
        assert!(Instant::now() < until, "no {status}: {answer}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_user_of_the_example_may_do_little_else() {
    let redis = Redis::start();
    for forbidden in [
        &["KEYS", "*"][..],
        &["GET", "others"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
        &["MONITOR"],
        &["EVAL", "return redis.call('GET', 'others')", "0"],
    ] {
        let said = redis.says(forbidden);
        assert!(
            said.contains("NOPERM") || said.contains("access"),
            "{forbidden:?}: {said}"
        );
    }
    let mut nobody = command("redis-cli");
    nobody.args(["-p", &redis.port.to_string(), "PING"]);
    assert!(printed(&mut nobody).contains("NOAUTH"));
}
