//! Who is next: the requests that wait for budget, and the refusal of those that would wait in vain.
//!
//! Pure code: no sockets, no tasks, and the time is handed in. What the budget allows is seen
//! through [`Pace`]; whoever owns both spends [`Ask::cost`] for each request that
//! [`Queue::next`] hands out.
//!
//! # Order
//! 1. Interactive before service before batch while more than half of the window is used; below
//!    that, in the order in which they came. Batch gets every twentieth start if it waits.
//! 2. Inside a class, by weight between callers, and in order of arrival for one caller. What a
//!    caller leaves unused goes to the others at once.
//! 3. Unknown ids beyond a quarter of their caller's share ([`Ask::known`]) stand behind everybody
//!    else, by the same rules among themselves. They start only from budget left over above the
//!    reserve. So a sweep over invented ids cannot starve known people, and a gateway that has just
//!    started, to which everybody is unknown, is not throttled for nothing.
//! 4. Refreshes start only from left-over budget and while nobody else waits.
//!
//! A request that costs 2 starts when the pace allows one: only one request is sent, the second
//! unit is a price. It delays those after it, not itself.
//!
//! # Admission
//! [`Queue::offer`] foretells the start of a request from what will start before it: those that
//! wait and go first, the promises due until then, and the higher classes' further requests at
//! the rate of the last seconds. If that is after its deadline the request is refused at once.
//!
//! # Promises
//! A refusal's [`Refusal::retry_after`] is remembered where it is told ([`Ask::told`]); see `promises`.
//! A caller that comes back for the same person
//! between then and two seconds later goes before those of its class without a promise. Newcomers
//! of its class and lower ones are let in only if it still starts within a second; and a slot that
//! cannot be saved up goes to whoever is there.
//! - Kept: if the budget keeps its pace and higher classes keep to what they asked lately.
//! - Not kept: when higher classes ask for more than before, when the budget shrinks (a 429, a
//!   foreign user), or for a caller that already holds its share of promises.
//! - Unknown ids beyond their part keep promises too, but behind everybody known, from left-over
//!   budget; refreshes are promised nothing.
//! - One slot in eleven is promised to nobody. It takes up what was lost to late comers and leaves
//!   room for callers that ask little.
//!
//! # Limits
//! What a caller is given follows its weight among those that wait or hold promises. In an overload
//! where one caller asks without pause and others seldom and without obeying `Retry-After`, it finds
//! the free moments more often than they do, and gets more than its share: nothing is kept idle for
//! callers that might ask. Such others are safe in a higher class, or by obeying.
//!
//! # Invariants
//! - Every ticket comes out exactly once: refused, started, expired, or left.
//! - No request starts after its deadline.
//! - At most `per_caller` wait for one caller, `in_all` altogether, and 10,000 promises stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use self::ask::Rank;
pub use self::ask::{Ask, CallerId, Class, Pace, Reason, Refusal, Settings, Subject};
use self::fair::{Entry, Lane};
use self::forecast::Rate;
use self::promises::Promises;
use self::tier::Tier;
use self::unknown::Quotas;

mod ask;
mod fair;
mod forecast;
mod promises;
mod tier;
mod unknown;

/// Use of the window above which classes are served strictly in order.
const STRICT_ABOVE: f64 = 0.5;

/// Most requests that [`Queue::expired`] takes out: whoever comes calls, and is to be refused in less
/// than a millisecond though hundreds expire at once.
const MOST_EXPIRED: usize = 32;

/// Names a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// The requests that wait for the budget of one key.
#[derive(Debug)]
pub struct Queue<T> {
    settings: Settings,
    waiting: BTreeMap<u64, Waiting<T>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Out of their lanes because their deadline has passed, to be handed out by `expired`.
    overdue: BTreeSet<u64>,
    per_caller: BTreeMap<CallerId, usize>,
    known: Tier,
    unknown: Tier,
    refresh: Lane,
    /// By [`Rank`]; refreshes are promised nothing.
    promises: [Promises; 6],
    /// Units started lately, by [`Rank`].
    rates: [Rate; 6],
    quotas: Quotas,
    next_id: u64,
    refusals: u64,
}

/// A request that starts, and what was noted of it: to be given back if it does not after all.
#[derive(Debug, PartialEq)]
pub struct Start {
    /// What was asked.
    pub ask: Ask,
    rank: Rank,
    reserved: bool,
    at: Instant,
    /// What its caller's tag grew by.
    charged: u64,
    /// Starts of other classes since batch's last one, before it.
    since_batch: u32,
}

#[derive(Debug)]
struct Waiting<T> {
    ask: Ask,
    rank: Rank,
    /// Unknown, but within its caller's part.
    reserved: bool,
    ticket: T,
}

