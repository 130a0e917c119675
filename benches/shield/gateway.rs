//! The gateway in virtual time: the library's budget, queue and freshness, joined as the request path
//! and the shield's rim join them.
//!
//! What is left out, because Flameup is healthy here: the key, the breaker, retries, stalled fetches
//! and the bound on forwards under way (a handful at these delays).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use flameup_gateway::cache::control::{RequestDirectives, ResponseDirectives};
use flameup_gateway::cache::freshness::{Freshness, Verdict};
use flameup_gateway::shield::budget::{self, Budget, Spent};
use flameup_gateway::shield::queue::{self, Ask, CallerId, Class, Place, Queue};

use crate::chance::Chance;
use crate::flameup::{Counted, Flameup, Foreign};
use crate::tally::{Answer, Tally};
use crate::traffic::{Lookup, Traffic, class_of};
use crate::{JITTER, LIMIT, MEASURED, TTL, WARM_UP, WINDOW, WINDOWS, World};

/// The longest that a lookup waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long waiting for a turn keeps back an answer that may be served stale.
const STALE_PATIENCE: Duration = Duration::from_millis(1500);
/// The longest and the shortest that a waiter sleeps before it looks whose turn it is.
const LONGEST_NAP: Duration = Duration::from_millis(250);
const SHORTEST_NAP: Duration = Duration::from_millis(1);
/// An answer takes a time between these, and is counted at any moment of it.
const FASTEST: Duration = Duration::from_millis(40);
const SLOWEST: Duration = Duration::from_millis(160);

