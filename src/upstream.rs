//! The way to Flameup: step 6 of the request path. Sends one request within its deadlines.
//!
//! One pool of connections to one host. HTTP/2 where the peer offers it by ALPN, HTTP/1.1
//! otherwise. Certificates are always verified, against the system's roots and those of
//! `upstream.ca_file`. Redirects are answers like any other and are not followed.
//!
//! # Invariants
//! - Sending takes a [`Permit`] by value.
//! - The deadline is a total, from when the turn has come to the last byte of the body, a second
//!   attempt included: a peer that sends a byte a second gains nothing.
//! - An answer that quotes the key leaves this module as an error.

use std::io;
use std::time::{Duration, Instant};

use http::Request;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::RwLock;
use tokio::time::timeout_at;

pub mod connect;
pub mod receipt;
pub mod relay;
pub mod request;
pub mod response;
mod scan;
pub mod upload;

use crate::config;
use crate::shield::Permit;
use connect::Connector;
use receipt::{Heard, Receipt, Stages};
use request::{Outgoing, PersonRequest};
pub use response::Response;

/// Idle connections kept: as many as a burst may have under way that spends all of a budget at once.
/// With fewer, each answer beyond them closes a connection that the next request has to make anew.
const MAX_IDLE: usize = 256;

/// How long a connection stays idle: below the 60 s after which common peers close theirs, so that
/// a request rarely meets a connection that has just died.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// Between pings on an HTTP/2 connection, and how long to wait for their answer: without them a
/// dead peer would hang every stream until its deadline.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds on the head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// Sends requests to Flameup.
#[derive(Debug)]
pub struct Upstream {
    /// Locked only to be cloned, or replaced by one with no connections.
    pool: RwLock<Pool>,
    connector: Connector,
    base: config::BaseUrl,
    timeout: Duration,
    /// Zero: none.
    max_age: Duration,
}

