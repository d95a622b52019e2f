"""``dicomnet bench compare``: two results of `dicomnet bench`, side by side."""

from __future__ import annotations

from typing import Any

import click

from ..errors import InputFileError, InputProblem, cannot_read
from .exits import Exit
from .options import PATH, output_options
from .output import Output, amount
from .tables import Table

__all__ = ["compare_command"]

# What must be the same for the numbers to be comparable; what a run may have changed is not among them.
_WORK = ("service", "size", "count", "associations")
_MEASURES = {
    "seconds": ("seconds", 1, "{:.3f}"),
    "per_second": ("per second", 1, "{:.1f}"),
    "bytes_per_second": ("MiB/s", 2**-20, "{:.1f}"),
    "p50": ("p50, ms", 1000, "{:.3f}"),
    "p99": ("p99, ms", 1000, "{:.3f}"),
    "cpu": ("our CPU, s", 1, "{:.3f}"),
    "cpu_each": ("our CPU, ms each", 1000, "{:.3f}"),
}


@click.command("compare", short_help="Compare the results of two runs.")
@click.argument("first", type=PATH, metavar="A.json")
@click.argument("second", type=PATH, metavar="B.json")
@output_options
def compare_command(first: str, second: str, output: Output) -> int:
    """Show what two runs of `dicomnet bench --json` printed side by side, and each number of the second by the first's.

    Of the speeds more is better, of all else less.
    """
    one, other = _read(first), _read(second)
    for name in _WORK:
        if one.get(name) != other.get(name):
            output.warn(f"not the same work: {name} is {_said(name, one)} in {first}, {_said(name, other)} in {second}")
    table = Table(output, ("", first, second, "ratio"))
    ratios = {}
    for name, (title, factor, form) in _MEASURES.items():
        a, b = one[name], other[name]
        if a or b:
            ratios[name] = b / a if a else None
            ratio = f"{b / a:.2f}" if a else "-"
            table.add((title, form.format(a * factor), form.format(b * factor), ratio))
    table.close()
    output.record(summary={"first": one, "second": other, "ratios": ratios})
    return Exit.DONE


def _said(name: str, result: dict[str, Any]) -> str:
    return amount(result[name]) if name == "size" else str(result.get(name))


def _read(path: str) -> dict[str, Any]:
    """The summary in a file of JSON lines.

    Raises:
        InputFileError: it cannot be read, or has none of a measurement.
    """
    import json

    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        result = json.loads(lines[-1])["summary"]
        if all(isinstance(result[name], int | float) for name in (*_MEASURES, "size")):
            return dict(result)
    except OSError as error:
        raise cannot_read(error, path) from error
    except (ValueError, LookupError, TypeError):
        pass
    raise InputFileError(
        "no result of `dicomnet bench --json`",
        path=path,
        problem=InputProblem.CANNOT_READ,
        hint="Was the run broken off?",
    )
