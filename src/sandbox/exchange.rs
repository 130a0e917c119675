//! One request from arrival to answer.
//!
//! The order is: record, latency, limiter, fault, hold, answer. A request over the limit is a 429
//! whatever else was planned for it and uses up no fault.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use headers::HeaderMapExt;
use http::header::{AUTHORIZATION, DATE, ETAG, HeaderName, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::{Mutex, RwLock};

use super::answer::{Answer, Delivery, Step};
use super::api::Call;
use super::errors::{self, ErrorShape};
use super::faults::{Fault, FaultKind, Faults, Struck};
use super::hold::Holds;
use super::limiter::Verdict;
use super::options::{ApiKey, Options};
use super::people::{People, Settings, mix};
use super::pool::Pools;
use super::record::{Received, Record};
use super::route::{self, Located, Route};

/// Largest request body taken in; a batch of 100 people is far below it.
const LARGEST_BODY_BYTES: usize = 1024 * 1024;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Everything the connections of one stand-in share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: Options,
    pub(super) keys: RwLock<HashMap<String, ApiKey>>,
    /// People by workspace, made when first asked for.
    workspaces: Mutex<HashMap<String, People>>,
    pub(super) pools: Mutex<Pools>,
    pub(super) faults: Faults,
    pub(super) holds: Holds,
    pub(super) record: Record,
    pub(super) connections: AtomicU64,
}

/// A request that has arrived whole.
#[derive(Debug)]
struct Visit {
    arrival: u64,
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    /// `None` if it was above the limit or broke off.
    body: Option<Bytes>,
    located: Result<Located, route::Error>,
    key: Option<ApiKey>,
}

/// What the limiter said, and when: a held request is answered later than it is counted.
#[derive(Clone, Copy, Debug)]
struct Counted {
    verdict: Verdict,
    at: SystemTime,
}

impl Core {
    pub(super) fn new(options: Options) -> Self {
        let keys = options
            .api_keys
            .iter()
            .map(|key| (key.key.clone(), key.clone()));
        let keys = RwLock::new(keys.collect());
        let pools = Mutex::new(Pools::new(options.limiter, options.clock.now()));
        Self {
            keys,
            workspaces: Mutex::default(),
            pools,
            faults: Faults::default(),
            holds: Holds::default(),
            record: Record::new(options.kept_requests),
            connections: AtomicU64::new(0),
            options,
        }
    }

    pub(super) fn connected(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn people_of(&self, workspace: &str) -> People {
        let mut workspaces = self.workspaces.lock();
        let people = workspaces.entry(workspace.to_owned()).or_insert_with(|| {
            let settings = Settings {
                seed: self.options.seed,
                count: self.options.people,
                shape: self.options.shape,
                email_case_sensitive: self.options.email_case_sensitive,
                clock: self.options.clock.clone(),
            };
            People::new(settings, workspace)
        });
        people.clone()
    }

    /// Receives a request and works out how it is answered.
    ///
    /// # Cancellation
    ///
    /// A client that leaves while its request is held or delayed is forgotten; what the request
    /// changed stays changed.
    pub(super) async fn handle(&self, connection: u64, request: Request<Incoming>) -> Delivery {
        let visit = self.receive(connection, request).await;
        if self.options.latency > Duration::ZERO {
            tokio::time::sleep(self.options.latency).await;
        }
        let key = visit.key.as_ref().map(|key| key.key.as_str());
        let counted = Counted {
            verdict: self.pools.lock().take(key, self.options.clock.now()),
            at: self.options.clock.wall(),
        };
        let located = visit.located.as_ref().ok();
        let fault = if counted.verdict.allowed {
            self.faults.claim(&visit.method, &visit.path, located)
        } else {
            None
        };
        let held = self.holds.find(&visit.method, &visit.path, located);
        let work_out = || self.answer(&visit, counted, fault.as_ref());
        let late = held.as_ref().is_some_and(|held| held.answers_at_release());
        let early = (!late).then(work_out);
        if let Some(held) = held {
            held.wait().await;
        }
        let answer = early.unwrap_or_else(work_out);
        self.deliver(&visit, answer, fault.as_ref()).await
    }

    async fn receive(&self, connection: u64, request: Request<Incoming>) -> Visit {
        let (
            Parts {
                method,
                uri,
                headers,
                ..
            },
            body,
        ) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY_BYTES).collect().await;
        let body = body.ok().map(http_body_util::Collected::to_bytes);
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let arrival = self.record.arrived(Received {
            arrival: 0,
            connection,
            method: method.clone(),
            target: target.to_owned(),
            headers: headers.clone(),
            body: body.clone().unwrap_or_default(),
            status: None,
        });
        Visit {
            arrival,
            located: Located::of(&method, uri.path()),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
            key: self.key(&headers),
            method,
            headers,
            body,
        }
    }

    /// The accepted key of exactly one `Authorization: Bearer` line.
    fn key(&self, headers: &HeaderMap) -> Option<ApiKey> {
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let (line, None) = (lines.next()?, lines.next()) else {
            return None;
        };
        let (scheme, key) = line.to_str().ok()?.split_once(' ')?;
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        self.keys.read().get(key).filter(|_| bearer).cloned()
    }

    fn answer(&self, visit: &Visit, counted: Counted, fault: Option<&Fault>) -> Answer {
        let mut answer = if counted.verdict.allowed {
            self.answer_unless_struck(visit, fault)
        } else {
            errors::rate_limited()
        };
        self.stamp(&mut answer, counted);
        answer
    }

