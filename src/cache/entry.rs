//! An answer of Flameup's in the form that clients get it, stored or only relayed.

use std::mem::size_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{AGE, ETAG, HeaderName, HeaderValue, VARY};
use http::{HeaderMap, StatusCode};
use memchr::memmem;

use super::changes::Number;
use super::claims::Claims;
use super::control::ResponseDirectives;
use super::freshness::Freshness;
use super::key::{CacheKey, workspace_of};
use crate::headers;
use crate::headers::common::Common;
use crate::upstream::Response;

/// Bytes that an entry takes beside its bytes and headers: itself and its counter, and what the store
/// keeps of it (key, node, order and frequency).
const OVERHEAD_BYTES: usize = size_of::<Entry>() + 24 + STORE_BYTES;

/// Bytes that moka takes for an entry: three nodes, the entry's times, a lock, its key, two places in
/// orders, and its slot at the usual load.
const STORE_BYTES: usize = 380;

/// Bytes that a pointer from one more name takes in the index of names: itself, its slot at the
/// usual load, and what the allocator rounds up to.
const POINTER_BYTES: usize = 48;

/// A response of Flameup's, its age, and what revalidates it.
///
/// It takes two pieces of memory: itself, and one for all of its bytes. Each further piece would cost
/// what an allocator rounds up to, and a hit one more place to wait for.
#[derive(Debug)]
pub struct Entry {
    freshness: Freshness,
    /// The body, its validator, what it claims, and what was asked for where that is no claim.
    bytes: Arc<[u8]>,
    headers: Common,
    /// The last change before it was asked for.
    asked_after: Number,
    body_end: u32,
    etag_end: u32,
    claims_end: u32,
    /// Where the name that Flameup was asked for stands, exactly as it was spelled.
    asked_as: u32,
    /// Zero for what came with the answer to something else.
    asked_as_length: u16,
    status: StatusCode,
    /// Whether the validator is Flameup's, so that Flameup can be asked about it.
    etag_is_upstreams: bool,
    /// Another person has claimed the name that Flameup was asked for since.
    disputed: AtomicBool,
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
        let etag = etag.or(made.as_ref().map(<[u8; 34]>::as_slice));
        let bytes = [&response.body, etag.unwrap_or_default()].concat();
        let end = in_32_bits(bytes.len());
        Self {
            freshness,
            bytes: bytes.into(),
            headers: Common::of(headers::passed_on(&response.headers).collect()),
            asked_after: 0,
            body_end: in_32_bits(response.body.len()),
            etag_end: end,
            claims_end: end,
            asked_as: end,
            asked_as_length: 0,
            status: response.status,
            etag_is_upstreams: given.is_some(),
            disputed: AtomicBool::new(false),
        }
    }

    /// The same entry, fresh again: Flameup answered 304 to its validator (RFC 9111 §4.3.4).
    #[must_use]
    pub fn freshened(&self, confirmation: &Response, lifetime: Lifetime) -> Self {
        let mut headers: HeaderMap = self.headers().iter().cloned().collect();
        for (name, _) in headers::passed_on(&confirmation.headers) {
            headers.remove(name);
        }
        headers.extend(headers::passed_on(&confirmation.headers));
        let given = confirmation.headers.get(ETAG).cloned();
        if let Some(etag) = given.or_else(|| self.validator()) {
            headers.insert(ETAG, etag);
        }
        if let Some(age) = confirmation.headers.get(AGE) {
            headers.insert(AGE, age.clone());
        }
        let whole = Response {
            status: self.status,
            headers,
            body: Bytes::copy_from_slice(self.body()),
            requested_at: confirmation.requested_at,
        };
        Self::new(&whole, lifetime).claiming(self.claims())
    }

    /// The same entry, past its lifetime from `now` on.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Self {
        Self {
            freshness: self.freshness.expired(now),
            bytes: Arc::clone(&self.bytes),
            headers: self.headers.clone(),
            disputed: AtomicBool::new(self.disputed.load(Ordering::Relaxed)),
            ..*self
        }
    }

    /// Whether a 304 is an answer to this entry's validator: one went out, and it is not about
    /// another (RFC 9111 §4.3.4).
    pub fn is_confirmed_by(&self, confirmation: &Response) -> bool {
        let given = confirmation.headers.get(ETAG);
        self.validator()
            .is_some_and(|own| given.is_none_or(|given| *given == own))
    }

    /// Remembers the name that Flameup was asked for, as it was spelled. What it claims is noted
    /// before.
    #[must_use]
    pub fn asked_as(mut self, spelled: &CacheKey) -> Self {
        let spelled = spelled.as_bytes();
        let Ok(length) = u16::try_from(spelled.len()) else {
            return self; // No lookup is that long.
        };
        let claims = &self.bytes[..index(self.claims_end)];
        // Mostly it is one of the claims, and stands there already.
        let at = memmem::rfind(&claims[index(self.etag_end)..], spelled);
        self.asked_as_length = length;
        if let Some(at) = at {
            self.asked_as = self.etag_end + in_32_bits(at);
        } else {
            self.asked_as = self.claims_end;
            self.bytes = [claims, spelled].concat().into();
        }
        self
    }

    /// Notes what its body claims.
    #[must_use]
    pub fn claiming(mut self, claims: Claims<'_>) -> Self {
        let asked_as = self.asked_name().map(<[u8]>::to_vec).unwrap_or_default();
        let (response, claims) = (&self.bytes[..index(self.etag_end)], claims.as_bytes());
        self.claims_end = self.etag_end + in_32_bits(claims.len());
        self.asked_as = self.claims_end;
        self.bytes = [response, claims, &asked_as].concat().into();
        self
    }

    /// Notes the last change before it was asked for.
    #[must_use]
    pub fn asked_after(mut self, number: Number) -> Self {
        self.asked_after = number;
        self
    }

    /// What its body says its person is called.
    pub fn claims(&self) -> Claims<'_> {
        Claims::packed_in(&self.bytes[index(self.etag_end)..index(self.claims_end)])
    }

    /// The names, as keys, that it may be stored under: those that it claims, and the one that was
    /// asked for.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let claimed = self.claims().iter().map(|claim| claim.key());
        claimed.chain(self.asked_name())
    }

    /// The number of the workspace that it belongs to.
    pub(super) fn workspace(&self) -> u32 {
        self.names().next().map_or(u32::MAX, workspace_of)
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
        self.headers.as_slice()
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[..index(self.body_end)]
    }

    /// Its body and its validator, to be kept by somebody else as well: nothing is copied.
    pub fn for_client(&self) -> (Bytes, Option<HeaderValue>) {
        let bytes = Bytes::from_owner(Arc::clone(&self.bytes));
        let etag = self.etag_range().map(|etag| bytes.slice(etag));
        let etag = etag.and_then(|etag| HeaderValue::from_maybe_shared(etag).ok());
        (bytes.slice(..index(self.body_end)), etag)
    }

    /// Its age and lifetime.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Its validator: Flameup's, or for a 200 one made of the body.
    pub fn etag(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(&self.bytes[self.etag_range()?]).ok()
    }

    fn etag_range(&self) -> Option<Range<usize>> {
        let etag = index(self.body_end)..index(self.etag_end);
        (!etag.is_empty()).then_some(etag)
    }

    /// The validator to ask Flameup with, if it ever gave one.
    pub fn validator(&self) -> Option<HeaderValue> {
        self.etag().filter(|_| self.etag_is_upstreams)
    }

    /// Whether this is the last that is known of what Flameup answers to exactly this name.
    pub(crate) fn is_answer_to(&self, spelled: &CacheKey) -> bool {
        self.asked_name() == Some(spelled.as_bytes()) && !self.disputed.load(Ordering::Relaxed)
    }

    fn asked_name(&self) -> Option<&[u8]> {
        let (at, length) = (index(self.asked_as), usize::from(self.asked_as_length));
        (length > 0).then(|| &self.bytes[at..at + length])
    }

    /// The identifier that Flameup was asked for, as it was spelled, with the letter of its kind: the
    /// same in all processes.
    pub fn asked_identifier(&self) -> Option<&[u8]> {
        let undisputed = !self.disputed.load(Ordering::Relaxed);
        let name = self.asked_name().filter(|_| undisputed)?;
        name.get(size_of::<u32>()..)
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

    /// Bytes of memory that storing it takes, the store's own and the allocator's included.
    pub(super) fn weight(&self) -> u32 {
        let pointers = self.claims().iter().count().saturating_sub(1);
        let bytes = OVERHEAD_BYTES
            + allocated(size_of::<[usize; 2]>() + self.bytes.len())
            + self.headers.heap_bytes()
            + pointers * POINTER_BYTES;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

/// What the allocator takes for a piece of so many bytes: it has four sizes between two powers of two.
fn allocated(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step)
}

/// A position in the bytes of an entry, whose body is bounded far below four gigabytes.
fn in_32_bits(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// The same, as it is used.
fn index(position: u32) -> usize {
    position as usize
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
    use crate::cache::claims::ClaimsBuf;
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
        let with_names = named.weight();
        let nameless = named.claiming(Claims::default());
        assert!(with_names as usize >= nameless.weight() as usize + 2 * POINTER_BYTES);
    }

    #[test]
    fn an_entry_takes_no_more_room_than_was_weighed() {
        assert_eq!(size_of::<Entry>(), 96);
    }

    #[test]
    fn what_was_asked_for_is_known_whether_it_is_claimed_or_not() {
        let workspace = workspace(0, EmailCase::Insensitive);
        for name in [uuid(1), id("u1"), id("Ada@x.org"), id("ADA@x.org")] {
            let asked = keys(&workspace, &name);
            let entry = entry(&workspace, &asked, Some(ADA.body()), Instant::now());
            assert!(entry.is_answer_to(asked.spelled()));
            let claims = ClaimsBuf::of_absence(&asked);
            let entry = entry.claiming(claims.claims());
            assert!(entry.is_answer_to(asked.spelled()));
            assert_eq!(entry.body(), ADA.body());
            assert_eq!(entry.claims().iter().count(), 1);
        }
    }
}
