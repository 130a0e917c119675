//! How old a stored response is, and what it may still be used for.
//!
//! Pure functions of `now`: nothing here reads a clock, and the store's own expiry is only
//! housekeeping.
//!
//! # Specification
//! - Age and lifetime: RFC 9111 §4.2. A clock that runs behind saturates at zero.
//! - The lifetime is the configured one, shortened by jitter and by upstream's `max-age`, never
//!   lengthened: Flameup states no lifetime of its own, and nothing older than configured is
//!   called fresh.
//! - Stale service: RFC 5861 §3 and §4, the windows being ours.

use std::time::{Duration, Instant};

use super::control::{RequestDirectives, ResponseDirectives};

/// What is needed to tell a stored response's age and lifetime at any moment.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    asked_at: Instant,
    /// A number instead of a `Duration`: there is one of these for each person in memory.
    lifetime_ns: u64,
    age_on_arrival_s: u32,
    may_be_stale: bool,
}

/// How long past its lifetime a response may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleWindows {
    /// While one background refresh runs (`stale-while-revalidate`).
    pub while_revalidate: Duration,
    /// When Flameup fails or may not be asked (`stale-if-error`).
    pub if_error: Duration,
}

/// What to do with a stored response for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Serve,
    /// Serve it stale, and see that one refresh runs.
    ServeAndRevalidate,
    /// Ask Flameup first.
    Forward {
        /// It is stale; otherwise the client's own demand rules a fresh response out.
        stale: bool,
        /// Should asking fail, it may be served all the same.
        stale_if_error: bool,
    },
}

impl Freshness {
    /// The freshness of a response that was asked for at `asked_at`, already `age_on_arrival` old.
    ///
    /// Ages on arrival count in whole seconds, as `Age` does. `ttl` is the configured lifetime and `jitter` the share of it, 0 to 1, to take off.
    pub fn new(
        asked_at: Instant,
        age_on_arrival: Duration,
        ttl: Duration,
        jitter: f64,
        directives: &ResponseDirectives,
    ) -> Self {
        let lifetime = ttl.mul_f64((1.0 - jitter).clamp(0.0, 1.0));
        let lifetime = directives
            .max_age
            .map_or(lifetime, |max_age| max_age.min(lifetime));
        Self {
            asked_at,
            lifetime_ns: nanoseconds(lifetime),
            age_on_arrival_s: u32::try_from(age_on_arrival.as_secs()).unwrap_or(u32::MAX),
            may_be_stale: !directives.must_revalidate,
        }
    }

    /// Returns how long the response has existed, as of `now`: `current_age` of
    /// [RFC 9111 §4.2.3](https://www.rfc-editor.org/rfc/rfc9111#section-4.2.3).
    pub fn current_age(&self, now: Instant) -> Duration {
        Duration::from_secs(self.age_on_arrival_s.into())
            .saturating_add(now.saturating_duration_since(self.asked_at))
    }

    /// The same, but stale from `now` on.
    #[must_use]
    pub fn expired(self, now: Instant) -> Self {
        Self {
            lifetime_ns: self.lifetime_ns.min(nanoseconds(self.current_age(now))),
            ..self
        }
    }

