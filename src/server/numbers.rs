//! What a server counts: its connections, and what met one of its limits.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Numbers that a server keeps up to date.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Open connections.
    pub open: Gauge,
    /// Connections beyond a limit, closed at once.
    pub refused: Counter,
    /// Connections and requests that met a limit.
    pub reached: Family<LimitLabels, Counter>,
    /// Connections that came in by TLS or a PROXY header, or did not.
    pub handshakes: Family<ResultLabels, Counter>,
    /// Certificates that were taken from changed files, or could not be.
    pub certificate_reloads: Family<ResultLabels, Counter>,
}

/// Tells success from failure.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ResultLabels {
    result: &'static str,
}

impl ResultLabels {
    /// The label of something that succeeded, or did not.
    pub fn of(success: bool) -> Self {
        let result = if success { "success" } else { "failure" };
        Self { result }
    }
}

/// Tells limits apart.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    limit: &'static str,
}

/// A limit that somebody met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections in all.
    Connections,
    /// Descriptors that the system has for this process. Not a key of ours.
    Descriptors,
    /// Connections of one address.
    ConnectionsPerPeer,
    /// Bytes of a head, or on HTTP/1 its lines.
    HeaderBytes,
    /// Header lines.
    Headers,
    /// Bytes of a target.
    TargetBytes,
    /// Bytes of a body.
    BodyBytes,
    /// Time for TLS and the PROXY header.
    HandshakeTimeout,
    /// Time for a connection's first request.
    FirstRequestTimeout,
    /// Time for a head.
    HeaderTimeout,
    /// Time for a body.
    BodyTimeout,
    /// Time to take an answer.
    SendTimeout,
    /// Time between requests.
    IdleTimeout,
    /// Age of a connection.
    ConnectionMaxAge,
    /// Requests called off.
    H2Resets,
    /// Frames that carry no request.
    H2ControlFrames,
}

impl Limit {
    /// The configuration key it stands under in `server.limits`, if it does.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Descriptors => "descriptors",
            Self::ConnectionsPerPeer => "connections_per_peer",
            Self::HeaderBytes => "header_bytes",
            Self::Headers => "headers",
            Self::TargetBytes => "target_bytes",
            Self::BodyBytes => "body_bytes",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::FirstRequestTimeout => "first_request_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::SendTimeout => "send_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::ConnectionMaxAge => "connection_max_age",
            Self::H2Resets => "h2_resets",
            Self::H2ControlFrames => "h2_control_frames",
        }
    }
}

impl Numbers {
    /// Counts that somebody met a limit.
    pub(super) fn reached(&self, limit: Limit) {
        let labels = LimitLabels { limit: limit.key() };
        self.reached.get_or_create(&labels).inc();
    }

    /// Counts a connection that is refused for a limit.
    pub(super) fn refused(&self, limit: Limit) {
        self.refused.inc();
        self.reached(limit);
    }
}
