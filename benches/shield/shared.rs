//! What all gateways of a world have in common: Flameup, what they have stored, and their purse.
//!
//! What one of them has fetched all have, at once: the second tier, without its faults.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Instant;

use flameup_gateway::cache::freshness::Freshness;

use crate::World;
use crate::flameup::Flameup;
use crate::purse::Purse;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) flameup: RefCell<Flameup>,
    pub(crate) people: RefCell<HashMap<u32, Freshness>>,
    /// Where there is more than one gateway.
    pub(crate) purse: Option<Purse>,
    pub(crate) calls: Cell<u32>,
}

impl Shared {
    pub(crate) fn new(world: &World, start: Instant) -> Self {
        Self {
            flameup: RefCell::new(Flameup::new(world, start)),
            people: RefCell::default(),
            purse: world.shares.map(|shares| Purse::new(shares, start)),
            calls: Cell::new(0),
        }
    }
}
