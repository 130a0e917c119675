//! Takes certificates from their files when these change, and when the configuration is read again.
//!
//! Files are compared by content, once a second: whether they were written in place, renamed, or
//! reached by a symbolic link that points elsewhere now, as in Kubernetes, makes no difference.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::MAINTENANCE;
use crate::config;
use crate::server::tls::{Error, Tls};
use crate::server::{Numbers, ResultLabels};
use crate::telemetry::chain;

/// Reads the files again and again. A mistake is said once, and so is its end.
pub(super) async fn watch(tls: Arc<Tls>, numbers: Numbers) {
    let mut rounds = interval(MAINTENANCE);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        rounds.tick().await;
        let reloading = Arc::clone(&tls);
        let Ok(reloaded) = tokio::task::spawn_blocking(move || reloading.reload()).await else {
            continue; // The runtime is ending.
        };
        match reloaded.map_err(|error| chain(&error)) {
            Ok(true) => {
                count(&numbers, true);
                info!("new connections use the certificates that are in the files now");
                said = None;
            }
            Ok(false) => said = None,
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    count(&numbers, false);
                    warn!(
                        error,
                        "changed certificates are of no use; the old ones are kept"
                    );
                }
                said = Some(error);
            }
        }
    }
}

/// Takes what the files hold that are configured now, or says why they are of no use; then the old
/// certificates are kept. None if the runtime is ending.
pub(super) async fn reload(
    tls: &Arc<Tls>,
    configured: config::Tls,
    numbers: &Numbers,
) -> Option<Result<(), Error>> {
    let tls = Arc::clone(tls);
    // Files may be on a disk that does not answer.
    let reload = tokio::task::spawn_blocking(move || tls.reload_from(&configured));
    let reloaded = reload.await.ok()?;
    match reloaded {
        Ok(false) => {}
        Ok(true) => count(numbers, true),
        Err(_) => count(numbers, false),
    }
    Some(reloaded.map(|_| ()))
}

fn count(numbers: &Numbers, success: bool) {
    let labels = ResultLabels::of(success);
    numbers.certificate_reloads.get_or_create(&labels).inc();
}
