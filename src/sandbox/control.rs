//! The control listener: steers a running stand-in from outside its process.
//!
//! Plain HTTP with JSON, on loopback only, as whoever reaches it can read what was received.
//!
//! | Request | What it does |
//! |---|---|
//! | `POST /faults` | adds a fault: `{"kind":"truncate","bytes":10,"method":"GET","id":"user_1","path_prefix":"/api","times":1,"applied":true}`, all but `kind` and its own fields optional |
//! | `DELETE /faults` | clears all faults |
//! | `GET /received`, `DELETE /received` | shows, forgets what reached the API; keys are not shown |
//! | `GET /limiter` | `{"counted":1,"refused":0,"foreign":0}` |
//! | `POST /limiter` | changes any of `{"kind":"sliding","limit":10,"window":"60s","foreign_per_minute":0,"skew_s":-300,"retry_after":true}`; all pools start full |
//! | `POST /people/{external_id}` | sets the given fields of a person of the first workspace, answers it |
//! | `DELETE /people/{external_id}` | deletes that person |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;

use super::answer::Answer;
use super::args::duration;
use super::errors::ErrorShape;
use super::exchange::Core;
use super::faults::Fault;
use super::limiter::Kind;
use super::people::People;
use super::pool::LimiterOptions;
use super::record::Received;
use super::route::decode;

const LARGEST_BODY_BYTES: usize = 1024 * 1024;

/// Serves one connection of the control listener.
pub(super) async fn serve(core: Arc<Core>, people: People, socket: TcpStream) {
    let service = service_fn(|request| {
        let (core, people) = (Arc::clone(&core), people.clone());
        async move {
            let answer = answer(&core, &people, request).await;
            let answer = answer.unwrap_or_else(|refusal| refusal);
            let mut response = Response::new(Full::new(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = *answer.headers;
            Ok::<_, Infallible>(response)
        }
    });
    // Ends with an error when the client leaves in the middle, which concerns nobody.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

async fn answer(
    core: &Core,
    people: &People,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, LARGEST_BODY_BYTES).collect().await;
    let body = body
        .map_err(|_| bad("the body is unreadable or above 1 MiB"))?
        .to_bytes();
    let path = parts.uri.path();
    if let Some(id) = path.strip_prefix("/people/") {
        let id = decode(id).map_err(|error| bad(&error.to_string()))?;
        return person(people, &parts.method, &id, &body);
    }
    match (&parts.method, path) {
        (&Method::POST, "/faults") => core.faults.add(parse::<Fault>(&body)?),
        (&Method::DELETE, "/faults") => core.faults.clear(),
        (&Method::GET, "/received") => return Ok(received(core)),
        (&Method::DELETE, "/received") => core.record.clear(),
        (&Method::GET, "/limiter") => {
            return Ok(Answer::value(StatusCode::OK, &core.pools.lock().state()));
        }
        (&Method::POST, "/limiter") => {
            let change: LimiterChange = parse(&body)?;
            let mut pools = core.pools.lock();
            let options = change
                .applied_to(pools.options())
                .map_err(|error| bad(&error.to_string()))?;
            pools.change(options, core.options.clock.now());
        }
        _ => return Err(ErrorShape::E.answer(StatusCode::NOT_FOUND, "no such control", 0)),
    }
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

fn person(people: &People, method: &Method, id: &str, body: &Bytes) -> Result<Answer, Answer> {
    match *method {
        Method::POST => {
            let fields: Map<String, Value> = parse(body)?;
            Ok(Answer::json(StatusCode::OK, people.upsert(id, &fields)))
        }
        Method::DELETE if people.delete(id) => Ok(Answer::empty(StatusCode::NO_CONTENT)),
        _ => Err(ErrorShape::E.answer(StatusCode::NOT_FOUND, "no such person or control", 0)),
    }
}

fn received(core: &Core) -> Answer {
    let all: Vec<Value> = core.record.all().iter().map(describe).collect();
    Answer::value(StatusCode::OK, &all)
}

fn describe(received: &Received) -> Value {
    let headers = received.headers.iter().map(|(name, value)| {
        let shown = if name == AUTHORIZATION {
            "(not shown)".into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        json!([name.as_str(), shown])
    });
    json!({
        "arrival": received.arrival,
        "connection": received.connection,
        "method": received.method.as_str(),
        "target": received.target,
        "headers": headers.collect::<Vec<_>>(),
        "body": String::from_utf8_lossy(&received.body),
        "status": received.status,
    })
}

/// What `POST /limiter` may change; absent fields stay as they are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimiterChange {
    kind: Option<Kind>,
    limit: Option<u32>,
    window: Option<String>,
    skew_s: Option<i64>,
    foreign_per_minute: Option<u32>,
    retry_after: Option<bool>,
}

impl LimiterChange {
    fn applied_to(&self, old: LimiterOptions) -> Result<LimiterOptions, jiff::Error> {
        let window: Option<Duration> = self.window.as_deref().map(duration).transpose()?;
        Ok(LimiterOptions {
            kind: self.kind.unwrap_or(old.kind),
            limit: self.limit.unwrap_or(old.limit),
            window: window.unwrap_or(old.window),
            skew_s: self.skew_s.unwrap_or(old.skew_s),
            foreign_per_minute: self.foreign_per_minute.unwrap_or(old.foreign_per_minute),
            retry_after: self.retry_after.unwrap_or(old.retry_after),
        })
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| bad(&error.to_string()))
}

fn bad(message: &str) -> Answer {
    ErrorShape::E.answer(StatusCode::BAD_REQUEST, message, 0)
}
