"""The service manager: servers made, started, paused, stopped and deleted; one at a glance, with its add-ins."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError, InvalidArgument
from ...server import manager
from ...server.directory import ServerDirectory
from ...server.discovery import Finder
from ...server.setting_errors import SettingsInvalid
from .forms import Field, mark, number_in
from .pages import Ask, Console

__all__ = ["routes", "settings_problems"]

_SERVER = "/servers/{server}"


def routes(console: Console) -> list[Route]:
    """The routes."""

    def act(path: str, handler: Any, role: str) -> Route:
        return console.route(f"{_SERVER}/{path}", post=handler, post_role=role)

    return [
        console.route("/new-server", get=_new, post=_create, role="administer", post_role="administer"),
        console.route(_SERVER, get=_overview),
        act("start", _start, "administer"),
        act("stop", _stop, "administer"),
        act("pause", _pause, "operate"),
        act("resume", _resume, "operate"),
        act("reload", _reload, "administer"),
        act("addins/{addin}/resume", _resume_addin, "operate"),
        console.route(f"{_SERVER}/delete", get=_ask_delete, post=_delete, role="administer", post_role="administer"),
    ]


async def _overview(ask: Ask) -> Response:
    server = ask.server
    state: dict[str, Any] = server.summary()
    health: list[dict[str, Any]] = []
    addins: dict[str, Any] = {"addins": [], "broken": {}}
    silent = ""
    if state["state"] == "running":
        try:
            state |= await ask.client.status()
            health = list((await ask.client.health())["checks"])
            addins = await ask.client.addins()
        except DicomNetError as error:
            state["state"], silent = "silent", str(error)
    return ask.render("server.html", state=state, health=health, running=addins, silent=silent)


async def _start(ask: Ask) -> Response:
    server = ask.server
    process = await run_in_threadpool(manager.start, server)
    return ask.done(f"{server.name} runs as process {process}.", f"/servers/{server.name}")


async def _stop(ask: Ask) -> Response:
    server = ask.server
    await run_in_threadpool(manager.stop, server)
    return ask.done(f"{server.name} has stopped.", f"/servers/{server.name}")


async def _pause(ask: Ask) -> Response:
    await ask.client.pause()
    return ask.done(f"{ask.server.name} takes no new association.", f"/servers/{ask.server.name}")


async def _resume(ask: Ask) -> Response:
    await ask.client.resume()
    return ask.done(f"{ask.server.name} takes associations.", f"/servers/{ask.server.name}")


async def _reload(ask: Ask) -> Response:
    return ask.done(reloaded(await ask.client.reload()), f"/servers/{ask.server.name}")


def reloaded(report: dict[str, Any]) -> str:
    """What a reload has done, in a sentence."""
    changed, waiting = ", ".join(report["changed"]), ", ".join(report["pending_restart"])
    text = f"In force now: {changed}." if changed else "Nothing that is in force has changed."
    return f"{text} After the next start: {waiting}." if waiting else text


async def _resume_addin(ask: Ask) -> Response:
    name = ask.request.path_params["addin"]
    await ask.client.resume_addin(name)
    return ask.done(f"{name} serves again.", f"/servers/{ask.server.name}")


async def _ask_delete(ask: Ask) -> Response:
    server = ask.server
    return ask.render(
        "confirm.html", title=f"Delete {server.name}?", action="Delete", back=f"/servers/{server.name}",
        text="The server is forgotten. Its directory, with all that it holds, stays where it is, and "
        f"`dicomnet server create {server.name}` takes it over again.",
    )  # fmt: skip


async def _delete(ask: Ask) -> Response:
    name = ask.server.name
    ask.server.delete()
    return ask.done(f"{name} is deleted; its directory is still there.", "/")


# ---- a new one ---------------------------------------------------------------------------------------------------


def _fields() -> list[Field]:
    names = sorted({name for name, _ in Finder().names()})
    return [
        Field("name", "Name", required=True, most=64, help="Of its directory, for people and commands."),
        Field("server.ae_title", "AE title", required=True, most=16, help="At most 16 characters."),
        Field("server.description", "Description", help="What the server is for."),
        Field("listen.host", "Address", placeholder="127.0.0.1", help="0.0.0.0 is all of the machine."),
        Field("listen.port", "Port", "number", placeholder="11112", help="0 picks a free one."),
        Field("addins", "Add-ins", "several", ["verification"], choices=[(one, one) for one in names]),
    ]


async def _new(ask: Ask) -> Response:
    return ask.render("new_server.html", fields=_fields(), wrong=[])


async def _create(ask: Ask) -> Response:
    form = await ask.form()
    fields = _fields()
    form.keep(fields)
    by_name = {one.name: one for one in fields}
    values: dict[str, Any] = {name: form.text(name) for name in by_name if "." in name and form.text(name)}
    values |= {"server.ae_title": form.text("server.ae_title"), "addins.enable": form.all("addins")}
    if (port := number_in(form.text("listen.port"))) is not None:
        values["listen.port"] = port
    wrong: list[str] = []
    _check_free(ask, values, by_name)
    try:
        server = ask.console.desk.new(form.text("name"))
        if not any(one.error for one in fields):
            server.create(values)
            return ask.done(f"{server.name} is made.", f"/servers/{server.name}")
    except SettingsInvalid as error:
        wrong = mark(fields, [one.as_json() for one in error.problems])
    except InvalidArgument as error:
        by_name["name"].error = str(error)
    return ask.render("new_server.html", status=422, fields=fields, wrong=wrong)


def _check_free(ask: Ask, values: dict[str, Any], fields: dict[str, Field]) -> None:
    """Mark an AE title or a port that another server of the desk has."""
    for other in ask.console.desk.all():
        summary = other.summary()
        if str(summary.get("ae_title")).strip().upper() == values["server.ae_title"].upper():
            fields["server.ae_title"].error = f"{other.name} has this AE title already"
        port = values.get("listen.port", 11112)
        if port and port in (summary.get("port"), summary.get("tls_port")):
            fields["listen.port"].error = f"{other.name} listens on {port} already; choose another port, or 0"


def settings_problems(server: ServerDirectory, name: str, values: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong with the table of an add-in, by its own model."""
    settings = server.settings()
    tables = {**settings.addin, name: values}
    try:
        settings.model_copy(update={"addin": tables}).table(name, Finder(server.path).find(name).settings_model)
    except SettingsInvalid as error:
        return [one.as_json() for one in error.problems]
    return []
