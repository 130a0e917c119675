//! What stands in Redis for a person, an absence, or a name: sealed, but for what scripts decide by.
//!
//! # Layout
//! `key id (4)  version (1)  kind (1)  position (32)  asked at (16)  count (2)  hashes (32 each)`, the
//! numbers in hexadecimal, then a nonce, the sealed text and a tag. Of a person and an absence the
//! hashes are those of all its names, which a change of any of them outdates; of a name it is the
//! person's that it leads to.
//!
//! # Invariants
//! - All that stands before the nonce is bound to the seal, with where the record stands: a record
//!   that was moved, exchanged or edited does not open.
//! - What is opened is still to prove whose it is.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, ETAG, HeaderMap, HeaderName, HeaderValue};
use http::{HeaderMap as Headers, StatusCode};
use serde::{Deserialize, Serialize};

use super::names::Hash;
use super::position::Position;
use super::seal::{KeyId, Seal};
use crate::cache::entry::Entry;
use crate::upstream::response::MAX_BODY_BYTES;

const VERSION: u8 = b'1';

/// Where the position ends, and so on.
const POSITION_AT: usize = size_of::<KeyId>() + 2;
const ASKED_AT: usize = POSITION_AT + Position::DIGITS;
const COUNT_AT: usize = ASKED_AT + 16;
const HASHES_AT: usize = COUNT_AT + 2;

/// Longest text that is sealed: the largest body that is taken in, its headers and names.
const MOST_TEXT_BYTES: usize = MAX_BODY_BYTES + 64 * 1024;

/// Largest record: a text that nothing could be saved of, and all around it.
pub const MOST_BYTES: usize = MOST_TEXT_BYTES + 16 * 1024;

/// What is shorter is not worth the time: a Person of some 560 bytes saves a third.
const COMPRESS_ABOVE: usize = 1024;

/// Little is gained by more: bodies are small.
const COMPRESSION_LEVEL: i32 = 1;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// What a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A person.
    Person,
    /// A 404.
    Absence,
    /// A name that leads to a person.
    Name,
}

/// What scripts decide by; bound to the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What it is of.
    pub kind: Kind,
    /// The last change before it was asked for.
    pub position: Position,
    /// When it was asked for, by Redis' clock, or a little earlier.
    pub asked_at_ms: u64,
    /// Its names; of a name, whom it leads to.
    pub hashes: Vec<Hash>,
}

/// A response as it is sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What a cache needs to know of it.
    pub about: About,
    /// Its body.
    pub body: Bytes,
}

/// What a cache needs to know of a response beside its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    status: u16,
    /// How long it is fresh, from when it came to be.
    lifetime_ns: u64,
    /// Seconds it was old when Flameup gave it.
    age_on_arrival_s: u64,
    headers: Vec<(String, String)>,
    /// The validator, if it is Flameup's.
    etag: Option<String>,
    /// The identifier that Flameup was asked for, as it was spelled.
    asked_as: Option<Vec<u8>>,
}

/// Why a record is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none, is another's, or was changed.
    #[error("this is no record of this place")]
    Broken,
    /// A response that cannot be written down.
    #[error("this response cannot be kept in Redis")]
    Unwritable,
}

impl Stored {
    /// What is written down of an entry.
    ///
    /// # Errors
    /// When one of its headers is no text.
    pub fn of(entry: &Entry) -> Result<Self, Error> {
        let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
        let line = |(name, value): &(HeaderName, HeaderValue)| {
            Some((name.as_str().to_owned(), text(value)?))
        };
        let headers: Option<Vec<_>> = entry.headers().iter().map(line).collect();
        let freshness = entry.freshness();
        Ok(Self {
            about: About {
                status: entry.status().as_u16(),
                lifetime_ns: u64::try_from(freshness.lifetime().as_nanos()).unwrap_or(u64::MAX),
                age_on_arrival_s: freshness.age_on_arrival().as_secs(),
                headers: headers.ok_or(Error::Unwritable)?,
                etag: entry.validator().as_ref().and_then(text),
                asked_as: entry.asked_identifier().map(<[u8]>::to_vec),
            },
            body: Bytes::copy_from_slice(entry.body()),
        })
    }

