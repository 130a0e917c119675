//! What is counted of Redis.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::shelf::Written;
use crate::telemetry::histogram::{DURATIONS, Histogram};

/// All that is counted of Redis.
#[derive(Debug)]
pub struct Numbers {
    calls: Family<CallLabels, Counter>,
    durations: Histogram,
    breaker: Gauge,
    connections: Counter,
    recalled: Family<ResultLabels, Counter>,
    writes: Family<ResultLabels, Counter>,
    messages: Family<MessageLabels, Counter>,
    /// How far a workspace's log is behind, in seconds, and who follows it.
    pub(super) lag: Family<WorkspaceLabels, Gauge<f64, AtomicU64>>,
    pub(super) replicas: Family<WorkspaceLabels, Gauge>,
    pub(super) suspect: Family<WorkspaceLabels, Gauge>,
    lost: Counter,
    unconfirmed: Counter,
    pub(super) leased: Family<WorkspaceLabels, Gauge>,
    pub(super) mode: Family<WorkspaceLabels, Gauge>,
    pub(super) granted: Family<WorkspaceLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MessageLabels {
    kind: &'static str,
}

/// A workspace by its name.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct WorkspaceLabels {
    workspace: String,
}

impl WorkspaceLabels {
    pub(super) fn of(workspace: &str) -> Self {
        Self {
            workspace: workspace.to_owned(),
        }
    }
}

/// What the second tier had for a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recalled {
    Hit,
    Negative,
    Miss,
    /// What stood there was too old, or not what was asked for.
    Stale,
    /// Somebody else fetches it.
    Busy,
    Error,
    /// What stood there did not open, or does not belong there.
    Broken,
}

impl Recalled {
    /// What was found.
    pub(super) fn of(is_absence: bool) -> Self {
        if is_absence {
            Self::Negative
        } else {
            Self::Hit
        }
    }
}

impl Numbers {
    /// Nothing yet; shown from now on in `registry`.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let numbers = Self {
            calls: Family::default(),
            durations: Histogram::new(DURATIONS),
            breaker: Gauge::default(),
            connections: Counter::default(),
            recalled: Family::default(),
            writes: Family::default(),
            messages: Family::default(),
            lag: Family::default(),
            replicas: Family::default(),
            suspect: Family::default(),
            lost: Counter::default(),
            unconfirmed: Counter::default(),
            leased: Family::default(),
            mode: Family::default(),
            granted: Family::default(),
        };
        numbers.show(registry);
        Arc::new(numbers)
    }

    fn show(&self, registry: &mut Registry) {
        let redis = registry.sub_registry_with_prefix("redis");
        redis.register("calls", "Calls, by what became of them", self.calls.clone());
        redis.register(
            "call_duration_seconds",
            "How long calls took",
            self.durations.clone(),
        );
        redis.register(
            "breaker",
            "Whether Redis is left alone: 0 no, 1 yes, 2 it is being tried",
            self.breaker.clone(),
        );
        redis.register(
            "connections",
            "Connections that were made",
            self.connections.clone(),
        );
        redis.register(
            "tier",
            "What the second tier had for lookups",
            self.recalled.clone(),
        );
        redis.register(
            "writes",
            "What became of what was to be written to the second tier",
            self.writes.clone(),
        );
        self.show_log(redis);
        self.show_budget(redis);
    }

    fn show_log(&self, redis: &mut Registry) {
        redis.register(
            "log_messages",
            "Changes heard from other gateways",
            self.messages.clone(),
        );
        redis.register(
            "log_lag_seconds",
            "How old the last change was when it was applied",
            self.lag.clone(),
        );
        redis.register(
            "replicas",
            "Gateways that were heard of lately, this one included",
            self.replicas.clone(),
        );
        redis.register(
            "suspect",
            "Whether changes may have been missed",
            self.suspect.clone(),
        );
        redis.register(
            "log_lost",
            "How often changes were missed, so that nobody in memory was believed any more",
            self.lost.clone(),
        );
        redis.register(
            "unconfirmed",
            "Changes that not every gateway has confirmed",
            self.unconfirmed.clone(),
        );
    }

    fn show_budget(&self, redis: &mut Registry) {
        redis.register(
            "budget_leased",
            "Units of the shared budget in hand",
            self.leased.clone(),
        );
        redis.register(
            "budget_mode",
            "How the budget is spent: 1 from leases, 2 as a share of its own, without Redis",
            self.mode.clone(),
        );
        redis.register(
            "budget_granted",
            "Units of the shared budget that were leased",
            self.granted.clone(),
        );
    }

    pub(super) fn called(&self, call: &'static str, outcome: &'static str, took: Duration) {
        self.calls
            .get_or_create(&CallLabels { call, outcome })
            .inc();
        // What was not sent took no time.
        if !matches!(outcome, "breaker" | "unconnected") {
            self.durations.observe(took);
        }
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn breaker(&self, state: i64) {
        self.breaker.set(state);
    }

    pub(super) fn heard(&self, kind: &'static str) {
        self.messages.get_or_create(&MessageLabels { kind }).inc();
    }

    pub(super) fn log_lost(&self) {
        self.lost.inc();
    }

    pub(super) fn unconfirmed(&self) {
        self.unconfirmed.inc();
    }

    pub(super) fn recalled(&self, recalled: Recalled) {
        let result = match recalled {
            Recalled::Hit => "hit",
            Recalled::Negative => "negative",
            Recalled::Miss => "miss",
            Recalled::Stale => "stale",
            Recalled::Busy => "busy",
            Recalled::Error => "error",
            Recalled::Broken => "broken",
        };
        self.recalled.get_or_create(&ResultLabels { result }).inc();
    }

    /// Counts something to be written; `None` if there was no room for it.
    pub(super) fn written(&self, written: Option<Written>) {
        let result = match written {
            Some(Written::Stored) => "stored",
            Some(Written::Older) => "older",
            Some(Written::Changed) => "changed",
            Some(Written::Unwritable) => "unwritable",
            Some(Written::Failed) => "failed",
            None => "dropped",
        };
        self.writes.get_or_create(&ResultLabels { result }).inc();
    }
}
