//! Plays the steps of a history, and judges what it sees.

use std::cell::RefCell;
use std::rc::Rc;

use flameup_gateway::sandbox::{Fault, FaultKind, Hold, Matcher};
use http::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use super::oracle::{Begun, Oracle};
use super::steps::{Action, EMAILS, Failure, IDS, Operation, Step, Who};
use super::{Answers, Name, World};
use crate::support::metrics::metrics;
use crate::support::{Client, Harness, Response, Setup, long_path, status};

const WORKSPACE: &str = "ws_demo0001";
/// A UUID that nobody has.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A history under way.
pub(super) struct History {
    harness: Rc<Harness>,
    /// Connections that are idle.
    clients: Rc<RefCell<Vec<Client>>>,
    oracle: Oracle,
    world: World,
    now_ms: u64,
    /// All UUIDs that there have been, in order.
    uuids: Vec<String>,
    /// Failures that are still to come, at most.
    failing: bool,
    /// Requests sent to the data plane.
    sent: Rc<RefCell<u64>>,
    versions: u64,
}

/// A request on its way.
struct Pending {
    operation: Operation,
    name: Option<Name>,
    begun: Begun,
    /// The moment before it was sent, and the one that it made.
    before: usize,
    made: Option<usize>,
    excused: bool,
    /// `None` if it broke off.
    answer: JoinHandle<Option<Response>>,
}

impl History {
    pub(super) async fn start(world: World) -> Self {
        let (aliases, case_counts) = (world.aliases, world.case_counts);
        let case = if case_counts { "exact" } else { "insensitive" };
        let setup = Setup::new().config(&format!(
            "cache.ttl = \"20s\"\ncache.stale_while_revalidate = \"30s\"\n\
             cache.stale_if_error = \"60s\"\ncache.aliases = {aliases}\n\
             cache.email_case = \"{case}\"\nanonymous.scopes = [\"*\"]\n\
             anonymous.workspace = \"default\""
        ));
        let setup = setup.sandbox(|mut options| {
            options.email_case_sensitive = case_counts;
            options.people = 0;
            options
        });
        let mut history = Self {
            harness: Rc::new(setup.start().await),
            clients: Rc::default(),
            oracle: Oracle::default(),
            world,
            now_ms: 0,
            uuids: Vec::new(),
            failing: false,
            sent: Rc::default(),
            versions: 0,
        };
        history.note();
        history
    }