/// As the shield sets up its queue.
const QUEUE: queue::Settings = queue::Settings {
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

/// The request path.
impl Gateway {
    fn read(&mut self, lookup: Lookup) {
        let Lookup { caller, person } = lookup;
        let stored = self.people.get(&person).copied();
        match stored.map(|stored| (stored, self.judge(&stored))) {
            Some((stored, Verdict::Serve)) => self.answer(Answer::Fresh, Some(stored)),
            Some((stored, Verdict::ServeAndRevalidate)) => {
                let answer = if self.refresh(lookup) {
                    Answer::Revalidating
                } else {
                    Answer::StaleBudget
                };
                self.answer(answer, Some(stored));
            }
            stored => {
                let last_resort = |verdict| {
                    matches!(
                        verdict,
                        Verdict::Forward {
                            stale_if_error: true,
                            ..
                        }
                    )
                };
                let is_covered = stored.is_some_and(|(_, verdict)| last_resort(verdict));
                self.readers.push(Reader {
                    caller,
                    person,
                    is_covered,
                    fetched: false,
                    done: false,
                });
                let reader = self.readers.len() - 1;
                self.join(reader);
                if is_covered {
                    self.after(STALE_PATIENCE, Event::LongWait(reader));
                }
            }
        }
    }

    fn judge(&self, stored: &Freshness) -> Verdict {
        stored.judge(&RequestDirectives::default(), &WINDOWS, self.now)
    }

    fn answer(&mut self, answer: Answer, served: Option<Freshness>) {
        if self.is_measured() {
            let age = served.map(|served| served.current_age(self.now));
            self.tally.answered(answer, age);
        }
    }

    /// Refreshes in the background if something is left over; says whether it is being fetched.
    fn refresh(&mut self, lookup: Lookup) -> bool {
        if self.flights.contains_key(&lookup.person) {
            return true;
        }
        let attempt = self.attempt(lookup, Class::Refresh, None);
        let Ok(place) = self.enter(attempt, Duration::ZERO) else {
            return false;
        };
        self.call();
        if self.attempts[attempt].spent.is_none() {
            self.queue.leave(place);
            return false;
        }
        self.flights
            .insert(lookup.person, Flight::new(attempt, Class::Refresh));
        self.launch(attempt);
        true
    }

    /// Waits together with whoever else wants this person, with an attempt of one's own if none is
    /// as urgent.
    fn join(&mut self, reader: usize) {
        let Reader { caller, person, .. } = self.readers[reader];
        let class = class_of(caller);
        let flight = self.flights.get_mut(&person);
        let under_way = flight.as_ref().map(|flight| flight.first);
        let own = flight.is_none_or(|flight| {
            flight.readers.push(reader);
            let own = !flight.sent && class < flight.urgency;
            flight.attempts += u32::from(own);
            flight.urgency = flight.urgency.min(class);
            own
        });
        if !own {
            return;
        }
        self.readers[reader].fetched = true;
        let attempt = self.attempt(Lookup { caller, person }, class, under_way);
        if under_way.is_none() {
            let mut flight = Flight::new(attempt, class);
            flight.readers.push(reader);
            self.flights.insert(person, flight);
        }
        self.enter_and_call(attempt);
    }

    fn end_long_wait(&mut self, reader: usize) {
        let Reader { person, done, .. } = self.readers[reader];
        let waits_for_turn = self.flights.get(&person).is_some_and(|flight| !flight.sent);
        if !done && waits_for_turn {
            self.fail_reader(reader);
        }
    }

    /// Answers a reader whose fetch failed, with what is stored if that may still be served.
    fn fail_reader(&mut self, reader: usize) {
        let Reader {
            person, is_covered, ..
        } = self.readers[reader];
        self.readers[reader].done = true;
        let stored = self.people.get(&person).copied().filter(|_| is_covered);
        let cover = stored.filter(|stored| {
            matches!(
                self.judge(stored),
                Verdict::Forward {
                    stale_if_error: true,
                    ..
                }
            )
        });
        let answer = cover.map_or(Answer::Refused, |_| Answer::StaleBudget);
        self.answer(answer, cover);
    }
}

/// The shield's rim.
impl Gateway {
    fn attempt(&mut self, lookup: Lookup, class: Class, flight: Option<usize>) -> usize {
        let number = self.attempts.len();
        self.attempts.push(Attempt {
            caller: lookup.caller,
            class,
            person: lookup.person,
            flight: flight.unwrap_or(number),
            offered_at: self.now,
            foretold: self.now,
            again: false,
            spent: None,
            sent_at: self.now,
            counted: None,
        });
        number
    }

    fn enter(&mut self, attempt: usize, patience: Duration) -> Result<Place, ()> {
        let Attempt {
            caller,
            class,
            person,
            ..
        } = self.attempts[attempt];
        let retention = TTL + WINDOWS.longest();
        let stored = self.people.get(&person);
        let remembered = stored.is_some_and(|stored| stored.current_age(self.now) < retention);
        let ask = Ask {
            caller: CallerId(u32::try_from(caller).expect("a few callers")),
            class,
            weight: 1,
            deadline: self.now + patience,
            cost: 1,
            known: remembered,
        };
        let offered = self.queue.offer(ask, attempt, &self.budget, self.now);
        let (place, foretold) = offered.map_err(|_| ())?;
        self.attempts[attempt].offered_at = self.now;
        self.attempts[attempt].foretold = foretold;
        Ok(place)
    }

    fn enter_and_call(&mut self, attempt: usize) {
        match self.enter(attempt, MAX_WAIT) {
            Ok(_) => self.call(),
            Err(()) => self.fail(attempt, true),
        }
    }

    /// Calls whose turn it is, and tells those who will have none.
    fn call(&mut self) {
        for (attempt, _) in self.queue.expired(&self.budget, self.now) {
            self.tally.expired += u32::from(self.is_measured());
            self.fail(attempt, true);
        }
        while let Some((ask, attempt)) = self.queue.next(&self.budget, self.now) {
            let spent = self.budget.spend(ask.cost, self.now);
            self.attempts[attempt].spent = Some(spent.expect("the queue asks the budget first"));
            self.note_start(attempt);
            // A refresh is launched by whoever called for it.
            if ask.class != Class::Refresh || self.attempts[attempt].again {
                self.launch(attempt);
            }
        }
    }

    fn note_start(&mut self, attempt: usize) {
        if !self.is_measured() {
            return;
        }
        let attempt = &self.attempts[attempt];
        let apart = attempt.foretold.max(self.now) - attempt.foretold.min(self.now);
        let wait = self.now - attempt.offered_at;
        self.tally
            .started(attempt.class, attempt.caller, wait, apart);
    }

    /// Sends the request, unless another of the flight's has been sent or has landed.
    fn launch(&mut self, attempt: usize) {
        let Attempt {
            person,
            flight,
            again,
            ..
        } = self.attempts[attempt];
        let flight = self.flights.get_mut(&person).filter(|f| f.first == flight);
        let may_go =
            flight.is_some_and(|flight| again || !std::mem::replace(&mut flight.sent, true));
        if !may_go {
            self.tally.unneeded += u32::from(self.is_measured());
            if let Some(spent) = self.attempts[attempt].spent.take() {
                self.budget.give_back(spent, self.now);
            }
            self.fail(attempt, true);
            return;
        }
        self.attempts[attempt].sent_at = self.now;
        let takes = self.chance.between(FASTEST, SLOWEST);
        let counted = takes.mul_f64(self.chance.share());
        self.after(counted, Event::Counted(attempt));
        self.after(takes, Event::Answered(attempt));
    }

    fn count(&mut self, attempt: usize) {
        let counted = self.flameup.count(self.now);
        self.attempts[attempt].counted = Some(counted);
        let (refused, measured) = (!counted.is_allowed(), self.is_measured());
        self.tally.own += u32::from(!refused && measured);
        self.tally.refused_ever += u32::from(refused);
        if self.now >= self.start + WINDOW * 3 {
            self.tally.forwards_later += 1;
            self.tally.refused_later += u32::from(refused);
        }
    }

    fn settle(&mut self, attempt: usize) {
        let Attempt { spent, counted, .. } = &mut self.attempts[attempt];
        let signals = counted.map(|counted| self.flameup.signals(counted, self.now));
        let wall = self.flameup.wall(self.now);
        if let Some(spent) = spent.take() {
            self.budget.settle(spent, signals.as_ref(), self.now, wall);
        }
    }

    /// Takes in an answer. After a 429 the request waits for another turn, once.
    fn land(&mut self, attempt: usize) {
        self.settle(attempt);
        self.call();
        let Attempt {
            person,
            flight,
            sent_at,
            again,
            ..
        } = self.attempts[attempt];
        let allowed = self.attempts[attempt].counted.take();
        if !allowed.is_some_and(|counted| counted.is_allowed()) {
            self.attempts[attempt].again = true;
            if again {
                self.fail(attempt, false);
            } else {
                self.enter_and_call(attempt);
            }
            return;
        }
        let jitter = JITTER * self.chance.share();
        let none = ResponseDirectives::default();
        let stored = Freshness::new(sent_at, Duration::ZERO, TTL, jitter, &none);
        self.people.insert(person, stored);
        if self.flights.get(&person).is_none_or(|f| f.first != flight) {
            return;
        }
        let landed = self.flights.remove(&person);
        for reader in landed.into_iter().flat_map(|flight| flight.readers) {
            if !std::mem::replace(&mut self.readers[reader].done, true) {
                self.answer(Answer::Forwarded, Some(stored));
            }
        }
    }

    /// Ends an attempt that came to nothing. If it was the flight's last, those who wait are told;
    /// where only its own caller's share was short, others try on theirs.
    fn fail(&mut self, attempt: usize, of_one_caller: bool) {
        let Attempt { person, flight, .. } = self.attempts[attempt];
        let under_way = self.flights.get_mut(&person).filter(|f| f.first == flight);
        let Some(under_way) = under_way else { return };
        under_way.attempts -= 1;
        if under_way.attempts > 0 {
            return;
        }
        let failed = self.flights.remove(&person);
        for reader in failed.into_iter().flat_map(|flight| flight.readers) {
            let Reader { fetched, done, .. } = self.readers[reader];
            if done {
                continue;
            }
            if of_one_caller && !fetched {
                self.after(Duration::ZERO, Event::Rejoin(reader));
            } else {
                self.fail_reader(reader);
            }
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
