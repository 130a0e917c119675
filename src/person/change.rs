//! Which people a write touches.

use uuid::Uuid;

/// What a person is called, in a path or a body.
#[derive(Clone, PartialEq, Eq)]
pub enum Name {
    /// An external id or an e-mail.
    Id(String),
    /// Flameup's UUID.
    Uuid(Uuid),
}

/// Whom a write touches.
#[derive(Clone, PartialEq, Eq)]
pub enum Touched {
    /// Whoever is called so.
    People(Vec<Name>),
    /// Possibly everybody: what was written could not be read.
    Everyone,
}
