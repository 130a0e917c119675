//! The operators' listener: health, metrics, and what can be seen and done.
//!
//! `/livez` and `/readyz` answer anybody who can connect, for they say nothing else. The rest needs
//! the admin token where one is configured, and is closed to pages of other origins ([`guard`]).
//!
//! # Invariants
//! - No answer names a person but that of a lookup, and the id that it was asked with.
//! - Nothing here is stored by a browser, or taken for what it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body_util::Full;
use hyper::body::Body;
use matchit::Router;
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod console;
pub mod error;
pub mod events;
pub mod guard;
pub mod wanted;

use crate::auth;
use crate::config::AdminToken;
use crate::failure::{Failure, RequestError};
use crate::gateway::Gateway;
use crate::gateway::lookup::Item;
use crate::gateway::operate::DEFAULT_HOLD;
use crate::json;
use crate::person::change::Name;
use crate::problem::Problem;
use crate::route;
use crate::server::{Application, RequestBody};
use crate::telemetry::Telemetry;
use console::Asset;
use error::Error;
use events::Streams;
use wanted::{Erase, Purge, Someone};

/// Largest body: many times what the longest id takes, every byte of it escaped.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The pages, and where they are, the console's own apart.
const PAGES: [(&str, Page); 11] = [
    ("/livez", Page::Live),
    ("/readyz", Page::Ready),
    ("/openapi.json", Page::Console(&console::OPENAPI)),
    ("/metrics", Page::Metrics),
    ("/v1/status", Page::Status),
    ("/v1/configuration", Page::Configuration),
    ("/v1/events", Page::Events),
    ("/v1/explain", Page::Explain),
    ("/v1/lookup", Page::Lookup),
    ("/v1/purge", Page::Purge),
    ("/v1/erase", Page::Erase),
];

/// What `/metrics` is written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers operators.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    telemetry: Arc<Telemetry>,
    tokens: RwLock<Tokens>,
    /// Where clients are listened to.
    listeners: Vec<String>,
    routes: Router<Page>,
    streams: Streams,
    /// The configuration in effect, as `check` prints it.
    configuration: RwLock<Bytes>,
    draining: AtomicBool,
}

/// What operators must show one of.
#[derive(Debug)]
struct Tokens {
    /// `None`: nothing need be shown.
    current: Option<AdminToken>,
    /// The one before, until it does not count any more.
    former: Option<(AdminToken, Instant)>,
}

/// What an operator has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nothing, and need not.
    Nothing,
    /// The token.
    Token,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug)]
enum Page {
    Live,
    Ready,
    Metrics,
    /// A file of the console.
    Console(&'static Asset),
    Status,
    Configuration,
    Events,
    Explain,
    Lookup,
    Purge,
    Erase,
}

impl Admin {
    /// An admin listener's application, closed by `token` if there is one; clients are listened to
    /// at `listeners`.
    ///
    /// # Panics
    /// Never: the paths are constants and differ.
    pub fn new(
        gateway: Arc<Gateway>,
        telemetry: Arc<Telemetry>,
        token: Option<AdminToken>,
        listeners: Vec<String>,
    ) -> Self {
        let mut routes = Router::new();
        for (path, page) in PAGES {
            routes.insert(path, page).expect("the paths differ");
        }
        for (path, asset) in &console::ASSETS {
            let page = Page::Console(asset);
            routes.insert(*path, page).expect("the paths differ");
        }
        Self {
            gateway,
            telemetry,
            tokens: RwLock::new(Tokens {
                current: token,
                former: None,
            }),
            listeners,
            routes,
            streams: Streams::default(),
            configuration: RwLock::default(),
            draining: AtomicBool::new(false),
        }
    }

    /// Asks for another token from now on. The one before counts for so long beside it.
    pub fn replace_token(&self, token: Option<AdminToken>, overlap: Duration) {
        let until = self.gateway.now() + overlap;
        let mut tokens = self.tokens.write();
        let former = std::mem::replace(&mut tokens.current, token);
        tokens.former = former.map(|former| (former, until));
    }

    /// Shows this as the configuration in effect.
    pub fn show_configuration(&self, printed: Vec<u8>) {
        *self.configuration.write() = printed.into();
    }

