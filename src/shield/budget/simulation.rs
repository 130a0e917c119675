//! The budget against the stand-in's limiter, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Budget, Settings, Snapshot, Spent};
use crate::sandbox::limiter::{self, Limiter, Verdict};
use crate::shield::signals::{Reset, Signals};

const SECOND: Duration = Duration::from_secs(1);

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    pub(super) kind: limiter::Kind,
    pub(super) limit: u32,
    pub(super) window: Duration,
    pub(super) skew_s: i64,
    /// Answers take between these, in milliseconds.
    pub(super) delay_ms: (u64, u64),
    /// Requests of which no answer comes back, though they are counted.
    pub(super) lost_percent: u64,
    /// Spends of which nothing is sent, given back some time later.
    pub(super) unsent_percent: u64,
    /// Requests whose price is two.
    pub(super) dear_percent: u64,
    /// The first boundary of a fixed window, before the start.
    pub(super) phase_ms: u64,
    pub(super) foreign_per_window: u32,
    /// Windows in which the foreign consumer is at work.
    pub(super) foreign_windows: (u32, u32),
    pub(super) demand: Demand,
    pub(super) seed: u64,
}

/// What callers ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Demand {
    /// More than there is, always.
    Saturated,
    /// Stretches of nothing, of single requests and of floods.
    Random,
}

/// What came of it, by window since the start.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) own: Vec<u32>,
    pub(super) foreign: Vec<u32>,
    pub(super) refused: Vec<u32>,
    /// Openings that did not hold within a second, and all that were tried.
    pub(super) broken: u32,
    pub(super) predicted: u32,
}

enum Event {
    Count(usize),
    Answer(usize),
    GiveBack(usize),
    Foreign,
    Demand,
    Wake,
}

struct Flight {
    spent: Option<Spent>,
    verdict: Option<Verdict>,
    counted_at: Instant,
}

pub(super) struct Simulation {
    world: World,
    start: Instant,
    now: Instant,
    budget: Budget,
    limiter: Limiter,
    random: u64,
    events: BinaryHeap<Reverse<(Instant, usize)>>,
    payloads: Vec<Option<Event>>,
    flights: Vec<Flight>,
    waiting: u32,
    /// The opening told first since the last start.
    promise: Option<Instant>,
    wake: Option<Instant>,
    outcome: Outcome,
}

impl Simulation {
    pub(super) fn new(world: World) -> Self {
        let start = Instant::now() + SECOND * 1_000_000;
        let settings = Settings {
            requests: world.limit,
            window: world.window,
            timeout: Duration::from_millis(world.delay_ms.1),
        };
        let anchor = start.checked_sub(Duration::from_millis(world.phase_ms));
        let anchor = anchor.expect("the start is late enough");
        let limiter = Limiter::new(world.kind, world.limit, world.window).anchored_at(anchor);
        let mut simulation = Self {
            world,
            start,
            now: start,
            budget: Budget::new(settings, start),
            limiter,
            random: world.seed,
            events: BinaryHeap::new(),
            payloads: Vec::new(),
            flights: Vec::new(),
            waiting: 0,
            promise: None,
            wake: None,
            outcome: Outcome::default(),
        };
        simulation.at(start, Event::Demand);
        if world.foreign_per_window > 0 {
            let first = start + world.window * world.foreign_windows.0;
            simulation.at(first, Event::Foreign);
        }
        simulation
    }

