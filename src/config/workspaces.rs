//! `[workspaces.NAME]`: whose people are served, and the key that opens them.

use std::path::PathBuf;

use serde::Deserialize;

use super::layers::Layers;
use super::name::{WorkspaceId, WorkspaceName};
use super::secret::{ApiKey, SecretSource};
use super::{Error, units};

/// One Flameup workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The key, read from its source at start.
    pub api_key: ApiKey,
    /// Where the key came from.
    pub api_key_source: SecretSource,
    /// Flameup's id, if known beforehand. Default none: learned from bodies.
    pub workspace_id: Option<WorkspaceId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWorkspace {
    #[serde(default, deserialize_with = "units::path")]
    api_key_file: Option<PathBuf>,
    #[serde(default)]
    api_key_env: Option<String>,
    #[serde(default)]
    workspace_id: Option<WorkspaceId>,
}

impl RawWorkspace {
    /// Reads the key from the one place that is named.
    pub(super) fn resolve(self, name: &WorkspaceName, layers: &Layers) -> Result<Workspace, Error> {
        let table = format!("workspaces.{name}");
        let (key, source) = match (self.api_key_file, self.api_key_env) {
            (Some(file), None) => ("api_key_file", SecretSource::File(file)),
            (None, Some(variable)) => ("api_key_env", SecretSource::Environment(variable)),
            (Some(_), Some(_)) => {
                let problem = "api_key_file and api_key_env are both set; keep one".to_owned();
                return Err(layers.refuse(&table, problem));
            }
            (None, None) => {
                let problem = "no key; set api_key_file or api_key_env".to_owned();
                return Err(layers.refuse(&table, problem));
            }
        };
        let api_key = ApiKey::read(source.clone(), layers.environment())
            .map_err(|source| layers.secret(&format!("{table}.{key}"), source))?;
        Ok(Workspace {
            api_key,
            api_key_source: source,
            workspace_id: self.workspace_id,
        })
    }
}
