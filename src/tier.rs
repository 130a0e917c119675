//! What several gateways share through Redis or Valkey: a second tier of memory, one budget, one truth.
//!
//! Nothing of it is needed to answer. Every call has a deadline and the whole a breaker ([`link`]);
//! without Redis each gateway is a good single machine.
//!
//! - [`shelf`] is the second tier: what one gateway has fetched, for all of them.
//! - `purse` leases the budget of a Flameup key in slices.
//! - [`log`] tells every gateway of a change before the change's answer is given.
//! - `purse` leases the budget of a Flameup key in slices.
//!
//! # Invariants
//! - Redis sees no name, no body and no key: what is kept there is sealed ([`seal`]), and stands under
//!   keyed hashes ([`names`]).
//! - Whatever comes from there is a miss unless it proves what it is.
//! - All of one workspace is in one slot of a Cluster, so that a script sees it whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use uuid::Uuid;

pub mod link;
pub mod log;
pub mod names;
pub mod numbers;
pub mod position;
mod purse;
pub mod record;
pub mod seal;
pub mod shelf;
pub mod standing;
mod writer;

use crate::cache::freshness::StaleWindows;
use crate::clock::Clock;
use crate::config;
use crate::shield::breaker::State;
use crate::workspace::Workspace;
use link::Link;
use log::Log;
use names::Names;
use numbers::{Numbers, Recalled};
use purse::Purse;
use seal::Seal;
use shelf::{Shelf, Writing};
use writer::Writer;

/// How long a start waits for Redis. A connection takes a few milliseconds.
const WARM_UP: Duration = Duration::from_millis(250);

/// Between two lines about the same trouble.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// What is shared with other gateways.
#[derive(Debug)]
pub struct Tier {
    link: Arc<Link>,
    seal: Seal,
    numbers: Arc<Numbers>,
    clock: Clock,
    /// This process among the gateways. Made up at start: it tells nothing.
    replica: Uuid,
    /// How many leases were asked for.
    asked: AtomicU64,
    /// When it was last said that something does not open.
    said_broken: Mutex<Option<Instant>>,
}

/// What this gateway has of the tier, for each of its workspaces.
#[derive(Debug)]
pub struct Shared {
    tier: Arc<Tier>,
    /// By the number of the workspace.
    shelves: Vec<Arc<Shelf>>,
    /// By the number of the workspace.
    logs: Vec<Arc<Log>>,
    writer: Writer,
    /// Ask the purses, for as long as this is there.
    _asking: JoinSet<()>,
}

/// What the shelves of a tier are made with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long past its lifetime a person may be served.
    pub windows: StaleWindows,
    /// How long a fetch may take.
    pub longest_fetch: Duration,
    /// For how long what is stored may be served at all.
    pub retention: Duration,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder(String);

