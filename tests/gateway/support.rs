//! What the tests share: a gateway before a sandbox, and clients.

pub(crate) mod asking;
pub(crate) mod browser;
pub(crate) mod budgets;
pub(crate) mod client;
pub(crate) mod frames;
pub(crate) mod harness;
pub(crate) mod identity;
pub(crate) mod metrics;
pub(crate) mod passing;
pub(crate) mod process;
pub(crate) mod tenants;
pub(crate) mod wire;

pub(crate) use asking::{exact, headers, long_path, raw_get, raw_status, status};
pub(crate) use client::{Client, Response};
pub(crate) use harness::{Harness, Setup};
pub(crate) use process::Process;
pub(crate) use wire::{H2, Wire, within};
