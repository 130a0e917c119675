//! Everything that can keep a request from its answer, in the words of the module it happened in.

use http::StatusCode;

use crate::cache::collapse;
use crate::cache::storable;
use crate::shield::queue::Refusal;
use crate::{auth, json, limit, route, shield, upstream};

/// Why a request gets an answer of the gateway's own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request's head is not one we serve.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The request's body is not one we take.
    #[error(transparent)]
    Body(#[from] json::Error),
    /// Nobody we know, or nobody who may.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// The client asks more of this gateway than it may.
    #[error(transparent)]
    Limited(#[from] limit::Error),
    /// No such route, or no usable id.
    #[error(transparent)]
    Route(#[from] route::Error),
    /// The client wants no forward, and nothing stored does.
    #[error("nothing stored satisfies the request")]
    OnlyIfCached,
    /// Too many wait for this person.
    #[error(transparent)]
    Waiters(#[from] collapse::TooManyWaiters),
    /// The fetch that this request waited for did not land in time, or at all.
    #[error(transparent)]
    Wait(#[from] collapse::Error),
    /// Too many bytes of answers to lookups of many wait for their clients.
    #[error("there is no room for the answer")]
    NoRoom,
    /// The forward was not admitted.
    #[error(transparent)]
    Shield(#[from] shield::Error),
    /// No whole answer came.
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    /// A 200 that is not the person.
    #[error(transparent)]
    Unusable(#[from] storable::Error),
    /// A 200 to a request with a query that is not JSON.
    #[error("the answer is not JSON")]
    NotJson,
    /// A status that a lookup has no use for: informational, redirection, or success without body.
    #[error("the upstream answered with status {0}")]
    UnexpectedStatus(StatusCode),
    /// Flameup refused our key.
    #[error("the upstream refused the key")]
    KeyRefused,
    /// Its turn did not come before it was better to serve something stale.
    #[error("waiting for a turn took too long")]
    LongWait,
    /// Flameup's limit is spent.
    #[error("the upstream's rate limit is spent")]
    RateLimited {
        /// When to come back.
        retry_after: std::time::Duration,
    },
}

/// What is wrong with a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// HTTP/1.1 requires exactly one `Host` (RFC 9112 §3.2).
    #[error("the request must have exactly one usable Host header")]
    Host,
    /// The target's authority and `Host` disagree (RFC 9112 §3.2.2).
    #[error("the request target names another host than the Host header")]
    Authority,
    /// A header value must not begin or end with a blank (RFC 9113 §8.2.1).
    #[error("a header value begins or ends with a blank")]
    Blanks,
    /// Two framings, or two types of content: which one counts is for every reader to guess, and what
    /// request smuggling is made of (RFC 9112 §6.1).
    #[error("the request says in two ways what its body is")]
    Framing,
    /// A tunnel.
    #[error("the request asks for a tunnel")]
    Tunnel,
    /// Another protocol on this connection (RFC 9110 §7.8).
    #[error("the request asks for another protocol")]
    Upgrade,
    /// Something is expected that nobody here knows (RFC 9110 §10.1.1).
    #[error("the request has an unknown expectation")]
    Expectation,
    /// Another method than that of the first line.
    #[error("the request asks for another method than its own")]
    MethodOverride,
    /// Bytes that no query has (RFC 3986 §3.4).
    #[error("the query has unusable bytes")]
    Query,
    /// A read with a body.
    #[error("a read must not have a body")]
    BodyOnRead,
    /// A body beyond `server.limits.body_bytes`.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// The body ended before its time, or is framed wrongly.
    #[error("the request body broke off")]
    BodyBroken,
    /// The body had not ended by the time that an answer had to be there.
    #[error("the request body took too long")]
    BodyTooSlow,
    /// More header lines than `server.limits.headers`.
    #[error("the request has too many headers")]
    TooManyHeaders,
}

impl Failure {
    /// Whether a stale answer may take this failure's place. Where Flameup refused our key, it may
    /// have been taken away on purpose: nothing is served on its credit. What the client did wrong
    /// is its own. Whoever was erased is not served any more, by no request; nor is who was merged into
    /// somebody else.
    pub fn may_be_covered(&self) -> bool {
        match self {
            Self::Wait(error) => !matches!(error, collapse::Error::CalledOff),
            Self::Unusable(error) => !matches!(error, storable::Error::AnotherPerson),
            Self::Waiters(_)
            | Self::LongWait
            | Self::Upstream(_)
            | Self::NotJson
            | Self::UnexpectedStatus(_)
            | Self::RateLimited { .. } => true,
            Self::Shield(error) => !matches!(error, shield::Error::KeyRefused { .. }),
            Self::Request(_)
            | Self::Body(_)
            | Self::Auth(_)
            | Self::Limited(_)
            | Self::Route(_)
            | Self::OnlyIfCached
            | Self::NoRoom
            | Self::KeyRefused => false,
        }
    }

    /// The refusal of one caller's turn, if it is that: another caller may well have one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Shield(shield::Error::Budget(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Why nothing was sent to Flameup, as far as this request knows; `None` if something was.
    pub fn unsent(&self) -> Option<Unsent> {
        match self {
            Self::Wait(_)
            | Self::Unusable(_)
            | Self::NotJson
            | Self::UnexpectedStatus(_)
            | Self::KeyRefused
            | Self::RateLimited { .. } => None,
            Self::Upstream(error) => {
                matches!(error, upstream::Error::Build(_)).then_some(Unsent::Refused)
            }
            Self::LongWait => Some(Unsent::Budget),
            Self::Shield(error) => Some(match error {
                shield::Error::Budget(_) => Unsent::Budget,
                shield::Error::BreakerOpen { .. } => Unsent::Breaker,
                shield::Error::TooManyRetries | shield::Error::NotNow => Unsent::Overload,
                shield::Error::KeyRefused { .. } => Unsent::Refused,
            }),
            Self::Waiters(_) | Self::NoRoom => Some(Unsent::Overload),
            Self::Limited(_) => Some(Unsent::ClientLimit),
            Self::Request(_)
            | Self::Body(_)
            | Self::Auth(_)
            | Self::Route(_)
            | Self::OnlyIfCached => Some(Unsent::Refused),
        }
    }

    /// The status that Flameup answered with, where there was one.
    pub fn upstream_status(&self) -> Option<StatusCode> {
        match self {
            Self::Unusable(_) | Self::NotJson => Some(StatusCode::OK),
            Self::UnexpectedStatus(status) => Some(*status),
            Self::KeyRefused => Some(StatusCode::UNAUTHORIZED),
            Self::RateLimited { .. } => Some(StatusCode::TOO_MANY_REQUESTS),
            Self::Request(_)
            | Self::Body(_)
            | Self::Auth(_)
            | Self::Limited(_)
            | Self::Route(_)
            | Self::OnlyIfCached
            | Self::NoRoom
            | Self::Waiters(_)
            | Self::Wait(_)
            | Self::LongWait
            | Self::Shield(_)
            | Self::Upstream(_) => None,
        }
    }
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Flameup's limit leaves no room.
    Budget,
    /// Flameup keeps failing.
    Breaker,
    /// Too much is under way here.
    Overload,
    /// The client's own limit at this gateway.
    ClientLimit,
    /// The request, or the key, is not one to send.
    Refused,
}
