//! A client's request body on its way to Flameup: counted, and shown before its last bytes go out.
//!
//! # Invariants
//! - No more than the limit goes out; a body that turns out longer is cut, so that Flameup sees no
//!   whole request.
//! - Whoever wants to see the whole body has seen it before Flameup has its last bytes.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::BoxError;
use crate::server;

/// Is shown the whole body, or nothing if it was too large to keep. Says whether its last bytes may
/// go out.
pub type Witness = Box<dyn FnOnce(Option<&[u8]>) -> Verdict + Send>;

/// Whether the last bytes of a body may go out, once that is known.
pub type Verdict = Pin<Box<dyn Future<Output = bool> + Send>>;

/// A request body under way.
pub struct Upload {
    inner: UnsyncBoxBody<Bytes, BoxError>,
    /// How much more may come.
    left: u64,
    /// The latest bytes. They go out when it is certain that others follow, or that the witness has
    /// seen all.
    held: Option<Bytes>,
    seen: Seen,
    progress: Arc<Progress>,
    given_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What is kept for the witness.
struct Seen {
    witness: Option<Witness>,
    /// What the witness will say.
    verdict: Option<Verdict>,
    kept: Option<BytesMut>,
    most_bytes: usize,
}

/// How far a body has come, for whoever sent it on its way.
#[derive(Debug)]
pub struct Progress {
    stage: watch::Sender<Stage>,
    given_up: CancellationToken,
}

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// More is to come.
    UnderWay,
    /// It was read to its end.
    Ended,
    /// It is longer than it may be.
    TooLarge,
    /// The client took longer to send it than it may.
    TooSlow,
    /// The client broke it off.
    Broken,
}

/// Why a body ends before its time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is longer than it may be.
    #[error("the request body is too large")]
    TooLarge,
    /// The client broke it off.
    #[error("the request body broke off")]
    Broken(#[source] BoxError),
    /// Nobody answers for the request any more.
    #[error("the request was given up")]
    GivenUp,
}

