//! A client for the stand-in: whole exchanges through hyper, and bytes as they are.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far above what loopback needs: only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        Some(value.to_str().expect("the header is text"))
    }
}

pub(crate) async fn start() -> Sandbox {
    start_with(Options::default().unlimited()).await
}

pub(crate) async fn start_with(options: Options) -> Sandbox {
    Sandbox::start(options)
        .await
        .expect("a free port of loopback")
}

/// One call with the demo key over a connection of its own.
pub(crate) async fn call(sandbox: &Sandbox, method: &str, target: &str, body: &str) -> Reply {
    let key = format!("Bearer {DEMO_KEY}");
    call_with(
        sandbox.address(),
        method,
        target,
        &[("authorization", &key)],
        body,
    )
    .await
}

pub(crate) async fn get(sandbox: &Sandbox, target: &str) -> Reply {
    call(sandbox, "GET", target, "").await
}

pub(crate) async fn call_with(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    within(async {
        let stream = TcpStream::connect(address).await.expect("it listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("a client");
        let connection = tokio::spawn(connection);
        let response = sender
            .send_request(request(method, target, headers, body))
            .await;
        let reply = reply(response.expect("an answer")).await;
        connection.abort();
        reply
    })
    .await
}

pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "flameup");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from(body.to_owned()));
    request.body(body).expect("the request is valid")
}

pub(crate) async fn reply(response: Response<hyper::body::Incoming>) -> Reply {
    let (head, body) = response.into_parts();
    Reply {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.expect("a whole body").to_bytes(),
    }
}

/// Sends a GET with the demo key and reads to the end; the error is how the connection ended.
pub(crate) async fn raw_get(sandbox: &Sandbox, target: &str) -> (String, std::io::Result<()>) {
    let mut stream = open_get(sandbox, target).await;
    let mut bytes = Vec::new();
    let ended = within(stream.read_to_end(&mut bytes)).await;
    (
        String::from_utf8_lossy(&bytes).into_owned(),
        ended.map(|_| ()),
    )
}

/// Sends a GET with the demo key and leaves the rest to the caller.
pub(crate) async fn open_get(sandbox: &Sandbox, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(sandbox.address())
        .await
        .expect("it listens");
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: flameup\r\nauthorization: Bearer {DEMO_KEY}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

/// Splits a response into its head and what follows.
pub(crate) fn split(response: &str) -> (&str, &str) {
    response.split_once("\r\n\r\n").expect("a head and a body")
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.expect("an end within the bound")
}
