"""Compares three gateways without and with a Redis between them, and prints tables.

Time is short: lifetimes and Flameup's window are a tenth of their defaults, the limit is what it is. So a
minute here is ten. Both ways get the same requests at the same moments.
"""

import argparse
import asyncio
import contextlib
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from processes import REPLICAS, Flameup, Gateway, Redis

LIMIT, WINDOW = 120, "6s"
SHARED = [
    'cache.ttl = "6s"',
    'cache.stale_while_revalidate = "24s"',
    'cache.stale_if_error = "84s"',
    'cache.negative_ttl = "1s"',
    f"workspaces.default.budget.requests = {LIMIT}",
    f'workspaces.default.budget.window = "{WINDOW}"',
]
# Twenty a second are what Flameup allows; twice as many lookups as that by each replica.
RATE, PEOPLE, ZIPF = 120, 2_000, 0.9
# Those whom a replica that starts anew is asked for first.
WARM = 50
# What hits are measured with: nothing is asked of Flameup once it is stored.
HITS = ['cache.ttl = "1h"', "server.workers = 1"]
BOUND = 1.10


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w") as log:
        place = (options.gateway, log, Path(folder))
        seconds = 12 if options.quick else 90
        table(
            f"{REPLICAS} gateways, {RATE} lookups a second for {seconds} s, {PEOPLE:,} people (Zipf {ZIPF}), "
            f"{LIMIT} requests in {WINDOW}",
            ["", "without Redis", "with Redis"],
            list(zip(WORDS, *(traffic(place, shared, seconds) for shared in (False, True)))),
        )
        rounds, each = (3, 2) if options.quick else (9, 4)
        sys.exit(hits(place, rounds, each))


WORDS = [
    "requests to Flameup",
    "429s from Flameup",
    "answered from memory %",
    "from another replica's %",
    "turned away %",
    "mean age of what is served, s",
    f"restart of all: requests for the {WARM} most asked for, at each",
    "of these requests, such as a lookup waited for",
    "of these lookups answered %",
]


def traffic(place, shared, seconds):
    """What came of the same requests."""
    binary, log, folder = place
    with contextlib.ExitStack() as stack:
        flameup = stack.enter_context(Flameup(binary, log, LIMIT, WINDOW))
        redis = stack.enter_context(Redis(log, folder)) if shared else None
        make = lambda: Gateway(binary, log, folder, SHARED, flameup, redis)
        gateways = [stack.enter_context(make()) for _ in range(REPLICAS)]
        # Gateways that begin together are granted nothing until they have found each other.
        time.sleep(3)
        before, refused_before = flameup.counts()
        answers = asyncio.run(ask(gateways, requests(seconds)))
        sent, refused = flameup.counts()
        age = [sum(it.sum_of(f"served_age_seconds_{part}") for it in gateways) for part in ("sum", "count")]
        share = lambda test: f"{100 * sum(map(test, answers)) / len(answers):.1f}"
        row = [
            sent - before,
            refused - refused_before,
            share(lambda answer: "hit" in answer[1]),
            share(lambda answer: "detail=tier" in answer[1]),
            share(lambda answer: answer[0] not in (200, 404)),
            f"{age[0] / max(age[1], 1):.1f}",
        ]
        return row + restart(gateways, flameup)


def restart(gateways, flameup):
    """What it costs that all are restarted: those who are asked for most, at each replica."""
    for gateway in gateways:
        gateway.kill()
    for gateway in gateways:
        gateway.start()
    time.sleep(3)
    before, _ = flameup.counts()
    every = [(index * 0.05, it, index + 1) for it in range(REPLICAS) for index in range(WARM)]
    answers = asyncio.run(ask(gateways, sorted(every)))
    sent, _ = flameup.counts()
    answered = sum(status == 200 for status, _ in answers)
    # The others are refreshes of what was served meanwhile.
    waited = sum(it.sum_of("upstream_requests_total", 'purpose="miss"') for it in gateways)
    return [sent - before, f"{waited:.0f}", f"{100 * answered / len(answers):.0f}"]