    /// Says from now on that this process takes no more work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn answer(
        self: &Arc<Self>,
        head: &request::Parts,
        body: RequestBody,
    ) -> Result<Response<crate::body::Body>, Error> {
        let has_body = !body.is_end_stream();
        let page = self.admit(head, has_body)?;
        if matches!(page, Page::Events) && head.method == Method::GET {
            let mut response = Response::new(self.events()?);
            let kind = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            return Ok(response);
        }
        Ok(self.page(page, head, body).await?.map(Into::into))
    }

    async fn page(
        &self,
        page: Page,
        head: &request::Parts,
        body: RequestBody,
    ) -> Result<Response<Full<Bytes>>, Error> {
        match page {
            Page::Live => Ok(text(StatusCode::OK, "live\n")),
            Page::Ready if self.is_draining() => {
                Ok(text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"))
            }
            Page::Ready => Ok(text(StatusCode::OK, "ready\n")),
            Page::Console(asset) => Ok(asset.to_response()),
            Page::Metrics => Ok(self.metrics()),
            Page::Configuration => Ok(text(StatusCode::OK, self.configuration.read().clone())),
            // Of a HEAD.
            Page::Events => Ok(Response::default()),
            Page::Status => {
                let listeners = self.listeners.clone();
                Ok(json(&self.gateway.status(listeners, self.is_draining())))
            }
            Page::Explain if head.method == Method::POST => {
                let someone: Someone = read(head, body).await?;
                self.explain(someone.workspace.as_deref(), &someone.name()?)
            }
            Page::Explain => {
                let (workspace, name) = Someone::of_query(head.uri.query().unwrap_or(""))?;
                self.explain(workspace.as_deref(), &name)
            }
            Page::Lookup => self.look_up(read(head, body).await?).await,
            Page::Purge => self.purge(&read(head, body).await?).await,
            Page::Erase => self.erase(&read(head, body).await?).await,
        }
    }

    /// Finds the page, and whether this request may have it.
    fn admit(&self, head: &request::Parts, has_body: bool) -> Result<Page, Error> {
        let found = self.routes.at(head.uri.path());
        if has_body && !found.as_ref().is_ok_and(|page| page.value.takes_body()) {
            return Err(Failure::from(RequestError::BodyOnRead).into());
        }
        let page = *found
            .map_err(|_| Failure::from(route::Error::Unknown))?
            .value;
        if !page.is_open() {
            let authorized = self.authorize(&head.headers);
            let has_proof = matches!(authorized, Ok(Shown::Token));
            guard::check(head, has_proof)?;
            let _ = authorized.map_err(Failure::from)?;
        }
        let allow = page.allow();
        if allow.split(", ").all(|method| head.method != *method) {
            return Err(Failure::from(route::Error::Method { allow }).into());
        }
        Ok(page)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        self.gateway.maintain();
        let mut response = text(StatusCode::OK, self.telemetry.metrics().render());
        let kind = HeaderValue::from_static(OPENMETRICS);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn explain(
        &self,
        workspace: Option<&str>,
        name: &Name,
    ) -> Result<Response<Full<Bytes>>, Error> {
        let workspace = self.gateway.workspace(workspace)?;
        Ok(json(&self.gateway.explain(workspace, name)))
    }

    async fn look_up(&self, wanted: Someone) -> Result<Response<Full<Bytes>>, Error> {
        let name = wanted.name()?;
        let workspace = self.gateway.workspace(wanted.workspace.as_deref())?;
        let answer = self.gateway.look_up(workspace, &name).await?;
        Ok(json(&Item::of(wanted.given(), &answer)))
    }

    async fn purge(&self, wanted: &Purge) -> Result<Response<Full<Bytes>>, Error> {
        let whom = wanted.whom()?;
        let workspace = self.gateway.workspace(wanted.workspace.as_deref())?;
        let purged = self.gateway.purge(workspace, whom, wanted.soft).await?;
        Ok(json(&purged))
    }

    async fn erase(&self, wanted: &Erase) -> Result<Response<Full<Bytes>>, Error> {
        let name = wanted.name()?;
        let workspace = self.gateway.workspace(wanted.workspace.as_deref())?;
        let hold = wanted.hold.unwrap_or(DEFAULT_HOLD);
        let receipt = self.gateway.erase(workspace, name, hold).await?;
        Ok(json(&receipt))
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Checks the admin token. Digests are compared, so that neither its bytes nor its length can
    /// be found out by timing.
    fn authorize(&self, headers: &HeaderMap) -> Result<Shown, auth::Error> {
        let tokens = self.tokens.read();
        let Some(current) = &tokens.current else {
            return Ok(Shown::Nothing);
        };
        let sent = auth::bearer_token(headers)?.ok_or(auth::Error::NoToken)?;
        let sent = digest(&SHA256, sent);
        let is = |token: &AdminToken| {
            let own = digest(&SHA256, token.expose().as_bytes());
            verify_slices_are_equal(sent.as_ref(), own.as_ref()).is_ok()
        };
        let former = tokens.former.as_ref();
        let former = former.filter(|(_, until)| self.gateway.now() < *until);
        if is(current) || former.is_some_and(|(token, _)| is(token)) {
            Ok(Shown::Token)
        } else {
            Err(auth::Error::UnknownToken)
        }
    }
}

impl Page {
    /// Whether it answers anybody.
    fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Console(_))
    }

    fn takes_body(self) -> bool {
        matches!(
            self,
            Self::Explain | Self::Lookup | Self::Purge | Self::Erase
        )
    }

    /// The methods it takes.
    fn allow(self) -> &'static str {
        match self {
            // In a body, a name stands in no address that anybody keeps.
            Self::Explain => "GET, HEAD, POST",
            _ if self.takes_body() => "POST",
            _ => "GET, HEAD",
        }
    }
}