    /// How long it is fresh.
    pub fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.about.lifetime_ns)
    }

    /// The identifier that Flameup was asked for.
    pub fn asked_as(&self) -> Option<&[u8]> {
        self.about.asked_as.as_deref()
    }

    /// Whether it says that nobody is there.
    pub fn is_absence(&self) -> bool {
        self.about.status == StatusCode::NOT_FOUND.as_u16()
    }

    /// Its status.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.about.status).ok()
    }

    /// Its headers as Flameup sent them, as far as they were kept.
    pub fn headers(&self) -> Option<Headers> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.about.headers {
            headers.append(HeaderName::try_from(name).ok()?, value.parse().ok()?);
        }
        if let Some(etag) = &self.about.etag {
            headers.insert(ETAG, etag.parse().ok()?);
        }
        if self.about.age_on_arrival_s > 0 {
            headers.insert(AGE, HeaderValue::from(self.about.age_on_arrival_s));
        }
        Some(headers)
    }

    fn to_text(&self) -> Result<Vec<u8>, Error> {
        let about = serde_json::to_vec(&self.about).map_err(|_| Error::Unwritable)?;
        let length = u32::try_from(about.len()).map_err(|_| Error::Unwritable)?;
        let whole = [&length.to_be_bytes(), &about[..], &self.body].concat();
        if whole.len() > MOST_TEXT_BYTES {
            return Err(Error::Unwritable);
        }
        let (coding, text) = if whole.len() > COMPRESS_ABOVE {
            let packed = zstd::bulk::compress(&whole, COMPRESSION_LEVEL);
            (ZSTD, packed.map_err(|_| Error::Unwritable)?)
        } else {
            (PLAIN, whole)
        };
        Ok([&[coding], &text[..]].concat())
    }

    fn from_text(text: &[u8]) -> Result<Self, Error> {
        let (coding, text) = text.split_first().ok_or(Error::Broken)?;
        let whole = match *coding {
            PLAIN => text.to_vec(),
            ZSTD => zstd::bulk::decompress(text, MOST_TEXT_BYTES).map_err(|_| Error::Broken)?,
            _ => return Err(Error::Broken),
        };
        let (length, rest) = whole.split_first_chunk::<4>().ok_or(Error::Broken)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Error::Broken)?;
        let (about, body) = rest.split_at_checked(length).ok_or(Error::Broken)?;
        Ok(Self {
            about: serde_json::from_slice(about).map_err(|_| Error::Broken)?,
            body: Bytes::copy_from_slice(body),
        })
    }
}

impl Label {
    /// The record of a response that stands at `place` in Redis.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn seal(&self, seal: &Seal, place: &str, stored: &Stored) -> Result<Vec<u8>, Error> {
        self.seal_text(seal, place, stored.to_text()?)
    }

    /// The record of a name that stands at `place` in Redis. Its label is all there is to it.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn seal_name(&self, seal: &Seal, place: &str) -> Result<Vec<u8>, Error> {
        self.seal_text(seal, place, Vec::new())
    }

    fn seal_text(&self, seal: &Seal, place: &str, text: Vec<u8>) -> Result<Vec<u8>, Error> {
        let label = self.to_bytes(seal.key_id());
        let sealed = seal.seal(text, &associated(&label, place));
        Ok([label, sealed.map_err(|_| Error::Unwritable)?].concat())
    }

    /// Opens a record of a response that stands at `place`.
    ///
    /// # Errors
    /// When it is not one that was sealed for this place.
    pub fn open(seal: &Seal, place: &str, record: &[u8]) -> Result<(Self, Stored), Error> {
        let (label, text) = Self::open_text(seal, place, record)?;
        Ok((label, Stored::from_text(&text)?))
    }

    /// Opens a record of a name that stands at `place`.
    ///
    /// # Errors
    /// When it is not one that was sealed for this place.
    pub fn open_name(seal: &Seal, place: &str, record: &[u8]) -> Result<Self, Error> {
        Ok(Self::open_text(seal, place, record)?.0)
    }

    fn open_text(seal: &Seal, place: &str, record: &[u8]) -> Result<(Self, Vec<u8>), Error> {
        let (key_id, label) = Self::from_bytes(record).ok_or(Error::Broken)?;
        let (head, sealed) = record.split_at(HASHES_AT + label.hashes.len() * Hash::DIGITS);
        let text = seal.open(key_id, sealed, &associated(head, place));
        Ok((label, text.map_err(|_| Error::Broken)?))
    }

    fn to_bytes(&self, key_id: KeyId) -> Vec<u8> {
        let mut bytes = key_id.to_vec();
        bytes.extend([VERSION, self.kind.letter()]);
        bytes.extend(self.position.to_digits().into_bytes());
        bytes.extend(format!("{:016x}{:02x}", self.asked_at_ms, self.hashes.len()).into_bytes());
        bytes.extend(self.hashes.iter().flat_map(|hash| hash.as_str().bytes()));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<(KeyId, Self)> {
        let (key_id, _) = bytes.split_first_chunk::<{ size_of::<KeyId>() }>()?;
        let [version, kind] = *bytes.get(key_id.len()..)?.first_chunk()?;
        let text = |from: usize, to: usize| std::str::from_utf8(bytes.get(from..to)?).ok();
        let number = |from, to| u64::from_str_radix(text(from, to)?, 16).ok();
        let count = usize::try_from(number(COUNT_AT, HASHES_AT)?).ok()?;
        let hash = |index: usize| {
            let from = HASHES_AT + index * Hash::DIGITS;
            Hash::from_digits(text(from, from + Hash::DIGITS)?)
        };
        let label = Self {
            kind: Kind::of(kind).filter(|_| version == VERSION)?,
            position: Position::from_digits(text(POSITION_AT, ASKED_AT)?).ok()?,
            asked_at_ms: number(ASKED_AT, COUNT_AT)?,
            hashes: (0..count).map(hash).collect::<Option<_>>()?,
        };
        Some((*key_id, label))
    }
}

