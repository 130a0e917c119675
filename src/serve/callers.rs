//! Who may ask, from the configuration: at start, and again whenever it is read anew.
//!
//! # Invariants
//! - A caller keeps its number, and what it has used of its limits, for as long as the process lives:
//!   its share of the budget is counted by that number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Workspaces;
use crate::auth::{Caller, Callers};
use crate::clock::Clock;
use crate::config::{self, Config, InboundLimits, WorkspaceName};
use crate::limit::Limiter;
use crate::shield::queue::{CallerId, Class};

/// What callers without a token are called.
const ANONYMOUS: &str = "anonymous";

/// Makes callers, and remembers what must outlast a configuration.
#[derive(Debug)]
pub(super) struct Roll {
    clock: Clock,
    known: BTreeMap<Who, Known>,
}

/// A client and its workspace. Under another workspace it is another one, with counts of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    /// `None`: whoever has no token.
    client: Option<String>,
    workspace: WorkspaceName,
}

#[derive(Debug)]
struct Known {
    id: CallerId,
    limiter: Option<Arc<Limiter>>,
}

/// What the configuration says of a client, with or without token.
struct Terms<'c> {
    client: Option<&'c str>,
    workspace: &'c WorkspaceName,
    scopes: config::Scopes,
    class: config::Class,
    weight: u32,
    limits: InboundLimits,
}

impl Roll {
    pub(super) fn new(clock: Clock) -> Self {
        let known = BTreeMap::new();
        Self { clock, known }
    }

    /// Those whom `config` names; all their workspaces are among `workspaces`.
    pub(super) fn call(&mut self, config: &Config, workspaces: &Workspaces) -> Callers {
        let mut callers = Callers::default();
        for (name, client) in &config.clients {
            let caller = self.caller(
                &Terms {
                    client: Some(name.as_str()),
                    workspace: &client.workspace,
                    scopes: client.scopes,
                    class: client.class,
                    weight: client.weight,
                    limits: client.limits,
                },
                workspaces,
            );
            for digest in &client.token_sha256 {
                callers.add(*digest.as_bytes(), Arc::clone(&caller));
            }
            for name in &client.certificate_names {
                callers.certify(name, Arc::clone(&caller));
            }
        }
        if let Some(anonymous) = &config.anonymous {
            callers.allow_anonymous(self.caller(
                &Terms {
                    client: None,
                    workspace: &anonymous.workspace,
                    scopes: anonymous.scopes,
                    class: anonymous.class,
                    weight: anonymous.weight,
                    limits: anonymous.limits,
                },
                workspaces,
            ));
        }
        callers
    }

    fn caller(&mut self, terms: &Terms<'_>, workspaces: &Workspaces) -> Arc<Caller> {
        let known = self.known(terms);
        let (id, limiter) = (known.id, known.limiter.clone());
        let caller = Caller::new(
            terms.client.unwrap_or(ANONYMOUS),
            id,
            Arc::clone(&workspaces[terms.workspace]),
            terms.scopes,
            class_of(terms.class),
            terms.weight,
        );
        Arc::new(caller.limited_by(limiter))
    }

    fn known(&mut self, terms: &Terms<'_>) -> &Known {
        let who = Who {
            client: terms.client.map(str::to_owned),
            workspace: terms.workspace.clone(),
        };
        let next = CallerId(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        let known = self.known.entry(who).or_insert(Known {
            id: next,
            limiter: None,
        });
        let before = known.limiter.as_ref().map(|limiter| limiter.configured());
        if before != Some(terms.limits) {
            known.limiter = Limiter::new(terms.limits, &self.clock);
        }
        known
    }
}

fn class_of(class: config::Class) -> Class {
    match class {
        config::Class::Interactive => Class::Interactive,
        config::Class::Service => Class::Service,
        config::Class::Batch => Class::Batch,
    }
}
