//! Gateways before one sandbox and one redis-server, on the machine's own clock: Redis has no other.

use std::io::Write;
use std::time::{Duration, Instant};

use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, ListenAddress, Sources};
use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use flameup_gateway::serve::Running;
use tempfile::NamedTempFile;

use crate::client::{Client, Response};
use crate::servers::redis::Redis;

/// The longest that anything is waited for; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

impl Redis {
    /// Waits until so many stand there under names of this kind.
    pub(crate) async fn holds(&self, kind: &str, count: usize) {
        until(|| self.all(kind).len() == count).await;
    }
}

/// A sandbox and a Redis, for any number of gateways.
pub(crate) struct Fleet {
    pub(crate) flameup: Sandbox,
    pub(crate) redis: Redis,
    key: NamedTempFile,
    config: String,
}

/// One gateway of a fleet.
pub(crate) struct Gateway {
    pub(crate) running: Running,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// A fleet whose gateways have these lines in their configuration.
    pub(crate) async fn with(config: &str) -> Self {
        let unlimited = Options::default().unlimited();
        let budget = "workspaces.default.budget.requests = 1_000_000";
        Self::of(unlimited, &format!("{budget}\n{config}")).await
    }

    /// A fleet before a sandbox with these options.
    pub(crate) async fn of(options: Options, config: &str) -> Self {
        let flameup = Sandbox::start(options.clock(Clock::system())).await;
        let mut key = NamedTempFile::new().expect("a file");
        writeln!(key, "{}", "k".repeat(48)).expect("written");
        Self {
            flameup: flameup.expect("the sandbox listens"),
            redis: Redis::start(),
            key,
            config: config.to_owned(),
        }
    }

    /// One more gateway; with an empty memory, as after a restart.
    pub(crate) async fn gateway(&self) -> Gateway {
        self.gateway_with("redis.timeout = \"1s\"").await
    }

    pub(crate) async fn gateway_with(&self, lines: &str) -> Gateway {
        let config = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
             upstream.base_url = \"{}\"\nredis.url = \"redis://127.0.0.1:{}\"\n\
             redis.encryption_key_file = \"{}\"\n{lines}\n{}",
            self.flameup.base_url(),
            self.redis.port(),
            self.key.path().display(),
            self.config,
        );
        let environment = [("FLAMEUP_API_KEY".to_owned(), DEMO_KEY.to_owned())];
        let loaded = Config::load(&Sources::inline(config, environment));
        let loaded = loaded.expect("the test's configuration is valid");
        let running = Running::start(&loaded.config, Clock::system()).await;
        Gateway {
            running: running.expect("the gateway starts"),
        }
    }

    /// Requests that reached the sandbox.
    pub(crate) fn forwards(&self) -> usize {
        self.flameup.received().len()
    }

    pub(crate) fn body(&self, external_id: &str) -> bytes::Bytes {
        let body = self.flameup.people().body_by_external_id(external_id);
        body.expect("the sandbox has this person")
    }
}

impl Gateway {
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        address(&self.running.addresses()[0])
    }

    /// A GET from whoever listens there.
    pub(crate) async fn get_from(address: std::net::SocketAddr, target: &str) -> Response {
        Client::connect(address).await.get(target).await
    }

    pub(crate) async fn get(&self, target: &str) -> Response {
        self.get_with(target, "").await
    }

    /// A GET with this `Cache-Control`.
    pub(crate) async fn get_with(&self, target: &str, directives: &str) -> Response {
        let address = address(&self.running.addresses()[0]);
        let headers = [("cache-control", directives)];
        let mut client = Client::connect(address).await;
        client.send("GET", target, &headers).await
    }

    /// A number of the metrics, zero if it is not there.
    pub(crate) async fn metric(&self, sample: &str) -> u64 {
        let admin = self.running.admin_address().expect("an admin listener");
        let mut client = Client::connect(address(admin)).await;
        let text = client.get("/metrics").await.body;
        let text = std::str::from_utf8(&text).expect("text");
        let prefix = format!("flameup_gateway_redis_{sample} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Makes the gateway believe that it may have missed changes, or not.
    pub(crate) fn suspect(&self, suspect: bool) {
        let shared = self.running.gateway().shared().expect("it shares");
        let second = shared.shelf(0).expect("the default workspace");
        second.standing().suspect(suspect);
    }
}

fn address(address: &ListenAddress) -> std::net::SocketAddr {
    match address {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
