//! What the process asks of the system for itself.
//!
//! # Specification
//! `sd_notify(3)` and `Type=notify` of `systemd.service(5)`; anything that sets `NOTIFY_SOCKET` does.

use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tracing::warn;

/// What core dumps were allowed to be before they were denied.
#[derive(Debug)]
pub struct CoreDumps {
    limit: Rlimit,
}

impl CoreDumps {
    /// Has no crash write this process's memory to a file, the keys in it among them. On Linux other
    /// processes of the same user cannot read that memory any more either.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn deny() -> io::Result<Self> {
        let limit = getrlimit(Resource::Core);
        setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                ..limit
            },
        )?;
        set_dumpable(false)?;
        Ok(Self { limit })
    }

    /// Allows them again as before.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn allow(self) -> io::Result<()> {
        setrlimit(Resource::Core, self.limit)?;
        set_dumpable(true)
    }
}

/// What a supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Requests are answered.
    Ready,
    /// The configuration is read again; [`Ready`](Self::Ready) follows.
    Reloading,
    /// No more work is taken.
    Stopping,
}

/// Tells the supervisor, if there is one that wants to know.
pub fn notify(state: State) {
    let states = match state {
        State::Ready => vec![NotifyState::Ready, NotifyState::Status("serving")],
        State::Reloading => [
            Some(NotifyState::Reloading),
            NotifyState::monotonic_usec_now().ok(),
        ]
        .into_iter()
        .flatten()
        .collect(),
        State::Stopping => vec![NotifyState::Stopping, NotifyState::Status("draining")],
    };
    if let Err(error) = sd_notify::notify(&states) {
        warn!(error = %error, "the supervisor cannot be told how things stand");
    }
}

/// Tells the supervisor from time to time that this process is alive, if it wants to hear it. Never
/// ends. To be run where requests are answered: if that hangs, the supervisor is to know.
pub async fn keep_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Half the time, as `sd_watchdog_enabled(3)` advises.
    let mut rounds = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        rounds.tick().await;
        // There is nobody else to tell.
        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
    }
}

#[cfg(target_os = "linux")]
fn set_dumpable(dumpable: bool) -> io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let behavior = if dumpable {
        DumpableBehavior::Dumpable
    } else {
        DumpableBehavior::NotDumpable
    };
    Ok(set_dumpable_behavior(behavior)?)
}

/// Elsewhere the limit is all there is.
#[cfg(not(target_os = "linux"))]
fn set_dumpable(_dumpable: bool) -> io::Result<()> {
    Ok(())
}