    /// How long it is fresh, from when it came to be.
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.lifetime_ns)
    }

    /// When the response was asked for.
    pub fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// Whether the response was asked for later than another.
    pub fn began_after(&self, other: &Self) -> bool {
        self.asked_at > other.asked_at
    }

    /// Whether the response had been asked for already at `moment`.
    pub fn began_before(&self, moment: Instant) -> bool {
        self.asked_at < moment
    }

    /// How old the response was when it arrived.
    pub fn age_on_arrival(&self) -> Duration {
        Duration::from_secs(self.age_on_arrival_s.into())
    }

    /// Whether the response had an age when it arrived.
    pub fn was_aged(&self) -> bool {
        self.age_on_arrival_s > 0
    }

    /// Whole seconds of freshness left, rounded down; negative once stale.
    pub fn ttl_seconds(&self, now: Instant) -> i64 {
        let (age, lifetime) = (self.current_age(now), self.lifetime());
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        if let Some(left) = lifetime.checked_sub(age) {
            return seconds(left);
        }
        let over = age.saturating_sub(lifetime);
        -seconds(over) - i64::from(over.subsec_nanos() > 0)
    }

    /// Whether the response is still fresh.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.current_age(now) < self.lifetime()
    }

    /// Whether nobody may be served this any more, whatever they ask for.
    pub fn is_dead(&self, windows: &StaleWindows, now: Instant) -> bool {
        match self.staleness(now) {
            None => false,
            Some(staleness) => staleness >= windows.longest(),
        }
    }

    /// Decides what one request with these `directives` gets.
    pub fn judge(
        &self,
        directives: &RequestDirectives,
        windows: &StaleWindows,
        now: Instant,
    ) -> Verdict {
        match self.staleness(now) {
            None if self.satisfies(directives, now) => Verdict::Serve,
            None => Verdict::Forward {
                stale: false,
                stale_if_error: false,
            },
            Some(staleness) => self.judge_stale(staleness, directives, windows, now),
        }
    }

    fn judge_stale(
        &self,
        staleness: Duration,
        directives: &RequestDirectives,
        windows: &StaleWindows,
        now: Instant,
    ) -> Verdict {
        let usable =
            self.may_be_stale && !self.is_dead(windows, now) && !directives.refuses_stale();
        let accepted = match directives.max_stale {
            Some(max_stale) => staleness <= max_stale && self.satisfies(directives, now),
            None => staleness < windows.while_revalidate,
        };
        if usable && accepted {
            return Verdict::ServeAndRevalidate;
        }
        let on_error = directives
            .stale_if_error
            .map_or(windows.if_error, |own| own.min(windows.if_error));
        let stale_if_error = usable && staleness < on_error && self.satisfies(directives, now);
        Verdict::Forward {
            stale: true,
            stale_if_error,
        }
    }

    /// How far past its lifetime the response is; `None` while fresh.
    fn staleness(&self, now: Instant) -> Option<Duration> {
        (!self.is_fresh(now)).then(|| self.current_age(now).saturating_sub(self.lifetime()))
    }

    /// Whether a client's bounds on age and remaining freshness hold, `max-stale` apart.
    pub fn satisfies(&self, directives: &RequestDirectives, now: Instant) -> bool {
        let age = || self.current_age(now);
        !directives.no_cache
            && directives.max_age.is_none_or(|max_age| age() <= max_age)
            && directives
                .min_fresh
                .is_none_or(|min_fresh| self.lifetime().saturating_sub(age()) >= min_fresh)
    }
}

