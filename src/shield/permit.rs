//! The right to send one request, from the turn in the queue to the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shield;
use super::breaker::{Outcome, Pass};
use super::credential::Credential;
use super::key::{KeyPass, Verdict};
use super::signals::Signals;
use super::waiting::Turn;

/// The right to send one request to Flameup, spent by sending it. One that is dropped unsent gives
/// its unit of the budget back, to whoever is next.
///
/// In memory of its own: it is handed through many hands, each of which would have room for it.
#[derive(Debug)]
pub struct Permit(Box<Held>);

/// A permit that was spent: a request is on its way. One that is dropped unsettled counts as sent
/// and unanswered.
#[derive(Debug)]
pub struct Sent(Box<Held>);

#[derive(Debug)]
struct Held {
    shield: Arc<Shield>,
    /// Taken out when it is settled.
    turn: Option<Turn>,
    /// Flameup may have counted it.
    sent: bool,
    /// How long it was waited for.
    waited: Duration,
    credential: Arc<Credential>,
}

/// What the key and the breaker gave, to be reported to or given back.
#[derive(Debug)]
pub(super) struct Passes {
    pub(super) key: KeyPass,
    pub(super) breaker: Pass,
}

impl Permit {
    pub(super) fn new(shield: Arc<Shield>, turn: Turn) -> Self {
        Self(Box::new(Held {
            shield,
            credential: Arc::clone(turn.passes.key.credential()),
            turn: Some(turn),
            sent: false,
            waited: Duration::ZERO,
        }))
    }

    /// Notes how long it was waited for, for traces.
    pub fn waited_for(&mut self, waited: Duration) {
        self.0.waited = waited;
    }

    /// How long it was waited for.
    pub fn waited(&self) -> Duration {
        self.0.waited
    }

    /// What to sign the request with.
    pub fn credential(&self) -> &Credential {
        &self.0.credential
    }

    /// Spends the permit: the request is on its way.
    pub fn spend(mut self) -> Sent {
        self.0.sent = true;
        Sent(self.0)
    }
}

impl Sent {
    /// What the request was signed with.
    pub fn credential(&self) -> &Arc<Credential> {
        &self.0.credential
    }

    /// Settles the request with what came back: the signals of an answer, or nothing, and what it
    /// says of Flameup's health and of the key. Returns how long nothing more is to be sent if it was
    /// over the limit.
    pub fn settle(
        mut self,
        answer: Option<&Signals>,
        outcome: Outcome,
        verdict: Verdict,
    ) -> Option<Duration> {
        let Held { shield, turn, .. } = &mut *self.0;
        // Only this takes it, and takes `self`.
        let Turn {
            spent,
            passes,
            forward,
            ..
        } = turn.take()?;
        // Whoever is called next may need it.
        drop(forward);
        let (now, wall) = (shield.clock.now(), shield.clock.wall());
        let mut state = shield.state.lock();
        let wait = state.budget.settle(spent, answer, now, wall);
        state.breaker.report(passes.breaker, outcome, now);
        state.change_keys(now, |keys| keys.report(passes.key, verdict, now));
        // Before anybody is woken: what they serve stale depends on it.
        let refused = state.keys.is_refused();
        shield.key_refused.store(refused, Ordering::Relaxed);
        state.stir(now);
        wait
    }
}

impl Sent {
    /// Gives the unit of the budget back, for a request that found nobody to be sent to; that, too, says
    /// something of Flameup's health.
    pub fn give_back(mut self, outcome: Outcome) {
        let Some(turn) = self.0.turn.take() else {
            return; // Not reached: only this and `settle` take it, and take `self`.
        };
        let shield = &self.0.shield;
        let now = shield.clock.now();
        let mut state = shield.state.lock();
        state.give_back(turn, Some(outcome), now);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else {
            return;
        };
        let (now, wall) = (self.shield.clock.now(), self.shield.clock.wall());
        let mut state = self.shield.state.lock();
        if self.sent {
            drop(turn.forward);
            state.budget.settle(turn.spent, None, now, wall);
            state.stir(now);
        } else {
            state.give_back(turn, None, now);
        }
    }
}
