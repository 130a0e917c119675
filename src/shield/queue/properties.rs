//! What holds for any traffic and any pace.

use proptest::prelude::*;

use super::simulation::{Slots, settings};
use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Offer {
        caller: u32,
        class: Class,
        weight: u32,
        patience_ms: u64,
        cost: u32,
        known: bool,
    },
    Next,
    Expired,
    Leave(usize),
    Clear,
    Pass(u64),
    Budget {
        used: f64,
        leftover: u32,
    },
}

fn class() -> impl Strategy<Value = Class> {
    use Class::{Batch, Interactive, Refresh, Service};
    prop::sample::select(vec![Interactive, Service, Batch, Refresh])
}

fn offer() -> impl Strategy<Value = Step> {
    let who = (0_u32..12, class(), 0_u32..1_200);
    let what = (0_u64..60_000, 0_u32..4, any::<bool>());
    (who, what).prop_map(
        |((caller, class, weight), (patience_ms, cost, known))| Step::Offer {
            caller,
            class,
            weight,
            patience_ms,
            cost,
            known,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => offer(),
        4 => Just(Step::Next),
        1 => Just(Step::Expired),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => prop::bool::weighted(0.1).prop_map(|all| if all { Step::Clear } else { Step::Next }),
        4 => (0_u64..4_000).prop_map(Step::Pass),
        1 => (0.0..1.0, 0_u32..60).prop_map(|(used, leftover)| Step::Budget { used, leftover }),
    ]
}

/// A queue under test, and what must be true of it.
struct Trial {
    queue: Queue<u64>,
    pace: Slots,
    now: Instant,
    inside: BTreeMap<u64, (Place, Ask)>,
    tickets: u64,
    /// Starts of others since batch last started, while batch with known ids waited throughout.
    since_batch: u32,
}

impl Trial {
    fn new(interval_ms: u64) -> Self {
        let now = Instant::now();
        let small = Settings {
            per_caller: 8,
            in_all: 40,
            ..settings()
        };
        Self {
            queue: Queue::new(small),
            pace: Slots::every(Duration::from_millis(interval_ms), now),
            now,
            inside: BTreeMap::new(),
            tickets: 0,
            since_batch: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Offer {
                caller,
                class,
                weight,
                patience_ms,
                cost,
                known,
            } => self.offer(Ask {
                caller: CallerId(caller),
                class,
                weight,
                deadline: self.now + Duration::from_millis(patience_ms),
                cost,
                known,
                subject: Subject(u64::from(weight % 3)),
                told: !weight.is_multiple_of(5),
            }),
            Step::Next => self.next(),
            Step::Expired => self.expired(),
            Step::Leave(nth) => self.leave(nth),
            Step::Clear => self.clear(),
            Step::Pass(ms) => self.now += Duration::from_millis(ms),
            Step::Budget { used, leftover } => {
                self.pace.used = Some(used);
                self.pace.leftover = Some(leftover);
            }
        }
        self.holds();
    }

    fn offer(&mut self, ask: Ask) {
        self.tickets += 1;
        match self.queue.offer(ask, self.tickets, &self.pace, self.now) {
            Ok((place, start)) => {
                assert!(start >= self.now && start <= ask.deadline);
                let ask = ask.within_bounds();
                assert!(self.inside.insert(self.tickets, (place, ask)).is_none());
            }
            Err((ticket, refusal)) => {
                assert_eq!(ticket, self.tickets);
                assert!(refusal.retry_after >= Duration::from_secs(1));
                assert!(refusal.retry_after <= Duration::from_secs(3_601));
            }
        }
    }

    fn next(&mut self) {
        let open = self.pace.opening(0, self.now) <= self.now;
        let in_time = |(_, ask): &(Place, Ask)| ask.deadline >= self.now;
        let known = |class| {
            let mut alive = self.inside.values().filter(|&entry| in_time(entry));
            alive.any(|(_, ask)| ask.class == class && ask.known)
        };
        let waits = [Class::Interactive, Class::Service, Class::Batch].map(known);
        let strict = self.pace.used(self.now) > STRICT_ABOVE;
        let Some((Start { ask, .. }, ticket)) = self.queue.next(&self.pace, self.now) else {
            assert!(!(open && waits.contains(&true)), "budget lies idle");
            return;
        };
        assert!(open, "started while the pace was closed");
        assert!(ask.deadline >= self.now, "started after its deadline");
        let (_, offered) = self.inside.remove(&ticket).expect("came out once");
        assert_eq!(ask, offered);
        if strict {
            let higher = waits.iter().take(ask.class as usize).any(|&waits| waits);
            assert!(!higher || ask.class == Class::Batch);
        }
        if ask.class == Class::Refresh {
            assert!(!waits.contains(&true));
        }
        self.since_batch = match (ask.class, waits) {
            (Class::Batch, _) | (_, [_, _, false]) => 0,
            _ => self.since_batch + 1,
        };
        assert!(self.since_batch < 20, "batch was passed over too often");
        self.pace.spend(ask.cost, self.now);
    }

    fn expired(&mut self) {
        for (ticket, _) in self.queue.expired(&self.pace, self.now) {
            let (_, ask) = self.inside.remove(&ticket).expect("came out once");
            assert!(ask.deadline < self.now, "expired early");
        }
    }

    fn leave(&mut self, nth: usize) {
        let Some(nth) = nth.checked_rem(self.inside.len()) else {
            return;
        };
        let (&ticket, &(place, _)) = self.inside.iter().nth(nth).expect("counted");
        assert_eq!(self.queue.leave(place), Some(ticket));
        assert_eq!(self.queue.leave(place), None);
        self.inside.remove(&ticket);
    }

    fn clear(&mut self) {
        for ticket in self.queue.clear() {
            assert!(self.inside.remove(&ticket).is_some(), "came out once");
        }
        assert!(self.inside.is_empty());
    }

    fn holds(&self) {
        // Those past their deadline take up no place, though they are still to come out.
        let asks = self.inside.values().map(|(_, ask)| ask);
        let in_time: Vec<_> = asks.filter(|ask| ask.deadline >= self.now).collect();
        assert!((in_time.len()..=self.inside.len()).contains(&self.queue.len()));
        assert!(self.queue.len() <= 40);
        let mut per_caller = BTreeMap::new();
        for ask in in_time {
            *per_caller.entry(ask.caller).or_insert(0) += 1;
        }
        assert!(per_caller.values().all(|&own| own <= 8));
        let wake = self.queue.wake_at(&self.pace, self.now);
        assert_eq!(wake.is_none(), self.inside.is_empty());
        assert!(wake.is_none_or(|wake| wake >= self.now));
    }

    /// Lets time pass until all have come out.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            let Some(wake) = self.queue.wake_at(&self.pace, self.now) else {
                break;
            };
            self.now = wake;
            self.next();
            self.expired();
            self.holds();
        }
        assert!(self.inside.is_empty(), "{} are lost", self.inside.len());
        let lanes = self.queue.known.units() + self.queue.unknown.units();
        assert_eq!(lanes + self.queue.refresh.units(), 0);
        assert!(self.queue.per_caller.is_empty() && self.queue.deadlines.is_empty());
    }
}

