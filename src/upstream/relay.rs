//! A client's request sent on as it is, and Flameup's answer piece by piece.
//!
//! Unlike a [`PersonRequest`](super::request::PersonRequest) this carries what one client sent and
//! goes back to that client alone. It is still built from nothing: a canonical path, the query, the
//! headers that are on the list, and the body.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT, VIA};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout_at;

use super::receipt::{Heard, Receipt, Stages};
use super::request::{JSON, Outgoing, USER_AGENT_VALUE, target};
use super::scan::{Scan, is_compressed};
use super::{Error, Upstream};
use crate::config::BaseUrl;
use crate::headers::{TRACEPARENT, VIA_VALUE, X_REQUEST_ID};
use crate::shield::Credential;
use crate::shield::Permit;
use crate::telemetry::trace::Trace;

/// Largest body that is passed on. Flameup's largest documented answer is a page of 100 people, some
/// 56 KB of documented fields; 16 MiB leave 160 KiB of attributes to each. What is larger is no
/// answer of this API, and would only keep others from their forwards.
pub const MAX_RELAYED_BYTES: u64 = 16 * 1024 * 1024;

/// How much of an error is looked at before its head goes out. Flameup's have some hundred bytes; what
/// is longer is still cut before the key.
const LOOKED_AT_BYTES: usize = 64 * 1024;

/// A request as a client sent it.
#[derive(Debug)]
pub struct RelayRequest {
    /// Its method.
    pub method: Method,
    /// The canonical path.
    pub path: String,
    /// Its query, without the `?`.
    pub query: Option<String>,
    /// Those of its headers that are [sent on](crate::headers::sent_on).
    pub headers: HeaderMap,
    /// Its id.
    pub request_id: HeaderValue,
    /// Its own place in a trace, told in place of the client's.
    pub trace: Option<Trace>,
    /// Its body.
    pub body: Outgoing,
}

/// The head of an answer, and the body that is still to come.
#[derive(Debug)]
pub struct Relayed {
    /// Its status.
    pub status: StatusCode,
    /// All its headers; what may reach a client is chosen later.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Relay,
    /// When it was asked for.
    pub requested_at: Instant,
}

/// A body of Flameup's on its way to a client, within bounds and free of the key.
#[derive(Debug)]
pub struct Relay {
    inner: Incoming,
    deadline: tokio::time::Instant,
    /// How long it is in all, if that is known.
    length: Option<u64>,
    /// How much more may come.
    left: u64,
    scan: Scan,
    /// What was looked at and not given out.
    ahead: BytesMut,
    begun: bool,
}

impl Upstream {
    /// Sends one request, once, and takes in the head of the answer. The receipt is to
    /// be settled when the body has ended; it knows the head of an answer that is not usable too.
    ///
    /// # Errors
    /// When there is no head in time, or none that a client may see; see [`Error`].
    ///
    /// # Cancellation
    /// The request is abandoned; its connection is not used again.
    pub async fn relay(
        &self,
        request: RelayRequest,
        permit: Permit,
        deadline: tokio::time::Instant,
        now: Instant,
    ) -> (Result<Relayed, Error>, Receipt) {
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
            let mut relayed = Relayed::of(response, sent.credential(), deadline, now)?;
            if relayed.status.is_client_error() || relayed.status.is_server_error() {
                // Errors are what quotes keys: of them nothing goes out before all was seen.
                relayed.body.look_ahead().await?;
            }
            Ok(relayed)
        };
        let answer = timeout_at(deadline, answer)
            .await
            .unwrap_or(Err(Error::Timeout));
        let receipt = Receipt::new(sent, heard, stages, &answer);
        (answer, receipt)
    }
}

