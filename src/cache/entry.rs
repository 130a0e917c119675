//! An answer of Flameup's in the form that clients get it, stored or only relayed.

use std::mem::size_of;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AGE, ETAG, HeaderName, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};

use super::changes::Number;
use super::claims::Claims;
use super::control::ResponseDirectives;
use super::freshness::Freshness;
use super::key::{CacheKey, eq_folded};
use crate::headers;
use crate::upstream::Response;

/// Bytes that an entry takes beside its body, header values and key: the entry, its counter, what
/// the store keeps of it (node, key, frequency and order) and what the allocator rounds up to.
/// Chosen so that the count meets what was measured: 50,000 people of 567 bytes took 1,440 bytes
/// each of resident memory.
const OVERHEAD_BYTES: usize = size_of::<Entry>() + 16 + 490;

/// Bytes that a pointer from one more name takes in the index of names: itself, its slot at the
/// usual load, and what the allocator rounds up to.
const POINTER_BYTES: usize = 80;

/// A response of Flameup's, its age, and what revalidates it.
#[derive(Debug)]
pub struct Entry {
    status: StatusCode,
    headers: Box<[(HeaderName, HeaderValue)]>,
    body: Bytes,
    freshness: Freshness,
    etag: Option<HeaderValue>,
    /// Whether `etag` is Flameup's, so that Flameup can be asked about it.
    etag_is_upstreams: bool,
    /// The spelling that Flameup was asked for, where it differs from the normal form.
    spelled: Option<CacheKey>,
    /// It answers that spelling alone, whatever is folded for a key.
    exact: bool,
    /// What the body says its person is called.
    claims: Claims,
    /// The last change before it was asked for.
    asked_after: Number,
}

/// The configured lifetime of an entry.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// How long it is fresh at most.
    pub ttl: Duration,
    /// Share of `ttl`, 0 to 1, that is taken off for this entry.
    pub jitter: f64,
}

impl Lifetime {
    /// Of what is not stored.
    pub const NONE: Self = Self {
        ttl: Duration::ZERO,
        jitter: 0.0,
    };
}

impl Entry {
    /// Makes an entry of `response`. A 200 without a validator gets one from its body.
    pub fn new(response: &Response, lifetime: Lifetime) -> Self {
        let directives = ResponseDirectives::of(&response.headers);
        let freshness = Freshness::new(
            response.requested_at,
            age(&response.headers),
            lifetime.ttl,
            lifetime.jitter,
            &directives,
        );
        let given = response.headers.get(ETAG);
        let made = || (response.status == StatusCode::OK).then(|| strong_etag(&response.body))?;
        Self {
            status: response.status,
            headers: headers::passed_on(&response.headers).collect(),
            body: response.body.clone(),
            freshness,
            etag: given.map(headers::detached).or_else(made),
            etag_is_upstreams: given.is_some(),
            spelled: None,
            exact: false,
            claims: Claims::default(),
            asked_after: 0,
        }
    }

    /// The same entry, fresh again: Flameup answered 304 to its validator (RFC 9111 §4.3.4).
    #[must_use]
    pub fn freshened(&self, confirmation: &Response, lifetime: Lifetime) -> Self {
        let mut headers: HeaderMap = self.headers.iter().cloned().collect();
        for (name, _) in headers::passed_on(&confirmation.headers) {
            headers.remove(name);
        }
        headers.extend(headers::passed_on(&confirmation.headers));
        if let Some(etag) = confirmation.headers.get(ETAG).or(self.validator()) {
            headers.insert(ETAG, etag.clone());
        }
        if let Some(age) = confirmation.headers.get(AGE) {
            headers.insert(AGE, age.clone());
        }
        let whole = Response {
            status: self.status,
            headers,
            body: self.body.clone(),
            requested_at: confirmation.requested_at,
        };
        Self::new(&whole, lifetime)
            .found_like(self)
            .claiming(self.claims.clone())
    }

