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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::cache::entry::{Entry, Lifetime};
    use crate::cache::fixture::workspace;
    use crate::cache::freshness::StaleWindows;
    use crate::cache::key::Keys;
    use crate::clock::Clock;
    use crate::config::EmailCase;
    use crate::tier::position::Position;
    use crate::tier::{Settings, Shared};
    use crate::upstream::Response;

    fn writing(body: usize) -> Writing {
        let response = Response {
            status: StatusCode::NOT_FOUND,
            headers: HeaderMap::new(),
            body: Bytes::from(vec![b' '; body]),
            requested_at: Instant::now(),
        };
        Writing {
            entry: Arc::new(Entry::new(&response, Lifetime::NONE)),
            asked: Keys::of_id(0, "u1", false),
            position: Position::default(),
            kept: true,
            lease: None,
        }
    }

    /// How many of these are dropped while nothing is written yet.
    fn dropped(writings: impl Iterator<Item = Writing>) -> usize {
        let mut registry = Registry::default();
        let settings = Settings {
            windows: StaleWindows::NONE,
            longest_fetch: std::time::Duration::from_secs(1),
            retention: std::time::Duration::from_mins(1),
        };
        let config = crate::tier::tests::config(&["a"]);
        let workspaces = [Arc::new(workspace(0, EmailCase::Insensitive))];
        let shared = Shared::new(
            &config,
            workspaces.iter(),
            settings,
            Clock::system(),
            &mut registry,
        );
        let shared = shared.expect("a tier");
        for writing in writings {
            shared.write(0, writing);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encoded");
        let mut lines = text.lines();
        let count =
            lines.find_map(|line| line.strip_prefix("redis_writes_total{result=\"dropped\"} "));
        count.map_or(0, |count| count.parse().expect("a number"))
    }

    // All of these on one thread, so that nothing is written before all has been asked for.
    #[tokio::test]
    async fn what_there_is_no_room_for_is_dropped_and_counted() {
        let many = (0..MOST_WAITING + 3).map(|_| writing(1));
        assert_eq!(dropped(many), 3);
    }

    #[tokio::test]
    async fn bytes_that_wait_are_bounded_too() {
        let large = (0..5).map(|_| writing(MOST_BYTES / 4));
        assert_eq!(dropped(large), 1);
    }
}
