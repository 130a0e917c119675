//! What operators see: metrics, and logs that name nobody.
//!
//! # Invariants
//! - No metric label and no log field holds an identifier, an e-mail, a token or a key. People
//!   appear as keyed hashes; the key is random and lives as long as the process, unless one is
//!   configured.
//! - A failure is logged once, where it is handled: here.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use http::{HeaderMap, StatusCode};
use opentelemetry::KeyValue;
use parking_lot::Mutex;
use tracing::{error, info, warn};

pub mod histogram;
pub mod log;
pub mod metrics;
mod shield;
pub mod trace;

use crate::cache::key::CacheKey;
use crate::cache::status::Outcome;
use crate::config::{AccessLog, HashKey};
use crate::failure::Failure;
use crate::gateway::exchange::Ended;
use crate::shield::queue::Class;
use crate::shield::{self as gate, Purpose};
use crate::upstream::receipt::Stages;
use crate::workspace::Workspace;
use metrics::Metrics;
use trace::{Span, Trace, Traces};

/// Counts and logs.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    /// An [`AccessLog`] as a number; may change while requests are answered.
    access_log: AtomicU8,
    hash_key: hmac::Key,
    /// The way to a collector, if one is configured.
    traces: Option<Traces>,
    /// Workspaces whose key somebody else was seen to spend, so that it is said once.
    shared_keys: Mutex<HashSet<String>>,
}

/// A forward that has ended.
#[derive(Debug)]
pub struct Forwarded<'a> {
    /// Whose key it went out under.
    pub workspace: &'a str,
    /// Whose share it was charged to.
    pub client: &'a str,
    /// What it was made for.
    pub purpose: Purpose,
    /// The kind of identifier that was asked for.
    pub person_kind: &'static str,
    /// Who was asked for; only its hash is logged.
    pub asked: &'a CacheKey,
    /// Flameup's status, if it answered.
    pub status: Option<StatusCode>,
    /// Why it was of no use.
    pub failure: Option<&'a Failure>,
    /// From sending to the last byte.
    pub duration: Duration,
    /// For its span.
    pub journey: Journey,
}

/// What the span of a forward tells beside what is counted.
#[derive(Clone, Copy, Debug)]
pub struct Journey {
    /// Its place in a trace, where traces are sent to a collector.
    pub trace: Option<Trace>,
    /// How long its turn was waited for.
    pub waited: Duration,
    /// How far it came, and when.
    pub stages: Stages,
}

/// What both kinds of forward are counted by.
#[derive(Clone, Copy, Debug)]
pub struct Spending<'a> {
    /// Whose key it went out under.
    pub workspace: &'a str,
    /// Whose share it was charged to.
    pub client: &'a str,
    /// What it was made for.
    pub purpose: Purpose,
    /// Flameup's status, if it answered.
    pub status: Option<StatusCode>,
    /// From sending to the last byte.
    pub duration: Duration,
}

/// A forward, as its span tells it.
struct Fetched<'a> {
    name: &'static str,
    workspace: &'a str,
    purpose: Purpose,
    about: KeyValue,
    status: Option<StatusCode>,
    failure: Option<&'a Failure>,
    duration: Duration,
}

/// Counts what a forward costs when it ends, however it does.
#[derive(Debug)]
#[must_use = "it counts when it is dropped"]
pub struct Spend<'a> {
    telemetry: &'a Telemetry,
    workspace: &'a str,
    client: &'a str,
    purpose: Purpose,
    was_sent: bool,
}

impl Spend<'_> {
    /// Ends it: `was_sent` if Flameup may have counted it.
    pub fn end(mut self, was_sent: bool) {
        self.was_sent = was_sent;
    }
}

impl Drop for Spend<'_> {
    fn drop(&mut self) {
        if self.was_sent {
            let metrics = &self.telemetry.metrics.shield;
            metrics.spent(self.workspace, self.client, self.purpose);
        }
    }
}

impl Telemetry {
    /// Telemetry that writes the access log as told, and hashes people's names with `hash_key`, or
    /// with one that it makes up.
    ///
    /// # Panics
    /// When the system has no random numbers to give.
    pub fn new(metrics: Metrics, access_log: AccessLog, hash_key: Option<&HashKey>) -> Self {
        let algorithm = hmac::HMAC_SHA256;
        let random = || {
            hmac::Key::generate(algorithm, &aws_lc_rs::rand::SystemRandom::new())
                .expect("the system gives random numbers")
        };
        let given = |key: &HashKey| hmac::Key::new(algorithm, key.expose().as_bytes());
        Self {
            metrics,
            access_log: AtomicU8::new(access_log as u8),
            hash_key: hash_key.map_or_else(random, given),
            traces: None,
            shared_keys: Mutex::default(),
        }
    }

