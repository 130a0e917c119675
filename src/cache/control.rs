//! `Cache-Control` as clients and Flameup send it (RFC 9111 §5.2, RFC 5861).
//!
//! # Specification
//! Names are compared without case (§5.2). Arguments may be tokens or quoted strings, and both are
//! accepted for every directive. Whatever is unclear counts towards *less* caching: of repeated
//! directives the stricter wins, a number that is none is 0, `no-cache` and `private` with field
//! names count as if they had none, and `no-store` wins whatever else is wrong with the field.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// Largest number of seconds that is told apart from infinity (RFC 9111 §1.2.2).
const MAX_SECONDS: u64 = 1 << 31;

/// What Flameup's answer says about being stored (RFC 9111 §5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseDirectives {
    /// `no-store`, `private` or `no-cache`: not for this cache.
    pub forbids_storing: bool,
    /// `s-maxage`, or else `max-age`.
    pub max_age: Option<Duration>,
    /// `must-revalidate` or `proxy-revalidate`: never served stale.
    pub must_revalidate: bool,
}

/// What a client demands of the answer (RFC 9111 §5.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// `no-cache`: only an answer that Flameup has just given.
    pub no_cache: bool,
    /// `no-store`: do not keep the answer.
    pub no_store: bool,
    /// `max-age`: nothing older.
    pub max_age: Option<Duration>,
    /// `max-stale`: something stale will do, up to this long; without argument, any.
    pub max_stale: Option<Duration>,
    /// `min-fresh`: it must stay fresh for this long.
    pub min_fresh: Option<Duration>,
    /// `only-if-cached`: do not ask Flameup.
    pub only_if_cached: bool,
    /// `stale-if-error` (RFC 5861 §4): stale by no more than this, should Flameup fail.
    pub stale_if_error: Option<Duration>,
}

impl ResponseDirectives {
    /// Reads the `Cache-Control` lines of a response.
    pub fn of(headers: &HeaderMap) -> Self {
        let (mut found, mut shared) = (Self::default(), None);
        for directive in directives(headers) {
            match &*directive.name {
                "no-store" | "private" | "no-cache" => found.forbids_storing = true,
                "max-age" => stricter(&mut found.max_age, directive.seconds(), Duration::min),
                // It is `proxy-revalidate` too (§5.2.2.10).
                "s-maxage" => {
                    stricter(&mut shared, directive.seconds(), Duration::min);
                    found.must_revalidate = true;
                }
                "must-revalidate" | "proxy-revalidate" => found.must_revalidate = true,
                _ => {}
            }
            // A quoted string without an end may have swallowed anything.
            found.forbids_storing |= directive.broken;
        }
        found.max_age = shared.or(found.max_age);
        found
    }
}

impl RequestDirectives {
    /// Reads the `Cache-Control` lines of a request.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        for directive in directives(headers) {
            let seconds = directive.seconds();
            match &*directive.name {
                "no-cache" => found.no_cache = true,
                "no-store" => found.no_store = true,
                "only-if-cached" => found.only_if_cached = true,
                "max-age" => stricter(&mut found.max_age, seconds, Duration::min),
                "min-fresh" => stricter(&mut found.min_fresh, seconds, Duration::max),
                "stale-if-error" => stricter(&mut found.stale_if_error, seconds, Duration::min),
                "max-stale" => {
                    let bound = if directive.argument.is_some() {
                        seconds
                    } else {
                        Duration::MAX
                    };
                    stricter(&mut found.max_stale, bound, Duration::min);
                }
                _ => {}
            }
        }
        found
    }

    /// Whether the client has ruled out any stale answer: it set a bound of its own on age or
    /// freshness and did not add `max-stale` (RFC 9111 §5.2.1.1).
    pub fn refuses_stale(&self) -> bool {
        let bounded = self.no_cache || self.max_age.is_some() || self.min_fresh.is_some();
        bounded && self.max_stale.is_none()
    }
}

fn stricter(
    field: &mut Option<Duration>,
    value: Duration,
    pick: fn(Duration, Duration) -> Duration,
) {
    *field = Some(field.map_or(value, |earlier| pick(earlier, value)));
}

/// One directive: its name in lower case, its argument without quotes.
struct Directive<'a> {
    name: Cow<'a, str>,
    argument: Option<Cow<'a, [u8]>>,
    /// The name is no token, or quotes stand where none may.
    broken: bool,
}

impl Directive<'_> {
    /// The argument in seconds; what is no number is 0.
    fn seconds(&self) -> Duration {
        let digits = self.argument.as_deref().unwrap_or_default();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Duration::ZERO;
        }
        let seconds = digits.iter().fold(0u64, |sum, digit| {
            (sum * 10 + u64::from(digit - b'0')).min(MAX_SECONDS)
        });
        Duration::from_secs(seconds)
    }
}

fn directives(headers: &HeaderMap) -> impl Iterator<Item = Directive<'_>> {
    headers
        .get_all(CACHE_CONTROL)
        .iter()
        .flat_map(|line| Elements(line.as_bytes()))
}

/// The comma-separated elements of one line, commas in quoted strings not counted.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Directive<'a>> {
        loop {
            let start = self
                .0
                .iter()
                .position(|byte| !matches!(byte, b',' | b' ' | b'\t'))?;
            let (element, rest, closed) = split_element(&self.0[start..]);
            self.0 = rest;
            if !element.is_empty() {
                return Some(parse(element, closed));
            }
        }
    }
}

/// Splits at the first comma outside quotes; also says whether all quotes were closed.
fn split_element(line: &[u8]) -> (&[u8], &[u8], bool) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (&line[..at], &line[at + 1..], true),
            _ => {}
        }
    }
    (line, &[], !quoted)
}

