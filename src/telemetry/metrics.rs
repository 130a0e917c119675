//! Numbers for Prometheus, by the names that dashboards know.
//!
//! Labels come from the configuration and from lists in the code, so their number is bounded; none
//! holds anything of a person's. What a hit touches is resolved beforehand and counted in sharded
//! atomics.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Spending;
use super::histogram::{AGES, DURATIONS, Histogram};
use super::shield::ShieldMetrics;
use super::trace::Trace;
use crate::auth::Caller;
use crate::cache::Cache;
use crate::cache::status::Outcome;
use crate::gateway::exchange::Ended;
use crate::route;
use crate::server;
use crate::shield::queue::CallerId;

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    /// The counters of plain hits, by client and route. Replaced whole, so that to read takes no lock.
    hits: ArcSwap<Hits>,
    pub(super) shield: ShieldMetrics,
    served_ages: Histogram,
    stale: Family<CauseLabels, Counter>,
    durations: Family<OutcomeLabels, Histogram>,
    /// The members of `durations`, each at its outcome's index.
    duration: [Histogram; Outcome::ALL.len()],
    collapsed: Counter,
    upstream_requests: Family<ForwardLabels, Counter>,
    upstream_durations: Family<PurposeLabels, Traced, fn() -> Traced>,
    foreign_workspaces: Family<WorkspaceLabels, Counter>,
    connections: server::Numbers,
    cache_entries: Family<KindLabels, Gauge>,
    cache_bytes: Family<KindLabels, Gauge>,
    evictions: Family<EvictionLabels, Counter>,
    invalidations: Family<CauseLabels, Counter>,
    looked_up: Family<BatchLabels, Counter>,
    no_room: Counter,
    limited: Family<LimitLabels, Counter>,
    spans: Spans,
}

/// Durations, each range of them with the trace of one as an example.
type Traced = HistogramWithExemplars<TraceLabels>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TraceLabels {
    trace_id: String,
}

/// By caller, one counter for each route that memory may answer.
type Hits = HashMap<CallerId, [Counter; route::CACHED_NAMES.len()], ahash::RandomState>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    workspace: String,
    client: String,
    route: &'static str,
    status: u16,
    cache: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    cache: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BatchLabels {
    workspace: String,
    client: String,
    cache: &'static str,
}

