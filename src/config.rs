//! Configuration: read once at start, wrong never after.
//!
//! Defaults are overridden by a TOML file, the file by the environment. What comes out has real types
//! and holds together: a listener exists for every caller it admits, a workspace for every client, a key
//! for every workspace. Loading is a function of its [`Sources`] and of the files they name; it reads
//! no environment of its own.
//!
//! # Invariants
//! - An unknown key is an error, never ignored.
//! - No listener beyond this machine serves callers without a token or a certificate: it would lend
//!   the key to the network.
//! - Neither an error nor [`Loaded::print`] shows a secret.

mod admin;
mod budget;
mod cache;
mod clients;
mod environment;
mod error;
mod layers;
mod limits;
mod name;
mod network;
mod origin;
mod redis;
mod report;
mod scope;
mod secret;
mod secrets;
mod server;
mod telemetry;
mod tls;
mod units;
mod upstream;
mod workspaces;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

pub use bytesize::ByteSize;
use figment::value::{Dict, Value};
use serde::Deserialize;

pub use self::admin::Admin;
pub use self::budget::Budget;
pub use self::cache::{Cache, EmailCase};
pub use self::clients::{Anonymous, Class, Client, InboundLimits, TokenDigest};
pub use self::environment::Environment;
pub use self::error::Error;
pub use self::limits::Limits;
pub use self::name::{ClientName, WorkspaceId, WorkspaceName};
pub use self::network::Network;
pub use self::origin::Origin;
pub use self::redis::{Redis, RedisUrl, Topology};
pub use self::scope::{Scope, Scopes};
pub use self::secret::{
    AdminToken, ApiKey, Error as SecretError, HashKey, RedisPassword, SealKey, SecretSource,
};
pub use self::secrets::Secrets;
pub use self::server::{Listen, ListenAddress, Server};
pub use self::telemetry::{AccessLog, LogFormat, Telemetry};
pub use self::tls::Tls;
pub use self::upstream::{BaseUrl, Upstream};
pub use self::workspaces::Workspace;

use self::admin::RawAdmin;
use self::layers::Layers;
use self::redis::RawRedis;
use self::report::Report;
use self::telemetry::RawTelemetry;
use self::workspaces::RawWorkspace;

/// The workspace there is when none is configured, and where its key is unless told otherwise.
const DEFAULT_WORKSPACE: &str = "default";
const DEFAULT_KEY_VARIABLE: &str = "FLAMEUP_API_KEY";

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data plane's listeners and limits.
    pub server: Server,
    /// The operators' listener.
    pub admin: Admin,
    /// The way to Flameup.
    pub upstream: Upstream,
    /// Workspaces by our name for them; at least one.
    pub workspaces: BTreeMap<WorkspaceName, Workspace>,
    /// Callers known by a token; their workspaces exist.
    pub clients: BTreeMap<ClientName, Client>,
    /// Callers without one; their workspace exists, and every listener is local.
    pub anonymous: Option<Anonymous>,
    /// How much is kept, and for how long it is served.
    pub cache: Cache,
    /// What is shared with other gateways; `None`: this process is alone.
    pub redis: Option<Redis>,
    /// How keys and tokens are handled.
    pub secrets: Secrets,
    /// Logs.
    pub telemetry: Telemetry,
}

/// What a configuration is loaded from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named on the command line; else the environment's `FLAMEUP_GATEWAY_CONFIG`, else none.
    pub file: Option<PathBuf>,
    /// TOML in place of a file; no file is read then.
    pub inline: Option<String>,
    /// The environment; the process hands in `std::env::vars_os().collect()`.
    pub environment: Environment,
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    report: Report,
}

impl Config {
    /// Loads a configuration.
    ///
    /// # Errors
    /// The first thing found wrong, with the key, its origin and what to do.
    pub fn load(sources: &Sources) -> Result<Loaded, Error> {
        let mut layers = Layers::read(sources)?;
        let raw: Raw = complete(&mut layers)?;
        let config = raw.resolve(&layers)?;
        Ok(Loaded {
            config,
            report: Report::new(&layers),
        })
    }

    /// Loads only what it takes to talk to a running gateway. No Flameup key is read.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_admin(sources: &Sources) -> Result<Admin, Error> {
        let mut layers = Layers::read(sources)?;
        let raw: Raw = complete(&mut layers)?;
        raw.admin.resolve(&layers)
    }
}

impl Sources {
    /// Sources with `text` in place of a file, and `environment`.
    pub fn inline<K, V>(
        text: impl Into<String>,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        Environment: FromIterator<(K, V)>,
    {
        Self {
            file: None,
            inline: Some(text.into()),
            environment: environment.into_iter().collect(),
        }
    }
}

impl Loaded {
    /// Writes every effective value and where it came from, a line each, secrets redacted.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        self.report.write(out)
    }

    /// Prints the same as JSON: `settings`, each with its `key`, its `value` as TOML has it, and its
    /// `origin`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print_json(&self, out: &mut impl io::Write) -> io::Result<()> {
        self.report.write_json(out)
    }

    /// The keys whose values differ from those of `earlier`, or that only one of the two has, in
    /// order. What stands in the files that keys name is not compared.
    pub fn changed_since(&self, earlier: &Self) -> Vec<String> {
        self.report.changed_since(&earlier.report)
    }
}

/// The settings as they are written: secrets by their place, references unresolved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    server: Server,
    admin: RawAdmin,
    upstream: Upstream,
    #[serde(default)]
    workspaces: BTreeMap<WorkspaceName, RawWorkspace>,
    #[serde(default)]
    clients: BTreeMap<ClientName, Client>,
    anonymous: Option<Anonymous>,
    cache: Cache,
    redis: Option<RawRedis>,
    secrets: Secrets,
    telemetry: RawTelemetry,
}

