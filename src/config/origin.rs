//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

use figment::{Metadata, Source};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The defaults shipped in this program.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// Text handed in by the program itself.
    Inline,
    /// An environment variable, by name.
    Environment(String),
    /// Concluded from what was and was not configured; says from what.
    Derived(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Inline => f.write_str("inline"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Derived(reason) => write!(f, "derived: {reason}"),
        }
    }
}

// figment hands an origin through as its own metadata, from a layer to the values and errors in it.
const DEFAULT: &str = "default";
const INLINE: &str = "inline";
const ENVIRONMENT: &str = "environment";
const DERIVED: &str = "derived";

impl From<&Origin> for Metadata {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Default => Self::named(DEFAULT),
            Origin::File(path) => Self::from("file", path.as_path()),
            Origin::Inline => Self::named(INLINE),
            Origin::Environment(variable) => Self::from(ENVIRONMENT, variable.clone()),
            Origin::Derived(reason) => Self::from(DERIVED, reason.clone()),
        }
    }
}

impl From<&Metadata> for Origin {
    fn from(metadata: &Metadata) -> Self {
        match (&*metadata.name, &metadata.source) {
            (_, Some(Source::File(path))) => Self::File(path.clone()),
            (ENVIRONMENT, Some(Source::Custom(variable))) => Self::Environment(variable.clone()),
            (DERIVED, Some(Source::Custom(reason))) => Self::Derived(reason.clone()),
            (INLINE, _) => Self::Inline,
            _ => Self::Default,
        }
    }
}
