//! What is said in a log, sealed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::person::change::{Name, Touched};
use crate::tier::seal::{Broken, KeyId, Seal};

/// What a gateway tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A change is about to be sent to Flameup.
    Begin {
        /// Which change.
        change: Uuid,
        /// Whom it touches, as far as is known.
        whom: Touched,
        /// How long it may take, and what is read may show what was before.
        hold: Duration,
    },
    /// A change has ended, one way or another.
    End {
        /// Which change.
        change: Uuid,
        /// Whom it touched.
        whom: Touched,
        /// How long what is read may show what was before.
        hold: Duration,
    },
    /// An operator has let go of people.
    Purge {
        /// Of whom.
        whom: Touched,
    },
    /// An operator has marked people as stale.
    Expire {
        /// Whom.
        whom: Touched,
    },
    /// An operator has erased a person.
    Erase {
        /// By all names that are known.
        names: Vec<Name>,
        /// How long nothing is stored of them.
        bar: Duration,
    },
    /// The end of the log was lost: whatever was said there is not known any more.
    Lost,
}

/// A message and who tells it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) from: Uuid,
    pub(super) message: Message,
}

impl Message {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "begin",
            Self::End { .. } => "end",
            Self::Purge { .. } => "purge",
            Self::Expire { .. } => "expire",
            Self::Erase { .. } => "erase",
            Self::Lost => "lost",
        }
    }

    /// Whom it concerns.
    pub fn whom(&self) -> Touched {
        match self {
            Self::Begin { whom, .. }
            | Self::End { whom, .. }
            | Self::Purge { whom }
            | Self::Expire { whom } => whom.clone(),
            Self::Erase { names, .. } => Touched::People(names.clone()),
            Self::Lost => Touched::Everyone,
        }
    }

    /// The change that it is of, if it is of one.
    pub(super) fn change(&self) -> Option<Uuid> {
        match self {
            Self::Begin { change, .. } | Self::End { change, .. } => Some(*change),
            Self::Purge { .. } | Self::Expire { .. } | Self::Erase { .. } | Self::Lost => None,
        }
    }

    /// How long it holds reads off, or bars whom it erases.
    pub(super) fn hold(&self) -> Duration {
        match self {
            Self::Begin { hold, .. } | Self::End { hold, .. } | Self::Erase { bar: hold, .. } => {
                *hold
            }
            Self::Purge { .. } | Self::Expire { .. } | Self::Lost => Duration::ZERO,
        }
    }
}

impl Letter {
    /// As it stands in the log that is called `place`.
    pub(super) fn seal(&self, seal: &Seal, place: &str) -> Result<Vec<u8>, Broken> {
        let text = serde_json::to_vec(self).map_err(|_| Broken)?;
        let sealed = seal.seal(text, place.as_bytes())?;
        Ok([&seal.key_id()[..], &sealed[..]].concat())
    }

    /// Reads what stands in the log that is called `place`.
    pub(super) fn open(seal: &Seal, place: &str, sealed: &[u8]) -> Result<Self, Broken> {
        let (key_id, sealed) = sealed
            .split_first_chunk::<{ size_of::<KeyId>() }>()
            .ok_or(Broken)?;
        let text = seal.open(*key_id, sealed, place.as_bytes())?;
        serde_json::from_slice(&text).map_err(|_| Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::tests::keys;

    #[test]
    fn a_letter_is_read_in_its_own_log_alone() {
        let seal = Seal::new(&keys(&["a"]));
        let whom = Touched::People(vec![
            Name::Id("ada@x.org".to_owned()),
            Name::Uuid(Uuid::from_u128(1)),
        ]);
        let letter = Letter {
            from: Uuid::from_u128(2),
            message: Message::Purge { whom },
        };
        let sealed = letter.seal(&seal, "here").expect("sealed");
        assert_eq!(Letter::open(&seal, "here", &sealed), Ok(letter));
        assert_eq!(Letter::open(&seal, "there", &sealed), Err(Broken));
        assert!(!String::from_utf8_lossy(&sealed).contains("ada"));
        for length in 0..sealed.len() {
            assert_eq!(Letter::open(&seal, "here", &sealed[..length]), Err(Broken));
        }
    }
}
