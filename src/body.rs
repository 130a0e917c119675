//! What an answer's body is made of: bytes that are there, or bytes that are still coming.
//!
//! Nearly every answer is whole, and costs what `Full` costs. What is forwarded comes through a
//! channel from the task that reads it, so that neither its deadline nor its end waits for a client
//! that reads slowly.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

use crate::limit::UnderWay;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// Bytes that are there.
    Whole(Full<Bytes>),
    /// Bytes that are there and go out piece by piece, and leave memory so.
    Piecemeal(Bytes),
    /// Bytes that are still coming.
    Coming(Coming),
}

/// Bytes of one piece. A whole body is copied into the connection's buffer at once, and whoever
/// counts what it takes would count nothing while a slow client has yet to read it.
const PIECE_BYTES: usize = 64 * 1024;

/// A body that another task feeds.
#[derive(Debug)]
pub struct Coming {
    pieces: mpsc::Receiver<Piece>,
    /// What was announced of it and has not come yet.
    left: Option<u64>,
    ended: bool,
    /// Its request is under way for as long as it comes.
    held: Option<UnderWay>,
}

/// The end of the channel that feeds a body. Dropping it before [`Feed::end`] breaks the body off.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<Piece>);

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

/// The body ends here though it is not whole, and the client must be able to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer was cut off")]
pub struct Cut;

/// Nobody takes the body any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has left")]
pub struct ClientLeft;

impl Body {
    /// A large body, which goes out piece by piece.
    pub fn piecemeal(bytes: Bytes) -> Self {
        Self::Piecemeal(bytes)
    }

    /// A body to feed, of `length` bytes if that is known.
    pub fn coming(length: Option<u64>) -> (Feed, Self) {
        // One piece under way: more would only hide from the sender how fast the client reads.
        let (sender, pieces) = mpsc::channel(1);
        let (left, ended) = (length, false);
        let coming = Coming {
            pieces,
            left,
            ended,
            held: None,
        };
        (Feed(sender), Self::Coming(coming))
    }

    /// Has the request count as under way until the body has come, or is given up.
    pub fn hold(&mut self, under_way: Option<UnderWay>) {
        if let Self::Coming(coming) = self {
            coming.held = under_way;
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl From<Full<Bytes>> for Body {
    fn from(whole: Full<Bytes>) -> Self {
        Self::Whole(whole)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(whole) => {
                let frame = ready!(Pin::new(whole).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Piecemeal(rest) => {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
            }
            Self::Coming(coming) => coming.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Piecemeal(rest) => rest.is_empty(),
            Self::Coming(coming) => coming.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Piecemeal(rest) => SizeHint::with_exact(rest.len() as u64),
            Self::Coming(coming) => coming.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => {
                let length = data.len() as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                Some(Ok(Frame::data(data)))
            }
            Some(Piece::End) => {
                self.ended = true;
                self.held = None;
                None
            }
            None => {
                self.ended = true;
                Some(Err(Cut))
            }
        })
    }
}

impl Feed {
    /// Gives the body some more bytes, when the client has taken those before.
    ///
    /// # Errors
    /// When nobody takes them any more.
    pub async fn push(&self, data: Bytes) -> Result<(), ClientLeft> {
        let sent = self.0.send(Piece::Data(data)).await;
        sent.map_err(|_| ClientLeft)
    }

    /// Ends the body: it is whole.
    pub async fn end(self) {
        // A client that has left needs no end.
        let _ = self.0.send(Piece::End).await;
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Collected};

    use super::*;

    #[tokio::test]
    async fn a_large_body_goes_out_piece_by_piece() {
        let bytes = Bytes::from(vec![7; PIECE_BYTES + 1]);
        let mut body = Body::piecemeal(bytes);
        let mut lengths = Vec::new();
        while !body.is_end_stream() {
            let left = body.size_hint().exact().expect("an exact length");
            let frame = body.frame().await.expect("a piece").expect("it is there");
            lengths.push((left, frame.data_ref().map_or(0, Bytes::len)));
        }
        let all = PIECE_BYTES as u64 + 1;
        assert_eq!(lengths, [(all, PIECE_BYTES), (1, 1)]);
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_fed_body_is_whole_once_it_is_ended() {
        let (feed, body) = Body::coming(Some(4));
        assert_eq!(body.size_hint().exact(), Some(4));
        let feeding = async {
            assert_eq!(feed.push(Bytes::from_static(b"ab")).await, Ok(()));
            assert_eq!(feed.push(Bytes::from_static(b"cd")).await, Ok(()));
            feed.end().await;
        };
        let ((), whole) = tokio::join!(feeding, body.collect());
        assert_eq!(whole.map(Collected::to_bytes), Ok("abcd".into()));
    }

    #[tokio::test]
    async fn a_feed_that_is_dropped_breaks_the_body_off() {
        let (feed, body) = Body::coming(None);
        let feeding = async {
            assert_eq!(feed.push(Bytes::from_static(b"ab")).await, Ok(()));
            drop(feed);
        };
        let ((), whole) = tokio::join!(feeding, body.collect());
        assert_eq!(whole.map(Collected::to_bytes), Err(Cut));
    }

    #[tokio::test]
    async fn who_feeds_hears_that_the_client_has_left() {
        let (feed, body) = Body::coming(None);
        drop(body);
        assert_eq!(feed.push(Bytes::from_static(b"ab")).await, Err(ClientLeft));
    }
}
