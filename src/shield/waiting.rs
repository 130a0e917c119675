//! The waiting for a turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::budget::Spent;
use super::permit::{Passes, Permit};
use super::queue::Place;
use super::{Error, Shield};

/// The longest that a waiter sleeps before it looks again: an answer may have moved the budget.
const LONGEST_NAP: Duration = Duration::from_millis(250);
/// The shortest: five hundred that wait for one answer, without knowing when it comes, must not
/// spin for it.
const SHORTEST_NAP: Duration = Duration::from_millis(20);

/// A turn that has come: what was spent for it, and the leave of the key and the breaker.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) spent: Spent,
    pub(super) passes: Passes,
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
        loop {
            let nap = self.shield.nap();
            tokio::select! {
                biased;
                turn = &mut self.turn => return self.permit(turn.ok()),
                () = tokio::time::sleep(nap) => {
                    let now = self.shield.clock.now();
                    self.shield.state.lock().call(now);
                }
            }
        }
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
        let turn = turn?;
        let Ok(forward) = Arc::clone(&self.shield.forwards).try_acquire_owned() else {
            let now = self.shield.clock.now();
            self.shield.state.lock().give_back(turn, now);
            return Err(Error::TooManyForwards);
        };
        Ok(Permit::new(Arc::clone(&self.shield), turn, forward))
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
            state.give_back(turn, now);
        }
    }
}

impl Shield {
    /// How long to sleep before looking again whose turn it is.
    fn nap(&self) -> Duration {
        let now = self.clock.now();
        let state = self.state.lock();
        let wake = state.queue.wake_at(&state.budget, now);
        let nap = wake.map_or(LONGEST_NAP, |wake| wake.saturating_duration_since(now));
        nap.clamp(SHORTEST_NAP, LONGEST_NAP)
    }
}
