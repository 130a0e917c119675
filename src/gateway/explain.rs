//! Why a lookup would hit or miss now. Nothing in it names the person: names are keyed hashes, as
//! logs have them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Gateway;
use super::operate::Person;
use super::status::Standing;
use crate::answer::Answer;
use crate::cache::Lookup;
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::freshness::StaleWindows;
use crate::cache::status::{CacheStatus, End, Reason};
use crate::cache::view::View;
use crate::failure::Failure;
use crate::person::change::Name;
use crate::shield::breaker;
use crate::shield::{Error as Refused, Report};
use crate::workspace::Workspace;

/// Decisions that are shown.
const SHOWN: usize = 20;

const NOTHING_STORED: &str = "nothing is stored; Flameup is asked";
const AMBIGUOUS: &str =
    "several people are called so, and only Flameup says which of them is meant; it is asked";
const UNPROVEN: &str = "Flameup's id of the workspace is not known yet, so nothing stored can be shown to be this \
                        person's; Flameup is asked";

/// What is known of a person, and what a plain GET would get now.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The workspace.
    pub workspace: String,
    /// Who is meant.
    pub person: Person,
    /// What a plain GET would get.
    pub next: Next,
    /// The stored person; `None` if there is none.
    pub entry: Option<Stored>,
    /// How many stored people claim this name. Of several, none is found by a claim.
    pub claimants: usize,
    /// The remembered 404; `None` if there is none.
    pub absence: Option<Stored>,
    /// The names that lead to the stored person.
    pub names: Vec<Person>,
    /// Changes that matter to what may be stored.
    pub changes: Changes,
    /// Whether Flameup is being asked, or is about to be.
    pub fetch_under_way: bool,
    /// How the way to Flameup stands.
    pub standing: Standing,
    /// The last decisions about this person, latest first; plain hits are not kept.
    pub decisions: Vec<Decided>,
}

/// What a plain GET would get.
#[derive(Debug, Serialize)]
pub struct Next {
    /// The `Cache-Status` that it would have, without the cache's name.
    pub cache: String,
    /// Why, in a sentence.
    pub why: &'static str,
}

/// One stored answer.
#[derive(Debug, Serialize)]
pub struct Stored {
    /// The hash of the name that it is stored under, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_under: Option<String>,
    /// Its status.
    pub status: u16,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// Seconds since Flameup was asked.
    pub age_s: u64,
    /// Seconds that it is fresh for in all.
    pub lifetime_s: u64,
    /// Seconds left of that; negative once stale.
    pub ttl_s: i64,
    /// Seconds for which it may still be served while one refresh runs.
    pub stale_while_revalidate_left_s: u64,
    /// Seconds for which it may still be served if Flameup fails.
    pub stale_if_error_left_s: u64,
}

/// Changes that matter to what may be stored.
#[derive(Debug, Serialize)]
pub struct Changes {
    /// The number of the last change of anybody.
    pub last: u64,
    /// The number of the last change of this person, while a fetch may still show what was before.
    pub of_this_person: Option<u64>,
    /// Seconds for which what is read is not stored.
    pub not_stored_for_s: Option<u64>,
    /// Whether that is because the person was erased.
    pub erased: bool,
}

/// One decision.
#[derive(Debug, Serialize)]
pub struct Decided {
    /// Seconds since.
    pub ago_s: u64,
    /// What the cache did.
    pub cache: String,
}

impl Gateway {
    /// Says why a lookup of whoever is called so would hit or miss now. It looks as a lookup does: a
    /// person that a write was answered with, and that is due to be stored, is stored by it.
    pub fn explain(&self, workspace: &Workspace, name: &Name) -> Explanation {
        let now = self.clock.now();
        let keys = workspace.keys_of(name);
        let unproven = matches!(name, Name::Uuid(_)) && workspace.id().is_none();
        // A path with a workspace's id cannot be proven right then, and memory is not asked.
        let lookup = if unproven {
            Lookup::NOTHING
        } else {
            self.cache.lookup(&keys, &RequestDirectives::default(), now)
        };
        let view = self.cache.view(&keys, now);
        let report = workspace.shield().report();
        let (next, mut why) = foretell(lookup, &view, &report, now);
        if unproven && why == NOTHING_STORED {
            why = UNPROVEN;
        }
        let windows = self.cache.windows();
        let stored = |entry: &Entry, windows| Stored::of(entry, windows, now);
        let other = view.stored_under.as_ref();
        let seconds = |until: Instant| until.saturating_duration_since(now).as_secs();
        Explanation {
            workspace: workspace.name().to_owned(),
            person: self.person(workspace, name),
            next: Next {
                cache: next.words(),
                why,
            },
            entry: view.person.as_ref().map(|entry| Stored {
                stored_under: other.map(|key| self.telemetry.hash(key)),
                ..stored(entry, windows)
            }),
            claimants: view.claimants,
            absence: view
                .absence
                .as_ref()
                .map(|entry| stored(entry, &StaleWindows::NONE)),
            names: self.names(&view),
            changes: Changes {
                last: view.last_change,
                of_this_person: view.changed,
                not_stored_for_s: view.held_until.map(seconds),
                erased: view.is_barred,
            },
            fetch_under_way: view.is_being_fetched,
            standing: Standing::of(&report, now),
            decisions: self.decided(&view, now),
        }
    }

