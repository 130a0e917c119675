//! What is known of a request once it was sent: kept apart from its answer, for a head is heard
//! whatever becomes of the body behind it.

use std::time::Duration;

use http::{Response, StatusCode};

use crate::shield::Sent;
use crate::shield::breaker::Outcome;
use crate::shield::key::Verdict;
use crate::shield::signals::Signals;

/// A request on its way, to be settled when its answer has ended. One that is dropped counts as
/// unanswered.
#[derive(Debug)]
pub struct Receipt {
    sent: Sent,
    heard: Option<Heard>,
}

/// What the head of an answer says to the gateway itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    status: StatusCode,
    signals: Signals,
}

impl Receipt {
    pub(super) fn new(sent: Sent, heard: Option<Heard>) -> Self {
        Self { sent, heard }
    }

    /// The status, if a head came.
    pub fn status(&self) -> Option<StatusCode> {
        self.heard.map(|heard| heard.status)
    }

    /// Settles the request. Returns how long nothing more is to be sent if it was over the limit.
    ///
    /// What the key is worth is told by the status alone; `outcome` is what the whole answer says of
    /// Flameup's health.
    pub fn settle(self, outcome: Outcome) -> Option<Duration> {
        let verdict = self.status().map_or(Verdict::Unknown, Verdict::of_status);
        let signals = self.heard.map(|heard| heard.signals);
        self.sent.settle(signals.as_ref(), outcome, verdict)
    }
}

impl Heard {
    pub(super) fn of<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let signals = Signals::of(status, response.headers());
        Self { status, signals }
    }
}
