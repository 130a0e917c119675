//! What a plain cache makes of the same traffic: each answer is kept for its time to live, each miss
//! is forwarded at once, and a 429 is the caller's error.

use std::collections::HashMap;
use std::time::Instant;

use crate::flameup::{Flameup, Foreign};
use crate::tally::percent;
use crate::traffic::Traffic;
use crate::{TTL, World};

/// What came of it in the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plain {
    lookups: u32,
    pub(crate) refused: u32,
}

impl Plain {
    /// Lookups that ended in an error, in per cent.
    pub(crate) fn errors(self) -> f64 {
        percent(self.refused, self.lookups)
    }

    pub(crate) fn run(world: &World, start: Instant) -> Self {
        let mut flameup = Flameup::new(world, start);
        let (mut traffic, mut foreign) = (Traffic::new(world.load), Foreign::new());
        let mut next_foreign = world.foreign.then(|| start + foreign.gap());
        let mut fetched: HashMap<u32, Instant> = HashMap::new();
        let (mut now, mut plain) = (start, Self::default());
        loop {
            let (gap, lookup) = traffic.next();
            now += gap;
            if now >= start + world.warm_up + world.measured {
                return plain;
            }
            while let Some(at) = next_foreign.filter(|&at| at <= now) {
                flameup.count(at);
                next_foreign = Some(at + foreign.gap());
            }
            let is_measured = now >= start + world.warm_up;
            plain.lookups += u32::from(is_measured);
            let is_fresh = |at: &Instant| now - *at < TTL;
            if fetched.get(&lookup.person).is_some_and(is_fresh) {
                continue;
            }
            if flameup.count(now).is_allowed() {
                fetched.insert(lookup.person, now);
            } else {
                plain.refused += u32::from(is_measured);
            }
        }
    }
}
