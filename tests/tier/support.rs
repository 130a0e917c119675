//! What the tests share: Redis, a way to it that can be cut, and gateways before one sandbox.

pub(crate) mod fleet;
pub(crate) mod redis;
pub(crate) mod way;

pub(crate) use fleet::Fleet;
pub(crate) use redis::Redis;
pub(crate) use way::Way;
