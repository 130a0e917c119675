//! Which person a request means: step 3 of the request path.
//!
//! A lookup is typed. The short form, `/people/{id}`, takes an external id or an e-mail; the long
//! form, `/workspaces/{ws}/people/{uuid}`, takes Flameup's UUID. The two spaces never meet, even
//! when an external id looks like a UUID.
//!
//! # Invariants
//! - A segment is percent-decoded exactly once; what was decoded makes the cache key *and*, encoded
//!   again in one canonical way, the forwarded target. Key and question cannot differ.
//! - External ids are opaque: case, blanks and Unicode form are kept. Only an e-mail is trimmed
//!   and, if configured, ASCII-lower-cased, and that only in the key.
//! - `Debug` shows the kind of a reference and never its text, which is personal data.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

pub mod body;
pub mod change;

/// Longest accepted identifier, in decoded bytes. Flameup's longest is 255 characters
/// (post-people), at most 1,020 bytes; real ones are far shorter, and the target stays below the
/// 8 KiB that servers commonly accept.
pub const MAX_ID_BYTES: usize = 512;

/// Unreserved characters (RFC 3986 §2.3) and `@` go out raw, everything else as `%XX`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'@');

/// How often an identifier is decoded to see whether anybody could be led astray by it.
const DECODINGS: usize = 4;

/// Words of the API that stand where an identifier would.
const RESERVED_WORDS: [&str; 3] = ["search", "batch", "upsert"];

/// Why a path segment names nobody. Each is answered 400, and nothing is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing between the slashes, or blanks only.
    #[error("the identifier is empty")]
    Empty,
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("the identifier has a % that is not followed by two hexadecimal digits")]
    BadEscape,
    /// Decodes to something that is not UTF-8.
    #[error("the identifier is not UTF-8 once decoded")]
    NotUtf8,
    /// NUL or another control character.
    #[error("the identifier has a control character")]
    Control,
    /// `.` or `..`, alone or between slashes or backslashes: a dot segment to many servers. Also what
    /// would be one, or a control character, to those who decode twice.
    #[error("the identifier has a dot segment")]
    DotSegment,
    /// More than [`MAX_ID_BYTES`].
    #[error("the identifier is longer than 512 bytes once decoded")]
    TooLong,
    /// A word that stands where an identifier would: asking for it would be another request.
    #[error("the identifier is a word of the API: search, batch or upsert")]
    ReservedWord,
    /// The long form takes a hyphenated UUID and nothing else.
    #[error("the identifier in this path must be a hyphenated UUID")]
    NotUuid,
}

/// The person that a request means.
#[derive(Clone, PartialEq, Eq)]
pub enum PersonRef<'a> {
    /// Short form: an external id or an e-mail.
    Id(Identifier<'a>),
    /// Long form: the UUID, and the workspace id that stood in the path.
    Uuid {
        /// The `{ws}` of the path, decoded.
        workspace_id: Cow<'a, str>,
        /// The person's UUID.
        uuid: Uuid,
    },
}

impl<'a> PersonRef<'a> {
    /// Reads the `{id}` of the short form.
    ///
    /// # Errors
    /// When the segment cannot be an identifier; see [`Error`].
    pub fn from_id(segment: &'a str) -> Result<Self, Error> {
        Identifier::decode(segment).map(Self::Id)
    }

    /// Reads the `{ws}` and `{uuid}` of the long form.
    ///
    /// # Errors
    /// When one of the segments cannot be what it stands for; see [`Error`].
    pub fn from_uuid(workspace_id: &'a str, uuid: &str) -> Result<Self, Error> {
        let workspace_id = decode(workspace_id)?;
        // Only the hyphenated form: the lax parser also takes braces, `urn:uuid:` and bare hex,
        // which would give one person four spellings.
        let uuid = uuid::fmt::Hyphenated::from_str(&decode(uuid)?).map_err(|_| Error::NotUuid)?;
        Ok(Self::Uuid {
            workspace_id,
            uuid: uuid.into_uuid(),
        })
    }

    /// Reads an identifier of the short form that stands outside of a path, as it is.
    ///
    /// # Errors
    /// When it cannot be an identifier; see [`Error`].
    pub fn from_text(text: &'a str) -> Result<Self, Error> {
        if RESERVED_WORDS.contains(&text) {
            return Err(Error::ReservedWord);
        }
        let text = checked(Cow::Borrowed(text))?;
        Ok(Self::Id(Identifier::of(text)))
    }

