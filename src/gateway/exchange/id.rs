//! What a request is called: the id that it brought, or one of ours, and its place in a trace.
//!
//! # Specification
//! Ours are UUIDs of version 7 (RFC 9562 §5.7): milliseconds, then a count, then what tells threads
//! apart. They sort by time, and within a thread in the order that they were made. No lock is taken
//! and no random number drawn for one; they are unique, not secret.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderValue};

use crate::clock::Clock;
use crate::headers::X_REQUEST_ID;
use crate::telemetry::trace::Trace;

/// Longest request id that is taken from a client.
const MAX_ID_BYTES: usize = 128;

/// Length of a UUID as text.
const UUID_BYTES: usize = 36;

/// The bits that tell threads apart.
const THREAD: u64 = (1 << 42) - 1;

/// How long a date is carried on by the clock that never jumps, before it is read again.
const DATE_KEEPS: Duration = Duration::from_millis(500);

/// A request's id.
#[derive(Clone, Debug)]
pub struct RequestId {
    text: Text,
    /// Where traces are sent to a collector.
    trace: Option<Trace>,
}

#[derive(Clone, Debug)]
enum Text {
    /// The client's.
    Given(HeaderValue),
    /// Ours.
    Made([u8; UUID_BYTES]),
}

impl RequestId {
    /// The id that a request with these `headers` brought, if it can be used, or one of ours.
    pub fn of(headers: &HeaderMap, clock: &Clock, now: Instant) -> Self {
        let text = match headers.get(X_REQUEST_ID) {
            Some(id) if is_usable(id) => Text::Given(id.clone()),
            _ => Text::Made(made(clock, now)),
        };
        Self { text, trace: None }
    }

    /// The same, at that place in a trace.
    #[must_use]
    pub fn traced(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Its place in a trace, where traces are sent to a collector.
    pub fn trace(&self) -> Option<Trace> {
        self.trace
    }

    /// As a header's value.
    pub fn to_header(&self) -> HeaderValue {
        let mut id = match &self.text {
            Text::Given(id) => id.clone(),
            Text::Made(text) => {
                HeaderValue::from_bytes(text).unwrap_or(HeaderValue::from_static("-"))
            }
        };
        // No secret. But it never comes again, and HTTP/2 would remember it all the same, in place of
        // headers that do: so it is to be written out and not indexed (RFC 7541 §6.2.3).
        id.set_sensitive(true);
        id
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match &self.text {
            Text::Given(id) => id.to_str().unwrap_or("-"),
            Text::Made(text) => std::str::from_utf8(text).unwrap_or("-"),
        }
    }
}

/// A client's id is logged and forwarded, so it must be short and plain. Without `@` it is no
/// e-mail.
fn is_usable(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

/// What a thread makes its ids of.
#[derive(Clone, Copy, Debug)]
struct Maker {
    /// Tells this thread from all others, of all processes: 42 random bits.
    thread: u64,
    /// Ids made so far, from a random start that leaves room before it comes round.
    count: u32,
    /// When the date was read last, and what it was.
    read_at: Instant,
    read_ms: u64,
}

fn made(clock: &Clock, now: Instant) -> [u8; UUID_BYTES] {
    thread_local! {
        static OWN: Cell<Option<Maker>> = const { Cell::new(None) };
    }
    let mut maker = OWN.get().unwrap_or_else(|| Maker::new(clock, now));
    let id = maker.make(clock, now);
    OWN.set(Some(maker));
    hyphenated(id)
}

impl Maker {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "any bits of a random number are as random as all of them"
    )]
    fn new(clock: &Clock, now: Instant) -> Self {
        let mut seed = [0; 16];
        // Without random numbers the date in nanoseconds does: better an id that somebody could
        // have foreseen than none.
        if rand::fill(&mut seed).is_err() {
            let date = clock.wall().duration_since(SystemTime::UNIX_EPOCH);
            seed = date.map_or(0, |date| date.as_nanos()).to_be_bytes();
        }
        let seed = u128::from_be_bytes(seed);
        Self {
            thread: seed as u64 & THREAD,
            count: (seed >> 64) as u32 >> 1,
            read_at: now,
            read_ms: unix_ms(clock.wall()),
        }
    }

    /// The 48 bits of milliseconds, the version, 12 bits of the count, the variant, the other 20
    /// bits of the count and the thread's 42.
    fn make(&mut self, clock: &Clock, now: Instant) -> u128 {
        let mut since = now.checked_duration_since(self.read_at);
        if since.is_none_or(|since| since > DATE_KEEPS) {
            (self.read_at, self.read_ms) = (now, unix_ms(clock.wall()));
            since = None;
        }
        let since_ms = since.map_or(0, |since| u64::from(since.subsec_millis()));
        self.count = self.count.wrapping_add(1);
        let count = u64::from(self.count);
        let high = (self.read_ms + since_ms) << 16 | 0x7000 | count >> 20;
        let low = 1 << 63 | (count & 0xf_ffff) << 42 | self.thread;
        u128::from(high) << 64 | u128::from(low)
    }
}

fn unix_ms(date: SystemTime) -> u64 {
    let since = date.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// A UUID as text, in lower case.
fn hyphenated(id: u128) -> [u8; UUID_BYTES] {
    let mut text = [0; UUID_BYTES];
    uuid::Uuid::from_u128(id)
        .hyphenated()
        .encode_lower(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use uuid::{Uuid, Variant};

    use super::*;

    fn uuid(clock: &Clock) -> Uuid {
        let made = RequestId::of(&HeaderMap::new(), clock, clock.now());
        made.as_str().parse().expect("a UUID")
    }

    #[test]
    fn a_plain_id_is_taken_and_any_other_replaced() {
        let id = |sent: &'static str| {
            let headers = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static(sent))]);
            RequestId::of(&headers, &Clock::system(), Instant::now())
        };
        assert_eq!(id("req-7.a:b").as_str(), "req-7.a:b");
        for other in ["", "ada@example.com", "a b", "\"quoted\""] {
            assert!(id(other).as_str().parse::<Uuid>().is_ok(), "{other}");
        }
    }

    #[test]
    fn ids_of_ours_are_uuids_that_sort_by_time_and_never_recur() {
        let (clock, hand) = Clock::manual();
        let mut all = Vec::new();
        for round in 0..50 {
            all.extend((0..50).map(|_| uuid(&clock)));
            hand.advance(Duration::from_millis(round * 37));
        }
        assert!(all.is_sorted_by(|one, next| one < next));
        for id in &all {
            assert_eq!(
                (id.get_version_num(), id.get_variant()),
                (7, Variant::RFC4122)
            );
        }
        let (seconds, nanos) = uuid(&clock).get_timestamp().expect("a time").to_unix();
        let date = Duration::new(seconds, nanos).as_millis();
        assert_eq!(date, u128::from(unix_ms(clock.wall())));
    }

    #[test]
    fn an_id_takes_no_room_in_the_table_of_headers_of_http2() {
        let given = HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static("req-7"))]);
        for headers in [given, HeaderMap::new()] {
            let id = RequestId::of(&headers, &Clock::system(), Instant::now());
            assert!(id.to_header().is_sensitive(), "{}", id.as_str());
        }
    }

    #[test]
    fn threads_make_different_ids_at_the_same_moment() {
        let (clock, _hand) = Clock::manual();
        let other = std::thread::scope(|scope| scope.spawn(|| uuid(&clock)).join());
        let thread = |id: Uuid| id.as_u128() & u128::from(THREAD);
        assert_ne!(thread(uuid(&clock)), thread(other.expect("an id")));
    }
}