    /// The same entry, past its lifetime from `now` on.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            freshness: self.freshness.expired(now),
            etag: self.etag.clone(),
            etag_is_upstreams: self.etag_is_upstreams,
            spelled: self.spelled.clone(),
            exact: self.exact,
            claims: self.claims.clone(),
            asked_after: self.asked_after,
        }
    }

    /// Whether a 304 is an answer to this entry's validator: one went out, and it is not about
    /// another (RFC 9111 §4.3.4).
    pub fn is_confirmed_by(&self, confirmation: &Response) -> bool {
        let given = confirmation.headers.get(ETAG);
        self.validator()
            .is_some_and(|own| given.is_none_or(|given| given == own))
    }

    /// Remembers the spelling that Flameup was asked for.
    #[must_use]
    pub fn spelled_as(mut self, spelled: Option<CacheKey>) -> Self {
        self.spelled = spelled;
        self
    }

    /// Has it answer the spelling that Flameup was asked for and no other.
    #[must_use]
    pub fn exactly(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Answers the spellings that another entry of the same person does.
    #[must_use]
    pub fn found_like(mut self, other: &Self) -> Self {
        self.spelled.clone_from(&other.spelled);
        self.exact = other.exact;
        self
    }

    /// Notes what its body claims.
    #[must_use]
    pub fn claiming(mut self, claims: Claims) -> Self {
        self.claims = claims;
        self
    }

    /// Notes the last change before it was asked for.
    #[must_use]
    pub fn asked_after(mut self, number: Number) -> Self {
        self.asked_after = number;
        self
    }

    /// What its body says its person is called.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The last change before it was asked for.
    pub fn number(&self) -> Number {
        self.asked_after
    }

    /// Whether it was asked for later than another.
    pub fn began_after(&self, other: &Self) -> bool {
        self.freshness.began_after(&other.freshness)
    }

    /// Whether it answers only the spelling that Flameup was asked for.
    pub fn is_exact(&self) -> bool {
        self.exact
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Those of its headers that reach a client, the validator apart.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its age and lifetime.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Its validator: Flameup's, or for a 200 one made of the body.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.etag.as_ref()
    }

    /// The validator to ask Flameup with, if it ever gave one.
    pub fn validator(&self) -> Option<&HeaderValue> {
        self.etag.as_ref().filter(|_| self.etag_is_upstreams)
    }

    /// Whether `spelled` is the spelling that Flameup was asked for, `person` the normal form.
    pub(super) fn answers_spelling(&self, spelled: &CacheKey, person: &CacheKey) -> bool {
        let of_this_name = |asked: &&CacheKey| eq_folded(asked.as_bytes(), person.as_bytes());
        self.spelled.as_ref().filter(of_this_name).unwrap_or(person) == spelled
    }

    /// Whole seconds of age, as `Age` states them.
    pub fn age_seconds(&self, now: Instant) -> u64 {
        self.freshness.current_age(now).as_secs()
    }

    /// Whether it had an age on arrival, from a cache before Flameup.
    pub fn was_aged(&self) -> bool {
        self.freshness.was_aged()
    }

    /// Bytes of memory that storing it takes.
    pub(super) fn weight(&self, key: &[u8]) -> u32 {
        let headers: usize = self
            .headers
            .iter()
            .map(|(_, value)| value.len() + size_of::<(HeaderName, HeaderValue)>())
            .sum();
        let etag = self.etag.as_ref().map_or(0, HeaderValue::len);
        let bytes = OVERHEAD_BYTES
            + headers
            + etag
            + self.body.len()
            + key.len()
            + self.claims.heap_bytes()
            + self.claims.iter().count().saturating_sub(1) * POINTER_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// Whether upstream's headers rule storing out: `Cache-Control`, or `Vary: *` (RFC 9111 §4.1).
pub(super) fn forbids_storing(headers: &HeaderMap) -> bool {
    ResponseDirectives::of(headers).forbids_storing
        || headers
            .get_all(VARY)
            .iter()
            .any(|value| value.as_bytes().contains(&b'*'))
}

/// `Age` on arrival, if another cache stands before Flameup; what is no number counts as none,
/// and one too large for us as old enough for anything (RFC 9111 §1.2.2).
fn age(headers: &HeaderMap) -> Duration {
    let digits = |age: &&str| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit());
    let age = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok())
        .filter(digits);
    Duration::from_secs(age.map_or(0, |age| age.parse().map_or(1 << 31, |age: u32| age.into())))
}

/// A strong validator of exactly these bytes: half a SHA-256 is as good as unique.
fn strong_etag(body: &[u8]) -> Option<HeaderValue> {
    let hash = digest(&SHA256, body);
    let mut etag = Vec::with_capacity(34);
    etag.push(b'"');
    for byte in &hash.as_ref()[..16] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        etag.push(HEX[usize::from(byte >> 4)]);
        etag.push(HEX[usize::from(byte & 15)]);
    }
    etag.push(b'"');
    HeaderValue::from_bytes(&etag).ok()
}
