//! A redis-server of the test's own, which keeps nothing on disk.
//!
//! `FLAMEUP_TEST_REDIS_SERVER` names another program, such as a valkey-server.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, wait_until};
use crate::port::free_port;

/// Somebody else may take a port that was free before the server does.
const ATTEMPTS: usize = 5;

/// A server on a port of its own, ended with this.
pub(crate) struct Redis {
    port: u16,
    arguments: Vec<String>,
    process: Option<Child>,
    directory: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(|port, _| own(&["--port", &port.to_string()]))
    }

    /// A server with these arguments, given its port and a directory for its files.
    pub(crate) fn start_with(arguments: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        for _ in 0..ATTEMPTS {
            let directory = TempDir::new().expect("a directory");
            let port = free_port();
            let mut redis = Self {
                port,
                arguments: arguments(port, directory.path()),
                process: None,
                directory,
            };
            redis.spawn();
            if redis.listens() {
                return redis;
            }
        }
        panic!("redis-server ended {ATTEMPTS} times instead of listening");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client of its own, which may do anything.
    pub(crate) fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        let connection = client.get_connection_with_timeout(PATIENCE);
        connection.expect("redis-server answers")
    }

    /// Runs a command, words apart by blanks.
    pub(crate) fn command<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let answer = self.try_command(words);
        answer.unwrap_or_else(|error| panic!("{words}: {error}"))
    }

    pub(crate) fn try_command<T: redis::FromRedisValue>(
        &self,
        words: &str,
    ) -> redis::RedisResult<T> {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        command.arg(words.collect::<Vec<_>>());
        command.query(&mut self.connect())
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.spawn();
        assert!(self.listens(), "redis-server does not listen again");
    }

    /// Stops it: it holds its connections and answers nothing.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it runs").id();
        let sent = Command::new("kill")
            .args([signal, &process.to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// What stands there under names of this kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<(String, Vec<u8>)> {
        let keys: Vec<String> = self.command(&format!("KEYS *:{kind}:*"));
        let value = |key: String| {
            let value = self.command(&format!("GET {key}"));
            (key, value)
        };
        keys.into_iter().map(value).collect()
    }

    /// The only key that ends so.
    pub(crate) fn key(&self, end: &str) -> String {
        let found: Vec<String> = self.command(&format!("KEYS *{end}"));
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) {
        let mut connection = self.connect();
        let set = redis::cmd("SET").arg(key).arg(value).exec(&mut connection);
        set.expect("written");
    }

    pub(crate) fn clear(&self) {
        self.command::<()>("FLUSHALL");
    }

    fn spawn(&mut self) {
        let binary = std::env::var("FLAMEUP_TEST_REDIS_SERVER");
        let process = Command::new(binary.unwrap_or_else(|_| "redis-server".to_owned()))
            .args(&self.arguments)
            .args(["--dir", &self.directory.path().to_string_lossy()])
            .args(["--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.expect("install redis-server; tests/run.sh does"));
    }

    /// Waits until it listens; not if it has ended.
    fn listens(&mut self) -> bool {
        let process = self.process.as_mut().expect("it was started");
        let mut ended = false;
        wait_until("redis-server listens", || {
            ended = process.try_wait().expect("it is our child").is_some();
            ended || TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
        // Whoever listens may be somebody else, for whom ours makes room.
        sleep(Duration::from_millis(10));
        ended |= process.try_wait().expect("it is our child").is_some();
        !ended
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The arguments of a server without persistence, with these.
pub(crate) fn own(arguments: &[&str]) -> Vec<String> {
    let without = ["--save", "", "--appendonly", "no"];
    let all = without.iter().chain(arguments);
    all.map(|argument| (*argument).to_owned()).collect()
}
