//! The people endpoints: what each operation does and answers.
//!
//! # Specification
//! Flameup docs (get-people-id, get-people, get-workspaces-workspaceid-people-search, post-people,
//! post-people-batch, post-workspaces-workspaceid-people-upsert, put-people-id, people). Where they
//! are silent:
//! - create matches by `userId` alone and updates a known one; an email that belongs to somebody else
//!   is a 409 in shape A. Upsert and batch match by `userId`, then by email.
//! - update may change `email`, `phone` and `userId` besides merging traits.
//! - delete answers 204, and the person is gone at once.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::errors::{self, ErrorShape};
use super::messages;
use super::people::{Filter, People, Person};
use super::route::{Route, Who, parameter};

const MOST_PER_PAGE: usize = 100;
const DEFAULT_PER_PAGE: usize = 20;
const MOST_PER_BATCH: usize = 100;

/// Longest accepted values in characters (people).
const LENGTHS: [(&str, usize); 3] = [("userId", 255), ("email", 254), ("phone", 50)];

/// One authenticated request, ready to be answered.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) people: &'a People,
    pub(super) route: &'a Route,
    pub(super) query: Option<&'a str>,
    pub(super) body: &'a [u8],
    pub(super) not_found: ErrorShape,
    pub(super) arrival: u64,
}