    /// The same, sending spans to a collector.
    #[must_use]
    pub fn tracing(self, traces: Option<Traces>) -> Self {
        Self { traces, ..self }
    }

    /// The place of a request with these headers in a trace, where traces are sent to a collector.
    pub fn begin_trace(&self, headers: &HeaderMap) -> Option<Trace> {
        self.traces.as_ref().map(|traces| traces.begin(headers))
    }

    /// Waits for a moment until what is traced has been sent.
    pub async fn flush(&self) {
        if let Some(traces) = &self.traces {
            traces.flush().await;
        }
    }

    /// Writes the access log as told from now on.
    pub fn set_access_log(&self, access_log: AccessLog) {
        self.access_log.store(access_log as u8, Ordering::Relaxed);
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a request that was answered, and logs it if the access log wants it.
    pub fn answered(&self, ended: &Ended<'_>) {
        self.metrics.answered(ended);
        self.trace_request(ended);
        let access_log = self.access_log.load(Ordering::Relaxed);
        let wanted = access_log == AccessLog::All as u8
            || (access_log == AccessLog::Errors as u8 && is_error(ended.status));
        if wanted {
            info!(
                target: "flameup_gateway::access",
                { request.id = ended.id.as_str(),
                trace.id = ended.id.trace().map(|trace| trace.id()),
                client.name = ended.caller.map_or("-", |caller| &**caller.name()),
                workspace.name = ended.caller.map_or("-", |caller| caller.workspace().name()),
                http.route = ended.route,
                http.status = ended.status.as_u16(),
                cache.outcome = ended.cache.outcome().word(),
                duration_us = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX) },
                "answered"
            );
        }
    }

    /// Counts a forward, and logs it if it was of no use.
    pub fn forwarded(&self, forward: &Forwarded<'_>) {
        let spending = Spending {
            workspace: forward.workspace,
            client: forward.client,
            purpose: forward.purpose,
            status: forward.status,
            duration: forward.duration,
        };
        self.metrics.forwarded(&spending, forward.journey.trace);
        self.trace_forward(
            &forward.journey,
            &Fetched {
                name: "fetch",
                workspace: forward.workspace,
                purpose: forward.purpose,
                about: KeyValue::new("person.kind", forward.person_kind),
                status: forward.status,
                failure: forward.failure,
                duration: forward.duration,
            },
        );
        let Some(failure) = forward.failure else {
            return;
        };
        warn!(
            workspace.name = forward.workspace,
            forward.purpose = forward.purpose.word(),
            person.kind = forward.person_kind,
            person.hash = self.hash(forward.asked),
            upstream.status = forward.status.map(|status| status.as_u16()),
            duration_ms = u64::try_from(forward.duration.as_millis()).unwrap_or(u64::MAX),
            error = chain(failure),
            "forward failed"
        );
    }

    /// Counts a forward of a whole request, and logs it if it was of no use. Its path is not named:
    /// it may name a person.
    pub fn relayed(
        &self,
        relayed: &Spending<'_>,
        route: &'static str,
        failure: Option<&Failure>,
        journey: Journey,
    ) {
        self.metrics.forwarded(relayed, journey.trace);
        self.trace_forward(
            &journey,
            &Fetched {
                name: "forward",
                workspace: relayed.workspace,
                purpose: relayed.purpose,
                about: KeyValue::new("http.route", route),
                status: relayed.status,
                failure,
                duration: relayed.duration,
            },
        );
        let Some(failure) = failure else { return };
        warn!(
            { workspace.name = relayed.workspace,
            forward.purpose = relayed.purpose.word(),
            http.route = route,
            upstream.status = relayed.status.map(|status| status.as_u16()),
            duration_ms = u64::try_from(relayed.duration.as_millis()).unwrap_or(u64::MAX),
            error = chain(failure) },
            "forward failed"
        );
    }

