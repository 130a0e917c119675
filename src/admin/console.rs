//! The console: one page for an operator's browser, and what it loads. Nothing comes from elsewhere.
//!
//! The page holds no secret and no person, so anybody may have it who can connect. What it shows, it
//! asks for like any other client, with the admin token where there is one.
//!
//! # Specification
//! Content Security Policy Level 3: scripts, styles and connections are this origin's alone, nothing
//! stands inline, and no page may frame it.

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use http_body_util::Full;

/// A file of the console.
#[derive(Debug)]
pub(super) struct Asset {
    kind: &'static str,
    body: &'static [u8],
}

/// What the page may do. `data:` images are none that could tell anybody anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// All files, and where they are.
pub(super) static ASSETS: [(&str, Asset); 5] = [
    ("/", asset(HTML, include_bytes!("console/index.html"))),
    (
        "/console.js",
        asset(SCRIPT, include_bytes!("console/console.js")),
    ),
    (
        "/console.css",
        asset(STYLE, include_bytes!("console/console.css")),
    ),
    (
        "/uplot.js",
        asset(SCRIPT, include_bytes!("console/vendor/uPlot.iife.min.js")),
    ),
    (
        "/uplot.css",
        asset(STYLE, include_bytes!("console/vendor/uPlot.min.css")),
    ),
];

/// What says of this listener, and of what the gateway adds for clients, how to use it: `OpenAPI` 3.1.
pub(super) static OPENAPI: Asset = asset("application/json", include_bytes!("openapi.json"));

const fn asset(kind: &'static str, body: &'static [u8]) -> Asset {
    Asset { kind, body }
}

impl Asset {
    /// The file as an answer.
    pub(super) fn to_response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from_static(self.body)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}
