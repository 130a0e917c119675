//! When a request will start, and what a refused one is told.
//!
//! Everything is counted in units that are spent before the request; the pace turns them into a
//! moment. Three things are added to those that wait before it:
//! - Promises. Those due until the request would start are units before it; as each of them moves
//!   the start further, the count is repeated until it no longer grows.
//! - Overtaking. While order is strict, higher classes take what they took lately, for as long as
//!   the request waits: a slot that opens at once is lost to nobody. As that moves the start too, it
//!   is part of the same count. What they were promised is part of what they take; the greater of
//!   both counts. Who would be too late if overtaken somewhat more than that is not let in,
//!   unless it comes as it was told.
//! - For a refused caller, who comes back much later, each slot is lost with the share `r` of the
//!   pace that they took, so that `n` units become `(n + 1) / (1 - r) - 1`.
//! - The reserve, for what starts only from left-over budget and finds none.
//!
//! Batch is never foretold later than its one start in twenty brings it.

use std::time::{Duration, Instant};

use super::fair::Lane;
use super::promises::Promises;
use super::tier::BATCH;
use super::{Ask, Pace, Queue, Rank, STRICT_ABOVE};

/// Furthest moment a refused caller is told.
const FURTHEST: Duration = Duration::from_hours(1);

/// Most promises remembered.
const MOST_PROMISES: usize = 10_000;

/// Promises that each caller may hold however short the line is.
const FREE_PROMISES: u64 = 25;

/// Slots per promise: one in eleven is promised to nobody.
const SLOTS_PER_PROMISE: f64 = 1.1;

/// Most jitter added to what is told; the grace of a promise covers it.
const MOST_JITTER: Duration = Duration::from_secs(1);

/// Least share of the pace that a class is foretold, whatever the higher ones took.
const LEAST_SHARE: f64 = 0.05;

/// How long callers that come back as told may have to wait because newcomers were let in: half of
/// the patience a lookup has by default.
const LONGEST_DELAY: Duration = Duration::from_secs(1);

/// Promises due within this time are not spent on background work.
const SOON: Duration = Duration::from_secs(2);

/// Steps in which a window of promises is looked at.
const STEPS: u32 = 60;

/// Most times the promises due before a request are counted again; a request that needs more has a
/// line before it that no sensible deadline outlives.
const MOST_COUNTS: u32 = 200;

/// Time over which the rate of starts is averaged: long enough for twenty starts at two a second.
const AVERAGED_OVER: Duration = Duration::from_secs(10);

/// Units per second, with the weight of each start fading over [`AVERAGED_OVER`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    per_second: f64,
    at: Option<Instant>,
}

impl Rate {
    pub(super) fn add(&mut self, units: u32, now: Instant) {
        self.per_second = self.read(now) + f64::from(units) / AVERAGED_OVER.as_secs_f64();
        self.at = Some(now);
    }

    /// Takes back what was added at `at`, as far as it has not faded.
    pub(super) fn give_back(&mut self, units: u32, at: Instant, now: Instant) {
        let added = Self {
            per_second: f64::from(units) / AVERAGED_OVER.as_secs_f64(),
            at: Some(at),
        };
        self.per_second = (self.read(now) - added.read(now)).max(0.0);
        self.at = Some(now);
    }

    fn read(&self, now: Instant) -> f64 {
        let elapsed = self.at.map(|at| now.saturating_duration_since(at));
        let faded = elapsed.unwrap_or_default().div_duration_f64(AVERAGED_OVER);
        self.per_second * (-faded).exp()
    }
}

