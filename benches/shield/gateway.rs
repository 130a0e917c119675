//! The gateway in virtual time: the library's budget, queue and freshness, joined as the request path
//! and the shield's rim join them.
//!
//! What is left out, because Flameup is healthy here: the key, the breaker, retries, stalled fetches
//! and the bound on forwards under way (a handful at these delays).

#[path = "gateway/reading.rs"]
mod reading;
#[path = "gateway/rim.rs"]
mod rim;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use flameup_gateway::shield::budget::lease::{GONE_AFTER, Mode, REPORT_EVERY, REPORT_SOON};
use flameup_gateway::shield::budget::{self, Budget, Spent};
use flameup_gateway::shield::queue::{self, Class, Queue};

use crate::chance::Chance;
use crate::flameup::{Counted, Foreign};
use crate::shared::Shared;
use crate::tally::Tally;
use crate::traffic::{Lookup, Traffic};
use crate::{LIMIT, TIMEOUT, WINDOW, World};

/// The longest and the shortest that a waiter sleeps before it looks whose turn it is.
const LONGEST_NAP: Duration = Duration::from_millis(250);
const SHORTEST_NAP: Duration = Duration::from_millis(1);
/// As the shield sets up its queue.
pub(crate) const QUEUE: queue::Settings = queue::Settings {
    window: WINDOW,
    reserve: 0.1,
    per_caller: 50,
    in_all: 500,
};

/// What happens next; numbers are places in the lists of attempts and readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Lookup {
        caller: usize,
        person: u32,
    },
    Foreign,
    Counted(usize),
    Answered(usize),
    /// A reader's fetch failed for another caller's want of budget.
    Rejoin(usize),
    /// A reader has waited long enough to be served stale.
    LongWait(usize),
    Wake,
    /// It is time to ask the purse, unless that is done earlier.
    Report(u64),
}

/// One gateway, and all that is under way between it and Flameup.
#[derive(Debug)]
pub(crate) struct Gateway {
    number: usize,
    start: Instant,
    measured_from: Instant,
    now: Instant,
    shared: Rc<Shared>,
    traffic: Traffic,
    foreign: Foreign,
    chance: Chance,
    budget: Budget,
    queue: Queue<usize>,
    flights: HashMap<u32, Flight>,
    attempts: Vec<Attempt>,
    readers: Vec<Reader>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    scheduled: u64,
    wake: Option<Instant>,
    /// Tells the report that is due from those that have been made earlier.
    reports: u64,
    /// It was last known that nobody waits.
    is_idle: bool,
    failing_since: Option<Instant>,
    reported_at: Instant,
    pub(crate) tally: Tally,
}

/// One person being fetched, and those who wait.
#[derive(Debug)]
struct Flight {
    /// The first attempt; tells this flight from the person's others.
    first: usize,
    urgency: Class,
    attempts: u32,
    sent: bool,
    readers: Vec<usize>,
}

/// A place in the queue, and the request that comes of it.
#[derive(Debug)]
struct Attempt {
    caller: usize,
    class: Class,
    person: u32,
    /// The first attempt of its flight.
    flight: usize,
    offered_at: Instant,
    foretold: Instant,
    /// Flameup refused it once, and it waits again.
    again: bool,
    spent: Option<Spent>,
    start: Option<queue::Start>,
    sent_at: Instant,
    counted: Option<Counted>,
}

/// A lookup that waits for a fetch.
#[derive(Debug)]
struct Reader {
    caller: usize,
    person: u32,
    is_covered: bool,
    /// It was charged with a fetch.
    fetched: bool,
    done: bool,
}

impl Gateway {
    pub(crate) fn new(world: &World, start: Instant, number: usize, shared: Rc<Shared>) -> Self {
        let settings = budget::Settings {
            requests: LIMIT,
            window: WINDOW,
            timeout: TIMEOUT,
        };
        let gateways = world.shares.map_or(1, |shares| shares.gateways);
        let other = u64::try_from(number).expect("a few gateways") << 32;
        let mut gateway = Self {
            number,
            start,
            measured_from: start + world.warm_up,
            now: start,
            shared,
            traffic: Traffic::new(world.load).of_one(gateways, other),
            foreign: Foreign::new(),
            chance: Chance(0x5EED_0003 + other),
            budget: Budget::new(settings, start),
            queue: Queue::new(QUEUE),
            flights: HashMap::new(),
            attempts: Vec::new(),
            readers: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            wake: None,
            reports: 0,
            is_idle: false,
            failing_since: None,
            reported_at: start,
            tally: Tally::new(),
        };
        gateway.schedule_lookup();
        if world.shares.is_some() {
            let gateways = u32::try_from(gateways).expect("a few gateways");
            let turn = gateway.chance.share();
            gateway.budget.share(gateways, turn, start);
            // They do not all start at once.
            let gap = REPORT_EVERY.mul_f64(gateway.chance.share());
            gateway.after(gap, Event::Report(0));
        }
        if world.foreign && number == 0 {
            let gap = gateway.foreign.gap();
            gateway.after(gap, Event::Foreign);
        }
        gateway
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        let Reverse((at, _, _)) = self.events.peek()?;
        Some(*at)
    }

