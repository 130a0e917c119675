//! A future that is polled only when it is what was woken.
//!
//! A connection waits for bytes, and beside them for things that hardly ever come: the end of the
//! server, the next look at it. Whatever wakes its task polls all of them, and some take a lock that
//! all connections share. Behind a bell of its own, each is asked only after it rang.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// A future behind a bell.
pub(super) struct Quiet<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    /// Rings the bell.
    ringer: Waker,
    /// Whom the bell wakes, as it was last told.
    known: Option<Waker>,
}

/// Rings for one future.
struct Bell {
    rang: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl<F: Future> Quiet<F> {
    pub(super) fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            rang: AtomicBool::new(true),
            task: Mutex::new(None),
        });
        Self {
            future: Box::pin(future),
            ringer: Waker::from(Arc::clone(&bell)),
            bell,
            known: None,
        }
    }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let known = this.known.as_ref();
        if !known.is_some_and(|known| known.will_wake(cx.waker())) {
            this.known = Some(cx.waker().clone());
            *this.bell.task.lock() = Some(cx.waker().clone());
        }
        // Looking first costs no more than reading memory that is this connection's own. A ring
        // between the two wakes the task again, which comes back here.
        if !this.bell.rang.load(Ordering::Relaxed) || !this.bell.rang.swap(false, Ordering::AcqRel)
        {
            return Poll::Pending;
        }
        let mut context = Context::from_waker(&this.ringer);
        let polled = this.future.as_mut().poll(&mut context);
        if polled.is_ready() {
            // Something that comes again and again is asked for the next time at once.
            this.bell.rang.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_quiet_future_is_polled_once_until_it_is_woken() {
        let notify = Notify::new();
        let mut polls = 0;
        let mut notified = pin!(notify.notified());
        let mut quiet = Quiet::new(poll_fn(|cx| {
            polls += 1;
            notified.as_mut().poll(cx)
        }));
        let mut poll = || Pin::new(&mut quiet).poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        assert!(poll().is_pending());
        notify.notify_one();
        assert!(poll().is_ready());
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn the_bell_wakes_whoever_polled_last() {
        let notify = Notify::new();
        let mut quiet = Quiet::new(notify.notified());
        let elsewhere = Pin::new(&mut quiet).poll(&mut Context::from_waker(Waker::noop()));
        assert!(elsewhere.is_pending());
        let waking = async {
            tokio::task::yield_now().await;
            notify.notify_one();
        };
        tokio::join!(quiet, waking);
    }
}
