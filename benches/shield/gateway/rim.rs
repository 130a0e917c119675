//! The shield's rim: from a place in the queue to the answer.

use std::time::Duration;

use flameup_gateway::cache::control::ResponseDirectives;
use flameup_gateway::cache::freshness::Freshness;
use flameup_gateway::shield::queue::{Ask, CallerId, Class, Place, Subject};

use super::{Attempt, Event, Gateway, Reader};
use crate::tally::Answer;
use crate::traffic::Lookup;
use crate::{JITTER, TTL, WINDOW, WINDOWS};

/// The longest that a lookup waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// An answer takes a time between these, and is counted at any moment of it.
const FASTEST: Duration = Duration::from_millis(40);
const SLOWEST: Duration = Duration::from_millis(160);

impl Gateway {
    pub(super) fn attempt(&mut self, lookup: Lookup, class: Class, flight: Option<usize>) -> usize {
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
            start: None,
            sent_at: self.now,
            counted: None,
        });
        number
    }

    pub(super) fn enter(&mut self, attempt: usize, patience: Duration) -> Result<Place, ()> {
        let Attempt {
            caller,
            class,
            person,
            ..
        } = self.attempts[attempt];
        let retention = TTL + WINDOWS.longest();
        let stored = self.stored(person);
        let remembered = stored.is_some_and(|stored| stored.current_age(self.now) < retention);
        let ask = Ask {
            caller: CallerId(u32::try_from(caller).expect("a few callers")),
            class,
            weight: 1,
            deadline: self.now + patience,
            cost: 1,
            known: remembered,
            subject: Subject(person.into()),
            // Refused callers do not come back; covered ones and refreshes are not even told.
            told: class != Class::Refresh && !remembered,
        };
        let offered = self.queue.offer(ask, attempt, &self.budget, self.now);
        let (place, foretold) = offered.map_err(|_| ())?;
        self.attempts[attempt].offered_at = self.now;
        self.attempts[attempt].foretold = foretold;
        Ok(place)
    }

    pub(super) fn enter_and_call(&mut self, attempt: usize) {
        match self.enter(attempt, MAX_WAIT) {
            Ok(_) => self.call(),
            Err(()) => self.fail(attempt, true),
        }
        self.wake_reporter();
    }

    /// Calls whose turn it is, and tells those who will have none.
    pub(super) fn call(&mut self) {
        for (attempt, _) in self.queue.expired(&self.budget, self.now) {
            self.tally.expired += u32::from(self.is_measured());
            self.fail(attempt, true);
        }
        while let Some((start, attempt)) = self.queue.next(&self.budget, self.now) {
            let ask = start.ask;
            let spent = self.budget.spend(ask.cost, self.now);
            self.attempts[attempt].start = Some(start);
            self.attempts[attempt].spent = Some(spent.expect("the queue asks the budget first"));
            self.note_start(attempt);
            // A refresh is launched by whoever called for it.
            if ask.class != Class::Refresh || self.attempts[attempt].again {
                self.launch(attempt);
            }
        }
    }

    pub(super) fn note_start(&mut self, attempt: usize) {
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
    pub(super) fn launch(&mut self, attempt: usize) {
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
                if let Some(start) = self.attempts[attempt].start.take() {
                    self.queue.give_back(&start, self.now);
                }
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

    pub(super) fn count(&mut self, attempt: usize) {
        let counted = self.shared.flameup.borrow_mut().count(self.now);
        self.attempts[attempt].counted = Some(counted);
        let (refused, measured) = (!counted.is_allowed(), self.is_measured());
        self.tally.own += u32::from(!refused && measured);
        self.tally.refused_ever += u32::from(refused);
        if self.now >= self.start + WINDOW * 3 {
            self.tally.forwards_later += 1;
            self.tally.refused_later += u32::from(refused);
        }
    }

    pub(super) fn settle(&mut self, attempt: usize) {
        let Attempt { spent, counted, .. } = &mut self.attempts[attempt];
        let flameup = self.shared.flameup.borrow();
        let signals = counted.map(|counted| flameup.signals(counted, self.now));
        let wall = flameup.wall(self.now);
        if let Some(spent) = spent.take() {
            self.budget.settle(spent, signals.as_ref(), self.now, wall);
        }
    }

    /// Takes in an answer. After a 429 the request waits for another turn, once.
    pub(super) fn land(&mut self, attempt: usize) {
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
        self.shared.people.borrow_mut().insert(person, stored);
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
    pub(super) fn fail(&mut self, attempt: usize, of_one_caller: bool) {
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
