//! A request's body as the application reads it: within a time limit.
//!
//! # Invariants
//! - The time is a total. It begins when the body is first waited for, and a byte a second does not
//!   begin it anew.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use super::numbers::{Limit, Numbers};

/// A request's body on its way in.
#[derive(Debug)]
pub struct RequestBody<B = Incoming> {
    inner: B,
    /// None for a body that is known to be empty, as nearly all are: it costs nothing then.
    limit: Option<Box<Patience>>,
}

/// How long a body is waited for.
#[derive(Debug)]
struct Patience {
    timeout: Duration,
    /// Set once the body had to be waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    numbers: Numbers,
}

/// Why a request's body does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It took longer than `server.limits.body_timeout`.
    #[error("the request body took too long")]
    TooSlow,
    /// The client broke it off, or framed it wrongly.
    #[error("the request body broke off")]
    Broken(#[source] hyper::Error),
}

impl<B: Body> RequestBody<B> {
    pub(super) fn new(inner: B, timeout: Duration, numbers: &Numbers) -> Self {
        let limit = (!inner.is_end_stream()).then(|| {
            Box::new(Patience {
                timeout,
                deadline: None,
                numbers: numbers.clone(),
            })
        });
        Self { inner, limit }
    }
}

impl Patience {
    /// Ready when it is at its end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(timeout)));
        deadline.as_mut().poll(cx)
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Broken)));
        }
        let Some(patience) = &mut this.limit else {
            return Poll::Pending;
        };
        ready!(patience.poll_end(cx));
        patience.numbers.reached(Limit::BodyTimeout);
        this.limit = None;
        Poll::Ready(Some(Err(Error::TooSlow)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
