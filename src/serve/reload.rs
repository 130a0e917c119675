//! Reads the configuration again while the gateway runs, on SIGHUP: whole or not at all.
//!
//! Who may ask, for what and how much, keys, tokens and certificates, and what is logged can change;
//! the files are read again even if nothing else has. Whatever else differs from the configuration in use (listeners, memory, the way to Flameup, which workspaces
//! there are) takes a restart: then nothing is changed, and the log says which keys it is about.

use tracing::{info, warn};

use super::Running;
use crate::config::{self, Config, Loaded, Sources};
use crate::server::tls;
use crate::telemetry::chain;
use crate::telemetry::log::Log;

/// Where a listener's certificates are can change. Whether it has any cannot: clients would have to
/// speak otherwise from one moment to the next.
const TLS: &str = "server.tls.";

/// Knows where the configuration comes from, and what of it is in use.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    current: Loaded,
    log: Option<Log>,
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is wrong, or a secret that it names is.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// It differs in what cannot change.
    #[error("{} cannot change while the gateway runs; restart it", .0.join(", "))]
    Fixed(Vec<String>),
    /// A certificate that it names is of no use.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Reading it broke off.
    #[error("reading the configuration broke off")]
    BrokeOff,
}

impl Reloader {
    /// Begins with what was loaded from `sources`.
    pub fn new(sources: Sources, current: Loaded, log: Option<Log>) -> Self {
        Self {
            sources,
            current,
            log,
        }
    }

    /// Reads the configuration again and has `running` take it over, or leaves everything as it is.
    /// Says which of the two in the log.
    pub async fn reload(&mut self, running: &Running) {
        match self.try_reload(running).await {
            Ok(changed) if changed.is_empty() => {
                info!(
                    "reloaded; the configuration is as before, keys, tokens and certificates were read again"
                );
            }
            Ok(changed) => info!(changed = changed.join(", "), "reloaded"),
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "not reloaded; everything stays as it was"
                );
            }
        }
    }

    /// As [`reload`](Self::reload); tells which keys of the configuration have changed.
    ///
    /// # Errors
    /// When it is not taken, of which nothing is then; see [`Error`].
    pub async fn try_reload(&mut self, running: &Running) -> Result<Vec<String>, Error> {
        let sources = self.sources.clone();
        // Files may be on a disk that does not answer.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&sources)).await;
        let loaded = loaded.map_err(|_| Error::BrokeOff)??;
        let changed = loaded.changed_since(&self.current);
        let has_tls = |loaded: &Loaded| loaded.config.server.tls.is_some();
        let same_tls = has_tls(&loaded) == has_tls(&self.current);
        let is_fixed = |key: &&String| !may_change(key) || key.starts_with(TLS) && !same_tls;
        let fixed: Vec<String> = changed.iter().filter(is_fixed).cloned().collect();
        if !fixed.is_empty() {
            return Err(Error::Fixed(fixed));
        }
        running.reconfigure(&loaded.config).await?;
        running.show(&loaded);
        if let Some(log) = &self.log {
            log.filter(&loaded.config.telemetry.log_filter);
        }
        self.current = loaded;
        Ok(changed)
    }
}

/// Whether a key of the configuration can change while the gateway runs.
fn may_change(key: &str) -> bool {
    const KEYS: [&str; 6] = [
        "admin.token",
        "admin.token_file",
        "secrets.overlap",
        "telemetry.access_log",
        "telemetry.log_filter",
        "anonymous",
    ];
    let is_key_of_workspace = key.strip_prefix("workspaces.").is_some_and(|rest| {
        let last = rest.rsplit_once('.').map_or(rest, |(_, last)| last);
        last.starts_with("api_key")
    });
    is_key_of_workspace
        || key.starts_with(TLS)
        || key.starts_with("clients.")
        || key.starts_with("anonymous.")
        || KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_secrets_and_logs_may_change_and_the_rest_may_not() {
        for key in [
            "clients.billing.scopes",
            "clients.billing.limits.requests",
            "anonymous.workspace",
            "workspaces.acme.api_key_file",
            "workspaces.acme.api_key[1]",
            "admin.token",
            "server.tls.cert_file",
            "server.tls.client_ca_file",
            "telemetry.log_filter",
        ] {
            assert!(may_change(key), "{key}");
        }
        for key in [
            "server.listen",
            "admin.listen",
            "upstream.ca_file",
            "workspaces.acme.workspace_id",
            "workspaces.acme.budget.requests",
            "workspaces.api_key.budget.window",
            "cache.ttl",
            "secrets.core_dumps",
            "telemetry.hash_key",
            "telemetry.log_format",
        ] {
            assert!(!may_change(key), "{key}");
        }
    }
}
