//! A descriptor kept in hand for when the system has no more.
//!
//! Without one, connections that the system has accepted wait unheard until their clients give up.
//! With one, they are taken and closed: they find out at once, as at any other limit.

use std::fs::File;
use std::io;

use super::listener::Listener;

/// `EMFILE` and `ENFILE` on every Unix: no more for this process, or for the system.
const NONE_LEFT: [i32; 2] = [24, 23];

/// A descriptor that is of no use but to be given up.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Whether accepting failed for want of a descriptor.
    pub(super) fn would_help(&self, error: &io::Error) -> bool {
        let code = error.raw_os_error();
        self.0.is_some() && code.is_some_and(|code| NONE_LEFT.contains(&code))
    }

    /// Takes the next connection in the spare's place, and closes it.
    ///
    /// # Errors
    /// When somebody else was faster, or the client has left.
    pub(super) async fn refuse(&mut self, listener: &Listener) -> io::Result<()> {
        self.0 = None;
        let refused = listener.accept().await.map(drop);
        self.0 = File::open("/dev/null").ok();
        refused
    }
}
