//! A gateway with one person in its cache, before an origin that counts who asks.

use std::net::SocketAddr;

use flameup_gateway::clock::{Clock, Hand};
use flameup_gateway::config::{Config, ListenAddress, Sources};
use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use flameup_gateway::serve::Running;

use super::peer::Peer;

pub(crate) struct Gateway {
    origin: Sandbox,
    running: Running,
    /// Never moved: what is fresh stays fresh.
    _hand: Hand,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with more lines of configuration.
    pub(crate) async fn start_with(lines: &str) -> Self {
        let (clock, hand) = Clock::manual();
        let options = Options::default().unlimited().clock(clock.clone());
        let origin = Sandbox::start(options).await.expect("a free port");
        let config = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"off\"\n\
             upstream.base_url = \"{}\"\n{lines}",
            origin.base_url()
        );
        let sources = Sources::inline(config, [("FLAMEUP_API_KEY", DEMO_KEY)]);
        let config = Config::load(&sources).expect("valid").config;
        let running = Running::start(&config, clock).await;
        let gateway = Self {
            origin,
            running: running.expect("the gateway starts"),
            _hand: hand,
        };
        Peer::greeted(gateway.address())
            .await
            .assert_served(1)
            .await;
        assert_eq!(gateway.origin.arrivals(), 1, "the person is stored now");
        gateway
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.running.addresses().first() {
            Some(ListenAddress::Tcp(address)) => *address,
            other => panic!("{other:?} is no TCP address"),
        }
    }

    /// Asserts that the origin heard of nothing but of the person in the cache.
    pub(crate) fn assert_nothing_forwarded(&self) {
        assert_eq!(self.origin.arrivals(), 1, "{:?}", self.origin.received());
    }
}
