//! Real servers for the tests of the tier, and a link to them.

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod log;
pub(crate) mod redis;
pub(crate) mod sentinel;
pub(crate) mod silence;
pub(crate) mod trial;

use std::time::{Duration, Instant};

/// The longest that anything is waited for; only a failing test waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5)); // There is nothing to be told by.
    }
}
