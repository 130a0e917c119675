//! The cache key (RFC 9111 §2): one workspace, one person.
//!
//! # Layout
//! Four bytes of workspace number, one byte that says what follows, then the identifier. The number
//! has a fixed width and the kinds are told apart by their byte, so no two lookups of different
//! people or workspaces can spell the same key.

use smallvec::SmallVec;
use uuid::Uuid;

/// Where the byte stands that says what follows.
const KIND_AT: usize = size_of::<u32>();
const ID: u8 = b'i';
const UUID: u8 = b'u';
const UNPROVEN: u8 = b'w';

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

    /// The normal form: all spellings of a person share it.
    pub fn person(&self) -> &CacheKey {
        &self.person
    }

    /// The exact spelling. A 404 is shared only under this one, so that folding an e-mail can
    /// never hide a person.
    pub fn spelled(&self) -> &CacheKey {
        self.spelled.as_ref().unwrap_or(&self.person)
    }

    /// The exact spelling, where it is another than the normal form.
    pub fn spelled_apart(&self) -> Option<&CacheKey> {
        self.spelled.as_ref()
    }
}