/// Connections that were made since a moment.
#[derive(Debug)]
struct Pool {
    client: Client<Connector, Outgoing>,
    since: Instant,
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request could not be put together; only a query can cause this.
    #[error("building the request")]
    Build(#[source] http::Error),
    /// No connection within `upstream.connect_timeout`.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// The name does not resolve.
    #[error("resolving the upstream's name")]
    Resolve(#[source] BoxError),
    /// Nobody listens there.
    #[error("the upstream refused the connection")]
    Refused(#[source] BoxError),
    /// The certificate is not one we trust for this name.
    #[error("the upstream's certificate is not trusted")]
    Certificate(#[source] BoxError),
    /// Another failure while connecting.
    #[error("connecting to the upstream")]
    Connect(#[source] BoxError),
    /// The connection ended before a whole head had come.
    #[error("the upstream closed the connection without an answer")]
    Closed(#[source] BoxError),
    /// The head is no HTTP, or beyond its bounds.
    #[error("the upstream's answer is not usable HTTP")]
    Protocol(#[source] BoxError),
    /// No whole answer within `upstream.timeout`.
    #[error("the upstream took too long")]
    Timeout,
    /// The body ended early or is framed wrongly.
    #[error("the upstream's answer broke off")]
    Body(#[source] hyper::Error),
    /// The body is larger than [`response::MAX_BODY_BYTES`].
    #[error("the upstream's answer is larger than 1 MiB")]
    TooLarge,
    /// The body is larger than [`relay::MAX_RELAYED_BYTES`].
    #[error("the upstream's answer is larger than 16 MiB")]
    TooLargeToRelay,
    /// The body has a content coding nobody asked for.
    #[error("the upstream's answer has a content coding")]
    Encoded,
    /// The answer contains our key.
    #[error("the upstream's answer quotes the key")]
    QuotesKey,
}

/// A cause of any type, as hyper hands them out.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Upstream {
    /// An upstream as configured. No connection is made yet.
    ///
    /// # Errors
    /// When the system's certificates or `upstream.ca_file` cannot be loaded.
    pub fn new(config: &config::Upstream) -> Result<Self, connect::Error> {
        let connector = Connector::new(config)?;
        Ok(Self {
            pool: RwLock::new(Pool::of(&connector)),
            connector,
            base: config.base_url.clone(),
            timeout: config.timeout,
            max_age: config.connection_max_age,
        })
    }

    /// Closes the connections that are idle. Those in use close when their answers have come.
    pub fn close_idle(&self) {
        let unused = Pool::of(&self.connector);
        drop(std::mem::replace(&mut *self.pool.write(), unused));
    }

    /// The connections that may be used now. All are left together when the first of them may have
    /// come of age; the name is resolved for the next.
    fn client(&self) -> Client<Connector, Outgoing> {
        let pool = self.pool.read();
        if self.max_age.is_zero() || pool.since.elapsed() < self.max_age {
            return pool.client.clone();
        }
        drop(pool);
        self.close_idle();
        self.pool.read().client.clone()
    }

    /// Looks at why a request failed. Where one connection was dead, others that have been idle as
    /// long may be too: whoever asks again gets a new one.
    fn failed(&self, error: hyper_util::client::legacy::Error) -> Error {
        // Not so where a stream of HTTP/2 was reset: the connection goes on.
        let is_dead = cause::<io::Error>(&error).is_some()
            || cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_incomplete_message);
        if is_dead && !error.is_connect() {
            self.close_idle();
        }
        Error::of_request(error)
    }

    /// Sends a request and waits for the head of the answer; notes the `stages` on the way, if asked.
    async fn request(
        &self,
        mut request: Request<Outgoing>,
        stages: Option<&mut Stages>,
    ) -> Result<http::Response<Incoming>, Error> {
        let client = self.client();
        let Some(stages) = stages else {
            let response = client.request(request).await;
            return response.map_err(|error| self.failed(error));
        };
        let began = Instant::now();
        let mut connection = capture_connection(&mut request);
        let mut response = std::pin::pin!(client.request(request));
        let response = tokio::select! {
            biased;
            is_made = async { connection.wait_for_connection_metadata().await.is_some() } => {
                stages.connected = is_made.then(|| began.elapsed());
                response.await
            }
            response = &mut response => response,
        };
        stages.first_byte = response.is_ok().then(|| began.elapsed());
        response.map_err(|error| self.failed(error))
    }

    /// How long a request may take in all.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one request and takes in the whole answer, by `deadline`. The receipt is to
    /// be settled once it is known what the answer is worth; it knows the head of one that is not whole
    /// or not usable too.
    ///
    /// `now` is the moment that the answer's age counts from.
    ///
    /// # Errors
    /// When there is no whole answer in time; see [`Error`].
    ///
    /// # Cancellation
    /// The request is abandoned; its connection is not used again.
    pub async fn send(
        &self,
        request: &PersonRequest<'_>,
        permit: Permit,
        deadline: tokio::time::Instant,
        now: Instant,
    ) -> (Result<Response, Error>, Receipt) {
        let watched = request.trace.is_some();
        let request = match request.build(&self.base, &permit.credential().authorization) {
            Ok(request) => request,
            Err(error) => return (Err(Error::Build(error)), Receipt::UNSPENT),
        };
        let sent = permit.spend();
        let (mut heard, mut stages) = (None, Stages::UNSEEN);
        let answer = async {
            let response = self
                .request(request, watched.then_some(&mut stages))
                .await?;
            heard = Some(Heard::of(&response));
            Response::collect(response, sent.credential(), now).await
        };
        let answer = timeout_at(deadline, answer)
            .await
            .unwrap_or(Err(Error::Timeout));
        let receipt = Receipt::new(sent, heard, stages, &answer);
        (answer, receipt)
    }
}

impl Pool {
    /// One with no connection in it.
    fn of(connector: &Connector) -> Self {
        Self {
            client: client(connector.clone()),
            since: Instant::now(),
        }
    }
}

/// A client with no connection.
fn client(connector: Connector) -> Client<Connector, Outgoing> {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http1_max_headers(MAX_HEADERS)
        .http1_max_buf_size(MAX_HEAD_BYTES)
        .http2_max_header_list_size(64 * 1024)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}

impl Error {
    /// Whether the same request may be sent once more: nothing of an answer has come, and a new
    /// connection may do better. A timeout is none of these; the time is over.
    pub fn may_be_repeated(&self) -> bool {
        match self {
            Self::ConnectTimeout
            | Self::Resolve(_)
            | Self::Refused(_)
            | Self::Connect(_)
            | Self::Closed(_) => true,
            Self::Build(_)
            | Self::Certificate(_)
            | Self::Protocol(_)
            | Self::Timeout
            | Self::Body(_)
            | Self::TooLarge
            | Self::TooLargeToRelay
            | Self::Encoded
            | Self::QuotesKey => false,
        }
    }

    /// Whether nothing was sent for certain: there was no connection to send it over.
    fn is_unsent(&self) -> bool {
        match self {
            Self::Build(_)
            | Self::ConnectTimeout
            | Self::Resolve(_)
            | Self::Refused(_)
            | Self::Certificate(_)
            | Self::Connect(_) => true,
            Self::Closed(_)
            | Self::Protocol(_)
            | Self::Timeout
            | Self::Body(_)
            | Self::TooLarge
            | Self::TooLargeToRelay
            | Self::Encoded
            | Self::QuotesKey => false,
        }
    }

    /// Finds out what a failed request failed of. hyper tells only part of it by type; the rest
    /// stands in the chain of causes.
    fn of_request(error: hyper_util::client::legacy::Error) -> Self {
        let io_kind = cause::<io::Error>(&error).map(io::Error::kind);
        if error.is_connect() {
            let tls = cause::<rustls::Error>(&error);
            return match (tls, io_kind) {
                (Some(rustls::Error::InvalidCertificate(_)), _) => Self::Certificate(error.into()),
                (Some(_), _) => Self::Connect(error.into()),
                (None, Some(io::ErrorKind::TimedOut)) => Self::ConnectTimeout,
                (None, Some(io::ErrorKind::ConnectionRefused)) => Self::Refused(error.into()),
                _ if is_dns(&error) => Self::Resolve(error.into()),
                _ => Self::Connect(error.into()),
            };
        }
        match cause::<hyper::Error>(&error) {
            Some(hyper) if hyper.is_parse() || hyper.is_parse_too_large() => {
                Self::Protocol(error.into())
            }
            _ => Self::Closed(error.into()),
        }
    }
}

/// The first cause of type `E` in the chain.
fn cause<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The connector has no type for a failed resolution; it says so in its message.
fn is_dns(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|error| error.to_string().contains("dns error"))
}

/// An error and what is behind it. An `io::Error` that wraps another error passes for that one: its
/// `source` is the wrapped error's source, so what it wraps would be skipped.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}
