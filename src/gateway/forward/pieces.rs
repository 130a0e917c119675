//! An answer's body, piece by piece: given to its client, and kept to be read.

use bytes::{Bytes, BytesMut};
use tokio::time::timeout_at;

use crate::body::{ClientLeft, Feed};
use crate::gateway::change::MOST_KEPT_BYTES;

/// An answer's body on its way to the client, while there is one.
pub(super) struct Pieces {
    feed: Option<Feed>,
    deadline: tokio::time::Instant,
    /// The latest piece, if it is to wait for the next one.
    held: Option<Bytes>,
}

impl Pieces {
    pub(super) fn new(feed: Feed, deadline: tokio::time::Instant) -> Self {
        Self {
            feed: Some(feed),
            deadline,
            held: None,
        }
    }

    /// Gives the client a piece, or the one before if it `holds` the latest back, by the deadline.
    pub(super) async fn push(&mut self, piece: Bytes, holds: bool) -> Result<(), ClientLeft> {
        let ready = if holds {
            self.held.replace(piece)
        } else {
            Some(piece)
        };
        let (Some(feed), Some(ready)) = (&self.feed, ready) else {
            return Ok(());
        };
        let pushed = timeout_at(self.deadline, feed.push(ready)).await;
        if !matches!(pushed, Ok(Ok(()))) {
            // Dropping it cuts the answer of a client that is only slow.
            self.feed = None;
            return Err(ClientLeft);
        }
        Ok(())
    }

    /// Gives the client what is left. From here on only its own connection waits for it.
    pub(super) async fn end(self) {
        let Some(feed) = self.feed else { return };
        if let Some(last) = self.held
            && feed.push(last).await.is_err()
        {
            return;
        }
        feed.end().await;
    }
}

/// An answer as far as it has come, to be read when it is whole.
pub(super) struct Kept(Option<BytesMut>);

impl Kept {
    pub(super) fn new(wanted: bool) -> Self {
        Self(wanted.then(BytesMut::new))
    }

    pub(super) fn keep(&mut self, piece: &[u8]) {
        if let Some(kept) = &mut self.0 {
            if kept.len() + piece.len() > MOST_KEPT_BYTES {
                self.0 = None;
            } else {
                kept.extend_from_slice(piece);
            }
        }
    }

    /// All of it, unless it was too large or is not wanted.
    pub(super) fn whole(self) -> Option<Bytes> {
        self.0.map(BytesMut::freeze)
    }
}
