//! The cache key (RFC 9111 §2): one workspace, one person.
//!
//! # Layout
//! Four bytes of workspace number, one byte that says what follows, then the identifier. The number
//! has a fixed width and the kinds are told apart by their byte, so no two lookups of different
//! people or workspaces can spell the same key.

use std::borrow::Cow;
use std::num::NonZeroU64;

use smallvec::SmallVec;
use uuid::Uuid;

use crate::person::change::Name;

/// Where the byte stands that says what follows.
const KIND_AT: usize = size_of::<u32>();
const ID: u8 = b'i';
const UUID: u8 = b'u';
const UNPROVEN: u8 = b'w';
const OPAQUE: u8 = b'o';

/// Finds a stored response. Only a [`Workspace`](crate::workspace::Workspace) makes one.
///
/// Most identifiers fit the inline bytes, so that a lookup allocates nothing for its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CacheKey(SmallVec<[u8; 56]>);

impl CacheKey {
    /// The key of an identifier of the short form, exactly as given.
    pub(crate) fn of_id(workspace: u32, id: &str) -> Self {
        Self::new(workspace, ID, id.as_bytes())
    }

    /// The key of a UUID.
    pub(crate) fn of_uuid(workspace: u32, uuid: &Uuid) -> Self {
        Self::new(workspace, UUID, uuid.as_bytes())
    }

    /// What requests for a UUID collapse on while the path's workspace id is not proven.
    pub(crate) fn of_unproven(workspace: u32, uuid: &Uuid, workspace_id: &str) -> Self {
        let mut key = Self::new(workspace, UNPROVEN, uuid.as_bytes());
        key.0.extend_from_slice(workspace_id.as_bytes());
        key
    }

    /// Stands for a person whose `id` is no UUID. No lookup has such a key.
    pub(crate) fn of_opaque(workspace: u32, id: &str) -> Self {
        Self::new(workspace, OPAQUE, id.as_bytes())
    }

    /// The key of an identifier, with the letter of its kind, in the workspace of this number.
    pub(crate) fn of_identifier(workspace: u32, identifier: &[u8]) -> Self {
        let mut key = SmallVec::with_capacity(KIND_AT + identifier.len());
        key.extend_from_slice(&workspace.to_be_bytes());
        key.extend_from_slice(identifier);
        Self(key)
    }

    /// The key that was stored as `bytes`.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// The same name in the workspace of another number.
    pub(super) fn in_workspace(&self, number: u32) -> Self {
        let mut key = self.clone();
        key.0[..KIND_AT].copy_from_slice(&number.to_be_bytes());
        key
    }

    /// The number of its workspace.
    pub(crate) fn workspace(&self) -> u32 {
        workspace_of(&self.0)
    }

    /// Whether two keys name one person beyond doubt: they differ at most in the case of an
    /// e-mail, or are of one UUID, proven or not.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let uuid = uuid_of(&self.0).filter(|_| self.workspace() == other.workspace());
        folded(&self.0) == folded(&other.0) || uuid.is_some() && uuid == uuid_of(&other.0)
    }

    /// The same key with the ASCII letters of its identifier folded.
    pub(crate) fn to_ascii_lowercase(&self) -> Self {
        let mut key = self.clone();
        key.0[KIND_AT + 1..].make_ascii_lowercase();
        key
    }

    /// The bytes of the key; personal data, for hashing and looking up only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn new(workspace: u32, kind: u8, identifier: &[u8]) -> Self {
        let mut key = SmallVec::with_capacity(KIND_AT + 1 + identifier.len());
        key.extend_from_slice(&workspace.to_be_bytes());
        key.push(kind);
        key.extend_from_slice(identifier);
        Self(key)
    }
}

/// Where in the store what has a certain key is: a hash of the key under a secret of this process.
///
/// It names nobody, so that a store which holds on to it for a while holds on to no personal data. Two
/// keys may have one place, though hardly ever do: whoever finds something there has to ask whether it
/// is what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(NonZeroU64);

impl Place {
    pub(super) fn new(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX))
    }
}

/// The number of the workspace that a key, given as its bytes, belongs to.
pub(super) fn workspace_of(key: &[u8]) -> u32 {
    key.first_chunk()
        .map_or(u32::MAX, |number| u32::from_be_bytes(*number))
}

/// Whether two keys, given as their bytes, differ at most in the ASCII case of an identifier. The
/// number before it is compared as it is: 65 and 97 are two workspaces.
pub(super) fn eq_folded(one: &[u8], other: &[u8]) -> bool {
    match (
        one.split_at_checked(KIND_AT),
        other.split_at_checked(KIND_AT),
    ) {
        (Some((one_number, one)), Some((other_number, other))) => {
            one_number == other_number && one.eq_ignore_ascii_case(other)
        }
        _ => one == other,
    }
}

/// A key, given as its bytes, in the form that all spellings of an e-mail share.
pub(crate) fn folded(key: &[u8]) -> Cow<'_, [u8]> {
    let may_fold = key.get(KIND_AT) == Some(&ID) && key[KIND_AT..].contains(&b'@');
    if !may_fold || !key[KIND_AT..].iter().any(u8::is_ascii_uppercase) {
        return Cow::Borrowed(key);
    }
    let mut folded = key.to_vec();
    folded[KIND_AT..].make_ascii_lowercase();
    Cow::Owned(folded)
}

