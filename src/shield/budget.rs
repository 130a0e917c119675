//! The budget of one key: how many requests may go to Flameup, and when.
//!
//! Pure: no sockets and no clock; every call is told the time.
//!
//! # Why it never draws a 429 alone
//! Flameup does not say whether its window is fixed, sliding or a bucket. The `log` is safe for all
//! three. Only where answers prove a kind beyond doubt (`window`) does a tighter rule take its
//! place: the count per window (`fixed`) or what is owed to a bucket (`bucket`). A contradiction
//! or a 429 leads back to the log, which is kept all the time.
//!
//! The rules hold a request back because of what was spent; the `pace` spreads what may be spent.
//! It is what a request usually waits for.
//!
//! # When it is not alone
//! Someone else's use of the key shows in `Remaining` (`foreign`). It is kept free, with a margin,
//! and `Remaining` bounds what is under way. After a 429, and where nothing remains, a single
//! request goes first and the others wait for its answer.
//!
//! # Units
//! A unit is what one request costs. A retry may cost more.

mod bucket;
mod fixed;
mod foreign;
mod learn;
pub mod lease;
mod limit;
mod log;
mod pace;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod simulation;
mod skew;
#[cfg(test)]
mod tests;
mod window;

use std::time::{Duration, Instant, SystemTime};

use self::bucket::Debt;
use self::fixed::FixedWindow;
use self::foreign::{Foreign, whole};
use self::lease::Lease;
use self::limit::Limit;
use self::log::{Entry, Log};
use self::pace::{BURST, Pace};
use self::skew::Clocks;
use self::window::{Evidence, Sample};
use super::queue;
use super::signals::{MOST_REQUESTS, Signals};

/// Share of the limit that is spent where the kind of window is not proven to allow more.
const SAFETY: f64 = 0.95;

/// Windows outside this range are taken as its ends: moments come in whole seconds, and nothing
/// good comes of waiting longer than a day.
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_hours(24);

/// A fixed window that was left unspent is spent at most so many times as fast as usual.
const HASTE: u32 = 10;

/// What waits for an answer looks again at least so much later.
const GLANCE: Duration = Duration::from_millis(1);

/// What is known of the limit before Flameup says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests a window.
    pub requests: u32,
    /// Length of the window, which Flameup never states.
    pub window: Duration,
    /// The longest that a request may be under way.
    pub timeout: Duration,
}

/// How the window moves, as far as it is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is proven yet, or what was proven was contradicted.
    #[default]
    Unknown,
    /// Windows follow each other; the whole limit returns at each boundary.
    Fixed,
    /// Each request returns one window after it was made.
    Sliding,
    /// A token bucket as large as the limit, refilled over the window.
    Bucket,
}

/// A budget as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Requests a window.
    pub limit: u32,
    /// Units not spent, by us or anyone.
    pub remaining: u32,
    /// Until the window ends, or we may ask again; `None` if unknown.
    pub reset_in: Option<Duration>,
    /// Flameup's clock less ours, in seconds.
    pub skew_s: i64,
    /// How the window moves.
    pub kind: Kind,
    /// Units a window that somebody else spends.
    pub foreign_per_window: f64,
}

/// Units spent on a request under way; to be closed by [`Budget::settle`], or by
/// [`Budget::give_back`] if it was never sent.
///
/// If it is dropped, the units count as under way until it is [given up](give_up_after), then for one
/// window as answered.
#[derive(Debug)]
#[must_use = "a spend is closed by Budget::settle or Budget::give_back"]
pub struct Spent {
    entry: Entry,
    /// How far it brought us ahead of the pace.
    ahead: f64,
    /// Units that it took of those in hand.
    leased: u32,
    key: u64,
}

/// The budget of one key.
#[derive(Debug)]
pub struct Budget {
    window: Duration,
    limit: u32,
    stated: Limit,
    log: Log,
    pace: Pace,
    clocks: Clocks,
    evidence: Evidence,
    fixed: FixedWindow,
    debt: Debt,
    foreign: Foreign,
    /// Usual time to an answer.
    delay: Duration,
    /// Nothing starts before: a 429 said so.
    held_until: Option<Instant>,
    /// Since when one request at a time goes first.
    careful_since: Option<Instant>,
    last: Option<Sample>,
    /// How often another key came into use: what was sent with one before tells nothing of this one.
    key: u64,
    /// What is ours of it, where several gateways share it.
    lease: Option<Lease>,
}

