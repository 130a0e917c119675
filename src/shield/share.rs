//! A shield whose budget other gateways share: what it tells the purse of all, and takes from it.

use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;

use super::budget::lease::{Grant, Mode, Report};
use super::queue::Class;
use super::{Shield, State};
use crate::config::ApiKey;

/// How a shared budget stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How units are had.
    pub mode: Mode,
    /// Units in hand.
    pub in_hand: u32,
    /// Gateways that share it.
    pub gateways: u32,
}

impl Shield {
    /// Shares the budget with others from now on; so many until the purse has told. `turn` is where
    /// among them this one stands, from 0 to 1.
    pub fn share(&self, gateways: u32, turn: f64) {
        let now = self.clock.now();
        self.state.lock().budget.share(gateways, turn, now);
    }

    /// What to tell the purse, and the key that its budget is of. It is told once; what comes of it
    /// goes to [`take_grant`](Self::take_grant) or [`lose_purse`](Self::lose_purse).
    pub fn report_to_purse(&self) -> Option<(Report, ApiKey)> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let waiting = state.waiting();
        let report = state.budget.report(waiting, now)?;
        Some((report, state.keys.current().clone()))
    }

    /// Takes what the purse has said, and calls whose turn it is.
    pub fn take_grant(&self, grant: Grant) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.budget.take_grant(grant, now);
        state.stir(now);
    }

    /// The purse may not have heard a report. If it is `gone`, each gateway goes on by itself.
    pub fn lose_purse(&self, report: &Report, gone: bool) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.budget.lose_purse(report, gone, now);
        state.stir(now);
    }

    /// A refresh found no unit.
    pub(super) fn want_refresh(&self) {
        if self.state.lock().budget.want_refresh(self.clock.now()) {
            self.wanting.notify_one();
        }
    }

    /// Ends when units are wanted that are not in hand.
    pub fn wanting(&self) -> Notified<'_> {
        self.wanting.notified()
    }

    /// Whether somebody waits for units.
    pub fn is_wanting(&self) -> bool {
        self.state.lock().waits_for_units()
    }

    /// How a shared budget stands; `None` for one that is not.
    pub fn standing(&self) -> Option<Standing> {
        let state = self.state.lock();
        let (in_hand, gateways) = state.budget.leased()?;
        Some(Standing {
            mode: state.budget.mode()?,
            in_hand,
            gateways,
        })
    }

    /// The window that the budget is of.
    pub fn window(&self) -> Duration {
        self.settings.window
    }
}

impl State {
    /// How many wait, by class.
    fn waiting(&self) -> [u32; 3] {
        let count = |class| u32::try_from(self.queue.waiting(class)).unwrap_or(u32::MAX);
        [Class::Interactive, Class::Service, Class::Batch].map(count)
    }

    /// Whether units are leased, and somebody waits for some.
    fn waits_for_units(&self) -> bool {
        self.budget.mode() == Some(Mode::Leased) && !self.queue.is_empty()
    }

    /// The same, or none are left for whoever comes next.
    pub(super) fn wants_units(&self, now: Instant) -> bool {
        self.waits_for_units() || self.budget.lacks_stock(now)
    }
}
