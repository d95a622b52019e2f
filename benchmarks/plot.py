"""One chart (SVG) from one run's results: each corpus a panel, each rig a bar of its median, longer is slower.

For stores the bar is the transfer; the whole process stands behind it, paler.

plot.py RESULTS.json CHART.svg
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LABEL, BAR, GAP, PANEL = 760, 150, 20, 6, 46
FIGURES = 220  # room for what stands behind the longest bar
PALE = 0.3
HEADING = "Transfers over loopback, behind them, paler, the whole process; and single calls (shorter is better)"
COLOURS = {"dicomnet": "#0b7285", "raw": "#adb5bd", "dcmtk": "#e8590c", "pynetdicom": "#5f3dc4"}
COLOURS |= {"dicomnet-4": "#0b7285", "dicomnet-4-workers": "#0b7285", "dcmtk-fork": "#e8590c", "echoscu": "#e8590c"}
COLOURS |= {"dicomnet echo": "#0b7285", "import dicomnet": "#0b7285"}
MIXED = "#868e96"
TITLES = {
    "ct": "400 CT slices of 512 KiB",
    "small": "4,000 objects of 4 KiB",
    "large": "one object of 300 MB",
    "ct by 8": "eight senders of 150 CT slices each, at once",
    "small by 8": "eight senders of 500 objects of 4 KiB each, at once",
    "echo": "C-ECHO round trip on one association",
    "associate": "associate, echo, release",
    "start": "start of a process",
}
UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
CUT = 4.0  # a bar longer than so many times the median rig is cut, and says so


@dataclass(frozen=True, slots=True)
class Bar:
    """What one rig took: the time that leads, and the whole process where that is another."""

    name: str
    seconds: float
    process: float | None = None


def bars(rigs: Mapping[str, Any]) -> list[Bar]:
    """The rigs that ran, the fastest first: by their transfers, where all of those are known."""
    ran = {name: one for name, one in rigs.items() if one["seconds"]}
    if all(one["transfer"] for one in ran.values()):
        found = [Bar(name, one["transfer"], one["seconds"]) for name, one in ran.items()]
    else:
        found = [Bar(name, one["seconds"]) for name, one in ran.items()]
    return sorted(found, key=lambda bar: bar.seconds)


def chart(results: Mapping[str, Any]) -> str:
    """The whole picture, as text."""
    panels: list[str] = []
    top = 34
    for corpus, rigs in (results["store"] | results.get("calls", {})).items():
        rows = bars(rigs)
        if rows:
            panels.extend(panel(TITLES.get(corpus, corpus), rows, top))
            top += PANEL + len(rows) * (BAR + GAP)
    style = "text{font:13px system-ui,sans-serif;fill:#343a40} .h{font-weight:600} .s{fill:#868e96;font-size:11px}"
    lines = [
        f'<text class="s" x="10" y="{top + 14 + 15 * row}">{escape(line)}</text>'
        for row, line in enumerate(caption(results))
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 40}" role="img" '
        f'aria-label="Times by implementation"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="h" x="10" y="20">{HEADING}</text>'
        f"{''.join(panels + lines)}</svg>\n"
    )


def panel(title: str, rows: Sequence[Bar], top: int) -> Iterator[str]:
    """One corpus: a heading, then per rig a bar and its seconds; behind it, paler, the bar of the process."""
    middle = sorted(bar.process or bar.seconds for bar in rows)[len(rows) // 2]
    longest = min(max(bar.process or bar.seconds for bar in rows), CUT * middle)
    scale = (WIDTH - LABEL - FIGURES) / longest
    yield f'<text class="h" x="10" y="{top + 22}">{escape(title)}</text>'
    for row, bar in enumerate(rows):
        y = top + 32 + row * (BAR + GAP)
        colour = COLOURS.get(bar.name, MIXED)
        text = duration(bar.seconds) + ("" if bar.process is None else f", process {duration(bar.process)}")
        text += " (bar cut)" if (bar.process or bar.seconds) > longest else ""
        width = min(bar.seconds, longest) * scale
        end = min(bar.process or bar.seconds, longest) * scale
        yield f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>'
        if end > width:
            yield _rectangle(y, end, f'{colour}" fill-opacity="{PALE}')
        yield _rectangle(y, width, colour)
        yield f'<text x="{LABEL + end + 6:.1f}" y="{y + 15}">{text}</text>'


def _rectangle(y: int, width: float, fill: str) -> str:
    return f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{fill}"/>'


def duration(seconds: float) -> str:
    """For people: "1.23 s", "45.6 ms", "78.9 µs"."""
    unit, size = next((one for one in UNITS if seconds >= one[1]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def caption(results: Mapping[str, Any]) -> tuple[str, str]:
    """Machine and date, then versions: what a number means nothing without."""
    machine, versions = results["machine"], results["versions"]
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; {results['date'][:10]}", software


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(chart(json.loads(Path(sys.argv[1]).read_text())))