impl Kind {
    /// The letter of it, in records and in the names of where they stand.
    pub fn letter(self) -> u8 {
        match self {
            Self::Person => b'p',
            Self::Absence => b'a',
            Self::Name => b'n',
        }
    }

    fn of(letter: u8) -> Option<Self> {
        let all = [Self::Person, Self::Absence, Self::Name];
        all.into_iter().find(|kind| kind.letter() == letter)
    }
}

/// What the seal is bound to. The place has the letter of its kind and no zero in it.
fn associated(label: &[u8], place: &str) -> Vec<u8> {
    [place.as_bytes(), b"\0", label].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tier::tests::keys;

    const PLACE: &str = "flameup:{0}:p:1";

    fn label(hashes: usize) -> Label {
        let hash = |index| Hash::from_digits(&format!("{index:032x}")).expect("digits");
        Label {
            kind: Kind::Person,
            position: Position { ms: 7, sequence: 1 },
            asked_at_ms: 8,
            hashes: (0..hashes).map(hash).collect(),
        }
    }

    fn stored(body: Vec<u8>) -> Stored {
        Stored {
            about: About {
                status: 200,
                lifetime_ns: 60_000_000_000,
                age_on_arrival_s: 3,
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                etag: Some("\"1\"".to_owned()),
                asked_as: Some(b"iada".to_vec()),
            },
            body: body.into(),
        }
    }

    #[test]
    fn a_record_opens_in_its_place_alone() {
        let seal = Seal::new(&keys(&["a"]));
        let record = label(2).seal(&seal, PLACE, &stored(b"{}".to_vec()));
        let record = record.expect("written");
        assert!(Label::open(&seal, PLACE, &record).is_ok());
        assert_eq!(
            Label::open(&seal, "flameup:{0}:p:2", &record),
            Err(Error::Broken)
        );
        let foreign = Seal::new(&keys(&["b"]));
        assert_eq!(Label::open(&foreign, PLACE, &record), Err(Error::Broken));
    }

    #[test]
    fn a_record_that_was_edited_anywhere_or_cut_does_not_open() {
        let seal = Seal::new(&keys(&["a"]));
        let record = label(2).seal(&seal, PLACE, &stored(b"{}".to_vec()));
        let record = record.expect("written");
        for at in 0..record.len() {
            let mut edited = record.clone();
            edited[at] ^= 1;
            assert!(Label::open(&seal, PLACE, &edited).is_err(), "at {at}");
            assert!(
                Label::open(&seal, PLACE, &record[..at]).is_err(),
                "up to {at}"
            );
        }
    }

    #[test]
    fn scripts_find_what_they_decide_by_where_they_look() {
        let bytes = label(1).to_bytes(*b"0000");
        // Lua counts from one.
        let sub = |from: usize, to: usize| std::str::from_utf8(&bytes[from - 1..to]).expect("text");
        assert_eq!(sub(6, 6), "p");
        assert_eq!(sub(7, 38), label(1).position.to_digits());
        assert_eq!(sub(39, 54), format!("{:016x}", 8));
        assert_eq!(
            (sub(55, 56), sub(57, 88)),
            ("01", label(1).hashes[0].as_str())
        );
    }

    #[test]
    fn large_bodies_are_compressed_and_bombs_are_not_unpacked() {
        let seal = Seal::new(&keys(&["a"]));
        let record = label(1).seal(&seal, PLACE, &stored(vec![b'x'; 100_000]));
        let record = record.expect("written");
        assert!(record.len() < 2_000);
        let (_, opened) = Label::open(&seal, PLACE, &record).expect("opened");
        assert_eq!(opened.body.len(), 100_000);
        let bomb = zstd::bulk::compress(&vec![0; 2 * MOST_TEXT_BYTES], 1).expect("packed");
        let text = [&[ZSTD], &bomb[..]].concat();
        assert_eq!(Stored::from_text(&text), Err(Error::Broken));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body: Vec<u8>, hashes in 0usize..5) {
            let seal = Seal::new(&keys(&["a"]));
            let (label, stored) = (label(hashes), stored(body));
            let record = label.seal(&seal, PLACE, &stored).expect("written");
            prop_assert_eq!(Label::open(&seal, PLACE, &record), Ok((label, stored)));
        }

        #[test]
        fn whatever_stands_there_is_read_or_refused(bytes: Vec<u8>) {
            prop_assert!(Label::from_bytes(&bytes).is_none_or(|(_, label)| label.hashes.len() < 256));
            let _ = Stored::from_text(&bytes);
        }
    }
}
