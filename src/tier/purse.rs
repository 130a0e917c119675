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
use crate::shield::budget::lease::{Grant, Mode, Report};

static LEASE: LazyLock<Call> =
    LazyLock::new(|| Call::new("lease", include_str!("scripts/lease.lua")));

/// Between two reports while nobody wants anything. Well below what the purse forgets a gateway after.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// The shortest time between two questions while somebody waits: units come at two a second.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The purse is gone if it has said nothing for so long. Shorter than a lease, so that nobody spends
/// leased units and its own share at a time.
const GONE_AFTER: Duration = Duration::from_secs(1);

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
        let mut heard = self.tier.clock.now();
        loop {
            let next = self.ask(&mut heard).await.unwrap_or(ASK_EVERY);
            self.show();
            if self.shield.is_wanting() {
                // Others may give back what they have.
                sleep((next / 2).clamp(ASK_EVERY, REPORT_EVERY)).await;
            } else {
                // Whoever comes wakes it.
                let _ = timeout(REPORT_EVERY, self.shield.wanting()).await;
            }
        }
    }

    /// Asks once. Returns when the purse has more, as far as it knows.
    async fn ask(&self, heard: &mut Instant) -> Option<Duration> {
        let (report, key) = self.shield.report_to_purse()?;
        if let Ok(reply) = self.call(&report, &key).await {
            *heard = reply.heard;
            let Granted(grant) = reply.value;
            self.count(grant.units);
            self.shield.take_grant(grant);
            return Some(grant.next_in);
        }
        let silence = self.tier.clock.now().saturating_duration_since(*heard);
        self.shield.lose_purse(&report, silence >= GONE_AFTER);
        None
    }

    async fn call(&self, report: &Report, key: &ApiKey) -> Result<Reply<Granted>, link::Error> {
        let hash = self.names.hash_of_secret("key", key.expose().as_bytes());
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let call = self.tier.link.run(&LEASE, |script| {
            for kind in ['m', 's', 'g'] {
                script.key(self.names.of(kind, &hash));
            }
            script
                .arg(self.tier.replica.simple().to_string())
                .arg(report.spent)
                .arg(report.has)
                .arg(&report.wants[..])
                .arg(report.limit)
                .arg(u8::from(report.has_learned))
                .arg(ms(self.shield.window()))
                .arg(ms(report.held_for))
                .arg(report.used.map_or(-1, i64::from));
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

/// A grant as the script returns it.
struct Granted(Grant);

impl redis::FromRedisValue for Granted {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let numbers: [u32; 9] = redis::FromRedisValue::from_redis_value(value)?;
        let [
            units,
            limit,
            held_ms,
            gateways,
            next_ms,
            share,
            free,
            is_new,
            ready,
        ] = numbers;
        Ok(Self(Grant {
            units,
            limit,
            held_for: Duration::from_millis(held_ms.into()),
            gateways,
            next_in: Duration::from_millis(next_ms.into()),
            share: f64::from(share) / 1000.0,
            free,
            is_new: is_new == 1,
            ready,
        }))
    }
}
