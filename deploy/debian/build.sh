#!/usr/bin/env bash
# Makes the Debian package. Needs cargo-deb (cargo install cargo-deb) and a release build's time; other
# options of cargo-deb's, such as --output FILE, may follow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cargo build --release --locked
deploy/debian/extras.sh target/release/flameup-gateway
exec cargo deb --no-build --locked "$@"
