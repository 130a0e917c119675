//! The people of one workspace: generated ones, and an overlay of what changed since the start.
//!
//! A person is found by number. Generated people are `1..=count`; created ones get the numbers after
//! that, so one bijection serves the UUIDs of both. The overlay holds every person that was changed,
//! created or deleted, with its own indexes; whatever it does not mention is generated afresh.
//!
//! # Invariants
//! - A person in the overlay is reached through the overlay's indexes only, never by inverting a
//!   generated identifier: an email it gave up leads nowhere.
//! - An external id wins over an equal email (the docs leave this open).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};
use uuid::Uuid;

mod generate;
mod person;

pub(in crate::sandbox) use generate::{mix, rfc3339};
pub(in crate::sandbox) use person::Person;
pub use person::Shape;

use crate::clock::Clock;
use generate::Generator;

/// How many generated people a free-text search or a status filter looks through.
///
/// A table of all of them would have to be built for more; direct hits by id or email reach all.
const SEARCHED: u64 = 10_000;

/// A handle on the people of one workspace; clones share the same people.
#[derive(Clone, Debug)]
pub struct People(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    generator: Generator,
    count: u64,
    shape: Shape,
    email_case_sensitive: bool,
    clock: Clock,
    /// Held through a whole change that first looks people up, so that two never make the same one.
    turn: Mutex<()>,
    /// Held for the length of one look-up or change, never across an await; taken after `turn`.
    overlay: Mutex<Overlay>,
}

#[derive(Debug)]
struct Overlay {
    /// `None` marks a deleted person.
    changed: BTreeMap<u64, Option<Person>>,
    by_external_id: HashMap<String, u64>,
    /// Keys are folded as the emails of the workspace are.
    by_email: HashMap<String, u64>,
    next: u64,
}

/// Traits of the people of a workspace.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Settings {
    pub(in crate::sandbox) seed: u64,
    pub(in crate::sandbox) count: u64,
    pub(in crate::sandbox) shape: Shape,
    pub(in crate::sandbox) email_case_sensitive: bool,
    pub(in crate::sandbox) clock: Clock,
}

/// Which people a list or a search asks for.
#[derive(Clone, Debug, Default)]
pub(in crate::sandbox) struct Filter {
    pub(in crate::sandbox) status: Option<String>,
    pub(in crate::sandbox) text: Option<String>,
}

impl People {
    pub(in crate::sandbox) fn new(settings: Settings, workspace: &str) -> Self {
        Self(Arc::new(Inner {
            generator: Generator::new(settings.seed, workspace),
            count: settings.count,
            shape: settings.shape,
            email_case_sensitive: settings.email_case_sensitive,
            clock: settings.clock,
            turn: Mutex::new(()),
            overlay: Mutex::new(Overlay {
                changed: BTreeMap::new(),
                by_external_id: HashMap::new(),
                by_email: HashMap::new(),
                next: settings.count + 1,
            }),
        }))
    }

    /// The body answered for this external id, byte for byte.
    pub fn body_by_external_id(&self, id: &str) -> Option<Bytes> {
        let overlay = self.0.overlay.lock();
        let person = self.0.by_external_id(&overlay, id)?.1;
        Some(person.body(self.0.shape))
    }

    /// The body answered for this email, byte for byte.
    pub fn body_by_email(&self, email: &str) -> Option<Bytes> {
        let overlay = self.0.overlay.lock();
        let person = self.0.by_email(&overlay, email)?.1;
        Some(person.body(self.0.shape))
    }

    /// The body answered for this UUID (hyphenated text, any case), byte for byte.
    pub fn body_by_uuid(&self, uuid: &str) -> Option<Bytes> {
        self.by_uuid(uuid).map(|(_, person)| self.render(&person))
    }

    /// One field of the person with this external id, as the reference shape has it.
    pub fn field(&self, external_id: &str, name: &str) -> Option<Value> {
        let overlay = self.0.overlay.lock();
        let person = self.0.by_external_id(&overlay, external_id)?.1;
        person.get(name).cloned()
    }

    /// The UUID of the person with this external id.
    pub fn uuid(&self, external_id: &str) -> Option<String> {
        let id = self.field(external_id, "id")?;
        id.as_str().map(str::to_owned)
    }

    /// The email of the person with this external id.
    pub fn email(&self, external_id: &str) -> Option<String> {
        let email = self.field(external_id, "email")?;
        email.as_str().map(str::to_owned)
    }

