//! `Cache-Status`: what the cache did for a request (RFC 9211). It never names the person.

use http::{HeaderValue, StatusCode};

use crate::headers::ready;

const MEMBER: &str = "flameup-gateway";

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheStatus {
    /// From memory; `ttl` is the freshness left in seconds, negative once stale.
    Hit {
        /// `ttl` parameter.
        ttl: i64,
        /// What else there is to know about the hit.
        detail: Option<HitDetail>,
    },
    /// By asking Flameup, or by trying to.
    Forward {
        /// `fwd` parameter: why the cache did not do.
        reason: Reason,
        /// `fwd-status` parameter: what Flameup answered, where the answer's own status does not
        /// say it.
        status: Option<StatusCode>,
        /// What became of the forward.
        end: End,
    },
    /// Neither: the gateway answered for itself.
    None {
        /// `detail` parameter.
        detail: &'static str,
    },
}

/// What else there is to know about a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitDetail {
    /// A stored 404.
    Negative,
    /// Stale, while a refresh runs.
    Revalidating,
    /// Stale, because Flameup's limit is spent.
    Budget,
    /// Stale, because Flameup keeps failing and is left alone.
    Breaker,
    /// Stale, because too many requests were under way to ask.
    Overload,
    /// From another gateway's memory, by way of Redis.
    Tier,
    /// Stale, for a client that wants nobody asked. The client knows that: the header says nothing
    /// of it.
    OnlyIfCached,
}

/// Why a request went on to Flameup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing stored for this person.
    UriMiss,
    /// What is stored is stale.
    Stale,
    /// The client's own directives rule out what is stored.
    Request,
    /// Such requests never use the cache.
    Bypass,
    /// The request's method is not one that a cache answers.
    Method,
}

/// What became of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Flameup's answer went to the client and was not stored.
    Relayed,
    /// Flameup has answered a change, and not every gateway has confirmed it.
    Unconfirmed,
    /// Flameup's answer went to the client and was stored.
    Stored,
    /// The answer came from another request's forward.
    Collapsed,
    /// It failed, and the client got what was stored, stale.
    StaleOnError,
    /// It failed, and the client was told so.
    Failed,
}

impl CacheStatus {
    /// The header's value.
    pub fn to_header(self) -> HeaderValue {
        if let Self::Hit { ttl, detail: None } = self
            && let Ok(ttl) = u64::try_from(ttl)
        {
            return ready::HIT.with(ttl);
        }
        let mut text = String::with_capacity(64);
        text.push_str(MEMBER);
        match self {
            Self::Hit {
                ttl,
                detail: Some(HitDetail::Negative),
            } => {
                text.push_str("; hit; detail=negative");
                push_ttl(&mut text, ttl);
            }
            Self::Hit { ttl, detail } => {
                text.push_str("; hit");
                push_ttl(&mut text, ttl);
                text.push_str(match detail {
                    None | Some(HitDetail::Negative | HitDetail::OnlyIfCached) => "",
                    Some(HitDetail::Revalidating) => "; detail=revalidating",
                    Some(HitDetail::Budget) => "; detail=budget",
                    Some(HitDetail::Breaker) => "; detail=breaker",
                    Some(HitDetail::Overload) => "; detail=overload",
                    Some(HitDetail::Tier) => "; detail=tier",
                });
            }
            Self::Forward {
                reason,
                status,
                end,
            } => {
                text.push_str("; fwd=");
                text.push_str(reason.word());
                if let Some(status) = status {
                    text.push_str("; fwd-status=");
                    text.push_str(status.as_str());
                }
                text.push_str(end.parameter());
            }
            Self::None { detail } => {
                text.push_str("; detail=");
                text.push_str(detail);
            }
        }
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(MEMBER))
    }

    /// The header's value without the cache's name.
    pub fn words(self) -> String {
        let header = self.to_header();
        let words = header.to_str().unwrap_or("");
        let words = words.strip_prefix(MEMBER).unwrap_or(words);
        words.trim_start_matches("; ").to_owned()
    }

    /// Why what was served is stale, if it is.
    pub fn stale_cause(self) -> Option<&'static str> {
        match self {
            Self::Hit {
                detail: Some(detail),
                ttl,
            } => match detail {
                HitDetail::Negative => None,
                HitDetail::Tier => (ttl < 0).then_some("tier"),
                HitDetail::Revalidating => Some("revalidating"),
                HitDetail::Budget => Some("budget"),
                HitDetail::Breaker => Some("breaker"),
                HitDetail::Overload => Some("overload"),
                HitDetail::OnlyIfCached => Some("only_if_cached"),
            },
            Self::Forward {
                end: End::StaleOnError,
                ..
            } => Some("error"),
            Self::Hit { detail: None, .. } | Self::Forward { .. } | Self::None { .. } => None,
        }
    }

    /// The outcome, as metrics and logs count it.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Hit { detail: None, .. }
            | Self::Hit {
                detail: Some(HitDetail::Tier),
                ttl: 0..,
            } => Outcome::Hit,
            Self::Hit {
                detail: Some(HitDetail::Negative),
                ..
            } => Outcome::Negative,
            Self::Hit { .. }
            | Self::Forward {
                end: End::StaleOnError,
                ..
            } => Outcome::Stale,
            Self::Forward {
                end: End::Failed, ..
            } => Outcome::Failed,
            Self::Forward {
                end: End::Collapsed,
                ..
            } => Outcome::Collapsed,
            Self::Forward {
                reason: Reason::UriMiss,
                ..
            } => Outcome::Miss,
            Self::Forward {
                reason: Reason::Stale | Reason::Request,
                ..
            } => Outcome::Revalidated,
            Self::Forward {
                reason: Reason::Bypass | Reason::Method,
                ..
            } => Outcome::Bypass,
            Self::None { .. } => Outcome::None,
        }
    }
}

