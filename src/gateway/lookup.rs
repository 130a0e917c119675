//! `POST /gateway/v1/people/lookup`: many lookups in one call.
//!
//! # Request
//! `{"ids": ["user_1", "ada@example.com"]}`, 1 to 100 of them, each an external id or an e-mail as
//! it is, not percent-encoded. `Cache-Control` and `Prefer: wait=N` mean what they mean on a GET of
//! one person, for each of them.
//!
//! # Response
//! 200 and `{"people": [...]}`, one member for each id, in the order given:
//!
//! - `id`, as it was given; `status`, as a GET of that person would have it; `cache`, the words of
//!   its `Cache-Status`; `age` in seconds, where it came from memory.
//! - On 200, `person`: the bytes that Flameup sent.
//! - On another status of Flameup's, a 404 for one, `error_body`: Flameup's own body; as a string
//!   if it is no JSON.
//! - Where the gateway answers for itself, `error` and `message`, as its envelope has them.
//! - `retry_after` in seconds, where it is known.
//!
//! What is not there by the deadline is answered 504. The call itself fails only if nothing can be
//! made of it, or if the answers that other clients have yet to read leave no room for its own.
//!
//! # Invariants
//! - Every lookup is the read of one person, charged to the caller like any other.
//! - Ids of one stored person, or of one normal form, are asked for once. A 404 is shared only
//!   by the same spelling, as everywhere.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Method, Response, StatusCode, request};
use hyper::body::Body;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

pub(super) mod room;

use super::exchange::Exchange;
use super::exchange::id::RequestId;
use super::read::Read;
use super::{Gateway, head, identify, patience};
use crate::answer::{self, Answer};
use crate::auth::{Caller, Callers};
use crate::body;
use crate::cache::Cache;
use crate::cache::collapse;
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::key::{CacheKey, Keys};
use crate::cache::status::{CacheStatus, End};
use crate::config::Scope;
use crate::failure::{Failure, RequestError};
use crate::json;
use crate::person::PersonRef;
use crate::problem::Problem;
use crate::route;
use crate::shield::Claim;
use crate::upstream::BoxError;
use crate::workspace::Workspace;

/// Where it is.
pub const PATH: &str = "/gateway/v1/people/lookup";

/// What metrics and logs call the route.
const ROUTE: &str = "people_lookup";

/// Most ids of one call: as many people as Flameup's own batch takes (post-people-batch).
const MAX_IDS: usize = 100;

/// Largest body: a hundred of the longest ids, every byte of them escaped, and some blanks.
const MAX_BODY_BYTES: usize = 384 * 1024;

/// Most lookups of one call at a time: a quarter of what may be under way to Flameup in all.
const AT_ONCE: usize = 16;

/// Largest answer. People take half a kilobyte; a hundred of the largest that are taken in would
/// be 100 MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Most bytes of answers that wait for their clients, all calls together: of a hundred ordinary people
/// each, eight hundred answers; a few of the largest.
pub(super) const ROOM_BYTES: usize = 64 * 1024 * 1024;

/// What the call allows beyond the deadlines of its lookups, so that they end by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// When to come back for what was not there in time.
const LATE_PAUSE: u64 = 1;

/// Who asks for people, and how; free of the request.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) workspace: Arc<Workspace>,
    pub(super) claim: Claim,
    pub(super) client: Arc<str>,
    pub(super) directives: RequestDirectives,
    pub(super) request_id: RequestId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with ids")]
struct Wanted {
    #[serde(deserialize_with = "ids")]
    ids: Vec<String>,
}

/// The answer to one id, as it is written.
#[derive(Serialize)]
pub struct Item<'a> {
    /// As it was given.
    pub id: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_body: Option<ErrorBody<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    cache: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ErrorBody<'a> {
    Json(&'a RawValue),
    Text(String),
}

#[derive(Serialize)]
struct People<'a> {
    people: Vec<Item<'a>>,
}

