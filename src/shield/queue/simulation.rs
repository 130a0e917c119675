//! Virtual time for the tests: a plain pace, and traffic that is driven through a queue.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// One slot each interval; what was not used is gone.
#[derive(Debug)]
pub(super) struct Slots {
    interval: Duration,
    window: Duration,
    limit: u32,
    next: Instant,
    spent: VecDeque<(Instant, u32)>,
    /// Overrides what the window says is used.
    pub(super) used: Option<f64>,
    /// Overrides what the window says is left over.
    pub(super) leftover: Option<u32>,
}

impl Slots {
    /// 120 a minute, one each half second.
    pub(super) fn new(now: Instant) -> Self {
        Self::every(Duration::from_millis(500), now)
    }

    pub(super) fn every(interval: Duration, now: Instant) -> Self {
        let window = Duration::from_mins(1);
        let limit = whole(window.div_duration_f64(interval));
        Self {
            interval,
            window,
            limit,
            next: now,
            spent: VecDeque::new(),
            used: None,
            leftover: None,
        }
    }

    pub(super) fn spend(&mut self, cost: u32, now: Instant) {
        self.next = self.next.max(now) + self.interval * cost;
        self.spent.push_back((now, cost));
        while self
            .spent
            .front()
            .is_some_and(|&(at, _)| at + self.window <= now)
        {
            self.spent.pop_front();
        }
    }

    fn spent(&self, now: Instant) -> u32 {
        let young = self.spent.iter().filter(|&&(at, _)| at + self.window > now);
        young.map(|&(_, cost)| cost).sum()
    }
}

impl Pace for Slots {
    fn opening(&self, ahead: u32, now: Instant) -> Instant {
        self.next.max(now) + self.interval * ahead
    }

    fn used(&self, now: Instant) -> f64 {
        let used = f64::from(self.spent(now)) / f64::from(self.limit);
        self.used.unwrap_or(used.min(1.0))
    }

    fn leftover(&self, reserve: f64, now: Instant) -> u32 {
        let all = whole(f64::from(self.limit) * (1.0 - reserve));
        self.leftover.unwrap_or(all.saturating_sub(self.spent(now)))
    }

    fn limit(&self) -> u32 {
        self.limit
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        window: Duration::from_mins(1),
        reserve: 0.1,
        per_caller: 50,
        in_all: 500,
    }
}

/// What became of the requests of one run.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) started: BTreeMap<(Class, CallerId), u32>,
    pub(super) refused: BTreeMap<Reason, u32>,
    pub(super) expired: u32,
    /// Seconds between the foretold and the actual start.
    pub(super) errors: Vec<f64>,
    pub(super) waits: BTreeMap<Class, Vec<f64>>,
}

/// Drives a queue: requests come at their moments and everything that may start does.
#[derive(Debug)]
pub(super) struct Drive {
    pub(super) queue: Queue<(Instant, Instant)>,
    pub(super) pace: Slots,
    pub(super) now: Instant,
    pub(super) outcome: Outcome,
}

impl Drive {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            queue: Queue::new(settings()),
            pace: Slots::new(now),
            now,
            outcome: Outcome::default(),
        }
    }

    /// Lets time pass up to `until`, starting all that may start.
    pub(super) fn pass(&mut self, until: Instant) {
        while let Some(wake) = self
            .queue
            .wake_at(&self.pace, self.now)
            .filter(|&at| at <= until)
        {
            self.now = wake;
            self.start();
        }
        self.now = until;
        self.start();
    }

    pub(super) fn start(&mut self) {
        while let Some((start, (came, foretold))) = self.queue.next(&self.pace, self.now) {
            let ask = start.ask;
            assert!(self.now <= ask.deadline, "started after its deadline");
            self.pace.spend(ask.cost, self.now);
            let apart = foretold.max(self.now) - foretold.min(self.now);
            self.outcome.errors.push(apart.as_secs_f64());
            let waits = self.outcome.waits.entry(ask.class).or_default();
            waits.push((self.now - came).as_secs_f64());
            *self
                .outcome
                .started
                .entry((ask.class, ask.caller))
                .or_default() += ask.cost;
        }
        let expired = self.queue.expired(&self.pace, self.now).len();
        self.outcome.expired += u32::try_from(expired).expect("few expire");
    }

    /// Offers a request; `Some` with when to come back if it is refused.
    pub(super) fn offer(&mut self, ask: Ask) -> Option<Refusal> {
        let ticket = (self.now, self.now);
        let refusal = match self.queue.offer(ask, ticket, &self.pace, self.now) {
            Ok((Place(id), start)) => {
                // Known only now that the ticket has been handed over.
                let waiting = self.queue.waiting.get_mut(&id).expect("it has just come");
                waiting.ticket.1 = start;
                None
            }
            Err((_, refusal)) => {
                *self.outcome.refused.entry(refusal.reason).or_default() += 1;
                Some(refusal)
            }
        };
        self.start();
        refusal
    }
}

/// Jain's index: 1 if all are equal, 1/n if one has it all.
pub(super) fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (f64::from(u32::try_from(shares.len()).expect("few")) * squares)
}

pub(super) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = f64::from(u32::try_from(sorted.len().saturating_sub(1)).expect("few"));
    sorted
        .get(whole(last * part) as usize)
        .copied()
        .unwrap_or(0.0)
}

pub(super) fn whole(value: f64) -> u32 {
    forecast::whole(value)
}

/// A request at weight 1 that costs 1, for a person who is known.
pub(super) fn ask(caller: u32, class: Class, deadline: Instant) -> Ask {
    Ask {
        caller: CallerId(caller),
        class,
        weight: 1,
        deadline,
        cost: 1,
        known: true,
        subject: Subject(0),
        told: true,
    }
}

/// A small generator of uniform numbers, the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        f64::from(u32::try_from(self.0 >> 32).expect("32 bits")) / 4_294_967_296.0
    }

    /// Time to the next arrival of a Poisson process.
    fn gap(&mut self, per_second: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.next()).ln() / per_second)
    }
}

/// Ten minutes in which each caller asks at random moments, `(class, weight, per second)` each,
/// with two seconds' patience.
pub(super) fn traffic(callers: &[(Class, u32, f64)]) -> Drive {
    let mut drive = Drive::new();
    let mut chance = Chance(0x5DEE_CE66);
    let end = drive.now + Duration::from_secs_f64(600.0);
    let mut arrivals = BTreeSet::new();
    for (caller, &(_, _, rate)) in callers.iter().enumerate() {
        arrivals.insert((drive.now + chance.gap(rate), caller));
    }
    while let Some((at, caller)) = arrivals.pop_first().filter(|&(at, _)| at < end) {
        let (class, weight, rate) = callers[caller];
        arrivals.insert((at + chance.gap(rate), caller));
        drive.pass(at);
        let id = u32::try_from(caller).expect("few callers");
        let ask = ask(id, class, at + Duration::from_secs_f64(2.0));
        drive.offer(Ask { weight, ..ask });
    }
    drive
}

pub(super) fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
