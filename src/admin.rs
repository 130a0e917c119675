//! The operators' listener: health, readiness, metrics.
//!
//! `/livez` and `/readyz` answer anybody who can connect, for they say nothing else; the rest needs
//! the admin token where one is configured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use matchit::Router;

use crate::auth;
use crate::config::AdminToken;
use crate::failure::{Failure, RequestError};
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::route;
use crate::server::Application;
use crate::telemetry::Telemetry;

/// What `/metrics` is written in.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers operators.
#[derive(Debug)]
pub struct Admin {
    gateway: Arc<Gateway>,
    telemetry: Arc<Telemetry>,
    token: Option<AdminToken>,
    routes: Router<Page>,
    draining: AtomicBool,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug)]
enum Page {
    Live,
    Ready,
    Metrics,
}

impl Admin {
    /// An admin listener's application, closed by `token` if there is one.
    ///
    /// # Panics
    /// Never: the paths are constants and differ.
    pub fn new(
        gateway: Arc<Gateway>,
        telemetry: Arc<Telemetry>,
        token: Option<AdminToken>,
    ) -> Self {
        let mut routes = Router::new();
        for (path, page) in [
            ("/livez", Page::Live),
            ("/readyz", Page::Ready),
            ("/metrics", Page::Metrics),
        ] {
            routes.insert(path, page).expect("the paths differ");
        }
        Self {
            gateway,
            telemetry,
            token,
            routes,
            draining: AtomicBool::new(false),
        }
    }

    /// Says from now on that this process takes no more work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn answer(&self, request: &Request<impl Body>) -> Result<Response<Full<Bytes>>, Failure> {
        if !request.body().is_end_stream() {
            return Err(RequestError::BodyOnRead.into());
        }
        let page = self
            .routes
            .at(request.uri().path())
            .map_err(|_| route::Error::Unknown)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(route::Error::Method { allow: "GET, HEAD" }.into());
        }
        match page.value {
            Page::Live => Ok(text(StatusCode::OK, "live\n")),
            Page::Ready if self.draining.load(Ordering::Relaxed) => {
                Ok(text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"))
            }
            Page::Ready => Ok(text(StatusCode::OK, "ready\n")),
            Page::Metrics => {
                self.authorize(request)?;
                self.gateway.maintain();
                let mut response = text(StatusCode::OK, self.telemetry.metrics().render());
                response
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS));
                Ok(response)
            }
        }
    }

    /// Checks the admin token. Digests are compared, so that neither its bytes nor its length can
    /// be found out by timing.
    fn authorize(&self, request: &Request<impl Body>) -> Result<(), auth::Error> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let sent = auth::bearer_token(request.headers())?.ok_or(auth::Error::NoToken)?;
        let (sent, own) = (
            digest(&SHA256, sent),
            digest(&SHA256, token.expose().as_bytes()),
        );
        verify_slices_are_equal(sent.as_ref(), own.as_ref()).map_err(|_| auth::Error::UnknownToken)
    }
}

impl Application for Admin {
    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Response<crate::body::Body> {
        let response = self.answer(&request).unwrap_or_else(|failure| {
            let mut response = self.refuse(&Problem::from(&failure)).map(Full::new);
            if matches!(failure, Failure::Request(_)) && request.version() < Version::HTTP_2 {
                // A body that nobody reads would be taken for the next request.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        });
        response.map(Into::into)
    }

    fn refuse(&self, problem: &Problem) -> Response<Bytes> {
        let mut response = Response::new(problem.body());
        *response.status_mut() = problem.status();
        problem.write_headers(response.headers_mut());
        response
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
