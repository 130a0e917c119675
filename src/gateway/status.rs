//! How the whole gateway stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Gateway;
use crate::cache::store::Store;
use crate::shield::budget::Kind;
use crate::shield::budget::lease::Mode;
use crate::shield::{Report, breaker};
use crate::tier::Shared;
use crate::workspace::Workspace;

/// The gateway at a moment.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What runs.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether it takes no more work.
    pub draining: bool,
    /// Where clients are listened to.
    pub listeners: Vec<String>,
    /// Each workspace.
    pub workspaces: Vec<WorkspaceStatus>,
    /// What is stored.
    pub cache: CacheStatus,
    /// What is shared with other gateways, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisStatus>,
}

/// How a gateway stands to those that it shares a Redis with.
#[derive(Debug, Serialize)]
pub struct RedisStatus {
    /// Whether calls reach Redis, as far as is known.
    pub reached: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Each workspace.
    pub workspaces: Vec<SharedStatus>,
}

/// What is shared of one workspace.
#[derive(Debug, Serialize)]
pub struct SharedStatus {
    /// Our name for it.
    pub name: String,
    /// `leased`, or `alone` while the purse does not answer.
    pub budget: &'static str,
    /// Units of the budget in hand.
    pub leased: u32,
    /// Gateways that share the budget, this one included.
    pub gateways: u32,
    /// Whether changes may have been missed, so that Redis is asked before memory is believed.
    pub suspect: bool,
    /// Milliseconds that this gateway is behind the one that has followed the log furthest.
    pub behind_ms: u64,
    /// Other gateways that changes are told to, by their ids.
    pub replicas: Vec<String>,
}

/// One workspace.
#[derive(Debug, Serialize)]
pub struct WorkspaceStatus {
    /// Our name for it.
    pub name: String,
    /// How the way to Flameup stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// How the way to Flameup stands under one key.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// What is believed of the limit.
    pub budget: Budget,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// Seconds until an open breaker lets a probe pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker_probes_in_s: Option<u64>,
    /// `accepted` or `refused`.
    pub key: &'static str,
}

/// What is believed of Flameup's limit.
#[derive(Debug, Serialize)]
pub struct Budget {
    /// Requests a window.
    pub limit: u32,
    /// Requests left in it.
    pub remaining: u32,
    /// Requests that refreshes may take of them.
    pub left_for_refreshes: u32,
    /// Seconds until the window ends; `None` if unknown.
    pub reset_in_s: Option<u64>,
    /// How the window moves.
    pub window: &'static str,
    /// Requests a window that somebody else spends.
    pub foreign: f64,
}

/// What is stored.
#[derive(Debug, Serialize)]
pub struct CacheStatus {
    /// People.
    pub people: StoreStatus,
    /// Remembered 404s.
    pub absences: StoreStatus,
    /// Bytes that both may take together.
    pub max_bytes: u64,
    /// Seconds for which a person is fresh, at most.
    pub ttl_s: u64,
    /// Seconds of age beyond which no person is served, whatever fails.
    pub max_age_s: u64,
}

/// What one store holds.
#[derive(Debug, Serialize)]
pub struct StoreStatus {
    /// How many.
    pub entries: u64,
    /// Bytes, by our own count.
    pub bytes: u64,
}

impl Gateway {
    /// How the gateway stands. Who listens, and whether the process drains, is not the gateway's
    /// to know.
    pub fn status(&self, listeners: Vec<String>, draining: bool) -> Status {
        let now = self.clock.now();
        self.cache.maintain(now);
        let workspaces = self.workspaces.iter().map(|workspace| WorkspaceStatus {
            name: workspace.name().to_owned(),
            standing: Standing::of(&workspace.shield().report(), now),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: now.saturating_duration_since(self.started_at).as_secs(),
            draining,
            listeners,
            workspaces: workspaces.collect(),
            cache: CacheStatus {
                people: StoreStatus::of(self.cache.people()),
                absences: StoreStatus::of(self.cache.absences()),
                max_bytes: self.cache.max_bytes(),
                ttl_s: self.cache.ttl().as_secs(),
                max_age_s: self.cache.max_age().as_secs(),
            },
            redis: self.shared.as_ref().map(|shared| self.redis_status(shared)),
        }
    }

    fn redis_status(&self, shared: &Shared) -> RedisStatus {
        let of = |workspace: &Arc<Workspace>| {
            let log = shared.log(workspace.number())?;
            let standing = workspace.shield().standing()?;
            let replicas = log.replicas(None).into_iter();
            Some(SharedStatus {
                name: workspace.name().to_owned(),
                budget: match standing.mode {
                    Mode::Leased => "leased",
                    Mode::Alone => "alone",
                },
                leased: standing.in_hand,
                gateways: standing.gateways,
                suspect: log.is_suspect(),
                behind_ms: log.behind_ms(),
                replicas: replicas.map(|replica| replica.replica).collect(),
            })
        };
        let (reached, breaker) = shared.state();
        RedisStatus {
            reached,
            breaker: breaker_word(breaker),
            workspaces: self.workspaces.iter().filter_map(of).collect(),
        }
    }
}

fn breaker_word(state: breaker::State) -> &'static str {
    match state {
        breaker::State::Closed => "closed",
        breaker::State::Open { .. } => "open",
        breaker::State::HalfOpen => "half_open",
    }
}

impl Standing {
    pub(super) fn of(report: &Report, now: Instant) -> Self {
        let budget = &report.budget;
        let due = match report.breaker {
            breaker::State::Open { until } => Some(until),
            breaker::State::Closed | breaker::State::HalfOpen => None,
        };
        Self {
            budget: Budget {
                limit: budget.limit,
                remaining: budget.remaining,
                left_for_refreshes: report.leftover,
                reset_in_s: budget.reset_in.map(|reset: Duration| reset.as_secs()),
                window: word(budget.kind),
                foreign: budget.foreign_per_window,
            },
            waiting: report.waiting,
            breaker: breaker_word(report.breaker),
            breaker_probes_in_s: due.map(|due| due.saturating_duration_since(now).as_secs()),
            key: if report.key_refused {
                "refused"
            } else {
                "accepted"
            },
        }
    }
}

impl StoreStatus {
    fn of(store: &Store) -> Self {
        Self {
            entries: store.len(),
            bytes: store.bytes(),
        }
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Unknown => "unknown",
        Kind::Fixed => "fixed",
        Kind::Sliding => "sliding",
        Kind::Bucket => "bucket",
    }
}