impl Upload {
    /// Sends `body` on its way, `most_bytes` of it at most. `witness` sees it whole, if it is not
    /// larger than `kept_bytes`.
    pub fn new<B>(body: B, most_bytes: u64, kept_bytes: usize, witness: Option<Witness>) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let kept = witness.is_some().then(BytesMut::new);
        let progress = Arc::<Progress>::default();
        Self {
            given_up: Box::pin(progress.given_up.clone().cancelled_owned()),
            inner: body.map_err(Into::into).boxed_unsync(),
            left: most_bytes,
            held: None,
            seen: Seen {
                witness,
                verdict: None,
                kept,
                most_bytes: kept_bytes,
            },
            progress,
        }
    }

    /// How far it has come, from now on.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Takes in the next bytes; gives out those before.
    fn take_in(&mut self, data: Bytes) -> Result<Option<Bytes>, Error> {
        let length = data.len() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            self.held = None;
            self.progress.reach(Stage::TooLarge);
            return Err(Error::TooLarge);
        };
        self.left = left;
        self.seen.keep(&data);
        Ok(self.held.replace(data))
    }

    /// The body has come to its end: gives out its last bytes.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.progress.reach(Stage::Ended);
        if !ready!(self.seen.poll_tell(cx)) {
            self.held = None;
            return Poll::Ready(Some(Err(Error::GivenUp)));
        }
        Poll::Ready(self.held.take().map(|data| Ok(Frame::data(data))))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.given_up.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Error::GivenUp)));
        }
        loop {
            let awaits_verdict = self.seen.verdict.is_some();
            if awaits_verdict || self.held.is_some() && self.inner.is_end_stream() {
                return self.poll_end(cx);
            }
            let data = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                None => return self.poll_end(cx),
                Some(Err(error)) => {
                    let slow = matches!(error.downcast_ref(), Some(server::BodyError::TooSlow));
                    let stage = if slow { Stage::TooSlow } else { Stage::Broken };
                    self.progress.reach(stage);
                    return Poll::Ready(Some(Err(Error::Broken(error))));
                }
                // Trailers stay here; nothing on the list of what passes is one.
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if data.is_empty() {
                continue;
            }
            if let Some(data) = self.take_in(data).transpose() {
                return Poll::Ready(Some(data.map(Frame::data)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.seen.is_over() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl Seen {
    fn keep(&mut self, data: &[u8]) {
        if let Some(kept) = &mut self.kept {
            if kept.len() + data.len() > self.most_bytes {
                self.kept = None;
            } else {
                kept.extend_from_slice(data);
            }
        }
    }

    /// Whether the witness has said all it had to.
    fn is_over(&self) -> bool {
        self.witness.is_none() && self.verdict.is_none()
    }

    /// Shows the whole body to the witness, once. Says whether its last bytes may go out.
    fn poll_tell(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(witness) = self.witness.take() {
            let kept = self.kept.take();
            self.verdict = Some(witness(kept.as_deref()));
        }
        let Some(verdict) = &mut self.verdict else {
            return Poll::Ready(true);
        };
        let may_go = ready!(verdict.as_mut().poll(cx));
        self.verdict = None;
        Poll::Ready(may_go)
    }
}

impl Progress {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Ends when the body has failed; never, if it does not.
    pub async fn failed(&self) {
        let mut stages = self.stage.subscribe();
        let failed =
            |stage: &Stage| matches!(stage, Stage::TooLarge | Stage::TooSlow | Stage::Broken);
        // The sender is here, so that it is not an error that ends this.
        let _ = stages.wait_for(failed).await;
    }

    /// Cuts the body off when what is returned is dropped: nobody waits for its answer any more, and
    /// the client may never send the rest.
    pub fn until_dropped(&self) -> DropGuard {
        self.given_up.clone().drop_guard()
    }

    fn reach(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            stage: watch::Sender::new(Stage::UnderWay),
            given_up: CancellationToken::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use parking_lot::Mutex;

    use super::*;

    type Shown = Arc<Mutex<Vec<Option<Vec<u8>>>>>;

    fn witness(shown: &Shown, answer: bool) -> Witness {
        let shown = Arc::clone(shown);
        Box::new(move |body| {
            shown.lock().push(body.map(<[u8]>::to_vec));
            Box::pin(std::future::ready(answer))
        })
    }

    /// A body that comes in two pieces, its length unknown.
    struct Pieces(std::vec::IntoIter<&'static str>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = self.0.next();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
        }
    }

    fn two_pieces() -> Pieces {
        Pieces(vec!["abc", "def"].into_iter())
    }

    #[tokio::test]
    async fn the_witness_sees_the_whole_before_the_last_bytes_go_out() {
        let shown = Shown::default();
        let mut upload = Upload::new(two_pieces(), 100, 100, Some(witness(&shown, true)));
        let first = upload.frame().await.expect("a frame").expect("data");
        assert_eq!(first.into_data().ok(), Some("abc".into()));
        assert!(shown.lock().is_empty());
        let last = upload.frame().await.expect("a frame").expect("data");
        assert_eq!(shown.lock().pop(), Some(Some(b"abcdef".to_vec())));
        assert_eq!(last.into_data().ok(), Some("def".into()));
        assert!(upload.frame().await.is_none());
        assert_eq!(upload.progress().stage(), Stage::Ended);
    }

    #[tokio::test]
    async fn a_body_beyond_the_limit_is_cut_and_one_too_large_to_keep_is_not() {
        let shown = Shown::default();
        let upload = Upload::new(two_pieces(), 5, 100, Some(witness(&shown, true)));
        let progress = upload.progress();
        assert!(matches!(upload.collect().await, Err(Error::TooLarge)));
        progress.failed().await;
        assert_eq!(progress.stage(), Stage::TooLarge);
        assert!(shown.lock().is_empty());
        let upload = Upload::new(two_pieces(), 6, 5, Some(witness(&shown, true)));
        assert!(upload.collect().await.is_ok());
        assert_eq!(shown.lock().pop(), Some(None));
    }

    #[tokio::test]
    async fn the_last_bytes_of_a_request_that_was_given_up_do_not_go_out() {
        let shown = Shown::default();
        let body = Full::new(Bytes::from_static(b"abc"));
        let mut upload = Upload::new(body, 100, 100, Some(witness(&shown, false)));
        assert_eq!(upload.size_hint().exact(), Some(3));
        assert!(matches!(upload.frame().await, Some(Err(Error::GivenUp))));
    }

    #[tokio::test]
    async fn a_body_that_is_given_up_while_it_waits_ends_there() {
        let (feed, coming) = crate::body::Body::coming(None);
        let mut upload = Upload::new(coming, 100, 100, None);
        let given_up = upload.progress().until_dropped();
        let waits = async {
            tokio::task::yield_now().await;
            drop(given_up);
        };
        let (frame, ()) = tokio::join!(upload.frame(), waits);
        assert!(matches!(frame, Some(Err(Error::GivenUp))));
        drop(feed);
    }
}
