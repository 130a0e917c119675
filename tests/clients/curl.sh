#!/usr/bin/env bash
# Looks people up through a gateway with curl, spelled as the Flameup docs spell it
# (get-people-id), and holds every byte of the answers against the API's own.
#
# Usage: curl.sh BASE_URL EXTERNAL_ID EMAIL UNKNOWN_ID EXPECTED_JSON
set -euo pipefail

main() {
  base=$1 external_id=$2 email=$3 unknown_id=$4 expected=$5
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  command -v curl >/dev/null || fail "curl is missing: run tests/run.sh, which installs it"

  person_by_external_id_twice
  unknown_person_twice
  person_by "$email"
  person_by "${email/@/%40}"
  echo "ok curl"
}

person_by_external_id_twice() {
  person_by "$external_id"
  person_by "$external_id"
  grep -Eiq '^cache-status:.*;[[:space:]]*hit([;,[:space:]]|$)' "$work/head" \
    || fail "the second lookup of $external_id is no hit: $(tr -d '\r' <"$work/head")"
  grep -Eiq '^age:[[:space:]]*[0-9]+[[:space:]]*$' "$work/head" \
    || fail "the hit on $external_id has no Age: $(tr -d '\r' <"$work/head")"
}

unknown_person_twice() {
  status_of "$unknown_id" 404
  body_matches '^[[:space:]]*\{.*\}[[:space:]]*$'
  body_matches '"error"[[:space:]]*:[[:space:]]*"Not Found"'
  body_matches '"code"[[:space:]]*:[[:space:]]*404[[:space:]]*[,}]'
  cp "$work/body" "$work/first"
  status_of "$unknown_id" 404
  cmp "$work/first" "$work/body" >&2 || fail "the 404 for $unknown_id differs when repeated"
}

# person_by ID: the answer must be the expected Person, byte for byte.
person_by() {
  status_of "$1" 200
  cmp "$expected" "$work/body" >&2 \
    || fail "the Person at $1 differs: expected $(cat "$expected"), got $(cat "$work/body")"
}

# status_of ID STATUS: leaves the answer in $work/head and $work/body.
status_of() {
  local status
  : >"$work/body" # curl leaves the file alone when a body is empty
  status=$(
    curl -X GET "$base/api/v1/people/$1" \
      -H "Content-Type: application/json" \
      -H "Authorization: Bearer some-old-flameup-key" \
      --silent --show-error --max-time 20 \
      --dump-header "$work/head" --output "$work/body" --write-out '%{http_code}'
  ) || fail "curl could not look up $1"
  [[ $status == "$2" ]] || fail "looking up $1 gave status $status, not $2: $(cat "$work/body")"
}

# body_matches REGEX: the body is taken as one line.
body_matches() {
  tr -d '\r\n' <"$work/body" | grep -Eq "$1" \
    || fail "the body does not match $1: $(cat "$work/body")"
}

fail() {
  echo "curl: $*" >&2
  exit 1
}

main "$@"