    fn trace_request(&self, ended: &Ended<'_>) {
        let (Some(traces), Some(trace)) = (&self.traces, ended.id.trace()) else {
            return;
        };
        let is_hit = matches!(ended.cache.outcome(), Outcome::Hit);
        if !traces.wants(trace, is_hit) {
            return;
        }
        let status = ended.status.as_u16();
        let mut attributes = vec![
            KeyValue::new("request.id", ended.id.as_str().to_owned()),
            KeyValue::new("http.route", ended.route),
            KeyValue::new("http.response.status_code", i64::from(status)),
            KeyValue::new("cache.outcome", ended.cache.outcome().word()),
        ];
        if let Some(caller) = ended.caller {
            attributes.push(KeyValue::new("client.name", caller.name().to_string()));
            let workspace = caller.workspace().name().to_owned();
            attributes.push(KeyValue::new("workspace.name", workspace));
        }
        let span = Span {
            trace,
            name: ended.route,
            is_fetch: false,
            took: ended.duration,
            stages: [("", None); 3],
            attributes,
            failure: ended
                .status
                .is_server_error()
                .then(|| ended.status.to_string()),
        };
        self.send_span(traces, span);
    }

    fn trace_forward(&self, journey: &Journey, fetched: &Fetched<'_>) {
        let (Some(traces), Some(trace)) = (&self.traces, journey.trace) else {
            return;
        };
        if !traces.wants(trace, false) {
            return;
        }
        let waited = journey.waited;
        let after_turn = |stage: Option<Duration>| stage.map(|stage| waited + stage);
        let mut attributes = vec![
            KeyValue::new("workspace.name", fetched.workspace.to_owned()),
            KeyValue::new("forward.purpose", fetched.purpose.word()),
            fetched.about.clone(),
        ];
        if let Some(status) = fetched.status {
            let status = i64::from(status.as_u16());
            attributes.push(KeyValue::new("http.response.status_code", status));
        }
        let span = Span {
            trace,
            name: fetched.name,
            is_fetch: true,
            took: waited + fetched.duration,
            stages: [
                ("turn", Some(waited)),
                ("connected", after_turn(journey.stages.connected)),
                ("first_byte", after_turn(journey.stages.first_byte)),
            ],
            attributes,
            failure: fetched.failure.map(|failure| chain(failure)),
        };
        self.send_span(traces, span);
    }

    fn send_span(&self, traces: &Traces, span: Span) {
        if !traces.send(span) {
            self.metrics.spans().count("queue", 1);
        }
    }

    /// Begins to count what a forward costs. One that is called off is counted too.
    pub fn spends<'a>(
        &'a self,
        workspace: &'a str,
        client: &'a str,
        purpose: Purpose,
    ) -> Spend<'a> {
        Spend {
            telemetry: self,
            workspace,
            client,
            purpose,
            was_sent: true,
        }
    }

    /// Counts how long a forward waited for its turn, or that it was refused one.
    pub fn admitted(
        &self,
        workspace: &str,
        class: Class,
        waited: Duration,
        refused: Option<&gate::Error>,
    ) {
        self.metrics
            .shield
            .admitted(workspace, class, waited, refused);
    }

    /// Takes over what is believed of a workspace's budget, and says it when somebody else begins
    /// or ceases to spend the same key.
    pub fn observe_budget(&self, workspace: &Workspace) {
        let (budget, waiting) = workspace.shield().snapshot();
        let name = workspace.name();
        self.metrics.shield.observe(name, &budget, waiting);
        let mut shared_keys = self.shared_keys.lock();
        if budget.foreign_per_window >= 1.0 && shared_keys.insert(name.to_owned()) {
            let foreign = budget.foreign_per_window.round();
            warn!(
                workspace.name = name,
                budget.foreign = foreign,
                "somebody else spends the same key"
            );
        } else if budget.foreign_per_window < 0.5 && shared_keys.remove(name) {
            info!(
                workspace.name = name,
                "nobody else spends the same key any more"
            );
        }
    }

    /// Raises the alarm that a key shows people of another workspace than before.
    pub fn foreign_workspace(&self, workspace: &str, asked: &CacheKey) {
        self.metrics.foreign_workspace(workspace);
        error!(
            workspace.name = workspace,
            person.hash = self.hash(asked),
            "a person of another workspace came under this key; it was not stored"
        );
    }

    /// How a person is named where it must be told apart but not told: eight bytes of a keyed hash.
    pub fn hash(&self, key: &CacheKey) -> String {
        use std::fmt::Write as _;
        let tag = hmac::sign(&self.hash_key, key.as_bytes());
        tag.as_ref()[..8]
            .iter()
            .fold(String::with_capacity(16), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

/// Whether an answer belongs into the log of errors. A person's 404 is an answer like any other.
fn is_error(status: StatusCode) -> bool {
    (status.is_client_error() && status != StatusCode::NOT_FOUND) || status.is_server_error()
}

/// An error and its causes, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut words: Vec<String> = causes.map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}
