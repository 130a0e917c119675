//! The waiting for a turn.
//!
//! Who waits is woken once, by its turn or its refusal. One timer for all, the lookout's, says when
//! somebody's may have come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::budget::Spent;
use super::permit::{Passes, Permit};
use super::queue::{Place, Start};
use super::{Error, Shield};

/// The longest that is slept while somebody waits. Whatever may bring a turn forward wakes the lookout;
/// this bounds what a mistake in that would cost.
const LONGEST_NAP: Duration = Duration::from_millis(250);
/// The shortest: where everybody waits for one answer, without knowing when it comes, the answer
/// wakes the lookout.
const SHORTEST_NAP: Duration = Duration::from_millis(1);

/// A turn that has come: what was spent for it, and the leave of the key and the breaker.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) spent: Spent,
    pub(super) passes: Passes,
    /// What the queue noted.
    pub(super) start: Start,
    /// One of [`MAX_FORWARDS`](super::MAX_FORWARDS).
    pub(super) forward: OwnedSemaphorePermit,
}

/// Brings a waiter its turn, or the reason why there will be none.
pub(super) type Ticket = oneshot::Sender<Result<Turn, Error>>;

/// A place in the queue. Whoever drops it gives it up.
pub(super) struct Waiting {
    pub(super) shield: Arc<Shield>,
    pub(super) turn: oneshot::Receiver<Result<Turn, Error>>,
    /// Taken out when the turn has come.
    pub(super) place: Option<Place>,
}

impl Waiting {
    /// Waits for the turn.
    pub(super) async fn turn(mut self) -> Result<Permit, Error> {
        if let Ok(turn) = self.turn.try_recv() {
            return self.permit(Some(turn));
        }
        self.shield.look_out();
        let turn = (&mut self.turn).await;
        self.permit(turn.ok())
    }

    /// Takes the turn if it has come already.
    pub(super) fn turn_now(mut self) -> Result<Permit, Error> {
        let turn = self.turn.try_recv().ok();
        self.permit(turn)
    }

    /// Makes a permit of a turn; of none, if it did not come.
    fn permit(&mut self, turn: Option<Result<Turn, Error>>) -> Result<Permit, Error> {
        let Some(turn) = turn else {
            return Err(Error::NotNow);
        };
        self.place = None;
        Ok(Permit::new(Arc::clone(&self.shield), turn?))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        let now = self.shield.clock.now();
        let mut state = self.shield.state.lock();
        state.queue.leave(place);
        // A turn that came in this very moment is somebody else's.
        if let Ok(Ok(turn)) = self.turn.try_recv() {
            state.give_back(turn, None, now);
        }
    }
}

/// One task for all who wait: it sleeps until the next turn may come and calls. It ends when nobody
/// waits.
struct Lookout {
    shield: Arc<Shield>,
    /// It has ended by itself, and another one may be there.
    ended: bool,
}

impl Shield {
    /// Sees that somebody looks out for the next turn.
    fn look_out(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.is_looked_out {
            state.is_looked_out = true;
            let shield = Arc::clone(self);
            let lookout = Lookout {
                shield,
                ended: false,
            };
            tokio::spawn(lookout.run());
        }
    }
}

impl Lookout {
    async fn run(mut self) {
        let shield = Arc::clone(&self.shield);
        loop {
            let moved = shield.clock.moved();
            let Some(nap) = self.call() else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = shield.stirred.notified() => {}
                () = moved => {}
            }
        }
    }

    /// Calls whose turn it is. Returns how long to sleep until somebody's may come; `None` if nobody
    /// waits.
    fn call(&mut self) -> Option<Duration> {
        let mut state = self.shield.state.lock();
        let now = self.shield.clock.now();
        state.call(now);
        let Some(wake) = state.wake_at(now) else {
            // With the lock held, so that whoever comes next starts another one.
            state.is_looked_out = false;
            self.ended = true;
            return None;
        };
        let nap = wake.saturating_duration_since(now);
        Some(nap.clamp(SHORTEST_NAP, LONGEST_NAP))
    }
}

impl Drop for Lookout {
    /// Its runtime may end before that of others who wait: the next one who comes starts another.
    fn drop(&mut self) {
        if !self.ended {
            self.shield.state.lock().is_looked_out = false;
        }
    }
}
