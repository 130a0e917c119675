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
use std::time::{Duration, Instant};

use flameup_gateway::cache::freshness::Freshness;
use flameup_gateway::shield::budget::{self, Budget, Spent};
use flameup_gateway::shield::queue::{self, Class, Queue};

use crate::chance::Chance;
use crate::flameup::{Counted, Flameup, Foreign};
use crate::tally::Tally;
use crate::traffic::{Lookup, Traffic};
use crate::{LIMIT, MEASURED, TIMEOUT, WARM_UP, WINDOW, World};

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
}

/// The gateway, Flameup and all that is under way between them.
#[derive(Debug)]
pub(crate) struct Gateway {
    start: Instant,
    now: Instant,
    flameup: Flameup,
    traffic: Traffic,
    foreign: Foreign,
    chance: Chance,
    budget: Budget,
    queue: Queue<usize>,
    people: HashMap<u32, Freshness>,
    flights: HashMap<u32, Flight>,
    attempts: Vec<Attempt>,
    readers: Vec<Reader>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    scheduled: u64,
    wake: Option<Instant>,
    tally: Tally,
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
    pub(crate) fn new(world: &World, start: Instant) -> Self {
        let settings = budget::Settings {
            requests: LIMIT,
            window: WINDOW,
            timeout: TIMEOUT,
        };
        let mut gateway = Self {
            start,
            now: start,
            flameup: Flameup::new(world, start),
            traffic: Traffic::new(world.load),
            foreign: Foreign::new(),
            chance: Chance(0x5EED_0003),
            budget: Budget::new(settings, start),
            queue: Queue::new(QUEUE),
            people: HashMap::new(),
            flights: HashMap::new(),
            attempts: Vec::new(),
            readers: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            wake: None,
            tally: Tally::new(),
        };
        gateway.schedule_lookup();
        if world.foreign {
            let gap = gateway.foreign.gap();
            gateway.after(gap, Event::Foreign);
        }
        gateway
    }

    /// Runs warm-up and measured time.
    pub(crate) fn run(mut self) -> Tally {
        let end = self.start + WARM_UP + MEASURED;
        while let Some(Reverse((at, _, event))) = self.events.pop()
            && at < end
        {
            self.now = at;
            self.happen(event);
            self.schedule_wake();
        }
        self.tally.sort();
        self.tally
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Lookup { caller, person } => {
                self.schedule_lookup();
                self.read(Lookup { caller, person });
            }
            Event::Foreign => {
                let counted = self.flameup.count(self.now);
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
        }
    }

    fn is_measured(&self) -> bool {
        self.now >= self.start + WARM_UP
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
