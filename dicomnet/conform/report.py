"""Results for people and for machines: a table, one JSON object per line, JUnit XML."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO
from xml.etree import ElementTree

from ..errors import OutputFileError
from .case import Case, Grade
from .runner import Outcome, Result, Summary

try:  # an optional convenience
    from rich.console import Console
    from rich.table import Table
except ImportError:
    Console = Table = None  # type: ignore[assignment,misc]

_STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.SKIPPED: "dim", Outcome.NOT_RUN: "yellow"}


def escaped(text: str) -> str:
    """Text of the peer without characters that a terminal or XML could take for something else."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in text)


def print_table(results: Sequence[Result], out: TextIO | None = None) -> None:
    """The results as a table: with `rich` on a terminal, else as plain text that can be read and compared."""
    out = out or sys.stdout
    if Console is not None and out.isatty():
        if results:
            _rich_table(results, out)
        return
    for result in results:
        case = result.case
        print(f"{result.outcome.value:<7} {case.grade.value:<6} {case.id:<22} {case.rule}", file=out)
        if result.outcome is not Outcome.PASSED:
            print(f"{'':16}expected: {case.expected}\n{'':16}observed: {escaped(result.observed)}", file=out)


def _rich_table(results: Sequence[Result], out: TextIO) -> None:
    table = Table(show_lines=False, pad_edge=False)
    for heading in ("", "grade", "case", "rule", "observed"):
        table.add_column(heading, overflow="fold")
    for result in results:
        case = result.case
        style = _STYLES[result.outcome]
        observed = escaped(result.observed)
        if result.outcome is Outcome.FAILED:
            observed = f"{observed}\n(expected: {case.expected})"
        table.add_row(f"[{style}]{result.outcome.value}[/]", case.grade.value, case.id, case.rule, _plain(observed))
    Console(file=out).print(table)


def _plain(text: str) -> str:
    """Text in which `rich` sees no markup."""
    return text.replace("[", r"\[")


def print_summary(summary: Summary, out: TextIO | None = None) -> None:
    """The counts by grade."""
    out = out or sys.stdout
    print(f"{'':8}{'pass':>6}{'FAIL':>6}{'skip':>6}{'not run':>9}", file=out)
    for grade in Grade:
        row = summary.counts[grade]
        numbers = f"{row[Outcome.PASSED]:>6}{row[Outcome.FAILED]:>6}{row[Outcome.SKIPPED]:>6}{row[Outcome.NOT_RUN]:>9}"
        print(f"{grade.value:<8}{numbers}", file=out)
    print(f"{summary.total} cases in {summary.seconds:.1f} s", file=out)


def print_list(cases: Iterable[Case], out: TextIO | None = None) -> None:
    """What there is to try."""
    for case in cases:
        slow = " (slow)" if case.slow else ""
        print(f"{case.id:<22} {case.grade.value:<6} {case.rule}{slow}", file=out or sys.stdout)
        print(f"{'':30}expected: {case.expected}", file=out or sys.stdout)


def as_object(result: Result) -> dict[str, Any]:
    """A result as the object of a line of JSON."""
    case = result.case
    return {
        "id": case.id,
        "grade": case.grade.value,
        "outcome": _WORDS[result.outcome],
        "rule": case.rule,
        "expected": case.expected,
        "observed": escaped(result.observed),
        "seconds": round(result.seconds, 3),
    }


_WORDS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.SKIPPED: "skipped",
    Outcome.NOT_RUN: "not run",
}


def print_json(results: Iterable[Result], summary: Summary, peer: str, out: TextIO | None = None) -> None:
    """One object per result, then ``{"summary": …}``."""
    out = out or sys.stdout
    for result in results:
        print(json.dumps(as_object(result)), file=out)
    grades = {
        grade.value: {_WORDS[outcome]: count for outcome, count in row.items()} for grade, row in summary.counts.items()
    }
    total = {
        "peer": peer,
        "cases": summary.total,
        "passed": summary.of(Outcome.PASSED),
        "failed": summary.of(Outcome.FAILED),
        "conforms": summary.conforms,
        "seconds": round(summary.seconds, 3),
        "grades": grades,
    }
    print(json.dumps({"summary": total}), file=out)


def write_junit(results: Sequence[Result], summary: Summary, peer: str, path: str) -> None:
    """JUnit XML, as continuous integration servers read it."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"dicomnet conform {peer}",
        tests=str(summary.total),
        failures=str(summary.of(Outcome.FAILED)),
        errors=str(summary.of(Outcome.NOT_RUN)),
        skipped=str(summary.of(Outcome.SKIPPED)),
        time=f"{summary.seconds:.3f}",
    )
    tags = {Outcome.FAILED: "failure", Outcome.SKIPPED: "skipped", Outcome.NOT_RUN: "error"}
    for result in results:
        case = result.case
        entry = ElementTree.SubElement(
            suite, "testcase", classname=case.section, name=f"{case.id} {case.rule}", time=f"{result.seconds:.3f}"
        )
        if result.outcome in tags:
            observed = escaped(result.observed)
            child = ElementTree.SubElement(entry, tags[result.outcome], message=observed, type=case.grade.value)
            child.text = textwrap.dedent(f"expected: {case.expected}\nobserved: {observed}\n")
    try:
        ElementTree.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise OutputFileError(f"cannot be written: {error.strerror}", path=path, errno=error.errno) from error
