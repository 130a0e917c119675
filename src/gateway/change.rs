//! One change on its way to Flameup, and what the cache is told of it.
//!
//! # Invariants
//! - The cache hears of a change before Flameup can act on it: of the person in the path before
//!   anything is sent, of those in the body before its last bytes go out.
//! - Every change ends in the cache, however it ended at Flameup: its [`Change`] ends it when dropped.
//! - It has ended before the client has the last byte of the answer. What the client asks after that
//!   was asked after the change.
//! - Other gateways hear of it as early, as far as Redis is reached.
//! - It begins and ends in every section that may be the same workspace at Flameup.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use uuid::Uuid;

use super::Gateway;
use super::telling::Telling;
use crate::cache::change::{End, Meant, Passing};
use crate::cache::changes::{HOLD_DOWN, Number, UnderWay};
use crate::person::body::Identity;
use crate::person::change::{Kind, Touched, whole_people};
use crate::route::{Effect, Forward};
use crate::tier::log::message::Message;
use crate::upstream::upload::Witness;
use crate::workspace::Workspace;

/// Largest body that is kept to be read for names. A batch of 100 people is some 60 KB; with what is
/// larger everyone of the workspace is touched. All forwards together keep 128 MiB at most.
pub(super) const MOST_KEPT_BYTES: usize = 1024 * 1024;

/// A change under way. Dropped before it was answered, it ends as one whose end nobody knows.
#[derive(Debug)]
pub(super) struct Change {
    effect: Effect,
    under_way: UnderWay,
    shared: Arc<Shared>,
    ended: bool,
}

/// What the change has in common with the body that is on its way.
#[derive(Debug)]
struct Shared {
    /// What other gateways know it by.
    id: Uuid,
    gateway: Arc<Gateway>,
    workspace: Arc<Workspace>,
    /// The workspace that the path named.
    named: Option<String>,
    known: Mutex<Known>,
}

/// Whom the change touches, as far as is known.
#[derive(Debug)]
struct Known {
    path: Touched,
    /// Nothing until the whole body has been seen.
    body: Option<Touched>,
    ended: bool,
}

/// How Flameup took a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// It was made.
    Done,
    /// It was refused, and nothing was changed.
    Refused,
    /// Nobody can tell.
    Unclear,
}

impl Change {
    /// Begins the change that `forward` is; nothing, if it is none.
    pub(super) fn begin(
        gateway: &Arc<Gateway>,
        workspace: &Arc<Workspace>,
        forward: &Forward<'_>,
    ) -> Option<Self> {
        let effect = forward.endpoint().effect();
        let counts = match effect {
            Effect::None => false,
            Effect::Event | Effect::Device => gateway.cache.events_invalidate(),
            Effect::Person | Effect::People | Effect::Anything => true,
        };
        if !counts {
            return None;
        }
        let path = match (effect, forward.person()) {
            (Effect::Anything, _) => Touched::Everyone,
            (_, Some(person)) => Touched::of_path(person),
            (_, None) => Touched::NOBODY,
        };
        let path = gateway.to_tell(workspace, path);
        let shared = Shared {
            id: Uuid::now_v7(),
            gateway: Arc::clone(gateway),
            workspace: Arc::clone(workspace),
            named: forward.workspace_id().map(str::to_owned),
            known: Mutex::new(Known {
                path,
                body: None,
                ended: false,
            }),
        };
        let twins = gateway.twins(workspace).map(|twin| twin.number());
        let under_way = gateway.cache.change_begins(twins);
        shared.begin(&shared.known.lock().path);
        Some(Self {
            effect,
            under_way,
            shared: Arc::new(shared),
            ended: false,
        })
    }

    /// Tells other gateways that it begins. One that names nobody yet is told too: what they change
    /// meanwhile may be older or newer.
    pub(super) async fn tell(&self) {
        let path = self.shared.known.lock().path.clone();
        self.shared.tell(path).await;
    }

