//! A caching reverse proxy and rate shield in front of the Flameup people API.
pub mod clock;
pub mod config;
pub mod person;
pub mod sandbox;