    /// Sets any fields of a person behind the API's back, making the person if need be, and returns
    /// its new body. `updated_at` moves unless it is among the fields.
    pub fn upsert(&self, external_id: &str, fields: &Map<String, Value>) -> Bytes {
        let _turn = self.turn();
        let mut overlay = self.0.overlay.lock();
        let found = self.0.by_external_id(&overlay, external_id);
        let (index, mut person) = found.unwrap_or_else(|| self.0.blank(&mut overlay, external_id));
        person.set("updated_at", self.0.now());
        for (name, value) in fields {
            person.set(name, value.clone());
        }
        let body = person.body(self.0.shape);
        self.0.replace(&mut overlay, index, Some(person));
        body
    }

    /// Sets one field, as [`Self::upsert`] does.
    pub fn set(&self, external_id: &str, name: &str, value: impl Into<Value>) -> Bytes {
        self.upsert(
            external_id,
            &Map::from_iter([(name.to_owned(), value.into())]),
        )
    }

    /// Deletes a person behind the API's back; false if there was none.
    pub fn delete(&self, external_id: &str) -> bool {
        let _turn = self.turn();
        let mut overlay = self.0.overlay.lock();
        let Some((index, _)) = self.0.by_external_id(&overlay, external_id) else {
            return false;
        };
        self.0.replace(&mut overlay, index, None);
        true
    }

    /// How many people there are.
    pub fn total(&self) -> u64 {
        let overlay = self.0.overlay.lock();
        let deleted = overlay.changed.values().filter(|person| person.is_none());
        overlay.next - 1 - deleted.count() as u64
    }

    /// How many people are held in memory: those changed, created or deleted since the start.
    pub fn held(&self) -> usize {
        self.0.overlay.lock().changed.len()
    }

    /// The workspace these people belong to.
    pub fn workspace(&self) -> &str {
        self.0.generator.workspace()
    }
}

/// What the API's handlers need.
impl People {
    pub(in crate::sandbox) fn render(&self, person: &Person) -> Bytes {
        person.body(self.0.shape)
    }

    pub(in crate::sandbox) fn now(&self) -> String {
        self.0.now()
    }

    /// Keeps other changes out until it is dropped.
    pub(in crate::sandbox) fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock()
    }

    /// Finds by external id, then by email.
    pub(in crate::sandbox) fn by_name(&self, name: &str) -> Option<(u64, Person)> {
        let overlay = self.0.overlay.lock();
        let by_id = self.0.by_external_id(&overlay, name);
        by_id.or_else(|| self.0.by_email(&overlay, name))
    }

    pub(in crate::sandbox) fn by_external_id(&self, id: &str) -> Option<(u64, Person)> {
        self.0.by_external_id(&self.0.overlay.lock(), id)
    }

    pub(in crate::sandbox) fn by_email(&self, email: &str) -> Option<(u64, Person)> {
        self.0.by_email(&self.0.overlay.lock(), email)
    }

    pub(in crate::sandbox) fn by_uuid(&self, uuid: &str) -> Option<(u64, Person)> {
        // `Hyphenated` alone: the general parser also takes braces, `urn:uuid:` and bare digits.
        let uuid: uuid::fmt::Hyphenated = uuid.parse().ok()?;
        let index = self.0.generator.index_of_uuid(Uuid::from(uuid))?;
        let person = self.0.numbered(&self.0.overlay.lock(), index)?;
        Some((index, person))
    }

    /// A person that is not kept before [`Self::replace`] is told its number.
    pub(in crate::sandbox) fn blank(&self, external_id: &str) -> (u64, Person) {
        self.0.blank(&mut self.0.overlay.lock(), external_id)
    }

    /// Puts a changed person in its place and moves its `updated_at`; `None` deletes.
    pub(in crate::sandbox) fn replace(&self, index: u64, person: Option<Person>) -> Option<Person> {
        let person = person.map(|mut person| {
            person.set("updated_at", self.0.now());
            person
        });
        let mut overlay = self.0.overlay.lock();
        self.0.replace(&mut overlay, index, person.clone());
        person
    }

    /// A page of the people that pass the filter, in order of their numbers, and how many pass.
    pub(in crate::sandbox) fn page(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> (Vec<Person>, u64) {
        if filter.status.is_none() && filter.text.is_none() {
            return (self.plain_page(offset, limit), self.total());
        }
        let overlay = self.0.overlay.lock();
        let scanned = self.0.count.min(SEARCHED);
        let direct = filter.text.as_deref().and_then(|text| {
            let found = self.0.by_external_id(&overlay, text);
            found.or_else(|| self.0.by_email(&overlay, text))
        });
        let direct = direct.filter(|(index, _)| *index > scanned && *index <= self.0.count);
        let created = self.0.count + 1..overlay.next;
        let candidates = (1..=scanned).chain(created);
        let scanned = candidates.filter_map(|index| self.0.numbered(&overlay, index));
        let all = scanned.chain(direct.map(|(_, person)| person));
        let passing: Vec<Person> = all.filter(|person| filter.passes(person)).collect();
        let total = passing.len() as u64;
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        (
            passing.into_iter().skip(skipped).take(limit).collect(),
            total,
        )
    }

    fn plain_page(&self, offset: u64, limit: usize) -> Vec<Person> {
        let overlay = self.0.overlay.lock();
        // Each deleted person before the page moves its first number up by one.
        let mut first = offset.saturating_add(1);
        for (index, person) in &overlay.changed {
            if *index <= first && person.is_none() {
                first = first.saturating_add(1);
            }
        }
        let numbers = first..overlay.next;
        let people = numbers.filter_map(|index| self.0.numbered(&overlay, index));
        people.take(limit).collect()
    }
}