impl Asking {
    fn of(caller: &Caller, request: &request::Parts, exchange: &Exchange<'_>) -> Self {
        let workspace = Arc::clone(caller.workspace());
        let max_wait = workspace.shield().max_wait();
        Self {
            claim: caller.claim(patience(&request.headers, max_wait)),
            workspace,
            client: Arc::clone(caller.name()),
            directives: RequestDirectives::of(&request.headers),
            request_id: exchange.id().clone(),
        }
    }
}

impl Gateway {
    /// Answers a lookup of many.
    pub(super) async fn look_up_many<'g, B>(
        self: &'g Arc<Self>,
        callers: &'g Callers,
        request: request::Parts,
        body: B,
        mut exchange: Exchange<'g>,
    ) -> Response<body::Body>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        exchange.took_route(ROUTE);
        let looked_up = self.look_up_all(callers, &request, body, &mut exchange);
        let answered = looked_up.await;
        let id = exchange.id().to_header();
        let response = match answered {
            Ok(body) => answer::to_lookup_of_many(body, id),
            // What of the body was not read would be taken for the next request.
            Err(failure) => Answer::refused(&failure).into_response(request, id, true),
        };
        exchange.end(response.status(), answer::OF_MANY, None);
        response
    }

    async fn look_up_all<'g, B>(
        self: &'g Arc<Self>,
        callers: &'g Callers,
        request: &request::Parts,
        body: B,
        exchange: &mut Exchange<'g>,
    ) -> Result<Bytes, Failure>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        head::check(request, &self.bounds)?;
        let caller = identify(callers, request)?;
        exchange.asked_by(caller);
        exchange.admit()?;
        if request.method != Method::POST {
            return Err(route::Error::Method { allow: "POST" }.into());
        }
        caller.require(Scope::PeopleRead)?;
        let most = usize::try_from(self.bounds.body_bytes).unwrap_or(usize::MAX);
        let most = most.min(MAX_BODY_BYTES);
        if body.size_hint().lower() > most as u64 {
            return Err(RequestError::BodyTooLarge.into());
        }
        let wanted: Wanted = json::read(&request.headers, body, most).await?;
        let asking = Asking::of(caller, request, exchange);
        let lookups = self.look_up_people(&asking, &wanted.ids).await;
        for lookup in &lookups {
            let (workspace, client) = (asking.workspace.name(), &*asking.client);
            let outcome = lookup.cache.outcome();
            let metrics = self.telemetry.metrics();
            metrics.looked_up(workspace, client, outcome);
        }
        self.written(&lookups)
    }

    /// The body of the answer. It is measured first, so that none is written that there is no room
    /// for.
    fn written(&self, lookups: &[Lookup<'_>]) -> Result<Bytes, Failure> {
        let people = People::of(lookups);
        let mut measured = Measured(0);
        // Nothing in it can fail to be written, here and below.
        let _ = serde_json::to_writer(&mut measured, &people);
        let Some(taken) = self.room.take(measured.0) else {
            self.telemetry.metrics().no_room();
            return Err(Failure::NoRoom);
        };
        let mut body = Vec::with_capacity(measured.0);
        let _ = serde_json::to_writer(&mut body, &people);
        Ok(taken.fill(body))
    }

    /// Reads one person for whoever asks.
    pub(super) async fn read_for(
        self: &Arc<Self>,
        asking: &Asking,
        person: PersonRef<'_>,
    ) -> Answer {
        self.read(Read {
            workspace: &asking.workspace,
            claim: asking.claim,
            client: &asking.client,
            place: asking.workspace.place(&person),
            person,
            query: None,
            directives: asking.directives,
            request_id: &asking.request_id,
            now: self.clock.now(),
        })
        .await
    }

    /// Looks all of them up, some at a time, by the deadline.
    async fn look_up_people<'i>(
        self: &Arc<Self>,
        asking: &Asking,
        ids: &'i [String],
    ) -> Vec<Lookup<'i>> {
        let turn_by = Instant::now() + asking.claim.patience;
        let deadline = turn_by + self.upstream.timeout() + GRACE;
        let mut lookups: Vec<_> = ids.iter().map(|id| Lookup::of(id, asking)).collect();
        let mut next = self.group(&mut lookups);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_ONCE
                && let Some((at, person)) = next.pop_front()
            {
                let (gateway, mut asking) = (Arc::clone(self), asking.clone());
                asking.claim.patience = turn_by.saturating_duration_since(Instant::now());
                under_way.spawn(async move { (at, gateway.read_for(&asking, person).await) });
            }
            match timeout_at(deadline, under_way.join_next()).await {
                Ok(Some(Ok((at, answer)))) => {
                    next.extend(settle(at, &answer, &mut lookups, &self.cache));
                }
                Ok(Some(Err(_))) => {} // Nothing but the end of the set ends a task early.
                Ok(None) | Err(_) => return lookups,
            }
        }
    }

    /// Finds out which lookups one fetch may do for; returns the first of each such group.
    fn group(&self, lookups: &mut [Lookup<'_>]) -> VecDeque<Next> {
        let mut groups: HashMap<CacheKey, usize> = HashMap::new();
        let mut first = VecDeque::new();
        for (at, lookup) in lookups.iter_mut().enumerate() {
            let Some((person, keys)) = &lookup.person else {
                continue;
            };
            lookup.group = *groups.entry(self.cache.flight(keys)).or_insert_with(|| {
                first.push_back((at, person.clone()));
                at
            });
        }
        first
    }
}

