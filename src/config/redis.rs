//! `[redis]`: what several gateways share, if they do.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::layers::Layers;
use super::secret::{self, SealKey, SecretSource};
use super::units::{self, MILLISECOND, SECOND};
use super::{Error, RedisPassword};

/// One before and one after a rotation.
const MAX_KEYS: usize = 2;

/// The way to Redis or Valkey, and what is kept there is sealed with.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is.
    pub url: RedisUrl,
    /// The ACL user. Default none: the default user.
    pub username: Option<String>,
    /// Where the password of that user is. Read at start, and again for each new connection. Default
    /// none.
    pub password_source: Option<SecretSource>,
    /// PEM file of certificates trusted in place of the system's, with `rediss`. Default none.
    pub ca_file: Option<PathBuf>,
    /// One, or two that overlap during a rotation: the first seals, both open.
    pub seal_keys: Vec<SealKey>,
    /// What names are made with. Default none: the last of `seal_keys`.
    pub names_key: Option<SealKey>,
    /// What all keys in Redis begin with. Default `"flameup"`.
    pub prefix: String,
    /// Time for any call; never zero, at most a second. Default `"20ms"`.
    pub timeout: Duration,
    /// How many gateways share the Flameup keys, as long as Redis has not told. Default 1.
    pub replicas: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(super) struct RawRedis {
    url: RedisUrl,
    #[serde(default)]
    username: Option<String>,
    #[serde(default, deserialize_with = "units::path")]
    password_file: Option<PathBuf>,
    #[serde(default, deserialize_with = "units::path")]
    ca_file: Option<PathBuf>,
    #[serde(deserialize_with = "files")]
    encryption_key_file: Vec<PathBuf>,
    #[serde(default, deserialize_with = "units::path")]
    names_key_file: Option<PathBuf>,
    #[serde(default = "prefix", deserialize_with = "read_prefix")]
    prefix: String,
    #[serde(
        default = "timeout",
        deserialize_with = "units::duration::<MILLISECOND, SECOND, _>"
    )]
    timeout: Duration,
    #[serde(
        default = "replicas",
        deserialize_with = "units::count::<1, 1_000, _, _>"
    )]
    replicas: u32,
}

impl RawRedis {
    /// Reads the secrets.
    pub(super) fn resolve(self, layers: &Layers) -> Result<Redis, Error> {
        let read = |key, file| {
            SealKey::read(SecretSource::File(file), layers.environment())
                .map_err(|source| layers.secret(key, source))
        };
        let seal_keys = self.encryption_key_file.into_iter();
        let seal_keys = seal_keys.map(|file| read("redis.encryption_key_file", file));
        let names_key = self.names_key_file;
        let names_key = names_key.map(|file| read("redis.names_key_file", file));
        let password_source = self.password_file.map(SecretSource::File);
        if let Some(source) = &password_source {
            RedisPassword::read(source.clone())
                .map_err(|source| layers.secret("redis.password_file", source))?;
        }
        Ok(Redis {
            url: self.url,
            username: self.username,
            password_source,
            ca_file: self.ca_file,
            seal_keys: seal_keys.collect::<Result<_, Error>>()?,
            names_key: names_key.transpose()?,
            prefix: self.prefix,
            timeout: self.timeout,
            replicas: self.replicas,
        })
    }
}

impl Redis {
    /// Reads the password, if there is one.
    ///
    /// # Errors
    /// When its file does not hold one.
    pub fn password(&self) -> Result<Option<RedisPassword>, secret::Error> {
        let source = self.password_source.clone();
        source.map(RedisPassword::read).transpose()
    }
}

/// Where Redis is, and how it is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Its servers, or its Sentinels.
    pub servers: Vec<(String, u16)>,
    /// What they are.
    pub topology: Topology,
}

/// How Redis is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server, and the number of its database.
    Single(i64),
    /// A Cluster, of which some nodes are named.
    Cluster,
    /// Whichever server the Sentinels say is the master of this name.
    Sentinel(String),
}

impl FromStr for RedisUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "a URL: redis://HOST:PORT/DATABASE, redis+cluster://HOST:PORT,HOST:PORT or \
             redis+sentinel://HOST:PORT,HOST:PORT/MASTER, or rediss with TLS";
        // Checked first and not quoted: what stands there may be a password.
        if text.contains('@') {
            return Err(
                "user information has no place in this URL; set username and password_file"
                    .to_owned(),
            );
        }
        let expected = || units::mismatch(EXPECTED, text);
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return Err(expected()),
        };
        let (topology, default_port) = match (kind, path) {
            ("", "") => (Topology::Single(0), 6379),
            ("", path) => (
                Topology::Single(path.parse().map_err(|_| expected())?),
                6379,
            ),
            ("cluster", "") => (Topology::Cluster, 6379),
            ("sentinel", master) if !master.is_empty() => {
                (Topology::Sentinel(master.to_owned()), 26379)
            }
            _ => return Err(expected()),
        };
        let servers: Option<Vec<_>> = hosts
            .split(',')
            .map(|host| server(host, default_port))
            .collect();
        let servers = servers.ok_or_else(expected)?;
        if servers.len() > 1 && matches!(topology, Topology::Single(_)) {
            return Err(expected());
        }
        Ok(Self {
            tls,
            servers,
            topology,
        })
    }
}

/// A host and its port; an IPv6 address stands in brackets.
fn server(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default_port),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let ambiguous = bare.is_none() && host.contains([':', '[', ']']);
    let host = bare.unwrap_or(host);
    (!host.is_empty() && !ambiguous && port > 0).then(|| (host.to_owned(), port))
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let files: Vec<String> = units::list(deserializer)?;
    if files.is_empty() || files.len() > MAX_KEYS || files.iter().any(String::is_empty) {
        return Err(de::Error::custom("expected one file or two"));
    }
    Ok(files.into_iter().map(PathBuf::from).collect())
}

fn read_prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let prefix = String::deserialize(deserializer)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(plain) {
        let problem = "expected 1 to 64 letters, digits, dots, colons, dashes or underscores";
        return Err(de::Error::custom(problem));
    }
    Ok(prefix)
}

fn prefix() -> String {
    "flameup".to_owned()
}

fn timeout() -> Duration {
    Duration::from_millis(20)
}

fn replicas() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_has_a_url() {
        for (text, tls, servers, topology) in [
            ("redis://cache", false, 1, Topology::Single(0)),
            ("rediss://[::1]:7000/3", true, 1, Topology::Single(3)),
            ("redis+cluster://a:1,b:2,c", false, 3, Topology::Cluster),
            (
                "rediss+sentinel://a,b/main",
                true,
                2,
                Topology::Sentinel("main".to_owned()),
            ),
        ] {
            let url: RedisUrl = text.parse().expect(text);
            assert_eq!((url.tls, url.servers.len()), (tls, servers), "{text}");
            assert_eq!(url.topology, topology);
        }
        let url: RedisUrl = "redis://[::1]".parse().expect("an address");
        assert_eq!(url.servers, [("::1".to_owned(), 6379)]);
    }

    #[test]
    fn anything_else_is_refused_and_a_password_is_not_quoted() {
        for text in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:99999",
            "redis://::1",
            "redis://a/x",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis://user:secret@a",
        ] {
            let refused = text.parse::<RedisUrl>().expect_err(text);
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}
