//! What an operator can have done: purge, erase, look up. A purge or an erasure is one of every section
//! that may be the same workspace at Flameup.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;
use tracing::info;
use uuid::Uuid;

use super::Gateway;
use super::exchange::id::RequestId;
use super::lookup::Asking;
use crate::answer::Answer;
use crate::cache::change::Removed;
use crate::cache::change::erase::names_of;
use crate::cache::control::RequestDirectives;
use crate::person::body::Identity;
use crate::person::change::{Name, Touched};
use crate::person::{self, PersonRef};
use crate::shield::Claim;
use crate::shield::queue::{CallerId, Class, Subject};
use crate::tier::log::message::Message;
use crate::tier::log::{Confirmation, Replica};
use crate::workspace::Workspace;

/// What an operator is called in metrics.
const OPERATOR: &str = "admin";

/// The operator as a caller; configured callers are numbered from zero.
const OPERATOR_ID: CallerId = CallerId(u32::MAX - 1);

/// How long nothing is stored of a person who was erased, unless told otherwise: time to delete
/// them at Flameup as well, by hand if need be, so that no lookup brings them back.
pub const DEFAULT_HOLD: Duration = Duration::from_mins(10);

/// The shortest hold. What was fetched before is called off and never stored, hold or not; less
/// than a second only invites the thought that there is none.
pub const MIN_HOLD: Duration = Duration::from_secs(1);

/// The longest. A hold takes a place in the memory of changes, which is bounded, and lives as long
/// as the process; who must stay away for longer has to be deleted at Flameup.
pub const MAX_HOLD: Duration = Duration::from_hours(24);

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such workspace.
    #[error("there is no workspace of this name")]
    UnknownWorkspace,
    /// None was named, and there are several.
    #[error("there are several workspaces")]
    WhichWorkspace,
    /// The path of a lookup by UUID cannot be made.
    #[error("Flameup's id of the workspace is not known yet")]
    WorkspaceIdUnknown,
    /// Nobody can be called so.
    #[error(transparent)]
    Person(#[from] person::Error),
    /// The process ends, and nobody knows how far it came.
    #[error("the gateway was stopped meanwhile")]
    Interrupted,
}

/// Whom an operator means, in words that name nobody.
#[derive(Clone, Debug, Serialize)]
pub struct Person {
    /// The kind of the name that was given.
    pub kind: &'static str,
    /// The keyed hash of its normal form, as logs have it.
    pub hash: String,
}

/// What a purge did.
#[derive(Debug, Serialize)]
pub struct Purged {
    /// The workspace.
    pub workspace: String,
    /// Who was meant; `None` for everybody.
    pub person: Option<Person>,
    /// Whether they may still be served stale.
    pub soft: bool,
    /// People who were marked as stale.
    pub expired: usize,
    /// What was let go of.
    pub removed: Counts,
    /// The tiers that are shared with other gateways, each with its word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<Tier>,
    /// The other gateways, if there are any, each with its word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
}

/// What was let go of.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Stored people.
    pub entries: usize,
    /// Names that led to them.
    pub pointers: usize,
    /// Remembered 404s.
    pub absences: usize,
    /// Requests to Flameup under way, called off.
    pub fetches: usize,
    /// Places in the queue for a turn, given up.
    pub queue_places: usize,
}

/// What an erasure did, for the files.
#[derive(Debug, Serialize)]
pub struct Receipt {
    /// What this receipt is called.
    pub receipt: Uuid,
    /// When it was done.
    pub at: String,
    /// The workspace.
    pub workspace: String,
    /// Who, without saying so.
    pub person: Person,
    /// What was let go of.
    pub removed: Counts,
    /// Decisions about the person that were forgotten.
    pub decisions: usize,
    /// Until when nothing is stored of them.
    pub held_until: String,
    /// The tiers that stored anything, each with its word.
    pub tiers: Vec<Tier>,
    /// The other gateways, if there are any, each with its word.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
}

/// A tier's word on an erasure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tier {
    /// Which.
    pub tier: &'static str,
    /// Nothing is left in it: memory was looked through afterwards, and Redis has said so.
    pub confirmed: bool,
}

impl Tier {
    /// What is shared with other gateways, if anything is.
    fn redis(confirmation: Option<&Confirmation>) -> Option<Self> {
        confirmation.map(|confirmation| Self {
            tier: "redis",
            confirmed: confirmation.told,
        })
    }
}

/// Most times that an erasure is told, each for names that the one before has brought to light. A
/// person has three.
const MOST_ROUNDS: usize = 4;

