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
    AGE, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, VIA,
};
use http::{Method, Response, StatusCode, Version, request};
use http_body_util::Full;

use crate::cache::Landed;
use crate::cache::entry::Entry;
use crate::cache::status::{CacheStatus, End, HitDetail, Reason};
use crate::failure::{Failure, Unsent};
use crate::headers::{CACHE_STATUS, VIA_VALUE, X_REQUEST_ID};
use crate::problem::Problem;

/// What a request is answered with.
#[derive(Debug)]
pub struct Answer {
    content: Content,
    cache_status: CacheStatus,
    /// Seconds, where the answer is not fresh from Flameup.
    age: Option<u64>,
    /// What comes after the request on its connection cannot be trusted to be another one.
    ends_connection: bool,
}

#[derive(Debug)]
enum Content {
    /// Flameup's own words.
    Flameup(Arc<Entry>),
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
            Some(Unsent::Overload | Unsent::Refused) => HitDetail::Overload,
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
        }
    }

    /// Flameup's answer, just given. `collapsed` if to another request.
    pub fn forwarded(landed: &Landed, reason: Reason, collapsed: bool, now: Instant) -> Self {
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
        }
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
        }
    }

    /// Ours: nothing was asked.
    pub fn refused(failure: &Failure) -> Self {
        let detail = match (failure, failure.unsent()) {
            (Failure::OnlyIfCached, _) => "only-if-cached",
            (_, Some(Unsent::Budget)) => "budget",
            (_, Some(Unsent::Breaker)) => "breaker",
            (_, Some(Unsent::Overload)) => "overload",
            (_, Some(Unsent::Refused) | None) => "refused",
        };
        Self {
            content: Content::Problem(failure.into()),
            cache_status: CacheStatus::None { detail },
            age: None,
            ends_connection: matches!(failure, Failure::Request(_)),
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
        request: &request::Parts,
        request_id: HeaderValue,
        close: bool,
    ) -> Response<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(12);
        let (status, body) = match &self.content {
            Content::Flameup(entry) => flameups(entry, request, &mut headers),
            Content::Problem(problem) => {
                problem.write_headers(&mut headers);
                (problem.status(), Some(problem.body()))
            }
        };
        if let Some(age) = self.age {
            headers.insert(AGE, HeaderValue::from(age));
        }
        write_own_headers(&mut headers, self.cache_status, request_id);
        if (close || self.ends_connection) && request.version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        respond(status, headers, body, &request.method)
    }

    fn from_memory(entry: Arc<Entry>, now: Instant, detail: Option<HitDetail>) -> Self {
        let ttl = entry.freshness().ttl_seconds(now);
        Self {
            cache_status: CacheStatus::Hit { ttl, detail },
            age: Some(entry.age_seconds(now)),
            content: Content::Flameup(entry),
            ends_connection: false,
        }
    }
}

/// What the cache did for a request that could not even be read.
pub const UNREAD: CacheStatus = CacheStatus::None { detail: "refused" };

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
fn flameups(
    entry: &Entry,
    request: &request::Parts,
    headers: &mut HeaderMap,
) -> (StatusCode, Option<Bytes>) {
    for (name, value) in entry.headers() {
        headers.append(name.clone(), value.clone());
    }
    if let Some(etag) = entry.etag() {
        headers.insert(ETAG, etag.clone());
        if entry.status() == StatusCode::OK && client_has(etag, &request.headers) {
            headers.remove(CONTENT_TYPE);
            return (StatusCode::NOT_MODIFIED, None);
        }
    }
    (entry.status(), Some(entry.body().clone()))
}

/// Whether `If-None-Match` lists `etag`. A field that cannot be read matches nothing.
fn client_has(etag: &HeaderValue, headers: &HeaderMap) -> bool {
    let Some(condition) = headers.typed_get::<IfNoneMatch>() else {
        return false;
    };
    let etag = ETag::decode(&mut std::iter::once(etag));
    etag.is_ok_and(|etag| !condition.precondition_passes(&etag))
}

fn respond(
    status: StatusCode,
    mut headers: HeaderMap,
    body: Option<Bytes>,
    method: &Method,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(match body {
        Some(body) if *method == Method::HEAD => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            Full::default()
        }
        Some(body) => Full::new(body),
        None => Full::default(),
    });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
