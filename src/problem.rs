//! What a client is told when the gateway answers for itself: the one map from [`Failure`] to
//! status, envelope and `Proxy-Status`.
//!
//! The body has the shape of Flameup's simplest error (get-people-id), so that clients written
//! against Flameup read it; `Proxy-Status` (RFC 9209), which Flameup never sends, tells the two
//! apart. Both say what was wrong with the request, and nothing of the upstream's own words.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{StatusCode, header};

use crate::auth;
use crate::cache::collapse;
use crate::cache::storable;
use crate::failure::{Failure, RequestError};
use crate::headers::PROXY_STATUS;
use crate::{limit, route, shield, upstream};

/// When to come back after an overload. It passes as soon as some forwards end.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

const UNREACHABLE: &str = "Flameup cannot be reached; repeat later";
const BROKEN: &str = "Flameup's answer broke off; repeat later";

/// An answer of the gateway's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    /// The error type that `Proxy-Status` names (RFC 9209 §2.3).
    error: &'static str,
    /// What tells it from others of that type (RFC 9209 §2.1.5).
    details: Option<&'static str>,
    /// What is wrong and what to do, for a person to read.
    message: Cow<'static, str>,
    received_status: Option<StatusCode>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    challenge: bool,
}

impl Problem {
    /// A problem with nothing but its status, type and message.
    pub fn new(
        status: StatusCode,
        error: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            error,
            details: None,
            message: message.into(),
            received_status: None,
            retry_after: None,
            allow: None,
            challenge: false,
        }
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The name of its status.
    pub fn reason(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// What is wrong and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When to come back, in whole seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after.map(seconds_rounded_up)
    }

    /// The body: Flameup's simplest envelope.
    pub fn body(&self) -> Bytes {
        let envelope = Envelope {
            error: self.reason(),
            message: &self.message,
            code: self.status.as_u16(),
        };
        serde_json::to_vec(&envelope).unwrap_or_default().into()
    }

    /// Adds the headers that go with it.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(PROXY_STATUS, self.proxy_status());
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }

    fn proxy_status(&self) -> HeaderValue {
        let mut value = format!("flameup-gateway; error={}", self.error);
        if let Some(status) = self.received_status {
            value.push_str("; received-status=");
            value.push_str(status.as_str());
        }
        if let Some(details) = self.details {
            value.push_str("; details=\"");
            value.push_str(details);
            value.push('"');
        }
        HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("flameup-gateway"))
    }

    fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

/// `{"error":"<reason phrase>","message":"<what to do>","code":<status>}`.
#[derive(serde::Serialize)]
struct Envelope<'a> {
    error: &'a str,
    message: &'a str,
    code: u16,
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        // No `_` arm, here and below: whoever adds a failure chooses what the client is told.
        let problem = match failure {
            Failure::Request(error) => of_request(*error),
            Failure::Body(error) => error.into(),
            Failure::Auth(error) => of_auth(*error),
            Failure::Limited(error) => of_limit(*error),
            Failure::Route(error) => of_route(*error),
            Failure::OnlyIfCached => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "http_request_denied",
                "Nothing stored satisfies only-if-cached; repeat the request without it",
            ),
            Failure::Waiters(collapse::TooManyWaiters) => overloaded(),
            Failure::NoRoom => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "connection_limit_reached",
                "Too many large answers wait for their clients; repeat after Retry-After, or with fewer ids",
            )
            .after(OVERLOAD_PAUSE),
            Failure::Shield(error) => of_shield(error),
            Failure::LongWait => budget_spent(OVERLOAD_PAUSE),
            Failure::Wait(collapse::Error::Deadline) => too_slow(),
            Failure::Wait(collapse::Error::Abandoned) => Self::new(
                StatusCode::BAD_GATEWAY,
                "proxy_internal_error",
                "The gateway lost track of this lookup; repeat it",
            ),
            Failure::Wait(collapse::Error::CalledOff) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "http_request_denied",
                "This person was just erased from the gateway's memory; repeat the lookup to have \
                 Flameup asked anew",
            )
            .after(OVERLOAD_PAUSE),
            Failure::Upstream(error) => of_upstream(error),
            Failure::Unusable(storable::Error::NotAPerson(_)) | Failure::NotJson => {
                unusable("Flameup's answer is not a person")
            }
            Failure::Unusable(storable::Error::AnotherPerson) => {
                unusable("Flameup answered with another person than the one asked for")
            }
            Failure::UnexpectedStatus(_) => {
                unusable("Flameup answered with a status that is of no use to a client")
            }
            Failure::KeyRefused => key_refused(),
            Failure::RateLimited { retry_after } => budget_spent(*retry_after),
        };
        Self {
            received_status: failure.upstream_status(),
            ..problem
        }
    }
}

