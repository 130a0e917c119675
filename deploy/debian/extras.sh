#!/usr/bin/env bash
# Makes what the program makes of itself for a package: manual pages and completions.
# Usage: extras.sh PROGRAM, from the root of the project.
set -euo pipefail

made=target/extras
rm -rf "$made"
mkdir -p "$made/man" "$made/completions"
"$1" man "$made/man"
gzip --best --no-name "$made"/man/*.1
for shell in bash fish zsh; do
  "$1" completions "$shell" >"$made/completions/$shell"
done
