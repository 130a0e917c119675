//! The request path: what becomes of a lookup.

use std::time::Duration;

use flameup_gateway::cache::control::RequestDirectives;
use flameup_gateway::cache::freshness::{Freshness, Verdict};
use flameup_gateway::shield::queue::Class;

use super::{Event, Flight, Gateway, Reader};
use crate::WINDOWS;
use crate::tally::Answer;
use crate::traffic::{Lookup, class_of};

/// How long waiting for a turn keeps back an answer that may be served stale.
const STALE_PATIENCE: Duration = Duration::from_millis(1500);

impl Gateway {
    pub(super) fn read(&mut self, lookup: Lookup) {
        let Lookup { caller, person } = lookup;
        let stored = self.stored(person);
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

    pub(super) fn stored(&self, person: u32) -> Option<Freshness> {
        self.shared.people.borrow().get(&person).copied()
    }

    pub(super) fn judge(&self, stored: &Freshness) -> Verdict {
        stored.judge(&RequestDirectives::default(), &WINDOWS, self.now)
    }

    pub(super) fn answer(&mut self, answer: Answer, served: Option<Freshness>) {
        if self.is_measured() {
            let age = served.map(|served| served.current_age(self.now));
            self.tally.answered(answer, age);
        }
    }

    /// Refreshes in the background if something is left over; says whether it is being fetched.
    pub(super) fn refresh(&mut self, lookup: Lookup) -> bool {
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
            self.budget.want_refresh(self.now);
            self.wake_reporter();
            return false;
        }
        self.flights
            .insert(lookup.person, Flight::new(attempt, Class::Refresh));
        self.wake_reporter();
        self.launch(attempt);
        true
    }

    /// Waits together with whoever else wants this person, with an attempt of one's own if none is
    /// as urgent.
    pub(super) fn join(&mut self, reader: usize) {
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

    pub(super) fn end_long_wait(&mut self, reader: usize) {
        let Reader { person, done, .. } = self.readers[reader];
        let waits_for_turn = self.flights.get(&person).is_some_and(|flight| !flight.sent);
        if !done && waits_for_turn {
            self.fail_reader(reader);
        }
    }

    /// Answers a reader whose fetch failed, with what is stored if that may still be served.
    pub(super) fn fail_reader(&mut self, reader: usize) {
        let Reader {
            person, is_covered, ..
        } = self.readers[reader];
        self.readers[reader].done = true;
        let stored = self.stored(person).filter(|_| is_covered);
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
