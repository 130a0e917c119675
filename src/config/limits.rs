//! `[server.limits]`: what one client, and all together, may ask of this process.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::units::{self, DAY, GIB, KIB, MIB, MILLISECOND};

/// Bounds on connections and requests.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct Limits {
    /// Open connections, from 1. Default 10000.
    #[serde(deserialize_with = "units::count::<1, 1_000_000, _, _>")]
    pub connections: usize,
    /// Open connections of one address, or of one IPv6 /64. Default 1000, a tenth of all; 0: as many
    /// as there may be in all. Unix sockets have no address.
    #[serde(deserialize_with = "units::count::<0, 1_000_000, _, _>")]
    pub connections_per_peer: usize,
    /// Bytes of a request's head, from 8 KiB (hyper's smallest buffer) to 1 MiB. Default `"16KiB"`.
    #[serde(deserialize_with = "units::size::<{ 8 * KIB }, MIB, _>")]
    pub header_bytes: ByteSize,
    /// Header lines of a request, 1 to 1000. Default 100.
    #[serde(deserialize_with = "units::count::<1, 1000, _, _>")]
    pub headers: usize,
    /// Bytes of a request's path and query, from 256 B to 8 KiB, a little over what RFC 9112 §3 asks
    /// every server to take. Default `"8KiB"`.
    #[serde(deserialize_with = "units::size::<256, { 8 * KIB }, _>")]
    pub target_bytes: ByteSize,
    /// Bytes of a request's body, up to 1 GiB. Default `"1MiB"`; `"0B"`: only empty bodies.
    #[serde(deserialize_with = "units::size::<0, GIB, _>")]
    pub body_bytes: ByteSize,
    /// Time for what comes before HTTP, a TLS handshake and a PROXY header; never zero. Default
    /// `"5s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub handshake_timeout: Duration,
    /// Time from the beginning of a connection to the end of its first request's head; never zero.
    /// Default `"10s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub first_request_timeout: Duration,
    /// Time from a request's first byte to the end of its head; never zero. Default `"10s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub header_timeout: Duration,
    /// Time for a request's whole body, from when it is waited for; never zero. Default `"10s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub body_timeout: Duration,
    /// How long a client may take to take an answer that is there; never zero. Default `"30s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub send_timeout: Duration,
    /// How long a connection may wait for its next request; never zero. Default `"75s"`.
    #[serde(deserialize_with = "units::duration::<MILLISECOND, DAY, _>")]
    pub idle_timeout: Duration,
    /// Age at which a connection is asked to close, up to 7 days. Default `"1h"`; `"0s"`: never.
    #[serde(deserialize_with = "units::duration::<0, { 7 * DAY }, _>")]
    pub connection_max_age: Duration,
    /// Concurrent requests on one HTTP/2 connection, from 1. Default 100.
    #[serde(deserialize_with = "units::count::<1, 10_000, _, _>")]
    pub h2_streams: u32,
    /// Requests that a client may call off on one HTTP/2 connection in ten seconds, from 1. Default
    /// 200: twice all that it may have open.
    #[serde(deserialize_with = "units::count::<1, 1_000_000, _, _>")]
    pub h2_resets: u32,
    /// Frames that carry no request, on one HTTP/2 connection in ten seconds, beyond 8 for each
    /// request and one for each KiB that is answered; from 16. Default 1000.
    #[serde(deserialize_with = "units::count::<16, 1_000_000, _, _>")]
    pub h2_control_frames: u32,
}
