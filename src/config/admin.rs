//! `[admin]`: the operators' listener.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::environment::Environment;
use super::layers::Layers;
use super::secret::{self, AdminToken, SecretSource};
use super::server::ListenAddress;
use super::{Error, units};

/// The operators' listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where it listens; `None` when switched off. Default `127.0.0.1:9090`.
    pub listen: Option<ListenAddress>,
    /// What operators must present; required beyond loopback, otherwise `None` unless configured.
    pub token: Option<AdminToken>,
    /// Where it was read from.
    pub token_source: Option<SecretSource>,
}

impl Admin {
    /// Reads the token again, if there is one.
    ///
    /// # Errors
    /// When its file does not hold a token.
    pub fn reload(&self) -> Result<Option<AdminToken>, secret::Error> {
        let source = self.token_source.clone();
        let read = |source| AdminToken::read(source, &Environment::default());
        source.map(read).transpose()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawAdmin {
    #[serde(deserialize_with = "listen")]
    listen: Option<ListenAddress>,
    #[serde(default, deserialize_with = "units::path")]
    token_file: Option<PathBuf>,
}

impl RawAdmin {
    /// Reads the token and refuses a listener others could reach without one.
    pub(super) fn resolve(self, layers: &Layers) -> Result<Admin, Error> {
        if let (Some(listen), None) = (&self.listen, &self.token_file)
            && !listen.is_local()
        {
            let problem = format!(
                "{listen} is beyond loopback and needs admin.token_file; \
                 set it, or listen on loopback, a Unix socket or \"off\""
            );
            return Err(layers.refuse("admin.listen", problem));
        }
        let token_source = self.token_file.map(SecretSource::File);
        let token = token_source
            .clone()
            .map(|source| AdminToken::read(source, layers.environment()))
            .transpose()
            .map_err(|source| layers.secret("admin.token_file", source))?;
        Ok(Admin {
            listen: self.listen,
            token,
            token_source,
        })
    }
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ListenAddress>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(de::Error::custom)
}
