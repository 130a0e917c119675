//! From an outcome to the response that a client gets: step 7 of the request path.
//!
//! # Specification
//! `Age`: RFC 9111 §5.1. `If-None-Match` and 304: RFC 9110 §13.1.2, §15.4.5. `Via`: RFC 9110
//! §7.6.3. A HEAD gets the headers of its GET (RFC 9110 §9.3.2).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use headers::{ETag, Header, HeaderMapExt, IfNoneMatch};
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VIA,
};
use http::{Method, Response, StatusCode, Version, request};

use crate::body::Body;
use crate::cache::Landed;
use crate::cache::entry::Entry;
use crate::cache::status::{CacheStatus, End, HitDetail, Reason};
use crate::failure::{Failure, Unsent};
use crate::headers::{CACHE_STATUS, UNCONFIRMED, VIA_VALUE, X_REQUEST_ID, passed_on, ready};
use crate::problem::Problem;
use crate::tier::log::Confirmation;

/// Headers of a hit: one of Flameup's, its validator, `Age`, and those of every answer.
const USUAL_HEADERS: usize = 6;

/// What a request is answered with.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    cache_status: CacheStatus,
    /// Seconds, where the answer is not fresh from Flameup.
    age: Option<u64>,
    /// What comes after the request on its connection cannot be trusted to be another one.
    ends_connection: bool,
    /// The request's body, if it had one, was read to its end.
    has_read: bool,
}

/// An answer of Flameup's to one request alone, its body perhaps still to come.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// All its headers; what may reach the client is chosen here.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
    /// Who has confirmed the change that it answers, where it is one that other gateways are told.
    pub confirmation: Option<Confirmation>,
}

#[derive(Debug)]
enum Content {
    /// Flameup's own words.
    Flameup(Arc<Entry>),
    /// Flameup's own words, on their way through.
    Relayed(Box<Head>),
    /// Ours.
    Problem(Problem),
}

impl Answer {
    /// From memory, fresh: a person or a stored 404.
    pub fn hit(entry: Arc<Entry>, now: Instant) -> Self {
        let negative = entry.status() != StatusCode::OK;
        Self::from_memory(entry, now, negative.then_some(HitDetail::Negative))
    }

    /// From memory, stale, while a refresh runs.
    pub fn revalidating(entry: Arc<Entry>, now: Instant) -> Self {
        Self::from_memory(entry, now, Some(HitDetail::Revalidating))
    }

    /// From memory, stale, because the budget has nothing left over for a refresh.
    pub fn stale_for_want_of_budget(entry: Arc<Entry>, now: Instant) -> Self {
        Self::from_memory(entry, now, Some(HitDetail::Budget))
    }

    /// From memory, stale, for a client that wants only what is cached.
    pub fn stale_unasked(entry: Arc<Entry>, now: Instant) -> Self {
        Self::from_memory(entry, now, Some(HitDetail::OnlyIfCached))
    }

    /// From memory, stale, because asking failed of `failure`.
    pub fn despite(entry: Arc<Entry>, failure: &Failure, now: Instant) -> Self {
        let detail = match failure.unsent() {
            Some(Unsent::Budget) => HitDetail::Budget,
            Some(Unsent::Breaker) => HitDetail::Breaker,
            Some(Unsent::Overload | Unsent::ClientLimit | Unsent::Refused) => HitDetail::Overload,
            None if matches!(failure, Failure::RateLimited { .. }) => HitDetail::Budget,
            None => return Self::stale_on_error(entry, failure.upstream_status(), now),
        };
        Self::from_memory(entry, now, Some(detail))
    }

    /// From memory, stale, because Flameup answered with an error of its own, or with nothing.
    pub fn stale_on_error(entry: Arc<Entry>, status: Option<StatusCode>, now: Instant) -> Self {
        let end = End::StaleOnError;
        Self {
            cache_status: CacheStatus::Forward {
                reason: Reason::Stale,
                status,
                end,
            },
            age: Some(entry.age_seconds(now)),
            content: Content::Flameup(entry),
            ends_connection: false,
            has_read: false,
        }
    }

