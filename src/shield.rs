//! The shield: step 5 of the request path. Nothing is sent to Flameup without its [`Permit`].
//!
//! One shield stands before each Flameup key. It asks in turn: is the key good ([`key`]), does
//! Flameup answer at all ([`breaker`]), whose turn is it ([`queue`]), and may anything be sent yet
//! ([`budget`])? Those four are pure and driven by `now`; here is only the thin rim that waits.
//!
//! # Invariants
//! - A permit is one request of the budget, spent before it is sent, and settled with what came
//!   back. One that is dropped unsent is given back; one that was sent counts, answered or not.
//! - However many wait, one task looks out for the next turn, and only whose turn has come is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

pub mod breaker;
pub mod budget;
pub mod credential;
pub mod key;
mod permit;
mod probe;
pub mod queue;
pub mod retry;
pub mod share;
pub mod signals;
#[cfg(test)]
mod tests;
mod waiting;

use crate::clock::Clock;
use crate::config::ApiKey;
use breaker::{Breaker, Outcome};
use budget::{Budget, Snapshot};
pub use credential::Credential;
use key::Keys;
use permit::Passes;
pub use permit::{Permit, Sent};
use queue::{Ask, CallerId, Class, Queue, Refusal, Subject};
use retry::Retries;
use waiting::{Ticket, Turn, Waiting};

/// Most forwards under way at a time. Flameup's limit is two a second and a forward lasts at most
/// some seconds, so that a healthy gateway has a handful; with the bound on a body, this bounds
/// the memory that forwards take to 64 MiB.
pub const MAX_FORWARDS: usize = 64;

/// Most requests of one caller that wait for their turn: at two a second, the last of them would
/// wait for half a minute, which no lookup does.
const PER_CALLER: usize = 50;
/// Most requests that wait, of all callers.
const IN_ALL: usize = 500;

/// How a shield is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests a window, believed until Flameup says otherwise.
    pub requests: u32,
    /// The window.
    pub window: Duration,
    /// Share of the window that background work leaves alone.
    pub reserve: f64,
    /// The longest that a lookup waits for its turn.
    pub max_wait: Duration,
    /// The longest that a request may be under way.
    pub timeout: Duration,
}

/// Admits or refuses forwards under one key.
#[derive(Debug)]
pub struct Shield {
    state: Mutex<State>,
    /// Wakes the lookout.
    stirred: Arc<Notify>,
    /// Wakes whoever asks the purse, where the budget is shared.
    wanting: Notify,
    /// A copy of what `keys` knows, for the hit path to read without the lock.
    key_refused: AtomicBool,
    settings: Settings,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    keys: Keys,
    breaker: Breaker,
    queue: Queue<Ticket>,
    budget: Budget,
    retries: Retries,
    /// The forwards that are free.
    forwards: Arc<Semaphore>,
    /// A task looks out for the next turn.
    is_looked_out: bool,
    stirred: Arc<Notify>,
}

/// How a shield stands at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What is believed of the budget.
    pub budget: Snapshot,
    /// Requests that refreshes may take now.
    pub leftover: u32,
    /// How many wait for their turn.
    pub waiting: usize,
    /// Whether Flameup is left alone.
    pub breaker: breaker::State,
    /// Whether Flameup has refused the key, and nothing but probes is sent.
    pub key_refused: bool,
}

/// Who wants to send something, and how long that may wait.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Who.
    pub caller: CallerId,
    /// In which class.
    pub class: Class,
    /// Its share inside the class.
    pub weight: u32,
    /// How long it may wait for its turn.
    pub patience: Duration,
    /// The person has been seen before.
    pub known: bool,
    /// What it is for.
    pub subject: Subject,
    /// Whether a refusal is told to a client, who may come back.
    pub told: bool,
}

