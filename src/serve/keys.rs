//! Reads Flameup keys again while they are refused, and keeps them apart.
//!
//! # Invariants
//! - No two workspaces use the same key: Flameup's limit is per key, and two budgets that do not know
//!   of each other would overdraw it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::MAINTENANCE;
use crate::config::{self, ApiKey};
use crate::workspace::Workspace;

/// A workspace, and where its keys come from.
pub(super) type Keyed = (Arc<Workspace>, config::Workspace);

/// All workspaces, of which one at a time takes other keys.
struct KeyRing(Mutex<Vec<Arc<Workspace>>>);

/// Reads the keys of all workspaces again whenever that may help.
pub(super) fn reload(keyed: Vec<Keyed>, chores: &mut JoinSet<()>) {
    let all = keyed.iter().map(|(workspace, _)| Arc::clone(workspace));
    let ring = Arc::new(KeyRing(Mutex::new(all.collect())));
    for (workspace, configured) in keyed {
        chores.spawn(reload_keys(Arc::clone(&ring), workspace, configured));
    }
}

/// Reads the keys of a workspace again, once a second while Flameup refuses them. One that has
/// changed is tried at once. A file that cannot be read to its end holds up nothing else.
async fn reload_keys(ring: Arc<KeyRing>, workspace: Arc<Workspace>, configured: config::Workspace) {
    let mut rounds = interval(MAINTENANCE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // So that a mistake is said once, and not each second.
    let mut said = None;
    loop {
        rounds.tick().await;
        if !workspace.shield().is_key_refused() {
            continue;
        }
        let configured = configured.clone();
        match tokio::task::spawn_blocking(move || configured.reload()).await {
            Ok(Ok(keys)) => {
                let taken = ring.give(&workspace, keys).err();
                if let Some(other) = taken.as_ref().filter(|_| said != taken) {
                    warn!(
                        workspace.name = workspace.name(),
                        workspace.other = other,
                        "a new key is another workspace's; the old ones are kept"
                    );
                }
                said = taken;
            }
            // A file that is being replaced; there is a next round.
            Ok(Err(error)) => {
                debug!(workspace.name = workspace.name(), error = %error, "no new key");
            }
            Err(_) => {}
        }
    }
}

impl KeyRing {
    /// Has a workspace take these keys, unless another has one of them: that one's name is returned.
    fn give(&self, workspace: &Arc<Workspace>, keys: Vec<ApiKey>) -> Result<(), String> {
        let all = self.0.lock();
        let mut others = all.iter().filter(|other| !Arc::ptr_eq(other, workspace));
        if let Some(other) = others.find(|other| other.shield().has_any_of(&keys)) {
            return Err(other.name().to_owned());
        }
        workspace.shield().replace_keys(keys);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, EmailCase, Sources};
    use crate::shield::{Settings, Shield};

    fn key(text: &str) -> ApiKey {
        let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", text)]));
        let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
        let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
        workspace.api_keys.remove(0).0
    }

    fn workspace(name: &str, keys: &[&str]) -> Arc<Workspace> {
        let settings = Settings {
            requests: 120,
            window: Duration::from_mins(1),
            reserve: 0.1,
            max_wait: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let keys = keys.iter().map(|text| key(text)).collect();
        let shield = Shield::new(keys, settings, Clock::system());
        Arc::new(Workspace::new(name, 0, shield, None, EmailCase::Exact))
    }

    #[test]
    fn a_key_that_another_workspace_has_is_not_taken() {
        let (one, two) = (workspace("one", &["a"]), workspace("two", &["b", "c"]));
        let ring = KeyRing(Mutex::new(vec![Arc::clone(&one), Arc::clone(&two)]));
        for taken in ["b", "c"] {
            let refused = ring.give(&one, vec![key("d"), key(taken)]);
            assert_eq!(refused, Err("two".to_owned()));
            assert!(one.shield().has_any_of(&[key("a")]));
        }
        assert_eq!(ring.give(&one, vec![key("a"), key("d")]), Ok(()));
        assert!(one.shield().has_any_of(&[key("d")]));
        assert_eq!(ring.give(&two, vec![key("d")]), Err("one".to_owned()));
    }
}
