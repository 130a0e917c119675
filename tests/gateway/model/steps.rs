//! What can happen, and how often.

use proptest::prelude::*;

/// Who is meant: a name that may stand for somebody, for nobody, or for a succession of people.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// An external id.
    Id(u8),
    /// An e-mail, in lower case or in upper.
    Email(u8, bool),
    /// One of the UUIDs that there have been.
    Uuid(u8),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Read(Who),
    /// Creates, or updates who has the id.
    Create(u8, u8),
    /// The same, found by id or e-mail; the answer names nobody.
    Upsert(u8, u8),
    /// Two at once.
    Batch([(u8, u8); 2]),
    /// Changes nothing that anybody is called.
    Touch(Who),
    MoveEmail(Who, u8),
    MoveId(Who, u8),
    Delete(Who),
    /// Lists everybody: what is stored of them is brought up to date.
    List,
    Purge(Who),
    Expire(Who),
    Erase(Who),
}

impl Operation {
    /// Whether whoever is in memory may be dropped for it.
    pub(super) fn writes(self) -> bool {
        !matches!(self, Self::Read(_) | Self::List | Self::Expire(_))
    }
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// One request, answered before the next step.
    Alone(Operation),
    /// Requests that overlap.
    Together(Vec<Action>),
    /// Somebody edits a person in Flameup's own dashboard.
    Edit(u8),
    /// So many of the next requests fail.
    Fail(Failure, u8),
    /// Milliseconds pass.
    Wait(u32),
}

impl Step {
    /// How many steps it counts for: overlapping ones are as many as they are.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Together(actions) => actions.len(),
            Self::Alone(_) | Self::Edit(_) | Self::Fail(..) | Self::Wait(_) => 1,
        }
    }
}

/// What happens while requests overlap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A request is sent, and held when it reaches Flameup.
    Start(Operation),
    /// One that is held, of those for this name or another, is let go.
    Release(u8),
    /// Somebody edits a person in Flameup's own dashboard.
    Edit(u8),
}

/// How Flameup fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// 500, nothing done.
    Error,
    /// The answer is lost, though all was done.
    Reset,
    /// Half of the answer is lost.
    Cut,
}

/// So few names that what happens often happens to the same person.
pub(super) const IDS: u8 = 3;
pub(super) const EMAILS: u8 = 3;
/// Counted from the newest.
const UUIDS: u8 = 3;

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        3 => (0..IDS).prop_map(Who::Id),
        3 => (0..EMAILS, any::<bool>()).prop_map(|(email, upper)| Who::Email(email, upper)),
        3 => (0..UUIDS).prop_map(Who::Uuid),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let pair = || (0..IDS, 0..EMAILS);
    prop_oneof![
        30 => who().prop_map(Operation::Read),
        3 => pair().prop_map(|(id, email)| Operation::Create(id, email)),
        2 => pair().prop_map(|(id, email)| Operation::Upsert(id, email)),
        1 => [pair(), pair()].prop_map(Operation::Batch),
        6 => who().prop_map(Operation::Touch),
        3 => (who(), 0..EMAILS).prop_map(|(who, email)| Operation::MoveEmail(who, email)),
        2 => (who(), 0..IDS).prop_map(|(who, id)| Operation::MoveId(who, id)),
        2 => who().prop_map(Operation::Delete),
        1 => Just(Operation::List),
        3 => who().prop_map(Operation::Purge),
        1 => who().prop_map(Operation::Expire),
        1 => who().prop_map(Operation::Erase),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => operation().prop_map(Action::Start),
        4 => any::<u8>().prop_map(Action::Release),
        1 => (0..IDS).prop_map(Action::Edit),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        Just(Failure::Error),
        Just(Failure::Reset),
        Just(Failure::Cut)
    ]
}

/// Any step.
pub(super) fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => operation().prop_map(Step::Alone),
        6 => prop::collection::vec(action(), 3..16).prop_map(Step::Together),
        2 => (0..IDS).prop_map(Step::Edit),
        1 => (failure(), 1u8..3).prop_map(|(failure, times)| Step::Fail(failure, times)),
        2 => (0u32..3_000).prop_map(Step::Wait),
        1 => (3_000u32..200_000).prop_map(Step::Wait),
    ]
}
