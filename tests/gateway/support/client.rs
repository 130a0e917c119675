//! An HTTP/1.1 client that shows everything, and lets a test send anything.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that anything in a test may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection to the gateway.
pub(crate) struct Client {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the gateway accepts");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        Self { address, sender }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.send("GET", target, &[]).await
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        self.send_with(method, target, headers, "").await
    }

    /// A POST of JSON.
    pub(crate) async fn post(&mut self, target: &str, body: &Value) -> Response {
        let headers = [("content-type", "application/json")];
        self.send_with("POST", target, &headers, body.to_string())
            .await
    }

    /// The same with a body.
    pub(crate) async fn send_with(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(target);
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("host", self.address.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .expect("a request that http can build");
        self.exchange(request).await.expect("a whole answer")
    }

    /// The same, where the answer may break off.
    pub(crate) async fn try_send_with(
        &mut self,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response, hyper::Error> {
        self.try_send(method, target, &[], body).await
    }

    /// The same with an `Authorization` of this value.
    pub(crate) async fn try_send_as(
        &mut self,
        authorization: &str,
        method: &str,
        target: &str,
        body: impl Into<Bytes>,
    ) -> Result<Response, hyper::Error> {
        let line = ("authorization", authorization);
        self.try_send(method, target, &[line], body).await
    }

    async fn try_send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response, hyper::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body.into()))
            .expect("a request that http can build");
        self.exchange(request).await
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response, hyper::Error> {
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }
}

impl Response {
    /// A header's value; empty without one.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("readable"))
    }

    /// `Cache-Status` without the member's name.
    pub(crate) fn cache_status(&self) -> &str {
        let value = self.header("cache-status");
        value
            .strip_prefix("flameup-gateway; ")
            .expect("the gateway's own member")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Asserts that this is the gateway's own answer: its envelope, and `Proxy-Status` with `error`.
    pub(crate) fn assert_own(&self, status: u16, error: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        let expected = format!("flameup-gateway; error={error}");
        assert!(
            self.header("proxy-status").starts_with(&expected),
            "{self:?}"
        );
        assert_eq!(self.header("content-type"), "application/json");
        let body = self.json();
        assert_eq!(body["code"], status);
        assert_eq!(
            body["error"],
            self.status.canonical_reason().expect("a known status")
        );
        assert!(
            body["message"]
                .as_str()
                .is_some_and(|message| !message.is_empty())
        );
        assert!(!self.header("cache-status").is_empty() && !self.header("x-request-id").is_empty());
    }

    /// Asserts that this is Flameup's answer, byte for byte.
    pub(crate) fn assert_flameups(&self, status: u16, body: &[u8]) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.body, body);
        assert_eq!(
            self.header("proxy-status"),
            "",
            "Flameup's answer is told from ours"
        );
    }
}

/// Sends bytes and reads what comes until the gateway closes, or nothing comes for a while.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the gateway accepts");
    stream.write_all(bytes).await.expect("the gateway reads");
    let mut answer = Vec::new();
    // A reset after the answer is an end like any other.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an end in time");
    answer
}
