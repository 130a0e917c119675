//! What can happen, and how often.

use proptest::prelude::*;

use super::Tenant;

/// Who is meant: a name that may stand for somebody, for nobody, or for a succession of people.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// An external id.
    Id(u8),
    /// An e-mail, in lower case or in upper.
    Email(u8, bool),
    /// One of the UUIDs that there have been.
    Uuid(u8),
    /// Whoever has this external id, by one of their names.
    Of(u8, u8),
    /// One of those in the other workspace.
    OthersUuid(u8),
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
    /// Gives a person the e-mail that whoever has this id had last. After a deletion that makes
    /// two people one: Flameup documents no operation of its own for it.
    TakeOver(Who, u8),
    /// Lists everybody: what is stored of them is brought up to date.
    List,
    Purge(Who),
    Expire(Who),
    Erase(Who),
}

impl Operation {
    /// What many of its kind are called.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Read(_) => "reads",
            Self::Delete(_) => "deletions",
            Self::List => "lists",
            Self::Purge(_) => "purges",
            Self::Expire(_) => "expirations",
            Self::Erase(_) => "erasures",
            _ => "writes",
        }
    }

    /// Whether whoever is in memory may be dropped for it.
    pub(super) fn writes(self) -> bool {
        !matches!(self, Self::Read(_) | Self::List | Self::Expire(_))
    }
}

/// One step of a history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// One request, answered before the next step.
    Alone(Tenant, Operation),
    /// The second of two people is merged into the first, in two requests.
    Merge(Tenant, u8, u8),
    /// Somebody is read into memory, and asked for by several names after so many milliseconds.
    Crowd(Tenant, u8, u32, Vec<Action>),
    /// Somebody is asked for by all of their names when no change holds reads off any more, twice
    /// if so.
    Visit(Tenant, u8, bool),
    /// Requests that overlap.
    Together(Vec<Action>),
    /// Somebody edits a person in Flameup's own dashboard.
    Edit(Tenant, u8),
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
            Self::Crowd(_, _, _, actions) => 3 + actions.len(),
            Self::Merge(..) => 2,
            Self::Visit(_, _, twice) => 3 * (1 + usize::from(*twice)),
            Self::Alone(..) | Self::Edit(..) | Self::Fail(..) | Self::Wait(_) => 1,
        }
    }
}

/// What happens while requests overlap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A request is sent, and held when it reaches Flameup.
    Start(Tenant, Operation),
    /// One that is held, of those for this name or another, is let go.
    Release(u8),
    /// Somebody edits a person in Flameup's own dashboard.
    Edit(Tenant, u8),
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

/// Most of what happens happens in one workspace.
fn tenant() -> impl Strategy<Value = Tenant> {
    prop_oneof![4 => Just(0), 1 => Just(1)]
}

fn operation() -> impl Strategy<Value = Operation> {
    let pair = || (0..IDS, 0..EMAILS);
    prop_oneof![
        30 => who().prop_map(Operation::Read),
        1 => (0..UUIDS).prop_map(|which| Operation::Read(Who::OthersUuid(which))),
        3 => pair().prop_map(|(id, email)| Operation::Create(id, email)),
        2 => pair().prop_map(|(id, email)| Operation::Upsert(id, email)),
        1 => [pair(), pair()].prop_map(Operation::Batch),
        6 => who().prop_map(Operation::Touch),
        3 => (who(), 0..EMAILS).prop_map(|(who, email)| Operation::MoveEmail(who, email)),
        2 => (who(), 0..IDS).prop_map(|(who, id)| Operation::MoveId(who, id)),
        2 => who().prop_map(Operation::Delete),
        1 => (who(), 0..IDS).prop_map(|(who, id)| Operation::TakeOver(who, id)),
        1 => Just(Operation::List),
        3 => who().prop_map(Operation::Purge),
        1 => who().prop_map(Operation::Expire),
        1 => who().prop_map(Operation::Erase),
    ]
}

/// One action in the workspace, or the two that make a merger.
fn actions(tenant: Tenant) -> impl Strategy<Value = Vec<Action>> {
    let start = move |operation| Action::Start(tenant, operation);
    let merger = move |(one, other): (u8, u8)| {
        let gone = Operation::Delete(Who::Id(other));
        let grown = Operation::TakeOver(Who::Id(one), other);
        vec![start(gone), start(grown)]
    };
    prop_oneof![
        24 => operation().prop_map(move |operation| vec![start(operation)]),
        16 => any::<u8>().prop_map(|which| vec![Action::Release(which)]),
        4 => (0..IDS).prop_map(move |id| vec![Action::Edit(tenant, id)]),
        1 => (0..IDS, 0..IDS).prop_map(merger),
    ]
}

/// Actions that overlap; where both workspaces have a part in them, they are mixed.
fn together() -> impl Strategy<Value = Step> {
    let mixed = prop_oneof![4 => actions(0), 1 => actions(1)].boxed();
    let all = prop_oneof![
        3 => Just(actions(0).boxed()),
        1 => Just(actions(1).boxed()),
        1 => Just(mixed),
    ];
    let several = all.prop_flat_map(|one| prop::collection::vec(one, 3..16));
    several.prop_map(|actions| Step::Together(actions.concat()))
}

/// Requests for one person who is stale by then, or dead.
fn crowd() -> impl Strategy<Value = Step> {
    let crowd = |(tenant, id, wait): (Tenant, u8, u32)| {
        let read = any::<u8>().prop_map(move |which| Operation::Read(Who::Of(id, which)));
        let action = prop_oneof![
            6 => read.prop_map(move |read| vec![Action::Start(tenant, read)]),
            2 => actions(tenant),
        ];
        let several = prop::collection::vec(action, 3..8);
        several.prop_map(move |actions| Step::Crowd(tenant, id, wait, actions.concat()))
    };
    (tenant(), 0..IDS, 20_000u32..120_000).prop_flat_map(crowd)
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
        12 => (tenant(), operation()).prop_map(|(tenant, operation)| Step::Alone(tenant, operation)),
        6 => together(),
        1 => crowd(),
        3 => (tenant(), 0..IDS, any::<bool>()).prop_map(|(tenant, id, twice)| Step::Visit(tenant, id, twice)),
        1 => (tenant(), 0..IDS, 0..IDS).prop_map(|(tenant, one, other)| Step::Merge(tenant, one, other)),
        2 => (tenant(), 0..IDS).prop_map(|(tenant, id)| Step::Edit(tenant, id)),
        1 => (failure(), 1u8..3).prop_map(|(failure, times)| Step::Fail(failure, times)),
        2 => (0u32..3_000).prop_map(Step::Wait),
        1 => (3_000u32..200_000).prop_map(Step::Wait),
    ]
}
