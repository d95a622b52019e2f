"""What the program prints: results on standard output, for people or as JSON; everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from threading import Lock
from typing import Any

from ..errors import escaped

__all__ = ["Output", "amount", "complain", "counted", "rate"]


def complain(message: str, word: str = "error") -> None:
    """Print one line on standard error: ``error: …`` or another word."""
    label = f"{word}:"
    colour = {"error": 31, "warning": 33}.get(word)
    # Not on Windows: whether its terminal understands is more than a line is worth.
    if colour and os.name == "posix" and sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        label = f"\x1b[{colour};1m{label}\x1b[0m"
    sys.stderr.write(f"{label} {message}\n")
    sys.stderr.flush()


class Output:
    """Standard output and standard error as the options want them. Lines of several threads do not mix.

    Args:
        json: one JSON object per line on standard output instead of text.
        verbosity: -1 quiet, 0 usual, 1 verbose, 2 debug.
    """

    def __init__(self, *, json: bool, verbosity: int) -> None:
        self.json = json
        self.verbosity = verbosity
        self._lock = Lock()

    @property
    def silent(self) -> bool:
        """Whether only failures are told."""
        return self.verbosity < 0 and not self.json

    def say(self, line: str) -> None:
        """A line for people."""
        if not self.json and self.verbosity >= 0:
            self._write(escaped(line))

    def record(self, **fields: Any) -> None:
        """A line for programs."""
        if self.json:
            text = json.dumps(fields, ensure_ascii=False)
            try:
                text.encode(sys.stdout.encoding or "utf-8")
            except UnicodeEncodeError:  # the name of a file need not be UTF-8, and JSON is
                text = json.dumps(fields)
            self._write(text)

    def summary(self, line: str, **fields: Any) -> None:
        """The last line, in either form."""
        self.say(line)
        self.record(summary=fields)

    def trace(self, line: str) -> None:
        """What goes over the wire: a line on standard error."""
        with self._lock:
            sys.stderr.write(escaped(line) + "\n")

    def warn(self, message: str) -> None:
        """Something is not as it should be, and the work goes on."""
        with self._lock:
            complain(escaped(message), "warning")

    def error(self, message: str) -> None:
        """Something failed, and the work goes on where it can."""
        with self._lock:
            complain(escaped(message))

    def _write(self, line: str) -> None:
        with self._lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def counted(number: int, noun: str, plural: str = "") -> str:
    """How many of something: "1 instance", "3 instances". A plural that is more than an s has to be given."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def amount(size: float) -> str:
    """A number of bytes for people: "512.0 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def rate(size: float, seconds: float) -> str:
    """Bytes in a time for people: "12.0 MiB in 0.31 s (38.7 MiB/s)"."""
    speed = f" ({amount(size / seconds)}/s)" if seconds > 0 and size else ""
    return f"{amount(size)} in {seconds:.2f} s{speed}"
