//! The request path: from a request to its answer, as a list of steps.
//!
//! [`Gateway::handle`] wraps what every request gets: an id, a record, an answer with its headers.
//! `Gateway::answer` is the list. What a step refuses becomes an answer in one place,
//! [`crate::problem`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::header::HeaderName;
use http::{HeaderMap, Method, Request, Response, Version, request};
use http_body_util::BodyExt;
use hyper::body::Body;
use smallvec::SmallVec;

mod change;
mod decisions;
pub mod exchange;
pub mod explain;
pub mod fetch;
mod forward;
mod head;
pub mod lookup;
pub mod operate;
mod read;
mod shared;
pub mod status;
mod sweep;
mod telling;

use crate::answer::{self, Answer};
use crate::auth::certificate::ClientCertificate;
use crate::auth::{Caller, Callers};
use crate::body;
use crate::cache::{Cache, Settings};
use crate::clock::Clock;
use crate::failure::{Failure, RequestError};
use crate::person::change::Touched;
use crate::problem::Problem;
use crate::route::Route;
use crate::server::{Application, RequestBody};
use crate::telemetry::Telemetry;
use crate::tier::Shared;
use crate::upstream::{BoxError, Upstream};
use crate::workspace::Workspace;
use decisions::Decisions;
use exchange::Exchange;
use forward::Passage;
use lookup::room::Room;
use read::Lookup;
use sweep::Sweeps;
use telling::Abroad;

/// How long a body without announced length may take to turn out to be none.
const EMPTY_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds on requests that the server cannot hold itself.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Largest body, in bytes.
    pub body_bytes: u64,
    /// Most header lines. The server bounds them on HTTP/1; HTTP/2 has only a bound in bytes.
    pub headers: usize,
}

/// Where answers come from that are not in memory.
#[derive(Debug)]
pub struct Behind {
    /// Flameup.
    pub upstream: Upstream,
    /// Other gateways.
    pub shared: Option<Shared>,
}

/// How far a request has come.
enum Step<'a> {
    /// It is answered.
    Done(Answer),
    /// The answer has to be waited for. Apart, so that those that need not wait do not carry the
    /// room for it: what answers a request is moved about for every one.
    Wait(Pin<Box<dyn Future<Output = Answer> + Send + 'a>>),
}

/// Answers requests.
#[derive(Debug)]
pub struct Gateway {
    workspaces: Vec<Arc<Workspace>>,
    /// Replaced as a whole when the configuration is read again.
    callers: ArcSwap<Callers>,
    cache: Cache<Arc<Failure>>,
    upstream: Upstream,
    /// What is shared with other gateways, if there are any.
    shared: Option<Shared>,
    bounds: Bounds,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    /// For operators; plain hits leave it alone.
    decisions: Decisions,
    /// Room for the answers to lookups of many.
    room: Room,
    /// The turn to erase; held for as long as one takes.
    erasing: tokio::sync::Mutex<()>,
    sweeps: Sweeps,
    /// What other gateways are changing.
    abroad: Abroad,
    started_at: Instant,
}

impl Gateway {
    /// A gateway with an empty cache.
    pub fn new(
        workspaces: Vec<Arc<Workspace>>,
        callers: Callers,
        settings: Settings,
        behind: Behind,
        bounds: Bounds,
        clock: Clock,
        telemetry: Arc<Telemetry>,
    ) -> Arc<Self> {
        Arc::new(Self {
            callers: ArcSwap::from_pointee(callers),
            cache: Cache::new(settings, workspaces.len()),
            upstream: behind.upstream,
            shared: behind.shared,
            bounds,
            started_at: clock.now(),
            clock,
            telemetry,
            sweeps: Sweeps::new(workspaces.len()),
            workspaces,
            abroad: Abroad::default(),
            decisions: Decisions::default(),
            room: Room::new(lookup::ROOM_BYTES),
            erasing: tokio::sync::Mutex::default(),
        })
    }

