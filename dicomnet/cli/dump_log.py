"""Reads a message log, for `dicomnet dump`."""

from __future__ import annotations

from collections.abc import Iterable
from json import loads
from typing import Any

from ..errors import InputProblem
from ..protocol.trace import lines
from .exits import Exit
from .output import Output

__all__ = ["dump"]

# What a line begins with, or what is shown better.
_HEADING = {"time", "association", "peer", "kind", "sent", "text", "elements"}


def dump(file: str, output: Output) -> int:
    """Show the lines of a log; with ``-v`` all that they say. The exit code."""
    count = bad = 0
    with open(file, encoding="utf-8", errors="replace") as opened:
        for number, line in enumerate(opened, 1):
            try:
                fields = loads(line)
                shown = _heading(fields)
            except (ValueError, KeyError, TypeError):
                bad += 1
                output.error(f"{file}: line {number} is none of a message log")
                continue
            count += 1
            output.record(**fields)
            output.say(shown)
            for detail in _details(fields) if output.verbosity > 0 and not output.json else ():
                output.say(detail)
    output.record(summary={"lines": count, "failed": bad})
    return InputProblem.TRUNCATED if bad else Exit.DONE


def _heading(fields: dict[str, Any]) -> str:
    if "log" in fields:
        data = "with data sets" if fields["datasets"] else "without data sets"
        patients = "with patient data" if fields["patient_data"] else "patient data redacted"
        return f"message log, {data}, {patients}"
    return f"{fields['time']} #{fields['association']} {fields['text']}"


def _details(fields: dict[str, Any]) -> list[str]:
    if "log" in fields:
        return []
    plain = {name: value for name, value in fields.items() if name not in _HEADING and value not in (None, "", [])}
    return [*lines(plain), *_elements(fields.get("elements", ()), 1)]


def _elements(elements: Iterable[dict[str, Any]], depth: int) -> list[str]:
    found = []
    for one in elements:
        value = one.get("value", f"{len(one.get('items', ()))} items")
        found.append(f"{'    ' * depth}{one['tag']} {one['vr']} {one['keyword']}: {value}")
        for item in one.get("items", ()):
            found += _elements(item, depth + 1)
    return found