impl RelayRequest {
    fn build(
        self,
        base: &BaseUrl,
        authorization: &HeaderValue,
    ) -> Result<Request<Outgoing>, http::Error> {
        let mut request = Request::new(self.body);
        *request.uri_mut() = target(base, self.path, self.query.as_deref())?;
        let reads = matches!(self.method, Method::GET | Method::HEAD);
        *request.method_mut() = self.method;
        let empty = request.body().is_end_stream();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, JSON);
        if reads {
            // Flameup's samples send it with every request, a GET included (get-people-id).
            headers.insert(CONTENT_TYPE, JSON);
        } else if empty {
            // RFC 9110 §8.6: such methods are expected to have content; there is none.
            headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, USER_AGENT_VALUE);
        // The client's own lines take the place of ours.
        headers.extend(self.headers);
        headers.insert(AUTHORIZATION, authorization.clone());
        headers.insert(VIA, VIA_VALUE);
        headers.insert(X_REQUEST_ID, self.request_id);
        if let Some(parent) = self.trace.and_then(|trace| trace.to_header()) {
            headers.insert(TRACEPARENT, parent);
        }
        Ok(request)
    }
}

impl Relayed {
    fn of(
        response: http::Response<Incoming>,
        credential: &Arc<Credential>,
        deadline: tokio::time::Instant,
        requested_at: Instant,
    ) -> Result<Self, Error> {
        let (head, body) = response.into_parts();
        let coding = head.headers.get(CONTENT_ENCODING);
        // Nobody asked for a coding, and the key could not be found in one.
        if coding.is_some_and(|coding| coding != "identity") {
            return Err(Error::Encoded);
        }
        let mut values = head.headers.values();
        if values.any(|value| credential.needles.are_in(value.as_bytes())) {
            return Err(Error::QuotesKey);
        }
        if body.size_hint().lower() > MAX_RELAYED_BYTES {
            return Err(Error::TooLargeToRelay);
        }
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: Relay {
                length: body.size_hint().exact(),
                inner: body,
                deadline,
                left: MAX_RELAYED_BYTES,
                scan: Scan::new(Arc::clone(credential)),
                ahead: BytesMut::new(),
                begun: false,
            },
            requested_at,
        })
    }
}

impl Relay {
    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.inner.is_end_stream()
    }

    /// Takes in the whole of it, if it is not longer than `most` bytes. What was taken in of a longer one
    /// is given out all the same.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn hold_back(&mut self, most: usize) -> Result<Option<Bytes>, Error> {
        let mut begun = BytesMut::new();
        if self.is_empty() {
            return Ok(Some(Bytes::new()));
        }
        while begun.len() < most {
            match self.next().await? {
                Some(piece) => begun.extend_from_slice(&piece),
                None => return Ok(Some(begun.freeze())),
            }
        }
        if !begun.is_empty() {
            self.ahead = begun;
        }
        Ok(None)
    }

    /// How long it is in all, if that was announced. Asked before the first piece.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Looks at the whole of it, or the beginning if it is long; it is given out all the same.
    async fn look_ahead(&mut self) -> Result<(), Error> {
        let mut seen = BytesMut::new();
        while seen.len() < LOOKED_AT_BYTES
            && let Some(piece) = self.next_in_time().await?
        {
            seen.extend_from_slice(&piece);
        }
        self.ahead = seen;
        Ok(())
    }

    /// The next piece of it; nothing at its end.
    ///
    /// # Errors
    /// When it breaks off, is too large or too slow, or quotes the key; none of the key has been
    /// given out by then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let (deadline, next) = (self.deadline, self.next_in_time());
        timeout_at(deadline, next)
            .await
            .unwrap_or(Err(Error::Timeout))
    }

    async fn next_in_time(&mut self) -> Result<Option<Bytes>, Error> {
        if !self.ahead.is_empty() {
            return Ok(Some(self.ahead.split().freeze()));
        }
        while let Some(frame) = self.inner.frame().await {
            // Trailers stay here.
            let Ok(data) = frame.map_err(Error::Body)?.into_data() else {
                continue;
            };
            let left = self.left.checked_sub(data.len() as u64);
            self.left = left.ok_or(Error::TooLargeToRelay)?;
            if !self.begun && is_compressed(&data) {
                return Err(Error::Encoded);
            }
            self.begun |= !data.is_empty();
            let data = self.scan.push(data).map_err(|_| Error::QuotesKey)?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
        let rest = self.scan.end();
        Ok((!rest.is_empty()).then_some(rest))
    }
}
