//! All gateways of a world, each with its own events, in one time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Instant;

use crate::World;
use crate::gateway::Gateway;
use crate::shared::Shared;
use crate::tally::Tally;

/// Runs warm-up and measured time.
pub(crate) fn run(world: &World, start: Instant) -> Tally {
    let shared = Rc::new(Shared::new(world, start));
    let count = world.shares.map_or(1, |shares| shares.gateways);
    let mut gateways: Vec<Gateway> = (0..count)
        .map(|number| Gateway::new(world, start, number, Rc::clone(&shared)))
        .collect();
    let end = start + world.warm_up + world.measured;
    let mut next: BinaryHeap<_> = (0..count)
        .filter_map(|number| Some(Reverse((gateways[number].next_at()?, number))))
        .collect();
    while let Some(Reverse((at, number))) = next.pop()
        && at < end
    {
        gateways[number].step();
        next.extend(gateways[number].next_at().map(|at| Reverse((at, number))));
    }
    let tallies = gateways.into_iter().map(|gateway| gateway.tally);
    let mut tally = Tally::of_all(tallies.collect());
    tally.most = shared.flameup.borrow().most_in_a_window();
    tally.calls = shared.calls.get();
    tally
}