impl Inner {
    fn now(&self) -> String {
        let since = self.clock.wall().duration_since(UNIX_EPOCH);
        rfc3339(since.unwrap_or_default().as_secs())
    }

    fn fold(&self, email: &str) -> String {
        if self.email_case_sensitive {
            email.to_owned()
        } else {
            email.to_lowercase()
        }
    }

    fn numbered(&self, overlay: &Overlay, index: u64) -> Option<Person> {
        match overlay.changed.get(&index) {
            Some(changed) => changed.clone(),
            None => (1..=self.count)
                .contains(&index)
                .then(|| self.generator.person(index)),
        }
    }

    fn by_external_id(&self, overlay: &Overlay, id: &str) -> Option<(u64, Person)> {
        if let Some(index) = overlay.by_external_id.get(id) {
            return Some((*index, self.numbered(overlay, *index)?));
        }
        self.untouched(overlay, Generator::index_of_external_id(id)?)
    }

    fn by_email(&self, overlay: &Overlay, email: &str) -> Option<(u64, Person)> {
        let folded = self.fold(email);
        if let Some(index) = overlay.by_email.get(&folded) {
            return Some((*index, self.numbered(overlay, *index)?));
        }
        self.untouched(overlay, self.generator.index_of_email(&folded)?)
    }

    /// A generated person, unless the overlay knows better.
    fn untouched(&self, overlay: &Overlay, index: u64) -> Option<(u64, Person)> {
        if overlay.changed.contains_key(&index) || !(1..=self.count).contains(&index) {
            return None;
        }
        Some((index, self.generator.person(index)))
    }

    fn blank(&self, overlay: &mut Overlay, external_id: &str) -> (u64, Person) {
        let index = overlay.next;
        overlay.next += 1;
        // A number is taken at once; until the person is put in place it counts as deleted.
        overlay.changed.insert(index, None);
        let mut person = Person::default();
        person.set("id", self.generator.uuid(index).hyphenated().to_string());
        person.set("workspace_id", self.generator.workspace());
        person.set("external_id", external_id);
        for name in [
            "email",
            "phone",
            "first_name",
            "last_name",
            "avatar_url",
            "timezone",
            "locale",
        ] {
            person.set(name, Value::Null);
        }
        person.set("status", "active");
        person.set("attributes", Map::new());
        for name in ["created_at", "updated_at", "first_seen_at", "last_seen_at"] {
            person.set(name, self.now());
        }
        (index, person)
    }

    fn replace(&self, overlay: &mut Overlay, index: u64, person: Option<Person>) {
        if let Some(Some(old)) = overlay.changed.get(&index) {
            let id = old.text("external_id").unwrap_or_default();
            let email = self.fold(old.text("email").unwrap_or_default());
            // Another person may have taken the name over since.
            if overlay.by_external_id.get(id) == Some(&index) {
                overlay.by_external_id.remove(id);
            }
            if overlay.by_email.get(&email) == Some(&index) {
                overlay.by_email.remove(&email);
            }
        }
        if let Some(person) = &person {
            if let Some(id) = person.text("external_id") {
                overlay.by_external_id.insert(id.to_owned(), index);
            }
            if let Some(email) = person.text("email") {
                overlay.by_email.insert(self.fold(email), index);
            }
        }
        overlay.changed.insert(index, person);
    }
}