/// What a forward is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing was stored.
    Miss,
    /// What is stored no longer does, and a caller waits.
    Revalidation,
    /// What is stored is served stale meanwhile.
    Refresh,
    /// For one request alone; nothing is stored.
    Bypass,
    /// The first attempt failed.
    Retry,
    /// A client's request that may change something; sent once, whatever comes of it.
    Write,
    /// A client's request that changes nothing and is not a lookup.
    PassThrough,
}

impl Purpose {
    /// The word for it in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Revalidation => "revalidation",
            Self::Refresh => "refresh",
            Self::Bypass => "bypass",
            Self::Retry => "retry",
            Self::Write => "write",
            Self::PassThrough => "pass_through",
        }
    }

    /// How many requests of the budget it costs.
    pub fn cost(self) -> u32 {
        match self {
            Self::Retry => retry::COST,
            Self::Miss
            | Self::Revalidation
            | Self::Refresh
            | Self::Bypass
            | Self::Write
            | Self::PassThrough => 1,
        }
    }
}

/// Why a forward is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Its turn would come too late.
    #[error("the budget has no turn for it in time ({})", .0.reason.word())]
    Budget(Refusal),
    /// Flameup keeps failing.
    #[error("the upstream keeps failing")]
    BreakerOpen {
        /// When it is tried again.
        retry_after: Duration,
    },
    /// Flameup refuses the key.
    #[error("the upstream refused the key")]
    KeyRefused {
        /// When it is tried again.
        retry_after: Duration,
    },
    /// It may not be sent at once, and was not to wait.
    #[error("nothing may be sent at this moment")]
    NotNow,
    /// As many requests have been sent twice as may be.
    #[error("too many requests were repeated")]
    TooManyRetries,
}

impl Shield {
    /// A shield before `keys`, of which the first is used.
    pub fn new(keys: Vec<ApiKey>, settings: Settings, clock: Clock) -> Arc<Self> {
        let now = clock.now();
        let queue = queue::Settings {
            window: settings.window,
            reserve: settings.reserve,
            per_caller: PER_CALLER,
            in_all: IN_ALL,
        };
        let budget = budget::Settings {
            requests: settings.requests,
            window: settings.window,
            timeout: settings.timeout,
        };
        let give_up_after = budget::give_up_after(settings.window, settings.timeout);
        let stirred = Arc::new(Notify::new());
        Arc::new(Self {
            state: Mutex::new(State {
                keys: Keys::new(keys, give_up_after),
                breaker: Breaker::new(give_up_after),
                queue: Queue::new(queue),
                budget: Budget::new(budget, now),
                retries: Retries::new(settings.window),
                forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
                is_looked_out: false,
                stirred: Arc::clone(&stirred),
            }),
            stirred,
            wanting: Notify::new(),
            key_refused: AtomicBool::new(false),
            settings,
            clock,
        })
    }

    /// Takes the keys as they are now configured, and `former` ones to fall back on. A new one is
    /// tried at once.
    pub fn replace_keys(&self, keys: Vec<ApiKey>, former: Vec<ApiKey>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.change_keys(now, |all| all.replace(keys, former));
        self.key_refused
            .store(state.keys.is_refused(), Ordering::Relaxed);
        state.stir(now);
    }

    /// Whether one of these is among its keys, in use or not.
    pub fn has_any_of(&self, keys: &[ApiKey]) -> bool {
        let state = self.state.lock();
        state.keys.all().any(|own| keys.contains(own))
    }

    /// What is believed of the budget, and how many wait.
    pub fn snapshot(&self) -> (Snapshot, usize) {
        let state = self.state.lock();
        (state.budget.snapshot(self.clock.now()), state.queue.len())
    }

    /// How everything stands, for operators.
    pub fn report(&self) -> Report {
        let now = self.clock.now();
        let state = self.state.lock();
        Report {
            budget: state.budget.snapshot(now),
            leftover: state.budget.leftover(self.settings.reserve, now),
            waiting: state.queue.len(),
            breaker: state.breaker.state(now),
            key_refused: state.keys.is_refused(),
        }
    }

