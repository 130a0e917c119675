//! Refuses heads that two readers could understand in two ways, or that ask for something else than
//! their first line says.
//!
//! How HTTP/1 is framed was checked before it was parsed; what is left is what headers say. Both
//! versions of HTTP are held to the same, where they can say the same.
//!
//! # Specification
//! RFC 9110 §4.2.4 (no user information), §7.2 (`Host`), §7.8 (`Upgrade`), §10.1.1 (`Expect`), RFC 9112
//! §3.2 (targets), RFC 9113 §8.2.1 (values), §8.3.1 (`:authority`). `Upgrade` may be ignored by the
//! letter; it is refused, as whoever stands in front of this gateway may not know that it was.

use std::net::Ipv6Addr;

use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, request};
use percent_encoding::percent_decode_str;

use super::Bounds;
use crate::failure::RequestError;

/// What a client's framework may take for the method, in a query.
const METHOD_PARAMETER: &[u8] = b"_method";

/// Refuses a head that is not plain.
pub(super) fn check(request: &request::Parts, bounds: &Bounds) -> Result<(), RequestError> {
    if request.headers.len() > bounds.headers {
        return Err(RequestError::TooManyHeaders);
    }
    if request.method == Method::CONNECT {
        return Err(RequestError::Tunnel);
    }
    if request.version >= Version::HTTP_2 && request.headers.values().any(has_blanks_around) {
        return Err(RequestError::Blanks);
    }
    let host = read(&request.headers)?;
    check_authority(request, host)?;
    request.uri.query().map_or(Ok(()), check_query)
}

/// Blanks around a value are no part of it for one reader, and for another they are. Of HTTP/1 they
/// are cut off in reading.
fn has_blanks_around(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let (first, last) = (bytes.first(), bytes.last());
    matches!(first, Some(b' ' | b'\t')) || matches!(last, Some(b' ' | b'\t'))
}

/// Looks at each header once, and returns `Host`.
fn read(headers: &HeaderMap) -> Result<Option<&HeaderValue>, RequestError> {
    let (mut host, mut content_types, mut codings) = (None, 0, 0);
    for (name, value) in headers {
        match name.as_str() {
            "host" if host.replace(value).is_some() => return Err(RequestError::Host),
            "upgrade" | "http2-settings" => return Err(RequestError::Upgrade),
            "expect" if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(RequestError::Expectation);
            }
            "x-http-method-override" | "x-http-method" | "x-method-override" => {
                return Err(RequestError::MethodOverride);
            }
            "content-length" if !is_number(value.as_bytes()) => return Err(RequestError::Framing),
            "transfer-encoding" => codings += 1,
            "content-type" => content_types += 1,
            _ => {}
        }
    }
    let framed_twice = codings > 1 || codings > 0 && headers.contains_key(CONTENT_LENGTH);
    // Which one counts is for every reader to guess.
    if framed_twice || content_types > 1 {
        return Err(RequestError::Framing);
    }
    Ok(host)
}

/// Whether a length is one. Of HTTP/1 this is certain.
fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// Refuses a request that names no host, an impossible one, or two.
fn check_authority(
    request: &request::Parts,
    host: Option<&HeaderValue>,
) -> Result<(), RequestError> {
    let target = &request.uri;
    if let Some(scheme) = target.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return Err(RequestError::Authority);
    }
    let named = target
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    match (host.map(HeaderValue::as_bytes), named) {
        (Some(host), _) if !is_host(host) => Err(RequestError::Host),
        (None, Some(named)) if request.version >= Version::HTTP_2 && is_host(named) => Ok(()),
        (None, None) if request.version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(RequestError::Host),
        (Some(host), _) if agrees(target, host) => Ok(()),
        (Some(_), _) => Err(RequestError::Authority),
    }
}

/// Whether a target in absolute form names the same authority as `Host`.
fn agrees(target: &Uri, host: &[u8]) -> bool {
    target
        .authority()
        .is_none_or(|authority| authority.as_str().as_bytes().eq_ignore_ascii_case(host))
}

/// Whether this is a host, and a port if there is a colon. No user information, no escapes, no byte
/// beyond ASCII: names are looked up without any of them.
fn is_host(authority: &[u8]) -> bool {
    let (host, port) = if authority.first() == Some(&b'[') {
        let end = memchr::memchr(b']', authority).map_or(0, |end| end + 1);
        authority.split_at(end)
    } else {
        let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
        authority.split_at(end)
    };
    is_name(host) && (port.is_empty() || is_port(port))
}

fn is_name(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[") {
        let literal = literal.strip_suffix(b"]").unwrap_or_default();
        return std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
    }
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // More is no name (RFC 1035 §2.3.4).
    (1..=255).contains(&host.len()) && host.iter().all(fine)
}

/// A colon and a port that there may be.
fn is_port(port: &[u8]) -> bool {
    let digits = &port[1..];
    let number = digits
        .iter()
        .all(u8::is_ascii_digit)
        .then(|| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
    digits.len() <= 5 && number.flatten().is_some_and(|number| number > 0)
}

/// Refuses a query that goes on as it came and should not: it asks for another method, or has bytes
/// that no target has.
fn check_query(query: &str) -> Result<(), RequestError> {
    if query
        .bytes()
        .any(|byte| byte == b'\\' || !byte.is_ascii_graphic())
    {
        return Err(RequestError::Query);
    }
    let overrides = query.split(['&', ';']).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        percent_decode_str(name).eq(METHOD_PARAMETER.iter().copied())
    });
    if overrides {
        return Err(RequestError::MethodOverride);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port_that_there_may_be() {
        for host in ["a", "A.b-c_d:80", "127.0.0.1:65535", "[::1]", "[::1]:8080"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a:", "a:0", "a:65536", "a:+1", "a:1x", "a:000080", "a@b", "a/b", "a b",
            "a,b", "%61", "\u{e9}", "[::1", "::1", "[::1]a", "[a]", "[]", "a\\b", "a?b", "a#b",
            "a:80:80",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host("a".repeat(256).as_bytes()));
    }

    #[test]
    fn a_query_may_not_name_another_method() {
        assert_eq!(check_query("limit=1&x=_method&y_method=%zz"), Ok(()));
        for query in ["_method=DELETE", "a=b&_method", "a;%5fmethod=x"] {
            assert_eq!(
                check_query(query),
                Err(RequestError::MethodOverride),
                "{query}"
            );
        }
        assert_eq!(check_query("a=\\"), Err(RequestError::Query));
        assert_eq!(check_query("a=\u{e9}"), Err(RequestError::Query));
    }
}