    /// Sees the request's body when it is whole. A body with a content coding is not read.
    pub(super) fn witness(&self, headers: &HeaderMap) -> Witness {
        let shared = Arc::clone(&self.shared);
        let kind = match self.effect {
            Effect::Event => Kind::Event,
            _ => Kind::People,
        };
        // What a device is called by says nothing of its person.
        let says_nothing = self.effect == Effect::Device;
        let coding = headers.get(CONTENT_ENCODING);
        let coded = coding.is_some_and(|coding| coding != "identity");
        Box::new(move |body| {
            let body = match body {
                _ if says_nothing => Touched::NOBODY,
                Some(body) if !coded => Touched::of_body(kind, body),
                _ => Touched::Everyone,
            };
            // Before they are let go of: their other names are known as yet.
            let body = shared.gateway.to_tell(&shared.workspace, body);
            let may_go = shared.saw(body.clone());
            Box::pin(async move {
                if may_go && !body.is_nobody() {
                    shared.tell(body).await;
                }
                may_go && !shared.known.lock().ended
            })
        })
    }

    /// Whether what comes back says anything of people.
    pub(super) fn reads_answer(&self, status: StatusCode) -> bool {
        status.is_success() && matches!(self.effect, Effect::Person | Effect::People)
    }

    /// Ends the change with Flameup's answer; `body` if it was read and was not too large.
    pub(super) fn answered(
        mut self,
        status: StatusCode,
        body: Option<&Bytes>,
        asked: Asked,
    ) -> Telling {
        let taken = Taken::of(status, self.effect);
        let (mut touched, mut written) = (self.conclude(taken), Vec::new());
        if self.reads_answer(status) {
            touched = touched.and(match body {
                Some(body) => Touched::of_body(Kind::People, body),
                None => Touched::Everyone,
            });
            let Shared {
                workspace, named, ..
            } = &*self.shared;
            let read = |body| asked.saw(body, workspace, named.as_deref());
            written = body.map(read).unwrap_or_default();
        }
        let meant = self.meant(taken, body);
        self.end(&touched, meant, written, taken)
    }

    /// Ends the change with an answer of Flameup's that nobody can read: it may have been made.
    pub(super) fn answered_unreadably(self, asked: Asked) -> Telling {
        self.answered(StatusCode::OK, None, asked)
    }

    /// Ends the change as one whose end nobody knows.
    pub(super) fn lost(mut self) -> Telling {
        self.end_unclearly()
    }

    fn end_unclearly(&mut self) -> Telling {
        let touched = self.conclude(Taken::Unclear);
        self.end(&touched, Meant::Called, Vec::new(), Taken::Unclear)
    }

    /// Whom the change touches, by path and body. From now on its last bytes may not go out any more:
    /// nobody would end it for those that they name.
    fn conclude(&self, taken: Taken) -> Touched {
        let mut known = self.shared.known.lock();
        known.ended = true;
        let (path, body) = (known.path.clone(), known.body.clone());
        match (taken, body) {
            // Flameup says it is done, though it cannot have seen all of it.
            (Taken::Done, None) => Touched::Everyone,
            (Taken::Done | Taken::Unclear, Some(body)) => path.and(body),
            // Half a body is half a JSON text: nothing was done.
            (Taken::Unclear, None) => path,
            (Taken::Refused, body) => {
                let readable = |touched: &Touched| *touched != Touched::Everyone;
                let path = Some(path).filter(readable).unwrap_or(Touched::NOBODY);
                path.and(body.filter(readable).unwrap_or(Touched::NOBODY))
            }
        }
    }

    /// Whom the names of the change mean, where one is that of a crowd: nobody else than the Person
    /// that a change of one was answered with, and nobody at all where it was refused.
    fn meant(&self, taken: Taken, body: Option<&Bytes>) -> Meant {
        let of_one = self.effect == Effect::Person;
        let is_told = |body: &Bytes| Identity::read(body).is_ok_and(|told| told.uuid().is_some());
        match taken {
            Taken::Refused => Meant::Named,
            Taken::Done if of_one && body.is_some_and(is_told) => Meant::Named,
            Taken::Done | Taken::Unclear => Meant::Called,
        }
    }

