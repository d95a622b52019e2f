"""Writes docs/router/rules.md, the reference of a router's rules, from the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from dicomnet.router.actions import (
    Ask,
    Call,
    Copy,
    Deidentify,
    Drop,
    Edit,
    Forward,
    Hold,
    Operation,
    Prefetch,
    Retrieve,
)
from dicomnet.router.conditions import FIELDS, Condition
from dicomnet.router.destinations import DimseDestination, FolderDestination, S3Destination, StowDestination
from dicomnet.router.plan import Rule
from dicomnet.server.settings import Table

PAGE = Path(__file__).parent.parent / "docs" / "router" / "rules.md"
HEAD = """# Rules and destinations

This page is made from the model by `tools/router_rules.py`. `dicomnet router rules schema` prints the same as a JSON
schema. Files, the command line, the administration and editors are read by one parser.

Rules stand in `rules.toml` as `[[rules]]`, destinations as `[destinations.NAME]`. An instance that arrives is shown
to the rules from the highest `priority` to the lowest, of equal ones in the order in which they are written. Each
that holds does its actions; one that says `then = "stop"` ends it. What no rule wants is held.

```toml
# example.toml
[destinations.ARCHIVE]
address = "ARCHIVE@pacs.example:11112"

[[rules]]
name = "thin slices of the night"
priority = 10
when = { all = [
  { field = "Modality", equals = "CT" },
  { field = "SliceThickness", range = ["", 1.5] },
  { not = { field = "calling", in = ["TEST_CT"] } },
  { field = "time", range = ["22:00", "06:00"] },
] }
actions = [{ do = "forward", to = ["ARCHIVE"], urgency = "low" }]
```

```sh
dicomnet router rules check example.toml
```
"""
FIELD_HEAD = """## What can be tested

`field` is one of these words, or the path of an element: a keyword (`PatientID`), a tag (`0008,0060`), a private
element by its creator (`0009,{GEMS_IDEN_01},02`), and steps into sequences
(`RequestAttributesSequence[0]/ScheduledProcedureStepID`; `[*]` or nothing is any item). An absent element passes
nothing but `exists = false`: absent is not empty. Where there are several values, one that passes is enough. Numbers
in rules are compared as numbers, text to the letter.

| field | operators |
|---|---|"""


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    """Its lines."""
    yield HEAD
    yield from table("Rules", Rule)
    yield FIELD_HEAD
    for name, operators in FIELDS.items():
        yield f"| `{name}` | {', '.join(operators)} |"
    yield "| an element | equals, in, matches, range, exists, empty |\n"
    yield from table("Conditions", Condition)
    yield "## Actions\n"
    for model in (Forward, Hold, Drop, Copy, Edit, Deidentify, Call, Prefetch, Retrieve, Ask):
        yield from table(f'`do = "{named(model, "do")}"`', model, level=3)
    yield from table("Operations of an edit", Operation, level=3)
    yield "## Destinations\n"
    for kind in (DimseDestination, StowDestination, FolderDestination, S3Destination):
        yield from table(f'`kind = "{named(kind, "kind")}"`', kind, level=3)


def named(model: type[Table], field: str) -> str:
    """The word that names a kind."""
    annotation = model.model_fields[field].annotation
    assert get_origin(annotation) is Literal
    return str(get_args(annotation)[0])


def table(title: str, model: type[Table], *, level: int = 2) -> Iterator[str]:
    """One kind of table in the file."""
    yield f"{'#' * level} {title}\n"
    yield f"{' '.join((model.__doc__ or '').split())}\n"
    yield "| field | default | what |"
    yield "|---|---|---|"
    for key, field in model.model_fields.items():
        if key in ("do", "kind"):
            continue
        name = field.alias or key
        yield f"| `{name}` | {default_of(field)} | {' '.join((field.description or '').split())} |"
    yield ""


def default_of(field: Any) -> str:
    """What holds where nothing is written."""
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None or field.default in ("", ()):
        return "none"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
