//! The JSON body of a request, taken in whole, within a bound of bytes and of time.
//!
//! Only `application/json` is read. A page of another origin can have a browser send any other
//! text without asking first, but not this (Fetch standard, CORS-safelisted request headers).

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::server;
use crate::upstream::BoxError;

/// Time for a whole body: hundreds of times what 64 KiB take on a slow line.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a body is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is something else, or does not say what it is.
    #[error("the request body is not application/json")]
    ContentType,
    /// It is longer than it may be.
    #[error("the request body is too large")]
    TooLarge,
    /// It ended early, or is framed wrongly.
    #[error("the request body broke off")]
    Broken,
    /// It did not end in time.
    #[error("the request body took too long")]
    TooSlow,
    /// It is no JSON, or not what is wanted. What is wrong stands in it, so it is not logged.
    #[error("the request body is not what this route takes")]
    Unusable(#[source] serde_json::Error),
}

/// Reads `body`, of at most `max_bytes`.
///
/// # Errors
/// When it is not a `T`; see [`Error`].
pub async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: impl Body<Data = Bytes, Error: Into<BoxError>>,
    max_bytes: usize,
) -> Result<T, Error> {
    if !is_json(headers) {
        return Err(Error::ContentType);
    }
    let whole = timeout(DEADLINE, Limited::new(body, max_bytes).collect());
    let whole = whole.await.map_err(|_| Error::TooSlow)?;
    let whole = whole.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::TooLarge
        } else if matches!(error.downcast_ref(), Some(server::BodyError::TooSlow)) {
            Error::TooSlow
        } else {
            Error::Broken
        }
    })?;
    serde_json::from_slice(&whole.to_bytes()).map_err(Error::Unusable)
}

/// Whether exactly one line says `application/json`, whatever its parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let essence = line.to_str().unwrap_or("").split(';').next().unwrap_or("");
    essence.trim().eq_ignore_ascii_case("application/json")
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let problem = |status, message: String| Self::new(status, "http_request_error", message);
        match error {
            Error::ContentType => problem(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Send the body as Content-Type: application/json".to_owned(),
            ),
            Error::TooLarge => problem(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request body is larger than this route takes".to_owned(),
            ),
            Error::Broken => problem(
                StatusCode::BAD_REQUEST,
                "The request body broke off".to_owned(),
            ),
            Error::TooSlow => problem(
                StatusCode::REQUEST_TIMEOUT,
                "The request body did not end in time".to_owned(),
            ),
            Error::Unusable(cause) => problem(
                StatusCode::BAD_REQUEST,
                format!("The request body is not what this route takes: {cause}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_line_of_json_is_json() {
        let told = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| HeaderValue::from_static(line));
            is_json(&lines.map(|line| (CONTENT_TYPE, line)).collect())
        };
        assert!(told(&["application/json"]) && told(&["Application/JSON; charset=utf-8"]));
        for lines in [
            &[][..],
            &["text/plain"],
            &["text/plain; application/json"],
            &["application/jsonp"],
            &["application/json", "application/json"],
        ] {
            assert!(!told(lines), "{lines:?}");
        }
    }
}
