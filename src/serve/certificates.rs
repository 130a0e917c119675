//! Takes certificates from their files when these change.
//!
//! Files are compared by content, once a second: whether they were written in place, renamed, or
//! reached by a symbolic link that points elsewhere now, as in Kubernetes, makes no difference.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::MAINTENANCE;
use crate::server::tls::Tls;
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
        let count = |success| {
            let labels = ResultLabels::of(success);
            numbers.certificate_reloads.get_or_create(&labels).inc();
        };
        match reloaded.map_err(|error| chain(&error)) {
            Ok(true) => {
                count(true);
                info!("new connections use the certificates that are in the files now");
                said = None;
            }
            Ok(false) => said = None,
            Err(error) => {
                if said.as_ref() != Some(&error) {
                    count(false);
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