/// What became of spans.
#[derive(Clone, Debug, Default)]
pub struct Spans(Family<SpanLabels, Counter>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SpanLabels {
    fate: &'static str,
}

impl Spans {
    /// Counts some: `sent`, or dropped because of the `queue` or the `collector`.
    pub(super) fn count(&self, fate: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0.get_or_create(&SpanLabels { fate }).inc_by(count);
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabels {
    client: String,
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ForwardLabels {
    workspace: String,
    purpose: &'static str,
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PurposeLabels {
    workspace: String,
    purpose: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkspaceLabels {
    workspace: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EvictionLabels {
    kind: &'static str,
    cause: &'static str,
}

impl Metrics {
    /// Metrics that know `callers` beforehand.
    pub fn new<'a>(callers: impl IntoIterator<Item = &'a Arc<Caller>>) -> Self {
        let mut registry = Registry::with_prefix("flameup_gateway");
        let durations: Family<OutcomeLabels, Histogram> =
            Family::new_with_constructor(|| Histogram::new(DURATIONS));
        let metrics = Self {
            shield: ShieldMetrics::new(&mut registry),
            served_ages: Histogram::new(AGES),
            stale: Family::default(),
            requests: Family::default(),
            hits: ArcSwap::default(),
            duration: Outcome::ALL.map(|outcome| {
                durations
                    .get_or_create(&OutcomeLabels {
                        cache: outcome.word(),
                    })
                    .clone()
            }),
            durations,
            collapsed: Counter::default(),
            upstream_requests: Family::default(),
            upstream_durations: Family::new_with_constructor(|| {
                Traced::new(DURATIONS.iter().copied())
            }),
            foreign_workspaces: Family::default(),
            connections: server::Numbers::default(),
            cache_entries: Family::default(),
            cache_bytes: Family::default(),
            evictions: Family::default(),
            invalidations: Family::default(),
            looked_up: Family::default(),
            no_room: Counter::default(),
            limited: Family::default(),
            spans: Spans::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        metrics.know(callers);
        Self {
            registry,
            ..metrics
        }
    }

    /// Knows these callers beforehand from now on. Any other's hits are counted as well, at the price
    /// of a lock.
    pub fn know<'a>(&self, callers: impl IntoIterator<Item = &'a Arc<Caller>>) {
        self.hits.store(Arc::new(self.resolve_hits(callers)));
    }

    /// Counts a request that was answered.
    pub(super) fn answered(&self, ended: &Ended<'_>) {
        let outcome = ended.cache.outcome();
        self.duration[outcome as usize].observe(ended.duration);
        if outcome == Outcome::Collapsed {
            self.collapsed.inc();
        }
        if let Some(age) = ended.age {
            self.served_ages.observe(Duration::from_secs(age));
        }
        if let Some(cause) = ended.cache.stale_cause() {
            self.stale.get_or_create(&CauseLabels { cause }).inc();
        }
        if outcome == Outcome::Hit
            && ended.status == http::StatusCode::OK
            && let Some(caller) = ended.caller
            && self.hit(caller.id(), ended.route)
        {
            return;
        }
        let labels = RequestLabels {
            workspace: ended
                .caller
                .map_or("-", |caller| caller.workspace().name())
                .to_owned(),
            client: ended
                .caller
                .map_or("-", |caller| &**caller.name())
                .to_owned(),
            route: ended.route,
            status: ended.status.as_u16(),
            cache: outcome.word(),
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts a forward that has ended.
    pub(super) fn forwarded(&self, forward: &Spending<'_>, trace: Option<Trace>) {
        let (workspace, purpose) = (forward.workspace.to_owned(), forward.purpose.word());
        let labels = PurposeLabels {
            workspace: workspace.clone(),
            purpose,
        };
        let example = trace.filter(Trace::is_sampled).map(|trace| TraceLabels {
            trace_id: trace.id(),
        });
        self.upstream_durations.get_or_create(&labels).observe(
            forward.duration.as_secs_f64(),
            example,
            None,
        );
        let status = forward
            .status
            .map_or("none".to_owned(), |status| status.as_str().to_owned());
        self.upstream_requests
            .get_or_create(&ForwardLabels {
                workspace,
                purpose,
                status,
            })
            .inc();
    }

    /// Counts a change, a purge or an erasure.
    pub fn invalidated(&self, cause: &'static str) {
        self.invalidations
            .get_or_create(&CauseLabels { cause })
            .inc();
    }

    /// Counts one id of a lookup of many.
    pub fn looked_up(&self, workspace: &str, client: &str, outcome: Outcome) {
        let labels = BatchLabels {
            workspace: workspace.to_owned(),
            client: client.to_owned(),
            cache: outcome.word(),
        };
        self.looked_up.get_or_create(&labels).inc();
    }

    /// Counts a lookup of many whose answer there was no room for.
    pub fn no_room(&self) {
        self.no_room.inc();
    }

    /// Counts a request that is more than its client may ask.
    pub fn limited(&self, client: &str, limit: &'static str) {
        let client = client.to_owned();
        self.limited
            .get_or_create(&LimitLabels { client, limit })
            .inc();
    }

    /// Where others show numbers of their own.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The count of spans.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Counts an alarm about a key.
    pub(super) fn foreign_workspace(&self, workspace: &str) {
        let labels = WorkspaceLabels {
            workspace: workspace.to_owned(),
        };
        self.foreign_workspaces.get_or_create(&labels).inc();
    }

    /// Takes over what the cache counts itself.
    pub fn observe_cache<F: Clone>(&self, cache: &Cache<F>) {
        for (kind, store) in [("person", cache.people()), ("absence", cache.absences())] {
            let labels = KindLabels { kind };
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            self.cache_entries
                .get_or_create(&labels)
                .set(gauge(store.len()));
            self.cache_bytes
                .get_or_create(&labels)
                .set(gauge(store.bytes()));
            let evictions = store.evictions();
            for (cause, count) in [("size", &evictions.size), ("expired", &evictions.expired)] {
                let counter = self
                    .evictions
                    .get_or_create(&EvictionLabels { kind, cause })
                    .clone();
                counter
                    .inner()
                    .store(count.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// What the clients' listeners count.
    pub fn connections(&self) -> &server::Numbers {
        &self.connections
    }

    /// Everything, as `OpenMetrics` text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts a plain hit; tells whether the caller was known beforehand.
    fn hit(&self, caller: CallerId, route: &'static str) -> bool {
        let hits = self.hits.load();
        let at = route::CACHED_NAMES.iter().position(|name| *name == route);
        let counters = at.zip(hits.get(&caller));
        let counter = counters.and_then(|(at, counters)| counters.get(at));
        counter.is_some_and(|counter| {
            counter.inc();
            true
        })
    }

    /// Resolves the counters of plain hits, so that a hit takes no lock.
    fn resolve_hits<'a>(&self, callers: impl IntoIterator<Item = &'a Arc<Caller>>) -> Hits {
        let counters = |caller: &Arc<Caller>| {
            route::CACHED_NAMES.map(|route| {
                let labels = RequestLabels {
                    workspace: caller.workspace().name().to_owned(),
                    client: caller.name().to_string(),
                    route,
                    status: 200,
                    cache: Outcome::Hit.word(),
                };
                self.requests.get_or_create(&labels).clone()
            })
        };
        callers
            .into_iter()
            .map(|caller| (caller.id(), counters(caller)))
            .collect()
    }

    fn register(&self, registry: &mut Registry) {
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program that runs", Info::new(build));
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "From the head of a request to the head of its response",
            self.durations.clone(),
        );
        registry.register(
            "served_age_seconds",
            "Age of what was served from memory",
            self.served_ages.clone(),
        );
        registry.register(
            "stale",
            "Stale answers, by what they were served for",
            self.stale.clone(),
        );
        registry.register(
            "collapsed",
            "Requests answered by another's forward",
            self.collapsed.clone(),
        );
        registry.register(
            "upstream_requests",
            "Requests sent to Flameup",
            self.upstream_requests.clone(),
        );
        registry.register(
            "upstream_duration_seconds",
            "From sending to the last byte",
            self.upstream_durations.clone(),
        );
        registry.register(
            "foreign_workspaces",
            "People of another workspace than the key has shown before",
            self.foreign_workspaces.clone(),
        );
        registry.register(
            "connections",
            "Open client connections",
            self.connections.open.clone(),
        );
        registry.register(
            "connections_refused",
            "Client connections for which there was no room",
            self.connections.refused.clone(),
        );
        registry.register(
            "limits_reached",
            "Connections and requests that met a limit, by its key in server.limits",
            self.connections.reached.clone(),
        );
        registry.register(
            "spans",
            "Spans of traces, by what became of them",
            self.spans.0.clone(),
        );
        registry.register(
            "client_limited",
            "Requests that were more than their client may ask of this gateway",
            self.limited.clone(),
        );
        registry.register(
            "handshakes",
            "TLS handshakes and PROXY headers of clients, by how they ended",
            self.connections.handshakes.clone(),
        );
        registry.register(
            "certificate_reloads",
            "Changed certificate files, by whether they could be taken",
            self.connections.certificate_reloads.clone(),
        );
        self.register_cache(registry);
    }

    fn register_cache(&self, registry: &mut Registry) {
        registry.register(
            "cache_entries",
            "Entries stored",
            self.cache_entries.clone(),
        );
        registry.register(
            "cache_bytes",
            "Bytes stored, by our own count",
            self.cache_bytes.clone(),
        );
        registry.register(
            "cache_evictions",
            "Entries gone for room or age",
            self.evictions.clone(),
        );
        registry.register(
            "invalidations",
            "Changes, purges and erasures, each counted once",
            self.invalidations.clone(),
        );
        registry.register(
            "looked_up",
            "Ids of lookups of many, each counted by itself",
            self.looked_up.clone(),
        );
        registry.register(
            "lookups_without_room",
            "Lookups of many that were refused because other answers wait for their clients",
            self.no_room.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::workspace;
    use crate::config::{EmailCase, Scopes};
    use crate::shield::queue::Class;

    fn caller(id: u32) -> Arc<Caller> {
        let workspace = Arc::new(workspace(0, EmailCase::Insensitive));
        let (scopes, class) = (Scopes::NONE, Class::Interactive);
        let id = CallerId(id);
        Arc::new(Caller::new("c", id, workspace, scopes, class, 1))
    }

    #[test]
    fn callers_of_another_configuration_are_known_beforehand_as_the_first_are() {
        let metrics = Metrics::new(&[caller(0)]);
        assert!(metrics.hit(CallerId(0), route::CACHED_NAMES[0]));
        assert!(!metrics.hit(CallerId(1), route::CACHED_NAMES[0]));
        metrics.know(&[caller(0), caller(1)]);
        for id in [0, 1] {
            assert!(metrics.hit(CallerId(id), route::CACHED_NAMES[0]), "{id}");
        }
        assert!(!metrics.hit(CallerId(0), "anything"));
    }
}