/// The place of a lookup that is to be made, and whom it is of.
type Next = (usize, PersonRef<'static>);

/// One id of a call.
struct Lookup<'i> {
    id: &'i str,
    /// `None` where the id is no identifier.
    person: Option<(PersonRef<'static>, Keys)>,
    /// The place of the first lookup that the same fetch may do for.
    group: usize,
    /// Whether `cache` and the answer are there.
    settled: bool,
    answer: Result<Arc<Entry>, Problem>,
    cache: CacheStatus,
    age: Option<u64>,
}

impl<'i> Lookup<'i> {
    /// A lookup that is late unless something settles it.
    fn of(id: &'i str, asking: &Asking) -> Self {
        let person = PersonRef::from_text(id).map(PersonRef::into_owned);
        let late = Failure::Wait(collapse::Error::Deadline);
        let (problem, cache) = match &person {
            Ok(_) => (
                Problem::from(&late),
                CacheStatus::None { detail: "deadline" },
            ),
            Err(error) => {
                let unusable = Failure::Route((*error).into());
                (
                    Problem::from(&unusable),
                    CacheStatus::None { detail: "refused" },
                )
            }
        };
        Self {
            id,
            group: 0,
            settled: person.is_err(),
            person: person.ok().map(|person| {
                let keys = asking.workspace.place(&person).keys().clone();
                (person, keys)
            }),
            answer: Err(problem),
            cache,
            age: None,
        }
    }

    fn take(&mut self, answer: &Answer) {
        self.settled = true;
        self.cache = answer.cache_status();
        self.age = answer.age();
        if let Some(entry) = answer.entry() {
            self.answer = Ok(Arc::clone(entry));
        } else if let Some(problem) = answer.problem() {
            self.answer = Err(problem.clone());
        }
    }

    /// Takes the answer to another lookup, if it does for this one too.
    fn share(&mut self, other: &Self, cache: &Cache<Arc<Failure>>) -> bool {
        if !other.does_for(self, cache) {
            return false;
        }
        self.settled = true;
        self.answer.clone_from(&other.answer);
        self.age = other.age;
        self.cache = match other.cache {
            CacheStatus::Forward {
                reason,
                end: End::Stored | End::Relayed,
                ..
            } => CacheStatus::Forward {
                reason,
                status: None,
                end: End::Collapsed,
            },
            other => other,
        };
        true
    }

    /// Whether the answer is one to another lookup too; as for requests that wait for one fetch.
    fn does_for(&self, other: &Self, cache: &Cache<Arc<Failure>>) -> bool {
        let (Ok(entry), Some((_, own)), Some((_, keys))) =
            (&self.answer, &self.person, &other.person)
        else {
            return true;
        };
        own.spelled() == keys.spelled()
            || entry.status().is_server_error()
            || cache.is_meant(entry, keys)
    }
}

/// Takes an answer, and shares it with the lookups that it does for. Returns the next lookup to be
/// made of its group, if one is left.
fn settle(
    at: usize,
    answer: &Answer,
    lookups: &mut [Lookup<'_>],
    cache: &Cache<Arc<Failure>>,
) -> Option<Next> {
    lookups[at].take(answer);
    let (group, mut left) = (lookups[at].group, None);
    for other in at + 1..lookups.len() {
        let (before, rest) = lookups.split_at_mut(other);
        let lookup = &mut rest[0];
        if lookup.settled || lookup.group != group || lookup.share(&before[at], cache) {
            continue;
        }
        if let (None, Some((person, _))) = (&left, &lookup.person) {
            left = Some((other, person.clone()));
        }
    }
    left
}

impl<'a> People<'a> {
    fn of(lookups: &'a [Lookup<'_>]) -> Self {
        let mut room = MAX_ANSWER_BYTES;
        let people = lookups.iter().map(|lookup| {
            let answer = lookup.answer.as_ref();
            let size = answer.map_or(0, |entry| entry.body().len());
            let fits = size <= room;
            room = room.saturating_sub(size);
            let answer = if fits { answer } else { Err(&*TOO_MUCH) };
            Item::new(lookup.id, answer, lookup.cache, lookup.age)
        });
        Self {
            people: people.collect(),
        }
    }
}

/// Counts what is written.
struct Measured(usize);

impl io::Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is told of a person for whom there is no room in the answer.
static TOO_MUCH: LazyLock<Problem> = LazyLock::new(|| {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "http_response_body_size",
        "The answer would grow beyond 16 MiB; look this one up by itself",
    )
});

