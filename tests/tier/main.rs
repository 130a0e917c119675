//! Several gateways that share a Redis, over sockets.

#[expect(dead_code, reason = "shared with the tests of one gateway")]
#[path = "../gateway/support/client.rs"]
mod client;
mod fleet;
mod link;
mod log;
#[path = "../gateway/support/port.rs"]
mod port;
mod purse;
mod servers;
mod shelf;
mod support;
