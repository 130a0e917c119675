"""Measures what a hit costs as people and connections grow, and draws it.

Run by `compare.sh --scale`. Writes `benches/scale.svg`, from the figures of this run alone. Beside
the gateway stands hyper answering a constant, which knows nobody: what is between the two lines is
the gateway's own. Rounds are interleaved, and a ratio is one of two figures of the same round; a
point is the median of its rounds, a bar from the least to the greatest.

The gateway runs as users run it, with tokens, scopes and limits. Only the limits on connections are
higher, as thousands come from one address here. It fails if a single request of a measured round was
no hit, or if fewer connections were open than is said.
"""

import argparse
import contextlib
import datetime
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from compare import HERE, LOAD_CORE, TICKS, Target, gateway
from plot import draw

PEOPLE = [10, 100, 1_000, 10_000, 100_000, 1_000_000]
CONNECTIONS = [1, 10, 100, 1_000, 10_000]
USUAL_PEOPLE, USUAL_CONNECTIONS = 1_000, 64
ROOM = CONNECTIONS[-1] + 1_000
ORIGIN, GATEWAY, CONSTANT = 24001, 24002, 24003
ADMIN = GATEWAY + 1000
# Seconds that filling takes at most, that connections take to be open, and then to be served alike.
FILLED, OPENED, SETTLED = 600, 30, 0.3
# Connections that are opened together: the queue of a listener has room for so many, and who finds
# none tries again after seconds.
AT_ONCE = 500
# From here on what everybody takes is told apart from what the process takes anyway.
ENOUGH_TO_WEIGH = 10_000


@dataclass
class Point:
    """What hits cost at one number of people and connections, each by round."""

    value: int
    own: list
    constant: list

    def ratios(self):
        return [constant / own for own, constant in zip(self.own, self.constant)]


class Scale:
    """The servers, and what was measured of them."""

    def __init__(self, arguments, folder):
        self.folder = folder
        self.rounds, self.seconds = (3, 1) if arguments.quick else (5, 2)
        # Files that each server has open beside those of clients, but for what it opens later.
        self.idle = {}
        self.people = [people for people in PEOPLE if people <= arguments.most_people]
        floor = arguments.floor
        command = [floor, "origin", f"127.0.0.1:{ORIGIN}", "max-age=3600"]
        self.origin = Target("origin", command, ORIGIN, cores=LOAD_CORE)
        self.own = gateway(GATEWAY, ORIGIN, folder / "gateway.toml", arguments.gateway)
        with open(folder / "gateway.toml", "a") as config:
            config.write(f"[server.limits]\nconnections = {ROOM}\nconnections_per_peer = {ROOM}\n")
        command = [floor, "hyper", f"127.0.0.1:{CONSTANT}"]
        self.constant = Target("hyper, a constant", command, CONSTANT, self.own.headers)

    def run(self):
        with open(self.folder / "log", "ab") as log:
            try:
                for target in (self.origin, self.own, self.constant):
                    target.start(log)
                # Until what asked whether they listen is gone.
                time.sleep(1)
                self.idle = {target.name: files(target) for target in (self.own, self.constant)}
                by_connections, by_people = self.measure()
            finally:
                for target in (self.own, self.constant, self.origin):
                    target.stop()
        show("people", by_people)
        show("connections", by_connections)
        note = f"{datetime.date.today().isoformat()}, {machine()}; {self.rounds} rounds of {self.seconds} s"
        plots = [
            (f"people, {USUAL_CONNECTIONS} connections", by_people),
            (f"connections, {USUAL_PEOPLE:,} people", by_connections),
        ]
        (HERE.parent / "scale.svg").write_text(draw(plots, note))

    def measure(self):
        """Few people come first, as who is stored stays."""
        empty, by_connections, by_people = self.own.resident(), [], []
        for people in self.people:
            self.fill(people)
            if people >= ENOUGH_TO_WEIGH:
                each = (self.own.resident() - empty) / people
                print(f"{people:,} people: {each:,.0f} bytes of resident memory each")
            by_people.append(self.point(people, people, USUAL_CONNECTIONS))
            if people == USUAL_PEOPLE:
                by_connections = [self.point(count, people, count) for count in CONNECTIONS]
        return by_connections, by_people

    def fill(self, people):
        """Asks for everybody in turn until all are stored."""
        began = time.monotonic()
        with Load(self.own, "turn", people, USUAL_CONNECTIONS, self.folder) as load:
            # The gateway counts about once a second.
            wait_for(lambda: metric("cache_entries"), people, "people are stored", FILLED)
            load.end()
        print(f"{people:,} people are stored, after {time.monotonic() - began:.0f} s", flush=True)

    def point(self, value, people, connections):
        point = Point(value, [], [])
        for _ in range(self.rounds):
            fetched = metric("upstream_requests_total")
            point.own.append(self.cost(self.own, people, connections))
            fetched = metric("upstream_requests_total") - fetched
            if fetched:
                sys.exit(f"scale: {fetched} requests for {people:,} people were no hits")
            point.constant.append(self.cost(self.constant, people, connections))
        return point

    def cost(self, target, people, connections):
        """CPU microseconds a request, once all connections are open."""
        begin = self.folder / "begin"
        begin.unlink(missing_ok=True)
        with contextlib.ExitStack() as loads:
            under_way = []
            for opened in range(0, connections, AT_ONCE):
                more = min(connections - opened, AT_ONCE)
                under_way.append(loads.enter_context(Load(target, "random", people, more, self.folder)))
                what = f"connections to {target.name} are open"
                wait_for(lambda: files(target) - self.idle[target.name], opened + more, what, OPENED)
                time.sleep(SETTLED)
                # Out of the way of those that are to come, after a first request: a connection without
                # one is closed.
                under_way[-1].process.send_signal(signal.SIGSTOP)
            for load in under_way:
                load.process.send_signal(signal.SIGCONT)
            time.sleep(SETTLED)
            begin.touch()
            time.sleep(self.seconds)
            outputs = [load.end() for load in under_way]
        # Each knows what the server took between its own first and last request that counts.
        counts = [re.search(r"counted: (\d+) requests, (\d+) ticks", output).groups() for output in outputs]
        if not all(int(ticks) for _, ticks in counts):
            sys.exit(f"scale: {target.name} stood still: {counts}")
        return 1e6 / TICKS / sum(int(requests) / int(ticks) for requests, ticks in counts)


