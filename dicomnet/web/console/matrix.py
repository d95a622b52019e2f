"""The check matrix: who reaches whom by C-ECHO, asked of every server; or the check of a site, where one is named."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ...server.directory import ServerDirectory
from .pages import Ask, Console

__all__ = ["Checked", "CheckedCell", "routes"]

_AT_ONCE = 8


class CheckedCell(Protocol):
    """One echo."""

    @property
    def caller(self) -> str:
        """Who called."""

    @property
    def called(self) -> str:
        """Who was called."""

    @property
    def secure(self) -> bool:
        """Over TLS."""

    @property
    def problem(self) -> str:
        """Why it failed; empty where it did not."""

    @property
    def tried(self) -> bool:
        """Whether it could be tried."""


class Checked(Protocol):
    """What a check has found."""

    @property
    def cells(self) -> Sequence[CheckedCell]:
        """The echoes."""

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong."""

    @property
    def warnings(self) -> Sequence[str]:
        """What will be wrong."""


@dataclass(frozen=True, slots=True)
class _Cell:
    caller: str
    called: str
    secure: bool
    problem: str = ""
    tried: bool = True


@dataclass(frozen=True, slots=True)
class _Report:
    cells: tuple[_Cell, ...]
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [console.route("/check", get=_page, post=_check)]


async def _page(ask: Ask) -> Response:
    return ask.render("check.html", report=None, rows=[], columns=[])


async def _check(ask: Ask) -> Response:
    """Check, and show it: a reload asks whether to check again."""
    site: Callable[[], Checked] | None = ask.console.site
    report: Checked = await (run_in_threadpool(site) if site is not None else _echoes(ask))
    callers = [name.casefold() for name in dict.fromkeys(one.caller for one in report.cells)]
    columns = sorted(
        dict.fromkeys(one.called for one in report.cells),
        key=lambda title: callers.index(title.casefold()) if title.casefold() in callers else len(callers),
    )
    rows: dict[str, dict[str, list[CheckedCell]]] = {}
    for one in report.cells:
        rows.setdefault(one.caller, {}).setdefault(one.called, []).append(one)
    return ask.render("check.html", report=report, rows=list(rows.items()), columns=columns)


async def _echoes(ask: Ask) -> _Report:
    """From each server to each AE title with an address that it knows."""
    gate = asyncio.Semaphore(_AT_ONCE)
    found = await asyncio.gather(*(_of(ask, one, gate) for one in ask.console.desk.all()))
    return _Report(tuple(cell for cells, _ in found for cell in cells), tuple(p for _, told in found for p in told))


async def _of(ask: Ask, server: ServerDirectory, gate: asyncio.Semaphore) -> tuple[list[_Cell], list[str]]:
    if server.process() is None:
        return [], [f"{server.name} does not run, so it calls no one"]
    client = ask.console.desk.client(server)

    async def echo(entry: dict[str, Any]) -> _Cell:
        async with gate:
            try:
                answer = await client.echo(entry["title"])
            except DicomNetError as error:
                return _Cell(server.name, entry["title"], entry["tls"], error.message)
        problem = "" if answer["status"] == "0000" else answer["meaning"]
        return _Cell(server.name, entry["title"], entry["tls"], problem)

    try:
        known = [one for one in await client.ae_titles() if one["host"] and one["port"]]
    except DicomNetError as error:
        return [], [f"{server.name}: {error}"]
    return list(await asyncio.gather(*map(echo, known))), []
