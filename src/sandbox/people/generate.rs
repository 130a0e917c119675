//! People made up from a seed, each by its number alone.
//!
//! Nothing is built ahead: every identifier can be turned back into the number it was made from, so
//! ten million people cost as much to start with as ten.
//!
//! # Invariants
//! - `index_of_*` inverts the identifier it is named after and refuses all other text.
//! - A number gives the same person under the same seed and workspace, byte for byte.

use serde_json::json;
use uuid::Uuid;

use super::Person;

const FIRST_NAMES: [&str; 16] = [
    "Ada",
    "Alan",
    "Barbara",
    "Claude",
    "Donald",
    "Edsger",
    "Frances",
    "Grace",
    "Hedy",
    "John",
    "Katherine",
    "Leslie",
    "Margaret",
    "Niklaus",
    "Radia",
    "Tim",
];
const LAST_NAMES: [&str; 16] = [
    "Lovelace", "Turing", "Liskov", "Shannon", "Knuth", "Dijkstra", "Allen", "Hopper", "Lamarr",
    "Backus", "Johnson", "Lamport", "Hamilton", "Wirth", "Perlman", "Lee",
];
const PLACES: [(&str, &str); 6] = [
    ("Europe/Berlin", "de-DE"),
    ("Europe/London", "en-GB"),
    ("America/New_York", "en-US"),
    ("America/Sao_Paulo", "pt-BR"),
    ("Asia/Tokyo", "ja-JP"),
    ("Africa/Nairobi", "sw-KE"),
];
const PLANS: [&str; 3] = ["free", "team", "enterprise"];

/// 2024-01-01T00:00:00Z, before which nobody was created.
const EPOCH_S: u64 = 1_704_067_200;
const YEAR_S: u64 = 365 * 86_400;

/// Makes the people of one workspace.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Generator {
    seed: u64,
    workspace: String,
}

impl Generator {
    /// People differ between workspaces although their external ids are the same.
    pub(in crate::sandbox) fn new(seed: u64, workspace: &str) -> Self {
        let salted = workspace
            .bytes()
            .fold(mix(seed), |sum, byte| mix(sum ^ u64::from(byte)));
        Self {
            seed: salted,
            workspace: workspace.to_owned(),
        }
    }

    pub(in crate::sandbox) fn workspace(&self) -> &str {
        &self.workspace
    }

    pub(in crate::sandbox) fn external_id(index: u64) -> String {
        format!("user_{index}")
    }

    pub(in crate::sandbox) fn index_of_external_id(id: &str) -> Option<u64> {
        let index = id.strip_prefix("user_")?.parse().ok()?;
        (Self::external_id(index) == id).then_some(index)
    }

    pub(in crate::sandbox) fn email(&self, index: u64) -> String {
        let (first, last) = self.names(index);
        format!("{first}.{last}.{index}@example.com").to_ascii_lowercase()
    }

    /// Inverts [`Self::email`]; the text must be spelled as it was made.
    pub(in crate::sandbox) fn index_of_email(&self, email: &str) -> Option<u64> {
        let local = email.strip_suffix("@example.com")?;
        let index = local.rsplit_once('.')?.1.parse().ok()?;
        (self.email(index) == email).then_some(index)
    }

    /// Hides the number in the free bits of a version 4 UUID: 64 bits carry it, 58 check it.
    pub(in crate::sandbox) fn uuid(&self, index: u64) -> Uuid {
        let hidden = self.hide(index);
        let check = self.check(hidden);
        let high = ((hidden >> 12) << 16) | 0x4000 | (hidden & 0x0FFF);
        let low = (1 << 63) | ((hidden >> 60) << 58) | check;
        Uuid::from_u64_pair(high, low)
    }

    pub(in crate::sandbox) fn index_of_uuid(&self, uuid: Uuid) -> Option<u64> {
        let (high, low) = uuid.as_u64_pair();
        let hidden = ((high >> 16) << 12) | (high & 0x0FFF) | (((low >> 58) & 0xF) << 60);
        let index = self.reveal(hidden);
        (self.uuid(index) == uuid).then_some(index)
    }

