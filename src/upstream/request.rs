//! What is sent to Flameup, built from nothing.
//!
//! For a lookup, no header of a client's is copied. What a stored answer was asked with must not depend on which
//! client happened to ask first, so every request for a person looks the same but for the id that
//! lets an operator find it again.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH, USER_AGENT,
    VIA,
};
use http::{Method, Request, Uri};
use hyper::body::{Body, Frame, SizeHint};

use super::upload::{self, Upload};
use crate::config::BaseUrl;
use crate::headers::{TRACEPARENT, VIA_VALUE, X_REQUEST_ID};
use crate::person::PersonRef;
use crate::telemetry::trace::Trace;

pub(super) const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("flameup-gateway/", env!("CARGO_PKG_VERSION")));
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request for one person.
#[derive(Debug)]
pub struct PersonRequest<'a> {
    /// Who is meant.
    pub person: &'a PersonRef<'a>,
    /// A query to pass on, without its `?`.
    pub query: Option<&'a str>,
    /// Flameup's validator for what is stored.
    pub validator: Option<&'a HeaderValue>,
    /// The id of the client's request that caused this one.
    pub request_id: &'a HeaderValue,
    /// Its own place in a trace.
    pub trace: Option<Trace>,
}

impl PersonRequest<'_> {
    /// Builds the request, addressed to `base` and signed with `authorization`.
    ///
    /// # Errors
    /// When the query has bytes that no target may have.
    pub(super) fn build(
        &self,
        base: &BaseUrl,
        authorization: &HeaderValue,
    ) -> Result<Request<Outgoing>, http::Error> {
        let uri = target(base, self.person.path(), self.query)?;
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, JSON)
            // Flameup's samples send it with every request, a GET included (get-people-id).
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(USER_AGENT, USER_AGENT_VALUE)
            .header(VIA, VIA_VALUE)
            .header(X_REQUEST_ID, self.request_id);
        if let Some(parent) = self.trace.and_then(|trace| trace.to_header()) {
            request = request.header(TRACEPARENT, parent);
        }
        if let Some(validator) = self.validator {
            request = request.header(IF_NONE_MATCH, validator);
        }
        request.body(Outgoing::Nothing)
    }
}

/// What goes with a request.
#[derive(Debug)]
pub enum Outgoing {
    /// No body.
    Nothing,
    /// A client's body. Apart: most requests have none, and are moved about.
    Upload(Box<Upload>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = upload::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, upload::Error>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Upload(upload) => Pin::new(&mut **upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Upload(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.size_hint(),
        }
    }
}

/// The whole target of a request: ours up to the path, then `path` and a client's query.
pub(super) fn target(
    base: &BaseUrl,
    path: String,
    query: Option<&str>,
) -> Result<Uri, http::Error> {
    let mut target = path;
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Uri::builder()
        .scheme(base.scheme.clone())
        .authority(base.authority.clone())
        .path_and_query(target)
        .build()
}
