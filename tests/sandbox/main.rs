//! The stand-in for Flameup, met over real sockets.

mod control;
mod endpoints;
mod errors;
mod faults;
mod holding;
mod limits;
mod support;
mod tls;
