//! `[telemetry]`: what is logged, and how.

use std::path::PathBuf;

use http::Uri;
use serde::{Deserialize, Deserializer};
use tracing_subscriber::filter::Targets;

use super::layers::Layers;
use super::secret::{HashKey, SecretSource};
use super::{Error, units};

/// Logs.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Default auto.
    pub log_format: LogFormat,
    /// Levels, per target if wanted: `"info,flameup_gateway::cache=debug"`. Default `"info"`.
    pub log_filter: Targets,
    /// Which requests are logged. Default errors.
    pub access_log: AccessLog,
    /// What people's names are hashed with. Default none: made up for the life of the process.
    pub hash_key: Option<HashKey>,
    /// Where spans are sent by OTLP over HTTP: a whole URL, ending in `/v1/traces` as a rule.
    /// Default none.
    pub otlp_endpoint: Option<Uri>,
    /// Of plain hits, the share that is traced. Default 0.001.
    pub trace_hits: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawTelemetry {
    log_format: LogFormat,
    #[serde(deserialize_with = "targets")]
    log_filter: Targets,
    access_log: AccessLog,
    #[serde(default, deserialize_with = "units::path")]
    hash_key_file: Option<PathBuf>,
    #[serde(deserialize_with = "endpoint")]
    otlp_endpoint: Option<Uri>,
    #[serde(deserialize_with = "units::share::<100, _>")]
    trace_hits: f64,
}

impl RawTelemetry {
    /// Reads the key that people's names are hashed with.
    pub(super) fn resolve(self, layers: &Layers) -> Result<Telemetry, Error> {
        let hash_key = self
            .hash_key_file
            .map(|file| HashKey::read(SecretSource::File(file), layers.environment()))
            .transpose()
            .map_err(|source| layers.secret("telemetry.hash_key_file", source))?;
        Ok(Telemetry {
            log_format: self.log_format,
            log_filter: self.log_filter,
            access_log: self.access_log,
            hash_key,
            otlp_endpoint: self.otlp_endpoint,
            trace_hits: self.trace_hits,
        })
    }
}

/// Reads the URL of a collector; an empty one is none.
fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uri>, D::Error> {
    units::from_text(deserializer, "a URL", |text| {
        if text.is_empty() {
            return Ok(None);
        }
        let uri = text.parse::<Uri>().ok();
        let is_http = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
        uri.filter(is_http)
            .map(Some)
            .ok_or_else(|| "must be a URL like http://collector:4318/v1/traces".to_owned())
    })
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when standard error is a terminal, otherwise JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For the eye.
    Text,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that were not answered well.
    Errors,
    /// Every one.
    All,
}

impl<'de> Deserialize<'de> for LogFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("auto", Self::Auto),
            ("json", Self::Json),
            ("text", Self::Text),
        ];
        units::word(deserializer, &words)
    }
}

impl<'de> Deserialize<'de> for AccessLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = [
            ("off", Self::Off),
            ("errors", Self::Errors),
            ("all", Self::All),
        ];
        units::word(deserializer, &words)
    }
}

fn targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Targets, D::Error> {
    const EXPECTED: &str = "a filter such as \"info\" or \"info,flameup_gateway=debug\"";
    units::from_text(deserializer, EXPECTED, |text| {
        let targets = text.parse().ok();
        // An empty filter would silence everything, errors included; "off" says so.
        targets
            .filter(|_| !text.trim().is_empty())
            .ok_or_else(|| units::mismatch(EXPECTED, text))
    })
}
