//! Puts the parts together: from a configuration to a gateway that listens.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_otlp::ExporterBuildError;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

mod admin_token;
mod callers;
mod certificates;
mod keys;
pub mod reload;
mod watched;

use crate::admin::Admin;
use crate::cache::Settings;
use crate::cache::freshness::StaleWindows;
use crate::clock::Clock;
use crate::config::{self, Config, Listen, ListenAddress, Loaded, WorkspaceId, WorkspaceName};
use crate::gateway::{Behind, Bounds, Gateway};
use crate::server::listener::Listener;
use crate::server::tls::{self, Tls};
use crate::server::{Entrance, Numbers, Server};
use crate::shield::{self, Shield};
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::trace::Traces;
use crate::tier::{self, Shared};
use crate::upstream::connect::Connector;
use crate::upstream::{self, Upstream};
use crate::workspace::Workspace;
use admin_token::TokenFile;
use callers::Roll;
use keys::KeyRing;

/// Between two rounds of letting go of what the cache need not keep.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// How long operators' requests under way may take once the gateway has drained.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// A gateway that listens. Dropping it ends it at once; [`Running::drain`] ends it well.
#[derive(Debug)]
pub struct Running {
    gateway: Arc<Gateway>,
    data: Arc<Server<Gateway>>,
    admin: Arc<Admin>,
    operators: Arc<Server<Admin>>,
    addresses: Vec<ListenAddress>,
    admin_address: Option<ListenAddress>,
    drain_timeout: Duration,
    workspaces: Workspaces,
    roll: Mutex<Roll>,
    keys: Arc<KeyRing>,
    admin_token: Arc<TokenFile>,
    telemetry: Arc<Telemetry>,
    entrance: Arc<Entrance>,
    /// Ended with the gateway.
    chores: JoinSet<()>,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The way to Flameup is not usable.
    #[error("preparing connections to the upstream")]
    Upstream(#[from] upstream::connect::Error),
    /// Certificates for the clients' listeners are of no use.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// There are no sockets of a systemd unit, or they are of no use.
    #[error("taking the sockets of the systemd unit (server.listen)")]
    Systemd(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("listening on {address} ({key})")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// The configuration key it stands under.
        key: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The way to Redis is not usable.
    #[error(transparent)]
    Redis(#[from] tier::link::Error),
    /// Spans cannot be sent to the collector.
    #[error("preparing to send traces (telemetry.otlp_endpoint)")]
    Traces(#[source] ExporterBuildError),
}

impl Running {
    /// Starts a gateway as configured.
    ///
    /// # Errors
    /// When it cannot listen, or could not reach Flameup; see [`Error`].
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, Error> {
        let upstream = Upstream::new(&config.upstream)?;
        let tls = config.server.tls.as_ref().map(Tls::load).transpose()?;
        let proxies = config.server.proxy_protocol_from.clone();
        let entrance = Arc::new(Entrance {
            tls: tls.map(Arc::new),
            proxies,
        });
        let listeners = bind_all(&config.server.listen).await?;
        let admin_listener = match &config.admin.listen {
            Some(address) => Some(bind(address, "admin.listen").await?),
            None => None,
        };

        let workspaces = workspaces(config, &clock);
        let mut roll = Roll::new(clock.clone());
        let callers = roll.call(config, &workspaces);
        let keys = key_ring(config, &workspaces, &clock);
        let mut metrics = Metrics::new(callers.iter());
        let shared = shared(config, &workspaces, &clock, metrics.registry())?;
        if let Some(shared) = &shared {
            shared.warm_up().await;
        }
        let telemetry = telemetry(config, metrics)?;
        let gateway = Gateway::new(
            workspaces.values().cloned().collect(),
            callers,
            settings(config),
            Behind { upstream, shared },
            bounds(config),
            clock,
            Arc::clone(&telemetry),
        );
        let numbers = telemetry.metrics().connections().clone();
        let limits = &config.server.limits;
        let data = Server::new(Arc::clone(&gateway), limits, numbers);
        let addresses = addresses(&listeners);
        let shown = addresses.iter().map(ToString::to_string);
        let admin = Arc::new(Admin::new(
            Arc::clone(&gateway),
            Arc::clone(&telemetry),
            config.admin.token.clone(),
            shown.collect(),
        ));
        let operators = Server::new(Arc::clone(&admin), limits, Numbers::default());

        let overlap = config.secrets.overlap;
        let admin_token = TokenFile::new(Arc::clone(&admin), config.admin.clone(), overlap);

        let mut chores = chores(&gateway, &keys, &admin_token);
        gateway.catch_up().await;
        if let Some(tls) = &entrance.tls {
            chores.spawn(certificates::watch(
                Arc::clone(tls),
                telemetry.metrics().connections().clone(),
            ));
        }
        let running = Self {
            addresses,
            admin_address: admin_listener
                .as_ref()
                .and_then(|listener| listener.address().ok()),
            drain_timeout: config.server.drain_timeout,
            chores,
            workspaces,
            roll: Mutex::new(roll),
            keys,
            admin_token,
            telemetry,
            entrance,
            gateway,
            data,
            admin,
            operators,
        };
        running.listen(listeners, admin_listener);
        Ok(running)
    }

    fn listen(&self, listeners: Vec<Listener>, admin_listener: Option<Listener>) {
        for listener in listeners {
            self.data.listen(listener, &self.entrance);
        }
        if let Some(listener) = admin_listener {
            self.operators.listen(listener, &Arc::default());
        }
    }

    /// What answers the clients.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Shows operators this as the configuration in effect, secrets redacted.
    pub fn show(&self, loaded: &Loaded) {
        let mut printed = Vec::new();
        // Memory takes whatever is written.
        if loaded.print(&mut printed).is_ok() {
            self.admin.show_configuration(printed);
        }
    }

    /// Waits for a moment until what is traced has been sent.
    pub async fn flush(&self) {
        self.telemetry.flush().await;
    }

    /// Where clients are listened to.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Where operators are listened to.
    pub fn admin_address(&self) -> Option<&ListenAddress> {
        self.admin_address.as_ref()
    }

    /// Takes over what of another configuration can change while the gateway runs; see
    /// [`reload::Reloader`], which makes sure that nothing else differs. Certificates come first: of
    /// all this, they alone may be of no use, and then nothing is changed.
    async fn reconfigure(&self, config: &Config) -> Result<(), reload::Error> {
        if let (Some(tls), Some(files)) = (&self.entrance.tls, &config.server.tls) {
            let numbers = self.telemetry.metrics().connections();
            let reloaded = certificates::reload(tls, files.clone(), numbers).await;
            reloaded.ok_or(reload::Error::BrokeOff)??;
        }
        let callers = self.roll.lock().call(config, &self.workspaces);
        self.telemetry.metrics().know(callers.iter());
        self.gateway.replace_callers(callers);
        let overlap = config.secrets.overlap;
        self.keys.reconfigure(&config.workspaces, overlap);
        self.admin_token.reconfigure(&config.admin, overlap);
        self.telemetry.set_access_log(config.telemetry.access_log);
        Ok(())
    }

    /// Stops accepting, lets what was accepted finish, and ends. Takes no longer than the
    /// configured drain timeout and a moment.
    pub async fn drain(mut self) {
        info!("draining");
        self.admin.drain();
        if !self.data.drain(self.drain_timeout).await {
            warn!("some connections did not finish in time and were ended");
        }
        self.operators.drain(ADMIN_DRAIN).await;
        self.chores.shutdown().await;
        self.gateway.leave().await;
        self.flush().await;
        info!("stopped");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.data.kill();
        self.operators.kill();
    }
}

async fn bind(address: &ListenAddress, key: &'static str) -> Result<Listener, Error> {
    let listener = Listener::bind(address).await;
    listener.map_err(|source| Error::Listen {
        address: address.clone(),
        key,
        source,
    })
}

async fn bind_all(listen: &[Listen]) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::with_capacity(listen.len());
    for listen in listen {
        match listen {
            Listen::At(address) => listeners.push(bind(address, "server.listen").await?),
            Listen::Systemd => listeners.extend(Listener::inherited().map_err(Error::Systemd)?),
        }
    }
    Ok(listeners)
}

fn addresses(listeners: &[Listener]) -> Vec<ListenAddress> {
    listeners
        .iter()
        .filter_map(|listener| listener.address().ok())
        .collect()
}

/// What is shared with other gateways, if that is configured.
fn shared(
    config: &Config,
    workspaces: &Workspaces,
    clock: &Clock,
    registry: &mut Registry,
) -> Result<Option<Shared>, Error> {
    let Some(redis) = &config.redis else {
        return Ok(None);
    };
    let settings = tier::Settings {
        windows: settings(config).windows,
        longest_fetch: config.upstream.timeout,
        retention: config.cache.ttl + settings(config).windows.longest(),
    };
    Ok(Some(Shared::new(
        redis,
        workspaces.values(),
        settings,
        clock.clone(),
        registry,
    )?))
}

fn telemetry(config: &Config, metrics: Metrics) -> Result<Arc<Telemetry>, Error> {
    let configured = &config.telemetry;
    let traces = configured.otlp_endpoint.as_ref().map(|endpoint| {
        let connector = Connector::new(&config.upstream)?;
        let counts = metrics.spans().clone();
        Traces::start(endpoint, configured.trace_hits, connector, counts).map_err(Error::Traces)
    });
    let telemetry = Telemetry::new(metrics, configured.access_log, configured.hash_key.as_ref());
    Ok(Arc::new(telemetry.tracing(traces.transpose()?)))
}

fn settings(config: &Config) -> Settings {
    let cache = &config.cache;
    Settings {
        max_bytes: cache.max_bytes.as_u64(),
        aliases: cache.aliases,
        ttl: cache.ttl,
        ttl_jitter: cache.ttl_jitter,
        windows: StaleWindows {
            while_revalidate: cache.stale_while_revalidate,
            if_error: cache.stale_if_error,
        },
        negative_ttl: cache.negative_ttl,
        // Half of the time that it may take at most: late enough that it is the exception, early
        // enough that a second attempt can still serve those who wait.
        stall_after: config.upstream.timeout / 2,
        harvest: cache.harvest,
        events_invalidate: cache.events_invalidate,
    }
}

fn bounds(config: &Config) -> Bounds {
    let limits = &config.server.limits;
    Bounds {
        body_bytes: limits.body_bytes.as_u64(),
        headers: limits.headers,
    }
}

/// The workspaces by name, each with a number of its own.
type Workspaces = BTreeMap<WorkspaceName, Arc<Workspace>>;

fn workspaces(config: &Config, clock: &Clock) -> Workspaces {
    (0..=u32::MAX)
        .zip(&config.workspaces)
        .map(|(index, (name, workspace))| {
            let id = workspace.workspace_id.as_ref().map(WorkspaceId::as_str);
            let shield = shield(workspace, config.upstream.timeout, clock);
            let email_case = config.cache.email_case;
            (
                name.clone(),
                Arc::new(Workspace::new(name.as_str(), index, shield, id, email_case)),
            )
        })
        .collect()
}

/// The keys of each workspace, and where they come from.
fn key_ring(config: &Config, workspaces: &Workspaces, clock: &Clock) -> Arc<KeyRing> {
    let of = |(name, workspace): (&WorkspaceName, &Arc<Workspace>)| {
        Some((Arc::clone(workspace), config.workspaces.get(name)?.clone()))
    };
    let keyed = workspaces.iter().filter_map(of);
    KeyRing::new(keyed, config.secrets.overlap, clock.clone())
}

fn shield(workspace: &config::Workspace, timeout: Duration, clock: &Clock) -> Arc<Shield> {
    let budget = &workspace.budget;
    let settings = shield::Settings {
        requests: budget.requests,
        window: budget.window,
        reserve: budget.reserve,
        max_wait: budget.max_wait,
        timeout,
    };
    let keys = workspace
        .api_keys
        .iter()
        .map(|(key, _)| key.clone())
        .collect();
    Shield::new(keys, settings, clock.clone())
}

/// What has to be done from time to time.
fn chores(gateway: &Arc<Gateway>, keys: &Arc<KeyRing>, token: &Arc<TokenFile>) -> JoinSet<()> {
    let mut chores = JoinSet::new();
    chores.spawn(maintain(Arc::clone(gateway)));
    gateway.follow(&mut chores);
    keys.watch(&mut chores);
    chores.spawn(Arc::clone(token).watch());
    chores
}

/// Lets go, once a second, of what the cache need not keep.
async fn maintain(gateway: Arc<Gateway>) {
    let mut rounds = interval(MAINTENANCE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        gateway.maintain();
    }
}
