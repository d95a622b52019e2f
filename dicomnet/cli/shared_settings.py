"""Settings that all nodes of an archive have in common, as commands take and print them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from ..errors import InvalidArgument, escaped
from ..server.settings import as_written
from .exits import Exit
from .options import Parsed
from .output import Output, counted
from .tables import Table

__all__ = [
    "AFTER",
    "KEYS",
    "KEY_VALUE",
    "NUMBER",
    "SNAPSHOT",
    "assignment",
    "say_change",
    "say_history",
    "say_settings",
]

_SHOWN = 60  # characters of a value, for people; --json has all


def assignment(text: str) -> tuple[str, Any]:
    """A key and a value from ``KEY=VALUE``; the value as TOML has it, and else as text.

    Raises:
        InvalidArgument: it is no such thing.
    """
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", key.strip()):
        raise InvalidArgument(f'"{escaped(text)}" is not KEY=VALUE', hint="Write it like retention_days=3650.")
    return key.strip(), as_written(value)


KEY_VALUE = click.argument(
    "values", type=Parsed("value", assignment), nargs=-1, required=True, metavar="KEY=VALUE..."
)  # fmt: skip
KEYS = click.argument("keys", nargs=-1, required=True, metavar="KEY...")
NUMBER = click.argument("snapshot", type=click.IntRange(0), metavar="N")
SNAPSHOT = click.option(
    "--snapshot", type=click.IntRange(0), metavar="N", help="An earlier one.  [default: the latest]"
)  # fmt: skip
AFTER = click.option("--after", type=click.IntRange(0), metavar="N", help="Only if N is still the latest snapshot.")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = escaped(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def say_settings(found: Mapping[str, Any], output: Output) -> int:
    """Print a snapshot."""
    table = Table(output, ("setting", "value", "from", "default"))
    sources = {"node": "this node", "all": f"all nodes ({found['snapshot']})", "default": "default"}
    for one in found["settings"]:
        name = f"{one['key']} *" if one["restart"] else one["key"]
        source = sources[one["from"]]
        if one["from"] == "node" and one["set"]:
            source += f"; all nodes: {_shown(one['for_all'])}"
        table.add((name, _shown(one["value"]), source, _shown(one["default"])))
        output.record(**one)
    table.close()
    if found["unknown"]:
        output.warn(f"this version does not know {', '.join(sorted(map(escaped, found['unknown'])))}")
    refused = found.get("refused")
    if refused:
        output.warn(f"snapshot {refused['snapshot']} cannot be used here: {refused['why']}")
    by = f", by {escaped(found['who'])}, {_when(found['at'])}: {escaped(found['what'])}" if found["snapshot"] else ""
    about = {name: found[name] for name in ("snapshot", "at", "who", "what", "running", "refused") if name in found}
    output.summary(f"snapshot {found['snapshot']}{by}", **about)
    return Exit.DONE


def say_history(found: Sequence[Mapping[str, Any]], output: Output) -> int:
    """Print who changed what, and when."""
    table = Table(output, ("snapshot", "when", "who", "what"))
    for one in found:
        table.add((one["snapshot"], _when(one["at"]), escaped(one["who"]), escaped(one["what"])))
        output.record(**one)
    table.close()
    output.summary(counted(len(found), "snapshot"), snapshots=len(found))
    return Exit.DONE


def say_change(made: Mapping[str, Any], output: Output) -> int:
    """Print what a change did."""
    if made["own"]:
        output.warn(f"this node's own settings say otherwise, and hold here: {', '.join(made['own'])}")
    if made["pending_restart"]:
        output.warn(f"these wait for a restart of each node: {', '.join(made['pending_restart'])}")
    changed = ", ".join(map(escaped, made["changed"])) or "nothing"
    output.summary(f"snapshot {made['snapshot']} holds; changed: {changed}", **made)
    return Exit.DONE
