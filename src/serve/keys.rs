//! Reads Flameup keys again when their files change, and keeps them apart.
//!
//! # Invariants
//! - No two workspaces use the same key: Flameup's limit is per key, and two budgets that do not know
//!   of each other would overdraw it.
//! - The keys of a workspace are replaced all together or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::watched::{Look, ROUND, Watched};
use crate::clock::Clock;
use crate::config::{self, ApiKey, SecretError, WorkspaceName};
use crate::workspace::Workspace;

/// The keys of all workspaces.
#[derive(Debug)]
pub(super) struct KeyRing {
    places: Mutex<Places>,
    clock: Clock,
}

#[derive(Debug)]
struct Places {
    all: Vec<Place>,
    /// How long a replaced key is kept.
    overlap: Duration,
    /// Counts configurations: what was read for an earlier one is of no use.
    version: u64,
}

/// The keys of one workspace, and where they come from.
#[derive(Debug)]
struct Place {
    workspace: Arc<Workspace>,
    configured: config::Workspace,
    keys: Watched<Vec<ApiKey>>,
    /// Replaced keys, to fall back on until then if Flameup refuses their successors.
    former: Vec<(ApiKey, Instant)>,
}

impl KeyRing {
    /// The keys of workspaces as they were configured.
    pub(super) fn new(
        keyed: impl IntoIterator<Item = (Arc<Workspace>, config::Workspace)>,
        overlap: Duration,
        clock: Clock,
    ) -> Arc<Self> {
        let place = |(workspace, configured): (Arc<Workspace>, config::Workspace)| Place {
            keys: Watched::new(keys_of(&configured)),
            former: Vec::new(),
            workspace,
            configured,
        };
        let places = Places {
            all: keyed.into_iter().map(place).collect(),
            overlap,
            version: 0,
        };
        Arc::new(Self {
            places: Mutex::new(places),
            clock,
        })
    }

    /// Watches the files of all keys. Each workspace by itself: a file that cannot be read to its
    /// end holds up nothing else.
    pub(super) fn watch(self: &Arc<Self>, chores: &mut JoinSet<()>) {
        let count = self.places.lock().all.len();
        for at in 0..count {
            chores.spawn(Arc::clone(self).watch_one(at));
        }
    }

    /// Takes the keys as another configuration has them, which made sure that no two are alike.
    pub(super) fn reconfigure(
        &self,
        workspaces: &BTreeMap<WorkspaceName, config::Workspace>,
        overlap: Duration,
    ) {
        let now = self.clock.now();
        let mut places = self.places.lock();
        (places.overlap, places.version) = (overlap, places.version + 1);
        let configured = |place: &Place| {
            let mut named = workspaces.iter();
            named.find(|(name, _)| name.as_str() == place.workspace.name())
        };
        for at in 0..places.all.len() {
            if let Some((_, configured)) = configured(&places.all[at]) {
                places.all[at].configured = configured.clone();
                let keys = keys_of(configured);
                if keys != *places.all[at].keys.current() {
                    places.replace(at, keys, now);
                }
            }
        }
        places.drop_former_in_use();
        for place in &places.all {
            place.apply();
        }
    }

    async fn watch_one(self: Arc<Self>, at: usize) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let (configured, version) = {
                let places = self.places.lock();
                (places.all[at].configured.clone(), places.version)
            };
            let read = tokio::task::spawn_blocking(move || configured.reload()).await;
            if let Ok(read) = read {
                self.places
                    .lock()
                    .judge(at, version, read, self.clock.now());
            }
        }
    }
}

impl Places {
    /// Takes in what a round has read for one workspace.
    fn judge(
        &mut self,
        at: usize,
        version: u64,
        read: Result<Vec<ApiKey>, SecretError>,
        now: Instant,
    ) {
        if version != self.version {
            return;
        }
        let place = &mut self.all[at];
        let is_refused = place.workspace.shield().is_key_refused();
        let mut look = place.keys.look(read, is_refused);
        if let Look::New(keys) = &look
            && let Some(problem) = self.taken(at, keys)
        {
            look = self.all[at].keys.complain(problem);
        }
        let name = self.all[at].workspace.name().to_owned();
        match look {
            Look::Same => {}
            Look::New(keys) => {
                self.replace(at, keys, now);
                self.all[at].apply();
                info!(workspace.name = name, "the key was replaced in its file");
            }
            Look::Unusable(problem) => warn!(
                workspace.name = name,
                error = problem,
                "the key in its file cannot be used; the one before is kept"
            ),
        }
        self.all[at].forget_former(now);
    }

    /// Why a workspace cannot have these keys: another has one of them.
    fn taken(&self, at: usize, keys: &[ApiKey]) -> Option<String> {
        let others = self
            .all
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at);
        let mut others = others.map(|(_, place)| &place.workspace);
        let other = others.find(|other| other.shield().has_any_of(keys))?;
        Some(format!("it is the key of workspace {}", other.name()))
    }

    fn replace(&mut self, at: usize, keys: Vec<ApiKey>, now: Instant) {
        let until = now + self.overlap;
        let place = &mut self.all[at];
        let before = place.keys.take(keys);
        if !self.overlap.is_zero() {
            let keys = place.keys.current();
            place.former = before.into_iter().map(|key| (key, until)).collect();
            place.former.retain(|(key, _)| !keys.contains(key));
        }
    }

    /// A key that went from one workspace to another is nobody's former one.
    fn drop_former_in_use(&mut self) {
        let places = self.all.iter();
        let used: Vec<ApiKey> = places
            .flat_map(|place| place.keys.current().clone())
            .collect();
        for place in &mut self.all {
            place.former.retain(|(key, _)| !used.contains(key));
        }
    }
}

