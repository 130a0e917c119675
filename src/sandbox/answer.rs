//! An answer before it is put on a wire, and how it is put there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

/// Status, headers and body; `Content-Length` follows from the body unless it is set.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Boxed, as answers travel as errors too, and those ought to be small.
    pub(super) headers: Box<HeaderMap>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let content_type = HeaderValue::from_static(content_type);
        Self {
            status,
            headers: Box::new(HeaderMap::from_iter([(CONTENT_TYPE, content_type)])),
            body,
        }
    }

    pub(super) fn json(status: StatusCode, body: Bytes) -> Self {
        Self::new(status, "application/json", body)
    }

    pub(super) fn value(status: StatusCode, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value).expect("answers have text keys and plain values");
        Self::json(status, Bytes::from(body))
    }

    /// An answer without a body and without a type.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Box::default(),
            body: Bytes::new(),
        }
    }
}

/// How an answer leaves.
#[derive(Debug)]
pub(super) enum Delivery {
    /// As HTTP wants it.
    Whole(Answer),
    /// As a fault wants it.
    Script(Script),
}

/// Something no honest HTTP implementation would send.
#[derive(Debug)]
pub(super) struct Script {
    /// Sent first, with its headers as they are; absent if the steps bring their own bytes or none.
    pub(super) head: Option<Answer>,
    /// What follows the head.
    pub(super) steps: Vec<Step>,
}

/// One step of a [`Script`]; after the last one the connection is closed.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends these bytes.
    Send(Bytes),
    /// Sends that many bytes of padding.
    Fill(u64),
    /// Sends nothing for a while.
    Wait(Duration),
    /// Sends nothing more, and waits for the other side to close.
    Hang,
    /// Ends the connection with a TCP RST.
    Reset,
}
