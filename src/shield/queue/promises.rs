//! What refused callers were told, and what is kept free for them.
//!
//! A refusal says when to come back. So that this is true, it is remembered as a promise, where it is
//! told at all: a moment, a caller, and whom it asked for. A caller that comes back at that moment or a little later redeems the promise and
//! stands before those of its class that have none; and no newcomer is admitted whose start would
//! make a caller that comes back as told wait for long.
//!
//! Not everybody comes back. What is kept free is therefore the number of promises times the share
//! that was redeemed lately; callers that never obey `Retry-After` do not make the budget lie idle.
//!
//! # Invariants
//! - `line` is sorted by moment and holds exactly the promises in `of`.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{CallerId, Subject};

/// How long after its moment a promise may be redeemed: the way there and back, and clocks of whole
/// seconds on the other side.
const GRACE: Duration = Duration::from_secs(2);

/// How long after its moment a caller is still expected. Those who obey come within a round trip;
/// what is kept longer for those who do not is lost if the budget cannot be saved up.
const EXPECTED_FOR: Duration = Duration::from_millis(250);

/// Weight of the newest promise in the share that is redeemed.
const NEWEST: f64 = 1.0 / 32.0;

/// Who was promised a turn, and for whom.
type Promised = (CallerId, Subject);

/// The promises made to the callers of one class.
#[derive(Debug)]
pub(super) struct Promises {
    line: VecDeque<(Instant, Promised)>,
    of: BTreeMap<Promised, VecDeque<Instant>>,
    /// How many each caller holds.
    held: BTreeMap<CallerId, usize>,
    /// Share of promises redeemed lately.
    redeemed: f64,
}

impl Default for Promises {
    /// None yet; the first callers are taken to come back.
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            of: BTreeMap::new(),
            held: BTreeMap::new(),
            redeemed: 1.0,
        }
    }
}

impl Promises {
    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// How many this caller holds.
    pub(super) fn held_by(&self, caller: CallerId) -> usize {
        self.held.get(&caller).copied().unwrap_or(0)
    }

    /// Remembers that `caller` was told to come back for `subject` at `due`.
    pub(super) fn make(&mut self, caller: CallerId, subject: Subject, due: Instant) {
        let at = self.line.partition_point(|&(other, _)| other <= due);
        self.line.insert(at, (due, (caller, subject)));
        *self.held.entry(caller).or_default() += 1;
        let own = self.of.entry((caller, subject)).or_default();
        let at = own.partition_point(|&other| other <= due);
        own.insert(at, due);
    }

    /// Uses up the oldest promise to `caller` for `subject` that has come due; whether there was one.
    pub(super) fn redeem(&mut self, caller: CallerId, subject: Subject, now: Instant) -> bool {
        let promised = (caller, subject);
        let own = self.of.get(&promised);
        let own = own.and_then(|own| own.front().copied());
        let Some(due) = own.filter(|&due| due <= now) else {
            return false;
        };
        let first = self.line.partition_point(|&(other, _)| other < due);
        let mut same = self.line.iter().skip(first);
        if let Some(offset) = same.position(|&promise| promise == (due, promised)) {
            self.line.remove(first + offset);
        }
        self.forget_first(promised);
        self.learn(1.0);
        true
    }

    /// Forgets the promises nobody redeemed in time.
    pub(super) fn lapse(&mut self, now: Instant) {
        while let Some(&(due, promised)) = self.line.front()
            && due + GRACE < now
        {
            self.line.pop_front();
            self.forget_first(promised);
            self.learn(0.0);
        }
    }

    /// Callers still expected, at `now`, to come back by `moment`.
    pub(super) fn expected_by(&self, moment: Instant, now: Instant) -> f64 {
        let up_to = |moment| self.line.partition_point(|&(due, _)| due <= moment);
        let given_up = self
            .line
            .partition_point(|&(due, _)| due + EXPECTED_FOR < now);
        count(up_to(moment).saturating_sub(given_up)) * self.redeemed
    }

    /// Callers expected back at all.
    pub(super) fn expected(&self) -> f64 {
        count(self.line.len()) * self.redeemed
    }

    fn forget_first(&mut self, promised: Promised) {
        let (caller, _) = promised;
        if let Some(own) = self.of.get_mut(&promised) {
            own.pop_front();
            if own.is_empty() {
                self.of.remove(&promised);
            }
        }
        if let Some(held) = self.held.get_mut(&caller) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&caller);
            }
        }
    }

    fn learn(&mut self, outcome: f64) {
        self.redeemed += (outcome - self.redeemed) * NEWEST;
    }
}

fn count(promises: usize) -> f64 {
    f64::from(u32::try_from(promises).unwrap_or(u32::MAX))
}
