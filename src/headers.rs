//! Header names, and the few headers that are allowed through in each direction.
//!
//! Both directions are lists of what passes. Nothing is copied and then deleted, so a header that
//! nobody thought of stays where it is (hop-by-hop ones among them, RFC 9110 §7.6.1).

use http::HeaderMap;

pub mod common;
pub mod ready;

use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName,
    HeaderValue, LAST_MODIFIED, RETRY_AFTER,
};

/// `Cache-Status` (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// `Proxy-Status` (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Which gateways have not confirmed a change, by their ids; on the answer to the change.
pub const UNCONFIRMED: HeaderName = HeaderName::from_static("flameup-gateway-unconfirmed");
/// `X-Request-Id`: taken from the client or made here, on every answer, and sent to Flameup.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// `traceparent` (W3C Trace Context): where a request stands in a trace.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How the gateway calls itself in `Via` (RFC 9110 §7.6.3), in both directions.
pub const VIA_VALUE: HeaderValue = HeaderValue::from_static("1.1 flameup-gateway");

/// Headers of Flameup's that reach a client, its validator apart, which the entry keeps.
/// `Set-Cookie` would hand one client's session to another; a replayed `X-RateLimit-Remaining: 0`
/// puts Flameup's own sample client to sleep.
const PASSED_ON: [HeaderName; 5] = [
    CONTENT_TYPE,
    CONTENT_LANGUAGE,
    LAST_MODIFIED,
    CACHE_CONTROL,
    RETRY_AFTER,
];

/// Headers of a client's that go to Flameup with a request that is forwarded whole: they describe its
/// body, what it is tried for, or which trace it belongs to. The length is made anew by framing.
static SENT_ON: [HeaderName; 6] = [
    ACCEPT,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    HeaderName::from_static("idempotency-key"),
    TRACEPARENT,
    HeaderName::from_static("tracestate"),
];

/// Those lines of a client's headers that go to Flameup with its request.
pub fn sent_on(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    SENT_ON.iter().flat_map(|name| {
        let values = headers.get_all(name).iter();
        values.map(move |value| (name.clone(), value.clone()))
    })
}

/// Those lines of an upstream answer's headers that may reach a client, each free of the others.
pub fn passed_on(headers: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    PASSED_ON.iter().flat_map(|name| {
        headers
            .get_all(name)
            .iter()
            .map(move |value| (name.clone(), detached(value)))
    })
}

/// A copy of a value that keeps nothing else in memory. A value as it was parsed is a slice of the
/// connection's read buffer and holds on to all of it, some eight kilobytes.
pub fn detached(value: &HeaderValue) -> HeaderValue {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    if value == JSON {
        return JSON;
    }
    HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_detached_value_holds_on_to_no_buffer() {
        let buffer = Bytes::from(vec![b'x'; 8192]);
        let value = HeaderValue::from_maybe_shared(buffer.slice(..16)).expect("plain bytes");
        assert!(!buffer.is_unique());
        let copy = detached(&value);
        drop(value);
        assert!(buffer.is_unique());
        assert_eq!(copy.as_bytes(), &buffer[..16]);
    }
}
