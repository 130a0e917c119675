//! Secrets: read once, shown never.
//!
//! # Invariants
//! A secret is visible ASCII without blanks, so it can stand in a header as it is. No `Display`; `Debug`
//! is redacted; no error quotes the content, nor its length.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use super::environment::Environment;

/// Longer than any key or token; a file beyond it is not one.
const MAX_BYTES: usize = 4096;

/// Shorter admin tokens could be guessed over the network.
const MIN_ADMIN_TOKEN_BYTES: usize = 16;

/// With a shorter one, whoever has a log could try all there are.
const MIN_HASH_KEY_BYTES: usize = 32;

/// As random text this has more than the 128 bits that nobody tries.
const MIN_SEAL_KEY_BYTES: usize = 32;

/// A Flameup API key.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

impl ApiKey {
    pub(super) fn read(source: SecretSource, environment: &Environment) -> Result<Self, Error> {
        read(source, environment).map(Self)
    }

    /// The key itself, for the upstream request and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Tells a changed key from an unchanged one. Not in constant time: both are ours, and nobody who
/// could measure chooses either.
impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for ApiKey {}

/// What operators present to the admin listener.
#[derive(Clone, Debug)]
pub struct AdminToken(SecretString);

impl AdminToken {
    /// Reads a token.
    ///
    /// # Errors
    /// When there is none that could be one.
    pub fn read(source: SecretSource, environment: &Environment) -> Result<Self, Error> {
        let token = read(source.clone(), environment)?;
        if token.expose_secret().len() < MIN_ADMIN_TOKEN_BYTES {
            return Err(Error::Short(source, MIN_ADMIN_TOKEN_BYTES));
        }
        Ok(Self(token))
    }

    /// The token itself, for comparison and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Two tokens of ours, as with keys.
impl PartialEq for AdminToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for AdminToken {}

/// What people's names are hashed with where they are logged.
#[derive(Clone, Debug)]
pub struct HashKey(SecretString);

impl HashKey {
    pub(super) fn read(source: SecretSource, environment: &Environment) -> Result<Self, Error> {
        let key = read(source.clone(), environment)?;
        if key.expose_secret().len() < MIN_HASH_KEY_BYTES {
            return Err(Error::Short(source, MIN_HASH_KEY_BYTES));
        }
        Ok(Self(key))
    }

    /// The key itself, for hashing and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// What is kept in Redis is sealed with this, and named by it.
#[derive(Clone, Debug)]
pub struct SealKey(SecretString);

impl SealKey {
    pub(super) fn read(source: SecretSource, environment: &Environment) -> Result<Self, Error> {
        let key = read(source.clone(), environment)?;
        if key.expose_secret().len() < MIN_SEAL_KEY_BYTES {
            return Err(Error::Short(source, MIN_SEAL_KEY_BYTES));
        }
        Ok(Self(key))
    }

    /// The key itself, for deriving others and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// What a user of Redis proves themselves with.
#[derive(Clone, Debug)]
pub struct RedisPassword(SecretString);

impl RedisPassword {
    /// Reads a password from a file.
    pub(super) fn read(source: SecretSource) -> Result<Self, Error> {
        read(source, &Environment::default()).map(Self)
    }

    /// The password itself, for Redis and nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
        }
    }
}

/// Why a secret could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key itself stands where its place was to be named.
    #[error("this is no name of a {0}; name the place of the key, never the key itself")]
    Misplaced(&'static str),
    /// The variable does not exist.
    #[error(
        "environment variable {0} is not set; set it, or configure another key in [workspaces.NAME]"
    )]
    Unset(String),
    /// The file cannot be read.
    #[error("reading {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(SecretSource),
    /// Blanks, line breaks, control or non-ASCII characters inside.
    #[error("{0} holds characters no key has; expected one line of visible ASCII")]
    Characters(SecretSource),
    /// More than any key has.
    #[error("{0} is longer than {MAX_BYTES} bytes")]
    Long(SecretSource),
    /// Too short to be beyond guessing.
    #[error("{0} is shorter than {1} characters")]
    Short(SecretSource, usize),
}

fn read(source: SecretSource, environment: &Environment) -> Result<SecretString, Error> {
    let bytes = match &source {
        SecretSource::File(path) if looks_like_a_key(&path.to_string_lossy()) => {
            return Err(Error::Misplaced("file"));
        }
        SecretSource::File(path) => read_file(path).map_err(|source| Error::Unreadable {
            path: path.clone(),
            source,
        })?,
        SecretSource::Environment(variable) if !is_variable_name(variable) => {
            return Err(Error::Misplaced("variable"));
        }
        SecretSource::Environment(variable) => environment
            .get(variable)
            .ok_or_else(|| Error::Unset(variable.clone()))?
            .as_encoded_bytes()
            .to_vec(),
    };
    let content = trimmed(&bytes);
    if content.is_empty() {
        return Err(Error::Empty(source));
    }
    if content.len() > MAX_BYTES {
        return Err(Error::Long(source));
    }
    match std::str::from_utf8(content) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.into()),
        _ => Err(Error::Characters(source)),
    }
}

fn read_file(path: &PathBuf) -> io::Result<Vec<u8>> {
    // Room for a line break and for one byte too many, which tells a file that is too long.
    let most = MAX_BYTES + 4;
    let mut bytes = Vec::with_capacity(most);
    File::open(path)?
        .take(most as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Drops what editors and `echo` leave behind: one line break, and one blank before it.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    bytes.strip_suffix(b" ").unwrap_or(bytes)
}

/// Live and test keys start so, says the Flameup docs (authentication).
fn looks_like_a_key(text: &str) -> bool {
    text.starts_with("ws_live_") || text.starts_with("ws_test_")
}

fn is_variable_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !text.is_empty() && text.bytes().all(allowed) && !looks_like_a_key(text)
}