    pub(super) fn run(mut self, windows: u32) -> (Outcome, Snapshot) {
        let end = self.start + self.world.window * windows;
        for counts in [
            &mut self.outcome.own,
            &mut self.outcome.foreign,
            &mut self.outcome.refused,
        ] {
            counts.resize(windows as usize + 1, 0);
        }
        while let Some(Reverse((at, index))) = self.events.pop() {
            if at >= end {
                break;
            }
            self.now = at;
            if let Some(event) = self.payloads[index].take() {
                self.happen(&event);
            }
            self.start_what_may();
        }
        let snapshot = self.budget.snapshot(end);
        (self.outcome, snapshot)
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Count(index) => {
                let verdict = self.limiter.take(self.now);
                let window = self.window_index();
                let counts = if verdict.allowed {
                    &mut self.outcome.own
                } else {
                    &mut self.outcome.refused
                };
                counts[window] += 1;
                self.flights[index].verdict = Some(verdict);
                self.flights[index].counted_at = self.now;
            }
            Event::Answer(index) => self.answer(index),
            Event::GiveBack(index) => {
                let spent = self.flights[index].spent.take();
                let spent = spent.expect("it is given back once");
                self.budget.give_back(spent, self.now);
            }
            Event::Foreign => {
                if self.limiter.take(self.now).allowed {
                    let window = self.window_index();
                    self.outcome.foreign[window] += 1;
                }
                let next = self.now + self.world.window / self.world.foreign_per_window;
                if next < self.start + self.world.window * self.world.foreign_windows.1 {
                    self.at(next, Event::Foreign);
                }
            }
            Event::Demand => self.ask(),
            Event::Wake => {}
        }
    }

    fn ask(&mut self) {
        if self.world.demand == Demand::Saturated {
            self.waiting = u32::MAX;
            return;
        }
        let units = match self.pick(10) {
            0 => self.pick(u64::from(self.world.limit) * 3),
            1..4 => self.pick(8),
            _ => 1,
        };
        self.waiting = self
            .waiting
            .saturating_add(u32::try_from(units).expect("a small number"));
        let window_ms = u64::try_from(self.world.window.as_millis()).expect("a small number");
        let pause = match self.pick(10) {
            0 => self.pick(window_ms * 2),
            1..4 => self.pick(window_ms / 4),
            _ => self.pick(window_ms / u64::from(self.world.limit) + 2),
        };
        self.at(self.now + Duration::from_millis(pause + 1), Event::Demand);
    }

    fn answer(&mut self, index: usize) {
        let flight = &mut self.flights[index];
        let spent = flight.spent.take().expect("an answer comes once");
        let verdict = flight.verdict.expect("counted before the answer");
        let counted_at = flight.counted_at;
        let wall = self.wall(self.now);
        if self.pick(100) < self.world.lost_percent {
            self.budget.settle(spent, None, self.now, wall);
            return;
        }
        let seconds = |at: Instant| {
            let wall = self.wall(at).duration_since(UNIX_EPOCH);
            let wall = wall.expect("after 1970");
            let up = u64::from(wall.subsec_nanos() > 0);
            let skewed = wall.as_secs().saturating_add_signed(self.world.skew_s);
            (skewed, skewed + up)
        };
        let (date, _) = seconds(counted_at);
        let (_, reset) = seconds(counted_at + verdict.reset_after);
        let signals = Signals {
            limit: Some(verdict.limit),
            remaining: Some(verdict.remaining),
            reset: Some(Reset(reset)),
            retry_after: None,
            date: Some(UNIX_EPOCH + Duration::from_secs(date)),
            is_429: !verdict.allowed,
        };
        self.budget.settle(spent, Some(&signals), self.now, wall);
        if !verdict.allowed {
            self.promise = None;
        }
    }

    /// Our wall clock.
    fn wall(&self, at: Instant) -> SystemTime {
        UNIX_EPOCH + SECOND * 1_800_000_000 + (at - self.start)
    }

    fn start_what_may(&mut self) {
        while self.waiting > 0 {
            let opening = self.budget.opening(0, self.now);
            if opening > self.now {
                if self.wake.is_none_or(|wake| wake != opening) {
                    self.at(opening, Event::Wake);
                    self.wake = Some(opening);
                }
                self.promise.get_or_insert(opening);
                return;
            }
            let is_dear = self.world.dear_percent > 0 && self.pick(100) < self.world.dear_percent;
            let price = 1 + u32::from(is_dear);
            let spent = self
                .budget
                .spend(price, self.now)
                .expect("the opening is honest");
            if let Some(promised) = self.promise.take() {
                self.outcome.predicted += 1;
                self.outcome.broken += u32::from(self.now > promised + SECOND);
            }
            if self.world.demand == Demand::Random {
                self.waiting -= 1;
            }
            let (least, most) = self.world.delay_ms;
            let takes = least + self.pick(most - least + 1);
            let counted = self.pick(takes + 1);
            self.flights.push(Flight {
                spent: Some(spent),
                verdict: None,
                counted_at: self.now,
            });
            let index = self.flights.len() - 1;
            if self.pick(100) < self.world.unsent_percent {
                self.at(
                    self.now + Duration::from_millis(counted),
                    Event::GiveBack(index),
                );
                continue;
            }
            self.at(
                self.now + Duration::from_millis(counted),
                Event::Count(index),
            );
            self.at(
                self.now + Duration::from_millis(takes),
                Event::Answer(index),
            );
        }
    }

    fn at(&mut self, moment: Instant, event: Event) {
        self.payloads.push(Some(event));
        self.events.push(Reverse((moment, self.payloads.len() - 1)));
    }

    fn window_index(&self) -> usize {
        let windows = (self.now - self.start).as_nanos() / self.world.window.as_nanos();
        usize::try_from(windows).expect("a small number")
    }

    /// A number below `below`, zero if that is zero (splitmix64).
    fn pick(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below.max(1)
    }
}

impl Outcome {
    pub(super) fn all_refused(&self) -> u32 {
        self.refused.iter().sum()
    }

    /// Share of the budget used, by us and others, in the windows from `from` up to `to`.
    pub(super) fn used(&self, world: &World, from: usize, to: usize) -> f64 {
        let sum: u32 = self.own[from..to]
            .iter()
            .chain(&self.foreign[from..to])
            .sum();
        f64::from(sum) / f64::from(world.limit) / f64::from(u32::try_from(to - from).expect("few"))
    }
}

pub(super) const KINDS: [limiter::Kind; 3] = [
    limiter::Kind::Fixed,
    limiter::Kind::Sliding,
    limiter::Kind::Bucket,
];

/// The documented limit under saturation.
pub(super) fn documented(kind: limiter::Kind) -> World {
    World {
        kind,
        limit: 120,
        window: SECOND * 60,
        skew_s: 0,
        delay_ms: (50, 300),
        lost_percent: 0,
        unsent_percent: 0,
        dear_percent: 0,
        phase_ms: 17_300,
        foreign_per_window: 0,
        foreign_windows: (0, u32::MAX),
        demand: Demand::Saturated,
        seed: 1,
    }
}
