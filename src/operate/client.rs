//! One request to an admin listener, over TCP or a Unix socket.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::either::Either;

use super::Cause;
use crate::config::{AdminToken, ListenAddress};

/// Time for all of it: a lookup may wait for its turn for a minute, and then for Flameup.
const DEADLINE: Duration = Duration::from_mins(2);

/// How long nothing is said while the gateway is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Largest answer that is taken in: a person is at most 1 MiB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Asks one admin listener.
#[derive(Debug)]
pub(super) struct Client {
    address: ListenAddress,
    token: Option<AdminToken>,
}

/// What it answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) value: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens there.
    #[error("connecting")]
    Connect(#[source] io::Error),
    /// It did not end.
    #[error("no answer in two minutes")]
    Timeout,
    /// The connection failed, or is no HTTP.
    #[error("exchanging request and answer")]
    Exchange(#[source] Cause),
    /// The token has characters that no header may have.
    #[error("the admin token cannot be sent")]
    Token,
    /// Something else listens there.
    #[error("the answer is not a gateway's")]
    NotJson(#[source] serde_json::Error),
}

impl Client {
    pub(super) fn new(address: ListenAddress, token: Option<AdminToken>) -> Self {
        Self { address, token }
    }

    /// Asks for `target`; with a body, by POST.
    pub(super) async fn ask(&self, target: &str, body: Option<Value>) -> Result<Answer, Error> {
        let mut exchange = pin!(timeout(DEADLINE, self.exchange(target, body)));
        let begun = Instant::now();
        loop {
            match timeout(PATIENCE, &mut exchange).await {
                Ok(answer) => return answer.unwrap_or(Err(Error::Timeout)),
                Err(_) => say_that_it_takes(begun.elapsed()),
            }
        }
    }

    async fn exchange(&self, target: &str, body: Option<Value>) -> Result<Answer, Error> {
        let exchange = |error: Cause| Error::Exchange(error);
        let request = self.request(target, body)?;
        let stream = connect(&self.address).await.map_err(Error::Connect)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| exchange(error.into()))?;
        // It ends when the sender is gone.
        tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| exchange(error.into()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await.map_err(exchange)?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(Error::NotJson)?;
        Ok(Answer {
            status,
            body,
            value,
        })
    }

    fn request(&self, target: &str, body: Option<Value>) -> Result<Request<Full<Bytes>>, Error> {
        let method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let host = match &self.address {
            ListenAddress::Tcp(address) => address.to_string(),
            ListenAddress::Unix(_) => "localhost".to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, host)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut value = value.map_err(|_| Error::Token)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        request
            .body(Full::from(body))
            .map_err(|error| Error::Exchange(error.into()))
    }
}

/// Tells whoever sits before a terminal that this is not stuck. Programs are told nothing.
fn say_that_it_takes(elapsed: Duration) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        let (seconds, most) = (elapsed.as_secs(), DEADLINE.as_secs());
        // Nothing is lost if it cannot be said.
        let _ = writeln!(stderr, "the gateway is at it: {seconds} of {most} s");
    }
}

async fn connect(address: &ListenAddress) -> io::Result<Either<TcpStream, UnixStream>> {
    match address {
        ListenAddress::Tcp(address) => {
            let stream = TcpStream::connect(reachable(*address)).await?;
            Ok(Either::Left(stream))
        }
        ListenAddress::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
    }
}

/// Whoever listens on all addresses is reached on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
