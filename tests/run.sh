#!/usr/bin/env bash
# The project's one test command: installs what the tests need, checks format, lints and docs,
# runs every test, looks at where our crates come from, and counts what a hit costs and what people
# in memory take. Works from any directory, without a terminal, in a fresh clone.
#
# Every step runs even if one before it failed, so that one run tells all. The last line is
# `N passed, N failed`: the sum over all `test result:` lines, plus one failure for each step that
# failed without a failed test to show for it. The exit status is zero only if nothing failed.
set -euo pipefail
exec </dev/null
cd "$(dirname "${BASH_SOURCE[0]}")/.."

main() {
  step "tools"
  find_cargo
  target=$(target_directory)
  mkdir -p "$target"
  install_tools

  passed=0 failed=0
  check cargo fmt --check
  check cargo clippy --locked --all-targets -- -D warnings
  RUSTDOCFLAGS="-D warnings" check cargo doc --locked --no-deps --document-private-items
  run_tests
  check "$deny" --offline --locked check bans licenses sources
  check cargo bench --locked --bench hit
  check cargo bench --locked --bench memory

  step "done"
  echo "$passed passed, $failed failed"
  [[ $failed == 0 ]]
}

# step NAME...: announces a step with the seconds since the start.
step() {
  printf '==> [%4ds] %s\n' "$SECONDS" "$*"
}

# check COMMAND...: a step that passes or counts as one failure.
check() {
  step "$*"
  if ! "$@"; then
    step "failed: $*"
    failed=$((failed + 1))
  fi
}

run_tests() {
  local output=$target/test-output.txt status=0 counts
  step "cargo test --locked --no-fail-fast (output kept in $output)"
  cargo test --locked --no-fail-fast 2>&1 | tee "$output" || status=$?
  counts=$(sum_results "$output")
  passed=$((passed + ${counts% *}))
  failed=$((failed + ${counts#* }))
  # A test program that did not compile, or that died, leaves no result line.
  if [[ $status != 0 && ${counts#* } == 0 ]]; then
    step "failed: cargo test, status $status"
    failed=$((failed + 1))
  elif [[ $counts == "0 0" ]]; then
    step "failed: cargo test ran no test"
    failed=$((failed + 1))
  fi
}

# sum_results FILE: prints the passed and the failed tests of all `test result:` lines.
sum_results() {
  awk '
    /^test result:/ {
      for (i = 2; i <= NF; i++) {
        if ($i == "passed;") passed += $(i - 1)
        if ($i == "failed;") failed += $(i - 1)
      }
    }
    END { print passed + 0, failed + 0 }
  ' "$1"
}

find_cargo() {
  if ! has cargo && [[ -x ${HOME:-}/.cargo/bin/cargo ]]; then
    PATH=$HOME/.cargo/bin:$PATH
  fi
  has cargo || give_up "cargo is missing: install Rust with rustfmt and clippy first"
}

# Prints where cargo builds; CARGO_TARGET_DIR and cargo's own settings may have moved it.
target_directory() {
  cargo metadata --locked --no-deps --format-version 1 \
    | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# Installs the interpreters of tests/clients, what they import, what benches/hit.rs counts with, what
# tests/deploy.rs looks with, and the Redis of tests/tier, as far as they are missing.
install_tools() {
  local packages=()
  has curl || packages+=(curl)
  has ruby || packages+=(ruby)
  has go || packages+=(golang-go)
  has node || packages+=(nodejs)
  has python3 || packages+=(python3)
  has valgrind || packages+=(valgrind)
  has npm || packages+=(npm)
  has chromium || packages+=(chromium)
  has chromedriver || packages+=(chromium-driver)
  has systemd-analyze || packages+=(systemd)
  has dpkg-shlibdeps || packages+=(dpkg-dev)
  has redis-server || packages+=(redis-server)
  has redis-cli || packages+=(redis-tools)
  # Debian's requests is of use only to Debian's Python: another one on PATH does not see it.
  local debians=/usr/bin/python3
  if ! python_has_requests && [[ $(command -v python3 || echo $debians) == "$debians" ]]; then
    packages+=(python3-requests)
  fi
  if [[ ${#packages[@]} != 0 ]]; then
    install_packages "${packages[@]}"
  fi
  python_has_requests || make_venv
  deny=$target/tools/bin/cargo-deny
  [[ -x $deny ]] || install_deny
  tests/deploy/tools.sh "$target/deploy-tools" || give_up "the tools of tests/deploy.rs are missing"
  tools_work
}

# install_packages NAME...
install_packages() {
  step "installing $*"
  has apt-get || give_up "missing, and without apt-get to be installed by hand: $*"
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    has sudo || give_up "missing, and neither root nor sudo to install with: $*"
    as_root=(sudo -n)
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq)
  # Package lists that are partly out of reach may still name all that is needed.
  start_no_services
  "${as_root[@]}" update || echo "apt-get update failed; trying to install all the same" >&2
  "${as_root[@]}" install -y --no-install-recommends "$@" \
    || give_up "missing, and apt-get could not install: $*"
}

# Packages with a server would start it; here only tests start any. Whoever has a policy keeps it.
start_no_services() {
  local policy=/usr/sbin/policy-rc.d as_root=()
  [[ $(id -u) == 0 ]] || as_root=(sudo -n)
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap "${as_root[*]} rm -f $policy" EXIT
  fi
}

# Succeeds if the Python the tests will take has requests; tests/clients.rs looks in the same order.
python_has_requests() {
  local python=python3
  [[ -x $target/test-venv/bin/python3 ]] && python=$target/test-venv/bin/python3
  "$python" -c 'import requests' 2>/dev/null
}

# Where our crates come from and under which licences; no package of Debian's.
install_deny() {
  step "installing cargo-deny into $target/tools"
  cargo install --quiet --locked --debug --root "$target/tools" cargo-deny@0.20.2 \
    || give_up "cargo-deny is missing and could not be built"
}

make_venv() {
  local venv=$target/test-venv
  step "installing requests for $(command -v python3) into $venv"
  rm -rf "$venv"
  if ! python3 -m venv "$venv" \
    || ! "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check requests; then
    rm -rf "$venv"
    give_up "missing, and pip could not install: requests, for $(command -v python3)"
  fi
}

# Asks every tool to do something, since a name on PATH may be the shim of an absent version.
tools_work() {
  local broken=()
  curl --version >/dev/null || broken+=(curl)
  ruby -e 'require "net/http"; require "json"' || broken+=(ruby)
  GO111MODULE=off GOCACHE=$target/tmp/go-build go version >/dev/null || broken+=(go)
  node -e 'process.exit(typeof fetch === "function" ? 0 : 1)' || broken+=("node (18 or newer)")
  python_has_requests || broken+=("python3 with requests")
  valgrind --version >/dev/null || broken+=(valgrind)
  chromium --version >/dev/null || broken+=(chromium)
  chromedriver --version >/dev/null || broken+=(chromedriver)
  redis-server --version >/dev/null || broken+=(redis-server)
  if [[ ${#broken[@]} != 0 ]]; then
    give_up "missing or not working: ${broken[*]}"
  fi
}

has() {
  command -v "$1" >/dev/null
}

give_up() {
  echo "tests/run.sh: $*" >&2
  exit 1
}

main
