//! What a body says its person is called: the names under which others may look for them.
//!
//! Kept packed beside each stored person, some seventy bytes. They say which lookups the body
//! answers, and which stored people a change touches.

use super::key::{CacheKey, Keys, eq_folded};
use crate::person::body::Identity;
use crate::person::{MAX_ID_BYTES, is_email};

/// The names of one person, as one body claims them. The first is who they are: Flameup's `id`.
#[derive(Clone, Default)]
pub struct Claims(Box<[u8]>);

/// One name of a person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    kind: Kind,
    key: &'a [u8],
}

/// What sort of name it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Flameup's `id`: a UUID, or whatever it is.
    Id = 0,
    /// Compared byte by byte.
    ExternalId = 1,
    /// An e-mail whose case counts.
    Email = 2,
    /// An e-mail whose ASCII case does not.
    FoldedEmail = 3,
}

impl Claims {
    /// What `identity` claims in the workspace of this number; `folds` if the case of e-mails does
    /// not matter there. A name that is longer than any lookup's is left out.
    pub fn of(identity: &Identity<'_>, workspace: u32, folds: bool) -> Self {
        let email_kind = if folds {
            Kind::FoldedEmail
        } else {
            Kind::Email
        };
        let id = identity.uuid().map_or_else(
            || CacheKey::of_opaque(workspace, identity.id()),
            |uuid| CacheKey::of_uuid(workspace, &uuid),
        );
        let of_text = |kind, name: &str| {
            (name.len() <= MAX_ID_BYTES).then(|| (kind, CacheKey::of_id(workspace, name)))
        };
        let external_id = identity.external_id().filter(|id| !id.is_empty());
        let email = identity.email().filter(|email| is_email(email));
        let names = [
            Some((Kind::Id, id)),
            external_id.and_then(|name| of_text(Kind::ExternalId, name)),
            email.and_then(|name| of_text(email_kind, name)),
        ];
        Self::pack(names.into_iter().flatten())
    }

    /// What an absence is found by, beside its exact spelling: a change to anybody called so in
    /// another case ends it too.
    pub fn of_absence(keys: &Keys) -> Self {
        Self::pack([(Kind::Email, keys.spelled().clone())].into_iter())
    }

    fn pack(names: impl Iterator<Item = (Kind, CacheKey)>) -> Self {
        let mut packed = Vec::new();
        for (kind, key) in names {
            let Ok(length) = u16::try_from(key.as_bytes().len()) else {
                continue; // An `id` of 64 KiB names nobody.
            };
            packed.push(kind as u8);
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(key.as_bytes());
        }
        Self(packed.into_boxed_slice())
    }

    /// Each name.
    pub fn iter(&self) -> impl Iterator<Item = Claim<'_>> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<3>()?;
            let length = usize::from(u16::from_le_bytes([head[1], head[2]]));
            let (key, tail) = tail.split_at_checked(length)?;
            rest = tail;
            let kind = match head[0] {
                0 => Kind::Id,
                1 => Kind::ExternalId,
                2 => Kind::Email,
                _ => Kind::FoldedEmail,
            };
            Some(Claim { kind, key })
        })
    }

    /// Who this is, told apart from everybody else in the workspace. `None` for an absence.
    pub fn who(&self) -> Option<&[u8]> {
        let first = self.iter().next()?;
        (first.kind == Kind::Id).then_some(first.key)
    }

    /// Whether these are claims of one person.
    pub fn are_of(&self, other: &Self) -> bool {
        self.who().is_some() && self.who() == other.who()
    }

    /// Whether the person is who a lookup with these `keys` means.
    pub fn answer(&self, keys: &Keys) -> bool {
        self.iter().any(|claim| claim.answers(keys))
    }

    /// Whether the person is called exactly so.
    pub fn spell(&self, spelled: &CacheKey) -> bool {
        self.iter().any(|claim| claim.key == spelled.as_bytes())
    }

    /// Whether a name of the same sort stands here too.
    pub fn contradict(&self, other: Claim<'_>) -> bool {
        self.iter().any(|own| own.is(&other))
    }

    /// Bytes of memory that they take beside themselves.
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Claim<'a> {
    /// The name as a key, exactly as the body spells it.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    fn answers(&self, keys: &Keys) -> bool {
        self.is_called(keys.spelled().as_bytes())
    }

    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.is_called(other.key)
    }

    fn is_called(&self, key: &[u8]) -> bool {
        match self.kind {
            Kind::FoldedEmail => eq_folded(self.key, key),
            Kind::Id | Kind::ExternalId | Kind::Email => self.key == key,
        }
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // How many, not which: they are personal data.
        write!(f, "Claims({})", self.iter().count())
    }
}