    pub(in crate::sandbox) fn status(&self, index: u64) -> &'static str {
        match self.draw(index, "status") % 20 {
            0 => "bounced",
            1 | 2 => "unsubscribed",
            _ => "active",
        }
    }

    /// The whole person as it was before anything changed it.
    pub(in crate::sandbox) fn person(&self, index: u64) -> Person {
        let (first, last) = self.names(index);
        let (timezone, locale) = PLACES[pick(self.draw(index, "place"), PLACES.len())];
        let created = EPOCH_S + self.draw(index, "created") % YEAR_S;
        let updated = created + self.draw(index, "updated") % YEAR_S;
        let seen = updated + self.draw(index, "seen") % (YEAR_S / 12);
        let mut person = Person::default();
        person.set("id", self.uuid(index).hyphenated().to_string());
        person.set("workspace_id", self.workspace.as_str());
        person.set("external_id", Self::external_id(index));
        person.set("email", self.email(index));
        person.set(
            "phone",
            format!("+1-555-{:04}", self.draw(index, "phone") % 10_000),
        );
        person.set("first_name", first);
        person.set("last_name", last);
        person.set(
            "avatar_url",
            format!("https://cdn.example.com/a/{index}.png"),
        );
        person.set("timezone", timezone);
        person.set("locale", locale);
        person.set("status", self.status(index));
        person.set("attributes", self.attributes(index));
        person.set("created_at", rfc3339(created));
        person.set("updated_at", rfc3339(updated));
        person.set("first_seen_at", rfc3339(created));
        person.set("last_seen_at", rfc3339(seen));
        person
    }

    fn attributes(&self, index: u64) -> serde_json::Value {
        json!({
            "plan": PLANS[pick(self.draw(index, "plan"), PLANS.len())],
            "seats": self.draw(index, "seats") % 50 + 1,
            "newsletter": self.draw(index, "newsletter").is_multiple_of(2),
            "company": {
                "name": format!("{} & Co", LAST_NAMES[pick(self.draw(index, "company"), LAST_NAMES.len())]),
                "size": self.draw(index, "size") % 900 + 1,
            },
        })
    }

    fn names(&self, index: u64) -> (&'static str, &'static str) {
        let first = FIRST_NAMES[pick(self.draw(index, "first"), FIRST_NAMES.len())];
        let last = LAST_NAMES[pick(self.draw(index, "last"), LAST_NAMES.len())];
        (first, last)
    }

    /// A number that depends on the seed, the person and what it is for, and on nothing else.
    fn draw(&self, index: u64, purpose: &str) -> u64 {
        let start = mix(self.seed ^ mix(index));
        purpose
            .bytes()
            .fold(start, |sum, byte| mix(sum ^ u64::from(byte)))
    }

    /// Four Feistel rounds: a bijection of 64 bits whatever the round function is.
    fn hide(&self, index: u64) -> u64 {
        let (mut left, mut right) = halves(index);
        for round in 0..4 {
            (left, right) = (right, left ^ self.round(right, round));
        }
        join(left, right)
    }

    fn reveal(&self, hidden: u64) -> u64 {
        let (mut left, mut right) = halves(hidden);
        for round in (0..4).rev() {
            (left, right) = (right ^ self.round(left, round), left);
        }
        join(left, right)
    }

    fn round(&self, half: u32, round: u64) -> u32 {
        halves(mix(self.seed ^ mix((u64::from(half) << 2) | round))).0
    }

    fn check(&self, hidden: u64) -> u64 {
        mix(hidden ^ mix(!self.seed)) >> 6
    }
}

/// Text of a moment in whole seconds, as the docs write them: `2024-12-25T10:00:00Z`.
pub(in crate::sandbox) fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or(jiff::Timestamp::MAX)
        .to_string()
}

/// The finalizer of `SplitMix64`: each output bit depends on each input bit.
pub(in crate::sandbox) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

fn pick(draw: u64, choices: usize) -> usize {
    usize::try_from(draw % choices as u64).unwrap_or(0)
}

fn halves(value: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits).expect("half of 64 bits is 32 bits");
    (half(value >> 32), half(value & u64::from(u32::MAX)))
}

fn join(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Shape;
    use super::*;

    proptest! {
        #[test]
        fn every_identifier_leads_back_to_its_number(seed: u64, index: u64) {
            let people = Generator::new(seed, "ws_demo0001");
            prop_assert_eq!(people.index_of_uuid(people.uuid(index)), Some(index));
            prop_assert_eq!(people.index_of_email(&people.email(index)), Some(index));
            let id = Generator::external_id(index);
            prop_assert_eq!(Generator::index_of_external_id(&id), Some(index));
        }

        #[test]
        fn ids_look_like_random_uuids_and_made_up_ones_lead_nowhere(index: u64, other: u128) {
            let people = Generator::new(1, "ws_demo0001");
            let uuid = people.uuid(index);
            prop_assert_eq!(uuid.get_version_num(), 4);
            prop_assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(people.index_of_uuid(Uuid::from_u128(other)), None);
        }

        #[test]
        fn any_text_can_be_asked_for(text: String) {
            let people = Generator::new(1, "ws_demo0001");
            prop_assert_eq!(people.index_of_email(&text), None);
            prop_assert_eq!(Generator::index_of_external_id(&text), None);
        }
    }

    #[test]
    fn only_the_plain_spelling_of_a_number_is_an_external_id() {
        assert_eq!(Generator::index_of_external_id("user_17"), Some(17));
        for text in ["user_017", "user_+17", "User_17", "user_", "user_17 "] {
            assert_eq!(Generator::index_of_external_id(text), None, "{text}");
        }
    }

    #[test]
    fn a_body_is_about_560_bytes_and_always_the_same() {
        let people = Generator::new(1, "ws_demo0001");
        for index in [1, 17, 99_999] {
            let body = people.person(index).body(Shape::Reference);
            assert!(
                (520..=600).contains(&body.len()),
                "{}: {body:?}",
                body.len()
            );
            assert_eq!(people.person(index).body(Shape::Reference), body);
        }
    }

    #[test]
    fn workspaces_and_seeds_have_other_people() {
        let one = Generator::new(1, "ws_a");
        for other in [Generator::new(1, "ws_b"), Generator::new(2, "ws_a")] {
            assert_ne!(one.uuid(1), other.uuid(1));
            assert_eq!(other.index_of_uuid(one.uuid(1)), None);
        }
    }
}
