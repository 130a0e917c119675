//! Writes to the second tier behind the answers that are given.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::numbers::Numbers;
use super::shelf::{Shelf, Writing};

/// Responses that wait to be written. Flameup allows two a second; this many wait only where Redis
/// does not answer, and then they are soon of no use.
const MOST_WAITING: usize = 1024;

/// Bytes of bodies that wait. They are mostly those of the first tier, which cannot let go of them
/// meanwhile.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Has responses written, one after the other.
#[derive(Debug)]
pub(super) struct Writer {
    waiting: Sender<Waiting>,
    room: Arc<Semaphore>,
    numbers: Arc<Numbers>,
}

struct Waiting {
    place: Arc<Shelf>,
    writing: Writing,
    _room: OwnedSemaphorePermit,
}

impl Writer {
    /// Writes from now on, until it is dropped.
    pub(super) fn start(numbers: Arc<Numbers>) -> Self {
        let (waiting, written) = mpsc::channel(MOST_WAITING);
        tokio::spawn(write_all(written, Arc::clone(&numbers)));
        Self {
            waiting,
            room: Arc::new(Semaphore::new(MOST_BYTES)),
            numbers,
        }
    }

    /// Has a response written, if there is room for it to wait.
    pub(super) fn write(&self, place: Arc<Shelf>, writing: Writing) {
        let bytes = u32::try_from(writing.entry.body().len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let waits = room.is_ok_and(|room| {
            let new = Waiting {
                place,
                writing,
                _room: room,
            };
            self.waiting.try_send(new).is_ok()
        });
        if !waits {
            self.numbers.written(None);
        }
    }
}

async fn write_all(mut waiting: Receiver<Waiting>, numbers: Arc<Numbers>) {
    while let Some(next) = waiting.recv().await {
        let written = next.place.write(&next.writing).await;
        numbers.written(Some(written));
    }
}