/// When a request of which nothing was heard is taken for lost: whatever was sent has ended by then,
/// and a window has passed since, so that Flameup counts it no more.
pub fn give_up_after(window: Duration, timeout: Duration) -> Duration {
    let alive = timeout.clamp(window.saturating_mul(2), LONGEST_WINDOW * 2);
    alive.saturating_add(window)
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let window = settings.window.clamp(SHORTEST_WINDOW, LONGEST_WINDOW);
        let limit = settings.requests.clamp(1, MOST_REQUESTS);
        Self {
            window,
            limit,
            stated: Limit::new(limit),
            log: Log::new(window, give_up_after(window, settings.timeout)),
            pace: Pace::new(limit, now),
            clocks: Clocks::new(now),
            evidence: Evidence::new(window),
            fixed: FixedWindow::new(window),
            debt: Debt::new(window, now),
            foreign: Foreign::new(window, now),
            delay: Duration::ZERO,
            held_until: None,
            careful_since: None,
            last: None,
            key: 0,
            lease: None,
        }
    }

    /// The earliest moment at which a request of one unit may start if `ahead` units are spent before
    /// it; `now` if at once. Later ones are predictions: they hold if nothing unforeseen happens.
    pub fn opening(&self, ahead: u32, now: Instant) -> Instant {
        let now_or_held = self.held_until.map_or(now, |until| until.max(now));
        if let Some(lease) = &self.lease {
            return self.shared_opening(lease, ahead, now).max(now_or_held);
        }
        let opening = match self.evidence.kind() {
            Kind::Fixed => {
                // No stretch as long as a window touches more than two of them: a last guard against
                // answers that lie.
                let twice = self.limit.saturating_mul(2);
                let logged = self.log.opening(ahead, twice, self.delay, now_or_held);
                self.fixed_opening(ahead, now_or_held).max(logged)
            }
            Kind::Bucket => {
                let limit = self.limit;
                let owed = self
                    .debt
                    .opening(ahead, self.log.under_way(now), limit, now_or_held);
                self.paced(ahead, now_or_held).max(owed)
            }
            Kind::Unknown | Kind::Sliding => {
                let share = self.own_share(now);
                let logged = self.log.opening(ahead, share, self.delay, now_or_held);
                self.paced(ahead, now_or_held).max(logged)
            }
        };
        if self.waits_for_answer(now) {
            return opening.max(now + self.delay.max(GLANCE));
        }
        opening
    }

    /// Spends `cost` units, if one may be spent now: one request is sent; what it costs beyond that is
    /// a price, which delays those after it. More than the burst of ten never is.
    pub fn spend(&mut self, cost: u32, now: Instant) -> Option<Spent> {
        let cost = cost.max(1);
        if cost > BURST || self.opening(0, now) > now {
            return None;
        }
        let interval = self.interval(now);
        // The purse has its own pace.
        let ahead = match self.mode() {
            Some(lease::Mode::Leased) => 0.0,
            _ => self.pace.spend(cost, interval, now),
        };
        let lease = self.lease.as_mut();
        let leased = lease.map_or(0, |lease| lease.take(cost, now));
        let entry = self.log.start(cost, now);
        let key = self.key;
        Some(Spent {
            entry,
            ahead,
            leased,
            key,
        })
    }

    /// Takes back a spend of which nothing was sent, to be spent again. Only for what provably never
    /// left: Flameup counts what it receives, whether an answer comes or not.
    pub fn give_back(&mut self, spent: Spent, now: Instant) {
        let Spent {
            entry,
            ahead,
            leased,
            ..
        } = spent;
        if self.log.withdraw(&entry, now) {
            if let Some(lease) = &mut self.lease {
                lease.put_back(leased);
            }
            let interval = self.interval(now);
            self.pace
                .give_back(entry.cost, ahead, entry.at, now, interval);
        }
    }

    /// Closes a spend with what came back; `None` if nothing did, though it may have been counted.
    /// Returns how long nothing is to be sent after a 429.
    pub fn settle(
        &mut self,
        spent: Spent,
        answer: Option<&Signals>,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Duration> {
        let Spent { entry, key, .. } = spent;
        if self.log.settle(&entry, now) {
            self.debt.settle(entry.cost, self.limit, now);
        }
        let answer = answer.filter(|_| key == self.key);
        let sample = answer.and_then(|signals| self.hear(signals, &entry, now, wall));
        match sample {
            Some(sample) => self.learn(&sample, answer.is_some_and(|signals| signals.is_429)),
            None => self.fixed.lose(entry.cost, now),
        }
        if answer.is_some_and(|signals| !signals.is_429) && sample.is_none() {
            // It passed, though it does not say what remains: a probe has no more to tell.
            self.careful_since = None;
        }
        let held = answer.filter(|signals| signals.is_429).and(self.held_until);
        held.map(|until| until.saturating_duration_since(now))
    }

    /// Another key is in use. What answers told of the one before is forgotten, a 429 among it, so that
    /// this one is tried at once; what we sent is not.
    pub fn take_new_key(&mut self, now: Instant) {
        self.key += 1;
        self.held_until = None;
        self.careful_since = None;
        self.last = None;
        self.evidence.forget();
        self.fixed = FixedWindow::new(self.window);
        self.foreign = Foreign::new(self.window, now);
    }

    /// Share of the limit that is used by us and others, from 0 to 1: of the window, or of the time
    /// behind us that is as long. A fixed window that has just begun does not say how busy we are.
    pub fn used(&self, now: Instant) -> f64 {
        if self.held_until.is_some_and(|until| now < until) {
            return 1.0;
        }
        if let Some(lease) = &self.lease {
            let free = self.shared_free(lease, now).min(self.limit);
            return 1.0 - f64::from(free) / f64::from(self.limit);
        }
        let in_window = self.limit.saturating_sub(self.remaining(now));
        let used = in_window.max(self.log.counting(now)).min(self.limit);
        f64::from(used) / f64::from(self.limit)
    }

    /// Units that may still be spent in the window beyond `reserve`, a share of what is ours.
    ///
    /// Of a fixed window, the reserve shrinks with the time that is left: what nobody has asked for
    /// at its end is lost. Where the pace keeps a margin anyway, that is part of the reserve.
    pub fn leftover(&self, reserve: f64, now: Instant) -> u32 {
        let held = self.held_until.is_some_and(|until| now < until);
        if held || self.careful_since.is_some() {
            return 0;
        }
        if let Some(lease) = &self.lease {
            // The purse's pace keeps a margin anyway.
            let reserve = (reserve.clamp(0.0, 1.0) - (1.0 - SAFETY)).max(0.0);
            let kept = whole(f64::from(self.limit) * reserve);
            return self.shared_free(lease, now).saturating_sub(kept);
        }
        let (own, reserve) = (self.own_share(now), reserve.clamp(0.0, 1.0));
        let (free, share) = match self.evidence.kind() {
            Kind::Fixed => {
                let ending = self.fixed.ending(now);
                let left = ending.map_or(self.window, |(earliest, _)| {
                    earliest.saturating_duration_since(now)
                });
                let part = left.div_duration_f64(self.window).min(1.0);
                (self.fixed_left(now), reserve * part)
            }
            Kind::Bucket => {
                let owed = whole(self.debt.owed(self.limit, now));
                let taken = owed.saturating_add(self.log.under_way(now));
                (own.saturating_sub(taken), reserve)
            }
            Kind::Unknown | Kind::Sliding => {
                let free = own.saturating_sub(self.log.counting(now));
                (free, (reserve - (1.0 - SAFETY)).max(0.0))
            }
        };
        free.saturating_sub(whole(f64::from(own) * share))
    }

    /// The budget as it stands, for operators.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let ending = self.last.map(|sample| sample.ending.latest);
        let until = self.held_until.filter(|&until| now < until).or(ending);
        Snapshot {
            limit: self.limit,
            remaining: self.remaining(now),
            reset_in: until.and_then(|until| until.checked_duration_since(now)),
            skew_s: self.clocks.skew_s(),
            kind: self.evidence.kind(),
            foreign_per_window: self.foreign.per_window(now),
        }
    }

    fn remaining(&self, now: Instant) -> u32 {
        if let Some(lease) = &self.lease {
            return self.shared_free(lease, now);
        }
        if self.evidence.kind() == Kind::Fixed {
            return self.fixed.left(self.limit, self.log.under_way(now), now);
        }
        let foreign = whole(self.foreign.per_window(now));
        let used = self.log.counting(now).saturating_add(foreign);
        self.limit.saturating_sub(used)
    }
}

