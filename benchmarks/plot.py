"""One chart (SVG) from one run's results: each corpus a panel, each rig a bar of its median, longer is slower.

plot.py RESULTS.json CHART.svg
"""

import json
import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LABEL, BAR, GAP, PANEL = 760, 150, 20, 6, 46
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


def chart(results: Mapping[str, Any]) -> str:
    """The whole picture, as text."""
    panels = []
    top = 34
    for corpus, rigs in (results["store"] | results.get("calls", {})).items():
        times = {name: one["median"] for name, one in rigs.items() if one["median"]}
        if times:
            panels.extend(panel(TITLES.get(corpus, corpus), times, top))
            top += PANEL + len(times) * (BAR + GAP)
    style = "text{font:13px system-ui,sans-serif;fill:#343a40} .h{font-weight:600} .s{fill:#868e96;font-size:11px}"
    lines = [
        f'<text class="s" x="10" y="{top + 14 + 15 * row}">{escape(line)}</text>'
        for row, line in enumerate(caption(results))
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 40}" role="img" '
        f'aria-label="Times by implementation"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="h" x="10" y="20">Time over loopback, of senders and of single calls (shorter is better)</text>'
        f"{''.join(panels + lines)}</svg>\n"
    )


def panel(title: str, times: Mapping[str, float], top: int) -> Iterator[str]:
    """One corpus: a heading, then a bar and its seconds per rig."""
    longest = min(max(times.values()), CUT * sorted(times.values())[len(times) // 2])
    scale = (WIDTH - LABEL - 110) / longest
    yield f'<text class="h" x="10" y="{top + 22}">{escape(title)}</text>'
    for row, (name, seconds) in enumerate(sorted(times.items(), key=lambda item: item[1])):
        y = top + 32 + row * (BAR + GAP)
        cut = seconds > longest
        width = min(seconds, longest) * scale
        text = duration(seconds) + (" (bar cut)" if cut else "")
        yield f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{COLOURS.get(name, MIXED)}"/>'
        yield f'<text x="{LABEL + width + 6:.1f}" y="{y + 15}">{text}</text>'


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