impl Application for Admin {
    async fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
    ) -> Response<crate::body::Body> {
        let (head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let mut response = match self.answer(&head, body).await {
            Ok(response) => response,
            Err(error) => {
                let mut response = self.refuse(&Problem::from(&error)).map(Into::into);
                if has_body && head.version < Version::HTTP_2 {
                    // A body that nobody reads would be taken for the next request.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            }
        };
        close_to_browsers(response.headers_mut());
        response
    }

    fn refuse(&self, problem: &Problem) -> Response<Bytes> {
        let mut response = Response::new(problem.body());
        *response.status_mut() = problem.status();
        problem.write_headers(response.headers_mut());
        close_to_browsers(response.headers_mut());
        response
    }
}

async fn read<T: DeserializeOwned>(head: &request::Parts, body: RequestBody) -> Result<T, Error> {
    let wanted = json::read(&head.headers, body, MAX_BODY_BYTES).await;
    Ok(wanted.map_err(Failure::from)?)
}

/// Has no browser keep an answer, or take it for something that it could run.
fn close_to_browsers(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    // Nothing in what is shown can fail to be written.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::gateway::lookup;

    /// What the document has under a path, as far as it is about who may send what.
    fn described(operations: &Value) -> BTreeSet<(String, bool, bool)> {
        let operations = operations.as_object().expect("an object").iter();
        let operations = operations.filter(|(method, _)| *method != "servers");
        let described = operations.map(|(method, operation)| {
            let is_open = operation["security"] == serde_json::json!([]);
            let takes_body = operation.get("requestBody").is_some();
            (method.to_uppercase(), is_open, takes_body)
        });
        described.collect()
    }

    #[test]
    fn the_description_has_every_route_and_no_other() {
        let document = include_bytes!("admin/openapi.json");
        let document: Value = serde_json::from_slice(document).expect("JSON");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut paths = document["paths"].as_object().expect("paths").clone();
        for (path, page) in PAGES {
            let described = described(&paths.remove(path).expect(path));
            let allow = page.allow().split(", ");
            let routed = allow.filter(|method| *method != "HEAD");
            let routed = routed.map(|method| {
                let has_body = page.takes_body() && method == "POST";
                (method.to_owned(), page.is_open(), has_body)
            });
            assert_eq!(described, routed.collect(), "{path}");
        }
        let left: Vec<_> = paths.keys().collect();
        assert_eq!(left, [lookup::PATH]);
    }
}