    fn names(&self, view: &View) -> Vec<Person> {
        let person = |(kind, key): &(&'static str, _)| Person {
            kind,
            hash: self.telemetry.hash(key),
        };
        view.names.iter().map(person).collect()
    }

    fn decided(&self, view: &View, now: Instant) -> Vec<Decided> {
        let decisions = self.decisions.about(&view.hashes);
        let shown = decisions.iter().take(SHOWN).map(|decision| Decided {
            ago_s: now.saturating_duration_since(decision.at).as_secs(),
            cache: decision.cache.words(),
        });
        shown.collect()
    }
}

impl Stored {
    fn of(entry: &Entry, windows: &StaleWindows, now: Instant) -> Self {
        let (age, lifetime) = (
            entry.freshness().current_age(now),
            entry.freshness().lifetime(),
        );
        let left = |window: Duration| (lifetime + window).saturating_sub(age).as_secs();
        Self {
            stored_under: None,
            status: entry.status().as_u16(),
            body_bytes: entry.body().len(),
            age_s: age.as_secs(),
            lifetime_s: lifetime.as_secs(),
            ttl_s: entry.freshness().ttl_seconds(now),
            stale_while_revalidate_left_s: left(windows.while_revalidate),
            stale_if_error_left_s: left(windows.if_error),
        }
    }
}

/// What the request path would do with `lookup`, as things stand; and why.
fn foretell(
    lookup: Lookup,
    view: &View,
    report: &Report,
    now: Instant,
) -> (CacheStatus, &'static str) {
    let may_refresh = report.breaker == breaker::State::Closed && report.leftover > 0;
    match lookup {
        Lookup::Fresh(entry) => (
            Answer::hit(entry, now).cache_status(),
            "what is stored is fresh",
        ),
        Lookup::Stale(_) if report.key_refused => {
            foretell_forward(Reason::Stale, None, view, report, now)
        }
        Lookup::Stale(entry) if view.is_being_fetched || may_refresh => (
            Answer::revalidating(entry, now).cache_status(),
            "what is stored is stale; it is served while it is refreshed",
        ),
        Lookup::Stale(entry) => (
            Answer::stale_for_want_of_budget(entry, now).cache_status(),
            "what is stored is stale; it is served, and nothing may be spent on a refresh now",
        ),
        Lookup::Forward {
            reason,
            stored,
            stale_if_error,
        } => {
            let cover = stored.filter(|_| stale_if_error && !report.key_refused);
            foretell_forward(reason, cover, view, report, now)
        }
    }
}

/// What becomes of a lookup that what is stored does not do for.
fn foretell_forward(
    reason: Reason,
    cover: Option<Arc<Entry>>,
    view: &View,
    report: &Report,
    now: Instant,
) -> (CacheStatus, &'static str) {
    let forward = |end| CacheStatus::Forward {
        reason,
        status: None,
        end,
    };
    if view.is_being_fetched {
        let why = "another request is asking Flameup already; its answer serves this one";
        return (forward(End::Collapsed), why);
    }
    if let Some((failure, why)) = refusal(report, now) {
        let answer = match cover {
            Some(cover) => Answer::despite(cover, &failure, now),
            None => Answer::failed(&failure, reason),
        };
        return (answer.cache_status(), why);
    }
    let why = if view.is_barred {
        "the person was erased; Flameup is asked, and its answer is not stored"
    } else if view.held_until.is_some() {
        "the person has just changed; Flameup is asked, and its answer is not stored"
    } else if report.budget.remaining == 0 {
        "Flameup is asked when the budget has a turn; if that is too late, something stale, or 429"
    } else if reason == Reason::UriMiss && view.claimants > 1 {
        AMBIGUOUS
    } else if reason == Reason::UriMiss {
        NOTHING_STORED
    } else {
        "what is stored is too old; Flameup is asked"
    };
    (forward(End::Relayed), why)
}

/// Why nothing would be sent now.
fn refusal(report: &Report, now: Instant) -> Option<(Failure, &'static str)> {
    if report.key_refused {
        let why = "Flameup refuses the key; only probes are sent, and nothing stale is served";
        return Some((Failure::KeyRefused, why));
    }
    let breaker::State::Open { until } = report.breaker else {
        return None;
    };
    let retry_after = until.saturating_duration_since(now);
    let open = Refused::BreakerOpen { retry_after };
    Some((open.into(), "Flameup keeps failing and is left alone"))
}
