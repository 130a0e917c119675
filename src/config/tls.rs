//! `[server.tls]`: what the clients' listeners prove themselves with, and whom they let in.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::units;

/// TLS on every TCP listener of the data plane. Unix sockets stay as they are.
///
/// The files are read by whoever listens, and again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Tls {
    /// PEM file: the gateway's certificate, then those that lead to a root.
    #[serde(deserialize_with = "file")]
    pub cert_file: PathBuf,
    /// PEM file: the certificate's private key.
    #[serde(deserialize_with = "file")]
    pub key_file: PathBuf,
    /// PEM file: the authorities that clients' certificates must come from. Default none: clients are
    /// asked for no certificate. With it, none gets in without one.
    #[serde(default, deserialize_with = "units::path")]
    pub client_ca_file: Option<PathBuf>,
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = units::path(deserializer)?;
    path.ok_or_else(|| de::Error::custom("the path is empty"))
}
