//! Reads the operators' token again when its file changes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::watched::{Look, ROUND, Watched};
use crate::admin::Admin;
use crate::config::{self, AdminToken, SecretError};

/// The token's file, and whom to tell what is in it.
#[derive(Debug)]
pub(super) struct TokenFile {
    admin: Arc<Admin>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    configured: config::Admin,
    token: Watched<Option<AdminToken>>,
    overlap: Duration,
    /// Counts configurations: what was read for an earlier one is of no use.
    version: u64,
}

impl TokenFile {
    pub(super) fn new(
        admin: Arc<Admin>,
        configured: config::Admin,
        overlap: Duration,
    ) -> Arc<Self> {
        let state = Mutex::new(State {
            token: Watched::new(configured.token.clone()),
            configured,
            overlap,
            version: 0,
        });
        Arc::new(Self { admin, state })
    }

    /// Takes the token as another configuration has it.
    pub(super) fn reconfigure(&self, configured: &config::Admin, overlap: Duration) {
        let mut state = self.state.lock();
        (state.configured, state.overlap) = (configured.clone(), overlap);
        state.version += 1;
        if *state.token.current() != configured.token {
            state.token.take(configured.token.clone());
            self.admin.replace_token(configured.token.clone(), overlap);
        }
    }

    /// Watches the file.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let (configured, version) = {
                let state = self.state.lock();
                (state.configured.clone(), state.version)
            };
            let read = tokio::task::spawn_blocking(move || configured.reload()).await;
            if let Ok(read) = read {
                self.judge(version, read);
            }
        }
    }

    fn judge(&self, version: u64, read: Result<Option<AdminToken>, SecretError>) {
        let mut state = self.state.lock();
        if version != state.version {
            return;
        }
        match state.token.look(read, false) {
            Look::Same => {}
            Look::New(token) => {
                state.token.take(token.clone());
                self.admin.replace_token(token, state.overlap);
                info!("the admin token was replaced in its file");
            }
            Look::Unusable(problem) => warn!(
                error = problem,
                "the admin token in its file cannot be used; the one before is kept"
            ),
        }
    }
}