/// A duration in nanoseconds; five hundred years at most.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl StaleWindows {
    /// No stale service at all, as for a 404.
    pub const NONE: Self = Self {
        while_revalidate: Duration::ZERO,
        if_error: Duration::ZERO,
    };

    /// The longer of the two.
    pub fn longest(&self) -> Duration {
        self.while_revalidate.max(self.if_error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_mins(1);
    const WINDOWS: StaleWindows = StaleWindows {
        while_revalidate: Duration::from_mins(4),
        if_error: Duration::from_mins(14),
    };
    const LAST_RESORT: Verdict = Verdict::Forward {
        stale: true,
        stale_if_error: true,
    };
    const NO_WAY_BACK: Verdict = Verdict::Forward {
        stale: true,
        stale_if_error: false,
    };
    const ON_DEMAND: Verdict = Verdict::Forward {
        stale: false,
        stale_if_error: false,
    };

    fn fresh(now: Instant) -> Freshness {
        Freshness::new(
            now,
            Duration::ZERO,
            TTL,
            0.0,
            &ResponseDirectives::default(),
        )
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn verdict(age: u64, directives: RequestDirectives) -> Verdict {
        let now = Instant::now();
        fresh(now).judge(&directives, &WINDOWS, now + seconds(age))
    }

    #[test]
    fn fresh_then_stale_then_last_resort_then_nothing() {
        let any = RequestDirectives::default();
        assert_eq!(verdict(59, any), Verdict::Serve);
        assert_eq!(verdict(60, any), Verdict::ServeAndRevalidate);
        assert_eq!(verdict(299, any), Verdict::ServeAndRevalidate);
        assert_eq!(verdict(300, any), LAST_RESORT);
        assert_eq!(verdict(899, any), LAST_RESORT);
        assert_eq!(verdict(900, any), NO_WAY_BACK);
    }

    #[test]
    fn a_clients_bounds_are_honoured() {
        let max_age = RequestDirectives {
            max_age: Some(seconds(10)),
            ..Default::default()
        };
        assert_eq!(verdict(10, max_age), Verdict::Serve);
        assert_eq!(verdict(11, max_age), ON_DEMAND);
        assert_eq!(verdict(61, max_age), NO_WAY_BACK);
        let min_fresh = RequestDirectives {
            min_fresh: Some(seconds(20)),
            ..Default::default()
        };
        assert_eq!(verdict(40, min_fresh), Verdict::Serve);
        assert_eq!(verdict(41, min_fresh), ON_DEMAND);
        let no_cache = RequestDirectives {
            no_cache: true,
            ..Default::default()
        };
        assert_eq!(verdict(0, no_cache), ON_DEMAND);
        let max_stale = RequestDirectives {
            max_stale: Some(Duration::MAX),
            ..Default::default()
        };
        assert_eq!(verdict(899, max_stale), Verdict::ServeAndRevalidate);
        assert_eq!(verdict(900, max_stale), NO_WAY_BACK);
        let little = RequestDirectives {
            max_stale: Some(seconds(5)),
            ..Default::default()
        };
        assert_eq!(verdict(66, little), LAST_RESORT);
        let never = RequestDirectives {
            stale_if_error: Some(Duration::ZERO),
            ..Default::default()
        };
        assert_eq!(verdict(301, never), NO_WAY_BACK);
    }

    #[test]
    fn must_revalidate_is_never_served_stale() {
        let now = Instant::now();
        let directives = ResponseDirectives {
            must_revalidate: true,
            ..Default::default()
        };
        let freshness = Freshness::new(now, Duration::ZERO, TTL, 0.0, &directives);
        let any = RequestDirectives {
            max_stale: Some(Duration::MAX),
            ..Default::default()
        };
        assert_eq!(
            freshness.judge(&any, &WINDOWS, now + seconds(61)),
            NO_WAY_BACK
        );
    }

    #[test]
    fn upstream_may_shorten_the_lifetime_and_not_lengthen_it() {
        let now = Instant::now();
        let with = |max_age| {
            let directives = ResponseDirectives {
                max_age: Some(seconds(max_age)),
                ..Default::default()
            };
            Freshness::new(now, Duration::ZERO, TTL, 0.0, &directives).ttl_seconds(now)
        };
        assert_eq!(with(5), 5);
        assert_eq!(with(6_000), 60);
    }

    #[test]
    fn age_counts_what_had_passed_before_arrival_and_never_runs_backwards() {
        let now = Instant::now();
        let freshness = Freshness::new(now, seconds(7), TTL, 0.0, &ResponseDirectives::default());
        assert_eq!(freshness.current_age(now + seconds(3)), seconds(10));
        let earlier = now
            .checked_sub(seconds(1))
            .expect("the machine has been up for a second");
        assert_eq!(freshness.current_age(earlier), seconds(7));
        assert_eq!(freshness.ttl_seconds(now + seconds(63)), -10);
        assert_eq!(
            freshness.ttl_seconds(now + Duration::from_millis(63_500)),
            -11
        );
    }

    proptest! {
        #[test]
        fn nothing_is_served_beyond_the_configured_bound(
            age in 0u64..2_000,
            arrival in 0u64..100,
            jitter in 0.0f64..=0.5,
            max_stale in proptest::option::of(0u64..5_000),
            max_age in proptest::option::of(0u64..5_000),
        ) {
            let now = Instant::now();
            let none = ResponseDirectives::default();
            let freshness = Freshness::new(now, seconds(arrival), TTL, jitter, &none);
            let directives = RequestDirectives {
                max_stale: max_stale.map(seconds),
                max_age: max_age.map(seconds),
                ..Default::default()
            };
            let at = now + seconds(age);
            let served = !matches!(
                freshness.judge(&directives, &WINDOWS, at),
                Verdict::Forward { stale_if_error: false, .. }
            );
            if served {
                prop_assert!(freshness.current_age(at) <= TTL + WINDOWS.longest());
                prop_assert!(max_age.is_none_or(|max_age| freshness.current_age(at) <= seconds(max_age)));
            }
        }
    }
}
