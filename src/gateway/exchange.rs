//! The record of one request: its id, its times, its outcome. It ends as one line of the access
//! log and a few counts.

use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::auth::Caller;
use crate::cache::status::CacheStatus;
use crate::clock::Clock;
use crate::headers::X_REQUEST_ID;
use crate::route::Route;
use crate::telemetry::Telemetry;

/// Longest request id that is taken from a client.
const MAX_ID_BYTES: usize = 128;

/// The status that a request is counted under whose client left before its answer: none that was
/// sent, and by custom this one.
const CLIENT_LEFT: u16 = 499;

/// One request under way. However it ends, it ends as a record.
#[derive(Debug)]
pub struct Exchange<'g> {
    id: HeaderValue,
    began_at: Instant,
    caller: Option<&'g Caller>,
    route: &'static str,
    telemetry: &'g Telemetry,
    clock: &'g Clock,
    ended: bool,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The request's id.
    pub id: &'a HeaderValue,
    /// Who asked, if that was found out.
    pub caller: Option<&'a Caller>,
    /// The route's word; `none` where there is none.
    pub route: &'static str,
    /// The status that went to the client.
    pub status: StatusCode,
    /// What the cache did.
    pub cache: CacheStatus,
    /// Seconds of age of what was served from memory.
    pub age: Option<u64>,
    /// From the head of the request to the head of the response.
    pub duration: std::time::Duration,
}

impl<'g> Exchange<'g> {
    /// Opens the record of a request that arrived at `now`.
    pub fn begin(
        headers: &HeaderMap,
        telemetry: &'g Telemetry,
        clock: &'g Clock,
        now: Instant,
    ) -> Self {
        Self {
            id: request_id(headers),
            began_at: now,
            caller: None,
            route: "none",
            telemetry,
            clock,
            ended: false,
        }
    }

    /// The id that the request brought, or was given.
    pub fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// Notes who asks.
    pub fn asked_by(&mut self, caller: &'g Caller) {
        self.caller = Some(caller);
    }

    /// Notes which route is taken, by the word for it in metrics and logs.
    pub fn took_route(&mut self, name: &'static str) {
        self.route = name;
    }

    /// Notes which route is taken.
    pub fn took(&mut self, route: &Route<'_>) {
        self.route = route.name();
    }

    /// Closes the record.
    pub fn end(mut self, status: StatusCode, cache: CacheStatus, age: Option<u64>) {
        self.record(status, cache, age);
    }

    fn record(&mut self, status: StatusCode, cache: CacheStatus, age: Option<u64>) {
        self.ended = true;
        self.telemetry.answered(&Ended {
            id: &self.id,
            caller: self.caller,
            route: self.route,
            status,
            cache,
            age,
            duration: self.clock.now().saturating_duration_since(self.began_at),
        });
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(status) = StatusCode::from_u16(CLIENT_LEFT)
        {
            self.record(
                status,
                CacheStatus::None {
                    detail: "client-left",
                },
                None,
            );
        }
    }
}

/// The id that a request brought, or one of our own.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let id = headers.get(X_REQUEST_ID).filter(|id| is_usable(id));
    id.cloned().unwrap_or_else(made_id)
}

/// A client's id is logged and forwarded, so it must be short and plain. Without `@` it is no
/// e-mail.
fn is_usable(id: &HeaderValue) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.as_bytes().iter().all(plain)
}

/// An id of our own; such ids sort by time.
fn made_id() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_is_taken_and_any_other_replaced() {
        let id = |sent: &'static str| Some(HeaderValue::from_static(sent)).filter(is_usable);
        assert!(id("req-7.a:b").is_some());
        for other in ["", "ada@example.com", "a b", "\"quoted\""] {
            assert!(id(other).is_none(), "{other}");
        }
        let made = made_id();
        assert!(made.to_str().is_ok_and(|made| made.parse::<Uuid>().is_ok()));
    }
}
