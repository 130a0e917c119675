"""Measures what a hit costs as people and connections grow, and draws it.

Run by `compare.sh --scale`. Writes `benches/scale.svg`, from the figures of this run alone. Beside
the gateway stands hyper answering a constant, which knows nobody: what is between the two lines is
the gateway's own. Rounds are interleaved; a point is the median of its rounds, a bar from the least
to the greatest.
"""

import argparse
import datetime
import math
import resource
import shutil
import statistics
import tempfile
from pathlib import Path

from compare import LOAD_CORE, Target, gateway, wrk

PEOPLE = [10, 100, 1_000, 10_000, 100_000, 1_000_000]
CONNECTIONS = [1, 10, 100, 1_000, 10_000]
USUAL_PEOPLE, USUAL_CONNECTIONS = 1_000, 64
COLOURS = {"flameup-gateway": "#c2410c", "hyper, a constant": "#475569"}


class Scale:
    """The servers, and what was measured of them."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.rounds, self.seconds = (3, 1) if arguments.quick else (5, 2)
        self.filled = 0
        self.people = [people for people in PEOPLE if people <= arguments.most_people]

    def run(self):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        floor = self.arguments.floor
        origin = Target("origin", [floor, "origin", "127.0.0.1:21001", "max-age=3600"], 21001, cores=LOAD_CORE)
        own = gateway(21002, 21001, self.folder / "gateway.toml", self.arguments.gateway)
        text = (self.folder / "gateway.toml").read_text()
        text = text.replace("[admin]", "[server.limits]\nconnections = 12000\n[admin]")
        (self.folder / "gateway.toml").write_text(text)
        constant = Target("hyper, a constant", [floor, "hyper", "127.0.0.1:21003"], 21003, own.headers)
        self.own, self.targets = own, [own, constant]
        with open(self.folder / "log", "ab") as log:
            try:
                for target in [origin, *self.targets]:
                    target.start(log)
                # Few people first: what is stored stays.
                self.fill(USUAL_PEOPLE)
                by_connections = [self.point(USUAL_PEOPLE, count) for count in CONNECTIONS]
                by_people = []
                for people in self.people:
                    self.fill(people)
                    by_people.append(self.point(people, USUAL_CONNECTIONS))
            finally:
                for target in [*self.targets, origin]:
                    target.stop()
        show("people", self.people, by_people)
        show("connections", CONNECTIONS, by_connections)
        svg = draw(self.people, by_people, by_connections)
        (Path(__file__).parent.parent / "scale.svg").write_text(svg)

    def fill(self, people):
        asked = self.filled
        while asked < people + 100:
            # What was on its way at the end of a round is asked for again in the next.
            asked += max(wrk(self.own, people, str(asked), 1, 16).requests - 16, 1)
        self.filled = max(self.filled, people)

    def point(self, people, connections):
        costs = {target.name: [] for target in self.targets}
        for _ in range(self.rounds):
            for target in self.targets:
                costs[target.name].append(wrk(target, people, "random", self.seconds, connections).cpu_us)
        return costs


def show(what, values, points):
    print(f"\n| {what} | CPU us a hit | of hyper answering a constant |\n|---|---|---|")
    for value, point in zip(values, points):
        cells = [
            f"{statistics.median(costs):.1f} ({min(costs):.1f} to {max(costs):.1f})"
            for costs in point.values()
        ]
        print(f"| {value:,} | " + " | ".join(cells) + " |", flush=True)


def draw(people, by_people, by_connections):
    """Both plots, side by side under one scale of cost."""
    greatest = max(max(costs) for point in by_people + by_connections for costs in point.values())
    top = math.ceil(greatest / 5) * 5
    date = datetime.date.today().isoformat()
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 360" font-family="sans-serif" font-size="12">',
        '<rect width="860" height="360" fill="#ffffff"/>',
        f'<text x="60" y="24" font-size="14" font-weight="bold">CPU time of a hit, in microseconds ({date})</text>',
    ]
    for at, (name, colour) in enumerate(COLOURS.items()):
        x = 520 + 165 * at
        parts.append(f'<rect x="{x}" y="15" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="25">{name}</text>')
    parts += plot(60, f"people, {USUAL_CONNECTIONS} connections", people, by_people, top)
    parts += plot(490, f"connections, {USUAL_PEOPLE:,} people", CONNECTIONS, by_connections, top)
    return "\n".join([*parts, "</svg>\n"])


def plot(left, title, values, points, top):
    width, height, base = 340, 240, 300
    x = lambda at: left + 15 + at * (width - 30) / (len(values) - 1)
    y = lambda cost: base - cost / top * height
    for line in range(0, top + 1, 5):
        yield f'<line x1="{left}" y1="{y(line):.1f}" x2="{left + width}" y2="{y(line):.1f}" stroke="#e2e8f0"/>'
        yield f'<text x="{left - 8}" y="{y(line) + 4:.1f}" text-anchor="end">{line}</text>'
    for at, value in enumerate(values):
        yield f'<text x="{x(at):.1f}" y="{base + 18}" text-anchor="middle">{value:,}</text>'
    yield f'<text x="{left + width / 2}" y="{base + 40}" text-anchor="middle">{title}</text>'
    for name, colour in COLOURS.items():
        middles = [statistics.median(point[name]) for point in points]
        line = " ".join(f"{x(at):.1f},{y(cost):.1f}" for at, cost in enumerate(middles))
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for at, point in enumerate(points):
            least, most = y(min(point[name])), y(max(point[name]))
            yield f'<line x1="{x(at):.1f}" y1="{least:.1f}" x2="{x(at):.1f}" y2="{most:.1f}" stroke="{colour}"/>'
            yield f'<circle cx="{x(at):.1f}" cy="{y(middles[at]):.1f}" r="3.5" fill="{colour}"/>'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--most-people", type=int, default=PEOPLE[-1])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    try:
        Scale(arguments, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
