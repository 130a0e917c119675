//! What Flameup says of its limit: `X-RateLimit-*` and `Retry-After` (rate-limits).

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, HeaderName, RETRY_AFTER};

/// The moment the window ends, in whole seconds of Unix time by Flameup's clock.
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Flameup's documented window.
const WINDOW: Duration = Duration::from_mins(1);

/// Nothing is believed that lies further away than two windows.
const FURTHEST: Duration = Duration::from_mins(2);

/// How long to wait after a 429.
///
/// `Retry-After` if there is one, in seconds or as a date; else the end of the window; else a whole
/// window. Dates are held against Flameup's own `Date`, since the clocks may be apart.
pub fn wait_after_429(headers: &HeaderMap, wall: SystemTime) -> Duration {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let date = text(&DATE)
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .unwrap_or(wall);
    let until = |moment: SystemTime| moment.duration_since(date).unwrap_or_default();
    let retry_after = text(&RETRY_AFTER).and_then(|value| {
        let seconds = value.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| httpdate::parse_http_date(value).ok().map(until))
    });
    let reset = || {
        let seconds = text(&X_RATELIMIT_RESET)?.parse().ok()?;
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds))
            .map(until)
    };
    retry_after
        .or_else(reset)
        .unwrap_or(WINDOW)
        .clamp(Duration::from_secs(1), FURTHEST)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wait(lines: &[(HeaderName, &str)]) -> u64 {
        let headers = lines
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("a value")))
            .collect();
        wait_after_429(
            &headers,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000),
        )
        .as_secs()
    }

    #[test]
    fn the_plainest_word_is_taken_first() {
        let reset = (X_RATELIMIT_RESET, "1030");
        assert_eq!(wait(&[(RETRY_AFTER, "7"), reset.clone()]), 7);
        assert_eq!(wait(std::slice::from_ref(&reset)), 30);
        assert_eq!(wait(&[]), 60);
        let date = (DATE, "Thu, 01 Jan 1970 00:16:50 GMT"); // 1,010 seconds: clocks apart.
        assert_eq!(wait(&[reset, date.clone()]), 20);
        assert_eq!(
            wait(&[(RETRY_AFTER, "Thu, 01 Jan 1970 00:17:00 GMT"), date]),
            10
        );
    }

    #[test]
    fn nonsense_is_not_believed() {
        assert_eq!(wait(&[(RETRY_AFTER, "99999999")]), 120);
        assert_eq!(wait(&[(RETRY_AFTER, "0")]), 1);
        assert_eq!(wait(&[(RETRY_AFTER, "soon")]), 60);
        assert_eq!(wait(&[(X_RATELIMIT_RESET, "18446744073709551615")]), 60);
        assert_eq!(wait(&[(X_RATELIMIT_RESET, "1")]), 1);
    }
}