fn of_request(error: RequestError) -> Problem {
    let bad = |message| Problem::new(StatusCode::BAD_REQUEST, "http_request_error", message);
    match error {
        RequestError::Host => bad("Send exactly one Host header, with a host and at most a port"),
        RequestError::Authority => {
            bad("The request target and the Host header name different hosts")
        }
        RequestError::Blanks => bad("A header value begins or ends with a blank; send it without"),
        RequestError::Framing => {
            bad("Send Content-Type once, and either Content-Length or Transfer-Encoding")
        }
        RequestError::Tunnel => bad("This gateway makes no tunnels"),
        RequestError::Upgrade => bad("This gateway changes no protocols; send no Upgrade"),
        RequestError::MethodOverride => bad("Send the method you mean, without overriding it"),
        RequestError::Query => bad("The query has bytes that must be percent-encoded"),
        RequestError::Expectation => Problem::new(
            StatusCode::EXPECTATION_FAILED,
            "http_request_error",
            "This gateway knows no expectation but 100-continue",
        ),
        RequestError::BodyOnRead => bad("This request has no body; send it without one"),
        RequestError::BodyBroken => bad("The request body broke off"),
        RequestError::BodyTooSlow => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "http_request_error",
            "The request body did not come to an end in time",
        ),
        RequestError::BodyTooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "http_request_error",
            "The request body is larger than this gateway accepts",
        ),
        RequestError::TooManyHeaders => Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "http_request_error",
            "The request has more headers than this gateway accepts",
        ),
    }
}

fn of_auth(error: auth::Error) -> Problem {
    let unknown = |message| Problem {
        challenge: true,
        ..Problem::new(StatusCode::UNAUTHORIZED, "http_request_denied", message)
    };
    match error {
        auth::Error::SeveralCredentials => Problem::new(
            StatusCode::BAD_REQUEST,
            "http_request_error",
            "Send one Authorization header, not several",
        ),
        auth::Error::NoToken => {
            unknown("Send a client token of this gateway as Authorization: Bearer")
        }
        auth::Error::UnknownToken => {
            unknown("This gateway does not know the token; it takes its own, not Flameup's")
        }
        auth::Error::Disagreement => unknown(
            "The token and the certificate, or the certificate's names, are of different clients",
        ),
        auth::Error::ScopeMissing(scope) => Problem {
            message: format!("This client needs the scope {scope}").into(),
            ..Problem::new(StatusCode::FORBIDDEN, "http_request_denied", "")
        },
    }
}

/// Not to be taken for a refusal of the budget's: here it helps nobody to wait for Flameup.
fn of_limit(error: limit::Error) -> Problem {
    let (details, message) = match error {
        limit::Error::Rate { .. } => (
            "client_rate_limit",
            "This client sends more requests a second than it may send this gateway; repeat after \
             Retry-After",
        ),
        limit::Error::Concurrency => (
            "client_concurrency_limit",
            "This client has more requests under way than it may have at this gateway; wait for \
             one to end",
        ),
    };
    let status = StatusCode::TOO_MANY_REQUESTS;
    Problem {
        details: Some(details),
        ..Problem::new(status, "http_request_denied", message)
    }
    .after(error.retry_after())
}

fn of_route(error: route::Error) -> Problem {
    match error {
        route::Error::Unknown => Problem::new(
            StatusCode::NOT_FOUND,
            "http_request_error",
            "This gateway has no such route",
        ),
        route::Error::Method { allow } => Problem {
            allow: Some(allow),
            ..Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "http_request_error",
                "This route takes only the methods that Allow lists",
            )
        },
        route::Error::TargetTooLong => Problem::new(
            StatusCode::URI_TOO_LONG,
            "http_request_error",
            "The request target is longer than 8 KiB",
        ),
        route::Error::Segment => Problem::new(
            StatusCode::BAD_REQUEST,
            "http_request_error",
            "The path has an empty segment, a dot segment, a bad escape, or characters no path may have",
        ),
        route::Error::Person(error) => Problem::new(
            StatusCode::BAD_REQUEST,
            "http_request_error",
            format!("No person can have this identifier: {error}"),
        ),
    }
}

