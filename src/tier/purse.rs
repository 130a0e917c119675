//! The purse of one Flameup key: its budget, leased in slices to whichever gateway wants them.
//!
//! One task a workspace asks it: at once when somebody waits, and from time to time to tell what was
//! spent. Where it does not answer for a second, the gateway goes on by itself.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Tier;
use super::link::{self, Call, Reply};
use super::names::WorkspaceNames;
use super::numbers::WorkspaceLabels;
use crate::config::ApiKey;
use crate::shield::Shield;
use crate::shield::budget::lease::{
    GONE_AFTER, Grant, Mode, REPORT_EVERY, REPORT_IDLE, REPORT_SOON, Report,
};

static LEASE: LazyLock<Call> =
    LazyLock::new(|| Call::new("lease", include_str!("scripts/lease.lua")));

/// Asks the purse for one workspace.
#[derive(Debug)]
pub(super) struct Purse {
    tier: Arc<Tier>,
    names: WorkspaceNames,
    workspace: WorkspaceLabels,
    shield: Arc<Shield>,
}

impl Purse {
    pub(super) fn new(
        tier: Arc<Tier>,
        names: WorkspaceNames,
        workspace: &str,
        shield: Arc<Shield>,
    ) -> Self {
        Self {
            tier,
            names,
            workspace: WorkspaceLabels::of(workspace),
            shield,
        }
    }

    /// Asks, for as long as it is polled.
    pub(super) async fn run(self) {
        let mut failing_since = None;
        loop {
            let (again_in, grant) = self.ask(&mut failing_since).await;
            self.show();
            if grant.is_some_and(|grant| grant.is_unknown) || self.shield.is_wanting() {
                sleep(grant.map_or(REPORT_SOON, |grant| grant.ask_again_in())).await;
            } else {
                // Whoever comes wakes it.
                sleep(REPORT_SOON).await;
                let _ = timeout(again_in, self.shield.wanting()).await;
            }
        }
    }

    /// Asks once; nothing is granted if the purse does not answer. Says when to ask again if nobody
    /// wants anything until then, too.
    async fn ask(&self, failing_since: &mut Option<Instant>) -> (Duration, Option<Grant>) {
        let Some((report, key)) = self.shield.report_to_purse() else {
            return (REPORT_IDLE, None);
        };
        if let Ok(reply) = self.call(&report, &key).await {
            *failing_since = None;
            let grant = Grant::from(reply.value);
            self.count(grant.units);
            self.shield.take_grant(grant);
            return (report.again_in(), Some(grant));
        }
        let now = self.tier.clock.now();
        let since = *failing_since.get_or_insert(now);
        let gone = now.saturating_duration_since(since) >= GONE_AFTER;
        self.shield.lose_purse(&report, gone);
        (REPORT_EVERY, None)
    }

    async fn call(&self, report: &Report, key: &ApiKey) -> Result<Reply<[u32; 10]>, link::Error> {
        let hash = self.names.hash_of_secret("key", key.expose().as_bytes());
        let call = self.tier.link.run(&LEASE, |script| {
            for kind in ['m', 's', 'g'] {
                script.key(self.names.of(kind, &hash));
            }
            script
                .arg(self.tier.replica.simple().to_string())
                .arg(report.numbers(self.shield.window()));
        });
        call.await
    }

    fn count(&self, units: u32) {
        let granted = self.tier.numbers.granted.get_or_create(&self.workspace);
        granted.inc_by(units.into());
    }

    fn show(&self) {
        let Some(standing) = self.shield.standing() else {
            return;
        };
        let numbers = &self.tier.numbers;
        numbers
            .leased
            .get_or_create(&self.workspace)
            .set(standing.in_hand.into());
        numbers
            .mode
            .get_or_create(&self.workspace)
            .set(match standing.mode {
                Mode::Leased => 1,
                Mode::Alone => 2,
            });
    }
}