/// The UUID that a key, given as its bytes, is about: proven or not, as what requests collapse on.
pub(super) fn uuid_of(key: &[u8]) -> Option<Uuid> {
    let (kind, rest) = key.get(KIND_AT..)?.split_first()?;
    let uuid = rest
        .first_chunk()
        .filter(|_| [UUID, UNPROVEN].contains(kind))?;
    Some(Uuid::from_bytes(*uuid))
}

/// The name that a key, given as its bytes, is of; none for what no lookup can ask.
pub(super) fn name_of(key: &[u8]) -> Option<Name> {
    let (kind, rest) = key.get(KIND_AT..)?.split_first()?;
    match *kind {
        ID => Some(Name::Id(String::from_utf8(rest.to_vec()).ok()?)),
        UUID => Some(Name::Uuid(Uuid::from_slice(rest).ok()?)),
        _ => None,
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Which kind, not whom: the rest is personal data.
        write!(f, "CacheKey({})", char::from(self.0[KIND_AT]))
    }
}

/// The cache keys of one lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    person: CacheKey,
    /// Only where the exact spelling differs from the normal form.
    spelled: Option<CacheKey>,
}

impl Keys {
    /// The keys of an identifier of the short form; `folds` if its ASCII case does not matter.
    pub(crate) fn of_id(workspace: u32, id: &str, folds: bool) -> Self {
        let spelled = CacheKey::of_id(workspace, id);
        if folds && id.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self {
                person: spelled.to_ascii_lowercase(),
                spelled: Some(spelled),
            }
        } else {
            Self {
                person: spelled,
                spelled: None,
            }
        }
    }

    /// The keys of a UUID, which has one spelling.
    pub(crate) fn of_uuid(workspace: u32, uuid: &Uuid) -> Self {
        Self {
            person: CacheKey::of_uuid(workspace, uuid),
            spelled: None,
        }
    }

    /// The keys of whatever is stored under `key`, given as its bytes.
    pub(super) fn stored_under(key: &[u8]) -> Self {
        Self {
            person: CacheKey::from_bytes(key),
            spelled: None,
        }
    }

    /// The normal form: all spellings of a person share it.
    pub fn person(&self) -> &CacheKey {
        &self.person
    }

    /// The exact spelling. A 404 is shared only under this one, so that folding an e-mail can
    /// never hide a person.
    pub fn spelled(&self) -> &CacheKey {
        self.spelled.as_ref().unwrap_or(&self.person)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: Uuid = Uuid::from_u128(1);

    #[test]
    fn folding_leaves_the_number_of_the_workspace_alone() {
        // 65 and 97 are A and a: they differ in the bit that folding clears.
        let (upper, lower) = (CacheKey::of_id(65, "Ada@x"), CacheKey::of_id(97, "Ada@x"));
        assert!(!eq_folded(upper.as_bytes(), lower.as_bytes()));
        assert_ne!(folded(upper.as_bytes()), folded(lower.as_bytes()));
        assert_ne!(upper.to_ascii_lowercase(), lower.to_ascii_lowercase());
        assert!(!upper.is_of_the_same(&lower));
        let uuid = |number| CacheKey::of_uuid(number, &UUID);
        assert!(!uuid(65).is_of_the_same(&uuid(97)));
        assert_eq!(workspace_of(upper.as_bytes()), 65);
        assert_eq!(workspace_of(&folded(upper.as_bytes())), 65);
    }

    #[test]
    fn only_what_may_be_an_email_is_folded() {
        let is_folded = |id: &str| {
            let key = CacheKey::of_id(0, id);
            *folded(key.as_bytes()) != *key.as_bytes()
        };
        assert!(is_folded("Ada@x.org"));
        assert!(!is_folded("Ada"));
        assert!(!is_folded("ada@x.org"));
        let uuid = CacheKey::of_uuid(0, &Uuid::from_bytes(*b"A@AAAAAAAAAAAAAA"));
        assert_eq!(*folded(uuid.as_bytes()), *uuid.as_bytes());
    }

    #[test]
    fn a_uuid_is_the_same_person_proven_or_not() {
        let proven = CacheKey::of_uuid(0, &UUID);
        let unproven = CacheKey::of_unproven(0, &UUID, "ws");
        assert_ne!(proven, unproven);
        assert!(proven.is_of_the_same(&unproven));
        assert!(!proven.is_of_the_same(&CacheKey::of_unproven(1, &UUID, "ws")));
        let text = CacheKey::of_id(0, &UUID.hyphenated().to_string());
        assert!(!proven.is_of_the_same(&text));
        assert_eq!(uuid_of(text.as_bytes()), None);
    }

    #[test]
    fn spellings_of_an_email_are_of_the_same_person_and_external_ids_are_not() {
        let key = |id: &str| CacheKey::of_id(0, id);
        assert!(key("Ada@x.org").is_of_the_same(&key("ada@X.org")));
        assert!(!key("Ada").is_of_the_same(&key("ada")));
    }
}
