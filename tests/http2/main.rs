//! The listener before a client that breaks HTTP/2 on purpose, one rule at a time.
//!
//! Frames and header blocks are written byte by byte, and read the same way. Each rule of RFC 9113
//! and RFC 7541 that a client can break is a row of a table: what is sent, and what must come of
//! it. A row whose outcome is known to differ says why, and what comes instead is held to as well.

mod bodies;
mod frames;
mod header_blocks;
mod layout;
mod messages;
mod ordinary;
mod settings;
mod streams;
mod support;
mod windows;