impl Holder {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl Shared {
    /// A tier as configured, for the workspaces of these names. Nothing is connected yet.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new<'w>(
        config: &config::Redis,
        workspaces: impl Iterator<Item = &'w Arc<Workspace>>,
        settings: Settings,
        clock: Clock,
        registry: &mut Registry,
    ) -> Result<Self, link::Error> {
        let numbers = Numbers::register(registry);
        let names = Names::new(config);
        let tier = Arc::new(Tier {
            link: Link::new(config, clock.clone(), Arc::clone(&numbers))?,
            seal: Seal::new(&config.seal_keys),
            numbers,
            clock,
            replica: Uuid::now_v7(),
            asked: AtomicU64::new(0),
            said_broken: Mutex::default(),
        });
        let [.., a, b, c, d] = *tier.replica.as_bytes();
        let turn = f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX);
        let mut asking = JoinSet::new();
        let shelf = |workspace: &Arc<Workspace>| {
            let names = names.of(workspace.name());
            let shield = workspace.shield();
            shield.share(config.replicas, turn);
            let purse = Purse::new(
                Arc::clone(&tier),
                names.clone(),
                workspace.name(),
                Arc::clone(shield),
            );
            asking.spawn(purse.run());
            Arc::new(Shelf::new(
                Arc::clone(&tier),
                names,
                settings.windows,
                settings.longest_fetch,
            ))
        };
        let workspaces: Vec<_> = workspaces.collect();
        let shelves: Vec<_> = workspaces.iter().copied().map(shelf).collect();
        let log = |(workspace, shelf): (&&Arc<Workspace>, &Arc<Shelf>)| {
            let (number, name) = (workspace.number(), Box::from(workspace.name()));
            let standing = Arc::clone(shelf.standing());
            Arc::new(Log::new(
                Arc::clone(&tier),
                shelf.names().clone(),
                standing,
                log::Named { number, name },
                settings.retention,
                settings.longest_fetch,
            ))
        };
        Ok(Self {
            logs: workspaces.iter().zip(&shelves).map(log).collect(),
            shelves,
            _asking: asking,
            writer: Writer::start(Arc::clone(&tier.numbers)),
            tier,
        })
    }

    /// Gives the first connection a moment, so that the first lookups after a start find what others
    /// have. Without Redis it is only a moment.
    pub async fn warm_up(&self) {
        self.tier.link.connected(WARM_UP).await;
    }

    /// The second tier of the workspace of this number.
    pub fn shelf(&self, workspace: u32) -> Option<&Arc<Shelf>> {
        self.shelves.get(usize::try_from(workspace).ok()?)
    }

    /// The log of the workspace of this number.
    pub fn log(&self, workspace: u32) -> Option<&Arc<Log>> {
        self.logs.get(usize::try_from(workspace).ok()?)
    }

    /// Whether calls reach Redis, as far as is known, and how the breaker stands.
    pub fn state(&self) -> (bool, State) {
        (self.tier.link.is_up(), self.tier.link.state())
    }

    /// All logs.
    pub fn logs(&self) -> &[Arc<Log>] {
        &self.logs
    }

    /// Counts a change that not everybody has confirmed.
    pub fn count_unconfirmed(&self) {
        self.tier.numbers.unconfirmed();
    }

    /// Has a response of the workspace of this number written down, soon, if there is room for it.
    pub fn write(&self, workspace: u32, writing: Writing) {
        if let Some(shelf) = self.shelf(workspace) {
            self.writer.write(Arc::clone(shelf), writing);
        }
    }

    /// Notes for operators how the breaker stands.
    pub fn observe(&self) {
        self.tier.link.show_breaker();
    }
}

impl Tier {
    /// A holder that there has not been before.
    fn holder(&self) -> Holder {
        let count = self.asked.fetch_add(1, Ordering::Relaxed);
        Holder(format!("{}:{count}", self.replica.simple()))
    }

    /// Counts what was found and is of no use. That something does not open is said, but not so often
    /// that whoever writes to Redis can fill the log.
    fn recalled_in_vain(&self, why: Recalled) {
        self.numbers.recalled(why);
        if why != Recalled::Broken {
            return;
        }
        let (now, mut said) = (self.clock.now(), self.said_broken.lock());
        if said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY) {
            *said = Some(now);
            tracing::warn!("something in Redis does not open: it is another's, or was changed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::config::{Config, Redis, SealKey, Sources};

    /// A configuration with keys that are long enough, each told by its name.
    pub(super) fn config(keys: &[&str]) -> Redis {
        let files: Vec<_> = keys
            .iter()
            .map(|name| {
                let mut file = tempfile::NamedTempFile::new().expect("a file");
                writeln!(file, "{}", name.repeat(32)).expect("written");
                file
            })
            .collect();
        let paths: Vec<_> = files
            .iter()
            .map(|file| file.path().to_string_lossy().into_owned())
            .collect();
        let text = format!("[redis]\nurl = \"redis://127.0.0.1\"\nencryption_key_file = {paths:?}");
        let sources = Sources::inline(text, [("FLAMEUP_API_KEY", "ws_test_a.b")]);
        let loaded = Config::load(&sources).expect("a configuration");
        loaded.config.redis.expect("redis is configured")
    }

    pub(super) fn keys(names: &[&str]) -> Vec<SealKey> {
        config(names).seal_keys
    }
}
