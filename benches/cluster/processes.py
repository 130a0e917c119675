"""The processes of cluster.py: gateways, a Flameup and a Redis, each on a port that was free."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

REPLICAS = 3
# What the sandbox accepts unless told otherwise.
KEY = "ws_test_demo0001_sandbox.5e1f0c2d9b8a7766554433221100ffeeddccbbaa99887766554433221100a1b2"


class Process:
    """A program that listens on a port. It is ended with the block that it was made for."""

    def __init__(self, command, port, log):
        self.command, self.port, self.log = [str(part) for part in command], port, log
        self.start()

    def start(self):
        environment = {"PATH": os.environ["PATH"], "FLAMEUP_API_KEY": KEY}
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env=environment
        )
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        sys.exit(f"cluster: nobody listens on port {self.port}: {self.command}")

    def kill(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


class Flameup(Process):
    """The sandbox, which counts what it gets."""

    def __init__(self, binary, log, limit, window):
        port, self.control = free_port(), free_port()
        listen = ["--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{self.control}"]
        limits = ["--limit", limit, "--window", window, "--limiter", "sliding"]
        super().__init__([binary, "sandbox", *listen, *limits, "--latency", "50ms"], port, log)

    def counts(self):
        """Requests that it got, and those of them that it refused."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.control}/limiter") as answer:
            state = json.load(answer)
        return state["counted"] + state["refused"], state["refused"]


class Redis(Process):
    """Redis, as deploy/redis/redis.conf would have it but for TLS and users."""

    def __init__(self, log, folder):
        port = free_port()
        options = ["--save", "", "--bind", "127.0.0.1", "--dir", folder, "--port", port]
        super().__init__(["redis-server", *options], port, log)


class Gateway(Process):
    """One gateway, with the settings of the scenario."""

    def __init__(self, binary, log, folder, settings, flameup, redis=None, core=None):
        port, self.admin = free_port(), free_port()
        key = folder / "key"
        key.write_text("k" * 64)
        lines = [
            f'server.listen = ["127.0.0.1:{port}"]',
            f'admin.listen = "127.0.0.1:{self.admin}"',
            f'upstream.base_url = "http://127.0.0.1:{flameup.port}"',
            'workspaces.default.api_key_env = "FLAMEUP_API_KEY"',
            'telemetry.access_log = "off"',
            *settings,
        ]
        if redis:
            lines += [
                f'redis.url = "redis://127.0.0.1:{redis.port}"',
                f'redis.encryption_key_file = "{key}"',
                f"redis.replicas = {REPLICAS}",
            ]
        file = folder / f"{port}.toml"
        file.write_text("\n".join(lines))
        pinned = [] if core is None else ["taskset", "-c", core]
        super().__init__([*pinned, binary, "serve", "--config", file], port, log)

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics") as answer:
            return answer.read().decode()

    def sum_of(self, name, label=""):
        """A metric, over all its labels, or over those with this one."""
        labels = rf"{{.*{label}.*}}" if label else "(?:{.*})?"
        found = re.findall(rf"^flameup_gateway_{name}{labels} (\S+)$", self.metrics(), re.M)
        return sum(map(float, found))


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
