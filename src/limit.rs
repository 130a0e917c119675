//! How much one client may ask of this gateway: part of step 2 of the request path.
//!
//! These limits are about this process's work, whoever answers in the end; what may be asked of
//! Flameup is the [`shield`](crate::shield)'s business. A client is told which of the two refused
//! it. Off unless configured.
//!
//! # Units
//! Requests, and requests a second. A lookup of many people is one request.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::config::InboundLimits;

/// When to come back if too many are under way. One of them ends sooner as a rule.
const PAUSE: Duration = Duration::from_secs(1);

/// Holds one client to its limits.
#[derive(Debug)]
pub struct Limiter {
    configured: InboundLimits,
    rate: Option<Rate>,
    under_way: AtomicU32,
}

/// A request that counts as under way until this is dropped.
#[derive(Debug)]
#[must_use = "the request counts as ended when it is dropped"]
pub struct UnderWay(Arc<Limiter>);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More requests a second than it may send.
    #[error("the client sends more requests a second than it may")]
    Rate {
        /// When the next one is due; more than zero.
        retry_after: Duration,
    },
    /// More requests at a time than it may have.
    #[error("the client has more requests under way than it may")]
    Concurrency,
}

/// The cells of GCRA, with the gateway's own clock.
type Rate = RateLimiter<NotKeyed, InMemoryState, Time, NoOpMiddleware<Instant>>;

/// Our clock as governor takes one.
#[derive(Clone, Debug)]
struct Time(Clock);

impl Limiter {
    /// A limiter as configured; `None` where nothing is limited.
    pub fn new(configured: InboundLimits, clock: &Clock) -> Option<Arc<Self>> {
        let rate = NonZeroU32::new(configured.requests).map(|requests| {
            let burst = NonZeroU32::new(configured.burst).unwrap_or(requests);
            let quota = Quota::per_second(requests).allow_burst(burst);
            RateLimiter::direct_with_clock(quota, Time(clock.clone()))
        });
        (rate.is_some() || configured.concurrent > 0).then(|| {
            Arc::new(Self {
                configured,
                rate,
                under_way: AtomicU32::new(0),
            })
        })
    }

    /// What it was made from.
    pub fn configured(&self) -> InboundLimits {
        self.configured
    }

    /// Lets a request in, which arrived at `now`.
    ///
    /// # Errors
    /// When it is one too many. A request that is refused for being one too many at a time costs
    /// nothing of the rate.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<UnderWay, Error> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        // From here on it is counted out again, whatever comes.
        let under_way = UnderWay(Arc::clone(self));
        let most = self.configured.concurrent;
        if most > 0 && before >= most {
            return Err(Error::Concurrency);
        }
        if let Some(Err(early)) = self.rate.as_ref().map(RateLimiter::check) {
            let retry_after = early.wait_time_from(now).max(Duration::from_nanos(1));
            return Err(Error::Rate { retry_after });
        }
        Ok(under_way)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Error {
    /// The word for the limit, in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rate { .. } => "rate",
            Self::Concurrency => "concurrency",
        }
    }

    /// When to come back.
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Rate { retry_after } => retry_after,
            Self::Concurrency => PAUSE,
        }
    }
}

impl GovernorClock for Time {
    type Instant = Instant;

    fn now(&self) -> Instant {
        self.0.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u32, burst: u32, concurrent: u32) -> InboundLimits {
        InboundLimits {
            requests,
            burst,
            concurrent,
        }
    }

    #[test]
    fn nothing_is_limited_unless_configured() {
        let (clock, _hand) = Clock::manual();
        assert!(Limiter::new(limits(0, 0, 0), &clock).is_none());
        assert!(Limiter::new(limits(0, 5, 0), &clock).is_none());
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_rate_holds() {
        let (clock, hand) = Clock::manual();
        let limiter = Limiter::new(limits(10, 3, 0), &clock).expect("limits");
        for _ in 0..3 {
            assert!(limiter.admit(clock.now()).is_ok());
        }
        let Err(Error::Rate { retry_after }) = limiter.admit(clock.now()) else {
            unreachable!("the burst is spent")
        };
        assert_eq!(retry_after, Duration::from_millis(100));
        hand.advance(retry_after);
        assert!(limiter.admit(clock.now()).is_ok());
        assert!(limiter.admit(clock.now()).is_err());
    }

    #[test]
    fn an_end_makes_room_and_a_refusal_takes_none() {
        let (clock, _hand) = Clock::manual();
        let limiter = Limiter::new(limits(0, 0, 2), &clock).expect("limits");
        let one = limiter.admit(clock.now()).expect("room");
        let two = limiter.admit(clock.now()).expect("room");
        for _ in 0..3 {
            assert_eq!(limiter.admit(clock.now()).err(), Some(Error::Concurrency));
        }
        drop(one);
        let three = limiter.admit(clock.now()).expect("room");
        drop((two, three));
        assert_eq!(limiter.under_way.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn whoever_has_too_many_under_way_keeps_its_rate() {
        let (clock, _hand) = Clock::manual();
        let limiter = Limiter::new(limits(10, 2, 1), &clock).expect("limits");
        let first = limiter.admit(clock.now()).expect("room");
        assert_eq!(limiter.admit(clock.now()).err(), Some(Error::Concurrency));
        drop(first);
        assert!(limiter.admit(clock.now()).is_ok());
        let refused = limiter.admit(clock.now());
        assert!(matches!(refused, Err(Error::Rate { .. })));
    }
}
