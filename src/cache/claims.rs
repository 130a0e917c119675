//! What a body says its person is called: the names under which others may look for them.
//!
//! Kept packed behind each stored body, some seventy bytes. They say which lookups the body
//! answers, and which stored people a change touches.

use super::key::{CacheKey, Keys, eq_folded};
use crate::person::body::Identity;
use crate::person::{MAX_ID_BYTES, is_email};

/// The names of one person, as one body claims them. The first is who they are: Flameup's `id`.
#[derive(Clone, Copy, Default)]
pub struct Claims<'a>(&'a [u8]);

/// [`Claims`] in memory of their own.
#[derive(Clone, Default)]
pub struct ClaimsBuf(Box<[u8]>);

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

impl ClaimsBuf {
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

    /// The claims themselves.
    pub fn claims(&self) -> Claims<'_> {
        Claims(&self.0)
    }
}

impl<'a> Claims<'a> {
    /// Those that were packed into these bytes.
    pub(super) fn packed_in(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that they are packed into.
    pub(super) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Each name.
    pub fn iter(self) -> impl Iterator<Item = Claim<'a>> {
        let mut rest = self.0;
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
    pub fn who(self) -> Option<&'a [u8]> {
        let first = self.iter().next()?;
        (first.kind == Kind::Id).then_some(first.key)
    }

    /// Whether these are claims of one person.
    pub fn are_of(self, other: Claims<'_>) -> bool {
        self.who().is_some() && self.who() == other.who()
    }

    /// Whether the person is who a lookup with these `keys` means.
    pub fn answer(self, keys: &Keys) -> bool {
        self.iter().any(|claim| claim.answers(keys))
    }

    /// Whether the person is called exactly so.
    pub fn spell(self, spelled: &CacheKey) -> bool {
        self.iter().any(|claim| claim.key == spelled.as_bytes())
    }

    /// Whether a name of the same sort stands here too.
    pub fn contradict(self, other: Claim<'_>) -> bool {
        self.iter().any(|own| own.is(&other))
    }
}

impl<'a> Claim<'a> {
    /// The name as a key, exactly as the body spells it.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The word for its kind.
    pub fn word(&self) -> &'static str {
        match self.kind {
            Kind::Id => "uuid",
            Kind::ExternalId => "external_id",
            Kind::Email | Kind::FoldedEmail => "email",
        }
    }

    /// The name as a key, in the form that a lookup of it has.
    pub(crate) fn normal_form(&self) -> CacheKey {
        let key = CacheKey::from_bytes(self.key);
        match self.kind {
            Kind::FoldedEmail => key.to_ascii_lowercase(),
            Kind::Id | Kind::ExternalId | Kind::Email => key,
        }
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

impl std::fmt::Debug for ClaimsBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.claims().fmt(f)
    }
}

