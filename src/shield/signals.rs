//! What Flameup says of its limit: `X-RateLimit-*`, `Retry-After` and `Date` (rate-limits).
//!
//! Reading never fails. A header that cannot be read is as good as absent, and a moment that lies
//! further away than two windows is not believed, so that no value can stop the gateway for long.
//!
//! # Specification
//! `Retry-After`: RFC 9110 §10.2.3, seconds or a date. `Date`: §6.6.1. `X-RateLimit-Reset`: Unix
//! time in seconds by the docs; milliseconds and seconds from now are usual elsewhere and understood.

use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

/// Requests a window.
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");

/// Requests left in the window.
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// The moment the window ends, in whole seconds of Unix time by Flameup's clock.
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The largest limit believed; it bounds what the log of own requests may hold.
pub const MOST_REQUESTS: u32 = 1_000_000;

/// Waiting less than this after a 429 is asking for the next one: moments come in whole seconds.
pub const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// What one response said of the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Requests a window, if it is a number that can be believed.
    pub limit: Option<u32>,
    /// Requests left after this one.
    pub remaining: Option<u32>,
    /// When the window ends.
    pub reset: Option<Reset>,
    /// When to come back.
    pub retry_after: Option<RetryAfter>,
    /// Flameup's clock when it answered, in whole seconds.
    pub date: Option<SystemTime>,
    /// Whether the request was over the limit.
    pub is_429: bool,
}

/// `X-RateLimit-Reset` as it came. What it means depends on the time by Flameup's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset(pub u64);

/// `Retry-After`, in either form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds from the answer.
    After(Duration),
    /// A moment by Flameup's clock.
    At(SystemTime),
}

/// What a [`Reset`] turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A moment by Flameup's clock, since the epoch.
    Epoch(Duration),
    /// A time from the answer on.
    Delta(Duration),
}

impl Signals {
    /// Reads the headers of a response.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
        let number = |name: &HeaderName| text(name)?.parse::<u64>().ok();
        let limit = number(&X_RATELIMIT_LIMIT).and_then(|limit| u32::try_from(limit).ok());
        Self {
            limit: limit.filter(|limit| (1..=MOST_REQUESTS).contains(limit)),
            remaining: number(&X_RATELIMIT_REMAINING)
                .map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
            reset: number(&X_RATELIMIT_RESET).map(Reset),
            retry_after: text(&RETRY_AFTER).and_then(RetryAfter::parse),
            date: text(&DATE).and_then(|date| httpdate::parse_http_date(date).ok()),
            is_429: status == StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// How long to wait after a 429: until `Retry-After`, else the end of the window, else a whole
    /// window; never under a second, never over two windows.
    ///
    /// Dates are held against Flameup's own `Date`, since the clocks may be apart; `server_now` is
    /// the best guess where there is none.
    pub fn wait(&self, server_now: SystemTime, window: Duration) -> Duration {
        let now = self.date.unwrap_or(server_now);
        let until = |moment: SystemTime| moment.duration_since(now).unwrap_or_default();
        let told = self.retry_after.map(|retry_after| match retry_after {
            RetryAfter::After(wait) => wait,
            RetryAfter::At(moment) => until(moment),
        });
        let reset = || match self.reset?.read(now, window)? {
            Moment::Delta(wait) => Some(wait),
            Moment::Epoch(moment) => SystemTime::UNIX_EPOCH.checked_add(moment).map(until),
        };
        let longest = window.saturating_mul(2).max(SHORTEST_WAIT);
        let wait = told.or_else(reset).unwrap_or(window);
        wait.clamp(SHORTEST_WAIT, longest)
    }
}

impl Reset {
    /// The reading that lies within two windows of `server_now`; `None` if none does.
    pub fn read(self, server_now: SystemTime, window: Duration) -> Option<Moment> {
        let now = server_now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let furthest = window.saturating_mul(2);
        let near = |moment: &Duration| moment.abs_diff(now) <= furthest;
        let epoch = [Duration::from_secs(self.0), Duration::from_millis(self.0)];
        let delta = Duration::from_secs(self.0);
        epoch
            .into_iter()
            .find(near)
            .map(Moment::Epoch)
            .or_else(|| (delta <= furthest).then_some(Moment::Delta(delta)))
    }
}

impl RetryAfter {
    fn parse(value: &str) -> Option<Self> {
        let seconds = value.parse().ok().map(Duration::from_secs).map(Self::After);
        seconds.or_else(|| httpdate::parse_http_date(value).ok().map(Self::At))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")))
            .collect()
    }

    fn wait(lines: &[(HeaderName, &str)]) -> u64 {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let signals = Signals::of(StatusCode::TOO_MANY_REQUESTS, &headers(lines));
        signals.wait(wall, WINDOW).as_secs()
    }

    #[test]
    fn the_plainest_word_is_taken_first() {
        let reset = (X_RATELIMIT_RESET, "1030");
        assert_eq!(wait(&[(RETRY_AFTER, "7"), reset.clone()]), 7);
        assert_eq!(wait(std::slice::from_ref(&reset)), 30);
        assert_eq!(wait(&[]), 60);
        let date = (DATE, "Thu, 01 Jan 1970 00:16:50 GMT"); // 1,010 seconds: clocks apart.
        assert_eq!(wait(&[reset, date.clone()]), 20);
        let later = (RETRY_AFTER, "Thu, 01 Jan 1970 00:17:00 GMT");
        assert_eq!(wait(&[later, date]), 10);
    }

    #[test]
    fn nonsense_is_not_believed() {
        assert_eq!(wait(&[(RETRY_AFTER, "99999999")]), 120);
        assert_eq!(wait(&[(RETRY_AFTER, "0")]), 1);
        assert_eq!(wait(&[(RETRY_AFTER, "soon")]), 60);
        assert_eq!(wait(&[(X_RATELIMIT_RESET, "18446744073709551615")]), 60);
        assert_eq!(wait(&[(X_RATELIMIT_RESET, "-5")]), 60);
        for limit in ["0", "1000001", "18446744073709551616", "-1", "many", ""] {
            let said = Signals::of(StatusCode::OK, &headers(&[(X_RATELIMIT_LIMIT, limit)]));
            assert_eq!(said.limit, None, "{limit}");
        }
    }

    #[test]
    fn a_reset_is_read_as_what_lies_near() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let read = |value| Reset(value).read(now, WINDOW);
        let end = Duration::from_secs(1_800_000_030);
        assert_eq!(read(1_800_000_030), Some(Moment::Epoch(end)));
        assert_eq!(read(1_800_000_030_000), Some(Moment::Epoch(end)));
        assert_eq!(read(30), Some(Moment::Delta(Duration::from_secs(30))));
        assert_eq!(read(1_800_000_121), None);
        assert_eq!(read(121), None);
        assert_eq!(read(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn no_header_panics_or_holds_longer_than_two_windows(
            values in prop::collection::vec("([0-9]{0,21}|-?[0-9]{1,4}|[ -~]{0,30})", 5),
            status in 200_u16..600, wall in 0_u64..4_000_000_000
        ) {
            let names = [X_RATELIMIT_LIMIT, X_RATELIMIT_REMAINING, X_RATELIMIT_RESET, RETRY_AFTER, DATE];
            let lines: Vec<_> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
            let status = StatusCode::from_u16(status).expect("a status");
            let signals = Signals::of(status, &headers(&lines));
            let wait = signals.wait(SystemTime::UNIX_EPOCH + Duration::from_secs(wall), WINDOW);
            prop_assert!(wait >= SHORTEST_WAIT && wait <= WINDOW * 2);
        }
    }
}
