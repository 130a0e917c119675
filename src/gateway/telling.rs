//! What this gateway changes, told to the others; and what they change, applied here.
//!
//! # Invariants
//! - A change is told in the log of every section that may be the same workspace at Flameup, and what is
//!   heard in one is applied in all of them.
//! - A foreign change counts as under way from when its beginning is heard until its end is, or until
//!   it should have been: whoever told it may be gone, and then nobody knows how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::warn;
use uuid::Uuid;

use super::Gateway;
use crate::cache::changes::{HOLD_DOWN, Hold, UnderWay};
use crate::person::change::{Name, Touched};
use crate::tier::Shared;
use crate::tier::log::message::Message;
use crate::tier::log::reader::Hearer;
use crate::tier::log::{Confirmation, Told};
use crate::workspace::Workspace;

/// How long a start waits for the logs. Where Redis is reached that takes milliseconds.
const CATCH_UP: Duration = Duration::from_millis(250);

/// Between two looks whether they were heard.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Changes of others that are followed at a time. Flameup allows two a second, each of which takes
/// seconds at most.
const MOST_FOREIGN: usize = 1024;

/// A change that another gateway has begun.
#[derive(Debug)]
struct Foreign {
    whom: Touched,
    workspace: u32,
    /// When its end should have been heard.
    until: Instant,
    _under_way: UnderWay,
}

/// The changes that other gateways have begun.
#[derive(Debug, Default)]
pub(super) struct Abroad(Mutex<HashMap<Uuid, Foreign>>);

/// A change that is being told. It is told whether or not anybody waits.
#[derive(Debug)]
pub(super) struct Telling(Option<JoinHandle<Option<Confirmation>>>);

impl Telling {
    /// There is nothing to tell.
    pub(super) const NOTHING: Self = Self(None);

    /// Who has confirmed it; `None` if there is nobody to.
    pub(super) async fn confirmed(self) -> Option<Confirmation> {
        match self.0 {
            Some(telling) => telling
                .await
                .unwrap_or_else(|_| Some(Confirmation::default())),
            None => None,
        }
    }
}

impl Gateway {
    /// How long others hold reads off from a change whose end they do not hear.
    pub(super) fn longest_change(&self) -> Duration {
        self.upstream.timeout() + HOLD_DOWN
    }

    /// Tells others of a change, and waits until they have applied it, for a moment. `None` if there
    /// are no others to be.
    /// Hands out also the bodies of those whom an erasure has met in Redis.
    pub(super) async fn tell_and_confirm(
        &self,
        workspace: &Workspace,
        message: &Message,
    ) -> (Option<Confirmation>, Vec<Bytes>) {
        let (mut all, mut met) = (None::<Confirmation>, Vec::new());
        let Some(shared) = &self.shared else {
            return (all, met);
        };
        let told = self.tell_all(workspace, message).await;
        for (number, told) in told {
            let Some(log) = shared.log(number) else {
                continue;
            };
            let position = told.as_ref().map(|told| told.position);
            met.extend(told.into_iter().flat_map(|told| told.met));
            let one = Confirmation {
                told: position.is_some(),
                replicas: match position {
                    Some(position) => log.confirm(position).await,
                    None => log.replicas(None),
                },
            };
            all = Some(match all {
                Some(all) => all.and(one),
                None => one,
            });
        }
        if let Some(confirmation) = &all
            && !confirmation.is_whole()
        {
            shared.count_unconfirmed();
            warn!(
                workspace.name = workspace.name(),
                invalidation.cause = message.kind(),
                redis.told = confirmation.told,
                redis.replicas = confirmation.missing().join(","),
                "a change was not confirmed by every gateway"
            );
        }
        (all, met)
    }

    /// The same, in a task of its own.
    pub(super) fn tell_on(
        self: &Arc<Self>,
        workspace: &Arc<Workspace>,
        message: Message,
    ) -> Telling {
        let runtime = tokio::runtime::Handle::try_current();
        let (Some(_), Ok(runtime)) = (&self.shared, runtime) else {
            return Telling(None);
        };
        let (gateway, workspace) = (Arc::clone(self), Arc::clone(workspace));
        let telling = async move { gateway.tell_and_confirm(&workspace, &message).await.0 };
        Telling(Some(runtime.spawn(telling)))
    }

