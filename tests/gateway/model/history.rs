//! Plays the steps of a history, and judges what it sees.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use flameup_gateway::sandbox::{Fault, FaultKind, People};
use serde_json::json;
use tokio::task::JoinHandle;

use super::counts::{self, Counts};
use super::flights::{Held, Known};
use super::oracle::{Begun, Oracle};
use super::steps::{Action, EMAILS, Failure, IDS, Operation, Step, Who};
use super::{Answers, Name, Tenant, World};
use crate::support::tenants::{TOKEN_ONE, TOKEN_TWO, bearer, client, workspaces};
use crate::support::{Client, Harness, Response, long_path, status};

/// The workspaces: as the gateway calls them, as Flameup does, and the token of the client of each.
const TENANTS: [(&str, &str, &str); 2] =
    [("one", "ws_one", TOKEN_ONE), ("two", "ws_two", TOKEN_TWO)];
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
    /// All UUIDs that there have been, by workspace and in order.
    uuids: [Vec<String>; TENANTS.len()],
    /// The workspaces of which a person was shown: which it is at Flameup is known.
    proven: [bool; TENANTS.len()],
    /// The last e-mail of whoever has an id.
    emails: BTreeMap<(Tenant, u8), String>,
    /// Failures that are still to come, at most.
    failing: bool,
    counts: Counts,
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
        let setup = TENANTS
            .iter()
            .fold(workspaces(), |setup, (name, _, token)| {
                client(setup, name, name, &[token])
                    .config(&format!("clients.{name}.scopes = [\"*\"]"))
            });
        let setup = setup.config(&format!(
            "cache.ttl = \"20s\"\ncache.stale_while_revalidate = \"30s\"\n\
             cache.stale_if_error = \"60s\"\ncache.aliases = {aliases}\n\
             cache.email_case = \"{case}\""
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
            uuids: Default::default(),
            proven: Default::default(),
            emails: BTreeMap::new(),
            failing: false,
            counts: Counts::default(),
            versions: 0,
        };
        history.note();
        history
    }

    pub(super) async fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Alone(tenant, operation) => self.alone(*tenant, *operation).await,
            Step::Merge(tenant, one, other) => {
                let (gone, grown) = (Who::Id(*other), Who::Id(*one));
                self.alone(*tenant, Operation::Delete(gone)).await?;
                self.alone(*tenant, Operation::TakeOver(grown, *other))
                    .await
            }
            Step::Together(actions) => self.together(actions, true).await,
            Step::Edit(tenant, id) => {
                self.edit(*tenant, *id);
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
            Step::Crowd(tenant, id, wait, actions) => {
                // No change holds reads off any more.
                self.pass(2_000);
                let read = Operation::Read(Who::Id(*id));
                self.alone(*tenant, read).await?;
                self.pass(*wait);
                self.together(actions, true).await
            }
            Step::Visit(tenant, id, twice) => {
                self.pass(2_000);
                for which in 0..3 * (1 + u8::from(*twice)) {
                    let read = Operation::Read(Who::Of(*id, which));
                    self.alone(*tenant, read).await?;
                }
                Ok(())
            }
            Step::Wait(ms) => {
                self.pass(*ms);
                Ok(())
            }
        }
    }

    async fn alone(&mut self, tenant: Tenant, operation: Operation) -> Result<(), String> {
        let action = Action::Start(tenant, operation);
        self.together(&[action], false).await
    }

    fn pass(&mut self, ms: u32) {
        self.now_ms += u64::from(ms);
        self.harness.pass_ms(u64::from(ms));
    }

    fn people(&self, tenant: Tenant) -> People {
        self.harness.flameup.people_of(TENANTS[tenant].1)
    }

    fn edit(&mut self, tenant: Tenant, id: u8) {
        let id = format!("m{id}");
        if self.people(tenant).uuid(&id).is_some() {
            self.versions += 1;
            let text = format!("edited {}", self.versions);
            self.people(tenant).set(&id, "first_name", text);
            self.note();
        }
    }

    /// Sends requests, lets them go when told to and the rest at the end, and judges each answer.
    async fn together(&mut self, actions: &[Action], holds: bool) -> Result<(), String> {
        let (held, known) = if holds {
            let known = self.known(actions).await;
            (self.hold(), known)
        } else {
            (Held::default(), Known::default())
        };
        // Who waits for an answer about somebody who is erased meanwhile gets none.
        let erases = |action: &Action| matches!(action, Action::Start(_, Operation::Erase(_)));
        let excused = self.failing || actions.iter().any(erases);
        let mut pending: Vec<Pending> = Vec::new();
        let mut writes = 0;
        for action in actions {
            match action {
                Action::Start(tenant, operation) => {
                    let started = self.send(*tenant, *operation, excused);
                    writes += usize::from(started.operation.writes());
                    pending.push(started);
                    self.settle(!holds, &mut pending).await?;
                    held.one_fetch_at_a_time(&known, writes)?;
                }
                Action::Edit(tenant, id) => self.edit(*tenant, *id),
                Action::Release(which) => {
                    if held.release_one(*which) {
                        self.settle(false, &mut pending).await?;
                        held.one_fetch_at_a_time(&known, writes)?;
                    } else {
                        self.counts.idle += 1;
                    }
                }
            }
        }
        held.release();
        self.settle(true, &mut pending).await?;
        if self.failing {
            // What has not failed by now need not.
            self.harness.flameup.clear_faults();
            self.failing = false;
        }
        Ok(())
    }

    /// One hold for the reads of each name and one for its changes, and one for what names nobody,
    /// so that any can be let go first.
    fn hold(&self) -> Held {
        let mut names: Vec<String> = (0..IDS).map(|id| format!("m{id}")).collect();
        for email in 0..EMAILS {
            names.extend([false, true].map(|upper| email_of(email, upper)));
        }
        names.extend(self.uuids.iter().flatten().cloned());
        names.push(NOBODY.to_owned());
        Held::back(&self.harness.flameup, names)
    }

    /// Whom the gateway has in memory before `actions`, if they all concern one workspace. That
    /// is where their names are one person to it.
    async fn known(&self, actions: &[Action]) -> Known {
        let mut known = Known::default();
        let mut tenants = actions.iter().filter_map(|action| match action {
            Action::Start(tenant, _) => Some(*tenant),
            Action::Release(_) | Action::Edit(..) => None,
        });
        let Some(tenant) = tenants.next() else {
            return known;
        };
        known.is_exact = tenants.all(|other| other == tenant);
        known.is_proven = self.proven[tenant];
        if !known.is_exact || !self.world.aliases {
            return known;
        }
        let mut operator = Client::connect(self.harness.admin_address()).await;
        for id in 0..IDS {
            let name = Name::Id(tenant, format!("m{id}"));
            let names = self.oracle.called_like(&name, self.oracle.now());
            if names.is_empty() {
                continue;
            }
            let target = format!("/v1/explain?workspace={}&id=m{id}", TENANTS[tenant].0);
            if !operator.get(&target).await.json()["entry"].is_null() {
                known.people.push(names);
            }
        }
        known
    }

    /// Waits until nothing moves any more, or until `all` are answered; judges what has come.
    async fn settle(&mut self, all: bool, pending: &mut Vec<Pending>) -> Result<(), String> {
        let mut client = self.client().await;
        for _ in 0..3 {
            self.counts.requests += 1;
            client.get("/settle").await;
        }
        self.clients.borrow_mut().push(client);
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
        self.counts.answered(pending.operation, response.as_ref());
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
                    _ if is_of_the_breaker(response) => return Ok(()),
                    _ => return Err(format!("a read of {name:?} failed: {response:?}")),
                };
                self.proven[name.tenant()] |= shown.is_some();
                self.oracle.allows(name, pending.begun, shown, self.now_ms)
            }
            (
                Operation::Purge(_) | Operation::Erase(_) | Operation::Expire(_) | Operation::List,
                name,
            ) => {
                let done = response
                    .as_ref()
                    .is_some_and(|response| response.status == 200);
                let lists = matches!(pending.operation, Operation::List);
                let excused = pending.excused || response.as_ref().is_some_and(is_of_the_breaker);
                if !(done || lists && excused) {
                    return Err(format!("{:?}: {response:?}", pending.operation));
                }
                let forgets =
                    matches!(pending.operation, Operation::Purge(_) | Operation::Erase(_));
                if let Some(name) = name.as_ref().filter(|_| forgets) {
                    self.oracle.forgotten(name, pending.before);
                }
                Ok(())
            }
            _ => {
                self.oracle.changed(pending.before, made);
                Ok(())
            }
        }
    }

    fn send(&mut self, tenant: Tenant, operation: Operation, excused: bool) -> Pending {
        self.versions += 1;
        let name = self.name_of(tenant, operation);
        let request = self.request(tenant, operation, name.as_ref());
        let admin = matches!(
            operation,
            Operation::Purge(_) | Operation::Expire(_) | Operation::Erase(_)
        );
        let begun = name.as_ref().map(|name| self.oracle.begin(name));
        let (harness, clients) = (Rc::clone(&self.harness), Rc::clone(&self.clients));
        if !admin {
            self.counts.requests += 1;
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
            let token = bearer(TENANTS[tenant].2);
            let response = client
                .try_send_as(&token, method, &target, body)
                .await
                .ok()?;
            if response.header("connection") != "close" {
                clients.borrow_mut().push(client);
            }
            Some(response)
        });
        Pending {
            operation,
            begun: begun.unwrap_or_else(|| self.oracle.begin(&Name::Id(tenant, String::new()))),
            name,
            before: self.oracle.now(),
            made: None,
            excused,
            answer,
        }
    }

    fn name_of(&self, tenant: Tenant, operation: Operation) -> Option<Name> {
        match operation {
            Operation::Read(who)
            | Operation::Touch(who)
            | Operation::MoveEmail(who, _)
            | Operation::MoveId(who, _)
            | Operation::Delete(who)
            | Operation::TakeOver(who, _)
            | Operation::Purge(who)
            | Operation::Expire(who)
            | Operation::Erase(who) => Some(match who {
                Who::Id(id) => Name::Id(tenant, format!("m{id}")),
                Who::Email(email, upper) => Name::Id(tenant, email_of(email, upper)),
                Who::Uuid(which) => Name::Uuid(tenant, self.uuid(tenant, which)),
                Who::Of(id, which) => {
                    let own = Name::Id(tenant, format!("m{id}"));
                    let mut all = self.oracle.called_like(&own, self.oracle.now());
                    // In the order that a history has when it is run again.
                    all.sort_by(|one, other| one.text().cmp(other.text()));
                    let one = all.iter().cycle().nth(usize::from(which));
                    one.cloned().unwrap_or(own)
                }
                Who::OthersUuid(which) => Name::Uuid(tenant, self.uuid(1 - tenant, which)),
            }),
            Operation::Create(..)
            | Operation::Upsert(..)
            | Operation::Batch(_)
            | Operation::List => None,
        }
    }

    fn uuid(&self, tenant: Tenant, which: u8) -> String {
        let newest_first = self.uuids[tenant].iter().rev();
        let uuid = newest_first.cycle().nth(usize::from(which));
        uuid.cloned().unwrap_or_else(|| NOBODY.to_owned())
    }

    fn request(
        &self,
        tenant: Tenant,
        operation: Operation,
        name: Option<&Name>,
    ) -> (&'static str, String, String) {
        let (_, workspace, _) = TENANTS[tenant];
        let path = name.map(|name| match name {
            Name::Id(_, id) => Harness::path(id),
            Name::Uuid(_, uuid) => long_path(workspace, uuid),
        });
        let path = path.unwrap_or_default();
        let wish = |id: u8, email: u8| {
            json!({
                "userId": format!("m{id}"),
                "email": email_of(email, false),
                "traits": {"first_name": format!("version {}", self.versions)},
            })
        };
        let long = format!("/api/v1/workspaces/{workspace}/people");
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
            Operation::TakeOver(_, id) => {
                let email = self.emails.get(&(tenant, id)).cloned();
                let email = email.unwrap_or_else(|| email_of(id, false));
                ("PUT", path, json!({"email": email}).to_string())
            }
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
        for tenant in 0..TENANTS.len() {
            let people = self.people(tenant);
            for id in 0..IDS {
                let external_id = format!("m{id}");
                let uuid = people.uuid(&external_id);
                if let Some(uuid) = uuid.filter(|uuid| !self.uuids[tenant].contains(uuid)) {
                    self.uuids[tenant].push(uuid);
                }
                if let Some(email) = people.email(&external_id) {
                    self.emails.insert((tenant, id), email);
                }
            }
        }
        let mut answers = Answers::new();
        for tenant in 0..TENANTS.len() {
            self.note_answers(tenant, &mut answers);
        }
        self.oracle.note(answers, self.now_ms)
    }

    fn note_answers(&self, tenant: Tenant, answers: &mut Answers) {
        let people = self.people(tenant);
        for id in (0..IDS).map(|id| format!("m{id}")) {
            let body = people.body_by_external_id(&id);
            answers.insert(Name::Id(tenant, id), body);
        }
        for email in 0..EMAILS {
            for upper in [false, true] {
                let email = email_of(email, upper);
                let body = people.body_by_email(&email);
                answers.insert(Name::Id(tenant, email), body);
            }
        }
        let uuids = self.uuids.iter().flatten().map(String::as_str);
        for uuid in uuids.chain([NOBODY]) {
            let body = people.body_by_uuid(uuid);
            answers.insert(Name::Uuid(tenant, uuid.to_owned()), body);
        }
    }

    async fn client(&self) -> Client {
        let idle = self.clients.borrow_mut().pop();
        match idle {
            Some(client) => client,
            None => self.harness.client().await,
        }
    }

    /// Ends the history: whatever was counted happened, once.
    pub(super) async fn end(mut self) -> Result<Counts, String> {
        for _ in 0..counts::LOOKS {
            // What runs in the background may not have ended yet.
            self.settle(true, &mut Vec::new()).await?;
            if self.counts.check(&self.harness).await.is_ok() {
                return Ok(self.counts);
            }
        }
        let checked = self.counts.check(&self.harness).await;
        checked.map_err(|error| format!("{error} ({:?})", self.world))?;
        Ok(self.counts)
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
    let workspace = name.map_or("", |name| TENANTS[name.tenant()].0);
    let mut body = match name {
        Some(Name::Uuid(_, uuid)) => json!({"uuid": uuid}),
        Some(Name::Id(_, id)) => json!({"id": id}),
        None => json!({}),
    };
    body["workspace"] = json!(workspace);
    for (field, value) in more {
        body[*field] = value.clone();
    }
    body.to_string()
}

/// Whether nothing was asked: the breaker opened when Flameup failed, and stays open for a while.
fn is_of_the_breaker(response: &Response) -> bool {
    response.status == 503 && response.header("cache-status").contains("breaker")
}
