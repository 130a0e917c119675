//! The gateway as its clients meet it: over sockets, before a sandbox that is told what to do.

mod support;

mod admin;
mod aliases;
mod auth;
mod breaker;
mod budget_metrics;
mod canary;
mod changes_of_many;
mod collapsing;
mod directives;
mod emails;
mod erase;
mod freshness;
mod header_hygiene;
mod identifiers;
mod isolation;
mod key_reload;
mod long_form;
mod lookup;
mod model;
mod negative_caching;
mod operate;
mod pass_through;
mod problems;
mod rate_shield;
mod retries;
mod revalidation;
mod server_limits;
mod shares;
mod shutdown;
mod stale_service;
mod streaming;
mod upstream_failures;
mod upstream_tls;
mod writes;