impl Raw {
    /// Checks what spans sections, and reads the secrets last: a mistake costs no read.
    fn resolve(self, layers: &Layers) -> Result<Config, Error> {
        self.upstream.check(layers)?;
        self.check_callers(layers)?;
        let mut workspaces = BTreeMap::new();
        for (name, workspace) in self.workspaces {
            let workspace = workspace.resolve(&name, layers)?;
            workspaces.insert(name, workspace);
        }
        workspaces::check_ids(&workspaces, layers)?;
        workspaces::check_keys(&workspaces, layers)?;
        Ok(Config {
            server: self.server,
            admin: self.admin.resolve(layers)?,
            upstream: self.upstream,
            workspaces,
            clients: self.clients,
            anonymous: self.anonymous,
            cache: self.cache,
            redis: self.redis.map(|raw| raw.resolve(layers)).transpose()?,
            secrets: self.secrets,
            telemetry: self.telemetry.resolve(layers)?,
        })
    }

    fn check_callers(&self, layers: &Layers) -> Result<(), Error> {
        let mut listen = self.server.listen.iter();
        if !self.server.asks_for_certificates()
            && let Some(exposed) = listen.find(|listen| !listen.is_local())
        {
            if self.anonymous.is_some() {
                let problem = format!(
                    "server.listen has {exposed}, which is beyond loopback; anonymous callers \
                     are possible only on loopback and Unix sockets, or with \
                     server.tls.client_ca_file"
                );
                return Err(layers.refuse("anonymous", problem));
            }
            if self.clients.is_empty() {
                let problem = format!(
                    "{exposed} is beyond loopback and no [clients.NAME] is configured: \
                     it would lend the key to the network"
                );
                return Err(layers.refuse("server.listen", problem));
            }
        }
        clients::check_credentials(&self.clients, layers, self.server.asks_for_certificates())?;
        for (name, client) in &self.clients {
            let table = format!("clients.{name}");
            clients::check_workspace(&table, &client.workspace, &self.workspaces, layers)?;
        }
        self.anonymous.as_ref().map_or(Ok(()), |anonymous| {
            clients::check_workspace("anonymous", &anonymous.workspace, &self.workspaces, layers)
        })
    }
}

/// Adds what follows from the layers and stands in none of them, then reads them all.
fn complete(layers: &mut Layers) -> Result<Raw, Error> {
    complete_default_workspace(layers);
    let tree = layers.tree();
    for workspace in names(&tree, "workspaces") {
        let path = ["workspaces", &workspace, "budget"];
        layers.complete(Origin::Default, &path, Budget::defaults());
    }
    for client in names(&tree, "clients") {
        let path = ["clients", &client];
        layers.complete(Origin::Default, &path, clients::defaults());
    }
    if table(&tree, "anonymous").is_some() {
        layers.complete(Origin::Default, &["anonymous"], clients::defaults());
    }
    let raw: Raw = layers.extract()?;
    let all_local = raw.server.listen.iter().all(Listen::is_local);
    let closed = all_local || raw.server.asks_for_certificates();
    if raw.anonymous.is_some() || !raw.clients.is_empty() || !closed {
        return Ok(raw);
    }
    admit_anonymous(layers, &raw)?;
    layers.extract()
}

/// Makes the default workspace if there is no other, and gives it the key it need not name.
fn complete_default_workspace(layers: &mut Layers) {
    let tree = layers.tree();
    let reason = if is_empty_table(&tree, "workspaces") {
        "no workspace is configured"
    } else if table(&tree, "workspaces")
        .and_then(|workspaces| table(workspaces, DEFAULT_WORKSPACE))
        .is_some_and(|default| !RawWorkspace::names_a_key(default))
    {
        "the default workspace names no other key"
    } else {
        return;
    };
    let origin = Origin::Derived(reason.to_owned());
    let path = ["workspaces", DEFAULT_WORKSPACE, "api_key_env"];
    layers.complete(origin, &path, DEFAULT_KEY_VARIABLE);
}

/// Lets whoever reaches a local gateway look people up, if it is clear in which workspace.
fn admit_anonymous(layers: &mut Layers, raw: &Raw) -> Result<(), Error> {
    let mut workspaces = raw.workspaces.keys();
    let (Some(only), None) = (workspaces.next(), workspaces.next()) else {
        let problem = "there are several, and no client; name one as workspace in [anonymous], \
                       or configure [clients.NAME]";
        return Err(layers.refuse("workspaces", problem.to_owned()));
    };
    let reason = if raw.server.asks_for_certificates() {
        "no client is configured and only certificates of server.tls.client_ca_file get in"
    } else {
        "no client is configured and every listener is local"
    };
    let origin = Origin::Derived(reason.to_owned());
    layers.complete(origin.clone(), &["anonymous", "workspace"], only.as_str());
    layers.complete(origin, &["anonymous"], clients::defaults());
    Ok(())
}

fn is_empty_table(tree: &Dict, section: &str) -> bool {
    !tree.contains_key(section) || table(tree, section).is_some_and(Dict::is_empty)
}

/// The names in a section; none if it is no table, which reading it will tell.
fn names(tree: &Dict, section: &str) -> Vec<String> {
    let tables = table(tree, section).into_iter().flatten();
    tables
        .filter(|(_, value)| value.as_dict().is_some())
        .map(|(name, _)| name.clone())
        .collect()
}

fn table<'a>(tree: &'a Dict, name: &str) -> Option<&'a Dict> {
    tree.get(name).and_then(Value::as_dict)
}
