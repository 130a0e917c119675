// Looks people up through a gateway with Node's own `fetch`.
//
// Usage: fetch.mjs BASE_URL EXTERNAL_ID EMAIL UNKNOWN_ID EXPECTED_JSON
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

const [base, externalId, email, unknownId, expectedPath] = process.argv.slice(2);

async function main() {
  const expected = JSON.parse(await readFile(expectedPath, "utf8"));
  await personAt(externalId, expected);
  checkHit(externalId, await personAt(externalId, expected));
  await checkUnknown(unknownId);
  await personAt(email, expected);
  await personAt(email.replace("@", "%40"), expected);
  console.log("ok fetch");
}

async function personAt(id, expected) {
  const { headers, body } = await lookUp(id, 200);
  const person = JSON.parse(body);
  for (const field of new Set([...Object.keys(expected), ...Object.keys(person)])) {
    const [wanted, got] = [expected[field], person[field]];
    const present = Object.hasOwn(expected, field) && Object.hasOwn(person, field);
    if (!present || !isDeepStrictEqual(wanted, got)) {
      const texts = `expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`;
      throw new Error(`the Person at ${id} differs in ${field}: ${texts}`);
    }
  }
  return headers;
}

function checkHit(id, headers) {
  const cacheStatus = headers.get("cache-status") ?? "";
  if (!/;\s*hit\s*([;,]|$)/.test(cacheStatus)) {
    throw new Error(`the second lookup of ${id} is no hit: Cache-Status is "${cacheStatus}"`);
  }
  if (!/^[0-9]+$/.test(headers.get("age") ?? "")) {
    throw new Error(`the hit on ${id} has no Age, but ${headers.get("age")}`);
  }
}

async function checkUnknown(id) {
  const first = await lookUp(id, 404);
  const problem = JSON.parse(first.body);
  if (problem.error !== "Not Found" || problem.code !== 404) {
    throw new Error(`the 404 for ${id} has another body: ${first.body}`);
  }
  const again = await lookUp(id, 404);
  if (!again.body.equals(first.body)) {
    throw new Error(`the 404 differs when repeated: ${first.body}, then ${again.body}`);
  }
}

async function lookUp(id, status) {
  const response = await fetch(`${base}/api/v1/people/${id}`, {
    headers: {
      "Content-Type": "application/json",
      Authorization: "Bearer some-old-flameup-key",
    },
    signal: AbortSignal.timeout(20_000),
  });
  const body = Buffer.from(await response.arrayBuffer());
  if (response.status !== status) {
    throw new Error(`looking up ${id} gave status ${response.status}, not ${status}: ${body}`);
  }
  return { headers: response.headers, body };
}

main().catch((error) => {
  console.error(`fetch: ${error.message}${error.cause ? ` (${error.cause})` : ""}`);
  process.exitCode = 1;
});
