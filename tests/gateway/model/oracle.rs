//! What Flameup would have answered to each name, at each time.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Answers, Name};

/// The longest that an answer may be old: ttl and the longer of the stale windows, as configured.
pub(super) const OLDEST_MS: u64 = 20_000 + 60_000;

/// All that Flameup has said, and what a reader may still be shown.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    moments: Vec<Moment>,
    /// By name, the moment before which nothing may be shown to whoever asks from now on.
    floors: HashMap<Name, usize>,
}

/// What Flameup answers from some time on, until the next moment.
#[derive(Debug)]
struct Moment {
    since_ms: u64,
    answers: Answers,
}

/// What a read knows when it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    floor: usize,
}

impl Oracle {
    /// Notes what Flameup answers now. Says which moment that is.
    pub(super) fn note(&mut self, answers: Answers, now_ms: u64) -> usize {
        if self
            .moments
            .last()
            .is_none_or(|last| last.answers != answers)
        {
            self.moments.push(Moment {
                since_ms: now_ms,
                answers,
            });
        }
        self.now()
    }

    /// The moment that it is.
    pub(super) fn now(&self) -> usize {
        self.moments.len().saturating_sub(1)
    }

    /// A read of `name` begins.
    pub(super) fn begin(&self, name: &Name) -> Begun {
        let floor = self.floors.get(name).copied().unwrap_or(0);
        Begun { floor }
    }

    /// A change that took place from moment `before` to `after` has returned: whatever it changed
    /// is not shown any more as it was.
    pub(super) fn changed(&mut self, before: usize, after: usize) {
        for moment in before + 1..=after {
            let (old, new) = (
                &self.moments[moment - 1].answers,
                &self.moments[moment].answers,
            );
            for (name, answer) in new {
                if old.get(name) != Some(answer) {
                    let floor = self.floors.entry(name.clone()).or_default();
                    *floor = (*floor).max(moment);
                }
            }
        }
    }

    /// A purge or erasure that began at `moment` has returned: whoever was called so then is not
    /// shown any more as they were before, by whatever name.
    pub(super) fn forgotten(&mut self, name: &Name, moment: usize) {
        let mut names = self.called_like(name, moment);
        names.push(name.clone());
        for name in names {
            let floor = self.floors.entry(name).or_default();
            *floor = (*floor).max(moment);
        }
    }

    /// All names of whoever was called `name` at that moment; none, if it was nobody. A body
    /// tells who it is, so two names with one body were one person's.
    pub(super) fn called_like(&self, name: &Name, moment: usize) -> Vec<Name> {
        let answers = &self.moments[moment].answers;
        let Some(Some(body)) = answers.get(name) else {
            return Vec::new();
        };
        let is_theirs = |(_, answer): &(&Name, &Option<Bytes>)| answer.as_ref() == Some(body);
        let theirs = answers.iter().filter(is_theirs);
        theirs.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a read of `name` may show this.
    pub(super) fn allows(
        &self,
        name: &Name,
        begun: Begun,
        shown: Option<&Bytes>,
        now_ms: u64,
    ) -> Result<(), String> {
        let mut reasons = Vec::new();
        for index in (0..self.moments.len()).rev() {
            let moment = &self.moments[index];
            if moment.answers.get(name).and_then(Option::as_ref) != shown {
                continue;
            }
            let until = self
                .moments
                .get(index + 1)
                .map_or(now_ms, |next| next.since_ms);
            let age = now_ms - until;
            if index >= begun.floor && age <= OLDEST_MS {
                return Ok(());
            }
            reasons.push(format!(
                "moment {index} was {age} ms ago, floor {}",
                begun.floor
            ));
        }
        let shown = shown.map_or_else(|| "404".to_owned(), |body| format!("{body:?}"));
        Err(format!(
            "{name:?} shows {shown}, which Flameup {}",
            if reasons.is_empty() {
                "never answered to it".to_owned()
            } else {
                format!("answered to it only too long ago: {}", reasons.join("; "))
            }
        ))
    }
}