    /// Flameup's answer, just given. `collapsed` if to another request.
    pub fn forwarded(landed: &Landed, reason: Reason, collapsed: bool, now: Instant) -> Self {
        if landed.is_shared() {
            let entry = Arc::clone(&landed.entry);
            let person = entry.status() == StatusCode::OK;
            let detail = if person {
                HitDetail::Tier
            } else {
                HitDetail::Negative
            };
            return Self::from_memory(entry, now, Some(detail));
        }
        let (status, end) = match (collapsed, landed.is_stored()) {
            (true, _) => (None, End::Collapsed),
            (false, true) => (Some(landed.fwd_status), End::Stored),
            (false, false) => (Some(landed.fwd_status), End::Relayed),
        };
        Self {
            cache_status: CacheStatus::Forward {
                reason,
                status,
                end,
            },
            // Older on arrival than the second it took: some cache stands before Flameup.
            age: Some(landed.entry.age_seconds(now)).filter(|_| landed.entry.was_aged()),
            content: Content::Flameup(Arc::clone(&landed.entry)),
            ends_connection: false,
            has_read: false,
        }
    }

    /// Flameup's answer to a forward of the whole request, of which Flameup `has_read` the body.
    pub fn relayed(head: Head, reason: Reason, has_read: bool) -> Self {
        Self {
            cache_status: CacheStatus::Forward {
                reason,
                status: Some(head.status),
                end: if head
                    .confirmation
                    .as_ref()
                    .is_none_or(Confirmation::is_whole)
                {
                    End::Relayed
                } else {
                    End::Unconfirmed
                },
            },
            age: None,
            content: Content::Relayed(Box::new(head)),
            ends_connection: false,
            has_read,
        }
    }

    /// Notes whether the request's body, if it had one, was read to its end.
    #[must_use]
    pub fn having_read(mut self, has_read: bool) -> Self {
        self.has_read = has_read;
        self
    }

    /// Whether the request's body, if it had one, was read to its end. What of it was not would be
    /// taken for the next request.
    pub fn has_read(&self) -> bool {
        self.has_read
    }

    /// Ours: asking failed.
    pub fn failed(failure: &Failure, reason: Reason) -> Self {
        if failure.unsent().is_some() {
            return Self::refused(failure);
        }
        let status = failure.upstream_status();
        Self {
            content: Content::Problem(failure.into()),
            cache_status: CacheStatus::Forward {
                reason,
                status,
                end: End::Failed,
            },
            age: None,
            ends_connection: false,
            has_read: false,
        }
    }

    /// Ours: nothing was asked.
    pub fn refused(failure: &Failure) -> Self {
        let detail = match (failure, failure.unsent()) {
            (Failure::OnlyIfCached, _) => "only-if-cached",
            (_, Some(Unsent::Budget)) => "budget",
            (_, Some(Unsent::Breaker)) => "breaker",
            (_, Some(Unsent::Overload)) => "overload",
            (_, Some(Unsent::ClientLimit)) => "client-limit",
            (_, Some(Unsent::Refused) | None) => "refused",
        };
        Self {
            content: Content::Problem(failure.into()),
            cache_status: CacheStatus::None { detail },
            age: None,
            ends_connection: matches!(failure, Failure::Request(_)),
            has_read: false,
        }
    }

    /// Flameup's own words, if these are what it answers with.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.content {
            Content::Flameup(entry) => Some(entry),
            Content::Relayed(_) | Content::Problem(_) => None,
        }
    }

    /// Ours, if these are.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.content {
            Content::Problem(problem) => Some(problem),
            Content::Flameup(_) | Content::Relayed(_) => None,
        }
    }

    /// Seconds of age, where it is not fresh from Flameup.
    pub fn age(&self) -> Option<u64> {
        self.age
    }

    /// What the cache did.
    pub fn cache_status(&self) -> CacheStatus {
        self.cache_status
    }

    /// Puts the response together for the client that sent `request`, which the gateway calls
    /// `request_id`.
    pub fn into_response(
        self,
        request: request::Parts,
        request_id: HeaderValue,
        close: bool,
    ) -> Response<Body> {
        let has_it = self.is_with_client(&request.headers);
        // The request's own map, whose memory does for the answer too.
        let mut headers = request.headers;
        headers.clear();
        headers.reserve(USUAL_HEADERS);
        let (status, body) = match self.content {
            Content::Flameup(entry) => {
                let (status, body) = flameups(&entry, has_it, &mut headers);
                (status, whole(body, &mut headers, &request.method))
            }
            Content::Problem(problem) => {
                problem.write_headers(&mut headers);
                let body = whole(Some(problem.body()), &mut headers, &request.method);
                (problem.status(), body)
            }
            Content::Relayed(head) => {
                write_relayed(&head.headers, &request.method, &mut headers);
                if let Some(missing) = head.confirmation.as_ref().and_then(unconfirmed) {
                    headers.insert(UNCONFIRMED, missing);
                }
                (head.status, head.body)
            }
        };
        if let Some(age) = self.age {
            headers.insert(AGE, ready::AGE.with(age));
        }
        write_own_headers(&mut headers, self.cache_status, request_id);
        if (close || self.ends_connection) && request.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Whether the client, by the headers of its request, has what it would be answered with.
    fn is_with_client(&self, headers: &HeaderMap) -> bool {
        let Content::Flameup(entry) = &self.content else {
            return false;
        };
        entry.status() == StatusCode::OK && client_has(entry, headers)
    }

    fn from_memory(entry: Arc<Entry>, now: Instant, detail: Option<HitDetail>) -> Self {
        let ttl = entry.freshness().ttl_seconds(now);
        Self {
            cache_status: CacheStatus::Hit { ttl, detail },
            age: Some(entry.age_seconds(now)),
            content: Content::Flameup(entry),
            ends_connection: false,
            has_read: false,
        }
    }
}