impl queue::Pace for Budget {
    fn opening(&self, ahead: u32, now: Instant) -> Instant {
        Self::opening(self, ahead, now)
    }

    fn used(&self, now: Instant) -> f64 {
        Self::used(self, now)
    }

    fn leftover(&self, reserve: f64, now: Instant) -> u32 {
        Self::leftover(self, reserve, now)
    }

    fn limit(&self) -> u32 {
        self.limit
    }

    fn shut_until(&self, now: Instant) -> Instant {
        self.held_until.map_or(now, |until| until.max(now))
    }
}

/// When something may be spent.
impl Budget {
    /// What is ours of the limit.
    fn own_share(&self, now: Instant) -> u32 {
        let reserve = self.foreign.reserve(self.window, now);
        self.limit.saturating_sub(reserve).max(1)
    }

    /// Units of a proven fixed window that are ours to spend.
    fn fixed_left(&self, now: Instant) -> u32 {
        let left = self.fixed.left(self.limit, self.log.under_way(now), now);
        let ending = self.fixed.ending(now);
        let stretch = ending.map_or(self.window, |(_, latest)| latest - now);
        left.saturating_sub(self.foreign.reserve(stretch, now))
    }

    fn interval(&self, now: Instant) -> Duration {
        if let Some(lease) = &self.lease {
            return self.window / self.share_alone(lease);
        }
        let even = self.window / self.own_share(now);
        match self.evidence.kind() {
            Kind::Unknown | Kind::Sliding => even.div_f64(SAFETY),
            Kind::Bucket => even,
            Kind::Fixed => self.spread(now).unwrap_or(even),
        }
    }

