//! What a stand-in can be started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::errors::ErrorShape;
use super::people::Shape;
use super::pool::LimiterOptions;
use crate::clock::Clock;

/// The key accepted unless others are named; it opens nothing but a sandbox.
pub const DEMO_KEY: &str =
    "ws_test_demo0001_sandbox.5e1f0c2d9b8a7766554433221100ffeeddccbbaa99887766554433221100a1b2";

/// The workspace of [`DEMO_KEY`].
pub const DEMO_WORKSPACE: &str = "ws_demo0001";

/// A key that is accepted, the workspace it decides on, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// What follows `Bearer `.
    pub key: String,
    /// The workspace whose people it sees.
    pub workspace_id: String,
    /// Flameup's permission words; `*` and `admin` allow everything.
    pub scopes: Vec<String>,
}

impl ApiKey {
    /// A key that may do everything in its workspace.
    pub fn new(key: impl Into<String>, workspace_id: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            workspace_id: workspace_id.into(),
            scopes: vec!["*".to_owned()],
        }
    }

    /// Restricts what the key may do.
    #[must_use]
    pub fn scopes<const N: usize>(mut self, scopes: [&str; N]) -> Self {
        self.scopes = scopes.map(str::to_owned).to_vec();
        self
    }

    pub(super) fn allows(&self, permission: &str) -> bool {
        let mut scopes = self.scopes.iter();
        scopes.any(|scope| scope == permission || scope == "*" || scope == "admin")
    }
}

impl Default for ApiKey {
    fn default() -> Self {
        Self::new(DEMO_KEY, DEMO_WORKSPACE)
    }
}

/// How the stand-in behaves; the default is Flameup as documented with 100,000 people.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the API listens; a free port of loopback by default.
    pub listen: SocketAddr,
    /// Where the control listener listens, loopback only; none by default.
    pub control_listen: Option<SocketAddr>,
    /// Decides who the people are; 1 by default.
    pub seed: u64,
    /// How many people each workspace starts with; 100,000 by default.
    pub people: u64,
    /// Keys accepted at the start; the first one names the workspace of [`super::Sandbox::people`].
    pub api_keys: Vec<ApiKey>,
    /// The rate limit and the clock its headers go by.
    pub limiter: LimiterOptions,
    /// Which documented person body is answered.
    pub shape: Shape,
    /// In which documented shape a person's 404 is answered, B or E; E by default.
    pub not_found: ErrorShape,
    /// Time before each answer; none by default.
    pub latency: Duration,
    /// What the limiter and the timestamps go by.
    pub clock: Clock,
    /// Serves TLS when present; `h2` is spoken if its ALPN list offers it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether emails that differ in case are different; false by default.
    pub email_case_sensitive: bool,
    /// Whether persons carry a strong `ETag` and `If-None-Match` is honoured; false by default.
    pub etags: bool,
    /// Whether another workspace in the path is a 404 in place of a 403; false by default.
    pub foreign_workspace_is_404: bool,
    /// How many requests the record keeps, the latest ones; 100,000 by default. Zero keeps none.
    pub kept_requests: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control_listen: None,
            seed: 1,
            people: 100_000,
            api_keys: vec![ApiKey::default()],
            limiter: LimiterOptions::default(),
            shape: Shape::default(),
            not_found: ErrorShape::E,
            latency: Duration::ZERO,
            clock: Clock::system(),
            tls: None,
            email_case_sensitive: false,
            etags: false,
            foreign_workspace_is_404: false,
            kept_requests: 100_000,
        }
    }
}

/// Setters for what tests change most; everything else is set by field.
impl Options {
    /// Listens here.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Opens the control listener here.
    #[must_use]
    pub fn control_listen(mut self, address: SocketAddr) -> Self {
        self.control_listen = Some(address);
        self
    }

    /// Starts with this many people.
    #[must_use]
    pub fn people(mut self, count: u64) -> Self {
        self.people = count;
        self
    }

    /// Accepts these keys only.
    #[must_use]
    pub fn api_keys(mut self, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        self.api_keys = keys.into_iter().collect();
        self
    }

    /// Limits requests like this.
    #[must_use]
    pub fn limiter(mut self, limiter: LimiterOptions) -> Self {
        self.limiter = limiter;
        self
    }

    /// Never limits, for tests and benches that are about something else.
    #[must_use]
    pub fn unlimited(mut self) -> Self {
        self.limiter.limit = u32::MAX;
        self
    }

    /// Answers persons in this shape.
    #[must_use]
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Goes by this clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Serves TLS.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Sends `ETag` and honours `If-None-Match`.
    #[must_use]
    pub fn etags(mut self) -> Self {
        self.etags = true;
        self
    }
}
