//! A gateway with a real budget before a sandbox with a real limit, and callers that spend it.

use std::time::Duration;

use flameup_gateway::sandbox::LimiterOptions;

use super::client::{Client, Response};
use super::harness::{Harness, Setup};
use super::metrics::metrics;
use super::tenants::{bearer, client};

/// Lets no lookup wait for its turn.
pub(crate) const AT_ONCE: (&str, &str) = ("prefer", "wait=0");

/// Who waits for a turn looks for it at least every quarter of a second of real time.
const LOOK: Duration = Duration::from_millis(300);

/// The documented limit on both sides, and exact lifetimes.
pub(crate) fn limited() -> Setup {
    Setup::new()
        .budgeted()
        .config("cache.ttl_jitter = 0.0")
        .sandbox(|options| options.limiter(LimiterOptions::default()))
}

/// The same with other limits, written to the configuration as well.
pub(crate) fn limited_to(limiter: LimiterOptions) -> Setup {
    let LimiterOptions { limit, window, .. } = limiter;
    let window = window.as_secs();
    limited()
        .config(&format!(
            "workspaces.default.budget.requests = {limit}\n\
             workspaces.default.budget.window = \"{window}s\""
        ))
        .sandbox(|options| options.limiter(limiter))
}

/// Adds a caller of this class.
pub(crate) fn caller(setup: Setup, name: &str, class: &str) -> Setup {
    client(setup, name, "default", &[&token(name)])
        .config(&format!("clients.{name}.class = \"{class}\""))
}

/// `Authorization` of that caller.
pub(crate) fn authorization(name: &str) -> String {
    bearer(&token(name))
}

fn token(name: &str) -> String {
    format!("fgw_{name}_0123456789abcdef")
}

impl Response {
    /// `Retry-After` in seconds.
    pub(crate) fn retry_after(&self) -> u64 {
        let seconds = self.header("retry-after").parse();
        seconds.unwrap_or_else(|_| panic!("whole seconds: {self:?}"))
    }
}

impl Harness {
    /// Looks up cold people until there is no turn at once; says how many were answered.
    pub(crate) async fn spend(&self, authorization: &str) -> usize {
        let mut client = self.client().await;
        let headers = [AT_ONCE, ("authorization", authorization)];
        for number in 0..200 {
            let target = Self::path(&format!("user_{}", 90_000 + self.forwards()));
            let answer = client.send("GET", &target, &headers).await;
            if answer.status == 429 {
                return number;
            }
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        panic!("there is no end of turns");
    }

    /// Lets time pass until that many requests have reached Flameup since the start.
    pub(crate) async fn until_arrivals(&self, count: u64) {
        for _ in 0..100 {
            let arrivals = self.flameup.arrivals_reach(count);
            let soon = tokio::time::timeout(LOOK, arrivals);
            if soon.await.is_ok() {
                return;
            }
            self.pass(1);
        }
        panic!("only {} requests arrive", self.flameup.arrivals());
    }

    /// Lets time pass until no more than so many wait for their turn.
    pub(crate) async fn until_waiting(&self, most: u32) {
        for _ in 0..200 {
            let waiting = metrics(self).await.sum("budget_waiting", &[]);
            if waiting <= f64::from(most) {
                return;
            }
            self.pass(1);
            tokio::time::sleep(LOOK).await;
        }
        panic!("more than {most} keep waiting");
    }

    /// One person in memory, asked for by nobody in particular.
    pub(crate) async fn known(&self, client: &mut Client, id: &str, authorization: &str) {
        let headers = [("authorization", authorization)];
        let answer = client.send("GET", &Self::path(id), &headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