impl std::fmt::Debug for Claims<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // How many, not which: they are personal data.
        write!(f, "Claims({})", self.iter().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{ADA, Person, id, keys, uuid, workspace};
    use crate::config::EmailCase;
    use crate::person::change::Name;

    fn claims(person: &Person, case: EmailCase) -> ClaimsBuf {
        let body = person.body();
        let identity = Identity::read(&body).expect("the body of a person");
        workspace(0, case).claims(&identity)
    }

    fn answer(claims: &ClaimsBuf, case: EmailCase, name: &Name) -> bool {
        claims.claims().answer(&keys(&workspace(0, case), name))
    }

    #[test]
    fn a_person_answers_to_uuid_external_id_and_email() {
        let case = EmailCase::Insensitive;
        let claims = claims(&ADA, case);
        for name in [uuid(1), id("u1"), id("Ada@x.org"), id("ADA@X.ORG")] {
            assert!(answer(&claims, case, &name));
        }
        for name in [uuid(2), id("U1"), id("u11"), id("ada@x.com"), id("")] {
            assert!(!answer(&claims, case, &name));
        }
    }

    #[test]
    fn where_the_case_of_emails_counts_they_answer_to_their_own_spelling() {
        let claims = claims(&ADA, EmailCase::Exact);
        assert!(answer(&claims, EmailCase::Exact, &id("Ada@x.org")));
        assert!(!answer(&claims, EmailCase::Exact, &id("ada@x.org")));
    }

    #[test]
    fn an_external_id_that_looks_like_an_email_has_one_spelling() {
        let person = Person {
            external_id: "ADA@tenant",
            ..ADA
        };
        let case = EmailCase::Insensitive;
        let claims = claims(&person, case);
        assert!(answer(&claims, case, &id("ADA@tenant")));
        assert!(!answer(&claims, case, &id("ada@tenant")));
    }

    #[test]
    fn an_external_id_that_looks_like_a_uuid_is_not_that_uuid() {
        let text = "00000000-0000-0000-0000-000000000007";
        let case = EmailCase::Insensitive;
        let person = Person {
            external_id: text,
            ..ADA
        };
        let by_external_id = claims(&person, case);
        assert!(answer(&by_external_id, case, &id(text)));
        assert!(!answer(&by_external_id, case, &uuid(7)));
        let by_uuid = claims(&Person { uuid: 7, ..ADA }, case);
        assert!(answer(&by_uuid, case, &uuid(7)));
        assert!(!answer(&by_uuid, case, &id(text)));
    }

    #[test]
    fn a_name_of_another_workspace_is_another_name() {
        let body = ADA.body();
        let identity = Identity::read(&body).expect("the body of a person");
        // 65 and 97 are A and a: they differ in the bit that folding clears.
        let of_65 = ClaimsBuf::of(&identity, 65, true);
        let other = workspace(97, EmailCase::Insensitive);
        for name in ADA.names() {
            assert!(!of_65.claims().answer(&keys(&other, &name)));
        }
        let of_97 = ClaimsBuf::of(&identity, 97, true);
        assert!(!of_65.claims().are_of(of_97.claims()));
    }

    #[test]
    fn what_is_no_name_is_not_claimed() {
        let long = format!("x{}", "y".repeat(MAX_ID_BYTES));
        let body = format!(r#"{{"id":"not a uuid","external_id":"{long}","email":"nobody"}}"#);
        let identity = Identity::read(body.as_bytes()).expect("the body of a person");
        let claims = ClaimsBuf::of(&identity, 0, true);
        let claims = claims.claims();
        assert_eq!(claims.iter().count(), 1);
        assert!(claims.who().is_some(), "an opaque id tells people apart");
        let empty = Identity::read(br#"{"id":"a","external_id":"","email":null}"#);
        let empty = empty.expect("the body of a person");
        assert_eq!(ClaimsBuf::of(&empty, 0, true).claims().iter().count(), 1);
    }

    #[test]
    fn people_are_told_apart_by_their_id_and_absences_are_nobody() {
        let case = EmailCase::Insensitive;
        let (ada, moved) = (
            claims(&ADA, case),
            claims(&Person { email: "", ..ADA }, case),
        );
        assert!(ada.claims().are_of(moved.claims()));
        let other = claims(&Person { uuid: 2, ..ADA }, case);
        assert!(!ada.claims().are_of(other.claims()));
        let absence = ClaimsBuf::of_absence(&keys(&workspace(0, case), &id("Ada@x.org")));
        let absence = absence.claims();
        assert!(absence.who().is_none());
        assert!(!absence.are_of(absence));
    }

    #[test]
    fn claims_contradict_only_those_of_their_own_sort() {
        let case = EmailCase::Insensitive;
        let by_email = claims(&Person { uuid: 2, ..ADA }, case);
        let external_id = "ada@x.org";
        let by_external_id = claims(&Person { external_id, ..ADA }, case);
        let email = by_email.claims().iter().last().expect("an e-mail");
        assert!(claims(&ADA, case).claims().contradict(email));
        let as_external_id = by_external_id
            .claims()
            .iter()
            .nth(1)
            .expect("an external id");
        assert!(!by_email.claims().contradict(as_external_id));
    }

    #[test]
    fn debug_shows_no_personal_data() {
        let shown = format!("{:?}", claims(&ADA, EmailCase::Insensitive));
        assert_eq!(shown, "Claims(3)");
    }
}
