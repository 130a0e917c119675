//! An answer of Flameup's in the form that clients get it, stored or only relayed.

use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AGE, ETAG, HeaderName, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};

use super::changes::Number;
use super::claims::Claims;
use super::control::ResponseDirectives;
use super::freshness::Freshness;
use super::key::CacheKey;
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
    /// The name that Flameup was asked for, exactly as it was spelled. `None` for what came with
    /// the answer to something else.
    asked_as: Option<Box<[u8]>>,
    /// Another person has claimed that name since.
    disputed: AtomicBool,
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
        let made = (given.is_none() && response.status == StatusCode::OK)
            .then(|| strong_etag(&response.body));
        let etag = given.map(HeaderValue::as_bytes);
        let (body, etag) = side_by_side(
            &response.body,
            etag.or(made.as_ref().map(<[u8; 34]>::as_slice)),
        );
        Self {
            status: response.status,
            headers: headers::passed_on(&response.headers).collect(),
            body,
            freshness,
            etag,
            etag_is_upstreams: given.is_some(),
            asked_as: None,
            disputed: AtomicBool::new(false),
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
        Self::new(&whole, lifetime).claiming(self.claims.clone())
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
            asked_as: self.asked_as.clone(),
            disputed: AtomicBool::new(self.disputed.load(Ordering::Relaxed)),
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

    /// Remembers the name that Flameup was asked for, as it was spelled.
    #[must_use]
    pub fn asked_as(mut self, spelled: &CacheKey) -> Self {
        self.asked_as = Some(spelled.as_bytes().into());
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

    /// Whether this is the last that is known of what Flameup answers to exactly this name.
    pub(super) fn is_answer_to(&self, spelled: &CacheKey) -> bool {
        self.asked_as.as_deref() == Some(spelled.as_bytes())
            && !self.disputed.load(Ordering::Relaxed)
    }

    /// A later answer says that the name Flameup was asked for is somebody else's: it is to be
    /// asked again before anybody is served this under that name.
    pub(super) fn dispute(&self) {
        self.disputed.store(true, Ordering::Relaxed);
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
            + self.asked_as.as_ref().map_or(0, |asked| asked.len())
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

/// A body and its validator in one piece of memory, which is counted once. A hit reaches for both,
/// and each piece is one more place that it has to wait for.
fn side_by_side(body: &[u8], etag: Option<&[u8]>) -> (Bytes, Option<HeaderValue>) {
    let Some(etag) = etag else {
        return (Bytes::copy_from_slice(body), None);
    };
    let both = Bytes::from([body, etag].concat());
    let etag = HeaderValue::from_maybe_shared(both.slice(body.len()..));
    (both.slice(..body.len()), etag.ok())
}

/// A strong validator of exactly these bytes: half a SHA-256 is as good as unique.
fn strong_etag(body: &[u8]) -> [u8; 34] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hash = digest(&SHA256, body);
    let mut etag = [b'"'; 34];
    for (digits, byte) in etag[1..33].chunks_exact_mut(2).zip(hash.as_ref()) {
        digits[0] = HEX[usize::from(byte >> 4)];
        digits[1] = HEX[usize::from(byte & 15)];
    }
    etag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{ADA, entry, id, keys, uuid, workspace};
    use crate::config::EmailCase;

    #[test]
    fn an_entry_is_the_answer_to_the_spelling_that_was_asked_for_until_it_is_disputed() {
        let workspace = workspace(0, EmailCase::Insensitive);
        let spelled = |name: &str| keys(&workspace, &id(name)).spelled().clone();
        let asked = keys(&workspace, &id("ADA@x.org"));
        let entry = entry(&workspace, &asked, Some(ADA.body()), Instant::now());
        assert!(entry.is_answer_to(&spelled("ADA@x.org")));
        assert!(!entry.is_answer_to(&spelled("ada@x.org")));
        entry.dispute();
        assert!(!entry.is_answer_to(&spelled("ADA@x.org")));
        assert!(
            !entry
                .expired(Instant::now())
                .is_answer_to(&spelled("ADA@x.org"))
        );
    }

    #[test]
    fn an_expired_entry_is_the_same_but_for_its_lifetime() {
        let workspace = workspace(0, EmailCase::Insensitive);
        let (asked, now) = (keys(&workspace, &uuid(1)), Instant::now());
        let entry = entry(&workspace, &asked, Some(ADA.body()), now).asked_after(7);
        let later = now + Duration::from_secs(10);
        assert!(entry.freshness().is_fresh(later));
        let expired = entry.expired(later);
        assert!(!expired.freshness().is_fresh(later));
        assert_eq!((expired.number(), expired.body()), (7, entry.body()));
        assert_eq!(expired.age_seconds(later), 10);
        assert_eq!(expired.etag(), entry.etag());
        assert!(expired.is_answer_to(asked.spelled()));
        assert!(expired.claims().are_of(entry.claims()));
    }

    #[test]
    fn every_further_name_is_paid_for() {
        let workspace = workspace(0, EmailCase::Insensitive);
        let asked = keys(&workspace, &uuid(1));
        let named = entry(&workspace, &asked, Some(ADA.body()), Instant::now());
        let weight = |entry: &Entry| entry.weight(asked.person().as_bytes()) as usize;
        let with_names = weight(&named);
        let claimed = named.claims().heap_bytes();
        let nameless = named.claiming(Claims::default());
        assert_eq!(with_names - weight(&nameless), claimed + 2 * POINTER_BYTES);
    }
}
