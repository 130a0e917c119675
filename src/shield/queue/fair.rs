//! Fair order between the callers of one class.
//!
//! Shares follow weights as in deficit round robin, and like there an idle caller gathers no
//! credit. Turns are told by tags (start-time fair queueing) instead of rounds: a caller's tag grows
//! by cost / weight with each start, and the lowest tag starts next. Rounds would let a caller of
//! weight 1,000 send 1,000 requests before its neighbour sends one, eight minutes at two a second;
//! tags interleave them evenly, and they tell beforehand how many units start before a newcomer,
//! which is what admission wants to know.
//!
//! Requests that redeem a promise stand before all others, in order of arrival. They are charged to
//! their caller's tag too, so that promises do not come on top of its share.
//!
//! # Invariants
//! - `order` names exactly the callers whose line is not empty.
//! - Within a caller's line, requests start in order of arrival.
//!
//! # Units
//! Tags count parts of a unit: one unit at weight 1 is [`SCALE`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::CallerId;

/// Tag of one unit at weight 1; fine enough that weight 1,000 is told from 999.
const SCALE: u64 = 1 << 30;

/// Most units by which redeemed promises may put a caller behind. Without a bound, a caller served
/// by promises alone would wait for callers that slept all the while: credit for idleness.
const LONGEST_DEBT: u64 = 8;

/// Empty lines kept before those that carry no debt any more are dropped.
const IDLE_KEPT: usize = 64;

/// One waiting request, as far as its turn depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Grows with each arrival.
    pub(super) id: u64,
    pub(super) caller: CallerId,
    pub(super) cost: u32,
    pub(super) weight: u32,
}

/// The waiting requests of one class.
#[derive(Debug, Default)]
pub(super) struct Lane {
    redeeming: VecDeque<Entry>,
    lines: BTreeMap<CallerId, Line>,
    order: BTreeSet<(u64, u64, CallerId)>,
    virtual_time: u64,
    units: u32,
    len: usize,
}

#[derive(Debug, Default)]
struct Line {
    tag: u64,
    entries: VecDeque<Entry>,
    units: u32,
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Units that wait here.
    pub(super) fn units(&self) -> u32 {
        self.units
    }

    /// Puts a request at the end of its caller's line, or among those that redeem a promise.
    pub(super) fn push(&mut self, entry: Entry, redeems: bool) {
        self.units += entry.cost;
        self.len += 1;
        if redeems {
            self.redeeming.push_back(entry);
            return;
        }
        let line = self.lines.entry(entry.caller).or_default();
        if line.entries.is_empty() {
            line.tag = line.tag.max(self.virtual_time);
            self.order.insert((line.tag, entry.id, entry.caller));
        }
        line.units += entry.cost;
        line.entries.push_back(entry);
    }

    /// The request whose turn is next.
    pub(super) fn first(&self) -> Option<u64> {
        let redeeming = self.redeeming.front().map(|entry| entry.id);
        redeeming.or_else(|| self.order.first().map(|&(_, id, _)| id))
    }

    /// Takes out the request whose turn is next, and says what its caller's tag grew by.
    pub(super) fn pop(&mut self) -> Option<(Entry, u64)> {
        let (entry, charged) = match self.redeeming.pop_front() {
            Some(entry) => (entry, self.charge_redeemed(entry)),
            None => self.pop_fair()?,
        };
        self.units -= entry.cost;
        self.len -= 1;
        self.drop_idle();
        Some((entry, charged))
    }

    /// Takes back what a caller was charged for a request that did not start after all.
    pub(super) fn give_back(&mut self, caller: CallerId, charged: u64) {
        let Some(line) = self.lines.get_mut(&caller) else {
            return; // It owes nothing any more.
        };
        let after = line.tag.saturating_sub(charged);
        if let Some(head) = line.entries.front() {
            self.order.remove(&(line.tag, head.id, caller));
            self.order.insert((after, head.id, caller));
        }
        line.tag = after;
    }