impl<'a> Item<'a> {
    /// The answer to a lookup of one person.
    pub fn of(id: &'a str, answer: &'a Answer) -> Option<Self> {
        let content = match (answer.entry(), answer.problem()) {
            (Some(entry), _) => Ok(entry),
            (None, Some(problem)) => Err(problem),
            (None, None) => return None,
        };
        Some(Self::new(id, content, answer.cache_status(), answer.age()))
    }

    fn new(
        id: &'a str,
        answer: Result<&'a Arc<Entry>, &'a Problem>,
        cache: CacheStatus,
        age: Option<u64>,
    ) -> Self {
        let mut item = Self {
            id,
            status: 0,
            person: None,
            error_body: None,
            error: None,
            message: None,
            age,
            cache: cache.words(),
            retry_after: None,
        };
        match answer {
            Ok(entry) => item.give(entry),
            Err(problem) => {
                item.status = problem.status().as_u16();
                item.error = Some(problem.reason());
                item.message = Some(problem.message());
                let late = matches!(cache, CacheStatus::None { detail: "deadline" });
                item.retry_after = problem.retry_after().or(late.then_some(LATE_PAUSE));
            }
        }
        item
    }

    /// Flameup's own words.
    fn give(&mut self, entry: &'a Entry) {
        self.status = entry.status().as_u16();
        let json = serde_json::from_slice::<&RawValue>(entry.body()).ok();
        if entry.status() == StatusCode::OK {
            self.person = json;
            return;
        }
        let text = || String::from_utf8_lossy(entry.body()).into_owned();
        self.error_body = Some(json.map_or_else(|| ErrorBody::Text(text()), ErrorBody::Json));
        let mut headers = entry.headers().iter();
        let retry_after = headers.find(|(name, _)| *name == RETRY_AFTER);
        self.retry_after = retry_after.and_then(|(_, value)| value.to_str().ok()?.parse().ok());
    }
}

/// Reads the ids, as many as one call may have.
fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let ids = Vec::<String>::deserialize(deserializer)?;
    if (1..=MAX_IDS).contains(&ids.len()) {
        return Ok(ids);
    }
    let count = ids.len();
    Err(de::Error::custom(format_args!(
        "ids must have 1 to {MAX_IDS} members, and has {count}"
    )))
}
