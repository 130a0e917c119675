//! Several gateways that share a Redis, over sockets.

#[expect(dead_code, reason = "shared with the tests of one gateway")]
#[path = "../gateway/support/client.rs"]
mod client;
mod fleet;
mod link;
mod log;
mod purse;
mod servers;
mod shelf;
mod support;
