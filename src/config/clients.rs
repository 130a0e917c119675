//! `[clients.NAME]` and `[anonymous]`: who may ask, for which workspace, and for what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use figment::value::{Dict, Value};
use serde::{Deserialize, Deserializer, de};

use super::layers::Layers;
use super::name::{ClientName, WorkspaceName};
use super::scope::Scopes;
use super::workspaces::RawWorkspace;
use super::{Error, units};

/// A caller known by its token, or by its certificate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Client {
    /// The one workspace it speaks for.
    pub workspace: WorkspaceName,
    /// SHA-256 of its tokens; several overlap during a rotation. Default none, if it has
    /// `certificate_names`.
    #[serde(default, deserialize_with = "digests")]
    pub token_sha256: Vec<TokenDigest>,
    /// Names in its certificates: the subject's common name, or an alternative name that is a DNS name
    /// or a URI; several overlap during a change. Default none, if it has `token_sha256`.
    #[serde(default, deserialize_with = "certificate_names")]
    pub certificate_names: Vec<String>,
    /// What it may do. Default `["people:read"]`.
    pub scopes: Scopes,
    /// How urgent its lookups are. Default interactive.
    pub class: Class,
    /// Its share beside others of its class, 1 to 1000. Default 1.
    #[serde(deserialize_with = "units::count::<1, 1000, _, _>")]
    pub weight: u32,
    /// How much it may ask of this gateway. Default: whatever it likes.
    pub limits: InboundLimits,
}

/// Callers without a token; only where nobody but this machine can call.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Anonymous {
    /// The one workspace they speak for.
    pub workspace: WorkspaceName,
    /// What they may do. Default `["people:read"]`.
    pub scopes: Scopes,
    /// How urgent their lookups are. Default interactive.
    pub class: Class,
    /// Their share, all together, beside others of their class, 1 to 1000. Default 1.
    #[serde(deserialize_with = "units::count::<1, 1000, _, _>")]
    pub weight: u32,
    /// How much they may ask of this gateway, all together. Default: whatever they like.
    pub limits: InboundLimits,
}

/// How much one client may ask of this gateway, answered from memory or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct InboundLimits {
    /// Requests a second on average, up to a million. Default 0: no limit.
    #[serde(deserialize_with = "units::count::<0, 1_000_000, _, _>")]
    pub requests: u32,
    /// Requests that may come at once after a pause, up to a million. Default 0: as many as a
    /// second has.
    #[serde(deserialize_with = "units::count::<0, 1_000_000, _, _>")]
    pub burst: u32,
    /// Requests under way at a time, up to a million. Default 0: no limit.
    #[serde(deserialize_with = "units::count::<0, 1_000_000, _, _>")]
    pub concurrent: u32,
}

/// How urgent a caller's lookups are; the first is served first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is looking at a screen.
    Interactive,
    /// Another program waits.
    Service,
    /// Nobody waits.
    Batch,
}

impl Class {
    /// The word for it, in configuration and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Service => "service",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let classes = [Self::Interactive, Self::Service, Self::Batch];
        units::word(deserializer, &classes.map(|class| (class.word(), class)))
    }
}

/// SHA-256 of a client token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Wraps a digest.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth, ..] = self.0;
        let start = u32::from_be_bytes([first, second, third, fourth]);
        write!(f, "TokenDigest({start:08x}...)")
    }
}

impl FromStr for TokenDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Never quoted: a token is easily pasted here in place of its digest.
        let expected = || "expected the SHA-256 of a token, 64 hexadecimal digits".to_owned();
        let digits: Vec<u32> = text.chars().map_while(|c| c.to_digit(16)).collect();
        if text.len() != 64 || digits.len() != 64 {
            return Err(expected());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(pair[0] * 16 + pair[1]).map_err(|_| expected())?;
        }
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn digests<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TokenDigest>, D::Error> {
    let digests = units::list(deserializer)?;
    if digests.is_empty() {
        return Err(de::Error::custom(
            "the list is empty; name at least one digest",
        ));
    }
    Ok(digests)
}

fn certificate_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names: Vec<String> = units::list(deserializer)?;
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(de::Error::custom(
            "a name is empty; leave the key out to have none",
        ));
    }
    Ok(names)
}

/// What a caller has that says nothing else, its workspace apart.
pub(super) fn defaults() -> Dict {
    let limits = ["requests", "burst", "concurrent"].map(|key| (key.to_owned(), Value::from(0)));
    let settings: [(&str, Value); 4] = [
        ("scopes", vec!["people:read"].into()),
        ("class", Class::Interactive.word().into()),
        ("weight", 1.into()),
        ("limits", Dict::from(limits).into()),
    ];
    settings.map(|(key, value)| (key.to_owned(), value)).into()
}

/// Refuses a client that nobody could be, and a token or a certificate that would speak for two.
pub(super) fn check_credentials(
    clients: &BTreeMap<ClientName, Client>,
    layers: &Layers,
    asks_for_certificates: bool,
) -> Result<(), Error> {
    let (mut digests, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (name, client) in clients {
        let refuse = |key: &str, problem: String| {
            let key = format!("clients.{name}{key}");
            Err(layers.refuse(&key, problem))
        };
        if client.token_sha256.is_empty() && client.certificate_names.is_empty() {
            return refuse("", "token_sha256 is missing".to_owned());
        }
        if !client.certificate_names.is_empty() && !asks_for_certificates {
            let problem = "no certificate is asked for; set server.tls.client_ca_file";
            return refuse(".certificate_names", problem.to_owned());
        }
        for digest in &client.token_sha256 {
            if let Some(owner) = digests.insert(digest, name) {
                let problem = format!("a digest is already listed for client {owner}");
                return refuse(".token_sha256", problem);
            }
        }
        for certified in &client.certificate_names {
            if let Some(owner) = names.insert(certified, name) {
                let problem = format!("{certified:?} is already listed for client {owner}");
                return refuse(".certificate_names", problem);
            }
        }
    }
    Ok(())
}

/// Refuses a workspace that is not configured.
pub(super) fn check_workspace(
    table: &str,
    named: &WorkspaceName,
    workspaces: &BTreeMap<WorkspaceName, RawWorkspace>,
    layers: &Layers,
) -> Result<(), Error> {
    if workspaces.contains_key(named) {
        return Ok(());
    }
    let known: Vec<_> = workspaces.keys().map(WorkspaceName::as_str).collect();
    let hint = match units::nearest(named.as_str(), known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("known are {}", known.join(", ")),
    };
    let problem = format!("no workspace is named \"{named}\"; {hint}");
    Err(layers.refuse(&format!("{table}.workspace"), problem))
}
