//! What things are called in Redis: keyed hashes, all those of one workspace in one slot of a Cluster.
//!
//! # Invariants
//! - Nobody without the key can tell whom a name is of, nor try who might be.
//! - All gateways with one configuration make the same names, whatever numbers their workspaces have.

use aws_lc_rs::hmac;

use crate::cache::key::folded;
use crate::config::{self, SealKey};

/// Bytes of a hash that are kept: 128 bits are as good as unique.
const HASH_BYTES: usize = 16;

/// Bytes of a workspace's tag.
const TAG_BYTES: usize = 8;

/// Makes names.
pub struct Names {
    prefix: String,
    key: hmac::Key,
}

/// Makes the names of one workspace.
#[derive(Clone, Debug)]
pub struct WorkspaceNames {
    /// `PREFIX:{TAG}:`; the braces are what decides on the slot.
    stem: String,
    key: hmac::Key,
}

/// A keyed hash, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(String);

impl Names {
    /// Names as configured. Without a key of their own they are made with the last of two that overlap,
    /// which all gateways have: the one that is on its way out.
    pub fn new(config: &config::Redis) -> Self {
        let key = config.names_key.as_ref().or(config.seal_keys.last());
        let secret = key.map_or("", SealKey::expose);
        let derived = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let derived = hmac::sign(&derived, b"flameup-gateway names 1");
        Self {
            prefix: config.prefix.clone(),
            key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()),
        }
    }

    /// Those of the workspace that is called so in the configuration.
    pub fn of(&self, workspace: &str) -> WorkspaceNames {
        let tag = hash(
            &self.key,
            &[b"workspace\0", workspace.as_bytes()],
            TAG_BYTES,
        );
        WorkspaceNames {
            stem: format!("{}:{{{tag}}}:", self.prefix),
            key: self.key.clone(),
        }
    }
}

impl WorkspaceNames {
    /// What is called so and there once.
    pub fn one(&self, what: &str) -> String {
        format!("{}{what}", self.stem)
    }

    /// What of this kind belongs to a hash.
    pub fn of(&self, kind: char, hash: &Hash) -> String {
        format!("{}{kind}:{}", self.stem, hash.0)
    }

    /// What all names of the workspace begin with.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// The hash of a person's name, given as a key's bytes, as it is.
    pub fn hash(&self, name: &[u8]) -> Hash {
        self.hash_of(name)
    }

    /// The hashes of a name that a change of it concerns: as it is, and as all spellings of an
    /// e-mail share it.
    pub fn hashes(&self, name: &[u8]) -> impl Iterator<Item = Hash> + use<> {
        let own = self.hash_of(name);
        let shared = self.hash_of(&folded(name));
        let shared = Some(shared).filter(|shared| *shared != own);
        [own].into_iter().chain(shared)
    }

    /// The hash of something that is no person, such as a Flameup key.
    pub fn hash_of_secret(&self, what: &str, secret: &[u8]) -> Hash {
        Hash(hash(
            &self.key,
            &[what.as_bytes(), b"\0", secret],
            HASH_BYTES,
        ))
    }

    /// A key's bytes begin with the number of its workspace, which is of this process only.
    fn hash_of(&self, key: &[u8]) -> Hash {
        let identifier = key.get(size_of::<u32>()..).unwrap_or_default();
        let parts = [b"name\0".as_slice(), self.stem.as_bytes(), identifier];
        Hash(hash(&self.key, &parts, HASH_BYTES))
    }
}

impl Hash {
    /// How many digits it has.
    pub const DIGITS: usize = 2 * HASH_BYTES;

    /// The hash with these digits.
    pub fn from_digits(digits: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_one = digits.len() == Self::DIGITS && digits.bytes().all(plain);
        is_one.then(|| Self(digits.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

fn hash(key: &hmac::Key, parts: &[&[u8]], bytes: usize) -> String {
    use std::fmt::Write;
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut text = String::with_capacity(2 * bytes);
    for byte in &context.sign().as_ref()[..bytes] {
        // A string takes whatever is written.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::CacheKey;
    use crate::tier::tests::config;

    fn names(keys: &[&str]) -> WorkspaceNames {
        Names::new(&config(keys)).of("acme")
    }

    #[test]
    fn a_name_is_the_same_whatever_number_its_workspace_has_here() {
        let names = names(&["a"]);
        let hash = |number| names.hash(CacheKey::of_id(number, "ada@x.org").as_bytes());
        assert_eq!(hash(0), hash(7));
    }

    #[test]
    fn names_differ_by_workspace_key_and_kind() {
        let ada = CacheKey::of_id(0, "ada");
        let ada = ada.as_bytes();
        let one = names(&["a"]).hash(ada);
        assert_ne!(one, names(&["b"]).hash(ada));
        assert_ne!(one, Names::new(&config(&["a"])).of("other").hash(ada));
        let names = names(&["a"]);
        assert_ne!(one, names.hash(CacheKey::of_opaque(0, "ada").as_bytes()));
        assert_ne!(one, names.hash_of_secret("name", b"ada"));
        assert!(!names.of('p', &one).contains("ada"));
    }

    #[test]
    fn names_are_made_with_the_key_that_all_gateways_have() {
        let ada = CacheKey::of_id(0, "ada");
        let ada = ada.as_bytes();
        let one = names(&["old"]).of('p', &names(&["old"]).hash(ada));
        let other = names(&["new", "old"]);
        assert_eq!(one, other.of('p', &other.hash(ada)));
    }

    #[test]
    fn names_with_a_key_of_their_own_are_the_same_whatever_the_others_are() {
        let with = |keys: &[&str]| {
            let own = config(&["own"]).seal_keys.pop();
            let config = config::Redis {
                names_key: own,
                ..config(keys)
            };
            Names::new(&config).of("default").stem().to_owned()
        };
        assert_eq!(with(&["old"]), with(&["new"]));
        assert_ne!(with(&["old"]), names(&["old"]).stem());
    }

    #[test]
    fn a_change_concerns_an_email_in_every_spelling() {
        let names = names(&["a"]);
        let count = |name: &str| names.hashes(CacheKey::of_id(0, name).as_bytes()).count();
        assert_eq!(
            (count("Ada@x.org"), count("ada@x.org"), count("Ada")),
            (2, 1, 1)
        );
    }
}