fn of_shield(error: &shield::Error) -> Problem {
    match error {
        shield::Error::TooManyRetries | shield::Error::NotNow => overloaded(),
        shield::Error::Budget(refusal) => budget_spent(refusal.retry_after),
        shield::Error::KeyRefused { .. } => key_refused(),
        shield::Error::BreakerOpen { retry_after } => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "destination_unavailable",
            "Flameup keeps failing and is left alone for a while; repeat after Retry-After",
        )
        .after(*retry_after),
    }
}

fn budget_spent(retry_after: Duration) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "http_request_denied",
        "Flameup's rate limit is spent; repeat after Retry-After",
    )
    .after(retry_after)
}

fn key_refused() -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "proxy_configuration_error",
        "Flameup refused the gateway's API key; its operator must replace it",
    )
}

fn of_upstream(error: &upstream::Error) -> Problem {
    use upstream::Error;
    let bad = |error, message| Problem::new(StatusCode::BAD_GATEWAY, error, message);
    match error {
        Error::Build(_) => Problem::new(
            StatusCode::BAD_REQUEST,
            "http_request_error",
            "The query has characters that no request target may have",
        ),
        Error::Timeout => too_slow(),
        Error::ConnectTimeout => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "connection_timeout",
            UNREACHABLE,
        ),
        Error::Resolve(_) => bad("dns_error", UNREACHABLE),
        Error::Refused(_) => bad("connection_refused", UNREACHABLE),
        Error::Connect(_) => bad("destination_unavailable", UNREACHABLE),
        Error::Certificate(_) => bad(
            "tls_certificate_error",
            "Flameup's certificate is not trusted; the gateway's operator must look at it",
        ),
        Error::Closed(_) => bad("connection_terminated", BROKEN),
        Error::Body(_) => bad("http_response_incomplete", BROKEN),
        Error::Protocol(_) => bad("http_protocol_error", "Flameup's answer is not usable HTTP"),
        Error::TooLarge => bad(
            "http_response_body_size",
            "Flameup's answer is larger than 1 MiB",
        ),
        Error::TooLargeToRelay => bad(
            "http_response_body_size",
            "Flameup's answer is larger than 16 MiB",
        ),
        Error::Encoded => bad(
            "http_response_content_coding",
            "Flameup's answer is encoded",
        ),
        Error::QuotesKey => unusable("Flameup's answer must not be shown"),
    }
}

fn overloaded() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "connection_limit_reached",
        "Too many lookups are waiting; repeat after Retry-After",
    )
    .after(OVERLOAD_PAUSE)
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "http_response_timeout",
        "Flameup did not answer in time; repeat later",
    )
}

fn unusable(message: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "http_protocol_error", message)
}

/// `Retry-After` has whole seconds (RFC 9110 §10.2.3); rounding down would invite a client too
/// early.
fn seconds_rounded_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy_status(failure: &Failure) -> String {
        let mut headers = HeaderMap::new();
        Problem::from(failure).write_headers(&mut headers);
        headers[PROXY_STATUS]
            .to_str()
            .expect("a readable value")
            .to_owned()
    }

    #[test]
    fn the_body_is_flameups_simplest_envelope() {
        let problem = Problem::from(&Failure::Route(route::Error::Unknown));
        assert_eq!(
            problem.body(),
            r#"{"error":"Not Found","message":"This gateway has no such route","code":404}"#
        );
    }

    #[test]
    fn a_refused_key_is_never_the_clients_401() {
        let problem = Problem::from(&Failure::KeyRefused);
        assert_eq!(problem.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(
            proxy_status(&Failure::KeyRefused),
            "flameup-gateway; error=proxy_configuration_error; received-status=401"
        );
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let failure = Failure::RateLimited {
            retry_after: Duration::from_millis(7_001),
        };
        let mut headers = HeaderMap::new();
        Problem::from(&failure).write_headers(&mut headers);
        assert_eq!(headers[RETRY_AFTER], "8");
    }

    #[test]
    fn proxy_status_is_a_structured_field() {
        let value = proxy_status(&Failure::Upstream(upstream::Error::TooLarge));
        assert!(sfv::Parser::new(&value).parse::<sfv::List>().is_ok());
        assert_eq!(value, "flameup-gateway; error=http_response_body_size");
    }
}