/// What the cache did for a request that could not even be read.
pub const UNREAD: CacheStatus = CacheStatus::None { detail: "refused" };

/// What the cache did for a lookup of many: something else for each, and told there.
pub const OF_MANY: CacheStatus = CacheStatus::None { detail: "per-id" };

/// The response to a lookup of many.
pub fn to_lookup_of_many(body: Bytes, request_id: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::piecemeal(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    write_own_headers(headers, OF_MANY, request_id);
    response
}

/// The response to a request that could not even be read.
pub fn to_unread_request(problem: &Problem, request_id: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(problem.body());
    *response.status_mut() = problem.status();
    problem.write_headers(response.headers_mut());
    write_own_headers(response.headers_mut(), UNREAD, request_id);
    response
}

/// The headers that are on every answer, whoever's words it is.
fn write_own_headers(headers: &mut HeaderMap, cache_status: CacheStatus, request_id: HeaderValue) {
    headers.insert(CACHE_STATUS, cache_status.to_header());
    headers.insert(VIA, VIA_VALUE);
    headers.insert(X_REQUEST_ID, request_id);
}

/// Flameup's answer, or 304 and no body if the client has it already.
fn flameups(entry: &Entry, has_it: bool, headers: &mut HeaderMap) -> (StatusCode, Option<Bytes>) {
    let (body, etag) = entry.for_client();
    for (name, value) in entry.headers() {
        headers.append(name.clone(), value.clone());
    }
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if has_it {
        headers.remove(CONTENT_TYPE);
        return (StatusCode::NOT_MODIFIED, None);
    }
    (entry.status(), Some(body))
}

/// Whether `If-None-Match` lists the entry's validator. A field that cannot be read matches nothing.
fn client_has(entry: &Entry, headers: &HeaderMap) -> bool {
    let Some(condition) = headers.typed_get::<IfNoneMatch>() else {
        return false;
    };
    let etag = entry.etag();
    let etag = etag.and_then(|etag| ETag::decode(&mut std::iter::once(&etag)).ok());
    etag.is_some_and(|etag| !condition.precondition_passes(&etag))
}

/// The gateways that have not confirmed a change, a few of them by name.
fn unconfirmed(confirmation: &Confirmation) -> Option<HeaderValue> {
    /// Enough to see who is away; with more than these, Redis is.
    const MOST_NAMED: usize = 10;
    let mut missing = confirmation.missing();
    missing.truncate(MOST_NAMED);
    let named = HeaderValue::try_from(missing.join(", ")).ok();
    named.filter(|named| !named.is_empty())
}

/// Those headers of a relayed answer that reach a client. The length of a body is told by its
/// framing; of the body that a HEAD has none of, by Flameup.
fn write_relayed(from: &HeaderMap, method: &Method, to: &mut HeaderMap) {
    for (name, value) in passed_on(from) {
        to.append(name, value);
    }
    let also = [
        Some(ETAG),
        (*method == Method::HEAD).then_some(CONTENT_LENGTH),
    ];
    for name in also.into_iter().flatten() {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// A body that is there; of a HEAD, only its length.
fn whole(body: Option<Bytes>, headers: &mut HeaderMap, method: &Method) -> Body {
    let Some(body) = body else {
        return Body::default();
    };
    if *method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        return Body::default();
    }
    Body::from(body)
}