def requests(seconds):
    """When, at which replica, and for whom: the same each time."""
    chance = random.Random(8)
    weights = [1 / rank**ZIPF for rank in range(1, PEOPLE + 1)]
    people = chance.choices(range(1, PEOPLE + 1), weights, k=RATE * seconds)
    return [(n / RATE, chance.randrange(REPLICAS), person) for n, person in enumerate(people)]


async def ask(gateways, planned):
    """Sends each request at its moment, whether or not earlier ones are answered."""
    pools = [asyncio.LifoQueue() for _ in gateways]
    started = time.monotonic()

    async def one(moment, index, person):
        await asyncio.sleep(max(0, started + moment - time.monotonic()))
        pool = pools[index]
        connection = (
            pool.get_nowait() if pool.qsize() else await asyncio.open_connection("127.0.0.1", gateways[index].port)
        )
        answer = await exchange(connection, f"/api/v1/people/user_{person}")
        pool.put_nowait(connection)
        return answer

    answers = await asyncio.gather(*(one(*request) for request in planned))
    for pool in pools:
        while pool.qsize():
            pool.get_nowait()[1].close()
    return answers


async def exchange(connection, target):
    """Status and Cache-Status of one answer."""
    reader, writer = connection
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = re.search(r"(?i)content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    cache = re.search(r"(?i)cache-status: (.*)\r", head)
    return int(head.split()[1]), cache[1] if cache else ""


def hits(place, rounds, seconds):
    """The slowest hit of a hundred, in rounds of all states of Redis; 1 if one moves it too much."""
    binary, log, folder = place
    states = {"there": [], "stopped": [], "killed": []}
    with contextlib.ExitStack() as stack:
        flameup = stack.enter_context(Flameup(binary, log, 1_000_000, "60s"))
        redis = stack.enter_context(Redis(log, folder))
        gateway = stack.enter_context(Gateway(binary, log, folder, HITS, flameup, redis, core=0))
        for _ in range(rounds):
            states["there"].append(p99(gateway, seconds))
            redis.stop()
            states["stopped"].append(p99(gateway, seconds))
            redis.go_on()
            redis.kill()
            states["killed"].append(p99(gateway, seconds))
            redis.start()
    rows, failed = [], False
    for state, times in states.items():
        ratios = [own / base for own, base in zip(times, states["there"])]
        ratio = statistics.median(ratios)
        failed |= ratio > BOUND
        spread = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        rows.append([state, f"{statistics.median(times):.0f}", spread])
    title = f"p99 of a hit, 16 connections, median of {rounds} interleaved rounds of {seconds} s"
    table(title, ["Redis", "microseconds", "ratio"], rows)
    return int(failed)


def p99(gateway, seconds):
    """Once the gateway has taken notice, and has stored whom it is asked for."""
    target = f"http://127.0.0.1:{gateway.port}/api/v1/people/user_1"
    settle(target)
    run = lambda length: subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", "-c16", f"-d{length}s", "--latency", target],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    run(1)
    output = run(seconds)
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"cluster: not every lookup was answered:\n{output}")
    number, unit = re.search(r"^ +99%\s+([\d.]+)(us|ms|s)", output, re.M).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def settle(target):
    """Waits until hits come from memory alone: not soon after changes may have been lost."""
    hits, until = 0, time.monotonic() + 30
    while hits < 10:
        if time.monotonic() > until:
            sys.exit("cluster: the gateway does not come to rest")
        with urllib.request.urlopen(target) as answer:
            status = answer.headers["cache-status"]
        hits = hits + 1 if "; hit" in status and "detail" not in status else 0
        time.sleep(0.2)


def table(title, head, rows):
    print(f"\n{title}\n")
    for row in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


main()
