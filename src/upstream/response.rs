//! What is taken in from Flameup: one whole answer, within bounds.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::Error;
use super::scan::is_compressed;
use crate::shield::credential::{Credential, Needles};

/// Largest body taken in. A Person is some 560 bytes and its attributes are customer data of
/// unstated size; 1 MiB is far above any that could be cached with profit, and small enough that
/// all forwards under way together stay below 64 MiB.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// A whole answer of Flameup's.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// All its headers; what may reach a client is chosen later.
    pub headers: HeaderMap,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it was asked for; an answer's age counts from here (RFC 9111 §4.2.3).
    pub requested_at: Instant,
}

impl Response {
    /// Takes in an answer to its last byte.
    ///
    /// # Errors
    /// When the body is too large, cut short or encoded, or when any of it quotes the key.
    pub(super) async fn collect(
        response: http::Response<Incoming>,
        credential: &Credential,
        requested_at: Instant,
    ) -> Result<Self, Error> {
        let (head, body) = response.into_parts();
        // The request asked for no coding; a body that has one all the same cannot be read, and
        // the client may not be able to read it either.
        if head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(Error::Encoded);
        }
        let body = collect_body(body).await?;
        if is_compressed(&body) {
            return Err(Error::Encoded);
        }
        let response = Self {
            status: head.status,
            headers: head.headers,
            body,
            requested_at,
        };
        if response.quotes(&credential.needles) {
            Err(Error::QuotesKey)
        } else {
            Ok(response)
        }
    }

    /// Whether the key, or its secret half alone, stands anywhere in the answer. An error page
    /// that echoes the request would otherwise hand the key to whoever asked.
    fn quotes(&self, needles: &Needles) -> bool {
        let mut values = self.headers.values();
        needles.are_in(&self.body) || values.any(|value| needles.are_in(value.as_bytes()))
    }
}

async fn collect_body(mut body: Incoming) -> Result<Bytes, Error> {
    let announced = body.size_hint().lower();
    if announced > MAX_BODY_BYTES as u64 {
        return Err(Error::TooLarge);
    }
    let mut collected = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::Body)?.into_data() else {
            continue;
        };
        if collected.len() + data.len() > MAX_BODY_BYTES {
            return Err(Error::TooLarge);
        }
        collected.extend_from_slice(&data);
    }
    // Without an announced length the buffer has grown by doubling; what is kept must not.
    Ok(
        if collected.capacity() > collected.len() + collected.len() / 8 {
            Bytes::copy_from_slice(&collected)
        } else {
            collected.freeze()
        },
    )
}