    /// The canonical path to ask Flameup about this person.
    pub fn path(&self) -> String {
        match self {
            Self::Id(id) => format!("/api/v1/people/{}", encode(id.as_str())),
            Self::Uuid { workspace_id, uuid } => {
                format!(
                    "/api/v1/workspaces/{}/people/{}",
                    encode(workspace_id),
                    uuid.hyphenated()
                )
            }
        }
    }

    /// The same reference, free of the request it was read from.
    pub fn into_owned(self) -> PersonRef<'static> {
        match self {
            Self::Id(id) => PersonRef::Id(id.into_owned()),
            Self::Uuid { workspace_id, uuid } => PersonRef::Uuid {
                workspace_id: Cow::Owned(workspace_id.into_owned()),
                uuid,
            },
        }
    }

    /// The word for this kind of reference in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Id(id) if id.is_email() => "email",
            Self::Id(_) => "external_id",
            Self::Uuid { .. } => "uuid",
        }
    }
}

impl fmt::Debug for PersonRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PersonRef({})", self.kind())
    }
}

/// An external id or an e-mail, decoded. Blanks around an e-mail are gone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identifier<'a> {
    text: Cow<'a, str>,
    email: bool,
}

impl<'a> Identifier<'a> {
    fn decode(segment: &'a str) -> Result<Self, Error> {
        decode(segment).map(Self::of)
    }

    fn of(text: Cow<'a, str>) -> Self {
        if !is_email(text.trim_matches(' ')) {
            return Self { text, email: false };
        }
        let text = match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_matches(' ')),
            Cow::Owned(text) => Cow::Owned(text.trim_matches(' ').to_owned()),
        };
        Self { text, email: true }
    }

    /// The identifier as it is spelled.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has the shape of an e-mail: one `@`, both sides non-empty.
    pub fn is_email(&self) -> bool {
        self.email
    }

    fn into_owned(self) -> Identifier<'static> {
        Identifier {
            text: Cow::Owned(self.text.into_owned()),
            email: self.email,
        }
    }
}

/// Whether `text` has one `@` with something on both sides of it.
pub(crate) fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && !domain.is_empty() && !domain.contains('@')
    })
}

/// Percent-decodes one path segment, once, and refuses what no identifier may be.
pub(crate) fn decode(segment: &str) -> Result<Cow<'_, str>, Error> {
    if is_plain(segment) {
        return Ok(Cow::Borrowed(segment));
    }
    if has_bad_escape(segment.as_bytes()) {
        return Err(Error::BadEscape);
    }
    let text = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| Error::NotUtf8)?;
    checked(text)
}