    /// The longest that a lookup waits for its turn.
    pub fn max_wait(&self) -> Duration {
        self.settings.max_wait
    }

    /// Whether Flameup has refused the key and nothing has changed since. What was stored under it
    /// is not served stale.
    pub fn is_key_refused(&self) -> bool {
        self.key_refused.load(Ordering::Relaxed)
    }

    /// Admits one forward, when its turn comes.
    ///
    /// # Errors
    /// At once, when its turn would come too late or nothing may be sent at all; see [`Error`].
    ///
    /// # Cancellation
    /// The place in the queue is given up.
    pub async fn admit(self: &Arc<Self>, claim: &Claim) -> Result<Permit, Error> {
        self.enter(claim, 1)?.turn().await
    }

    /// Admits one forward if it may be sent at once: for work that nobody waits for.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit_now(self: &Arc<Self>, claim: &Claim) -> Result<Permit, Error> {
        let claim = Claim {
            patience: Duration::ZERO,
            told: false,
            ..*claim
        };
        let turn = self.enter(&claim, 1).and_then(Waiting::turn_now);
        turn.inspect_err(|_| self.want_refresh())
    }

    /// Admits the repetition of a forward that failed, at twice the cost, if few were repeated.
    ///
    /// # Errors
    /// When too many were, or its turn would come too late.
    pub async fn admit_again(self: &Arc<Self>, claim: &Claim) -> Result<Permit, Error> {
        if !self
            .state
            .lock()
            .may_repeat(self.clock.now(), Retries::has_room)
        {
            return Err(Error::TooManyRetries);
        }
        // Who is refused hears how the first attempt ended.
        let claim = Claim {
            told: false,
            ..*claim
        };
        let permit = self.enter(&claim, retry::COST)?.turn().await?;
        // Others may have waited for the same one. The permit gives its turn back.
        if !self
            .state
            .lock()
            .may_repeat(self.clock.now(), Retries::take)
        {
            return Err(Error::TooManyRetries);
        }
        Ok(permit)
    }

    /// The refusal of somebody who waited as long as it could for a turn of another's.
    pub fn refuse(&self, claim: &Claim) -> Error {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let State { queue, budget, .. } = &mut *state;
        Error::Budget(queue.refuse(claim.ask(1, now), budget, now))
    }

    /// Takes a place in the queue, or is refused one.
    fn enter(self: &Arc<Self>, claim: &Claim, cost: u32) -> Result<Waiting, Error> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        // Only to refuse at once what will not be sent: the passes proper are taken when the turn
        // comes, so that no probe's place is kept by somebody who queues.
        drop(state.passes(now)?);
        let ask = claim.ask(cost, now);
        let (ticket, turn) = oneshot::channel();
        let State { queue, budget, .. } = &mut *state;
        let offered = queue.offer(ask, ticket, budget, now);
        // Whoever comes looks whose turn it is, be it refused itself.
        state.stir(now);
        if state.wants_units(now) {
            self.wanting.notify_one();
        }
        drop(state);
        let (place, _foretold) = offered.map_err(|(_, refusal)| Error::Budget(refusal))?;
        Ok(Waiting {
            shield: Arc::clone(self),
            turn,
            place: Some(place),
        })
    }
}

impl Claim {
    fn ask(&self, cost: u32, now: Instant) -> Ask {
        Ask {
            caller: self.caller,
            class: self.class,
            weight: self.weight,
            deadline: now + self.patience,
            cost,
            known: self.known,
            subject: self.subject,
            told: self.told,
        }
    }
}

impl Error {
    /// The word for it in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Budget(refusal) => refusal.reason.word(),
            Self::BreakerOpen { .. } => "breaker",
            Self::KeyRefused { .. } => "key",
            Self::NotNow => "background",
            Self::TooManyRetries => "retries",
        }
    }
}