impl Filter {
    fn passes(&self, person: &Person) -> bool {
        let status = self.status.as_deref();
        let text = self.text.as_deref().map(str::to_lowercase);
        status.is_none_or(|status| person.text("status") == Some(status))
            && text.is_none_or(|text| {
                let fields = ["external_id", "email", "first_name", "last_name", "phone"];
                let mut values = fields.iter().filter_map(|name| person.text(name));
                values.any(|value| value.to_lowercase().contains(&text))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn people(count: u64) -> (People, crate::clock::Hand) {
        let (clock, hand) = Clock::manual();
        let settings = Settings {
            seed: 1,
            count,
            shape: Shape::Reference,
            email_case_sensitive: false,
            clock,
        };
        (People::new(settings, "ws_demo0001"), hand)
    }

    #[test]
    fn ten_million_people_hold_nothing_and_can_all_be_found() {
        let (people, _hand) = people(10_000_000);
        let body = people.body_by_external_id("user_9999999").expect("exists");
        let uuid = people.uuid("user_9999999").expect("has an id");
        let email = people.email("user_9999999").expect("has an email");
        assert_eq!(people.body_by_uuid(&uuid), Some(body.clone()));
        assert_eq!(people.body_by_email(&email), Some(body));
        assert_eq!(people.body_by_external_id("user_10000001"), None);
        assert_eq!((people.total(), people.held()), (10_000_000, 0));
    }

    #[test]
    fn a_given_up_email_leads_nowhere_and_the_new_one_to_the_person() {
        let (people, _hand) = people(10);
        let old = people.email("user_1").expect("has an email");
        let body = people.set("user_1", "email", "new@example.org");
        assert_eq!(people.body_by_email(&old), None);
        assert_eq!(people.body_by_email("NEW@example.org"), Some(body));
    }

    #[test]
    fn an_external_id_wins_over_an_equal_email() {
        let (people, _hand) = people(10);
        let email = people.email("user_1").expect("has an email");
        people.set(&email, "first_name", "Twin");
        let (_, person) = people.by_name(&email).expect("exists");
        assert_eq!(person.text("first_name"), Some("Twin"));
        assert!(people.body_by_email(&email).is_some());
    }

    #[test]
    fn a_change_moves_updated_at_and_nothing_else_does() {
        let (people, hand) = people(10);
        let first = people.set("user_1", "phone", "1");
        hand.advance(Duration::from_secs(5));
        assert_eq!(people.body_by_external_id("user_1"), Some(first.clone()));
        assert_ne!(people.set("user_1", "phone", "1"), first);
    }

    #[test]
    fn a_deleted_person_is_gone_under_all_names_and_comes_back_as_another() {
        let (people, _hand) = people(10);
        let uuid = people.uuid("user_3").expect("has an id");
        assert!(people.delete("user_3"));
        assert!(!people.delete("user_3"));
        assert_eq!(people.body_by_uuid(&uuid), None);
        assert_eq!(people.total(), 9);
        people.set("user_3", "phone", "1");
        assert_ne!(people.uuid("user_3"), Some(uuid));
    }

    #[test]
    fn pages_skip_the_deleted_and_end_with_the_created() {
        let (people, _hand) = people(5);
        people.delete("user_2");
        people.delete("user_3");
        people.set("new", "status", "bounced");
        let ids = |offset, limit| {
            let (page, total) = people.page(&Filter::default(), offset, limit);
            assert_eq!(total, 4);
            let ids = page.iter().filter_map(|person| person.text("external_id"));
            ids.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ids(0, 2), ["user_1", "user_4"]);
        assert_eq!(ids(1, 9), ["user_4", "user_5", "new"]);
        assert_eq!(ids(u64::MAX, 9), Vec::<String>::new());
    }

    #[test]
    fn filters_look_at_status_and_text() {
        let (people, _hand) = people(20_000);
        let fields = json!({"first_name": "Zaphod", "status": "bounced"});
        people.upsert("z", fields.as_object().expect("an object"));
        let text = Filter {
            text: Some("zAPH".to_owned()),
            status: Some("bounced".to_owned()),
        };
        assert_eq!(people.page(&text, 0, 10).1, 1);
        let far = Filter {
            text: Some("user_19999".to_owned()),
            status: None,
        };
        assert_eq!(people.page(&far, 0, 10).1, 1);
    }
}
