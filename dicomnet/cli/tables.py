"""Matches for people: a table that begins before its last row is known, so that a long query shows at once."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from typing import Any

from ..errors import escaped
from .output import Output

__all__ = ["CsvTable", "Table"]

_LOOK_AHEAD = 50  # rows that decide about the widths
_WIDEST = 64


class Table:
    """Rows of text under a header.

    Args:
        output: where it goes.
        header: the names of the columns.
    """

    def __init__(self, output: Output, header: Iterable[str]) -> None:
        self._output = output
        self._rows: list[list[str]] = [list(header)]
        self._widths: list[int] = []

    def add(self, values: Iterable[Any]) -> None:
        """One more row."""
        row = ["" if value is None else str(value) for value in values]
        if self._widths:
            self._print(row)
            return
        self._rows.append(row)
        if len(self._rows) > _LOOK_AHEAD:
            self.close()

    def close(self) -> None:
        """Print what was held back; a table without rows is not printed."""
        if len(self._rows) > 1:
            self._widths = [min(max(map(len, column)), _WIDEST) for column in zip(*self._rows, strict=True)]
            self._rows.insert(1, ["-" * width for width in self._widths])
            for row in self._rows:
                self._print(row)
        self._rows = []

    def _print(self, row: list[str]) -> None:
        cells = (text.ljust(width) for text, width in zip(row, self._widths, strict=True))
        self._output.say("  ".join(cells).rstrip())


class CsvTable:
    """Rows as comma-separated values on standard output (RFC 4180), each as it comes.

    Args:
        header: the names of the columns.
    """

    def __init__(self, header: Iterable[str]) -> None:
        self._writer = csv.writer(sys.stdout)
        self._writer.writerow(header)

    def add(self, values: Iterable[Any]) -> None:
        """One more row."""
        self._writer.writerow(["" if value is None else escaped(str(value)) for value in values])

    def close(self) -> None:
        """Nothing is held back."""
        sys.stdout.flush()