/// Refuses what no identifier may be.
fn checked(text: Cow<'_, str>) -> Result<Cow<'_, str>, Error> {
    if text.trim_matches(' ').is_empty() {
        return Err(Error::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(Error::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(Error::Control);
    }
    if has_dot_segment(&text) || text.contains('%') && is_bent_when_decoded(&text) {
        return Err(Error::DotSegment);
    }
    Ok(text)
}

/// Whether some server would climb here. There are those that drop what follows a `;` first, and
/// blanks.
fn has_dot_segment(text: &str) -> bool {
    text.split(['/', '\\']).any(|part| {
        let name = part.split(';').next().unwrap_or_default();
        matches!(name.trim_matches(' '), "." | "..")
    })
}

/// Whether to a reader who decodes more than once this would be a dot segment, or have control
/// characters.
fn is_bent_when_decoded(text: &str) -> bool {
    let mut text = text.to_owned();
    // Each round makes it shorter; whoever encodes more often than this means harm.
    for _ in 0..DECODINGS {
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        if decoded == text {
            return false;
        }
        if has_dot_segment(&decoded) || decoded.chars().any(char::is_control) {
            return true;
        }
        text = decoded;
    }
    true
}

/// Whether a segment stands for itself and nothing in it could be refused, as nearly all do.
fn is_plain(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'@');
    (1..=MAX_ID_BYTES).contains(&segment.len()) && segment.bytes().all(plain)
}

/// Encodes an identifier for a path segment, in the one canonical way.
pub(crate) fn encode(text: &str) -> impl fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// Whether some `%` lacks its two hexadecimal digits; the decoder would let it pass as text.
fn has_bad_escape(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'%', bytes).any(|at| {
        let digits = bytes.get(at + 1..at + 3);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(segment: &str) -> Result<String, Error> {
        match PersonRef::from_id(segment)? {
            PersonRef::Id(id) => Ok(id.as_str().to_owned()),
            PersonRef::Uuid { .. } => unreachable!("the short form names no UUID"),
        }
    }

    #[test]
    fn decoding_happens_exactly_once() {
        assert_eq!(id("a%2540b"), Ok("a%40b".to_owned()));
        assert_eq!(id("100%25%20a"), Ok("100% a".to_owned()));
        assert_eq!(id("a%2Fb"), Ok("a/b".to_owned()));
        assert_eq!(id("a+b%2Bc%20d"), Ok("a+b+c d".to_owned()));
    }

    #[test]
    fn the_forwarded_path_is_canonical() {
        let path = |segment| PersonRef::from_id(segment).map(|person| person.path());
        assert_eq!(path("user%5f1"), Ok("/api/v1/people/user_1".to_owned()));
        assert_eq!(path("a%2fb+c"), Ok("/api/v1/people/a%2Fb%2Bc".to_owned()));
        assert_eq!(
            path("A.b%40X.org"),
            Ok("/api/v1/people/A.b@X.org".to_owned())
        );
        assert_eq!(path("jos\u{e9}"), Ok("/api/v1/people/jos%C3%A9".to_owned()));
        assert_eq!(
            path("a%3Fb%23c%25"),
            Ok("/api/v1/people/a%3Fb%23c%25".to_owned())
        );
    }

    #[test]
    fn every_unusable_identifier_is_refused_for_its_own_reason() {
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for (segment, error) in [
            ("", Error::Empty),
            ("%20", Error::Empty),
            ("%zz", Error::BadEscape),
            ("abc%", Error::BadEscape),
            ("abc%4", Error::BadEscape),
            ("%ff%fe", Error::NotUtf8),
            ("a%00b", Error::Control),
            ("a%0d%0ab", Error::Control),
            ("%7f", Error::Control),
            ("%c2%85", Error::Control),
            (".", Error::DotSegment),
            ("%2e%2E", Error::DotSegment),
            ("a%2f..%2fb", Error::DotSegment),
            ("..%5cx", Error::DotSegment),
            ("..;a=b", Error::DotSegment),
            ("..%20", Error::DotSegment),
            ("%252e%252E", Error::DotSegment),
            ("a%252f%252e%252e%252fb", Error::DotSegment),
            ("%25252e%25252e", Error::DotSegment),
            ("a%2500b", Error::DotSegment),
            ("a%2525252525252541", Error::DotSegment),
            (long.as_str(), Error::TooLong),
        ] {
            assert_eq!(id(segment), Err(error), "{segment}");
        }
        assert!(id(&"x".repeat(MAX_ID_BYTES)).is_ok());
    }

    #[test]
    fn only_an_email_loses_its_surrounding_blanks() {
        assert_eq!(id("%20a@b.org%20"), Ok("a@b.org".to_owned()));
        assert_eq!(id("%20user%20"), Ok(" user ".to_owned()));
        assert_eq!(id("%20a@b@c"), Ok(" a@b@c".to_owned()));
    }

    #[test]
    fn the_long_form_takes_one_spelling_of_a_uuid() {
        const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";
        let lower = PersonRef::from_uuid("ws_1", UUID);
        let upper = PersonRef::from_uuid("ws_1", &UUID.to_uppercase());
        assert_eq!(lower, upper);
        assert_eq!(
            lower.map(|person| person.path()),
            Ok(format!("/api/v1/workspaces/ws_1/people/{UUID}"))
        );
        for other in [
            "{123e4567-e89b-12d3-a456-426614174000}",
            "urn:uuid:123e4567-e89b-12d3-a456-426614174000",
            "123e4567e89b12d3a456426614174000",
            "user_1",
        ] {
            assert_eq!(
                PersonRef::from_uuid("ws_1", other),
                Err(Error::NotUuid),
                "{other}"
            );
        }
    }

    #[test]
    fn debug_shows_no_personal_data() {
        let person = PersonRef::from_id("ada@example.com").expect("a usable id");
        assert_eq!(format!("{person:?}"), "PersonRef(email)");
    }

    proptest! {
        #[test]
        fn no_segment_makes_decoding_panic(segment in ".{0,600}") {
            let _ = PersonRef::from_id(&segment);
            let _ = PersonRef::from_uuid(&segment, &segment);
        }

        #[test]
        fn decoding_what_was_encoded_gives_the_same_person(text in "\\PC{1,60}") {
            let segment = encode(&text).to_string();
            if let Ok(PersonRef::Id(first)) = PersonRef::from_id(&segment) {
                let again = encode(first.as_str()).to_string();
                prop_assert_eq!(id(&again).expect("canonical text is usable"), first.as_str());
                prop_assert!(again.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
            }
        }
    }
}