    /// Takes out a request that will not start.
    pub(super) fn remove(&mut self, caller: CallerId, id: u64) {
        let cost = if let Some(at) = self.redeeming.iter().position(|entry| entry.id == id) {
            self.redeeming.remove(at).map(|entry| entry.cost)
        } else {
            self.remove_from_line(caller, id)
        };
        if let Some(cost) = cost {
            self.units -= cost;
            self.len -= 1;
        }
    }

    /// Units that start before a request of this caller if it came now and nobody after it.
    pub(super) fn units_before(&self, caller: CallerId, weight: u32, redeems: bool) -> u32 {
        let redeeming = self.redeeming.iter().map(|entry| entry.cost).sum();
        if redeems {
            return redeeming;
        }
        let own = self.lines.get(&caller);
        let own_units = own.map_or(0, |line| line.units);
        let tag = own.map_or(0, |line| line.tag).max(self.virtual_time);
        let tag = tag + advance(own_units, weight);
        let others = self.lines.iter().filter(|&(other, _)| *other != caller);
        let others: u32 = others.map(|(_, line)| line.units_up_to(tag)).sum();
        redeeming + own_units + others
    }

    /// Whether this caller waits already, or has had its turn before others that wait or come now.
    pub(super) fn is_ahead(&self, caller: CallerId) -> bool {
        let line = self.lines.get(&caller);
        line.is_some_and(|line| !line.entries.is_empty() || line.tag > self.virtual_time)
    }

    fn pop_fair(&mut self) -> Option<(Entry, u64)> {
        let (tag, _, caller) = self.order.pop_first()?;
        let line = self.lines.get_mut(&caller)?;
        let entry = line.entries.pop_front()?;
        self.virtual_time = self.virtual_time.max(tag);
        line.units -= entry.cost;
        let charged = advance(entry.cost, entry.weight);
        line.tag = tag + charged;
        if let Some(head) = line.entries.front() {
            self.order.insert((line.tag, head.id, caller));
        }
        Some((entry, charged))
    }

    fn charge_redeemed(&mut self, entry: Entry) -> u64 {
        let line = self.lines.entry(entry.caller).or_default();
        let before = line.tag.max(self.virtual_time);
        let furthest = self.virtual_time + LONGEST_DEBT * SCALE / u64::from(entry.weight);
        let after = (before + advance(entry.cost, entry.weight)).min(furthest.max(before));
        if let Some(head) = line.entries.front() {
            self.order.remove(&(line.tag, head.id, entry.caller));
            self.order.insert((after, head.id, entry.caller));
        }
        line.tag = after;
        after - before
    }

    fn remove_from_line(&mut self, caller: CallerId, id: u64) -> Option<u32> {
        let line = self.lines.get_mut(&caller)?;
        let at = line.entries.iter().position(|entry| entry.id == id)?;
        let entry = line.entries.remove(at)?;
        line.units -= entry.cost;
        if at == 0 {
            self.order.remove(&(line.tag, id, caller));
            if let Some(head) = line.entries.front() {
                self.order.insert((line.tag, head.id, caller));
            }
        }
        Some(entry.cost)
    }

    /// Forgets callers that neither wait nor owe; rarely, so that it costs little per start.
    fn drop_idle(&mut self) {
        if self.lines.len() > IDLE_KEPT + 2 * self.order.len() {
            let now = self.virtual_time;
            self.lines
                .retain(|_, line| !line.entries.is_empty() || line.tag > now);
        }
    }
}

impl Line {
    /// Units of this line whose tag is at most `tag`.
    fn units_up_to(&self, tag: u64) -> u32 {
        let Some(head) = self.entries.front() else {
            return 0;
        };
        let Some(gap) = tag.checked_sub(self.tag) else {
            return 0;
        };
        let units = gap / advance(1, head.weight).max(1) + 1;
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units)
    }
}

fn advance(cost: u32, weight: u32) -> u64 {
    u64::from(cost) * SCALE / u64::from(weight.max(1))
}
