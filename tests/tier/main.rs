//! Several gateways that share a Redis, over sockets.

#[expect(dead_code, reason = "shared with the tests of one gateway")]
#[path = "../gateway/support/client.rs"]
mod client;
mod fleet;
mod log;
mod purse;
mod shelf;
mod support;
