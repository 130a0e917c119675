//! Holding answers back, so that a test arranges what happens at the same time.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::matcher::Matcher;
use super::route::Located;

/// The longest [`Hold::arrived`] waits: far above what loopback needs, so only a fault reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Keeps matching requests waiting until it is told to release them; dropping it releases all.
#[derive(Debug)]
pub struct Hold(Arc<Held>);

#[derive(Debug)]
pub(super) struct Held {
    matcher: Matcher,
    answers_at_release: bool,
    /// One permit lets one request go; closed, it lets all go.
    gate: Semaphore,
    waiting: watch::Sender<usize>,
}

impl Hold {
    /// Waits until `count` requests are waiting at once; false if that has not come about within
    /// ten seconds.
    pub async fn arrived(&self, count: usize) -> bool {
        let mut waiting = self.0.waiting.subscribe();
        let enough = waiting.wait_for(|waiting| *waiting >= count);
        matches!(tokio::time::timeout(PATIENCE, enough).await, Ok(Ok(_)))
    }

    /// How many requests are waiting now.
    pub fn waiting(&self) -> usize {
        *self.0.waiting.borrow()
    }

    /// Lets one request go: the one that has waited longest, or else the next to come.
    pub fn release_one(&self) {
        self.0.gate.add_permits(1);
    }

    /// Lets all go, those still to come as well.
    pub fn release(&self) {
        self.0.gate.close();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

impl Held {
    /// Whether the answer is to be worked out only once the request is let go.
    pub(super) fn answers_at_release(&self) -> bool {
        self.answers_at_release
    }

    /// Waits to be let go. Dropping the future gives up the place in the queue.
    pub(super) async fn wait(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _place = Place(&self.waiting);
        if let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
    }
}

struct Place<'a>(&'a watch::Sender<usize>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// The holds in force.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Vec<Arc<Held>>>);

impl Holds {
    pub(super) fn add(&self, matcher: Matcher, answers_at_release: bool) -> Hold {
        let held = Arc::new(Held {
            matcher,
            answers_at_release,
            gate: Semaphore::new(0),
            waiting: watch::Sender::new(0),
        });
        self.0.lock().push(Arc::clone(&held));
        Hold(held)
    }

    /// The oldest hold in force that matches.
    pub(super) fn find(
        &self,
        method: &Method,
        path: &str,
        located: Option<&Located>,
    ) -> Option<Arc<Held>> {
        let mut holds = self.0.lock();
        holds.retain(|held| !held.gate.is_closed());
        let found = holds
            .iter()
            .find(|held| held.matcher.matches(method, path, located));
        found.map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(holds: &Holds) -> Option<Arc<Held>> {
        holds.find(&Method::GET, "/", None)
    }

    #[tokio::test]
    async fn requests_go_one_by_one_or_all_at_once() {
        let holds = Holds::default();
        let hold = holds.add(Matcher::any(), false);
        let kept = find(&holds).expect("a hold");
        let (one, two) = (Arc::clone(&kept), kept);
        let one = tokio::spawn(async move { one.wait().await });
        assert!(hold.arrived(1).await);
        let two = tokio::spawn(async move { two.wait().await });
        assert!(hold.arrived(2).await);
        hold.release_one();
        one.await.expect("is let go");
        assert_eq!(hold.waiting(), 1);
        hold.release();
        two.await.expect("is let go");
        assert!(find(&holds).is_none());
    }

    #[tokio::test]
    async fn a_request_that_gives_up_is_no_longer_waiting() {
        let holds = Holds::default();
        let hold = holds.add(Matcher::any(), false);
        let kept = find(&holds).expect("a hold");
        let task = tokio::spawn(async move { kept.wait().await });
        assert!(hold.arrived(1).await);
        task.abort();
        assert!(task.await.is_err());
        assert_eq!(hold.waiting(), 0);
    }
}