proptest! {
    #[test]
    fn every_ticket_comes_out_once_in_time_and_in_order(
        interval_ms in 1_u64..2_000,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut trial = Trial::new(interval_ms);
        for step in steps {
            trial.take(&step);
        }
        trial.finish();
    }

    #[test]
    fn unknown_ids_take_at_most_a_quarter_of_the_share_when_nothing_is_left_over(
        gaps_ms in prop::collection::vec(0_u64..3_000, 1..300),
        others in 1_u32..5,
    ) {
        let mut now = Instant::now();
        let mut pace = Slots::every(Duration::from_millis(10), now);
        pace.leftover = Some(0);
        let limit = pace.limit();
        let mut queue = Queue::new(settings());
        let mut started = Vec::new();
        for (nth, gap) in (0_u32..).zip(gaps_ms) {
            now += Duration::from_millis(gap);
            let ask = Ask {
                caller: CallerId(nth % others),
                class: Class::Service,
                weight: 1,
                deadline: now + Duration::from_secs(2),
                cost: 1,
                known: nth % 2 == 0,
                subject: Subject(nth.into()),
                told: true,
            };
            let _ = queue.offer(ask, nth, &pace, now);
            while let Some((Start { ask, .. }, _)) = queue.next(&pace, now) {
                pace.spend(ask.cost, now);
                if !ask.known {
                    started.push((now, ask.caller));
                }
            }
        }
        for (at, caller) in &started {
            let window = |&&(other, who): &&(Instant, CallerId)| {
                who == *caller && other >= *at && other < *at + settings().window
            };
            let own = started.iter().filter(window).count();
            prop_assert!(own <= (limit as usize / 4).max(1));
        }
    }
}
