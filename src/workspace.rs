//! A workspace: one Flameup key, and everything that was stored under it.
//!
//! In the short path form the key alone decides which workspace is meant, so the same URL names
//! different people under different keys. A cache key can only be made by a workspace, which is
//! what keeps their stored responses apart.

use std::sync::{Arc, OnceLock};

use crate::cache::claims::ClaimsBuf;
use crate::cache::key::{CacheKey, Keys};
use crate::config::EmailCase;
use crate::person::body::Identity;
use crate::person::change::Name;
use crate::person::{PersonRef, is_email};
use crate::shield::Shield;

/// One configured workspace.
#[derive(Debug)]
pub struct Workspace {
    name: String,
    index: u32,
    shield: Arc<Shield>,
    email_case: EmailCase,
    /// Flameup's id of this workspace: configured, or else learned from the first body that names
    /// one. Written once; a body that differs later is an alarm, not news.
    id: OnceLock<Box<str>>,
}

/// Where answers about one person may be kept and shared.
#[derive(Clone, Debug)]
pub enum Place {
    /// The person is this workspace's: answered from the cache, collapsed and stored.
    Own(Keys),
    /// The path names a workspace id, and this workspace's own is not known yet. Collapsed with
    /// equal requests, and stored only if the body proves the path right.
    Unproven {
        /// What equal requests collapse on.
        flight: CacheKey,
        /// Where the person belongs once the body has proved it.
        keys: Keys,
    },
    /// The path names another workspace: forwarded, never stored, never answered from the cache.
    /// The keys name the person in logs, as a hash.
    Foreign(Keys),
}

impl Place {
    /// The keys of the person.
    pub fn keys(&self) -> &Keys {
        match self {
            Self::Own(keys) | Self::Unproven { keys, .. } | Self::Foreign(keys) => keys,
        }
    }
}

impl Workspace {
    /// A workspace that the gateway calls `name` and numbers `index`, no two alike, behind the
    /// shield of its key.
    ///
    /// `id` is Flameup's id of the workspace, where the operator gave it.
    pub fn new(
        name: impl Into<String>,
        index: u32,
        shield: Arc<Shield>,
        id: Option<&str>,
        email_case: EmailCase,
    ) -> Self {
        let id = id
            .map(|id| OnceLock::from(Box::from(id)))
            .unwrap_or_default();
        Self {
            name: name.into(),
            index,
            shield,
            email_case,
            id,
        }
    }

    /// What metrics and logs call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands before its key.
    pub fn shield(&self) -> &Arc<Shield> {
        &self.shield
    }

    /// Where answers about `person` may be kept.
    pub fn place(&self, person: &PersonRef<'_>) -> Place {
        match person {
            PersonRef::Id(id) => {
                let folds = id.is_email() && self.folds_emails();
                Place::Own(Keys::of_id(self.index, id.as_str(), folds))
            }
            PersonRef::Uuid { workspace_id, uuid } => {
                let keys = Keys::of_uuid(self.index, uuid);
                match self.id.get() {
                    Some(own) if **own == **workspace_id => Place::Own(keys),
                    Some(_) => Place::Foreign(keys),
                    None => {
                        let flight = CacheKey::of_unproven(self.index, uuid, workspace_id);
                        Place::Unproven { flight, keys }
                    }
                }
            }
        }
    }

    /// What a name is remembered by, as it is spelled.
    pub fn key_of_name(&self, name: &Name) -> CacheKey {
        match name {
            Name::Uuid(uuid) => CacheKey::of_uuid(self.index, uuid),
            Name::Id(id) => {
                let trimmed = id.trim_matches(' ');
                let id = if is_email(trimmed) { trimmed } else { id };
                CacheKey::of_id(self.index, id)
            }
        }
    }

    /// The keys of a lookup of whoever is called so.
    pub fn keys_of(&self, name: &Name) -> Keys {
        match name {
            Name::Uuid(uuid) => Keys::of_uuid(self.index, uuid),
            Name::Id(id) => {
                let trimmed = id.trim_matches(' ');
                if is_email(trimmed) {
                    Keys::of_id(self.index, trimmed, self.folds_emails())
                } else {
                    Keys::of_id(self.index, id, false)
                }
            }
        }
    }

    /// Flameup's id of it, as far as it is known.
    pub fn id(&self) -> Option<&str> {
        self.id.get().map(|id| &**id)
    }

    /// What a body of this workspace says its person is called.
    pub fn claims(&self, identity: &Identity<'_>) -> ClaimsBuf {
        ClaimsBuf::of(identity, self.index, self.folds_emails())
    }

    /// Whether the case of an e-mail does not matter here.
    pub(crate) fn folds_emails(&self) -> bool {
        self.email_case == EmailCase::Insensitive
    }

    /// The number that its keys begin with.
    pub fn number(&self) -> u32 {
        self.index
    }

    /// Whether this workspace has that id at Flameup; nothing while its own is not known.
    pub fn has_id(&self, workspace_id: &str) -> Option<bool> {
        self.id.get().map(|own| **own == *workspace_id)
    }

