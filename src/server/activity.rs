//! What a connection is busy with, and since when.
//!
//! The request path only sets a word in an atomic; no clock is read for it. The connection's own
//! timer looks from time to time, [`Watch`], and counts how long it has seen the same word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

mod watch;

pub(super) use watch::{Look, Watch};

/// A request that the application has, and an answer that hyper has, as [`Activity`] counts both in
/// one number.
const REQUEST: u64 = 1;
const ANSWER: u64 = 1 << 32;

/// What a connection is busy with.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests handed to the application and not yet answered, and in the upper half answers that
    /// hyper has not yet taken to the end. On HTTP/2 each is counted by a task of its own.
    open: AtomicU64,
    /// What hyper has taken may not have left yet.
    unflushed: AtomicBool,
    /// Requests that have come so far. Written by the connection's own task only.
    requests: AtomicU32,
    /// Bytes of a request's head have come.
    head_begun: AtomicBool,
    /// Header blocks that have begun so far, on HTTP/2. Written by the connection's own task only.
    blocks: AtomicU32,
    /// The client has sent more than it may, and is being told so.
    parting: AtomicBool,
    /// The connection will be closed soon, and answers should say so.
    ending: AtomicBool,
    /// Pieces of answers that HTTP/2 still has to send, by when they were handed over.
    unsent: Unsent,
}

/// Counts by age: a few counters take turns in counting what is new.
#[derive(Debug, Default)]
struct Unsent {
    turn: AtomicU32,
    counts: [AtomicU32; TURNS],
}

/// Counters that take turns. Each is on for a quarter of the time a client has; when its turn comes
/// again, whatever it counted is long gone.
const TURNS: usize = 8;
const TURNS_OF_PATIENCE: u32 = 4;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its next request.
    Idle,
    /// The rest of a head.
    Head,
    /// The application.
    Busy,
    /// The client to take its answer.
    Answering,
}

impl Activity {
    pub(super) fn phase(&self) -> Phase {
        let open = self.open.load(Ordering::Relaxed);
        if open & (ANSWER - REQUEST) > 0 {
            Phase::Busy
        } else if open > 0 || self.unflushed.load(Ordering::Relaxed) {
            Phase::Answering
        } else if self.head_begun.load(Ordering::Relaxed) {
            Phase::Head
        } else {
            Phase::Idle
        }
    }

    /// Bytes have come in, on HTTP/1.
    pub(super) fn received(&self) {
        if self.phase() == Phase::Idle {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// A header block is open, or is not, on HTTP/2.
    pub(super) fn has_open_block(&self, open: bool) {
        if open != self.head_begun.load(Ordering::Relaxed) {
            self.head_begun.store(open, Ordering::Relaxed);
            let blocks = self.blocks.load(Ordering::Relaxed);
            self.blocks.store(blocks.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// The client is being told that it has sent too much.
    pub(super) fn part(&self) {
        self.parting.store(true, Ordering::Relaxed);
    }

    /// A piece of an answer is there to be sent on HTTP/2, until the guard is dropped.
    fn hands_over(self: &Arc<Self>) -> Sending {
        let turn = self.unsent.turn.load(Ordering::Relaxed) as usize % TURNS;
        self.unsent.counts[turn].fetch_add(1, Ordering::Relaxed);
        Sending {
            activity: Arc::clone(self),
            turn,
        }
    }

    /// Everything written has left.
    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Ordering::Relaxed);
    }

    /// The connection is about to end.
    pub(super) fn announce_end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// A request goes to the application, until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        if self.blocks.load(Ordering::Relaxed) == 0 {
            // On HTTP/2, where blocks are counted, another may have begun already.
            self.head_begun.store(false, Ordering::Relaxed);
        }
        let requests = self.requests.load(Ordering::Relaxed);
        self.requests
            .store(requests.wrapping_add(1), Ordering::Relaxed);
        self.open.fetch_add(REQUEST, Ordering::Relaxed);
        UnderWay(Some(Arc::clone(self)))
    }
}

impl Unsent {
    /// Has the next counter count from now on.
    fn take_turns(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is something from so long ago that patience is at its end.
    fn has_old(&self) -> bool {
        let turn = self.turn.load(Ordering::Relaxed) as usize;
        let old = (TURNS_OF_PATIENCE as usize + 1..TURNS).map(|ago| turn.wrapping_sub(ago) % TURNS);
        old.into_iter()
            .any(|turn| self.counts[turn].load(Ordering::Relaxed) > 0)
    }
}

/// A piece of an answer that is there to be sent.
#[derive(Debug)]
pub(super) struct Sending {
    activity: Arc<Activity>,
    turn: usize,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.activity.unsent.counts[self.turn].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that the application has.
#[derive(Debug)]
pub(super) struct UnderWay(Option<Arc<Activity>>);

impl UnderWay {
    /// Whether the connection is about to end.
    pub(super) fn is_last(&self) -> bool {
        let activity = self.0.as_ref();
        activity.is_some_and(|activity| activity.ending.load(Ordering::Relaxed))
    }

    /// The application has answered; the answer leaves until the guard is dropped.
    pub(super) fn answered(mut self) -> Leaving {
        let activity = self.0.take();
        if let Some(activity) = &activity {
            activity.open.fetch_add(ANSWER - REQUEST, Ordering::Relaxed);
        }
        Leaving(activity)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.open.fetch_sub(REQUEST, Ordering::Relaxed);
        }
    }
}

/// An answer that hyper has. There is always an activity; only a request that became an answer has
/// given its own away.
#[derive(Debug)]
pub(super) struct Leaving(Option<Arc<Activity>>);

impl Leaving {
    /// A piece of the answer is there to be sent on HTTP/2, until what is returned is dropped.
    pub(super) fn hands_over(&self) -> Option<Sending> {
        self.0.as_ref().map(Activity::hands_over)
    }

    /// The application has the next piece of the answer still to come, until the guard is dropped.
    pub(super) fn waits(&self) -> UnderWay {
        if let Some(activity) = &self.0 {
            activity.open.fetch_add(REQUEST, Ordering::Relaxed);
        }
        UnderWay(self.0.clone())
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.unflushed.store(true, Ordering::Relaxed);
            activity.open.fetch_sub(ANSWER, Ordering::Relaxed);
        }
    }
}
