//! Keeps a link connected, in the background: no call waits for it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Error, Link};
use crate::telemetry::chain;

/// Time for a whole connection, Sentinels and TLS included.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Between two attempts, doubling.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at a connection that nobody complains of; the Sentinels are asked then who the
/// master is, and the breaker is shown as it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What was said of the last attempts, and when the next one is.
struct Attempts {
    pause: Duration,
    /// Said once, not for each attempt.
    said: Option<String>,
}

/// Makes a connection where one is wanted, for as long as anybody has the link.
pub(super) async fn keep_connected(link: Weak<Link>) {
    let mut attempts = Attempts {
        pause: FIRST_PAUSE,
        said: None,
    };
    loop {
        let Some(link) = link.upgrade() else { return };
        link.show_breaker();
        if link.is_connected() {
            attempts.pause = FIRST_PAUSE;
            link.rest().await;
        } else {
            link.connect(&mut attempts).await;
            drop(link);
            // Also after success: a server that throws us out again is not asked without end.
            sleep(attempts.pause).await;
            attempts.pause = (attempts.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Link {
    fn is_connected(&self) -> bool {
        self.connection.load().is_some() && !self.doubted.load(Ordering::Acquire)
    }

    /// Waits until a connection is wanted, or it is time to look again.
    async fn rest(&self) {
        let wanted = timeout(LOOK_EVERY, self.wanted.notified()).await;
        if wanted.is_err() && self.connector.has_master_moved().await {
            self.doubt();
        }
    }

    async fn connect(&self, attempts: &mut Attempts) {
        // Before, so that a doubt that arises meanwhile is not lost.
        let doubted = self.doubted.swap(false, Ordering::AcqRel);
        let connected = timeout(LONGEST, self.connector.connect(None)).await;
        match connected.unwrap_or(Err(Error::Deadline)) {
            Ok(connection) => {
                self.connection.store(Some(Arc::new(connection)));
                self.numbers.connected();
                tracing::info!("connected to Redis");
                attempts.said = None;
            }
            Err(error) => {
                self.doubted.fetch_or(doubted, Ordering::AcqRel);
                attempts.say(&error);
            }
        }
    }
}

impl Attempts {
    fn say(&mut self, error: &Error) {
        let error = chain(error);
        if self.said.as_ref() != Some(&error) {
            tracing::warn!(error, "Redis is not reached");
            self.said = Some(error);
        }
    }
}
