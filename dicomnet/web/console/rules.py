"""A router's rules, edited as TOML by the server's own parser, tried on a study, and saved; its queues."""

from __future__ import annotations

from datetime import date
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from .forms import number_in
from .pages import Ask, Console

__all__ = ["routes"]

_ACTS = {"retry": "Retry", "drop": "Drop", "hold": "Hold", "release": "Release"}
_STATES = ("waiting", "leased", "held", "parked", "sent", "dropped")
_PAGE = 100


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [
        console.route("/servers/{server}/rules", get=_rules, post=_edit, post_role="administer"),
        console.route("/servers/{server}/queue", get=_queue, post=_act),
        console.route("/servers/{server}/queue/report", get=_report),
    ]


async def _rules(ask: Ask) -> Response:
    now = await ask.send("RouterRules")
    status = await ask.send("RouterStatus")
    return await _page(ask, now["toml"], now["version"], problem=status["problem"])


async def _page(
    ask: Ask, text: str, version: object, *, tried: dict[str, Any] | None = None, study: str = "", wrong: str = "",
    problem: str = "", saving: bool = False, status: int = 200,
) -> Response:  # fmt: skip
    report = await ask.send("RouterReport")
    studies = [one["study"] for one in reversed(report["studies"])][:_PAGE]
    return ask.render(
        "rules.html", status=status, text=text, version=version, tried=tried, study=study, wrong=wrong,
        problem=problem, saving=saving, studies=studies,
    )  # fmt: skip


async def _edit(ask: Ask) -> Response:
    """What the button says: try, or save. Text with a mistake is shown again, with the place of each."""
    form = await ask.form()
    text, version, study = form.raw("toml"), form.text("version"), form.text("study")
    saving = form.text("action") == "save"
    try:
        tried = await ask.send("RouterTryRules", toml=text, study=None if saving else study or None)
    except DicomNetError as error:
        return await _page(ask, text, version, study=study, wrong=str(error), status=422)
    if tried["problems"] or not saving:
        return await _page(
            ask, text, version, tried=tried, study=study, saving=saving, status=422 if tried["problems"] else 200
        )
    seen = number_in(version)
    given = {"toml": text} | ({} if seen is None else {"version": seen})
    try:
        saved = await ask.send("RouterSaveRules", **given)
    except DicomNetError as error:
        return await _page(ask, text, version, study=study, wrong=str(error), status=409)
    said = f"Saved: version {saved['version']} holds for all that arrives from now on."
    return ask.done(said, f"/servers/{ask.server.name}/rules")


# ---- queues ------------------------------------------------------------------------------------------------------


async def _queue(ask: Ask) -> Response:
    query = ask.query
    chosen: dict[str, Any] = {"most": _PAGE}
    if query.get("destination"):
        chosen["destination"] = query["destination"]
    if query.get("study"):
        chosen["study"] = query["study"]
    if query.get("state") in _STATES:
        chosen["states"] = [query["state"]]
    if (after := number_in(query.get("after", ""))) is not None:
        chosen["after"] = after
    status = await ask.send("RouterStatus")
    found = await ask.send("RouterQueue", **chosen)
    asked = {name: query.get(name, "") for name in ("destination", "study", "state")}
    return ask.render(
        "queue.html", destinations=status["destinations"], deliveries=found["deliveries"], states=_STATES, asked=asked,
        full=_PAGE,
    )  # fmt: skip


async def _act(ask: Ask) -> Response:
    """What a button does with the deliveries that are chosen, or with all of a destination."""
    form = await ask.form()
    back = f"/servers/{ask.server.name}/queue"
    act, ids = form.text("act"), [number for one in form.all("id") if (number := number_in(one)) is not None]
    destination = form.text("destination")
    if act not in _ACTS or not (ids or destination):
        return ask.done("Choose the deliveries first.", back, "error")
    chosen: dict[str, Any] = {"ids": ids} if ids else {"destination": destination}
    done = await ask.send(f"Router{_ACTS[act]}", **chosen)
    count = done["deliveries"]
    return ask.done(f"{_ACTS[act]}: {count} {'delivery' if count == 1 else 'deliveries'}.", back)


async def _report(ask: Ask) -> Response:
    day, wrong = ask.query.get("day", ""), ""
    try:
        given = {"day": date.fromisoformat(day).isoformat()} if day else {}
    except ValueError:
        given, wrong = {}, "expected a day, such as 2026-01-31"
    found = await ask.send("RouterReport", **given)
    return ask.render("report.html", status=422 if wrong else 200, found=found, day=day, wrong=wrong)