impl<T> Queue<T> {
    /// A queue in which nobody waits.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            overdue: BTreeSet::new(),
            per_caller: BTreeMap::new(),
            known: Tier::default(),
            unknown: Tier::default(),
            refresh: Lane::default(),
            promises: std::array::from_fn(|_| Promises::default()),
            rates: std::array::from_fn(|_| Rate::default()),
            quotas: Quotas::new(settings.window),
            next_id: 0,
            refusals: 0,
        }
    }

    /// Takes a request in and foretells its start, or refuses it at once.
    ///
    /// # Errors
    /// The ticket comes back with a refusal if the request cannot start by its deadline or if as
    /// many wait as may.
    pub fn offer(
        &mut self,
        ask: Ask,
        ticket: T,
        pace: &impl Pace,
        now: Instant,
    ) -> Result<(Place, Instant), (T, Refusal)> {
        let ask = ask.within_bounds();
        self.sweep(now);
        self.quotas.asked(ask.caller, ask.weight, now);
        let home = Rank::of(ask.class, ask.known);
        let own = self.promises.get_mut(home.0);
        let redeems = own.is_some_and(|promises| promises.redeem(ask.caller, ask.subject, now));
        let reason = match self.admit(ask, redeems, pace, now) {
            Ok((rank, start)) => return Ok((self.enter(ask, rank, redeems, ticket), start)),
            Err(reason) => reason,
        };
        let retry_after = self.promise(ask, home, redeems, pace, now);
        Err((
            ticket,
            Refusal {
                reason,
                retry_after,
                caller: ask.caller,
                class: ask.class,
            },
        ))
    }

    /// Refuses a request that waited in vain for another one's turn, and foretells its own.
    pub fn refuse(&mut self, ask: Ask, pace: &impl Pace, now: Instant) -> Refusal {
        let ask = ask.within_bounds();
        self.sweep(now);
        let home = Rank::of(ask.class, ask.known);
        Refusal {
            reason: Self::too_late(home),
            retry_after: self.promise(ask, home, false, pace, now),
            caller: ask.caller,
            class: ask.class,
        }
    }

    /// The request that starts now, if the pace allows one; its cost is then to be spent.
    pub fn next(&mut self, pace: &impl Pace, now: Instant) -> Option<(Start, T)> {
        self.sweep(now);
        if pace.opening(0, now) > now {
            return None;
        }
        let strict = pace.used(now) > STRICT_ABOVE;
        let since_batch = [&self.known, &self.unknown].map(Tier::since_batch);
        let (entry, charged) = match self.known.pop(strict) {
            Some(popped) => popped,
            None => self.pop_background(strict, pace, now)?,
        };
        let waiting = self.forget(entry.id)?;
        self.vacate(entry.caller);
        if waiting.reserved {
            self.quotas.start(entry.caller, entry.cost, now);
        }
        if let Some(rate) = self.rates.get_mut(waiting.rank.0) {
            rate.add(entry.cost, now);
        }
        let start = Start {
            ask: waiting.ask,
            rank: waiting.rank,
            reserved: waiting.reserved,
            at: now,
            charged,
            since_batch: since_batch[usize::from(!waiting.rank.is_known())],
        };
        Some((start, waiting.ticket))
    }

    /// Takes back a start of which nothing came: its caller, its class and those who are foretold their
    /// starts are where they would be without it.
    pub fn give_back(&mut self, start: &Start, now: Instant) {
        let Ask { caller, cost, .. } = start.ask;
        if start.reserved {
            self.quotas.give_back(caller, cost, start.at);
        }
        if let Some(rate) = self.rates.get_mut(start.rank.0) {
            rate.give_back(cost, start.at, now);
        }
        match start.rank.0 {
            class @ 0..=2 => self.known.give_back(class, start.since_batch),
            class @ 3..=5 => self.unknown.give_back(class - 3, start.since_batch),
            _ => {}
        }
        self.lane_mut(start.rank).give_back(caller, start.charged);
    }

    /// The moment after which the first of those who wait has waited in vain.
    pub fn expires_at(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Takes out requests whose deadline has passed, or will before anything can start, each with a new
    /// prediction. Of more than a few
    /// dozen the rest comes with the next calls; until then [`Queue::wake_at`] says at once.
    pub fn expired(&mut self, pace: &impl Pace, now: Instant) -> Vec<(T, Refusal)> {
        self.sweep(now);
        self.sweep_lines(pace.shut_until(now));
        let mut expired = Vec::new();
        while expired.len() < MOST_EXPIRED
            && let Some(id) = self.overdue.pop_first()
        {
            let Some(waiting) = self.forget(id) else {
                continue;
            };
            let ask = waiting.ask;
            self.release(&waiting);
            let home = Rank::of(ask.class, ask.known);
            let refusal = Refusal {
                reason: Self::too_late(waiting.rank),
                retry_after: self.promise(ask, home, false, pace, now),
                caller: ask.caller,
                class: ask.class,
            };
            expired.push((waiting.ticket, refusal));
        }
        expired
    }

    /// Forgets a request whose caller has left; `None` if it has come out already.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let Place(id) = place;
        let waiting = self.forget(id)?;
        if !self.overdue.remove(&id) {
            self.lane_mut(waiting.rank).remove(waiting.ask.caller, id);
            self.vacate(waiting.ask.caller);
        }
        self.release(&waiting);
        Some(waiting.ticket)
    }

    /// Takes out all that wait.
    pub fn clear(&mut self) -> Vec<T> {
        let places: Vec<_> = self.waiting.keys().copied().map(Place).collect();
        let tickets = places.into_iter().map(|place| self.leave(place));
        tickets.flatten().collect()
    }

    /// When to look again: at the next opening or just after the next deadline; `None` if nothing
    /// waits.
    pub fn wake_at(&self, pace: &impl Pace, now: Instant) -> Option<Instant> {
        if !self.overdue.is_empty() {
            return Some(now);
        }
        let &(deadline, _) = self.deadlines.first()?;
        let opening = pace.opening(0, now);
        let start = if self.known.is_empty() && !self.has_background_turn(pace, now) {
            // Nothing says when budget will be left over; one interval is soon enough.
            opening.max(now + self.settings.window / pace.limit().max(1))
        } else {
            opening
        };
        // A request may still start at its deadline, so it expires the moment after.
        Some(start.min(deadline + Duration::from_nanos(1)).max(now))
    }

    /// How many wait, without those that are overdue.
    pub fn len(&self) -> usize {
        self.waiting.len() - self.overdue.len()
    }

    /// Whether nobody waits, nor is to be told that its time is over.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many of one class wait.
    pub fn waiting(&self, class: Class) -> usize {
        let of_class = |waiting: &&Waiting<T>| waiting.ask.class == class;
        self.waiting.values().filter(of_class).count()
    }

    /// Finds the place of a request and its start, or why it has none.
    fn admit(
        &mut self,
        ask: Ask,
        redeems: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> Result<(Rank, Instant), Reason> {
        if self.len() >= self.settings.in_all {
            return Err(Reason::QueueFull);
        }
        let own = self.per_caller.get(&ask.caller).copied().unwrap_or(0);
        if own >= self.settings.per_caller {
            return Err(Reason::CallerFull);
        }
        let home = Rank::of(ask.class, ask.known);
        let (limit, among_known) = (pace.limit(), Rank::of(ask.class, true));
        if home != among_known
            && self.quotas.allows(ask.caller, ask.cost, limit, now)
            && let Some(start) = self.foretell(ask, among_known, redeems, pace, now)
        {
            return Ok((among_known, start));
        }
        let start = self.foretell(ask, home, redeems, pace, now);
        start.map(|start| (home, start)).ok_or(Self::too_late(home))
    }

    fn too_late(rank: Rank) -> Reason {
        match rank {
            Rank::REFRESH => Reason::Background,
            rank if rank.is_known() => Reason::Deadline,
            _ => Reason::UnknownIds,
        }
    }

    fn enter(&mut self, ask: Ask, rank: Rank, redeems: bool, ticket: T) -> Place {
        let id = self.next_id;
        self.next_id += 1;
        let entry = Entry {
            id,
            caller: ask.caller,
            cost: ask.cost,
            weight: ask.weight,
        };
        self.lane_mut(rank).push(entry, redeems);
        let reserved = rank.is_known() && !ask.known;
        if reserved {
            self.quotas.reserve(ask.caller, ask.cost);
        }
        self.deadlines.insert((ask.deadline, id));
        *self.per_caller.entry(ask.caller).or_default() += 1;
        let waiting = Waiting {
            ask,
            rank,
            reserved,
            ticket,
        };
        self.waiting.insert(id, waiting);
        Place(id)
    }

    fn pop_background(
        &mut self,
        strict: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> Option<(Entry, u64)> {
        if !self.has_background_turn(pace, now) {
            return None;
        }
        self.unknown.pop(strict).or_else(|| self.refresh.pop())
    }

    /// Takes those past their deadline out of their lanes, and forgets promises past theirs.
    fn sweep(&mut self, now: Instant) {
        self.sweep_lines(now);
        for promises in &mut self.promises {
            promises.lapse(now);
        }
    }

    fn sweep_lines(&mut self, until: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline < until
        {
            self.deadlines.pop_first();
            if let Some(waiting) = self.waiting.get(&id) {
                let (rank, caller) = (waiting.rank, waiting.ask.caller);
                self.lane_mut(rank).remove(caller, id);
                self.vacate(caller);
                self.overdue.insert(id);
            }
        }
    }

    /// Takes a request out of everything but its lane.
    fn forget(&mut self, id: u64) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(&id)?;
        self.deadlines.remove(&(waiting.ask.deadline, id));
        Some(waiting)
    }

    /// One place of the caller's is free: a request that is overdue takes up none.
    fn vacate(&mut self, caller: CallerId) {
        if let Some(own) = self.per_caller.get_mut(&caller) {
            *own -= 1;
            if *own == 0 {
                self.per_caller.remove(&caller);
            }
        }
    }

    fn release(&mut self, waiting: &Waiting<T>) {
        if waiting.reserved {
            let Ask { caller, cost, .. } = waiting.ask;
            self.quotas.release(caller, cost);
        }
    }

    fn lane_mut(&mut self, rank: Rank) -> &mut Lane {
        match rank.0 {
            class @ 0..=2 => self.known.lane_mut(class),
            class @ 3..=5 => self.unknown.lane_mut(class - 3),
            _ => &mut self.refresh,
        }
    }
}

#[cfg(test)]
mod measures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
