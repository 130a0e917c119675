"""Looks people up through a gateway with `requests.get(...).json()`.

Usage: requests_client.py BASE_URL EXTERNAL_ID EMAIL UNKNOWN_ID EXPECTED_JSON
"""

import json
import re
import sys

try:
    import requests
except ImportError:
    sys.exit("requests is missing: run tests/run.sh, which installs it")

HEADERS = {
    "Content-Type": "application/json",
    "Authorization": "Bearer some-old-flameup-key",
}


def main(base, external_id, email, unknown_id, expected_path):
    with open(expected_path, "rb") as file:
        expected = json.loads(file.read())

    def person_at(person_id):
        response = look_up(base, person_id, 200)
        check_person(person_id, json_of(response), expected)
        return response

    person_at(external_id)
    check_hit(external_id, person_at(external_id))
    check_unknown(base, unknown_id)
    person_at(email)
    person_at(email.replace("@", "%40"))
    print("ok requests")


def check_hit(person_id, response):
    cache_status = response.headers.get("Cache-Status", "")
    if not re.search(r";\s*hit\s*([;,]|$)", cache_status):
        fail(f"the second lookup of {person_id} is no hit: Cache-Status is {cache_status!a}")
    age = response.headers.get("Age", "")
    if not re.fullmatch(r"[0-9]+", age):
        fail(f"the hit on {person_id} has no Age, but {age!a}")


def check_unknown(base, unknown_id):
    first = look_up(base, unknown_id, 404)
    problem = json_of(first)
    if problem.get("error") != "Not Found" or problem.get("code") != 404:
        fail(f"the 404 for {unknown_id} has another body: {first.content!a}")
    again = look_up(base, unknown_id, 404)
    if again.content != first.content:
        fail(f"the 404 differs when repeated: {first.content!a}, then {again.content!a}")


def check_person(person_id, person, expected):
    if not isinstance(person, dict):
        fail(f"the body at {person_id} is no object: {person!a}")
    for field in sorted(expected.keys() | person.keys()):
        # As text, because Python holds 1, 1.0 and True to be equal.
        wanted, got = (text(fields, field) for fields in (expected, person))
        if wanted != got:
            fail(f"the Person at {person_id} differs in {field}: expected {wanted}, got {got}")


def text(fields, field):
    return json.dumps(fields[field], sort_keys=True) if field in fields else "nothing"


def look_up(base, person_id, status):
    response = requests.get(f"{base}/api/v1/people/{person_id}", headers=HEADERS, timeout=20)
    if response.status_code != status:
        fail(
            f"looking up {person_id} gave status {response.status_code}, not {status}: "
            f"{response.content!a}"
        )
    return response


def json_of(response):
    try:
        return response.json()
    except ValueError:
        fail(f"the body at {response.url} is no JSON: {response.content!a}")


def fail(message):
    sys.exit(f"requests: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