impl<T> Queue<T> {
    /// Foretells the start of a request; `None` if that is after its deadline.
    pub(super) fn foretell(
        &self,
        ask: Ask,
        rank: Rank,
        redeems: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> Option<Instant> {
        if rank.is_known() && self.would_lose_a_slot(pace, now) {
            return (now <= ask.deadline).then_some(now);
        }
        let strict = pace.used(now) > STRICT_ABOVE;
        let own = self.own_units_before(ask, rank, redeems);
        let waiting = self.units_before(rank, own, strict);
        let taken = self.taken_before(rank, strict, now);
        let before = if redeems { rank.0 } else { rank.0 + 1 };
        let mut to_come = 0;
        for _ in 0..MOST_COUNTS {
            let units = self.bounded(waiting.saturating_add(to_come), rank, own);
            let start = self.opening(units, rank, pace, now);
            if start > ask.deadline {
                return None;
            }
            let due = self.promised(before, |promises| promises.expected_by(start, now));
            let overtaking = taken * (start - now).as_secs_f64();
            let more = due.max(whole(overtaking));
            if more <= to_come {
                let late = units.saturating_add(spread(overtaking));
                let fits = redeems
                    || self.opening(late, rank, pace, now) <= ask.deadline
                        && self.leaves_room(ask, rank, waiting, pace, now);
                return fits.then_some(start);
            }
            to_come = more;
        }
        None
    }

    /// Whether one unit may be spent now, not more, and nobody waits: budget that cannot be saved up.
    ///
    /// Whoever comes takes it, promises or not. A caller to whom it was promised starts one slot
    /// later, once and not once per promise, for then somebody waits.
    fn would_lose_a_slot(&self, pace: &impl Pace, now: Instant) -> bool {
        self.is_empty() && pace.opening(0, now) <= now && pace.opening(1, now) > now
    }

    /// Whether callers with promises could still start soon after they come back if a newcomer
    /// went before them, and what waits before it.
    ///
    /// Looked at in steps over one window. Further away the line of promises, which leaves one
    /// slot in eleven free, has made up for a newcomer many times over.
    fn leaves_room(
        &self,
        ask: Ask,
        rank: Rank,
        waiting: u32,
        pace: &impl Pace,
        now: Instant,
    ) -> bool {
        let mut before = self.promises.iter().take(rank.0 + 1);
        if before.all(Promises::is_empty) {
            return true;
        }
        let taken = waiting + ask.cost;
        let delay = self.tolerable_delay(ask, rank);
        let step = self.settings.window / STEPS;
        (0..=STEPS).all(|nth| {
            let moment = now + step * nth;
            let expected = |promises: &Promises| promises.expected_by(moment, now);
            let due = self.promised(rank.0 + 1, expected);
            due == 0 || pace.opening(taken + due - 1, now) <= moment + delay
        })
    }

    /// How long a newcomer may make those with promises wait: half as long if it has had its turn,
    /// so that those who ask little find room that those who ask without pause leave.
    fn tolerable_delay(&self, ask: Ask, rank: Rank) -> Duration {
        let promises = self.promises.get(rank.0);
        let alone = promises.is_none_or(|all| all.len() == all.held_by(ask.caller));
        if !alone && self.lane(rank).is_ahead(ask.caller) {
            LONGEST_DELAY / 2
        } else {
            LONGEST_DELAY
        }
    }

    /// Tells a refused caller when to come back, and remembers it if there is room for that.
    pub(super) fn promise(
        &mut self,
        ask: Ask,
        home: Rank,
        redeems: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> Duration {
        let slot = self.free_slot(ask, home, redeems, pace, now);
        let slot = slot.min(now + FURTHEST);
        let within = ask.told && slot < now + FURTHEST && self.may_promise(ask, home);
        self.refusals += 1;
        let wait = told(slot.saturating_duration_since(now), self.refusals);
        if within && let Some(promises) = self.promises.get_mut(home.0) {
            promises.make(ask.caller, ask.subject, now + wait);
        }
        wait
    }

    /// Whether left-over budget may be spent now: something is left that nobody was promised.
    pub(super) fn has_background_turn(&self, pace: &impl Pace, now: Instant) -> bool {
        let due = self.promised(3, |promises| promises.expected_by(now + SOON, now));
        pace.leftover(self.settings.reserve, now) > due
    }

    fn lane(&self, rank: Rank) -> &Lane {
        match rank.0 {
            class @ 0..=2 => self.known.lane(class),
            class @ 3..=5 => self.unknown.lane(class - 3),
            _ => &self.refresh,
        }
    }

    fn own_units_before(&self, ask: Ask, rank: Rank, redeems: bool) -> u32 {
        let lane = self.lane(rank);
        lane.units_before(ask.caller, ask.weight, redeems)
    }

    fn units_before(&self, rank: Rank, own: u32, strict: bool) -> u32 {
        match rank.0 {
            class @ 0..=2 => self.known.units_before(class, own, strict),
            class @ 3..=5 => self.known.units() + self.unknown.units_before(class - 3, own, strict),
            _ => self.known.units() + self.unknown.units() + own,
        }
    }

    /// The units before a free slot, with those of higher classes that are still to come.
    fn overtaken(
        &self,
        waiting: u32,
        rank: Rank,
        strict: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> u32 {
        if !strict && rank.is_known() {
            return waiting;
        }
        let taken = self.taken_before(rank, strict, now);
        let all = f64::from(pace.limit().max(1)) / self.settings.window.as_secs_f64();
        let left = (1.0 - taken / all).max(LEAST_SHARE);
        whole((f64::from(waiting) + 1.0) / left - 1.0)
    }

    /// Units a second that higher ranks took lately; none count while order is not strict.
    fn taken_before(&self, rank: Rank, strict: bool, now: Instant) -> f64 {
        if !strict && rank.is_known() {
            return 0.0;
        }
        let higher = self.rates.iter().take(rank.0);
        higher.map(|rate| rate.read(now)).sum()
    }

    /// Batch's one start in twenty bounds what goes before it.
    fn bounded(&self, units: u32, rank: Rank, own: u32) -> u32 {
        match rank.0 {
            BATCH => units.min(self.known.units_before_batch(own)),
            _ => units,
        }
    }

    /// When a request starts with so many units before it. What starts from left-over budget, and
    /// would find none, waits until the reserve is there: its share of the window, at most.
    fn opening(&self, units: u32, rank: Rank, pace: &impl Pace, now: Instant) -> Instant {
        let reserve = self.settings.reserve;
        let opening = pace.opening(units, now);
        if rank.is_known() || units < pace.leftover(reserve, now) {
            return opening;
        }
        let reserved = whole(f64::from(pace.limit()) * reserve);
        let there = opening + self.settings.window.mul_f64(reserve.clamp(0.0, 1.0));
        pace.opening(units.saturating_add(reserved), now).min(there)
    }

    /// Callers expected back in the first `ranks` ranks, in whole units.
    fn promised(&self, ranks: usize, expected: impl Fn(&Promises) -> f64) -> u32 {
        whole(self.promises.iter().take(ranks).map(expected).sum())
    }

    /// The first slot that is neither waited for nor promised.
    fn free_slot(
        &self,
        ask: Ask,
        home: Rank,
        redeems: bool,
        pace: &impl Pace,
        now: Instant,
    ) -> Instant {
        let strict = pace.used(now) > STRICT_ABOVE;
        let own = self.own_units_before(ask, home, redeems);
        let waiting = self.units_before(home, own, strict);
        // One that was promised before and could not be served yet does not go to the end again.
        let before = if redeems { home.0 } else { home.0 + 1 };
        let line = self.promises.iter().take(before);
        let line: f64 = line.map(Promises::expected).sum();
        let units = waiting.saturating_add(whole(line * SLOTS_PER_PROMISE));
        let units = self.overtaken(units, home, strict, pace, now);
        let units = self.bounded(units, home, own + whole(line));
        self.opening(units, home, pace, now)
    }

    /// Whether one more promise may be remembered for this caller.
    ///
    /// As many as may wait for the heaviest caller, fewer for others by weight: in an overload that
    /// lasts, most starts redeem promises, and shares follow how many each caller holds. For the
    /// same reason nobody holds more than about twice its share of the line, or a caller that asks
    /// without pause would own it.
    fn may_promise(&self, ask: Ask, home: Rank) -> bool {
        let Some(promises) = self.promises.get(home.0) else {
            return false;
        };
        let all: usize = self.promises.iter().map(Promises::len).sum();
        let weight = u64::from(ask.weight);
        let heaviest = u64::from(self.quotas.heaviest()).max(weight);
        let by_weight = self.settings.per_caller as u64 * weight / heaviest;
        let line = promises.len() as u64;
        let by_share = 2 * line * weight / self.quotas.weights().max(1) + FREE_PROMISES;
        let most = by_weight.min(by_share).max(1);
        all < MOST_PROMISES && (promises.held_by(ask.caller) as u64) < most
    }
}

/// By how many units more than expected somebody is overtaken usually, by callers who come at
/// random: the standard deviation of a Poisson count.
fn spread(overtaking: f64) -> u32 {
    whole(overtaking.sqrt())
}

/// What a caller is told for a slot: up to a tenth later, so that callers refused together do not
/// come back together, and in whole seconds, as `Retry-After` wants it.
fn told(wait: Duration, nth: u64) -> Duration {
    let jitter = wait.mul_f64(0.1 * fraction(nth)).min(MOST_JITTER);
    let wait = wait + jitter;
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Duration::from_secs(seconds.max(1))
}

/// A number from 0 to 1 that looks random but is the same in each run: multiples of the golden
/// ratio, whose fractions spread evenly.
fn fraction(nth: u64) -> f64 {
    let spread = nth.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    f64::from(u32::try_from(spread).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// The nearest number of whole units.
pub(super) fn whole(units: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range of u32; the fraction is rounded away on purpose"
    )]
    let whole = units.round().clamp(0.0, f64::from(u32::MAX)) as u32;
    whole
}