    /// Whether this and `other` are one workspace at Flameup, under two keys.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.index == other.index || self.id().is_some() && self.id() == other.id()
    }

    /// Whether they may be: they are, or nobody knows. Most bodies tell their workspace's id, so it
    /// is known once somebody is stored. Where none does, a change in one section ends the people of
    /// that name in all of them: a fetch too many, and nothing old.
    pub fn may_be_same_as(&self, other: &Self) -> bool {
        self.is_same_as(other) || self.id().is_none() || other.id().is_none()
    }

    /// Whether a body that names `workspace_id` is this workspace's; the first one teaches it.
    pub fn recognises(&self, workspace_id: &str) -> bool {
        **self.id.get_or_init(|| Box::from(workspace_id)) == *workspace_id
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::config::{Config, Sources};
    use crate::shield;

    const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

    fn workspace(index: u32, email_case: EmailCase) -> Workspace {
        let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", "ws_test_a.b")]));
        let mut config = loaded.expect("the defaults and a key").config;
        let (_, mut workspace) = config
            .workspaces
            .pop_first()
            .expect("the default workspace");
        let (api_key, _) = workspace.api_keys.remove(0);
        let settings = shield::Settings {
            requests: 120,
            window: Duration::from_mins(1),
            reserve: 0.1,
            max_wait: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let shield = Shield::new(vec![api_key], settings, Clock::system());
        Workspace::new("w", index, shield, None, email_case)
    }

    fn keys(workspace: &Workspace, segment: &str) -> Keys {
        let person = PersonRef::from_id(segment).expect("a usable id");
        match workspace.place(&person) {
            Place::Own(keys) => keys,
            other => unreachable!("the short form is always the workspace's own: {other:?}"),
        }
    }

    #[test]
    fn spellings_of_an_email_share_a_person_but_not_an_absence() {
        let workspace = workspace(0, EmailCase::Insensitive);
        let (one, other) = (keys(&workspace, "Ada@x.org"), keys(&workspace, "ada@X.org"));
        assert_eq!(one.person(), other.person());
        assert_ne!(one.spelled(), other.spelled());
        assert_eq!(keys(&workspace, "ada@x.org").spelled(), one.person());
    }

    #[test]
    fn folding_can_be_turned_off_and_never_touches_external_ids() {
        let exact = workspace(0, EmailCase::Exact);
        assert_ne!(
            keys(&exact, "Ada@x.org").person(),
            keys(&exact, "ada@x.org").person()
        );
        let folding = workspace(0, EmailCase::Insensitive);
        assert_ne!(
            keys(&folding, "Ada").person(),
            keys(&folding, "ada").person()
        );
        assert_ne!(
            keys(&folding, "a@b@C").person(),
            keys(&folding, "a@b@c").person()
        );
    }

    #[test]
    fn an_external_id_that_looks_like_a_uuid_is_not_that_uuid() {
        let workspace = workspace(0, EmailCase::Insensitive);
        assert!(workspace.recognises("ws_1"));
        let by_uuid = PersonRef::from_uuid("ws_1", UUID).expect("a usable uuid");
        let Place::Own(by_uuid) = workspace.place(&by_uuid) else {
            unreachable!("the workspace knows its id")
        };
        assert_ne!(by_uuid.person(), keys(&workspace, UUID).person());
    }

    #[test]
    fn the_long_form_is_own_unproven_or_foreign() {
        let workspace = workspace(0, EmailCase::Insensitive);
        let person = PersonRef::from_uuid("ws_1", UUID).expect("a usable uuid");
        let other = PersonRef::from_uuid("ws_2", UUID).expect("a usable uuid");
        let flight = |person| match workspace.place(person) {
            Place::Unproven { flight, .. } => flight,
            place => unreachable!("nothing is learned yet: {place:?}"),
        };
        assert_ne!(flight(&person), flight(&other));
        assert!(workspace.recognises("ws_1"));
        assert!(!workspace.recognises("ws_2"));
        assert!(matches!(workspace.place(&person), Place::Own(_)));
        assert!(matches!(workspace.place(&other), Place::Foreign(_)));
    }

    #[test]
    fn workspaces_may_be_one_until_the_ids_of_both_are_known() {
        let of = |index| workspace(index, EmailCase::Insensitive);
        let (one, same, other) = (of(0), of(1), of(2));
        assert!(one.is_same_as(&one) && !one.is_same_as(&same));
        assert!(one.recognises("ws_1") && one.may_be_same_as(&same) && same.may_be_same_as(&one));
        assert!(same.recognises("ws_1") && other.recognises("ws_2"));
        assert!(one.is_same_as(&same) && one.may_be_same_as(&same));
        assert!(!one.is_same_as(&other) && !one.may_be_same_as(&other));
    }

    proptest! {
        #[test]
        fn distinct_people_never_share_a_key(
            (one_index, one) in (0u32..3, "[a-cA-C@ .]{1,5}"),
            (other_index, other) in (0u32..3, "[a-cA-C@ .]{1,5}"),
        ) {
            let id = |text: &str| {
                let segment = text.replace(' ', "%20");
                PersonRef::from_id(&segment).ok().map(PersonRef::into_owned)
            };
            if let (Some(one), Some(other)) = (id(&one), id(&other)) {
                let place = |index, person| match workspace(index, EmailCase::Exact).place(person) {
                    Place::Own(keys) => keys,
                    place => unreachable!("{place:?}"),
                };
                let same = one_index == other_index && one == other;
                let (one, other) = (place(one_index, &one), place(other_index, &other));
                prop_assert_eq!(one.person() == other.person(), same);
                prop_assert_eq!(one.spelled() == other.spelled(), same);
            }
        }
    }
}
