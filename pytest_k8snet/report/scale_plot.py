"""What many Services cost, as a picture: milliseconds to connect by the number of frontends, one line for each node."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

from pytest_k8snet.record.scale import ScaleRecord

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 50, 60
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")
SHARES = ((0.5, "p50", ""), (0.99, "p99", ' stroke-dasharray="5 4"'))
_TICKS = 4


def scale_plot(records: Sequence[ScaleRecord]) -> str | None:
    """Return an SVG of the p50 (lines) and p99 (dashed) of every node; None when no node connected with two numbers of frontends.

    Frontends are on a logarithmic scale, so that what is looked up is level and what is gone through one by one bends upwards.
    """
    series = [(record.node, [size for size in record.sizes if size.connected_ms]) for record in records]
    series = [(node, sizes) for node, sizes in series if len(sizes) > 1]
    if not series:
        return None
    counts = sorted({size.frontends for _, sizes in series for size in sizes})
    highest_ms = max(size.percentile(share) for _, sizes in series for size in sizes for share, _, _ in SHARES) or 1.0
    span = log10(counts[-1]) - log10(counts[0])

    def x(frontends: int) -> float:
        return LEFT + (log10(frontends) - log10(counts[0])) / span * (WIDTH - LEFT - RIGHT)

    def y(milliseconds: float) -> float:
        return HEIGHT - BOTTOM - milliseconds / highest_ms * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="{TOP - 22}" font-size="15">Connecting to the last of many frontends of Services</text>',
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="black"/>',
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 15, "frontends", "middle"),
        _text(LEFT, TOP - 5, "ms", "end"),
    ]
    parts += [_text(x(count), HEIGHT - BOTTOM + 18, str(count), "middle") for count in counts]
    for tick in range(_TICKS + 1):
        value = highest_ms * tick / _TICKS
        parts.append(_text(LEFT - 8, y(value) + 4, f"{value:.2g}", "end"))
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
    for number, (node, sizes) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        for share, _, dashes in SHARES:
            points = " ".join(f"{x(size.frontends):.1f},{y(size.percentile(share)):.1f}" for size in sizes)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if TOP + number * 18 < HEIGHT - BOTTOM:
            parts.append(_text(WIDTH - RIGHT + 15, TOP + number * 18, f"{node} (p50; p99 dashed)", "start", colour))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
