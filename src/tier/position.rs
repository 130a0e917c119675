//! How far a workspace's log of changes has come: the generation of everybody in it.
//!
//! Redis makes these numbers, one after the other. Whatever was asked for after position N shows all
//! changes up to N.

use std::fmt;
use std::str::FromStr;

/// A place in a log: the id of the last message up to there. The first place is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Milliseconds, by Redis' clock.
    pub ms: u64,
    /// The number within that millisecond.
    pub sequence: u64,
}

/// What is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no position in a log")]
pub struct Unreadable;

impl Position {
    /// Digits of a position as scripts and records have it.
    pub const DIGITS: usize = 32;

    /// As scripts and records have it: digits that compare as the positions do.
    pub fn to_digits(self) -> String {
        format!("{:016x}{:016x}", self.ms, self.sequence)
    }

    /// Reads what [`to_digits`](Self::to_digits) has written.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_digits(digits: &str) -> Result<Self, Unreadable> {
        let (ms, sequence) = digits.split_at_checked(16).ok_or(Unreadable)?;
        let number = |digits: &str| {
            let plain = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u64::from_str_radix(digits, 16).ok();
            number.filter(|_| plain).ok_or(Unreadable)
        };
        Ok(Self {
            ms: number(ms)?,
            sequence: number(sequence)?,
        })
    }
}

/// As the commands of streams have it.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.sequence)
    }
}

impl FromStr for Position {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let (ms, sequence) = text.split_once('-').ok_or(Unreadable)?;
        Ok(Self {
            ms: ms.parse().map_err(|_| Unreadable)?,
            sequence: sequence.parse().map_err(|_| Unreadable)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_compare_as_positions_do(one: (u64, u64), other: (u64, u64)) {
            let position = |(ms, sequence)| Position { ms, sequence };
            let (one, other) = (position(one), position(other));
            prop_assert_eq!(one.cmp(&other), one.to_digits().cmp(&other.to_digits()));
            prop_assert_eq!(Position::from_digits(&one.to_digits()), Ok(one));
            prop_assert_eq!(one.to_string().parse(), Ok(one));
        }

        #[test]
        fn whatever_else_there_is_is_no_position(text: String) {
            if let Ok(position) = Position::from_digits(&text) {
                prop_assert_eq!(position.to_digits(), text.to_ascii_lowercase());
            }
        }
    }
}
