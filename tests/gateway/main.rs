//! The gateway as its clients meet it: over sockets, before a sandbox that is told what to do.

mod support;

mod collapsing;
mod freshness;
mod problems;
mod server_limits;
mod shutdown;
mod upstream_failures;
mod upstream_tls;
