//! Tells a secret that was replaced from one that is just being written.
//!
//! Files are read twice a second and compared by what they hold, so that it does not matter how they
//! are replaced: written over, renamed, or behind a symbolic link that is turned to another
//! directory, as Kubernetes does it.
//!
//! # Invariants
//! - What cannot be read, or is not a secret, changes nothing, and is said once.
//! - What is new is taken when two rounds in a row have read the same: a writer may be half done.

use std::time::Duration;

use crate::config::SecretError;
use crate::telemetry::chain;

/// Between two rounds of reading. They are small files.
pub(super) const ROUND: Duration = Duration::from_millis(500);

/// What is in use, and what was last read.
#[derive(Debug)]
pub(super) struct Watched<T> {
    current: T,
    candidate: Option<T>,
    /// So that a mistake is said once, and not each round.
    said: Option<String>,
}

/// What a round of reading tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<T> {
    /// Nothing to do.
    Same,
    /// This is to take the place of what is in use; [`Watched::take`] it if it can be used.
    New(T),
    /// What is there is of no use; said for the first time.
    Unusable(String),
}

impl<T: Clone + PartialEq> Watched<T> {
    pub(super) fn new(current: T) -> Self {
        Self {
            current,
            candidate: None,
            said: None,
        }
    }

    /// What is in use.
    pub(super) fn current(&self) -> &T {
        &self.current
    }

    /// Judges what was `read`. What is in use may be so bad that anything new is tried `at_once`.
    pub(super) fn look(&mut self, read: Result<T, SecretError>, at_once: bool) -> Look<T> {
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                self.candidate = None;
                return self.complain(chain(&error));
            }
        };
        if found == self.current {
            (self.candidate, self.said) = (None, None);
            return Look::Same;
        }
        if at_once || self.candidate.as_ref() == Some(&found) {
            self.candidate = Some(found.clone());
            return Look::New(found);
        }
        self.candidate = Some(found);
        Look::Same
    }

    /// Notes why something cannot be used, to be said the first time.
    pub(super) fn complain(&mut self, problem: String) -> Look<T> {
        if self.said.as_ref() == Some(&problem) {
            return Look::Same;
        }
        self.said = Some(problem.clone());
        Look::Unusable(problem)
    }

    /// Puts something else into use; what was is returned.
    pub(super) fn take(&mut self, new: T) -> T {
        (self.candidate, self.said) = (None, None);
        std::mem::replace(&mut self.current, new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;

    fn empty() -> Result<u8, SecretError> {
        Err(SecretError::Empty(SecretSource::File("key".into())))
    }

    #[test]
    fn what_is_new_is_taken_when_it_has_settled() {
        let mut watched = Watched::new(1);
        assert_eq!(watched.look(Ok(1), false), Look::Same);
        assert_eq!(watched.look(Ok(2), false), Look::Same, "half of 23");
        assert_eq!(watched.look(Ok(23), false), Look::Same);
        assert_eq!(watched.look(Ok(23), false), Look::New(23));
        assert_eq!(watched.take(23), 1);
        assert_eq!(watched.look(Ok(23), false), Look::Same);
    }

    #[test]
    fn what_is_refused_anyway_is_replaced_at_once() {
        let mut watched = Watched::new(1);
        assert_eq!(watched.look(Ok(2), true), Look::New(2));
    }

    #[test]
    fn what_cannot_be_used_is_said_once_and_begins_anew() {
        let mut watched = Watched::new(1);
        assert_eq!(watched.look(Ok(2), false), Look::Same);
        assert_eq!(
            watched.look(empty(), false),
            Look::Unusable("file key is empty".to_owned())
        );
        assert_eq!(watched.look(empty(), false), Look::Same);
        assert_eq!(watched.look(Ok(2), false), Look::Same);
        assert_eq!(watched.look(Ok(1), false), Look::Same);
        assert!(matches!(watched.look(empty(), false), Look::Unusable(_)));
        assert_eq!(watched.current(), &1);
    }
}
