//! Real servers: one, a Cluster of three, or a master with a replica and three Sentinels.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::port::free_port;

/// The longest that anything may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// All slots of a Cluster.
const SLOTS: u32 = 16_384;

/// One server, without a file that would outlive it. Dropping it kills it.
pub(crate) struct Server {
    port: u16,
    options: Vec<String>,
    directory: TempDir,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start_in(directory, &[&["--save", ""], options].concat())
    }

    fn start_in(directory: TempDir, options: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            directory,
            child: None,
        };
        server.restart();
        server
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) fn restart(&mut self) {
        let binary = std::env::var("FLAMEUP_TEST_REDIS_SERVER");
        let mut command = Command::new(binary.as_deref().unwrap_or("redis-server"));
        // A Sentinel has a file of its own in the first place.
        command
            .args(&self.options)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .arg("--dir")
            .arg(self.directory.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server starts; tests/run.sh installs it"));
        until("it answers", || cli(self.port, &["PING"]).contains("PONG"));
    }

    /// Ends it at once, with all that it knew.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("kill runs").success());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, arguments)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three masters that share the slots.
pub(crate) struct Cluster(Vec<Server>);

impl Cluster {
    pub(crate) fn start() -> Self {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let servers: Vec<_> = (0..3).map(|_| Server::start(&options)).collect();
        let addresses: Vec<_> = servers.iter().map(|it| it.address().to_string()).collect();
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(&addresses);
        let created = create
            .arg("--cluster-yes")
            .output()
            .expect("redis-cli runs");
        assert!(created.status.success(), "{created:?}");
        for server in &servers {
            until("all agree", || {
                server
                    .cli(&["CLUSTER", "INFO"])
                    .contains("cluster_state:ok")
            });
        }
        Self(servers)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://{}", joined(&self.0))
    }

    /// Moves the slot in which something is to another server, some keys at a time; returns how many.
    pub(crate) fn move_what_is_there(&self) -> usize {
        let full = |server: &&Server| server.cli(&["DBSIZE"]).trim() != "0";
        let from = self.0.iter().find(full).expect("something is stored");
        let others = self.0.iter().filter(|it| it.port != from.port);
        let others: Vec<_> = others.collect();
        let to = others[0];
        let key = from.cli(&["RANDOMKEY"]);
        let slot = from.cli(&["CLUSTER", "KEYSLOT", key.trim()]);
        let slot = slot.trim();
        assert!(slot.parse::<u32>().is_ok_and(|slot| slot < SLOTS), "{slot}");
        let (from_id, to_id) = (from.cli(&["CLUSTER", "MYID"]), to.cli(&["CLUSTER", "MYID"]));
        to.cli(&["CLUSTER", "SETSLOT", slot, "IMPORTING", from_id.trim()]);
        from.cli(&["CLUSTER", "SETSLOT", slot, "MIGRATING", to_id.trim()]);
        let moved = move_keys(from, to, slot);
        for server in [to, from].into_iter().chain(others.iter().copied()) {
            server.cli(&["CLUSTER", "SETSLOT", slot, "NODE", to_id.trim()]);
        }
        moved
    }
}

fn move_keys(from: &Server, to: &Server, slot: &str) -> usize {
    let mut moved = 0;
    let port = to.port.to_string();
    // Bounded, as others go on storing.
    for _ in 0..2_000 {
        let keys = from.cli(&["CLUSTER", "GETKEYSINSLOT", slot, "10"]);
        let keys: Vec<_> = keys.lines().filter(|key| !key.is_empty()).collect();
        if keys.is_empty() {
            break;
        }
        let migrate = [
            "MIGRATE",
            "127.0.0.1",
            &port,
            "",
            "0",
            "5000",
            "REPLACE",
            "KEYS",
        ];
        let said = from.cli(&[&migrate[..], &keys[..]].concat());
        assert!(!said.contains("ERR"), "{said}");
        moved += keys.len();
    }
    moved
}

/// A master, a replica, and three who watch them.
pub(crate) struct Sentinels {
    master: Server,
    _replica: Server,
    watchers: Vec<Server>,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let master = Server::start(&[]);
        let port = master.port.to_string();
        let replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
        until("it has a replica", || {
            replica
                .cli(&["INFO", "replication"])
                .contains("master_link_status:up")
        });
        let watchers = (0..3).map(|_| sentinel(master.port)).collect();
        let these = Self {
            master,
            _replica: replica,
            watchers,
        };
        these.until_they_see_each_other();
        these
    }

    fn until_they_see_each_other(&self) {
        for sentinel in &self.watchers {
            until("they see each other", || {
                let said = sentinel.cli(&["SENTINEL", "MASTER", "people"]);
                said.contains("num-other-sentinels\n2") && said.contains("num-slaves\n1")
            });
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+sentinel://{}/people", joined(&self.watchers))
    }

    /// Kills the master and waits until the replica is named in its place.
    pub(crate) fn fail_over(&mut self) {
        self.master.kill();
        let old = self.master.port.to_string();
        until("another one is master", || {
            let said = self.watchers[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "people"]);
            !said.trim().is_empty() && !said.contains(&old)
        });
    }
}

fn sentinel(master: u16) -> Server {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "sentinel monitor people 127.0.0.1 {master} 2\n\
         sentinel down-after-milliseconds people 500\n\
         sentinel failover-timeout people 2000\n"
    );
    // It writes to its file as long as it runs.
    let file = directory.path().join("sentinel.conf");
    fs::write(&file, text).expect("it is ours");
    Server::start_in(directory, &[&file.to_string_lossy(), "--sentinel"])
}

fn joined(servers: &[Server]) -> String {
    let addresses = servers.iter().map(|server| server.address().to_string());
    addresses.collect::<Vec<_>>().join(",")
}

/// What `redis-cli` prints; nothing if nobody answers.
fn cli(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(arguments);
    let output = command
        .output()
        .expect("redis-cli runs; tests/run.sh installs it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for what another process does.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(20));
    }
}
