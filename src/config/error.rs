//! What can be wrong with a configuration, in one line: what and where.
//!
//! # Invariants
//! A value is quoted only by the reader of its own key, which knows that it is no secret. A value of the
//! wrong kind is never quoted: a key may have been pasted where a table belongs.

use std::io;
use std::path::PathBuf;

use figment::error::{Actual, Kind};

use super::origin::Origin;
use super::{secret, units};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("reading the configuration file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The text is not TOML.
    #[error("{origin}:{line}:{column}: {problem}")]
    Syntax {
        /// The file.
        origin: Origin,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser missed.
        problem: String,
    },
    /// Nobody reads this key.
    #[error("{key} ({origin}): unknown key, {hint}")]
    UnknownKey {
        /// The key's full path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The nearest known key, or all that are known there.
        hint: String,
    },
    /// The value cannot be used.
    #[error("{key} ({origin}): {problem}")]
    Value {
        /// The key's full path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The secret this key names cannot be used.
    #[error("{key} ({origin}): unusable secret")]
    Secret {
        /// The key's full path.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// What is wrong with it.
        source: secret::Error,
    },
}

impl From<figment::Error> for Error {
    fn from(error: figment::Error) -> Self {
        let origin = error.metadata.as_ref().map_or(Origin::Default, Into::into);
        if let Kind::UnknownField(_, known) = error.kind {
            return unknown_key(&error.path, known, origin);
        }
        Self::Value {
            key: place(&error.path),
            origin,
            problem: describe(&error.kind),
        }
    }
}

/// Makes the error of a key nobody reads; `known` are those that may stand there.
fn unknown_key(path: &[String], known: &[&str], origin: Origin) -> Error {
    let (last, parents) = path.split_last().map_or(("", path), |(l, p)| (l, p));
    let hint = match units::nearest(last, known.iter().copied()) {
        Some(near) => format!(
            "did you mean {}?",
            dotted(&[parents, &[near.to_owned()]].concat())
        ),
        None => format!("known here are {}", known.join(", ")),
    };
    Error::UnknownKey {
        key: dotted(path),
        origin,
        hint,
    }
}

/// Writes the path of a value, which may stand in a list.
fn place(path: &[String]) -> String {
    match path {
        // Only lists stand this deep; a workspace or client named `0` is the second part.
        [parents @ .., index] if parents.len() >= 2 && index.parse::<usize>().is_ok() => {
            format!("{}[{index}]", dotted(parents))
        }
        _ => dotted(path),
    }
}

/// Writes a key as TOML has it: what is no bare key in quotes, so that it stays one line.
fn dotted(path: &[String]) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let parts: Vec<_> = path
        .iter()
        .map(|part| match part.as_str() {
            "" => "\"\"".to_owned(),
            part if part.bytes().all(bare) => part.to_owned(),
            part => format!("{part:?}"),
        })
        .collect();
    parts.join(".")
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Message(problem) => problem.clone(),
        Kind::InvalidType(found, expected) => {
            // serde's word, where no section of ours can say it in TOML's.
            let expected = if expected == "a map" {
                "a table"
            } else {
                expected
            };
            format!("expected {expected}, found {}", kind_of(found))
        }
        Kind::MissingField(field) => format!("{field} is missing"),
        other => other.to_string(),
    }
}

fn kind_of(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "an integer",
        Actual::Float(_) => "a float",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}