class Load:
    """wrk with one thread, until it is ended; every request must be answered."""

    def __init__(self, target, mode, people, connections, folder):
        self.target = target
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{FILLED}s", "--timeout", "120s"]
        command += ["-s", HERE / "people.lua", f"http://127.0.0.1:{target.port}/", "--"]
        command += [mode, people, target.process.pid, folder / "begin"]
        command += [part for pair in target.headers for part in pair]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen([*map(str, command)], **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        if self.process.returncode or "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"scale: {self.target.name} did not answer every request:\n{output}")
        return output


def files(target):
    return len(os.listdir(f"/proc/{target.process.pid}/fd"))


def wait_for(count, least, what, seconds):
    until = time.monotonic() + seconds
    while (there := count()) < least:
        if time.monotonic() > until:
            sys.exit(f"scale: {there} {what}, not {least}")
        time.sleep(0.05)


def metric(name):
    """The sum of a metric of the gateway's over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    values = [line.rsplit(" ", 1)[1] for line in lines if re.match(rf"flameup_gateway_{name}\b", line)]
    if not values:
        sys.exit(f"scale: the gateway has no metric {name}")
    return int(sum(map(float, values)))


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores" + (f", {model[1]}" if model else "")


def spread(values, digits):
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def show(what, points):
    print(f"\n| {what} | CPU us a hit | of hyper answering a constant | hyper's CPU / the gateway's |\n|---|---|---|---|")
    for point in points:
        cells = [spread(point.own, 1), spread(point.constant, 1), spread(point.ratios(), 2)]
        print(f"| {point.value:,} | " + " | ".join(cells) + " |", flush=True)


def allow_files(count):
    """Lets every process that is started from here open so many files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, most)))
    except (ValueError, PermissionError):
        sys.exit(f"scale: {count} open files are needed, and {most} allowed (ulimit -Hn)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--most-people", type=int, default=PEOPLE[-1])
    arguments = parser.parse_args()
    allow_files(ROOM + 1_000)
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        Scale(arguments, folder).run()
    except SystemExit:
        print((folder / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
