//! A real Redis that keeps nothing.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

/// A Redis, ended when it is dropped.
pub(crate) struct Redis {
    address: SocketAddr,
    server: Child,
    _directory: tempfile::TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it has an address");
        drop(free);
        Self::start_at(address).await
    }

    async fn start_at(address: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = std::env::var("FLAMEUP_TEST_REDIS_SERVER");
        let program = program.unwrap_or_else(|_| "redis-server".to_owned());
        let server = Command::new(program)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &address.port().to_string()])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed; tests/run.sh does that");
        let redis = Self {
            address,
            server,
            _directory: directory,
        };
        for _ in 0..200 {
            if TcpStream::connect(address).await.is_ok() {
                return redis;
            }
            sleep(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not listen");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, and starts another one at the same address that knows nothing.
    pub(crate) async fn restart_empty(&mut self) {
        self.kill();
        *self = Self::start_at(self.address).await;
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    /// Says something to it directly.
    pub(crate) async fn say(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(format!("redis://{}", self.address)).expect("an address");
        let connection = client.get_multiplexed_async_connection().await;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command
            .query_async(&mut connection.expect("connected"))
            .await;
        answer.expect("an answer")
    }

    /// The only key that ends so.
    pub(crate) async fn key(&self, end: &str) -> String {
        let found = self.say(&["KEYS", &format!("*{end}")]).await;
        let found: Vec<String> = redis::from_redis_value(found).expect("names");
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].clone()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
