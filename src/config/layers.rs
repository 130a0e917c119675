//! Layers: defaults, then the file, then the environment; a later one wins key by key.
//!
//! The defaults are the shipped `config/gateway.toml` itself, so that the documented value of a key and
//! its effective default are one and the same text.
//!
//! figment merges the layers and remembers where each value came from. Its own environment reader is
//! not used, as it guesses types: a name `0123` would become the number 123. Here a variable is text,
//! and the reader of each key makes of it what it needs.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::environment::Environment;
use super::origin::Origin;
use super::{Error, Sources, secret};

/// Every key that has a default, with it.
const DEFAULTS: &str = include_str!("../../config/gateway.toml");

/// Names the file when no argument does.
const FILE_VARIABLE: &str = "FLAMEUP_GATEWAY_CONFIG";

/// What precedes `SECTION__KEY` in a variable of ours.
const PREFIX: &str = "FLAMEUP_GATEWAY__";

/// No known key is nearly as deep; deeper ones are not worth building a tree for.
const MAX_DEPTH: usize = 8;

/// Settings merged from all layers, each with its origin.
pub(super) struct Layers<'a> {
    figment: Figment,
    environment: &'a Environment,
}

impl<'a> Layers<'a> {
    /// Reads and merges the layers.
    pub(super) fn read(sources: &'a Sources) -> Result<Self, Error> {
        let mut layers = Self {
            figment: Figment::new(),
            environment: &sources.environment,
        };
        layers.push(Origin::Default, parse(DEFAULTS, &Origin::Default)?);
        if let Some(text) = &sources.inline {
            layers.push(Origin::Inline, parse(text, &Origin::Inline)?);
        } else if let Some(path) = file_of(sources) {
            let text = fs::read_to_string(&path).map_err(|source| Error::File {
                path: path.clone(),
                source,
            })?;
            let origin = Origin::File(path);
            let dict = parse(&text, &origin)?;
            layers.push(origin, dict);
        }
        for (variable, value) in sources.environment.iter() {
            if let Some(key) = variable.strip_prefix(PREFIX) {
                layers.push_variable(variable, key, value)?;
            }
        }
        // Flags that set keys belong here, above the environment.
        Ok(layers)
    }

    /// Reads all settings as one value.
    pub(super) fn extract<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.figment.extract().map_err(Error::from)
    }

    /// The merged settings as a tree.
    pub(super) fn tree(&self) -> Dict {
        let mut profiles = self.figment.data().unwrap_or_default();
        profiles.remove(&Profile::Default).unwrap_or_default()
    }

    /// Adds a setting no layer holds; those that exist stay.
    pub(super) fn complete(&mut self, origin: Origin, path: &[&str], value: impl Into<Value>) {
        let dict = nested(path, value.into());
        self.figment = std::mem::take(&mut self.figment).join(Layer { origin, dict });
    }

    /// Where a value of [`Self::tree`] came from.
    pub(super) fn origin_of(&self, value: &Value) -> Origin {
        self.figment
            .get_metadata(value.tag())
            .map_or(Origin::Default, Into::into)
    }

    pub(super) fn environment(&self) -> &'a Environment {
        self.environment
    }

    /// Makes the error of a key whose value does not fit the others.
    pub(super) fn refuse(&self, key: &str, problem: String) -> Error {
        Error::Value {
            key: key.to_owned(),
            origin: self.origin(key),
            problem,
        }
    }

    /// Makes the error of a key that names an unusable secret.
    pub(super) fn secret(&self, key: &str, source: secret::Error) -> Error {
        Error::Secret {
            key: key.to_owned(),
            origin: self.origin(key),
            source,
        }
    }

    fn origin(&self, key: &str) -> Origin {
        self.figment
            .find_value(key)
            .map_or(Origin::Default, |value| self.origin_of(&value))
    }

    fn push(&mut self, origin: Origin, dict: Dict) {
        self.figment = std::mem::take(&mut self.figment).merge(Layer { origin, dict });
    }

    fn push_variable(&mut self, variable: &str, key: &str, value: &OsStr) -> Result<(), Error> {
        let origin = Origin::Environment(variable.to_owned());
        let path = spelled_as_known(key, &self.tree());
        if path.len() > MAX_DEPTH {
            return Err(Error::UnknownKey {
                key: path[..MAX_DEPTH].join("."),
                origin,
                hint: "no key lies so deep".to_owned(),
            });
        }
        let Some(text) = value.to_str() else {
            return Err(Error::Value {
                key: path.join("."),
                origin,
                problem: "the value is not Unicode".to_owned(),
            });
        };
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        self.push(origin, nested(&path, text.into()));
        Ok(())
    }
}

/// One layer, as figment takes it.
struct Layer {
    origin: Origin,
    dict: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        (&self.origin).into()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// The file to read: the argument's, else the variable's; an empty variable is none.
fn file_of(sources: &Sources) -> Option<PathBuf> {
    let variable = || {
        let value = sources.environment.get(FILE_VARIABLE)?;
        (!value.is_empty()).then(|| Path::new(value).to_owned())
    };
    sources.file.clone().or_else(variable)
}

/// Parses TOML; the error says where, and never quotes the line, which may hold anything.
fn parse(text: &str, origin: &Origin) -> Result<Dict, Error> {
    Toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or(text);
        let current = before.rsplit('\n').next().unwrap_or(before);
        Error::Syntax {
            origin: origin.clone(),
            line: before.matches('\n').count() + 1,
            column: current.chars().count() + 1,
            problem: error.message().trim().replace('\n', ", "),
        }
    })
}

/// Splits `WORKSPACES__ACME__KEY`, taking each part as a lower layer spells it, else in lower case.
fn spelled_as_known(key: &str, tree: &Dict) -> Vec<String> {
    let mut level = Some(tree);
    key.split("__")
        .map(|part| {
            let lower = part.to_ascii_lowercase();
            let known = level
                .into_iter()
                .flatten()
                .filter(|(name, _)| name.eq_ignore_ascii_case(part));
            // Of names that differ only in case, the lower one: it has no other way to be meant.
            let (name, value) = known.max_by_key(|(name, _)| **name == lower).unzip();
            level = value.and_then(Value::as_dict);
            name.cloned().unwrap_or(lower)
        })
        .collect()
}

fn nested(path: &[&str], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [key] => Dict::from([((*key).to_owned(), value)]),
        [key, rest @ ..] => Dict::from([((*key).to_owned(), nested(rest, value).into())]),
    }
}