    /// Lets happen what happens next.
    pub(crate) fn step(&mut self) {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            return;
        };
        self.now = at;
        self.happen(event);
        self.schedule_wake();
    }

    /// Has the purse asked if somebody waits, or none is left for whoever comes next.
    pub(crate) fn wake_reporter(&mut self) {
        if self.is_idle && (self.is_wanting() || self.budget.lacks_stock(self.now)) {
            let soonest = self.reported_at + REPORT_SOON;
            self.schedule_report(soonest.saturating_duration_since(self.now));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Lookup { caller, person } => {
                self.schedule_lookup();
                self.read(Lookup { caller, person });
            }
            Event::Foreign => {
                let counted = self.shared.flameup.borrow_mut().count(self.now);
                self.tally.foreign += u32::from(counted.is_allowed() && self.is_measured());
                let gap = self.foreign.gap();
                self.after(gap, Event::Foreign);
            }
            Event::Counted(attempt) => self.count(attempt),
            Event::Answered(attempt) => self.land(attempt),
            Event::Rejoin(reader) => self.join(reader),
            Event::LongWait(reader) => self.end_long_wait(reader),
            Event::Wake => {
                self.wake = self.wake.filter(|&wake| wake > self.now);
                self.call();
            }
            Event::Report(number) if number == self.reports => self.report(),
            Event::Report(_) => {}
        }
    }

    fn is_measured(&self) -> bool {
        self.now >= self.measured_from
    }

    /// Asks the purse, as the task does that asks it for a workspace.
    fn report(&mut self) {
        let classes = [Class::Interactive, Class::Service, Class::Batch];
        let count = |class| u32::try_from(self.queue.waiting(class)).expect("a few");
        let waiting = classes.map(count);
        let shared = Rc::clone(&self.shared);
        let purse = shared.purse.as_ref().expect("there is a purse");
        let report = self.budget.report(waiting, self.now);
        let report = report.expect("it is shared");
        shared
            .calls
            .set(shared.calls.get() + u32::from(self.is_measured()));
        let grant = purse.lease(self.number, &report, self.now);
        if let Some(grant) = grant {
            self.failing_since = None;
            self.budget.take_grant(grant, self.now);
        } else {
            let since = *self.failing_since.get_or_insert(self.now);
            let is_gone = self.now - since >= GONE_AFTER;
            self.budget.lose_purse(&report, is_gone, self.now);
        }
        self.call();
        self.is_idle = false;
        self.reported_at = self.now;
        if grant.is_some_and(|grant| grant.is_unknown) || self.is_wanting() {
            let next = grant.map_or(REPORT_SOON, |grant| grant.ask_again_in());
            self.schedule_report(next);
        } else {
            let again_in = grant.map_or(REPORT_EVERY, |_| report.again_in());
            self.schedule_report(again_in);
            self.is_idle = true;
        }
    }

    fn is_wanting(&self) -> bool {
        self.budget.mode() == Some(Mode::Leased) && !self.queue.is_empty()
    }

    fn schedule_report(&mut self, wait: Duration) {
        self.is_idle = false;
        self.reports += 1;
        self.after(wait, Event::Report(self.reports));
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.scheduled += 1;
        let entry = (self.now + wait, self.scheduled, event);
        self.events.push(Reverse(entry));
    }

    fn schedule_lookup(&mut self) {
        let (gap, Lookup { caller, person }) = self.traffic.next();
        self.after(gap, Event::Lookup { caller, person });
    }

    /// Whoever waits looks again whose turn it is, whenever one may have come.
    fn schedule_wake(&mut self) {
        let Some(wake) = self.queue.wake_at(&self.budget, self.now) else {
            return;
        };
        let nap = wake.saturating_duration_since(self.now);
        let nap = nap.clamp(SHORTEST_NAP, LONGEST_NAP);
        if self.wake.is_none_or(|wake| self.now + nap < wake) {
            self.wake = Some(self.now + nap);
            self.after(nap, Event::Wake);
        }
    }
}

impl Flight {
    fn new(first: usize, urgency: Class) -> Self {
        Self {
            first,
            urgency,
            attempts: 1,
            sent: false,
            readers: Vec::new(),
        }
    }
}
