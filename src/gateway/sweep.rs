//! Makes room where a change of everybody has outdated what is stored. None of it is served any
//! more, so nobody waits for this, and no thread that answers does it: with hundreds of thousands of
//! people it takes tenths of a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Gateway;
use crate::cache::change::Removed;
use crate::workspace::Workspace;

/// The sweeps that are due: of each workspace one at most, and one of all under way.
#[derive(Debug)]
pub(super) struct Sweeps {
    /// By workspace: whether one is to begin.
    due: Box<[AtomicBool]>,
    turn: Mutex<()>,
}

impl Sweeps {
    /// None are due, in this many workspaces.
    pub(super) fn new(workspaces: usize) -> Self {
        Self {
            due: (0..workspaces).map(|_| AtomicBool::new(false)).collect(),
            turn: Mutex::default(),
        }
    }

    fn of(&self, workspace: &Workspace) -> Option<&AtomicBool> {
        self.due.get(usize::try_from(workspace.number()).ok()?)
    }
}

impl Gateway {
    /// Sweeps a workspace, and says what went.
    pub(super) fn sweep(self: &Arc<Self>, workspace: &Arc<Workspace>) -> JoinHandle<Removed> {
        let (gateway, workspace) = (Arc::clone(self), Arc::clone(workspace));
        tokio::task::spawn_blocking(move || {
            let _turn = gateway.sweeps.turn.lock();
            if let Some(due) = gateway.sweeps.of(&workspace) {
                // Who asks for one from now on may have outdated what this one has passed.
                due.store(false, Ordering::SeqCst);
            }
            gateway.cache.sweep(&workspace)
        })
    }

    /// Sees that a workspace is swept. One that has not begun yet takes everything with it.
    pub(super) fn sweep_soon(self: &Arc<Self>, workspace: &Arc<Workspace>) {
        let is_due = |due: &AtomicBool| due.swap(true, Ordering::SeqCst);
        // A change that is dropped with the process has nothing to make room for.
        if Handle::try_current().is_ok() && !self.sweeps.of(workspace).is_some_and(is_due) {
            drop(self.sweep(workspace));
        }
    }
}
