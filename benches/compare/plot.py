"""Draws points of scale.py as SVG: costs above, ratios below, one column for each thing that grows.

On a card of its own colour, so that it is read alike in light and in dark viewers.
"""

import math
import statistics

WIDTH, HEIGHT = 900, 620
PANEL_WIDTH, LEFTS = 360, (70, 510)
COST_BASE, COST_HEIGHT = 310, 220
RATIO_BASE, RATIO_HEIGHT = 505, 140
INK, PALE, LINES = "#1e293b", "#475569", "#cbd5e1"
OWN, CONSTANT = "#c2410c", "#1d4ed8"


def draw(plots, note):
    """`plots` are titles of what grows, each with its points."""
    costs = [cost for _, points in plots for point in points for cost in point.own + point.constant]
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if max(costs) / step <= 8)
    top = math.ceil(max(costs) / step) * step
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff" stroke="{LINES}"/>',
        text(LEFTS[0], 34, "What a hit costs", size=17, bold=True),
    ]
    for left, colour, name in ((510, OWN, "flameup-gateway"), (680, CONSTANT, "hyper, a constant")):
        parts.append(f'<rect x="{left}" y="23" width="13" height="13" fill="{colour}"/>')
        parts.append(text(left + 20, 34, name))
    parts.append(text(LEFTS[0], 70, "CPU microseconds a request", colour=PALE))
    parts.append(text(LEFTS[0], 350, "hyper's CPU / the gateway's, in the same round", colour=PALE))
    for left, (title, points) in zip(LEFTS, plots):
        values = [point.value for point in points]
        parts += grid(left, COST_BASE, COST_HEIGHT, range(0, top + 1, step), top)
        parts += series(left, COST_BASE, COST_HEIGHT, top, CONSTANT, [point.constant for point in points])
        parts += series(left, COST_BASE, COST_HEIGHT, top, OWN, [point.own for point in points])
        parts += grid(left, RATIO_BASE, RATIO_HEIGHT, (0, 0.25, 0.5, 0.75, 1), 1)
        parts += series(left, RATIO_BASE, RATIO_HEIGHT, 1, OWN, [point.ratios() for point in points])
        for at, value in enumerate(values):
            parts.append(text(across(left, at, len(values)), RATIO_BASE + 22, f"{value:,}", "middle", size=12))
        parts.append(text(left + PANEL_WIDTH / 2, RATIO_BASE + 46, title, "middle", bold=True))
    parts.append(text(LEFTS[0], HEIGHT - 34, f"{note}.", size=12, colour=PALE))
    parts.append(text(LEFTS[0], HEIGHT - 16, "Points are medians, bars reach from the least to the greatest.", size=12, colour=PALE))
    return "\n".join([*parts, "</svg>\n"])


def text(x, y, words, anchor="start", size=13, bold=False, colour=INK):
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight} fill="{colour}">{words}</text>'


def across(left, at, count):
    return left + 22 + at * (PANEL_WIDTH - 44) / max(count - 1, 1)


def grid(left, base, height, marks, top):
    for mark in marks:
        y = base - mark / top * height
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{left + PANEL_WIDTH}" y2="{y:.1f}" stroke="{LINES}"/>'
        yield text(left - 9, y + 4.5, f"{mark:g}", "end")


def series(left, base, height, top, colour, measured):
    """A line through the medians, and a bar at each. What is above the panel is cut off there."""
    y = lambda value: base - min(value / top, 1.05) * height
    places = [(across(left, at, len(measured)), values) for at, values in enumerate(measured)]
    line = " ".join(f"{x:.1f},{y(statistics.median(values)):.1f}" for x, values in places)
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, values in places:
        yield f'<line x1="{x:.1f}" y1="{y(min(values)):.1f}" x2="{x:.1f}" y2="{y(max(values)):.1f}" stroke="{colour}" stroke-width="2"/>'
        yield f'<circle cx="{x:.1f}" cy="{y(statistics.median(values)):.1f}" r="4" fill="{colour}"/>'
