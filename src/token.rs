//! Client tokens: random, shown once, kept as a hash.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;

/// Marks a token as one of this gateway's, for people and for secret scanners.
const PREFIX: &str = "fgw_";

/// Random bytes of a token: beyond guessing, whatever the attacker's budget.
const RANDOM_BYTES: usize = 32;

/// A new client token. Its `Display` is what `token new` prints, the token included: there is no
/// other time to see it.
pub struct Token(String);

/// The system has no random numbers to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("drawing random numbers from the system")]
pub struct Error;

impl Token {
    /// Makes a token.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; RANDOM_BYTES];
        rand::fill(&mut bytes).map_err(|Unspecified| Error)?;
        Ok(Self(format!("{PREFIX}{}", hex(&bytes))))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Both as JSON, for programs.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "token": self.0, "token_sha256": self.sha256() }).to_string()
    }

    /// What the configuration keeps of it.
    pub fn sha256(&self) -> String {
        hex(digest(&SHA256, self.0.as_bytes()).as_ref())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "token         {}", self.0)?;
        writeln!(f, "token_sha256  {}", self.sha256())?;
        writeln!(f)?;
        writeln!(
            f,
            "Give the token to the client, which sends it as `Authorization: Bearer <token>`."
        )?;
        writeln!(
            f,
            "Put the hash into the configuration; the token cannot be had from it:"
        )?;
        writeln!(f)?;
        writeln!(f, "[clients.NAME]")?;
        writeln!(f, "workspace = \"default\"")?;
        write!(f, "token_sha256 = [\"{}\"]", self.sha256())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenDigest;

    #[test]
    fn tokens_differ_and_their_hash_is_one_the_configuration_takes() {
        let (one, other) = (
            Token::random().expect("a token"),
            Token::random().expect("a token"),
        );
        assert_ne!(one.expose(), other.expose());
        let digest: TokenDigest = one.sha256().parse().expect("a digest");
        assert_eq!(
            hex(digest.as_bytes()),
            hex(aws_lc_rs::digest::digest(&SHA256, one.expose().as_bytes()).as_ref())
        );
        assert!(!format!("{one:?}").contains(one.expose()));
    }
}
