//! Numbers about the shield: what is left of each budget, who spends it, who waits and who is
//! turned away.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::histogram::{DURATIONS, Histogram};
use crate::shield::budget::{Kind, Snapshot};
use crate::shield::queue::Class;
use crate::shield::{self, Purpose};

/// The shield's metrics.
#[derive(Debug)]
pub(super) struct ShieldMetrics {
    limit: Family<WorkspaceLabels, Gauge>,
    remaining: Family<WorkspaceLabels, Gauge>,
    reset_seconds: Family<WorkspaceLabels, Gauge>,
    skew_seconds: Family<WorkspaceLabels, Gauge>,
    foreign: Family<WorkspaceLabels, Gauge<f64, AtomicU64>>,
    window: Family<WindowLabels, Gauge>,
    waiting: Family<WorkspaceLabels, Gauge>,
    waits: Family<ClassLabels, Histogram>,
    shed: Family<ReasonLabels, Counter>,
    spent: Family<SpentLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkspaceLabels {
    workspace: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WindowLabels {
    workspace: String,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    workspace: String,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    workspace: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SpentLabels {
    workspace: String,
    client: String,
    purpose: &'static str,
}

impl ShieldMetrics {
    /// Metrics that `registry` shows.
    pub(super) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            limit: Family::default(),
            remaining: Family::default(),
            reset_seconds: Family::default(),
            skew_seconds: Family::default(),
            foreign: Family::default(),
            window: Family::default(),
            waiting: Family::default(),
            waits: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            shed: Family::default(),
            spent: Family::default(),
        };
        metrics.register(registry);
        metrics
    }

    /// Notes how long a forward waited for its turn, and why it got none.
    pub(super) fn admitted(
        &self,
        workspace: &str,
        class: Class,
        waited: Duration,
        refused: Option<&shield::Error>,
    ) {
        let workspace = workspace.to_owned();
        if let Some(refused) = refused {
            let reason = refused.word();
            self.shed
                .get_or_create(&ReasonLabels { workspace, reason })
                .inc();
        } else {
            let class = class.word();
            self.waits
                .get_or_create(&ClassLabels { workspace, class })
                .observe(waited);
        }
    }

    /// Counts what a forward cost, to whom it is charged.
    pub(super) fn spent(&self, workspace: &str, client: &str, purpose: Purpose) {
        let labels = SpentLabels {
            workspace: workspace.to_owned(),
            client: client.to_owned(),
            purpose: purpose.word(),
        };
        self.spent
            .get_or_create(&labels)
            .inc_by(purpose.cost().into());
    }

    /// Takes over what is believed of a budget.
    pub(super) fn observe(&self, workspace: &str, budget: &Snapshot, waiting: usize) {
        let labels = WorkspaceLabels {
            workspace: workspace.to_owned(),
        };
        self.limit.get_or_create(&labels).set(budget.limit.into());
        self.remaining
            .get_or_create(&labels)
            .set(budget.remaining.into());
        let reset = budget.reset_in.map_or(0, |reset| reset.as_secs());
        self.reset_seconds
            .get_or_create(&labels)
            .set(i64::try_from(reset).unwrap_or(i64::MAX));
        self.skew_seconds.get_or_create(&labels).set(budget.skew_s);
        self.foreign
            .get_or_create(&labels)
            .set(budget.foreign_per_window);
        self.waiting
            .get_or_create(&labels)
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        for kind in [Kind::Unknown, Kind::Fixed, Kind::Sliding, Kind::Bucket] {
            let labels = WindowLabels {
                workspace: workspace.to_owned(),
                kind: word(kind),
            };
            self.window
                .get_or_create(&labels)
                .set(i64::from(kind == budget.kind));
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "budget_limit",
            "Requests a window, as believed",
            self.limit.clone(),
        );
        registry.register(
            "budget_remaining",
            "Requests left in it",
            self.remaining.clone(),
        );
        registry.register(
            "budget_reset_seconds",
            "Until it begins anew",
            self.reset_seconds.clone(),
        );
        registry.register(
            "budget_skew_seconds",
            "How far Flameup's clock is ahead of ours",
            self.skew_seconds.clone(),
        );
        registry.register(
            "budget_foreign",
            "Requests a window that somebody else spends from the same key, estimated",
            self.foreign.clone(),
        );
        registry.register(
            "budget_window",
            "1 for the kind of window found out",
            self.window.clone(),
        );
        registry.register(
            "budget_waiting",
            "Forwards that wait for their turn",
            self.waiting.clone(),
        );
        registry.register(
            "budget_wait_seconds",
            "How long forwards waited for their turn",
            self.waits.clone(),
        );
        registry.register("shed", "Forwards that were refused", self.shed.clone());
        registry.register(
            "budget_spent",
            "Requests of the budget spent, a retry counting twice",
            self.spent.clone(),
        );
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
