"""Runs the targets of compare.sh under equal conditions and prints one table.

Every target serves with one worker on the first core; the generator and the origin have the other.
Rounds are interleaved: in each, every target runs once, so that a machine that changes its speed
changes it for all. Ratios are taken within a round; what is printed is their median, with the
least and the greatest.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = "0", "1"
TOKEN = "fgw_compare_compare_compare_compare_compare_"
TICKS = os.sysconf("SC_CLK_TCK")
os.environ["PATH"] += ":/usr/sbin"


@dataclass
class Target:
    """One server to be measured."""

    name: str
    command: list
    port: int
    headers: list = field(default_factory=list)
    cores: str = SERVER_CORE
    fills: bool = True
    process: subprocess.Popen = None

    def start(self, log):
        command = ["taskset", "-c", self.cores, *map(str, self.command)]
        self.process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=environment()
        )
        wait_for(self.port, self.name)

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def pids(self):
        """The processes of its session: some have a master and a worker."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                found.append(stat.parent)
        return found

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            fields = (pid / "stat").read_text().rsplit(") ", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def resident(self):
        total = 0
        for pid in self.pids():
            text = (pid / "smaps_rollup").read_text()
            total += int(re.search(r"Pss:\s+(\d+)", text)[1]) * 1024
        return total


@dataclass
class Round:
    """What one target did in one round."""

    requests: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: float


def environment():
    return {**os.environ, "FLAMEUP_API_KEY": "ws_compare.secretsecretsecretsecret"}


def wait_for(port, name):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"compare: {name} does not listen on port {port}")


def micros(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def wrk(target, keys, mode, seconds, connections):
    headers = [part for pair in target.headers for part in pair]
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "-s", HERE / "keys.lua", f"http://127.0.0.1:{target.port}/", "--"]
    before = target.cpu_seconds()
    output = subprocess.run(
        [*map(str, command), str(keys), mode, *headers], capture_output=True, text=True, check=True
    ).stdout
    cpu = target.cpu_seconds() - before
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"compare: {target.name} did not answer every request:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])
    return Round(
        requests=requests,
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
        p50_us=micros(re.search(r"^ +50%\s+(\S+)", output, re.M)[1]),
        p99_us=micros(re.search(r"^ +99%\s+(\S+)", output, re.M)[1]),
        cpu_us=cpu * 1e6 / max(requests, 1),
    )


def h2load(target, seconds):
    headers = [f"-H{name}: {value}" for name, value in target.headers]
    url = f"http://127.0.0.1:{target.port}/api/v1/people/user_0000001"
    command = ["taskset", "-c", LOAD_CORE, "h2load", "-t1", "-c8", "-m32", f"-D{seconds}"]
    before = target.cpu_seconds()
    output = subprocess.run(
        [*command, "--warm-up-time=1", *headers, url], capture_output=True, text=True, check=True
    ).stdout
    cpu = target.cpu_seconds() - before
    done = re.search(r"requests: (\d+) total.*?(\d+) succeeded, (\d+) failed", output)
    if not done or int(done[3]):
        sys.exit(f"compare: {target.name} did not answer every request:\n{output}")
    rate = float(re.search(r"([\d.]+) req/s", output)[1])
    mean = micros(re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)", output)[1])
    # The warm-up's requests cost CPU too: the time is shared out over both.
    return Round(int(done[1]), rate, mean, float("nan"), cpu * 1e6 / (rate * (seconds + 1)))


def gateway(port, origin, config, binary, workers=1, cores=SERVER_CORE, name="flameup-gateway"):
    import hashlib

    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    config.write_text(
        f"""
[server]
listen = ["127.0.0.1:{port}"]
workers = {workers}
[admin]
listen = "127.0.0.1:{port + 1000}"
[upstream]
base_url = "http://127.0.0.1:{origin}"
[workspaces.acme]
api_key_env = "FLAMEUP_API_KEY"
[workspaces.acme.budget]
requests = 1000000
window = "1s"
[clients.bench]
workspace = "acme"
token_sha256 = ["{digest}"]
scopes = ["people:read"]
[cache]
max_bytes = "2GiB"
ttl = "1h"
"""
    )
    headers = [("Authorization", f"Bearer {TOKEN}")]
    return Target(name, [binary, "serve", "--config", config], port, headers, cores)


def nginx(port, origin, folder, name="nginx"):
    root = folder / f"nginx-{port}"
    (root / "cache").mkdir(parents=True)
    config = root / "nginx.conf"
    config.write_text(
        f"""
user root; daemon off; pid {root}/pid; error_log {root}/error.log crit; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  proxy_temp_path {root}/temp; client_body_temp_path {root}/body;
  proxy_cache_path {root}/cache levels=1:2 keys_zone=people:256m max_size=4g inactive=2h use_temp_path=off;
  upstream flameup {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://flameup; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache people; proxy_cache_lock on; add_header X-Cache-Status $upstream_cache_status;
    }}
  }}
}}
"""
    )
    return Target(name, ["nginx", "-e", root / "error.log", "-c", config], port)


def haproxy(port, origin, folder, threads=1, cores=SERVER_CORE, h2=False, name="haproxy"):
    config = folder / f"haproxy-{port}.cfg"
    proto = " proto h2" if h2 else ""
    config.write_text(
        f"""
global
  nbthread {threads}
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
cache people
  total-max-size 1024
  max-object-size 4096
  max-age 3600
frontend in
  bind 127.0.0.1:{port}{proto}
  http-request cache-use people
  http-response cache-store people
  default_backend flameup
backend flameup
  server origin 127.0.0.1:{origin}
"""
    )
    return Target(name, ["haproxy", "-db", "-f", config], port, [], cores)


