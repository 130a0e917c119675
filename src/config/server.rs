//! `[server]`: where clients are listened to, and the limits they are held to.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::limits::Limits;
use super::network::Network;
use super::tls::Tls;
use super::units::{self, DAY};

/// How the sockets of a systemd unit are called.
const SYSTEMD: &str = "systemd";

/// The data plane's listeners and limits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Server {
    /// Where to listen, at least one. Default `["127.0.0.1:8080"]`.
    #[serde(deserialize_with = "listeners")]
    pub listen: Vec<Listen>,
    /// Worker threads, up to 1024. Default 0: one per core.
    #[serde(deserialize_with = "units::count::<0, 1024, _, _>")]
    pub workers: usize,
    /// How long requests in flight may finish after a stop signal. Default `"25s"`; `"0s"`: not at all.
    #[serde(deserialize_with = "units::duration::<0, DAY, _>")]
    pub drain_timeout: Duration,
    /// Peers whose connections begin with a PROXY header that names the client. Default `[]`: none.
    #[serde(deserialize_with = "units::list")]
    pub proxy_protocol_from: Vec<Network>,
    /// What one client, and all together, may ask of this process.
    pub limits: Limits,
    /// TLS to clients. Default none: cleartext.
    #[serde(default)]
    pub tls: Option<Tls>,
}

impl Server {
    /// Whether nobody gets in by TCP without a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca_file.is_some())
    }
}

/// What clients are listened to on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An address of ours to bind.
    At(ListenAddress),
    /// The sockets that systemd has bound, however many.
    Systemd,
}

impl Listen {
    /// Says whether only this machine can reach it. What systemd passes is known only at the start.
    pub fn is_local(&self) -> bool {
        match self {
            Self::At(address) => address.is_local(),
            Self::Systemd => false,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Systemd => f.write_str(SYSTEMD),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == SYSTEMD {
            return Ok(Self::Systemd);
        }
        text.parse().map(Self::At)
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Somewhere to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket at an absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Says whether only this machine can reach it: loopback or a Unix socket.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || units::mismatch("\"IP:PORT\", \"localhost:PORT\" or \"unix:/path\"", text);
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(expected());
            }
            return Ok(Self::Unix(path.into()));
        }
        // Resolving names would make loading depend on the network; this one name needs no resolver.
        if let Some(port) = text.strip_prefix("localhost:") {
            let port: u16 = port.parse().map_err(|_| expected())?;
            return Ok(Self::Tcp((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| expected())
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn listeners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Listen>, D::Error> {
    let listeners: Vec<Listen> = units::list(deserializer)?;
    if listeners.is_empty() {
        return Err(de::Error::custom(
            "the list is empty; name at least one address",
        ));
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> ListenAddress {
        text.parse().expect("an address")
    }

    #[test]
    fn loopback_and_unix_sockets_are_local_and_nothing_else_is() {
        let local = [
            "127.0.0.1:0",
            "127.9.9.9:80",
            "localhost:8080",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "unix:/run/gateway.sock",
        ];
        assert!(local.iter().all(|text| parsed(text).is_local()));
        let remote = ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "[2001:db8::1]:80"];
        assert!(!remote.iter().any(|text| parsed(text).is_local()));
    }

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in ["127.0.0.1:8080", "[::1]:80", "unix:/run/gateway.sock"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn names_relative_sockets_and_bad_ports_are_refused() {
        for text in [
            "",
            "8080",
            "example.com:80",
            "unix:run/x",
            "localhost:70000",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }
}
