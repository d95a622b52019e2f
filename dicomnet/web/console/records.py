"""What a server has noted: its log, and its audit trail (PS3.15 Section A.5), the latest first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from ..problems import Problem
from .pages import Ask, Console

__all__ = ["routes"]

#: Lines of a page, and bytes from the end of a file in which they are looked for.
LINES, TAIL = 200, 4 << 20
LEVELS = ("debug", "info", "warning", "error")
_RANK = {name: number for number, name in enumerate((*LEVELS, "critical"))}


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [
        console.route("/servers/{server}/log", get=_log, post=_level, role="operate"),
        console.route("/servers/{server}/audit", get=_audit, role="operate"),
    ]


def latest(path: Path, line_of: Callable[[str], dict[str, Any] | None], most: int = LINES) -> list[dict[str, Any]]:
    """The latest lines of a file that are wanted, the last one first; its beginning is not looked at."""
    found: list[dict[str, Any]] = []
    for text in _backwards(path):
        one = line_of(text)
        if one is not None:
            found.append(one)
        if len(found) == most:
            break
    return found


def _backwards(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read(TAIL).split(b"\n")
    except FileNotFoundError:
        return
    for line in reversed(lines if size <= TAIL else lines[1:]):
        if line.strip():
            yield line.decode("utf-8", "replace")


async def _log(ask: Ask) -> Response:
    level, text = ask.query.get("level", "info"), ask.query.get("text", "").strip()
    level = level if level in LEVELS else "info"
    file = ask.console.desk.settings(ask.server).log.file

    def wanted(line: str) -> dict[str, Any] | None:
        one = _record(line)
        fits = _RANK.get(one["level"], 1) >= _RANK[level] and text.lower() in line.lower()
        return one if fits else None

    lines = [] if file is None else await run_in_threadpool(latest, file, wanted)
    return ask.render("log.html", lines=lines, level=level, text=text, levels=LEVELS, file=file)


def _record(line: str) -> dict[str, Any]:
    """A line of JSON, or of text as it is."""
    try:
        values = json.loads(line)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return {"at": "", "level": "info", "logger": "", "text": line, "more": ""}
    at = str(values.pop("timestamp", "")).replace("T", " ").partition(".")[0]
    level, logger = str(values.pop("level", "info")), str(values.pop("logger", ""))
    said = str(values.pop("event", ""))
    more = "\n".join(f"{name}: {one}" for name, one in values.items())
    return {"at": at, "level": level, "logger": logger, "text": said, "more": more}


async def _level(ask: Ask) -> Response:
    level = (await ask.form()).text("level")
    if level not in LEVELS:
        raise Problem(422, f"levels are {', '.join(LEVELS)}", parameter="level")
    await ask.client.request("PUT", "/v1/log-level", {"level": level})
    return ask.done(f"Logged from now on, until the next start: {level}.", f"/servers/{ask.server.name}/log")


# ---- the audit trail ---------------------------------------------------------------------------------------------


async def _audit(ask: Ask) -> Response:
    text = ask.query.get("text", "").strip()
    settings = ask.console.desk.settings(ask.server).audit
    file = settings.file if settings.enabled else None

    def wanted(line: str) -> dict[str, Any] | None:
        return _event(line) if text.lower() in line.lower() else None

    events = [] if file is None else await run_in_threadpool(latest, file, wanted)
    return ask.render("audit.html", events=events, text=text, file=file)


def _event(line: str) -> dict[str, Any] | None:
    """A message of PS3.15 Section A.5, as a line of the page; what is none is shown as it is."""
    nothing = {"at": "", "what": line[:500], "kind": "", "outcome": "", "who": [], "about": []}
    if "<!DOCTYPE" in line or "<!ENTITY" in line:  # of no trail of ours, and the parser would follow it
        return nothing
    try:
        root = ElementTree.fromstring(line)
    except ElementTree.ParseError:
        return nothing
    event = root.find("EventIdentification")
    if event is None:
        return nothing
    kind = event.find("EventTypeCode")
    people = [one.get("UserID", "") + (f" at {address}" if (address := one.get("NetworkAccessPointID")) else "")
              for one in root.iter("ActiveParticipant")]  # fmt: skip
    return {
        "at": event.get("EventDateTime", "").replace("T", " ").partition(".")[0],
        "what": _meaning(event.find("EventID")), "kind": "" if kind is None else _meaning(kind),
        "outcome": {"0": "success", "4": "minor", "8": "serious", "12": "major"}.get(
            event.get("EventOutcomeIndicator", ""), ""
        ),
        "said": (event.findtext("EventOutcomeDescription") or ""),
        "who": people, "about": [one.get("ParticipantObjectID", "") for one in root.iter(_OBJECT)],
    }  # fmt: skip


_OBJECT = "ParticipantObjectIdentification"


def _meaning(code: ElementTree.Element | None) -> str:
    return "" if code is None else code.get("originalText", "")
