//! Shorthand for what many tests ask and arrange.

use std::net::SocketAddr;
use std::time::Duration;

use flameup_gateway::sandbox::{DEMO_KEY, FaultKind};
use serde_json::{Map, Value};

use super::client::{Client, Response, raw};
use super::harness::{Harness, Setup};
use super::metrics::{Metrics, metrics};
use super::wire::Wire;

/// How often a test looks for what the gateway does in the background, and the pause in between.
const LOOKS: u32 = 500;
const PAUSE: Duration = Duration::from_millis(5);

impl Harness {
    /// Asks again until the answer is `enough`: for what a background refresh will have changed.
    pub(crate) async fn until(&self, target: &str, enough: impl Fn(&Response) -> bool) -> Response {
        self.until_with(target, &[], enough).await
    }

    /// The same with headers.
    pub(crate) async fn until_with(
        &self,
        target: &str,
        headers: &[(&str, &str)],
        enough: impl Fn(&Response) -> bool,
    ) -> Response {
        let mut client = self.client().await;
        for _ in 0..LOOKS {
            let response = client.send("GET", target, headers).await;
            if enough(&response) {
                return response;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("{target} never got the answer that the test waits for");
    }

    /// Looks at the metrics until they are as they must become.
    pub(crate) async fn until_metrics(&self, enough: impl Fn(&Metrics) -> bool) {
        for _ in 0..LOOKS {
            if enough(&metrics(self).await) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the metrics never became what the test waits for");
    }

    /// Somebody else asks so often with the key of the default workspace.
    pub(crate) async fn spend_elsewhere(&self, requests: u32) {
        let mut other = Client::connect(self.flameup.address()).await;
        let key = format!("Bearer {DEMO_KEY}");
        for _ in 0..requests {
            let target = "/api/v1/people/user_1";
            other.send("GET", target, &[("authorization", &key)]).await;
        }
    }

    /// Asks over a connection of its own, without waiting for the answer.
    pub(crate) async fn asking(&self, target: &str, headers: &[(&str, &str)]) -> Wire {
        let mut wire = Wire::connect(self.address()).await;
        wire.ask_with(target, headers).await;
        wire
    }

    /// Creates a person behind the API's back.
    pub(crate) fn create(&self, id: &str, email: &str) {
        let fields = Map::from_iter([("email".to_owned(), Value::from(email))]);
        self.flameup.people().upsert(id, &fields);
    }

    /// What reached Flameup, path and query, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        let received = self.flameup.received();
        received.into_iter().map(|request| request.target).collect()
    }
}

/// The long path of a person, as the workspace `workspace` would name it.
pub(crate) fn long_path(workspace: &str, uuid: &str) -> String {
    format!("/api/v1/workspaces/{workspace}/people/{uuid}")
}

/// The defaults, with lifetimes that a test can count on.
pub(crate) async fn exact() -> Harness {
    Setup::new().config("cache.ttl_jitter = 0.0").start().await
}

/// Flameup answers with this status, in its own envelope.
pub(crate) fn status(code: u16) -> FaultKind {
    FaultKind::Status {
        code,
        headers: Vec::new(),
        body: None,
        shape: flameup_gateway::sandbox::ErrorShape::E,
    }
}

/// Flameup answers as ever and adds these headers.
pub(crate) fn headers(lines: &[(&str, &str)]) -> FaultKind {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    FaultKind::Headers {
        headers: lines.iter().map(owned).collect(),
    }
}

/// Sends a GET whose target no well-behaved client would send, and returns the status and all
/// that came.
pub(crate) async fn raw_get(address: SocketAddr, target: &[u8]) -> (u16, String) {
    let host = format!(" HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    raw_status(address, &[b"GET ", target, host.as_bytes()].concat()).await
}

/// Sends `bytes`, and returns the status and all that came.
pub(crate) async fn raw_status(address: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let answer = String::from_utf8_lossy(&raw(address, bytes).await).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status line"), answer)
}