    fn answer_unless_struck(&self, visit: &Visit, fault: Option<&Fault>) -> Answer {
        let Some(fault) = fault else {
            return self.respond(visit);
        };
        let people = visit
            .key
            .as_ref()
            .map(|key| self.people_of(&key.workspace_id));
        let struck = Struck {
            headers: &visit.headers,
            people: people.as_ref(),
            arrival: visit.arrival,
        };
        let carried_out = fault.lets_through().then(|| self.respond(visit));
        let replacement = fault.kind().replacement(&struck).or(carried_out);
        replacement.unwrap_or_else(|| errors::not_found(self.options.not_found, visit.arrival))
    }

    /// What the API answers: 413, 404, 401 and 403 end here, the rest is its operations.
    fn respond(&self, visit: &Visit) -> Answer {
        let Some(body) = &visit.body else {
            let message = "The body is above 1 MiB";
            return ErrorShape::A.answer(StatusCode::PAYLOAD_TOO_LARGE, message, visit.arrival);
        };
        let located = match &visit.located {
            Ok(located) => located,
            Err(route::Error::NoRoute) => return errors::not_found(ErrorShape::E, visit.arrival),
            Err(error @ route::Error::BadEscape) => {
                let message = error.to_string();
                return ErrorShape::A.answer(StatusCode::BAD_REQUEST, &message, visit.arrival);
            }
        };
        let Some(key) = &visit.key else {
            return errors::unauthorized();
        };
        if let Some(refusal) = self.refuse(key, located, visit.arrival) {
            return refusal;
        }
        let call = Call {
            people: &self.people_of(&key.workspace_id),
            route: &located.route,
            query: visit.query.as_deref(),
            body,
            not_found: self.options.not_found,
            arrival: visit.arrival,
        };
        let answer = call.answer();
        match &located.route {
            Route::Read(_) if self.options.etags => validated(answer, &visit.headers),
            _ => answer,
        }
    }

    fn refuse(&self, key: &ApiKey, located: &Located, arrival: u64) -> Option<Answer> {
        let workspace = located.workspace.as_deref();
        if workspace.is_some_and(|named| named != key.workspace_id) {
            return Some(if self.options.foreign_workspace_is_404 {
                errors::not_found(self.options.not_found, arrival)
            } else {
                errors::forbidden("The API key belongs to another workspace")
            });
        }
        let permission = located.route.permission();
        let refused = !key.allows(permission);
        refused.then(|| errors::forbidden(&format!("The API key lacks {permission}")))
    }

    /// Adds the headers every answer carries, by the skewed clock.
    fn stamp(&self, answer: &mut Answer, counted: Counted) {
        let Counted { verdict, at } = counted;
        let options = self.pools.lock().options();
        let now = skewed(self.options.clock.wall(), options.skew_s);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + now);
        let reset = skewed(at, options.skew_s).saturating_add(verdict.reset_after);
        let headers = &mut answer.headers;
        if let Ok(date) = HeaderValue::from_str(&date) {
            headers.insert(DATE, date);
        }
        headers.insert(LIMIT, HeaderValue::from(verdict.limit));
        headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
        headers.insert(RESET, HeaderValue::from(whole_seconds(reset)));
        if !verdict.allowed && options.retry_after {
            let wait = whole_seconds(verdict.retry_after);
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
    }

    async fn deliver(&self, visit: &Visit, answer: Answer, fault: Option<&Fault>) -> Delivery {
        let status = answer.status.as_u16();
        let mut delivery = match fault.map(Fault::kind) {
            None => Delivery::Whole(answer),
            Some(FaultKind::Delay { by }) => {
                tokio::time::sleep(*by).await;
                Delivery::Whole(answer)
            }
            Some(kind) => kind.deliver(answer),
        };
        if let Delivery::Script(script) = &mut delivery
            && visit.method == Method::HEAD
        {
            script
                .steps
                .retain(|step| !matches!(step, Step::Send(_) | Step::Fill(_)));
        }
        let answered = match &delivery {
            Delivery::Whole(_) => true,
            Delivery::Script(script) => script.head.is_some(),
        };
        if answered {
            self.record.answered(visit.arrival, status);
        }
        delivery
    }
}

/// Adds a strong `ETag` to a 200 and makes it a 304 if the client has that one.
fn validated(mut answer: Answer, asked: &HeaderMap) -> Answer {
    if answer.status != StatusCode::OK {
        return answer;
    }
    let hash = answer
        .body
        .iter()
        .fold(0, |sum, byte| mix(sum ^ u64::from(*byte)));
    let text = format!("\"{hash:016x}\"");
    let (Ok(value), Ok(tag)) = (HeaderValue::from_str(&text), text.parse::<headers::ETag>()) else {
        return answer;
    };
    let known = asked.typed_get::<headers::IfNoneMatch>();
    // `precondition_passes` means that none matched.
    if known.is_some_and(|known| !known.precondition_passes(&tag)) {
        answer = Answer::empty(StatusCode::NOT_MODIFIED);
    }
    answer.headers.insert(ETAG, value);
    answer
}

/// Time since the epoch by a wrong clock, kept within what HTTP can write as a date.
fn skewed(wall: SystemTime, skew_s: i64) -> Duration {
    const LAST_S: u64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let moved_s = since.as_secs().saturating_add_signed(skew_s).min(LAST_S);
    Duration::new(moved_s, since.subsec_nanos())
}

/// Rounded up: a client that waits as told is never too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_skew_leaves_the_range_of_dates() {
        let now = SystemTime::now();
        for skew_s in [i64::MIN, -300, 0, 300, i64::MAX] {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + skewed(now, skew_s));
            assert!(date.ends_with("GMT"));
        }
    }

    #[test]
    fn waits_are_rounded_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::MAX), u64::MAX);
    }
}