impl Call<'_> {
    pub(super) fn answer(&self) -> Answer {
        let answered = match self.route {
            Route::List => self.list(),
            Route::Search => Ok(self.search()),
            Route::Read(who) => self.read(who),
            Route::Create | Route::Upsert | Route::Batch | Route::Update(_) | Route::Delete(_) => {
                self.change()
            }
            other => messages::answer(self, other),
        };
        answered.unwrap_or_else(|refusal| refusal)
    }

    fn change(&self) -> Result<Answer, Answer> {
        let _turn = self.people.turn();
        match self.route {
            Route::Create => self.create(),
            Route::Upsert => self.upsert(),
            Route::Batch => self.batch(),
            Route::Update(who) => self.update(who),
            Route::Delete(who) => self.delete(who),
            _ => Err(errors::not_found(self.not_found, self.arrival)),
        }
    }

    /// The body as a JSON object; 400 in shape A if it is none.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Answer> {
        serde_json::from_slice(self.body).map_err(|_| self.bad("The body is not a JSON object"))
    }

    pub(super) fn bad(&self, message: &str) -> Answer {
        ErrorShape::A.answer(StatusCode::BAD_REQUEST, message, self.arrival)
    }

    pub(super) fn find(&self, who: &Who) -> Result<(u64, Person), Answer> {
        let found = match who {
            Who::Name(name) => self.people.by_name(name),
            Who::Uuid(uuid) => self.people.by_uuid(uuid),
        };
        found.ok_or_else(|| errors::not_found(self.not_found, self.arrival))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Answer> {
        let Some(text) = parameter(self.query, name) else {
            return Ok(None);
        };
        let number = text.parse().map(Some);
        number.map_err(|_| self.bad(&format!("{name} is not a whole number")))
    }

    fn limit(&self) -> Result<usize, Answer> {
        let asked = self
            .number("limit")?
            .and_then(|limit| usize::try_from(limit).ok());
        Ok(asked.unwrap_or(DEFAULT_PER_PAGE).min(MOST_PER_PAGE))
    }

    fn read(&self, who: &Who) -> Result<Answer, Answer> {
        let (_, person) = self.find(who)?;
        Ok(Answer::json(StatusCode::OK, self.people.render(&person)))
    }

    fn list(&self) -> Result<Answer, Answer> {
        let (limit, offset) = (self.limit()?, self.number("offset")?.unwrap_or(0));
        let filter = Filter {
            status: parameter(self.query, "status"),
            text: parameter(self.query, "search"),
        };
        let (people, total) = self.people.page(&filter, offset, limit);
        let tail = format!(r#","total":{total},"limit":{limit},"offset":{offset}"#);
        Ok(self.several(StatusCode::OK, &people, &tail))
    }

    fn search(&self) -> Answer {
        let limit = self.limit().unwrap_or(DEFAULT_PER_PAGE);
        let asked = |name| parameter(self.query, name);
        let exact = match (asked("external_id"), asked("email")) {
            (Some(id), _) => Some(self.people.by_external_id(&id)),
            (None, Some(email)) => Some(self.people.by_email(&email)),
            (None, None) => None,
        };
        let people = if let Some(found) = exact {
            found.map(|(_, person)| person).into_iter().collect()
        } else {
            let filter = Filter {
                status: None,
                text: asked("q"),
            };
            self.people.page(&filter, 0, limit).0
        };
        self.several(StatusCode::OK, &people, "")
    }

    /// `{"people":[...]}` with each person byte for byte as a read answers it.
    fn several(&self, status: StatusCode, people: &[Person], tail: &str) -> Answer {
        let mut body = br#"{"people":["#.to_vec();
        for (position, person) in people.iter().enumerate() {
            if position > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&self.people.render(person));
        }
        body.push(b']');
        body.extend_from_slice(tail.as_bytes());
        body.push(b'}');
        Answer::json(status, Bytes::from(body))
    }

    fn create(&self) -> Result<Answer, Answer> {
        let wish = self.object()?;
        check(&wish, Required::Id)?;
        let id = text(&wish, "userId").unwrap_or_default();
        let known = self.people.by_external_id(id);
        let status = if known.is_some() {
            StatusCode::OK
        } else {
            StatusCode::CREATED
        };
        let person = self.write(known, &wish)?;
        Ok(Answer::json(status, self.people.render(&person)))
    }

    fn upsert(&self) -> Result<Answer, Answer> {
        let wish = self.object()?;
        check(&wish, Required::IdOrEmail)?;
        self.write(self.match_wish(&wish), &wish)?;
        Ok(Answer::value(StatusCode::OK, &json!({})))
    }

    fn batch(&self) -> Result<Answer, Answer> {
        #[derive(Deserialize)]
        struct Batch {
            people: Vec<Map<String, Value>>,
        }
        let Ok(Batch { people: wishes }) = serde_json::from_slice(self.body) else {
            return Err(self.bad("The body is not {\"people\":[{...}]}"));
        };
        if wishes.len() > MOST_PER_BATCH {
            return Err(self.bad("At most 100 people per batch"));
        }
        // All are checked before the first is written.
        for wish in &wishes {
            check(wish, Required::Id)?;
        }
        self.write_all(&wishes)
    }

    fn write_all(&self, wishes: &[Map<String, Value>]) -> Result<Answer, Answer> {
        let (mut people, mut updated) = (Vec::new(), 0);
        for wish in wishes {
            let known = self.match_wish(wish);
            updated += usize::from(known.is_some());
            people.push(self.write(known, wish)?);
        }
        let created = people.len() - updated;
        let tail = format!(r#","created_count":{created},"updated_count":{updated}"#);
        Ok(self.several(StatusCode::OK, &people, &tail))
    }

    fn update(&self, who: &Who) -> Result<Answer, Answer> {
        let wish = self.object()?;
        check(&wish, Required::Nothing)?;
        let known = self.find(who)?;
        let person = self.write(Some(known), &wish)?;
        Ok(Answer::json(StatusCode::OK, self.people.render(&person)))
    }

    fn delete(&self, who: &Who) -> Result<Answer, Answer> {
        let (index, _) = self.find(who)?;
        self.people.replace(index, None);
        Ok(Answer::empty(StatusCode::NO_CONTENT))
    }

    fn match_wish(&self, wish: &Map<String, Value>) -> Option<(u64, Person)> {
        let by_id = text(wish, "userId").and_then(|id| self.people.by_external_id(id));
        by_id.or_else(|| self.people.by_email(text(wish, "email")?))
    }

    /// Writes what a body wishes into a known person, or into a new one.
    fn write(
        &self,
        known: Option<(u64, Person)>,
        wish: &Map<String, Value>,
    ) -> Result<Person, Answer> {
        self.refuse_taken(known.as_ref().map(|(index, _)| *index), wish)?;
        let id = text(wish, "userId");
        let (index, mut person) =
            known.unwrap_or_else(|| self.people.blank(id.unwrap_or_default()));
        for (given, field) in [
            ("userId", "external_id"),
            ("email", "email"),
            ("phone", "phone"),
        ] {
            // An external id can be exchanged, not taken away.
            let value = wish.get(given);
            if let Some(value) = value.filter(|value| given != "userId" || value.is_string()) {
                person.set(field, value.clone());
            }
        }
        if let Some(Value::Object(traits)) = wish.get("traits") {
            person.merge_traits(traits);
        }
        let written = self.people.replace(index, Some(person));
        Ok(written.unwrap_or_default())
    }

    /// 409 if the wished external id or email belongs to somebody else.
    fn refuse_taken(&self, own: Option<u64>, wish: &Map<String, Value>) -> Result<(), Answer> {
        let by_id = text(wish, "userId").and_then(|id| self.people.by_external_id(id));
        let by_email = text(wish, "email").and_then(|email| self.people.by_email(email));
        let mut owners = by_id.into_iter().chain(by_email);
        if owners.all(|(index, _)| own == Some(index)) {
            return Ok(());
        }
        let message = "A person with this userId or email already exists";
        Err(ErrorShape::A.answer(StatusCode::CONFLICT, message, self.arrival))
    }
}

/// Which names a body must carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Required {
    Id,
    IdOrEmail,
    Nothing,
}

pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

/// 422 if a field is missing, of the wrong type or too long.
fn check(wish: &Map<String, Value>, required: Required) -> Result<(), Answer> {
    let mut wrong = Vec::new();
    for (name, longest) in LENGTHS {
        let fault = match wish.get(name) {
            None | Some(Value::Null) if name == "userId" && required == Required::Id => {
                Some("is required".to_owned())
            }
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => Some("must not be empty".to_owned()),
            Some(Value::String(text)) => (text.chars().count() > longest)
                .then(|| format!("must be at most {longest} characters")),
            Some(_) => Some("must be a string".to_owned()),
        };
        wrong.extend(fault.map(|fault| (name.to_owned(), fault)));
    }
    let nameless = !wish.contains_key("userId") && !wish.contains_key("email");
    if required == Required::IdOrEmail && nameless {
        wrong.push(("userId".to_owned(), "or email is required".to_owned()));
    }
    if wish.get("traits").is_some_and(|traits| !traits.is_object()) {
        wrong.push(("traits".to_owned(), "must be an object".to_owned()));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(errors::invalid(&wrong))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::people::{Settings, Shape};
    use super::*;
    use crate::clock::Clock;

    fn people() -> People {
        let settings = Settings {
            seed: 1,
            count: 10,
            shape: Shape::Reference,
            email_case_sensitive: false,
            clock: Clock::system(),
        };
        People::new(settings, "ws_demo0001")
    }

    fn post(people: &People, route: &Route, body: &str) -> StatusCode {
        let call = Call {
            people,
            route,
            query: None,
            body: body.as_bytes(),
            not_found: ErrorShape::E,
            arrival: 1,
        };
        call.answer().status
    }

    #[test]
    fn creates_of_one_user_at_the_same_moment_make_one_person() {
        let (people, start) = (people(), Barrier::new(4));
        let create = || {
            let mut created = Vec::new();
            for round in 0..200 {
                start.wait();
                let wish = format!(r#"{{"userId":"same{round}"}}"#);
                created.push(post(&people, &Route::Create, &wish) == StatusCode::CREATED);
            }
            created.iter().filter(|&&created| created).count()
        };
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            let counts = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            counts.sum()
        });
        assert_eq!((total, people.total()), (200, 210));
    }

    #[test]
    fn an_external_id_can_be_exchanged_but_not_taken_away() {
        let people = people();
        let update = Route::Update(Who::Name("user_1".to_owned()));
        assert_eq!(post(&people, &update, r#"{"userId":null}"#), StatusCode::OK);
        assert!(people.body_by_external_id("user_1").is_some());
        assert_eq!(
            post(&people, &update, r#"{"userId":"user_2"}"#),
            StatusCode::CONFLICT
        );
        assert_eq!(
            post(&people, &update, r#"{"userId":"new"}"#),
            StatusCode::OK
        );
        assert!(people.body_by_external_id("user_1").is_none());
        assert!(people.body_by_external_id("new").is_some());
    }
}