    fn end(
        &mut self,
        touched: &Touched,
        meant: Meant,
        written: Vec<Passing>,
        taken: Taken,
    ) -> Telling {
        self.ended = true;
        let shared = &self.shared;
        // Before they are let go of: the answer may have named more.
        let whom = shared.gateway.to_tell(&shared.workspace, touched.clone());
        let (gateway, now) = (&shared.gateway, shared.gateway.clock.now());
        let (mut written, mut crowded) = (Some(written), false);
        let touched = &gateway.known_in_all(&shared.workspace, touched);
        for workspace in gateway.twins(&shared.workspace) {
            // What another key was answered with is for its own clients alone.
            let own = workspace.number() == shared.workspace.number();
            let written = written.take_if(|_| own).unwrap_or_default();
            let cache = &gateway.cache;
            let end = End {
                meant,
                written,
                under_way: &self.under_way,
            };
            let everybody = cache.end_change(workspace, touched, end, now);
            crowded |= everybody;
            if everybody {
                gateway.sweep_soon(workspace);
            }
        }
        let metrics = gateway.telemetry.metrics();
        metrics.invalidated(match (touched, taken) {
            (Touched::Everyone, _) => "everyone",
            (_, _) if crowded => "crowded",
            (_, Taken::Done) => "write",
            (_, Taken::Refused) => "refused",
            (_, Taken::Unclear) => "unclear",
        });
        let whom = if crowded { Touched::Everyone } else { whom };
        let (change, hold) = (shared.id, HOLD_DOWN);
        gateway.tell_on(&shared.workspace, Message::End { change, whom, hold })
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        if !self.ended {
            // It is told all the same.
            let _told = self.end_unclearly();
        }
    }
}

impl Shared {
    fn begin(&self, touched: &Touched) {
        if !touched.is_nobody() {
            let (cache, now) = (&self.gateway.cache, self.gateway.clock.now());
            let touched = &self.gateway.known_in_all(&self.workspace, touched);
            for workspace in self.gateway.twins(&self.workspace) {
                cache.begin_change(workspace, touched, now);
            }
        }
    }

    /// Tells other gateways that those who are touched are about to be changed.
    async fn tell(&self, touched: Touched) {
        let gateway = &self.gateway;
        let (change, hold) = (self.id, gateway.longest_change());
        let begin = Message::Begin {
            change,
            whom: touched,
            hold,
        };
        gateway.tell_only(&self.workspace, &begin).await;
    }

    /// Takes note of those in the body. Says whether its last bytes may still go out: not once the
    /// change has ended, for nobody would end it again.
    fn saw(&self, body: Touched) -> bool {
        let mut known = self.known.lock();
        if known.ended {
            return false;
        }
        self.begin(&body);
        known.body = Some(body);
        true
    }
}

impl Taken {
    /// What a status says of a change. The docs do not say what becomes of the others where one of
    /// many is refused (post-people-batch): a status that one of them may be the reason for says
    /// nothing of the rest. A refused text, key, permission, path or size is refused as a whole.
    fn of(status: StatusCode, effect: Effect) -> Self {
        let of_many = matches!(effect, Effect::People | Effect::Anything);
        match status.as_u16() {
            200..=299 => Self::Done,
            400 | 401 | 403 | 404 | 413 => Self::Refused,
            409 | 422 | 429 if !of_many => Self::Refused,
            _ => Self::Unclear,
        }
    }
}

/// When an answer was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Instant,
    /// The last change before that.
    pub(super) after: Number,
}

impl Asked {
    /// Those Persons of an answer that are the workspace's beyond doubt. Where the path named a
    /// workspace, it or the Person must prove that it is this one.
    pub(super) fn saw(
        self,
        answer: &Bytes,
        workspace: &Workspace,
        named: Option<&str>,
    ) -> Vec<Passing> {
        let is_own = |body: &Bytes| match named {
            None => true,
            Some(named) => workspace.has_id(named).unwrap_or_else(|| {
                let identity = Identity::read(body);
                identity.is_ok_and(|identity| identity.workspace_id() == Some(named))
            }),
        };
        let people = whole_people(answer).into_iter().filter(is_own);
        let seen = |body| Passing {
            body,
            asked_at: self.at,
            number: self.after,
        };
        people.map(seen).collect()
    }
}
