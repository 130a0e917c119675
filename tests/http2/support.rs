//! What the tables are made of: bytes to send, a peer that sends them, and a judge.

pub(crate) mod case;
pub(crate) mod frame;
pub(crate) mod gateway;
pub(crate) mod hpack;
pub(crate) mod peer;

pub(crate) use case::{Case, Outcome, case};
pub(crate) use frame::{Code, Frame, frame};
pub(crate) use gateway::Gateway;
pub(crate) use peer::Peer;
