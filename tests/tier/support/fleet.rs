//! Gateways that share a Redis, before one sandbox.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, ListenAddress, Sources};
use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use flameup_gateway::serve::Running;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use super::Way;
use crate::client::{Client, Response};
use crate::servers::redis::Redis;

/// The longest that anything is waited for; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Gateways, Redis, and the sandbox.
pub(crate) struct Fleet {
    pub(crate) flameup: Sandbox,
    pub(crate) redis: Redis,
    pub(crate) replicas: Vec<Replica>,
    key: NamedTempFile,
}

/// A gateway, and its way to Redis.
pub(crate) struct Replica {
    gateway: Running,
    pub(crate) way: Way,
}

impl Fleet {
    /// So many gateways, all of whom know of each other.
    pub(crate) async fn of(count: usize) -> Self {
        let options = Options::default().unlimited();
        let mut key = NamedTempFile::new().expect("a file");
        writeln!(key, "{}", "k".repeat(32)).expect("written");
        let mut fleet = Self {
            flameup: Sandbox::start(options).await.expect("it listens"),
            redis: Redis::start(),
            replicas: Vec::new(),
            key,
        };
        for _ in 0..count {
            fleet.join().await;
        }
        fleet
    }

    /// One more gateway.
    pub(crate) async fn join(&mut self) {
        let way = Way::to(([127, 0, 0, 1], self.redis.port()).into()).await;
        let config = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
             upstream.base_url = \"{}\"\nworkspaces.default.budget.requests = 1_000_000\nanonymous = {{ workspace = \"default\", scopes = [\"*\"] }}\n\
             [redis]\nurl = \"redis://{}\"\nencryption_key_file = \"{}\"\ntimeout = \"200ms\"",
            self.flameup.base_url(),
            way.address(),
            self.key.path().display(),
        );
        let sources = Sources::inline(config, [("FLAMEUP_API_KEY", DEMO_KEY)]);
        let config = Config::load(&sources).expect("a configuration").config;
        let gateway = Running::start(&config, Clock::system()).await;
        let gateway = gateway.expect("the gateway starts");
        self.replicas.push(Replica { gateway, way });
        let count = self.replicas.len();
        let newest = self.replicas.last().expect("it has just come");
        newest.comes_to("suspect", 0).await;
        for replica in &self.replicas {
            replica.comes_to("replicas", count).await;
        }
    }
}

impl Replica {
    pub(crate) async fn get(&self, id: &str) -> Response {
        self.client().await.get(&path(id)).await
    }

    /// Reads a person as it is now.
    pub(crate) async fn get_anew(&self, id: &str) -> Response {
        let headers = [("cache-control", "no-cache")];
        let mut client = self.client().await;
        client.send_with("GET", &path(id), &headers, "").await
    }

    /// Reads a person until they are in this gateway's own memory: not while reads are held off.
    pub(crate) async fn remember(&self, id: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(id).await;
            let status = answer.headers["cache-status"].to_str().expect("text");
            if status.contains("; hit") && !status.contains("detail") {
                return;
            }
            assert!(Instant::now() < until, "nothing is stored: {status}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first name that a read shows.
    pub(crate) async fn name(&self, id: &str) -> Value {
        let body: Value = serde_json::from_slice(&self.get(id).await.body).expect("a person");
        body["first_name"].clone()
    }

    /// Gives a person a first name.
    pub(crate) async fn rename(&self, id: &str, name: &str) -> Response {
        let headers = [("content-type", "application/json")];
        let body = json!({ "traits": { "first_name": name } }).to_string();
        let mut client = self.client().await;
        client.send_with("PUT", &path(id), &headers, body).await
    }

    /// What an operator has done.
    pub(crate) async fn operate(&self, target: &str, wanted: Value) -> Value {
        let mut client = Client::connect(tcp(self.gateway.admin_address().expect("one"))).await;
        let answer = client.post(target, &wanted).await;
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// What an operator is told of how it stands.
    pub(crate) async fn status(&self) -> Value {
        let mut client = Client::connect(tcp(self.gateway.admin_address().expect("one"))).await;
        let answer = client.get("/v1/status").await;
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// What a gauge or counter of the tier shows.
    pub(crate) async fn shows(&self, metric: &str) -> Option<f64> {
        let mut client = Client::connect(tcp(self.gateway.admin_address().expect("one"))).await;
        let answer = client.get("/metrics").await;
        let text = String::from_utf8(answer.body.to_vec()).expect("text");
        let start = format!("flameup_gateway_redis_{metric}");
        let is_it = |line: &&str| {
            let rest = line.strip_prefix(&start);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        };
        let line = text.lines().find(is_it)?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until a gauge shows this.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the numbers of a test are small"
    )]
    pub(crate) async fn comes_to(&self, metric: &str, wanted: usize) {
        let until = Instant::now() + PATIENCE;
        while self.shows(metric).await != Some(wanted as f64) {
            assert!(Instant::now() < until, "{metric} is not {wanted}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn drain(self) {
        self.gateway.drain().await;
    }

    async fn client(&self) -> Client {
        let address = self.gateway.addresses().first();
        Client::connect(tcp(address.expect("a listener"))).await
    }
}

fn path(id: &str) -> String {
    format!("/api/v1/people/{id}")
}

fn tcp(address: &ListenAddress) -> SocketAddr {
    match address {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}
