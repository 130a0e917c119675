//! The beginning of a client's body, taken in before anything is sent.
//!
//! A body without announced length may turn out to be none: its chunks may be framed wrongly, or its
//! end never come. Flameup is to see nothing of such a request, and the cache to hear of no change. So
//! as much as most bodies have is taken in first; what is longer goes on as it comes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::failure::RequestError;
use crate::server;
use crate::upstream::BoxError;

/// How much is taken in: Flameup's largest documented request, a batch of 100 people, has some 60 KB.
const MOST_BYTES: usize = 64 * 1024;

/// A body of which the beginning may be here.
pub(super) struct Intake<B> {
    here: Bytes,
    /// Nothing else is to come.
    ended: bool,
    rest: B,
}

impl<B> Intake<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// A body of which nothing is here. Its announced length, if any, holds whatever comes.
    pub(super) fn nothing_of(rest: B) -> Self {
        Self {
            here: Bytes::new(),
            ended: false,
            rest,
        }
    }

    /// Takes in the whole body, `most` bytes, or as much of a long one as is taken in, by `deadline`.
    pub(super) async fn of(rest: B, most: u64, deadline: Instant) -> Result<Self, RequestError> {
        timeout_at(deadline, Self::taken_in(rest, most))
            .await
            .unwrap_or(Err(RequestError::BodyTooSlow))
    }

    async fn taken_in(mut rest: B, most: u64) -> Result<Self, RequestError> {
        let (mut here, mut ended) = (BytesMut::new(), false);
        while !ended && here.len() < MOST_BYTES {
            match rest.frame().await {
                None => ended = true,
                Some(Err(error)) => return Err(failure(&error.into())),
                // Of trailers that are pseudo-headers (RFC 9113 §8.1) this is all that is shown.
                Some(Ok(frame)) if frame.trailers_ref().is_some_and(HeaderMap::is_empty) => {
                    return Err(RequestError::BodyBroken);
                }
                // Other trailers stay here; nothing on the list of what passes is one.
                Some(Ok(frame)) => here.extend(frame.into_data().ok()),
            }
            if here.len() as u64 > most {
                return Err(RequestError::BodyTooLarge);
            }
        }
        let here = here.freeze();
        Ok(Self { here, ended, rest })
    }
}

/// What a body that does not come to its end tells of its client.
fn failure(error: &BoxError) -> RequestError {
    match error.downcast_ref() {
        Some(server::BodyError::TooSlow) => RequestError::BodyTooSlow,
        _ => RequestError::BodyBroken,
    }
}

impl<B> Body for Intake<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.here.is_empty() {
            let here = std::mem::take(&mut self.here);
            return Poll::Ready(Some(Ok(Frame::data(here))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.here.is_empty() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let here = self.here.len() as u64;
        if self.ended {
            return SizeHint::with_exact(here);
        }
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(here));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(here));
        }
        hint
    }
}