impl Gateway {
    /// The workspace of this name; without a name, the only one.
    ///
    /// # Errors
    /// When it is not clear which one.
    pub fn workspace(&self, name: Option<&str>) -> Result<&Arc<Workspace>, Error> {
        match (name, &self.workspaces[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(Error::WhichWorkspace),
            (Some(name), all) => all
                .iter()
                .find(|workspace| workspace.name() == name)
                .ok_or(Error::UnknownWorkspace),
        }
    }

    /// Lets go of a person, or of everybody in the workspace; if `soft`, only marks them as stale.
    ///
    /// # Errors
    /// When the process ends meanwhile.
    pub async fn purge(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        whom: Option<Name>,
        soft: bool,
    ) -> Result<Purged, Error> {
        let person = whom.as_ref().map(|name| self.person(workspace, name));
        let touched = whom.map_or(Touched::Everyone, |name| Touched::People(vec![name]));
        let (mut expired, mut removed) = (0, Removed::default());
        // Before they are let go of: their other names are known as yet.
        let told = self.to_tell(workspace, touched.clone());
        let message = if soft {
            Message::Expire { whom: told }
        } else {
            Message::Purge { whom: told }
        };
        if soft {
            expired = self.expire(workspace, touched).await?;
        } else {
            removed = self.let_go(workspace, &touched).await?;
        }
        // An operator who leaves early leaves nobody half purged.
        let confirmation = self.tell_on(workspace, message).confirmed().await;
        let cause = if soft { "soft_purge" } else { "purge" };
        self.telemetry.metrics().invalidated(cause);
        info!(
            workspace.name = workspace.name(),
            person.hash = person.as_ref().map(|person| &*person.hash),
            invalidation.cause = cause,
            "purged by an operator"
        );
        Ok(Purged {
            workspace: workspace.name().to_owned(),
            person,
            soft,
            expired,
            removed: removed.into(),
            tiers: Tier::redis(confirmation.as_ref()).into_iter().collect(),
            replicas: confirmation.map(|told| told.replicas).unwrap_or_default(),
        })
    }

    async fn let_go(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        touched: &Touched,
    ) -> Result<Removed, Error> {
        let (mut removed, mut swept) = (Removed::default(), Vec::new());
        let touched = &self.known_in_all(workspace, touched);
        // All of them at once: an operator who leaves early leaves nobody half purged.
        for workspace in self.twins(workspace) {
            let purged = self.cache.purge(workspace, touched, self.clock.now());
            removed += purged;
            if purged.everybody {
                swept.push(self.sweep(workspace));
            }
        }
        for swept in swept {
            removed += swept.await.map_err(|_| Error::Interrupted)?;
        }
        Ok(removed)
    }

    /// Marks them as stale: everybody one by one, on a thread that nobody's answer waits for.
    pub(super) async fn expire(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        touched: Touched,
    ) -> Result<usize, Error> {
        let (gateway, workspace) = (Arc::clone(self), Arc::clone(workspace));
        let now = self.clock.now();
        let expire = move || {
            let touched = gateway.known_in_all(&workspace, &touched);
            let twins = gateway.twins(&workspace);
            let expire = |twin: &Arc<Workspace>| gateway.cache.expire(twin, &touched, now);
            twins.map(expire).sum()
        };
        let expired = tokio::task::spawn_blocking(expire).await;
        expired.map_err(|_| Error::Interrupted)
    }

    /// Lets go of everything that is known of a person, and stores nothing of them for as long as
    /// `hold`.
    ///
    /// # Errors
    /// When the process ends meanwhile.
    ///
    /// # Cancellation
    /// The erasure goes on to its end.
    pub async fn erase(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        name: Name,
        hold: Duration,
    ) -> Result<Receipt, Error> {
        let (gateway, workspace) = (Arc::clone(self), Arc::clone(workspace));
        let erasing = async move { gateway.erase_to_the_end(&workspace, &name, hold).await };
        let receipt = tokio::spawn(erasing).await;
        receipt.map_err(|_| Error::Interrupted)?
    }

    async fn erase_to_the_end(
        self: &Arc<Self>,
        workspace: &Workspace,
        name: &Name,
        hold: Duration,
    ) -> Result<Receipt, Error> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let person = self.person(workspace, name);
        let numbers: Vec<_> = self.twins(workspace).map(|twin| twin.number()).collect();
        let name = workspace.key_of_name(name);
        let mut erased = self.cache.erase(&numbers, name, hold, now);
        let names = self.cache.names_of_erased(&erased);
        let mut decisions = self.decisions.forget(&names);
        let names = self.cache.called_erased(&erased);
        let (confirmation, more) = self.erase_shared(workspace, names, hold).await;
        for name in &more {
            let key = workspace.key_of_name(name);
            let more = self.cache.erase(&numbers, key, hold, now);
            let names = self.cache.names_of_erased(&more);
            decisions += self.decisions.forget(&names);
            erased.join(more);
        }
        // What connections to Flameup have read may still lie in their buffers.
        self.upstream.close_idle();
        // Done at once, and confirmed one at a time: of two that look through the stores together,
        // one would take what the other is to see gone.
        let _turn = self.erasing.lock().await;
        // What was removed is freed now, not when it next suits the store. That takes a moment,
        // and names nobody: what a thread that answers nobody has on its stack stays there.
        let gateway = Arc::clone(self);
        let confirm = move || {
            gateway.cache.sweep_erased(&mut erased);
            let removed = erased.removed;
            let confirmed = gateway.cache.confirm_erased(erased);
            gateway.cache.maintain(now);
            (removed, confirmed)
        };
        let confirmed = tokio::task::spawn_blocking(confirm).await;
        let (removed, confirmed) = confirmed.map_err(|_| Error::Interrupted)?;
        self.telemetry.metrics().invalidated("erase");
        let memory = Tier {
            tier: "memory",
            confirmed,
        };
        let tiers = [memory]
            .into_iter()
            .chain(Tier::redis(confirmation.as_ref()));
        let receipt = Uuid::now_v7();
        info!(
            workspace.name = workspace.name(),
            person.hash = person.hash,
            erase.receipt = %receipt,
            "erased by an operator"
        );
        Ok(Receipt {
            receipt,
            at: written(wall),
            workspace: workspace.name().to_owned(),
            person,
            removed: removed.into(),
            decisions,
            held_until: written(wall + hold),
            tiers: tiers.collect(),
            replicas: confirmation.map(|told| told.replicas).unwrap_or_default(),
        })
    }