fn parse(element: &[u8], closed: bool) -> Directive<'_> {
    let (name, argument) = match element.iter().position(|byte| *byte == b'=') {
        Some(at) => (&element[..at], Some(element[at + 1..].trim_ascii())),
        None => (element, None),
    };
    let name = String::from_utf8_lossy(name.trim_ascii());
    let is_token = |byte: u8| byte.is_ascii_graphic() && byte != b'"';
    let broken = !closed
        || name.is_empty()
        || !name.bytes().all(is_token)
        || argument.is_some_and(has_stray_quote);
    let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        name
    };
    Directive {
        name,
        argument: argument.map(unquoted),
        broken,
    }
}

/// Whether quotes stand anywhere but around the whole argument.
fn has_stray_quote(argument: &[u8]) -> bool {
    let inner = argument
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(argument);
    let mut escaped = false;
    inner.iter().any(|byte| {
        let stray = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        stray
    })
}

/// Takes a quoted string out of its quotes (RFC 9110 §5.6.4).
fn unquoted(argument: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = argument.strip_prefix(b"\"") else {
        return Cow::Borrowed(argument);
    };
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    if inner.contains(&b'\\') {
        Cow::Owned(
            inner
                .iter()
                .copied()
                .filter(|byte| *byte != b'\\')
                .collect(),
        )
    } else {
        Cow::Borrowed(inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line).expect("bytes a header may have");
            headers.append(CACHE_CONTROL, value);
        }
        headers
    }

    fn response(line: &str) -> ResponseDirectives {
        ResponseDirectives::of(&headers(&[line.as_bytes()]))
    }

    fn request(line: &str) -> RequestDirectives {
        RequestDirectives::of(&headers(&[line.as_bytes()]))
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn storing_is_forbidden_in_any_case_and_form() {
        for line in [
            "No-Store, max-age=60",
            "no-store, max-age=abc",
            "max-age=60 , NO-STORE",
            "private",
            "private=\"x\"",
            "no-cache=\"set-cookie, x\", max-age=60",
            "max-age=60, ext=\"unterminated",
            "max-age=\"60, no-store",
            ",, no-store ,,",
        ] {
            assert!(response(line).forbids_storing, "{line}");
        }
        assert!(!response("max-age=60, ext=\"no-store, private\"").forbids_storing);
        assert!(!response("public, max-age=60, immutable").forbids_storing);
    }

    #[test]
    fn the_stricter_of_repeated_lifetimes_wins_and_no_number_is_zero() {
        assert_eq!(response("max-age=60, max-age=5").max_age, Some(seconds(5)));
        assert_eq!(response("max-age=\"60\"").max_age, Some(seconds(60)));
        assert_eq!(response("max-age=60, s-maxage=7").max_age, Some(seconds(7)));
        for none in [
            "max-age=abc",
            "max-age=-1",
            "max-age",
            "max-age=",
            "max-age=1.5",
        ] {
            assert_eq!(response(none).max_age, Some(seconds(0)), "{none}");
        }
        let huge = response("max-age=99999999999999999999999999");
        assert_eq!(huge.max_age, Some(seconds(MAX_SECONDS)));
        let lines = headers(&[b"max-age=60", b"max-age=30"]);
        assert_eq!(ResponseDirectives::of(&lines).max_age, Some(seconds(30)));
    }

    #[test]
    fn a_client_states_its_demands() {
        let all = request("max-age=1, min-fresh=2, max-stale=3, stale-if-error=4, only-if-cached");
        assert_eq!(all.max_age, Some(seconds(1)));
        assert_eq!(all.min_fresh, Some(seconds(2)));
        assert_eq!(all.max_stale, Some(seconds(3)));
        assert_eq!(all.stale_if_error, Some(seconds(4)));
        assert!(all.only_if_cached && !all.no_cache && !all.no_store);
        assert_eq!(request("max-stale").max_stale, Some(Duration::MAX));
        assert!(request("No-Cache").no_cache);
    }

    #[test]
    fn a_bound_of_the_clients_own_refuses_stale_answers_unless_it_adds_max_stale() {
        assert!(request("max-age=600").refuses_stale());
        assert!(request("no-cache").refuses_stale());
        assert!(!request("max-age=600, max-stale=5").refuses_stale());
        assert!(!request("stale-if-error=5").refuses_stale());
    }

    proptest! {
        #[test]
        fn no_bytes_make_parsing_panic(line in proptest::collection::vec(b'\t'..=0xff, 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.append(CACHE_CONTROL, value);
                let _ = ResponseDirectives::of(&headers);
                let _ = RequestDirectives::of(&headers);
            }
        }

        #[test]
        fn no_store_wins_whatever_stands_before_it(
            before in "[a-zA-Z0-9=,\" -]{0,30}",
            after in "[a-zA-Z0-9=, -]{0,30}",
        ) {
            // A quote that opens before it is not closed after it: then it would be no directive.
            let line = format!("{before},no-store,{after}");
            prop_assert!(response(&line).forbids_storing);
        }

        #[test]
        fn adding_a_line_never_allows_more(one in "[a-z=0-9, \"-]{0,30}", other in "max-age=[0-9]{1,4}") {
            let alone = ResponseDirectives::of(&headers(&[one.as_bytes()]));
            let both = ResponseDirectives::of(&headers(&[one.as_bytes(), other.as_bytes()]));
            prop_assert_eq!(alone.forbids_storing, both.forbids_storing);
            if let Some(age) = alone.max_age {
                prop_assert!(both.max_age.is_some_and(|both| both <= age));
            }
        }
    }
}
