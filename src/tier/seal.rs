//! What is kept in Redis is sealed: AES-256-GCM, with what it is and where it stands as associated data.
//!
//! # Invariants
//! - What was sealed for one place, kind or generation opens nowhere else.
//! - The first key seals; any of them opens.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

use crate::config::SealKey;

/// Says which key something is sealed with.
pub type KeyId = [u8; 4];

/// Seals and opens.
pub struct Seal {
    /// At least one; the first seals.
    keys: Vec<(KeyId, RandomizedNonceKey)>,
}

/// What cannot be opened: a foreign key, or not what was sealed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this was not sealed for this place")]
pub struct Broken;

impl Seal {
    /// A seal of these keys.
    ///
    /// # Panics
    /// Without any key; the configuration has one.
    pub fn new(keys: &[SealKey]) -> Self {
        assert!(!keys.is_empty(), "there is a key to seal with");
        let derived = keys.iter().map(|key| {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
            let id = hmac::sign(&secret, b"flameup-gateway key id 1");
            let derived = hmac::sign(&secret, b"flameup-gateway seal 1");
            let mut short = KeyId::default();
            short.copy_from_slice(&id.as_ref()[..size_of::<KeyId>()]);
            let key = RandomizedNonceKey::new(&AES_256_GCM, derived.as_ref())
                .expect("32 bytes are a key of AES-256");
            (short, key)
        });
        Self {
            keys: derived.collect(),
        }
    }

    /// Which key seals.
    pub fn key_id(&self) -> KeyId {
        self.keys[0].0
    }

    /// Seals `text` for a place that `associated` tells, with the key of [`key_id`](Self::key_id):
    /// a nonce, the sealed text, and a tag.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn seal(&self, mut text: Vec<u8>, associated: &[u8]) -> Result<Vec<u8>, Broken> {
        let key = &self.keys[0].1;
        let nonce = key
            .seal_in_place_append_tag(Aad::from(associated), &mut text)
            .map_err(|_| Broken)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + text.len());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// When it was not, or with a key that is not here.
    pub fn open(&self, key_id: KeyId, sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, Broken> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Broken)?;
        let mut keys = self.keys.iter();
        let (_, key) = keys.find(|(id, _)| *id == key_id).ok_or(Broken)?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.open_in_place(nonce, Aad::from(associated), &mut text);
        let length = opened.map_err(|_| Broken)?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seal({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::tests::keys;

    #[test]
    fn what_was_sealed_opens_in_its_place_and_with_its_key_alone() {
        let seal = Seal::new(&keys(&["a"]));
        let sealed = seal.seal(b"Ada".to_vec(), b"here").expect("sealed");
        let open =
            |seal: &Seal, sealed: &[u8], place: &[u8]| seal.open(seal.key_id(), sealed, place);
        assert_eq!(open(&seal, &sealed, b"here"), Ok(b"Ada".to_vec()));
        assert_eq!(open(&seal, &sealed, b"there"), Err(Broken));
        assert_eq!(
            open(&Seal::new(&keys(&["b"])), &sealed, b"here"),
            Err(Broken)
        );
        for length in 0..sealed.len() {
            assert_eq!(open(&seal, &sealed[..length], b"here"), Err(Broken));
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&seal, &changed, b"here"), Err(Broken));
        }
    }

    #[test]
    fn two_keys_overlap_and_the_first_seals() {
        let (old, both) = (
            Seal::new(&keys(&["old"])),
            Seal::new(&keys(&["new", "old"])),
        );
        let sealed = old.seal(b"Ada".to_vec(), b"").expect("sealed");
        assert!(both.open(old.key_id(), &sealed, b"").is_ok());
        let sealed = both.seal(b"Ada".to_vec(), b"").expect("sealed");
        assert!(both.open(both.key_id(), &sealed, b"").is_ok());
        assert_ne!(both.key_id(), old.key_id());
        assert_eq!(old.open(both.key_id(), &sealed, b""), Err(Broken));
    }
}