    /// Answers one request. It always does: whatever goes wrong is an answer too.
    ///
    /// # Cancellation
    /// When the client leaves, waiting ends; a fetch that was started for it goes on and is stored.
    pub fn handle<B>(
        self: &Arc<Self>,
        request: Request<B>,
    ) -> impl Future<Output = Response<body::Body>> + Send
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        // Taken apart before anything waits, or there would be room for the whole beside its parts.
        let (request, mut body) = request.into_parts();
        async move {
            let now = self.clock.now();
            // Those of this moment, however long the answer takes.
            let callers = self.callers.load();
            let mut exchange = Exchange::begin(&request.headers, &self.telemetry, &self.clock, now);
            if request.uri.path() == lookup::PATH {
                // Apart, so that lookups of one person need not carry the room for it.
                return Box::pin(self.look_up_many(&callers, request, body, exchange)).await;
            }
            let has_body =
                !body.is_end_stream() && Box::pin(has_content(&request, &mut body)).await;
            let body = has_body.then_some(body);
            let answer = match self.answer(&callers, &request, body, &mut exchange, now) {
                Step::Done(answer) => answer,
                Step::Wait(answer) => answer.await,
            };
            let (cache_status, age) = (answer.cache_status(), answer.age());
            let unread = has_body && !answer.has_read();
            let mut response = answer.into_response(request, exchange.id().to_header(), unread);
            response.body_mut().hold(exchange.under_way());
            exchange.end(response.status(), cache_status, age);
            response
        }
    }

    /// The request path.
    fn answer<'a, 'g: 'a, B>(
        self: &'g Arc<Self>,
        callers: &'g Callers,
        request: &'a request::Parts,
        body: Option<B>,
        exchange: &'a mut Exchange<'g>,
        now: Instant,
    ) -> Step<'a>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        match self.admit(callers, request, body.is_some(), exchange) {
            Err(failure) => Step::Done(Answer::refused(&failure)),
            Ok((caller, Route::ReadPerson { person, query })) => self.read_person(Lookup {
                caller,
                headers: &request.headers,
                person,
                query,
                request_id: exchange.id(),
                now,
            }),
            Ok((caller, Route::Forward(forward))) => {
                let max_wait = caller.workspace().shield().max_wait();
                let passage = Passage {
                    caller,
                    forward,
                    request,
                    body,
                    request_id: exchange.id(),
                    patience: patience(&request.headers, max_wait),
                };
                Step::Wait(Box::pin(self.forward(passage)))
            }
        }
    }

    /// Everything that is found out before the cache is looked at.
    fn admit<'g, 'r>(
        &'g self,
        callers: &'g Callers,
        request: &'r request::Parts,
        has_body: bool,
        exchange: &mut Exchange<'g>,
    ) -> Result<(&'g Caller, Route<'r>), Failure> {
        head::check(request, &self.bounds)?;
        let caller = identify(callers, request)?;
        exchange.asked_by(caller);
        exchange.admit()?;
        let route = Route::classify(&request.method, &request.uri)?;
        exchange.took(&route);
        caller.require(route.scope())?;
        check_body(request, has_body, &self.bounds)?;
        Ok((caller, route))
    }

    /// This workspace, and those that may be the same one at Flameup: who changes here changes there.
    fn twins<'a>(
        &'a self,
        workspace: &'a Workspace,
    ) -> impl Iterator<Item = &'a Arc<Workspace>> + 'a {
        let all = self.workspaces.iter();
        all.filter(|other| workspace.may_be_same_as(other))
    }

    /// Whoever is touched, by all names that a section knows which may be the same workspace.
    fn known_in_all(&self, workspace: &Workspace, touched: &Touched) -> Touched {
        let twins: SmallVec<[_; 2]> = self.twins(workspace).collect();
        match &twins[..] {
            // A section finds all names that it knows by itself.
            [_] => touched.clone(),
            twins => self.cache.known_in(twins, touched),
        }
    }

    /// Knows these callers from now on; requests under way keep to those before.
    pub fn replace_callers(&self, callers: Callers) {
        self.callers.store(Arc::new(callers));
    }

    /// What is shared with other gateways, if there are any.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// The moment, by the gateway's clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets go of what the cache need not keep any longer. Called about once a second.
    pub fn maintain(&self) {
        self.cache.maintain(self.clock.now());
        self.telemetry.metrics().observe_cache(&self.cache);
        for workspace in &self.workspaces {
            self.telemetry.observe_budget(workspace);
        }
        if let Some(shared) = &self.shared {
            shared.observe();
        }
    }
}

