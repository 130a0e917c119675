//! What is known of a request once it was sent: kept apart from its answer, for a head is heard
//! whatever becomes of the body behind it.

use std::time::Duration;

use http::{Response, StatusCode};

use super::Error;
use crate::shield::Sent;
use crate::shield::breaker::Outcome;
use crate::shield::key::Verdict;
use crate::shield::signals::Signals;

/// A request on its way, to be settled when its answer has ended. One that is dropped counts as
/// unanswered.
#[derive(Debug)]
pub struct Receipt(Fate, Stages);

#[derive(Debug)]
enum Fate {
    /// Nothing was tried; the permit is given back already.
    Unspent,
    /// There was nobody to send it to.
    Unsent(Sent),
    Sent(Sent, Option<Heard>),
}

/// What happened how long after it was sent, where that is watched for a trace.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    /// It had a connection: at once, or when one was made.
    pub connected: Option<Duration>,
    /// The head of the answer was there.
    pub first_byte: Option<Duration>,
}

impl Stages {
    /// Nothing was seen.
    pub const UNSEEN: Self = Self {
        connected: None,
        first_byte: None,
    };
}

/// What the head of an answer says to the gateway itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    status: StatusCode,
    signals: Signals,
}

impl Receipt {
    /// That of a request that could not be put together.
    pub(super) const UNSPENT: Self = Self(Fate::Unspent, Stages::UNSEEN);

    /// That of a request which ended so.
    pub(super) fn new<T>(
        sent: Sent,
        heard: Option<Heard>,
        stages: Stages,
        answer: &Result<T, Error>,
    ) -> Self {
        match answer {
            Err(error) if error.is_unsent() => Self(Fate::Unsent(sent), stages),
            _ => Self(Fate::Sent(sent, heard), stages),
        }
    }

    /// The status, if a head came.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.0 {
            Fate::Sent(_, heard) => heard.map(|heard| heard.status),
            Fate::Unspent | Fate::Unsent(_) => None,
        }
    }

    /// How far it came, and when.
    pub fn stages(&self) -> Stages {
        self.1
    }

    /// Whether Flameup may have counted it.
    pub fn was_sent(&self) -> bool {
        matches!(self.0, Fate::Sent(..))
    }

    /// Settles the request. Returns how long nothing more is to be sent if it was over the limit.
    ///
    /// What the key is worth is told by the status alone; `outcome` is what the whole answer says of
    /// Flameup's health.
    pub fn settle(self, outcome: Outcome) -> Option<Duration> {
        let verdict = self.status().map_or(Verdict::Unknown, Verdict::of_status);
        match self.0 {
            Fate::Unspent => None,
            Fate::Unsent(sent) => {
                sent.give_back(outcome);
                None
            }
            Fate::Sent(sent, heard) => {
                let signals = heard.map(|heard| heard.signals);
                sent.settle(signals.as_ref(), outcome, verdict)
            }
        }
    }
}

impl Heard {
    pub(super) fn of<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let signals = Signals::of(status, response.headers());
        Self { status, signals }
    }
}
