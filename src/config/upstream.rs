//! `[upstream]`: where Flameup is, and how long it may take.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use serde::{Deserialize, Deserializer, de};

use super::Error;
use super::layers::Layers;
use super::units::{self, DAY, HOUR, MILLISECOND};

/// The way to Flameup.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Upstream {
    /// Scheme and authority of the API. Default `https://api.flameup.ai`.
    pub base_url: BaseUrl,
    /// Time to connect, TLS included; never zero, at most `timeout`. Default `"2s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, HOUR, _>")]
    pub connect_timeout: Duration,
    /// Time for a whole request, connecting included, to the last byte; never zero. Default `"5s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, HOUR, _>")]
    pub timeout: Duration,
    /// Age at which connections are used no more, up to 7 days, so that a name which leads elsewhere by
    /// now is followed under constant traffic too. Default `"1m"`; `"0s"`: never.
    #[serde(deserialize_with = "units::duration::<0, { 7 * DAY }, _>")]
    pub connection_max_age: Duration,
    /// PEM file of certificates trusted beside the system's. Default none.
    #[serde(default, deserialize_with = "units::path")]
    pub ca_file: Option<PathBuf>,
}

impl Upstream {
    pub(super) fn check(&self, layers: &Layers) -> Result<(), Error> {
        if self.connect_timeout <= self.timeout {
            return Ok(());
        }
        let problem = format!(
            "{:?} is longer than upstream.timeout, {:?}, which includes it",
            self.connect_timeout, self.timeout
        );
        Err(layers.refuse("upstream.connect_timeout", problem))
    }
}

/// Scheme and authority, nothing else: paths are the gateway's to make.
///
/// Cleartext is possible only to this machine, as every request carries the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `https`, or `http` when the authority is loopback.
    pub scheme: Scheme,
    /// Host and, if given, port; no user information.
    pub authority: Authority,
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Checked first and not quoted: what stands there may be a password.
        if text.contains('@') {
            return Err("user information has no place in this URL".to_owned());
        }
        let expected = || units::mismatch("a URL such as \"https://api.flameup.ai\"", text);
        let parts = text.parse::<Uri>().map_err(|_| expected())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(expected());
        };
        if authority.host().is_empty() || has_bad_port(&authority) {
            return Err(expected());
        }
        let bare = parts.path_and_query.is_none_or(|rest| is_root(&rest));
        if !bare || text.contains('#') {
            return Err(format!(
                "only scheme, host and port belong here, found {text:?}"
            ));
        }
        if scheme == Scheme::HTTPS || (scheme == Scheme::HTTP && is_loopback(authority.host())) {
            return Ok(Self { scheme, authority });
        }
        Err(format!(
            "must be https, or http to loopback, as it carries the key; found {text:?}"
        ))
    }
}

impl<'de> Deserialize<'de> for BaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn is_root(rest: &PathAndQuery) -> bool {
    matches!(rest.path(), "" | "/") && rest.query().is_none()
}

fn has_bad_port(authority: &Authority) -> bool {
    let after_host = &authority.as_str()[authority.host().len()..];
    !after_host.is_empty() && authority.port_u16().is_none_or(|port| port == 0)
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || literal
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_to_this_machine_are_taken() {
        for text in [
            "https://api.flameup.ai",
            "https://api.flameup.ai:8443",
            "http://127.0.0.1:9000",
            "http://localhost:9000",
            "http://[::1]:9000",
        ] {
            let url: BaseUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), text);
        }
        assert!("https://api.flameup.ai/".parse::<BaseUrl>().is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "api.flameup.ai",
            "http://api.flameup.ai",
            "http://localhost.example",
            "ftp://127.0.0.1",
            "https://api.flameup.ai/api/v1",
            "https://api.flameup.ai?a=b",
            "https://api.flameup.ai/#a",
            "https://a:b@api.flameup.ai",
            "https://api.flameup.ai:99999",
            "https://api.flameup.ai:",
            "https://:443",
        ] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
