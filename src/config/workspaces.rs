//! `[workspaces.NAME]`: whose people are served, the keys that open them, and what these may spend.

use std::collections::BTreeMap;

use figment::value::Dict;
use serde::{Deserialize, Deserializer, de};

use super::budget::Budget;
use super::environment::Environment;
use super::layers::Layers;
use super::name::{WorkspaceId, WorkspaceName};
use super::secret::{self, ApiKey, SecretSource};
use super::{Error, units};

/// The keys that name the place of a key.
const KEY_FILE: &str = "api_key_file";
const KEY_VARIABLE: &str = "api_key_env";

/// One before and one after a rotation.
const MAX_KEYS: usize = 2;

/// One Flameup workspace.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The keys, read at start, and where each came from: one, or two that overlap during a rotation,
    /// in the order they are written.
    pub api_keys: Vec<(ApiKey, SecretSource)>,
    /// Flameup's id, if known beforehand. Default none: learned from bodies.
    pub workspace_id: Option<WorkspaceId>,
    /// What it may spend, whichever key is in use.
    pub budget: Budget,
}

impl Workspace {
    /// Reads the keys again, in their order; those from the environment cannot have changed.
    ///
    /// # Errors
    /// When a file does not hold a key; the others are worth nothing then, as files that are
    /// replaced together are to be taken together.
    pub fn reload(&self) -> Result<Vec<ApiKey>, secret::Error> {
        let reloaded = self.api_keys.iter().map(|(key, source)| match source {
            SecretSource::File(_) => ApiKey::read(source.clone(), &Environment::default()),
            SecretSource::Environment(_) => Ok(key.clone()),
        });
        reloaded.collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawWorkspace {
    #[serde(default, deserialize_with = "places")]
    api_key_file: Option<Vec<String>>,
    #[serde(default, deserialize_with = "places")]
    api_key_env: Option<Vec<String>>,
    #[serde(default)]
    workspace_id: Option<WorkspaceId>,
    budget: Budget,
}

impl RawWorkspace {
    /// Whether a workspace's table names the place of a key.
    pub(super) fn names_a_key(table: &Dict) -> bool {
        table.contains_key(KEY_FILE) || table.contains_key(KEY_VARIABLE)
    }

    /// Reads the keys from the places that are named.
    pub(super) fn resolve(self, name: &WorkspaceName, layers: &Layers) -> Result<Workspace, Error> {
        let table = format!("workspaces.{name}");
        let (key, sources) = match (self.api_key_file, self.api_key_env) {
            (Some(files), None) => (
                KEY_FILE,
                sources(files, |file| SecretSource::File(file.into())),
            ),
            (None, Some(names)) => (KEY_VARIABLE, sources(names, SecretSource::Environment)),
            (Some(_), Some(_)) => {
                let problem = "api_key_file and api_key_env are both set; keep one".to_owned();
                return Err(layers.refuse(&table, problem));
            }
            (None, None) => {
                let problem = "no key; set api_key_file or api_key_env".to_owned();
                return Err(layers.refuse(&table, problem));
            }
        };
        let read = |source: SecretSource| {
            let api_key = ApiKey::read(source.clone(), layers.environment())
                .map_err(|error| layers.secret(&format!("{table}.{key}"), error))?;
            Ok((api_key, source))
        };
        Ok(Workspace {
            api_keys: sources
                .into_iter()
                .map(read)
                .collect::<Result<_, Error>>()?,
            workspace_id: self.workspace_id,
            budget: self.budget,
        })
    }
}

/// Refuses a key that two workspaces share: Flameup's limit is per key, and each would spend all of it.
pub(super) fn check_keys(
    workspaces: &BTreeMap<WorkspaceName, Workspace>,
    layers: &Layers,
) -> Result<(), Error> {
    let keys = workspaces.iter().flat_map(|(name, workspace)| {
        let own = workspace.api_keys.iter();
        own.map(move |(key, _)| (name, key))
    });
    let keys: Vec<_> = keys.collect();
    for (at, (name, key)) in keys.iter().enumerate() {
        let mut earlier = keys.iter().take(at);
        if let Some((other, _)) = earlier.find(|(other, same)| other != name && same == key) {
            let problem = format!(
                "its key is that of workspaces.{other} too, and Flameup's limit is per key; keep one \
                 of the two sections"
            );
            return Err(layers.refuse(&format!("workspaces.{name}"), problem));
        }
    }
    Ok(())
}

/// Refuses two sections for one workspace of Flameup's: each would ask for the same people and keep
/// them again. One section takes several keys.
pub(super) fn check_ids(
    workspaces: &BTreeMap<WorkspaceName, Workspace>,
    layers: &Layers,
) -> Result<(), Error> {
    let mut earlier: BTreeMap<&str, &WorkspaceName> = BTreeMap::new();
    for (name, workspace) in workspaces {
        let Some(id) = &workspace.workspace_id else {
            continue;
        };
        if let Some(other) = earlier.insert(id.as_str(), name) {
            let problem = format!(
                "is that of workspaces.{other} too, and each would ask for the same people again; \
                 keep one of the two sections, and give it the keys of both"
            );
            return Err(layers.refuse(&format!("workspaces.{name}.workspace_id"), problem));
        }
    }
    Ok(())
}

fn sources(places: Vec<String>, source: impl Fn(String) -> SecretSource) -> Vec<SecretSource> {
    places.into_iter().map(source).collect()
}

/// Reads the places of the keys; none is quoted, as a key may have been pasted there.
fn places<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let places: Vec<String> = units::list(deserializer)?;
    if places.is_empty() || places.iter().any(String::is_empty) {
        return Err(de::Error::custom(
            "a name is empty; leave the key out to have none",
        ));
    }
    if places.len() > MAX_KEYS {
        let problem = format!("expected one key or two, found {}", places.len());
        return Err(de::Error::custom(problem));
    }
    Ok(Some(places))
}
