//! Ports for servers that cannot choose one themselves, or that start again where they were.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives to whoever connects, which are 32,768 and up: a connection could
/// have the port of a server that has not started yet, or has ended for a moment.
const FIRST: u32 = 10_240;
const COUNT: u32 = 10_000;

/// A port that nobody listens on, and nobody but a server will take. No other call in this process gets
/// it, and the port 10,000 above it is as free: a node of a Redis Cluster takes that too.
pub(crate) fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Other programs of tests may run beside this one.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let next = start.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + next % COUNT).expect("within a port's range");
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
    panic!("all ports from {FIRST} on are taken");
}
