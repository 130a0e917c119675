//! What the tests share: a way to Redis that can be cut, and gateways before one sandbox.

pub(crate) mod fleet;
pub(crate) mod way;

pub(crate) use fleet::Fleet;
pub(crate) use way::Way;
