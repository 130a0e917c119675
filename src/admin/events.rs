//! How things stand, once a second, as server-sent events (HTML §9.2): the status and the metrics,
//! as their own pages have them. Who shows them works out rates by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use super::Admin;
use crate::body::{Body, Feed};

/// Between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Streams at a time. Each event is some tens of kilobytes, and takes a look at all metrics; no more
/// operators than these look at once.
const MOST_STREAMS: usize = 16;

/// There are as many streams as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MOST_STREAMS} streams of events are open already")]
pub struct TooMany;

/// The streams that are open.
#[derive(Debug, Default)]
pub(super) struct Streams(AtomicUsize);

/// One of them; it is closed when this is dropped.
#[derive(Debug)]
struct Open(Arc<Admin>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admin {
    /// Opens a stream. It ends when nobody reads it any more, or the process takes no more work.
    pub(super) fn events(self: &Arc<Self>) -> Result<Body, TooMany> {
        let all = self.streams.0.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(self));
        if all >= MOST_STREAMS {
            return Err(TooMany);
        }
        let (feed, body) = Body::coming(None);
        tokio::spawn(stream(open, feed));
        Ok(body)
    }

    fn event(&self) -> Bytes {
        let listeners = self.listeners.clone();
        let status = self.gateway.status(listeners, self.is_draining());
        self.gateway.maintain();
        let event = json!({
            "status": status,
            "metrics": self.telemetry.metrics().render(),
        });
        Bytes::from(format!("data: {event}\n\n"))
    }
}

async fn stream(open: Open, feed: Feed) {
    let admin = &open.0;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !admin.is_draining() {
        ticks.tick().await;
        if feed.push(admin.event()).await.is_err() {
            return;
        }
    }
    feed.end().await;
}
