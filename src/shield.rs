//! The shield: step 5 of the request path. Nothing is sent to Flameup without its [`Permit`].
//!
//! What it holds back today is too many forwards at a time; each of them may hold a whole body.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub mod breaker;
pub mod key;
mod probe;
pub mod signals;

/// Most forwards under way at a time. Flameup's limit is two a second and a forward lasts at most
/// some seconds, so that a healthy gateway has a handful; with the bound on a body, this bounds
/// the memory that forwards take to 64 MiB.
pub const MAX_FORWARDS: usize = 64;

/// Admits or refuses forwards.
#[derive(Debug)]
pub struct Shield {
    forwards: Arc<Semaphore>,
}

/// The right to send one request to Flameup, spent by sending it.
#[derive(Debug)]
pub struct Permit {
    _forward: OwnedSemaphorePermit,
}

/// Why a forward is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// [`MAX_FORWARDS`] are under way.
    #[error("too many requests to the upstream are under way")]
    TooManyForwards,
}

impl Shield {
    /// A shield with nothing under way.
    pub fn new() -> Self {
        Self {
            forwards: Arc::new(Semaphore::new(MAX_FORWARDS)),
        }
    }

    /// Admits one forward.
    ///
    /// # Errors
    /// When it would be one too many.
    pub fn admit(&self) -> Result<Permit, Error> {
        match Arc::clone(&self.forwards).try_acquire_owned() {
            Ok(forward) => Ok(Permit { _forward: forward }),
            Err(_) => Err(Error::TooManyForwards),
        }
    }
}

impl Default for Shield {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_under_way_are_bounded_and_room_comes_back() {
        let shield = Shield::new();
        let mut under_way: Vec<_> = (0..MAX_FORWARDS).map(|_| shield.admit()).collect();
        assert!(under_way.iter().all(Result::is_ok));
        assert_eq!(shield.admit().err(), Some(Error::TooManyForwards));
        under_way.pop();
        assert!(shield.admit().is_ok());
    }
}