/// What the cache did, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from memory, fresh.
    Hit,
    /// Answered with a stored 404.
    Negative,
    /// Answered from memory, stale.
    Stale,
    /// Nothing was stored; Flameup was asked.
    Miss,
    /// What was stored did not do; Flameup was asked.
    Revalidated,
    /// Answered with what another request had fetched.
    Collapsed,
    /// Such requests never use the cache.
    Bypass,
    /// Flameup was asked in vain.
    Failed,
    /// The gateway answered for itself.
    None,
}

impl Outcome {
    /// All of them, each at the index that `as usize` gives.
    pub const ALL: [Self; 9] = [
        Self::Hit,
        Self::Negative,
        Self::Stale,
        Self::Miss,
        Self::Revalidated,
        Self::Collapsed,
        Self::Bypass,
        Self::Failed,
        Self::None,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Negative => "negative",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Revalidated => "revalidated",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
            Self::Failed => "failed",
            Self::None => "none",
        }
    }
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::Stale => "stale",
            Self::Request => "request",
            Self::Bypass => "bypass",
            Self::Method => "method",
        }
    }
}

impl End {
    fn parameter(self) -> &'static str {
        match self {
            Self::Relayed | Self::Failed => "",
            Self::Unconfirmed => "; detail=unconfirmed",
            Self::Stored => "; stored",
            Self::Collapsed => "; collapsed",
            Self::StaleOnError => "; detail=error",
        }
    }
}

fn push_ttl(text: &mut String, ttl: i64) {
    text.push_str("; ttl=");
    text.push_str(itoa::Buffer::new().format(ttl));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_at_their_own_index() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn each_outcome_is_told_apart_and_parses_as_a_structured_field() {
        let forward = |reason, status, end| CacheStatus::Forward {
            reason,
            status,
            end,
        };
        let ok = Some(StatusCode::OK);
        let unavailable = Some(StatusCode::SERVICE_UNAVAILABLE);
        for (status, expected) in [
            (
                CacheStatus::Hit {
                    ttl: 41,
                    detail: None,
                },
                "hit; ttl=41",
            ),
            (
                CacheStatus::Hit {
                    ttl: -12,
                    detail: Some(HitDetail::Revalidating),
                },
                "hit; ttl=-12; detail=revalidating",
            ),
            (
                CacheStatus::Hit {
                    ttl: -300,
                    detail: Some(HitDetail::Budget),
                },
                "hit; ttl=-300; detail=budget",
            ),
            (
                CacheStatus::Hit {
                    ttl: 8,
                    detail: Some(HitDetail::Negative),
                },
                "hit; detail=negative; ttl=8",
            ),
            (
                forward(Reason::UriMiss, ok, End::Stored),
                "fwd=uri-miss; fwd-status=200; stored",
            ),
            (
                forward(Reason::UriMiss, None, End::Collapsed),
                "fwd=uri-miss; collapsed",
            ),
            (
                forward(Reason::Stale, unavailable, End::StaleOnError),
                "fwd=stale; fwd-status=503; detail=error",
            ),
            (forward(Reason::Bypass, None, End::Relayed), "fwd=bypass"),
            (
                forward(Reason::Method, None, End::Unconfirmed),
                "fwd=method; detail=unconfirmed",
            ),
            (CacheStatus::None { detail: "refused" }, "detail=refused"),
        ] {
            let value = status.to_header();
            let expected = format!("flameup-gateway; {expected}");
            assert_eq!(value.to_str().ok(), Some(expected.as_str()));
            assert!(
                sfv::Parser::new(value.as_bytes())
                    .parse::<sfv::List>()
                    .is_ok()
            );
        }
    }
}