    /// Erases a person in Redis and at other gateways. Hands out the names that only Redis knew.
    async fn erase_shared(
        self: &Arc<Self>,
        workspace: &Workspace,
        mut names: Vec<Name>,
        hold: Duration,
    ) -> (Option<Confirmation>, Vec<Name>) {
        let (mut confirmation, mut more) = (None, Vec::new());
        if self.shared.is_none() {
            return (confirmation, more);
        }
        for _ in 0..MOST_ROUNDS {
            let told = Message::Erase {
                names: names.clone(),
                bar: hold,
            };
            let (word, met) = self.tell_and_confirm(workspace, &told).await;
            confirmation = word;
            let found = met.iter().flat_map(|body| Self::names_in(workspace, body));
            let mut new: Vec<Name> = Vec::new();
            for name in found {
                if !names.contains(&name) && !new.contains(&name) {
                    new.push(name);
                }
            }
            if new.is_empty() {
                break;
            }
            names.extend(new.iter().cloned());
            more.extend(new);
        }
        (confirmation, more)
    }

    /// The names of the person that this is the body of.
    fn names_in(workspace: &Workspace, body: &[u8]) -> Vec<Name> {
        let Ok(identity) = Identity::read(body) else {
            return Vec::new();
        };
        let claims = workspace.claims(&identity);
        names_of(&claims.claims())
    }

    /// Looks a person up as a client would: in class interactive, on a share of the operator's own.
    ///
    /// # Errors
    /// When Flameup cannot be asked about a UUID yet.
    pub async fn look_up(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        name: &Name,
    ) -> Result<Answer, Error> {
        let person = match name {
            Name::Id(id) => PersonRef::from_text(id)?.into_owned(),
            Name::Uuid(uuid) => PersonRef::Uuid {
                workspace_id: workspace
                    .id()
                    .ok_or(Error::WorkspaceIdUnknown)?
                    .to_owned()
                    .into(),
                uuid: *uuid,
            },
        };
        let asking = Asking {
            workspace: Arc::clone(workspace),
            claim: Claim {
                caller: OPERATOR_ID,
                class: Class::Interactive,
                weight: 1,
                patience: workspace.shield().max_wait(),
                known: false,
                subject: Subject::default(),
                told: true,
            },
            client: OPERATOR.into(),
            directives: RequestDirectives::default(),
            request_id: RequestId::of(&HeaderMap::new(), &self.clock, self.clock.now()),
        };
        Ok(self.read_for(&asking, person).await)
    }

    /// Who is meant, in words that name nobody.
    pub(super) fn person(&self, workspace: &Workspace, name: &Name) -> Person {
        Person {
            kind: name.kind(),
            hash: self.telemetry.hash(workspace.keys_of(name).person()),
        }
    }
}

impl From<Removed> for Counts {
    fn from(removed: Removed) -> Self {
        Self {
            entries: removed.people,
            pointers: removed.names,
            absences: removed.absences,
            fetches: removed.fetches,
            queue_places: removed.places,
        }
    }
}

/// A date as RFC 3339 writes it, to the second.
fn written(wall: SystemTime) -> String {
    let date = Timestamp::try_from(wall).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{date:.0}")
}