    /// Tells others of a change, and waits for none of them. What fails is told with its end.
    pub(super) async fn tell_only(&self, workspace: &Workspace, message: &Message) {
        self.tell_all(workspace, message).await;
    }

    /// Tells a change in the log of each section that it may be of.
    pub(super) async fn tell_all(
        &self,
        workspace: &Workspace,
        message: &Message,
    ) -> Vec<(u32, Option<Told>)> {
        let Some(shared) = &self.shared else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for twin in self.twins(workspace) {
            let Some(log) = shared.log(twin.number()) else {
                continue;
            };
            let keys: Vec<_> = match message.whom() {
                Touched::People(names) => names.iter().map(|name| twin.key_of_name(name)).collect(),
                Touched::Everyone => Vec::new(),
            };
            // Why it failed is counted with the call.
            all.push((twin.number(), log.tell(message, &keys).await.ok()));
        }
        all
    }

    /// Whoever is touched, and what else they are called as far as is known here, for others who know
    /// them by that.
    pub(super) fn to_tell(&self, workspace: &Workspace, touched: Touched) -> Touched {
        if self.shared.is_none() {
            return touched;
        }
        let twins: Vec<_> = self.twins(workspace).collect();
        self.cache.known_in(&twins, &touched)
    }

    /// Follows the logs of all workspaces, each in a task of its own.
    pub fn follow(self: &Arc<Self>, chores: &mut tokio::task::JoinSet<()>) {
        for log in self.shared.iter().flat_map(Shared::logs) {
            chores.spawn(Arc::clone(log).follow(Arc::clone(self)));
        }
    }

