//! Keeps pages of other origins from the operators' listener, where a browser of the operator's
//! can reach it.
//!
//! Such a page can send requests without asking first, and with a name of its own that it has
//! point here (DNS rebinding) it could even read the answers. So a request is refused that
//!
//! - a browser marks as coming from elsewhere (`Sec-Fetch-Site`, Fetch Metadata §2.3);
//! - has an `Origin` (RFC 6454 §7) other than the very host that it asks;
//! - asks for a host by a name: addresses and `localhost` cannot be made to point elsewhere. A
//!   request with the admin token may: a page that has a name point here does not know it.
//!
//! That a body must be `application/json` is seen to in [`crate::json`]. No answer has a CORS
//! header.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, request};

/// Where the browser says that a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The browser says so.
    #[error("a page of another site sent the request")]
    Site,
    /// The origin is another than the host that is asked.
    #[error("a page of another origin sent the request")]
    Origin,
    /// The host is a name, or cannot be read.
    #[error("the request asks for a host by a name that may be made to point anywhere")]
    Host,
}

/// Refuses what a page of another origin may have sent; `has_proof` if it has shown the token.
///
/// # Errors
/// When it may have been; see [`Error`].
pub fn check(request: &request::Parts, has_proof: bool) -> Result<(), Error> {
    let headers = &request.headers;
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    if !sites.all(|site| site == "same-origin" || site == "none") {
        return Err(Error::Site);
    }
    let host = host(request)?;
    if !has_proof && !cannot_be_rebound(&host) {
        return Err(Error::Host);
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    if !origins.all(|origin| is_own(origin, &host)) {
        return Err(Error::Origin);
    }
    Ok(())
}

/// The one host that is asked: that of the target, of `Host`, or of both if they agree.
fn host(request: &request::Parts) -> Result<Authority, Error> {
    match (request.uri.authority(), single_host(&request.headers)?) {
        (Some(target), Some(host)) if *target != host => Err(Error::Host),
        (Some(target), _) => Ok(target.clone()),
        (None, host) => host.ok_or(Error::Host),
    }
}

/// What `Host` says, if it is there.
fn single_host(headers: &HeaderMap) -> Result<Option<Authority>, Error> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Error::Host);
    }
    let host = first.map(|host| Authority::try_from(host.as_bytes()));
    host.transpose().map_err(|_| Error::Host)
}

fn cannot_be_rebound(host: &Authority) -> bool {
    let name = host.host();
    // What is neither name nor port, as in `name@host` or `[::1].name`, is not one to ask for.
    let port = host.as_str().strip_prefix(name);
    if port.is_none_or(|port| !port.is_empty() && !port.starts_with(':')) {
        return false;
    }
    let bracketed = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a page of this origin was served by `host`, over whatever stands before it.
fn is_own(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.to_str().unwrap_or("");
    let authority = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn told(headers: &[(&str, &str)]) -> Result<(), Error> {
        told_with(headers, false)
    }

    fn told_with(headers: &[(&str, &str)], has_proof: bool) -> Result<(), Error> {
        let mut request = Request::builder().uri("/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        check(&parts, has_proof)
    }

    #[test]
    fn addresses_and_localhost_are_asked_and_names_are_not() {
        for host in [
            "127.0.0.1:9090",
            "127.0.0.1",
            "[::1]:9090",
            "localhost:9090",
            "LocalHost",
            "10.0.0.5:9090",
        ] {
            assert_eq!(told(&[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "[::1].evil.example",
            "",
            "a b",
        ] {
            assert_eq!(told(&[("host", host)]), Err(Error::Host), "{host}");
        }
        assert_eq!(told(&[]), Err(Error::Host));
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(told(&twice), Err(Error::Host));
    }

    #[test]
    fn who_shows_the_token_may_ask_by_name_and_still_for_no_other_page() {
        let host = ("host", "gateway.internal:9090");
        assert_eq!(told_with(&[host], true), Ok(()));
        assert_eq!(told_with(&[host], false), Err(Error::Host));
        let own = ("origin", "https://gateway.internal:9090");
        assert_eq!(told_with(&[host, own], true), Ok(()));
        for (header, error) in [
            (("origin", "http://evil.example"), Error::Origin),
            (("sec-fetch-site", "cross-site"), Error::Site),
            (("host", "other"), Error::Host),
        ] {
            assert_eq!(told_with(&[host, header], true), Err(error));
        }
    }

    #[test]
    fn only_ones_own_pages_and_no_page_at_all_are_let_in() {
        let host = ("host", "localhost:9090");
        for headers in [
            &[("sec-fetch-site", "none")][..],
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "http://localhost:9090"),
            ],
            &[("origin", "https://LOCALHOST:9090")],
        ] {
            assert_eq!(told(&[&[host], headers].concat()), Ok(()), "{headers:?}");
        }
        for site in ["cross-site", "same-site", "", "none, none"] {
            let headers = [host, ("sec-fetch-site", site)];
            assert_eq!(told(&headers), Err(Error::Site), "{site}");
        }
        for origin in [
            "null",
            "http://evil.example",
            "http://localhost",
            "http://localhost:8080",
            "http://127.0.0.1:9090",
            "file://localhost:9090",
            "http://localhost:9090.evil.example",
        ] {
            let headers = [host, ("origin", origin)];
            assert_eq!(told(&headers), Err(Error::Origin), "{origin}");
        }
    }
}
