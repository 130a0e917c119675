//! A caching reverse proxy and rate shield in front of the Flameup people API.
//!
//! Callers change their base URL and nothing else. The gateway holds the Flameup key, recognises
//! which person is meant, answers from memory where it can, and asks Flameup once where it cannot.
//!
//! # The life of a request
//! 1. [`server`] accepts the connection, tells HTTP/1.1 from HTTP/2 and bounds what it may take.
//! 2. [`auth`] finds the caller by its token, and [`limit`] holds it to what it may ask of this
//!    gateway; the caller brings its [`workspace`], whose key it is served under.
//! 3. [`route`] finds what is wanted, and [`person`] who is meant. The workspace makes the cache
//!    keys of that person.
//! 4. [`cache`] looks up what is stored and judges whether it will do. If not, the request joins
//!    the fetch for this person, or is charged with it.
//! 5. [`shield`] admits the fetch when its turn comes: one budget for each Flameup key, spent by
//!    class and share. Without its permit nothing is sent.
//! 6. [`upstream`] sends it, in a task of its own, and takes in the answer within bounds. The
//!    answer must prove whose it is before it is stored or given to anybody.
//! 7. [`answer`] makes the response, [`problem`] where the gateway answers for itself.
//!
//! What is no lookup skips step 4: it is sent on once, as it is, and its [`body`] and the answer's
//! pass piece by piece. A change is told to the cache before Flameup can act on it and again before
//! its client has the whole answer, so that nobody reads afterwards what was before.
//!
//! A lookup of many ([`gateway::lookup`]) takes these steps for each person.
//!
//! [`gateway`] is this list as code. [`telemetry`] counts and logs, [`admin`] shows it to
//! operators, [`serve`] puts the parts together, and [`design`] says why things are as they are.
//!
//! Apart from [`config`] and [`clock`], dependencies point down this list. The cache, routes,
//! people, headers and the shield open no sockets; what judges freshness is handed the time.
//!
//! [`process`] is what the program asks of the system for itself: no core dumps, and to tell its
//! supervisor how things stand.
//!
//! [`tier`] is what several gateways share through Redis: a second tier of memory behind the cache's,
//! one budget, and one order of changes. Nothing of it is needed to answer.
//!
//! [`operate`] talks to a running gateway's admin listener, for the commands that do; [`manual`] makes
//! completions and manual pages of the command line.
//!
//! [`sandbox`] stands in for Flameup in tests and in [`demo`]. Nothing here was checked against the
//! live service.

pub mod admin;
pub mod answer;
pub mod auth;
pub mod body;
pub mod cache;
pub mod clock;
pub mod config;
pub mod demo;
pub mod design;
pub mod failure;
pub mod gateway;
pub mod headers;
pub mod json;
pub mod limit;
pub mod manual;
pub mod operate;
pub mod person;
pub mod problem;
pub mod process;
pub mod route;
pub mod sandbox;
pub mod serve;
pub mod server;
pub mod shield;
pub mod telemetry;
pub mod tier;
pub mod token;
pub mod upstream;
pub mod workspace;