    pub(super) async fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Alone(operation) => self.together(&[Action::Start(*operation)], false).await,
            Step::Together(actions) => self.together(actions, true).await,
            Step::Edit(id) => {
                self.edit(*id);
                Ok(())
            }
            Step::Fail(failure, times) => {
                self.failing = true;
                let kind = match failure {
                    Failure::Error => status(500),
                    Failure::Reset => FaultKind::Reset,
                    Failure::Cut => FaultKind::ResetMidBody,
                };
                let applied = !matches!(failure, Failure::Error);
                let fault = Fault::new(kind).times(u32::from(*times)).applied(applied);
                self.harness.flameup.fault(fault);
                Ok(())
            }
            Step::Wait(ms) => {
                self.now_ms += u64::from(*ms);
                self.harness.pass_ms(u64::from(*ms));
                Ok(())
            }
        }
    }

    fn edit(&mut self, id: u8) {
        let id = format!("m{id}");
        if self.harness.flameup.people().uuid(&id).is_some() {
            self.versions += 1;
            let text = format!("edited {}", self.versions);
            self.harness.flameup.people().set(&id, "first_name", text);
            self.note();
        }
    }

    /// Sends requests, lets them go when told to and the rest at the end, and judges each answer.
    async fn together(&mut self, actions: &[Action], holds: bool) -> Result<(), String> {
        let holds = if holds { self.hold() } else { Vec::new() };
        // Who waits for an answer about somebody who is erased meanwhile gets none.
        let erases = |action: &Action| matches!(action, Action::Start(Operation::Erase(_)));
        let excused = self.failing || actions.iter().any(erases);
        let mut pending: Vec<Pending> = Vec::new();
        let mut writes = 0;
        for action in actions {
            match action {
                Action::Start(operation) => {
                    let started = self.send(*operation, excused);
                    writes += usize::from(started.operation.writes());
                    pending.push(started);
                    self.settle(holds.is_empty(), &mut pending).await?;
                    one_fetch_at_a_time(&holds, writes)?;
                }
                Action::Edit(id) => self.edit(*id),
                Action::Release(which) => {
                    let waiting: Vec<_> = holds
                        .iter()
                        .filter(|(_, hold)| hold.waiting() > 0)
                        .collect();
                    if !waiting.is_empty() {
                        waiting[usize::from(*which) % waiting.len()].1.release_one();
                        self.settle(false, &mut pending).await?;
                    }
                }
            }
        }
        for (_, hold) in &holds {
            hold.release();
        }
        self.settle(true, &mut pending).await?;
        if self.failing {
            // What has not failed by now need not.
            self.harness.flameup.clear_faults();
            self.failing = false;
        }
        Ok(())
    }

    /// One hold for each name, and one for what names nobody, so that any can be let go first.
    fn hold(&self) -> Vec<(Option<String>, Hold)> {
        let mut names: Vec<String> = (0..IDS).map(|id| format!("m{id}")).collect();
        for email in 0..EMAILS {
            names.extend([false, true].map(|upper| email_of(email, upper)));
        }
        names.extend(self.uuids.iter().cloned());
        names.push(NOBODY.to_owned());
        let flameup = &self.harness.flameup;
        let hold = |name: String| {
            let hold = flameup.hold(Matcher::id(&name));
            (Some(name), hold)
        };
        let mut holds: Vec<_> = names.into_iter().map(hold).collect();
        holds.push((None, flameup.hold(Matcher::method(Method::POST))));
        holds
    }

    /// Waits until nothing moves any more, or until `all` are answered; judges what has come.
    async fn settle(&mut self, all: bool, pending: &mut Vec<Pending>) -> Result<(), String> {
        for _ in 0..3 {
            let mut client = self.client().await;
            *self.sent.borrow_mut() += 1;
            client.get("/settle").await;
            self.clients.borrow_mut().push(client);
        }
        // One that is on its way alone has made whatever has changed when it is answered.
        let made = self.note();
        if let Some(last) = pending
            .last_mut()
            .filter(|last| !all && last.made.is_none())
        {
            last.made = Some(made);
        }
        let mut left = Vec::new();
        for one in pending.drain(..) {
            if all || one.answer.is_finished() {
                self.judge(one).await?;
            } else {
                left.push(one);
            }
        }
        *pending = left;
        Ok(())
    }

    async fn judge(&mut self, pending: Pending) -> Result<(), String> {
        let response = pending.answer.await.map_err(|error| error.to_string())?;
        let now = self.note();
        let made = pending.made.unwrap_or(now);
        match (pending.operation, &pending.name) {
            (Operation::Read(_) | Operation::Purge(_) | Operation::Erase(_), _)
                if response.is_none() =>
            {
                Err(format!("the answer to {:?} broke off", pending.operation))
            }
            (Operation::Read(_), Some(name)) => {
                let response = response.as_ref().ok_or("it was looked at above")?;
                let shown = match response.status.as_u16() {
                    200 => Some(&response.body),
                    404 if response.header("proxy-status").is_empty() => None,
                    _ if pending.excused => return Ok(()),
                    // It opened when Flameup failed, and stays open for a while.
                    503 if response.header("cache-status").contains("breaker") => return Ok(()),
                    _ => return Err(format!("a read of {name:?} failed: {response:?}")),
                };
                self.oracle.allows(name, pending.begun, shown, self.now_ms)
            }
            (Operation::Purge(_) | Operation::Erase(_), Some(name)) => {
                if response
                    .as_ref()
                    .is_none_or(|response| response.status != 200)
                {
                    return Err(format!("{:?}: {response:?}", pending.operation));
                }
                self.oracle.forgotten(name, pending.before);
                Ok(())
            }
            (Operation::List | Operation::Expire(_), _) => Ok(()),
            _ => {
                self.oracle.changed(pending.before, made);
                Ok(())
            }
        }
    }

    fn send(&mut self, operation: Operation, excused: bool) -> Pending {
        self.versions += 1;
        let name = self.name_of(operation);
        let request = self.request(operation, name.as_ref());
        let admin = matches!(
            operation,
            Operation::Purge(_) | Operation::Expire(_) | Operation::Erase(_)
        );
        let begun = name.as_ref().map(|name| self.oracle.begin(name));
        let (harness, clients) = (Rc::clone(&self.harness), Rc::clone(&self.clients));
        if !admin {
            *self.sent.borrow_mut() += 1;
        }
        let answer = tokio::task::spawn_local(async move {
            let (method, target, body) = request;
            if admin {
                let mut operator = Client::connect(harness.admin_address()).await;
                return operator.try_send_with(method, &target, body).await.ok();
            }
            let idle = clients.borrow_mut().pop();
            let mut client = match idle {
                Some(client) => client,
                None => harness.client().await,
            };
            let response = client.try_send_with(method, &target, body).await.ok()?;
            clients.borrow_mut().push(client);
            Some(response)
        });
        Pending {
            operation,
            begun: begun.unwrap_or_else(|| self.oracle.begin(&Name::Id(String::new()))),
            name,
            before: self.oracle.now(),
            made: None,
            excused,
            answer,
        }
    }

    fn name_of(&self, operation: Operation) -> Option<Name> {
        match operation {
            Operation::Read(who)
            | Operation::Touch(who)
            | Operation::MoveEmail(who, _)
            | Operation::MoveId(who, _)
            | Operation::Delete(who)
            | Operation::Purge(who)
            | Operation::Expire(who)
            | Operation::Erase(who) => Some(match who {
                Who::Id(id) => Name::Id(format!("m{id}")),
                Who::Email(email, upper) => Name::Id(email_of(email, upper)),
                Who::Uuid(which) => Name::Uuid(self.uuid(which)),
            }),
            Operation::Create(..)
            | Operation::Upsert(..)
            | Operation::Batch(_)
            | Operation::List => None,
        }
    }

    fn uuid(&self, which: u8) -> String {
        let newest_first = self.uuids.iter().rev();
        let uuid = newest_first.cycle().nth(usize::from(which));
        uuid.cloned().unwrap_or_else(|| NOBODY.to_owned())
    }

    fn request(&self, operation: Operation, name: Option<&Name>) -> (&'static str, String, String) {
        let path = name.map(|name| match name {
            Name::Id(id) => Harness::path(id),
            Name::Uuid(uuid) => long_path(WORKSPACE, uuid),
        });
        let path = path.unwrap_or_default();
        let wish = |id: u8, email: u8| {
            json!({
                "userId": format!("m{id}"),
                "email": email_of(email, false),
                "traits": {"first_name": format!("version {}", self.versions)},
            })
        };
        let long = format!("/api/v1/workspaces/{WORKSPACE}/people");
        match operation {
            Operation::Read(_) => ("GET", path, String::new()),
            Operation::List => (
                "GET",
                "/api/v1/people?search=example".to_owned(),
                String::new(),
            ),
            Operation::Delete(_) => ("DELETE", path, String::new()),
            Operation::Create(id, email) => (
                "POST",
                "/api/v1/people".to_owned(),
                wish(id, email).to_string(),
            ),
            Operation::Upsert(id, email) => (
                "POST",
                format!("{long}/upsert"),
                wish(id, email).to_string(),
            ),
            Operation::Batch(people) => {
                let people = people.map(|(id, email)| wish(id, email));
                (
                    "POST",
                    "/api/v1/people/batch".to_owned(),
                    json!({"people": people}).to_string(),
                )
            }
            Operation::Touch(_) => {
                let traits = json!({"first_name": format!("version {}", self.versions)});
                ("PUT", path, json!({"traits": traits}).to_string())
            }
            Operation::MoveEmail(_, email) => (
                "PUT",
                path,
                json!({"email": email_of(email, false)}).to_string(),
            ),
            Operation::MoveId(_, id) => {
                ("PUT", path, json!({"userId": format!("m{id}")}).to_string())
            }
            Operation::Purge(_) => ("POST", "/v1/purge".to_owned(), named(name, &[])),
            Operation::Expire(_) => (
                "POST",
                "/v1/purge".to_owned(),
                named(name, &[("soft", json!(true))]),
            ),
            Operation::Erase(_) => (
                "POST",
                "/v1/erase".to_owned(),
                named(name, &[("hold", json!("5s"))]),
            ),
        }
    }

    /// Writes down what Flameup answers now.
    fn note(&mut self) -> usize {
        let people = self.harness.flameup.people();
        for id in (0..IDS).map(|id| format!("m{id}")) {
            if let Some(uuid) = people.uuid(&id).filter(|uuid| !self.uuids.contains(uuid)) {
                self.uuids.push(uuid);
            }
        }
        let mut answers = Answers::new();
        for id in (0..IDS).map(|id| format!("m{id}")) {
            answers.insert(Name::Id(id.clone()), people.body_by_external_id(&id));
        }
        for email in 0..EMAILS {
            for upper in [false, true] {
                let email = email_of(email, upper);
                answers.insert(Name::Id(email.clone()), people.body_by_email(&email));
            }
        }
        for uuid in self.uuids.iter().map(String::as_str).chain([NOBODY]) {
            answers.insert(Name::Uuid(uuid.to_owned()), people.body_by_uuid(uuid));
        }
        self.oracle.note(answers, self.now_ms)
    }

    async fn client(&self) -> Client {
        let idle = self.clients.borrow_mut().pop();
        match idle {
            Some(client) => client,
            None => self.harness.client().await,
        }
    }

    /// Ends the history: every request was counted, once.
    pub(super) async fn end(self) -> Result<(), String> {
        let metrics = metrics(&self.harness).await;
        let (counted, sent) = (metrics.sum("requests_total", &[]), *self.sent.borrow());
        #[expect(clippy::cast_precision_loss, reason = "there are a few hundred")]
        if (counted - sent as f64).abs() > 0.5 {
            return Err(format!(
                "{counted} requests were counted and {sent} sent ({:?})",
                self.world
            ));
        }
        Ok(())
    }
}

fn email_of(email: u8, upper: bool) -> String {
    if upper {
        format!("E{email}@EXAMPLE.ORG")
    } else {
        format!("e{email}@example.org")
    }
}

fn named(name: Option<&Name>, more: &[(&str, serde_json::Value)]) -> String {
    let mut body = match name {
        Some(Name::Uuid(uuid)) => json!({"uuid": uuid}),
        Some(Name::Id(id)) => json!({"id": id}),
        None => json!({}),
    };
    for (field, value) in more {
        body[*field] = value.clone();
    }
    body.to_string()
}

/// Of the requests that are held for one name, at most one is a read; one more for each change
/// that is under way or was, for what it interrupts is asked for again.
fn one_fetch_at_a_time(holds: &[(Option<String>, Hold)], writes: usize) -> Result<(), String> {
    for (name, hold) in holds {
        if name.is_some() && hold.waiting() > 1 + writes {
            let waiting = hold.waiting();
            return Err(format!(
                "{waiting} requests wait for {name:?} after {writes} writes"
            ));
        }
    }
    Ok(())
}