impl Application for Gateway {
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<body::Body>> + Send {
        Gateway::handle(self, request)
    }

    fn refuse(&self, problem: &Problem) -> Response<Bytes> {
        let (none, now) = (HeaderMap::new(), self.clock.now());
        let exchange = Exchange::begin(&none, &self.telemetry, &self.clock, now);
        let response = answer::to_unread_request(problem, exchange.id().to_header());
        exchange.end(response.status(), answer::UNREAD, None);
        response
    }
}

/// Whether a body follows that may or may not be there. On HTTP/2 a stream that is open may still be
/// about to end without one, which matters to reads alone; on HTTP/1 whatever is framed as a body is one.
async fn has_content(
    request: &request::Parts,
    body: &mut (impl Body<Data = Bytes> + Unpin),
) -> bool {
    let version = request.version;
    if version < Version::HTTP_2 || body.size_hint().lower() > 0 || !is_read(&request.method) {
        return true;
    }
    let first = async {
        loop {
            match body.frame().await {
                None => return false,
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(_) => return true,
            }
        }
    };
    tokio::time::timeout(EMPTY_BODY_TIMEOUT, first)
        .await
        .unwrap_or(true)
}

/// Who sent this request.
fn identify<'c>(callers: &'c Callers, request: &request::Parts) -> Result<&'c Caller, Failure> {
    let certificate = request.extensions.get::<Arc<ClientCertificate>>();
    let caller = callers.identify(&request.headers, certificate.map(|held| &**held))?;
    Ok(caller)
}

/// How long a request may wait for its turn: what the client prefers (RFC 7240 §4.3), within
/// `max_wait`.
fn patience(headers: &HeaderMap, max_wait: Duration) -> Duration {
    const PREFER: HeaderName = HeaderName::from_static("prefer");
    let lines = headers.get_all(PREFER).into_iter();
    let mut lines = lines.filter_map(|line| line.to_str().ok());
    let wait = lines.find_map(wait_in);
    wait.map_or(max_wait, |wait| wait.min(max_wait))
}

/// The `wait` in a line of preferences. What follows a `;` is a parameter of another preference (§2),
/// and what stands in quotes is its value.
fn wait_in(line: &str) -> Option<Duration> {
    let mut quoted = false;
    let mut preferences = line.split(|sign| {
        quoted ^= sign == '"';
        sign == ',' && !quoted
    });
    preferences.find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, seconds) = preference.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        let seconds = seconds.trim().trim_matches('"').parse();
        is_wait.then_some(Duration::from_secs(seconds.ok()?))
    })
}

/// Whether the method is one that takes no body here.
fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Refuses a body that is too large by its own account, and any with a read.
fn check_body(
    request: &request::Parts,
    has_body: bool,
    bounds: &Bounds,
) -> Result<(), RequestError> {
    let announced: Option<u64> = request
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    match announced {
        Some(length) if length > bounds.body_bytes => Err(RequestError::BodyTooLarge),
        _ if has_body && is_read(&request.method) => Err(RequestError::BodyOnRead),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_preference_to_wait_is_one() {
        for (line, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, Wait = \"7\"; x=1, wait=9", Some(7)),
            ("respond-async; wait=5", None),
            ("note=\"a, wait=5\"", None),
            ("note=\"a; b\", wait=5", Some(5)),
            ("wait", None),
            ("wait=soon", None),
            ("waiting=5", None),
        ] {
            assert_eq!(wait_in(line), seconds.map(Duration::from_secs), "{line}");
        }
    }
}
