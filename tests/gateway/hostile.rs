//! What no client should send, byte by byte: each table is a list of offences, and nothing of any may
//! reach Flameup, have a second request answered, or change what is stored.

mod frames;
mod framing;
mod heads;
mod kit;
mod origin;
mod targets;
mod unkeyed;
