//! The record of one request: its id, its times, its outcome. It ends as one line of the access
//! log and a few counts.

use std::time::Instant;

use http::{HeaderMap, StatusCode};

pub mod id;

use crate::auth::Caller;
use crate::cache::status::CacheStatus;
use crate::clock::Clock;
use crate::limit::{self, UnderWay};
use crate::route::Route;
use crate::telemetry::Telemetry;
use id::RequestId;

/// The status that a request is counted under whose client left before its answer: none that was
/// sent, and by custom this one.
const CLIENT_LEFT: u16 = 499;

/// One request under way. However it ends, it ends as a record.
#[derive(Debug)]
pub struct Exchange<'g> {
    id: RequestId,
    began_at: Instant,
    caller: Option<&'g Caller>,
    route: &'static str,
    /// Where its client has limits.
    under_way: Option<UnderWay>,
    telemetry: &'g Telemetry,
    clock: &'g Clock,
    ended: bool,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// The request's id.
    pub id: &'a RequestId,
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
            id: RequestId::of(headers, clock, now).traced(telemetry.begin_trace(headers)),
            began_at: now,
            caller: None,
            route: "none",
            under_way: None,
            telemetry,
            clock,
            ended: false,
        }
    }

    /// The id that the request brought, or was given.
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Notes who asks.
    pub fn asked_by(&mut self, caller: &'g Caller) {
        self.caller = Some(caller);
    }

    /// Holds the client that asks to its limits.
    ///
    /// # Errors
    /// When this request is one too many.
    pub fn admit(&mut self) -> Result<(), limit::Error> {
        let Some((name, limiter)) = self.caller.and_then(Caller::limited) else {
            return Ok(());
        };
        match limiter.admit(self.began_at) {
            Ok(under_way) => self.under_way = Some(under_way),
            Err(error) => {
                self.telemetry.metrics().limited(name, error.word());
                return Err(error);
            }
        }
        Ok(())
    }

    /// What counts the request as under way, for a body that outlives it.
    pub fn under_way(&mut self) -> Option<UnderWay> {
        self.under_way.take()
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
