//! What reached the stand-in, in order of arrival.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;
use tokio::sync::watch;

/// The longest [`Record::reached`] waits; only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// Counts all requests since the start, from one.
    pub arrival: u64,
    /// Which connection it came over; counts from one.
    pub connection: u64,
    /// Its method.
    pub method: Method,
    /// Path and query exactly as received.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty if it was above the limit.
    pub body: Bytes,
    /// The status it was answered with; `None` before, and for faults that answer nothing.
    pub status: Option<u16>,
}

/// Keeps the latest requests, up to a bound.
#[derive(Debug)]
pub(super) struct Record {
    kept: usize,
    log: Mutex<VecDeque<Received>>,
    arrivals: watch::Sender<u64>,
}

impl Record {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            kept,
            log: Mutex::new(VecDeque::new()),
            arrivals: watch::Sender::new(0),
        }
    }

    /// Numbers a request and keeps it.
    pub(super) fn arrived(&self, mut received: Received) -> u64 {
        let mut log = self.log.lock();
        // Numbered under the lock, so that the log is in order of arrival.
        let arrival = *self.arrivals.borrow() + 1;
        received.arrival = arrival;
        if self.kept > 0 {
            if log.len() == self.kept {
                log.pop_front();
            }
            log.push_back(received);
        }
        self.arrivals.send_replace(arrival);
        arrival
    }

    pub(super) fn answered(&self, arrival: u64, status: u16) {
        let mut log = self.log.lock();
        let position = log.partition_point(|received| received.arrival < arrival);
        if let Some(received) = log.get_mut(position)
            && received.arrival == arrival
        {
            received.status = Some(status);
        }
    }

    pub(super) fn all(&self) -> Vec<Received> {
        self.log.lock().iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        self.log.lock().clear();
    }

    pub(super) fn arrivals(&self) -> u64 {
        *self.arrivals.borrow()
    }

    /// Waits until that many requests have arrived since the start; false after ten seconds.
    pub(super) async fn reached(&self, arrivals: u64) -> bool {
        let mut seen = self.arrivals.subscribe();
        let enough = seen.wait_for(|seen| *seen >= arrivals);
        matches!(tokio::time::timeout(PATIENCE, enough).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Received {
        Received {
            arrival: 0,
            connection: 1,
            method: Method::GET,
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            status: None,
        }
    }

    #[test]
    fn the_latest_are_kept_in_order_and_answers_find_theirs() {
        let record = Record::new(2);
        for _ in 0..3 {
            record.arrived(request());
        }
        record.answered(1, 200);
        record.answered(3, 404);
        let kept: Vec<_> = record
            .all()
            .iter()
            .map(|got| (got.arrival, got.status))
            .collect();
        assert_eq!(kept, [(2, None), (3, Some(404))]);
        record.clear();
        assert!(record.all().is_empty());
        assert_eq!(record.arrivals(), 3);
    }
}