    /// The interval at which a fixed window is spent to its end, answers included.
    fn spread(&self, now: Instant) -> Option<Duration> {
        let (earliest, _) = self.fixed.ending(now)?;
        let time = earliest.saturating_duration_since(now);
        let left = self.fixed_left(now);
        let even = self.window / self.limit;
        (left > 0).then(|| (time.saturating_sub(self.delay) / left).max(even / HASTE))
    }

    fn paced(&self, ahead: u32, now: Instant) -> Instant {
        self.pace.opening(ahead, self.interval(now), now)
    }

    fn fixed_opening(&self, ahead: u32, now: Instant) -> Instant {
        let left = self.fixed_left(now);
        if ahead < left {
            return self.paced(ahead, now);
        }
        // The rest waits for the next window; where none is in sight, for what is under way. What was
        // lost weighs on that window too, until so much of it is recovered that there is room.
        let opens = self
            .fixed
            .ending(now)
            .map_or_else(|| now + self.delay.max(GLANCE), |(_, latest)| latest);
        let own = self.own_share(now);
        let room = own.saturating_sub((ahead - left).saturating_add(1));
        let opens = self.fixed.recovers(room, opens);
        self.pace.opening(ahead - left, self.window / own, opens)
    }

    /// Whether nothing may start before an answer comes in.
    fn waits_for_answer(&self, now: Instant) -> bool {
        let under_way = self.log.under_way(now);
        if self.careful_since.is_some() {
            return under_way > 0;
        }
        let alone = self.foreign.per_window(now) <= 0.0 || self.evidence.kind() == Kind::Fixed;
        let remaining = self.last.map_or(self.limit, |sample| sample.remaining);
        !alone && under_way >= remaining.saturating_sub(1).max(1)
    }
}
