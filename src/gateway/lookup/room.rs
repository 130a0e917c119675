//! Room for answers that are on their way: one of many people may take 16 MiB, and a client that
//! reads slowly keeps it for long.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many bytes of answers at a time.
#[derive(Debug)]
pub(in crate::gateway) struct Room(Arc<Semaphore>);

/// Room that is taken, for an answer that is to be written.
#[derive(Debug)]
pub(super) struct Taken(OwnedSemaphorePermit);

/// An answer, and the room that it takes for as long as any part of it is there.
struct Filled {
    bytes: Vec<u8>,
    _taken: OwnedSemaphorePermit,
}

impl Room {
    pub(in crate::gateway) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes room for an answer of this size, if there is so much.
    pub(super) fn take(&self, bytes: usize) -> Option<Taken> {
        let bytes = u32::try_from(bytes).ok()?;
        let taken = Arc::clone(&self.0).try_acquire_many_owned(bytes);
        taken.ok().map(Taken)
    }
}

impl Taken {
    /// The answer, which gives its room back when it is gone.
    pub(super) fn fill(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Filled {
            bytes,
            _taken: self.0,
        })
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_back_when_the_last_part_of_an_answer_is_gone() {
        let room = Room::new(10);
        let mut answer = room.take(8).expect("there is room").fill(vec![0; 8]);
        let part = answer.split_to(3);
        assert!(room.take(3).is_none() && room.take(2).is_some());
        drop(answer);
        assert!(room.take(3).is_none());
        drop(part);
        assert!(room.take(10).is_some());
    }

    #[test]
    fn an_answer_that_is_never_written_gives_its_room_back() {
        let room = Room::new(10);
        drop(room.take(10).expect("there is room"));
        assert!(room.take(10).is_some());
        assert!(room.take(11).is_none() && room.take(usize::MAX).is_none());
    }
}