impl State {
    /// Asks for the key and the breaker.
    fn passes(&mut self, now: Instant) -> Result<Passes, Error> {
        let key = self.keys.admit(now).map_err(|refused| Error::KeyRefused {
            retry_after: refused.retry_after,
        })?;
        let breaker = self.breaker.admit(now).map_err(|open| Error::BreakerOpen {
            retry_after: open.retry_after,
        })?;
        Ok(Passes { key, breaker })
    }

    /// Does something to the keys. What Flameup told of one key says nothing of another.
    fn change_keys(&mut self, now: Instant, change: impl FnOnce(&mut Keys)) {
        let before = self.keys.current().clone();
        change(&mut self.keys);
        if *self.keys.current() != before {
            self.budget.take_new_key(now);
        }
    }

    /// Asks whether one more request may be repeated.
    fn may_repeat(&mut self, now: Instant, ask: fn(&mut Retries, u32, Instant) -> bool) -> bool {
        let limit = self.budget.snapshot(now).limit;
        ask(&mut self.retries, limit, now)
    }

    /// Gives back a turn of which nothing was sent, to whoever is next; `outcome` if it was tried.
    fn give_back(&mut self, turn: Turn, outcome: Option<Outcome>, now: Instant) {
        let Turn {
            spent,
            passes,
            start,
            forward,
        } = turn;
        drop(forward);
        // Whoever is next may be the probe that this one was.
        let Passes { key, breaker } = passes;
        drop(key);
        match outcome {
            Some(outcome) => self.breaker.report(breaker, outcome, now),
            None => drop(breaker),
        }
        self.budget.give_back(spent, now);
        self.queue.give_back(&start, now);
        self.stir(now);
    }

    /// Calls whose turn it is now that something has changed. When the next one comes may have
    /// changed too.
    fn stir(&mut self, now: Instant) {
        self.call(now);
        if !self.queue.is_empty() {
            self.stirred.notify_one();
        }
    }

    /// Calls whose turn it is, and tells those who will have none. Whoever has left meanwhile needs
    /// no answer.
    fn call(&mut self, now: Instant) {
        for (ticket, refusal) in self.queue.expired(&self.budget, now) {
            let _ = ticket.send(Err(Error::Budget(refusal)));
        }
        while !self.queue.is_empty() {
            // Asked first, so that nothing is spent for what may not be sent. Where a probe is due
            // it is the first one called; the others are told while it is under way.
            let passes = match self.passes(now) {
                Ok(passes) => passes,
                Err(shut) => return self.refuse_all(shut),
            };
            // Whoever ends a forward calls again.
            let Ok(forward) = Arc::clone(&self.forwards).try_acquire_owned() else {
                return;
            };
            let Some((start, ticket)) = self.queue.next(&self.budget, now) else {
                return;
            };
            let Some(spent) = self.budget.spend(start.ask.cost, now) else {
                return; // Not reached: the queue asks the budget first.
            };
            let turn = Turn {
                spent,
                passes,
                start,
                forward,
            };
            if let Err(Ok(turn)) = ticket.send(Ok(turn)) {
                self.budget.give_back(turn.spent, now);
                self.queue.give_back(&turn.start, now);
            }
        }
    }

    /// When somebody's turn may come, or time be over; `None` if nobody waits.
    fn wake_at(&self, now: Instant) -> Option<Instant> {
        if self.forwards.available_permits() > 0 {
            return self.queue.wake_at(&self.budget, now);
        }
        // There is no turn until a forward ends, and that is told.
        let expires_at = self.queue.expires_at()?;
        Some(expires_at + Duration::from_nanos(1))
    }

    /// Tells all who wait that the key or the breaker is shut.
    fn refuse_all(&mut self, shut: Error) {
        for ticket in self.queue.clear() {
            let _ = ticket.send(Err(shut));
        }
    }
}
