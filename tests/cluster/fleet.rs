//! Three gateways and a Flameup, each a process of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flameup_gateway::sandbox::DEMO_KEY;
use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::draws::Draws;
use super::port::free_port;
use super::process::Process;
use super::proxy::Proxy;
use super::redis::Server;
use super::traffic::{Person, Seat, Watch};

/// How many gateways there are.
pub(crate) const REPLICAS: usize = 3;

/// What Flameup allows, in windows that are short so that several pass. The shared budget is counted by
/// the second: in windows of two, a third of it would be lost to that.
pub(crate) const LIMIT: u64 = 200;
pub(crate) const WINDOW: Duration = Duration::from_secs(4);

/// The longest that a request may take: what it may wait for budget, what Flameup may take, and a
/// second.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500 + 1_000 + 1_000);

/// Lifetimes of seconds, and room to serve what is older while budget is short. Redis has more time
/// than it has by default, as all these processes share two cores.
const CONFIG: &str = "
telemetry.log_format = \"json\"
telemetry.access_log = \"off\"
anonymous.workspace = \"default\"
anonymous.scopes = [\"*\"]
upstream.connect_timeout = \"1s\"
upstream.timeout = \"1s\"
cache.ttl = \"2s\"
cache.negative_ttl = \"1s\"
cache.stale_while_revalidate = \"2s\"
cache.stale_if_error = \"10s\"
workspaces.default.api_key_env = \"FLAMEUP_API_KEY\"
workspaces.default.budget.requests = 200
workspaces.default.budget.window = \"4s\"
workspaces.default.budget.max_wait = \"500ms\"
redis.timeout = \"50ms\"
redis.replicas = 3
";

/// How many people are asked for. To keep them fresh, and for the changes, some two thirds of the budget are
/// needed.
pub(crate) const PEOPLE: usize = 30;

/// Everything but Redis.
pub(crate) struct Fleet {
    gateways: Vec<Option<Process>>,
    files: TempDir,
    control: SocketAddr,
    pub(crate) watch: Arc<Watch>,
    pub(crate) draws: Draws,
    /// Dropped last: gateways ask it.
    _flameup: Process,
}

/// How Flameup counts, in the words of its command line.
pub(crate) struct Flameup {
    pub(crate) limiter: &'static str,
    pub(crate) skew: &'static str,
}

impl Default for Flameup {
    /// The kind that forgives least.
    fn default() -> Self {
        Self {
            limiter: "sliding",
            skew: "0s",
        }
    }
}

impl Fleet {
    /// Starts all, each gateway with its own address of Redis.
    pub(crate) async fn start(flameup: Flameup, redis: [String; REPLICAS]) -> Self {
        let (program, api, control) = start_flameup(&flameup);
        let files = tempfile::tempdir().expect("a directory");
        let key = files.path().join("key");
        std::fs::write(&key, "k".repeat(64)).expect("it is ours");
        let mut seats = Vec::new();
        for (number, url) in redis.iter().enumerate() {
            let seat = Seat::at(address(free_port()), address(free_port()));
            let mut config = CONFIG.to_owned();
            let lines = [
                ("upstream.base_url", format!("\"http://{api}\"")),
                ("server.listen", format!("[\"{}\"]", seat.address)),
                ("admin.listen", format!("\"{}\"", seat.admin)),
                ("redis.url", format!("\"{url}\"")),
                (
                    "redis.encryption_key_file",
                    format!("\"{}\"", key.display()),
                ),
            ];
            for (key, value) in lines {
                writeln!(config, "{key} = {value}").expect("memory");
            }
            let file = files.path().join(format!("{number}.toml"));
            std::fs::write(file, config).expect("it is ours");
            seats.push(seat);
        }
        let people = people(control).await;
        let mut fleet = Self {
            gateways: (0..REPLICAS).map(|_| None).collect(),
            files,
            control,
            watch: Arc::new(Watch::new(people, seats)),
            draws: Draws::watch(control),
            _flameup: program,
        };
        for number in 0..REPLICAS {
            fleet.start_gateway(number);
        }
        fleet
    }

    /// All of them with the same Redis.
    pub(crate) async fn on(url: &str) -> Self {
        let redis = std::array::from_fn(|_| url.to_owned());
        Self::start(Flameup::default(), redis).await
    }

    /// Each on its own way to the same Redis.
    pub(crate) async fn behind_proxies(redis: &Server) -> (Self, Vec<Proxy>) {
        let mut proxies = Vec::new();
        for _ in 0..REPLICAS {
            proxies.push(Proxy::to(redis.address()).await);
        }
        let url = |number: usize| format!("redis://{}", proxies[number].address());
        let fleet = Self::start(Flameup::default(), std::array::from_fn(url)).await;
        (fleet, proxies)
    }

    /// Starts the gateway of this number, also again.
    pub(crate) fn start_gateway(&mut self, number: usize) {
        let file = self.files.path().join(format!("{number}.toml"));
        let arguments = ["serve", "--config", &file.to_string_lossy()];
        let mut process = Process::start(&arguments, &[("FLAMEUP_API_KEY", DEMO_KEY)]);
        process.line_with("\"serving\"");
        self.gateways[number] = Some(process);
        self.watch.seats[number].set_up(true);
    }

    /// Ends the gateway of this number at once, in the middle of whatever it does.
    pub(crate) fn kill_gateway(&mut self, number: usize) {
        self.watch.seats[number].set_up(false);
        self.gateways[number] = None;
    }

    /// Has Flameup misbehave, once, for this person.
    pub(crate) async fn fault(&self, fault: Value) {
        let mut control = Client::new(self.control);
        let answer = control.send("POST", "/faults", fault.to_string()).await;
        assert_eq!(answer.expect("an answer").status, 204);
    }

    /// How many requests with this method and target have reached Flameup.
    pub(crate) async fn received(&self, method: &str, target: &str) -> usize {
        let answer = Client::new(self.control).get("/received").await;
        let all: Value = serde_json::from_slice(&answer.expect("an answer").body).expect("JSON");
        let all = all.as_array().expect("a list");
        all.iter()
            .filter(|it| it["method"] == method && it["target"] == target)
            .count()
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A Flameup, its address, and that of its control listener.
fn start_flameup(flameup: &Flameup) -> (Process, SocketAddr, SocketAddr) {
    let (api, control) = (address(free_port()), address(free_port()));
    let (limit, window) = (LIMIT.to_string(), format!("{}s", WINDOW.as_secs()));
    let (listen, steered) = (api.to_string(), control.to_string());
    let skew = format!("--skew={}", flameup.skew);
    let mut program = Process::start(
        &[
            "sandbox",
            "--listen",
            &listen,
            "--control",
            &steered,
            "--limit",
            &limit,
            "--window",
            &window,
            "--limiter",
            flameup.limiter,
            &skew,
            "--latency",
            "5ms",
        ],
        &[],
    );
    program.line_with(&listen);
    (program, api, control)
}

/// Some people as Flameup knows them; each is at version 0 from now on.
async fn people(control: SocketAddr) -> Vec<Person> {
    let mut client = Client::new(control);
    let mut people = Vec::new();
    for number in 1..=PEOPLE {
        let id = format!("user_{number}");
        let fields = r#"{"first_name":"v0"}"#.to_owned();
        let answer = client.send("POST", &format!("/people/{id}"), fields).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.field("external_id"), id, "{answer:?}");
        people.push(Person {
            external_id: id,
            email: answer.field("email"),
            uuid: answer.field("id"),
            workspace: answer.field("workspace_id"),
        });
    }
    people
}