impl Place {
    fn apply(&self) {
        let former = self.former.iter().map(|(key, _)| key.clone()).collect();
        let keys = self.keys.current().clone();
        self.workspace.shield().replace_keys(keys, former);
    }

    fn forget_former(&mut self, now: Instant) {
        let count = self.former.len();
        self.former.retain(|(_, until)| *until > now);
        if self.former.len() < count {
            self.apply();
        }
    }
}

fn keys_of(configured: &config::Workspace) -> Vec<ApiKey> {
    let keys = configured.api_keys.iter();
    keys.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hand;
    use crate::config::{Config, EmailCase, Sources};
    use crate::shield::{Settings, Shield};

    const OVERLAP: Duration = Duration::from_mins(10);

    fn configured(keys: &[&str]) -> config::Workspace {
        let mut workspaces = keys.iter().map(|text| {
            let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", *text)]));
            let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
            workspaces.pop_first().expect("the default workspace").1
        });
        let mut first = workspaces.next().expect("a key");
        for mut other in workspaces {
            first.api_keys.append(&mut other.api_keys);
        }
        first
    }

    fn keys(keys: &[&str]) -> Vec<ApiKey> {
        keys_of(&configured(keys))
    }

    fn ring(places: &[(&str, &[&str])]) -> (Arc<KeyRing>, Hand) {
        let (clock, hand) = Clock::manual();
        let settings = Settings {
            requests: 120,
            window: Duration::from_mins(1),
            reserve: 0.1,
            max_wait: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let keyed = places.iter().map(|(name, texts)| {
            let shield = Shield::new(keys(texts), settings, clock.clone());
            let workspace = Workspace::new(*name, 0, shield, None, EmailCase::Exact);
            (Arc::new(workspace), configured(texts))
        });
        (KeyRing::new(keyed, OVERLAP, clock.clone()), hand)
    }

    /// Reads the same twice, as it takes.
    fn read(ring: &KeyRing, at: usize, texts: &[&str]) {
        for _ in 0..2 {
            let now = ring.clock.now();
            ring.places.lock().judge(at, 0, Ok(keys(texts)), now);
        }
    }

    fn has(ring: &KeyRing, at: usize, text: &str) -> bool {
        let workspace = Arc::clone(&ring.places.lock().all[at].workspace);
        workspace.shield().has_any_of(&keys(&[text]))
    }

    #[test]
    fn a_key_that_another_workspace_has_is_not_taken() {
        let (ring, hand) = ring(&[("one", &["a"]), ("two", &["b", "c"])]);
        for taken in ["b", "c"] {
            read(&ring, 0, &["d", taken]);
            assert!(has(&ring, 0, "a") && !has(&ring, 0, "d"));
        }
        read(&ring, 0, &["d"]);
        assert!(has(&ring, 0, "d"));
        read(&ring, 1, &["d"]);
        assert!(has(&ring, 1, "b") && !has(&ring, 1, "d"));
        read(&ring, 1, &["a"]);
        assert!(!has(&ring, 1, "a"), "the first may still fall back on it");
        hand.advance(OVERLAP);
        read(&ring, 0, &["d"]);
        read(&ring, 1, &["a"]);
        assert!(has(&ring, 1, "a") && !has(&ring, 0, "a"));
    }

    #[test]
    fn what_was_replaced_is_kept_for_as_long_as_told() {
        let (ring, hand) = ring(&[("one", &["a"])]);
        read(&ring, 0, &["b"]);
        assert!(has(&ring, 0, "a") && has(&ring, 0, "b"));
        hand.advance(Duration::from_secs(599));
        read(&ring, 0, &["b"]);
        assert!(has(&ring, 0, "a"));
        hand.advance(Duration::from_secs(1));
        read(&ring, 0, &["b"]);
        assert!(!has(&ring, 0, "a") && has(&ring, 0, "b"));
    }

    #[test]
    fn another_configuration_may_exchange_the_keys_of_two_workspaces() {
        let (ring, _hand) = ring(&[("one", &["a"]), ("two", &["b"])]);
        let name = |text: &str| text.parse::<WorkspaceName>().expect("a name");
        let exchanged = BTreeMap::from([
            (name("one"), configured(&["b"])),
            (name("two"), configured(&["a"])),
        ]);
        ring.reconfigure(&exchanged, OVERLAP);
        assert!(has(&ring, 0, "b") && !has(&ring, 0, "a"));
        assert!(has(&ring, 1, "a") && !has(&ring, 1, "b"));
        // What was read for the configuration before is of no use any more.
        read(&ring, 0, &["c"]);
        assert!(!has(&ring, 0, "c"));
    }
}
