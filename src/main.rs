//! The `flameup-gateway` program.

fn main() {}