    /// Gives the logs a moment to be heard for the first time: what is fetched before is not kept.
    pub async fn catch_up(&self) {
        let logs = || self.shared.iter().flat_map(Shared::logs);
        let all_heard = async {
            while logs().any(|log| log.is_suspect()) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Without Redis it is only a moment.
        let _ = tokio::time::timeout(CATCH_UP, all_heard).await;
    }

    /// Says that this gateway remembers nothing any longer.
    pub async fn leave(&self) {
        for log in self.shared.iter().flat_map(Shared::logs) {
            log.leave().await;
        }
    }

    fn begin_foreign(&self, workspace: &Workspace, change: Uuid, whom: Touched, hold: Duration) {
        let now = self.clock.now();
        let twins = self.twins(workspace).map(|twin| twin.number());
        let under_way = self.cache.change_begins(twins);
        let known = &self.known_in_all(workspace, &whom);
        for twin in self.twins(workspace) {
            self.cache.hold(twin, known, Hold::Reads(now + hold), now);
        }
        let mut abroad = self.abroad.0.lock();
        let before = abroad.remove(&change);
        if abroad.len() < MOST_FOREIGN {
            let whom = match before {
                Some(before) => before.whom.and(whom),
                None => whom,
            };
            let foreign = Foreign {
                whom,
                workspace: workspace.number(),
                until: now + hold,
                _under_way: under_way,
            };
            abroad.insert(change, foreign);
        }
    }

    /// Ends a change of another gateway's. Where no other is under way, reads are held off no longer
    /// than its end wants.
    fn end_foreign(
        self: &Arc<Self>,
        workspace: &Workspace,
        change: Uuid,
        whom: &Touched,
        hold: Duration,
    ) {
        let now = self.clock.now();
        let until = now + hold;
        let (ended, alone) = {
            let mut abroad = self.abroad.0.lock();
            let ended = abroad.remove(&change);
            (ended, abroad.is_empty())
        };
        let hold = if alone {
            Hold::Exactly(until)
        } else {
            Hold::Reads(until)
        };
        self.change_here(workspace, whom, hold, now);
        // Until here it counts as under way.
        drop(ended);
    }

    fn change_here(
        self: &Arc<Self>,
        workspace: &Workspace,
        whom: &Touched,
        hold: Hold,
        now: Instant,
    ) {
        let known = &self.known_in_all(workspace, whom);
        for twin in self.twins(workspace) {
            if self.cache.changed_elsewhere(twin, known, hold, now) {
                self.sweep_soon(twin);
            }
        }
    }

    /// Obeys an erasure of another gateway's.
    async fn erase_foreign(self: &Arc<Self>, workspace: &Workspace, names: &[Name], bar: Duration) {
        let now = self.clock.now();
        let numbers: Vec<_> = self.twins(workspace).map(|twin| twin.number()).collect();
        let keys = names.iter().map(|name| workspace.key_of_name(name));
        let mut erased: Vec<_> = keys
            .map(|key| self.cache.erase(&numbers, key, bar, now))
            .collect();
        for erased in &erased {
            self.decisions.forget(&self.cache.names_of_erased(erased));
        }
        self.upstream.close_idle();
        let _turn = self.erasing.lock().await;
        let gateway = Arc::clone(self);
        let free = move || {
            for erased in &mut erased {
                gateway.cache.sweep_erased(erased);
            }
        };
        // It ends early only with the process, and then nothing is remembered.
        let _ = tokio::task::spawn_blocking(free).await;
    }

    async fn expire_foreign(self: &Arc<Self>, workspace: &Arc<Workspace>, whom: Touched) {
        // It ends early only with the process, and then nothing is remembered.
        let _ = self.expire(workspace, whom).await;
    }
}

impl Hearer for Gateway {
    async fn hear(self: &Arc<Self>, workspace: u32, message: Message) {
        let Some(workspace) = self.workspace_of(workspace) else {
            return;
        };
        match message {
            Message::Begin { change, whom, hold } => {
                self.begin_foreign(workspace, change, whom, hold);
            }
            Message::End { change, whom, hold } => {
                self.end_foreign(workspace, change, &whom, hold);
            }
            Message::Purge { whom } => {
                for twin in self.twins(workspace) {
                    self.cache.disturb(twin);
                }
                self.change_here(workspace, &whom, Hold::None, self.clock.now());
            }
            Message::Expire { whom } => self.expire_foreign(workspace, whom).await,
            Message::Erase { names, bar } => self.erase_foreign(workspace, &names, bar).await,
            Message::Lost => self.missed(workspace.number(), true),
        }
    }

    fn missed(self: &Arc<Self>, workspace: u32, lately: bool) {
        if let Some(workspace) = self.workspace_of(workspace) {
            let now = self.clock.now();
            for twin in self.twins(workspace) {
                self.cache.disturb(twin);
            }
            let hold = if lately {
                Hold::Reads(now + HOLD_DOWN)
            } else {
                Hold::None
            };
            self.change_here(workspace, &Touched::Everyone, hold, now);
            self.telemetry.metrics().invalidated("missed");
        }
    }

    async fn give_up(self: &Arc<Self>, workspace: u32) {
        let now = self.clock.now();
        let late: Vec<_> = {
            let mut abroad = self.abroad.0.lock();
            let late = |_: &Uuid, foreign: &mut Foreign| {
                foreign.workspace == workspace && foreign.until <= now
            };
            abroad.extract_if(late).collect()
        };
        let Some(workspace) = self.workspace_of(workspace) else {
            return;
        };
        for (change, foreign) in late {
            let hold = Hold::Reads(now + HOLD_DOWN);
            self.change_here(workspace, &foreign.whom, hold, now);
            // What the second tier has of everybody is outdated only by the end.
            let (whom, hold) = (foreign.whom.clone(), HOLD_DOWN);
            self.tell_only(workspace, &Message::End { change, whom, hold })
                .await;
        }
    }
}

impl Gateway {
    fn workspace_of(&self, number: u32) -> Option<&Arc<Workspace>> {
        self.workspaces.get(usize::try_from(number).ok()?)
    }
}