def varnish(port, origin, folder):
    state = folder / f"varnish-{port}"
    command = ["varnishd", "-F", "-n", state, "-a", f"127.0.0.1:{port}"]
    command += ["-b", f"127.0.0.1:{origin}", "-s", "malloc,2g", "-p", "thread_pools=1"]
    return Target("varnish", command, port)


def spread(values):
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[-1]


def show(value):
    return "-" if value != value else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def compare(title, targets, rounds, measure, floor_name):
    """Runs interleaved rounds and prints the table's rows."""
    results = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            results[target.name].append(measure(target))
    print(f"\n### {title}\n")
    print("| server | requests/s | p50 us | p99 us | CPU us/request | CPU of the floor / its own |")
    print("|---|---|---|---|---|---|")
    floor = results[floor_name]
    for name, measured in results.items():
        cells = [name]
        for attribute in ("rate", "p50_us", "p99_us", "cpu_us"):
            middle, least, most = spread([getattr(one, attribute) for one in measured])
            cells.append(f"{show(middle)} ({show(least)} to {show(most)})")
        ratios = [own.cpu_us and base.cpu_us / own.cpu_us for own, base in zip(measured, floor)]
        middle, least, most = spread(ratios)
        cells.append(f"{middle:.2f} ({least:.2f} to {most:.2f})")
        print("| " + " | ".join(cells) + " |", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", default="nginx,haproxy,varnish")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="compare-"))
    try:
        Comparison(arguments, folder).run()
    except SystemExit:
        print((folder / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Comparison:
    """All scenarios, one after the other, each with servers of its own."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.rounds, self.seconds = (3, 1) if arguments.quick else (7, 3)
        self.port = 20000
        self.only = set(filter(None, arguments.only.split(",")))

    def run(self):
        print(f"{os.cpu_count()} cores; {self.rounds} rounds of {self.seconds} s a target")
        self.scenario("hot", "One hot key, 64 connections", 1)
        self.scenario("keys-100k", "100,000 keys at random, 64 connections", 100_000)
        if not self.arguments.quick or self.only:
            self.scenario("latency", "One hot key, one connection", 1, connections=1)
            self.scenario("keys-1k", "1,000 keys at random, 64 connections", 1000)
            self.scenario("two-workers", "100,000 keys, two workers, not pinned", 100_000, workers=2)
        self.scenario("h2", "HTTP/2 cleartext, one hot key, 8 connections of 32 streams", 1, h2=True)
        self.scenario("miss", "Misses (no-store), 64 connections", 1000, control="no-store")
        self.scenario("miss-latency", "Misses, one connection", 1000, 1, control="no-store")

    def next_port(self):
        self.port += 1
        return self.port

    def targets(self, origin, workers, h2, misses):
        cores = f"{SERVER_CORE},{LOAD_CORE}" if workers > 1 else SERVER_CORE
        peers, arguments = self.arguments.peers.split(","), self.arguments
        port = self.next_port()
        own = gateway(port, origin, self.folder / f"{port}.toml", arguments.gateway, workers, cores)
        yield own
        port = self.next_port()
        yield Target("hyper, a constant", [arguments.floor, "hyper", f"127.0.0.1:{port}"], port, own.headers, fills=False)
        if misses:
            port = self.next_port()
            command = [arguments.floor, "proxy", f"127.0.0.1:{port}", f"127.0.0.1:{origin}"]
            yield Target("hyper and its client, passing on", command, port)
        if not h2 and not misses and workers == 1:
            port = self.next_port()
            yield Target("ready bytes", [arguments.floor, "bytes", f"127.0.0.1:{port}"], port, fills=False)
        if "haproxy" in peers:
            yield haproxy(self.next_port(), origin, self.folder, workers, cores, h2)
        if "nginx" in peers and not h2 and workers == 1:
            yield nginx(self.next_port(), origin, self.folder)
        if "varnish" in peers and not arguments.quick and not h2 and workers == 1:
            yield varnish(self.next_port(), origin, self.folder)

    def scenario(self, word, title, keys, connections=64, workers=1, h2=False, control="max-age=3600"):
        if self.only and word not in self.only:
            return
        origin_port = self.next_port()
        command = [self.arguments.floor, "origin", f"127.0.0.1:{origin_port}", control]
        origin = Target("origin", command, origin_port, cores=LOAD_CORE)
        targets = list(self.targets(origin_port, workers, h2, "no-store" in control))
        with open(self.folder / "log", "ab") as log:
            try:
                origin.start(log)
                empty = {}
                for target in targets:
                    target.start(log)
                    empty[target.name] = target.resident()
                    if target.fills and not h2 and "no-store" not in control:
                        self.fill(target, keys)
                measure = lambda target: (
                    h2load(target, self.seconds)
                    if h2
                    else wrk(target, keys, "random", self.seconds, connections)
                )
                compare(title, targets, self.rounds, measure, "hyper, a constant")
                if keys >= 10_000:
                    for target in targets:
                        if target.fills:
                            each = (target.resident() - empty[target.name]) / keys
                            print(f"\n{target.name}: {each:,.0f} bytes of resident memory a person")
            finally:
                for target in [*targets, origin]:
                    target.stop()

    def fill(self, target, keys):
        """Asks for every key at least once, in order."""
        asked = 0
        while asked < keys + 100:
            # What was on its way at the end of a round is asked for again in the next.
            asked += max(wrk(target, keys, str(asked), 1, 16).requests - 16, 1)


if __name__ == "__main__":
    main()
