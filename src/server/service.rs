//! The application as hyper calls it: what is asked of every request, and what is known of every
//! answer until it has left.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::{HttpService, service_fn};

use super::activity::{Activity, Leaving, Sending, UnderWay};
use super::connection::{in_memory, unreadable_head};
use super::numbers::{Limit, Numbers};
use super::upload::RequestBody;
use super::{Application, Server};
use crate::auth::certificate::ClientCertificate;
use crate::body::{self, Cut};
use crate::config::Limits;

/// What a header line takes beyond its name and its value, by the count of RFC 9113 §6.5.2.
const LINE_BYTES: usize = 32;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// What the requests of one connection have in common.
struct Shared<A> {
    application: Arc<A>,
    bounds: Bounds,
    body_timeout: Duration,
    numbers: Numbers,
    certificate: Option<Arc<ClientCertificate>>,
}

/// Bounds on heads that hyper does not hold itself.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    target_bytes: usize,
    header_bytes: usize,
}

/// What the requests of a connection are answered with.
pub(super) struct Service<'s, A> {
    pub(super) server: &'s Server<A>,
    pub(super) activity: &'s Arc<Activity>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
}

impl<A: Application> Service<'_, A> {
    /// The application as hyper calls it. `track` makes of an answer what this version of HTTP needs.
    pub(super) fn hypers<B: Body + 'static>(
        self,
        track: fn(Tracked) -> B,
    ) -> impl HttpService<
        Incoming,
        ResBody = B,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<B>, Infallible>> + Send + use<A, B>,
    > + use<A, B> {
        // Of this connection's own, so that to hold on to it for a request touches no memory that the
        // connections of other threads touch too.
        let shared = Arc::new(Shared {
            application: Arc::clone(&self.server.application),
            bounds: Bounds::of(&self.server.limits),
            body_timeout: self.server.limits.body_timeout,
            numbers: self.server.numbers.clone(),
            certificate: self.certificate,
        });
        let activity = Arc::clone(self.activity);
        service_fn(move |request: Request<Incoming>| {
            let (shared, under_way) = (Arc::clone(&shared), activity.begin());
            let is_h1 = request.version() < Version::HTTP_2;
            // Before anything waits: what does has room for all that it was begun with, and on
            // HTTP/2 it is moved about, and overwritten in the end, for every request.
            let prepared = shared.prepare(request);
            async move {
                let mut response = match prepared {
                    Ok(request) => shared.counted(A::handle(&shared.application, request).await),
                    Err(refused) => *refused,
                };
                if is_h1 && under_way.is_last() {
                    // Otherwise the client may send one more request into a closing connection.
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                let leaving = under_way.answered();
                let tracked = |body| Tracked {
                    body,
                    waiting: None,
                    leaving,
                };
                Ok(response.map(|body| track(tracked(body))))
            }
        })
    }
}

impl<A: Application> Shared<A> {
    /// The request as the application gets it, or what it is refused with.
    fn prepare(
        &self,
        request: Request<Incoming>,
    ) -> Result<Request<RequestBody>, Box<Response<body::Body>>> {
        if let Some(limit) = self.bounds.met_by(&request) {
            return Err(Box::new(self.refuse(&request, limit)));
        }
        let mut request =
            request.map(|body| RequestBody::new(body, self.body_timeout, &self.numbers));
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(Arc::clone(certificate));
        }
        Ok(request)
    }

    /// The application's answer, counted if by it a client is held to a limit.
    fn counted(&self, response: Response<body::Body>) -> Response<body::Body> {
        let limit = match response.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Limit::BodyBytes,
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Limit::Headers,
            _ => return response,
        };
        // Flameup may say the same, of limits of its own.
        if response.headers().contains_key(PROXY_STATUS) {
            self.numbers.reached(limit);
        }
        response
    }

    #[cold]
    fn refuse(&self, request: &Request<Incoming>, limit: Limit) -> Response<body::Body> {
        self.numbers.reached(limit);
        let status = match limit {
            Limit::TargetBytes => StatusCode::URI_TOO_LONG,
            _ => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        };
        let mut response = self.application.refuse(&unreadable_head(status));
        if request.version() < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response.map(body::Body::from)
    }
}

impl Bounds {
    fn of(limits: &Limits) -> Self {
        Self {
            target_bytes: in_memory(limits.target_bytes),
            header_bytes: in_memory(limits.header_bytes),
        }
    }

    /// The limit that a request's head is beyond.
    fn met_by(self, request: &Request<Incoming>) -> Option<Limit> {
        let target = request.uri().path_and_query();
        if target.is_some_and(|target| target.as_str().len() > self.target_bytes) {
            return Some(Limit::TargetBytes);
        }
        // On HTTP/1 hyper has held it to the bytes that came.
        let is_h2 = request.version() >= Version::HTTP_2;
        (is_h2 && header_bytes(request) > self.header_bytes).then_some(Limit::HeaderBytes)
    }
}

/// What a request's headers take, unpacked. A few bytes of HPACK may name many.
fn header_bytes(request: &Request<Incoming>) -> usize {
    let lines = request.headers().iter();
    lines
        .map(|(name, value)| name.as_str().len() + value.len() + LINE_BYTES)
        .sum()
}

/// The body of an answer, which leaves until it is dropped.
#[derive(Debug)]
pub(super) struct Tracked {
    body: body::Body,
    /// While the next piece is still to come, it is not the client that is slow.
    waiting: Option<UnderWay>,
    leaving: Leaving,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_ready() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            self.waiting = Some(self.leaving.waits());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer on HTTP/2, each piece of which is there to be sent until it has been.
///
/// hyper asks for a piece when the client has opened its window, and may have to keep the piece for
/// the rest of the window. Either way the client has a limited time.
#[derive(Debug)]
pub(super) struct Sent {
    body: Tracked,
    /// None while the next piece is still to come.
    sending: Option<Sending>,
}

/// A piece of an answer.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    _sending: Option<Sending>,
}

impl Sent {
    pub(super) fn of(body: Tracked) -> Self {
        let sending = body.leaving.hands_over();
        Self { body, sending }
    }
}

impl Body for Sent {
    type Data = Piece;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Cut>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        if frame.is_pending() {
            this.sending = None; // It is not the client that is slow.
        }
        let frame = ready!(frame);
        this.sending = this.body.leaving.hands_over();
        Poll::Ready(frame.map(|frame| {
            Ok(frame?.map_data(|bytes| Piece {
                bytes,
                _sending: this.body.leaving.hands_over(),
            }))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
