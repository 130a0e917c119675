//! The record of one request: its id, its times, its outcome. It ends as one line of the access
//! log and a few counts.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::auth::Caller;
use crate::cache::status::CacheStatus;
use crate::headers::X_REQUEST_ID;
use crate::route::Route;
use crate::telemetry::Telemetry;

/// Longest request id that is taken from a client.
const MAX_ID_BYTES: usize = 128;

/// One request under way.
#[derive(Debug)]
pub struct Exchange {
    id: HeaderValue,
    began_at: Instant,
    caller: Option<Arc<Caller>>,
    route: &'static str,
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
    /// From the head of the request to the head of the response.
    pub duration: std::time::Duration,
}

impl Exchange {
    /// Opens the record of a request that arrived at `now`.
    pub fn begin(headers: &HeaderMap, now: Instant) -> Self {
        let id = headers
            .get(X_REQUEST_ID)
            .filter(|id| is_usable(id))
            .cloned();
        Self {
            id: id.unwrap_or_else(made_id),
            began_at: now,
            caller: None,
            route: "none",
        }
    }

    /// The id that the request brought, or was given.
    pub fn id(&self) -> &HeaderValue {
        &self.id
    }

    /// Notes who asks.
    pub fn asked_by(&mut self, caller: &Arc<Caller>) {
        self.caller = Some(Arc::clone(caller));
    }

    /// Notes which route is taken.
    pub fn took(&mut self, route: &Route<'_>) {
        self.route = route.name();
    }

    /// Closes the record.
    pub fn end(self, telemetry: &Telemetry, status: StatusCode, cache: CacheStatus, now: Instant) {
        telemetry.answered(&Ended {
            id: &self.id,
            caller: self.caller.as_deref(),
            route: self.route,
            status,
            cache,
            duration: now.saturating_duration_since(self.began_at),
        });
    }
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

    fn id_of(sent: Option<&'static str>) -> HeaderValue {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(X_REQUEST_ID, HeaderValue::from_static(sent));
        }
        Exchange::begin(&headers, Instant::now()).id().clone()
    }

    #[test]
    fn a_plain_id_is_taken_and_any_other_replaced() {
        assert_eq!(id_of(Some("req-7.a:b")), "req-7.a:b");
        for other in [
            None,
            Some(""),
            Some("ada@example.com"),
            Some("a b"),
            Some("\"quoted\""),
        ] {
            let made = id_of(other);
            let made = made.to_str().expect("an id of ours is ASCII");
            assert!(made.parse::<Uuid>().is_ok(), "{other:?}");
        }
    }
}
