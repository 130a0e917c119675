//! A gateway on free ports before a sandbox, with a clock that only the test moves.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flameup_gateway::clock::{Clock, Hand};
use flameup_gateway::config::{Config, ListenAddress, Sources};
use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, Hold, Matcher, Options, Sandbox};
use flameup_gateway::serve::Running;

use super::client::{Client, Response};

/// A gateway, the sandbox behind it, and the hand that moves their common clock.
pub(crate) struct Harness {
    pub(crate) flameup: Sandbox,
    pub(crate) gateway: Running,
    hand: Hand,
}

/// How to start a harness; by default, a sidecar with the shipped defaults and no rate limit in
/// the sandbox.
pub(crate) struct Setup {
    config: String,
    environment: Vec<(String, String)>,
    options: Options,
    upstream: Option<String>,
    /// So much that no test waits for it, unless it is about the budget.
    budget: &'static str,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            config: String::new(),
            environment: vec![("FLAMEUP_API_KEY".to_owned(), DEMO_KEY.to_owned())],
            options: Options::default().unlimited(),
            upstream: None,
            budget: "workspaces.default.budget.requests = 1_000_000",
        }
    }

    /// Leaves the budget at its default.
    pub(crate) fn budgeted(mut self) -> Self {
        self.budget = "";
        self
    }

    /// Adds lines to the configuration, keys written out: `cache.ttl = "5s"`.
    pub(crate) fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Adds a variable to the environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Changes how the sandbox behaves.
    pub(crate) fn sandbox(mut self, change: impl FnOnce(Options) -> Options) -> Self {
        self.options = change(self.options);
        self
    }

    /// Points the gateway at something else than the sandbox.
    pub(crate) fn upstream(mut self, base_url: &str) -> Self {
        self.upstream = Some(base_url.to_owned());
        self
    }

    pub(crate) async fn start(mut self) -> Harness {
        let (clock, hand) = Clock::manual();
        if self.config.contains("workspaces.") {
            // A line about `default` would make it one more workspace.
            self.budget = "";
        }
        let options = self.options.clock(clock.clone());
        let flameup = Sandbox::start(options)
            .await
            .expect("the sandbox listens on a free port");
        let upstream = self.upstream.unwrap_or_else(|| flameup.base_url());
        let config = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
             upstream.base_url = \"{upstream}\"\n{}\n{}",
            self.budget, self.config
        );
        let loaded = Config::load(&Sources::inline(config, self.environment));
        let loaded = loaded.expect("the test's configuration is valid");
        let gateway = Running::start(&loaded.config, clock)
            .await
            .expect("the gateway starts");
        gateway.show(&loaded);
        Harness {
            flameup,
            gateway,
            hand,
        }
    }
}

impl Harness {
    /// A sidecar with the defaults.
    pub(crate) async fn start() -> Self {
        Setup::new().start().await
    }

    /// Where the data plane listens.
    pub(crate) fn address(&self) -> SocketAddr {
        tcp(self
            .gateway
            .addresses()
            .first()
            .expect("there is one listener"))
    }

    /// Where the admin listener listens.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        tcp(self
            .gateway
            .admin_address()
            .expect("there is an admin listener"))
    }

    /// A client with a connection of its own.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    /// One GET over a connection of its own.
    pub(crate) async fn get(&self, target: &str) -> Response {
        self.client().await.get(target).await
    }

    /// One GET with headers over a connection of its own.
    pub(crate) async fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.client().await.send("GET", target, headers).await
    }

    /// The short path of the person with this external id.
    pub(crate) fn path(id: &str) -> String {
        format!("/api/v1/people/{id}")
    }

    /// The body that the sandbox answers for a person.
    pub(crate) fn body(&self, external_id: &str) -> Bytes {
        self.flameup
            .people()
            .body_by_external_id(external_id)
            .expect("the sandbox has this person")
    }

    /// Requests that reached the sandbox and are still remembered.
    pub(crate) fn forwards(&self) -> usize {
        self.flameup.received().len()
    }

    /// Lets time pass for the gateway and the sandbox.
    pub(crate) fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }

    /// The same, in milliseconds.
    pub(crate) fn pass_ms(&self, milliseconds: u64) {
        self.hand.advance(Duration::from_millis(milliseconds));
    }

    /// Waits until the gateway has taken in whatever was sent to it before. All of a test runs on one
    /// thread that takes what is ready in order of arrival, so what was on its way before a round
    /// trip has been read after it.
    pub(crate) async fn settle(&self) {
        for _ in 0..3 {
            self.get("/settle").await;
        }
    }

    /// Has every request answered wrongly from now on.
    pub(crate) fn fault(&self, kind: FaultKind) {
        self.flameup.fault(Fault::new(kind));
    }

    /// Holds what is asked about a person; the answer is worked out on arrival.
    pub(crate) fn hold(&self, id: &str) -> Hold {
        self.flameup.hold(Matcher::id(id))
    }
}

fn tcp(address: &ListenAddress) -> SocketAddr {
    match address {
        ListenAddress::Tcp(address) => *address,
        ListenAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}
