//! What a budget takes from each answer.

use std::time::{Instant, SystemTime};

use super::foreign::Level;
use super::log::Entry;
use super::window::Sample;
use super::{Budget, Kind};
use crate::shield::signals::Signals;

/// What answers tell.
impl Budget {
    /// Takes in what an answer says outright, and makes a sample of it if it tells of the window.
    pub(super) fn hear(
        &mut self,
        signals: &Signals,
        entry: &Entry,
        now: Instant,
        wall: SystemTime,
    ) -> Option<Sample> {
        let took = now.saturating_duration_since(entry.at).min(self.window);
        self.delay = (self.delay * 7 + took) / 8;
        if let Some(date) = signals.date {
            self.clocks.observe(date, entry.at, now, wall);
        }
        let stated = signals.limit;
        let believed = stated.and_then(|stated| self.stated.hear(stated, self.limit));
        if let Some(limit) = believed.filter(|&limit| limit != self.limit) {
            self.limit = limit;
            self.pace.fit(limit);
            self.evidence.forget();
        }
        if signals.is_429 {
            let wait = signals.wait(self.clocks.server_now(wall), self.window);
            // One that came earlier may have told more: requests under way are answered in any order.
            self.held_until = self.held_until.max(now.checked_add(wait));
            self.careful_since = Some(now);
            if self.foreign.per_window(now) <= 0.0 {
                self.evidence.forget();
            }
        }
        let remaining = signals.remaining.or(signals.is_429.then_some(0))?;
        let ending = self
            .clocks
            .ending(signals, entry.at, now, wall, self.window)?;
        Some(Sample {
            sent: entry.at,
            received: now,
            limit: self.limit,
            remaining: remaining.min(self.limit),
            requests: u32::from(!signals.is_429),
            own: self.log.own(entry, now),
            settled_before: entry.settled_before,
            ending,
        })
    }

    pub(super) fn learn(&mut self, sample: &Sample, is_429: bool) {
        let now = sample.received;
        self.last = Some(*sample);
        let opened = self.fixed.observe(sample);
        if !is_429 {
            self.evidence.observe(sample);
        }
        match &mut self.lease {
            // What others of us spend is not somebody else's; the purse can tell.
            Some(lease) => lease.hear(sample.limit.saturating_sub(sample.remaining)),
            None => self.find_foreign(sample),
        }
        let short = sample.remaining == 0
            && (self.evidence.kind() == Kind::Fixed || sample.own.most < sample.limit);
        if is_429 || short {
            self.careful_since = self.careful_since.or(Some(now));
        } else if self
            .careful_since
            .is_some_and(|since| sample.sent >= since || opened)
        {
            self.careful_since = None;
        }
    }

    fn find_foreign(&mut self, sample: &Sample) {
        let (now, under_way) = (sample.received, self.log.under_way(sample.received));
        match self.evidence.kind() {
            Kind::Fixed => {
                if let Some(units) = self.fixed.foreign(self.limit, under_way, now) {
                    self.foreign.observe(units, now);
                }
            }
            Kind::Bucket => {
                let level = Level {
                    sent: sample.sent,
                    received: now,
                    remaining: sample.remaining,
                    settled_before: sample.settled_before,
                    started: self.log.started_total(),
                };
                self.foreign.observe_level(level, self.limit);
            }
            Kind::Unknown | Kind::Sliding => {
                let used = sample.limit.saturating_sub(sample.remaining);
                let theirs = used.saturating_sub(sample.own.most);
                self.foreign.observe(f64::from(theirs), now);
            }
        }
    }
}
