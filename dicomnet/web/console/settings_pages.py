"""The settings of a server, a page for each table, with the fields of its JSON schema; those of add-ins, too."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ...server.directory import ServerDirectory
from ...server.discovery import Finder
from ...server.setting_errors import SettingsInvalid
from ...server.settings import Settings
from ..problems import Problem
from .forms import Field, Form, mark
from .manager import reloaded, settings_problems
from .pages import Ask, Console
from .schema_fields import Schema, fields_of, values_of

__all__ = ["routes"]

_TABLES = tuple(name for name in Settings.model_fields if name not in ("addin", "addins"))


def routes(console: Console) -> list[Route]:
    """The routes."""
    table = "/servers/{server}/settings/{table}"
    return [
        console.route("/servers/{server}/settings", get=_index, role="operate"),
        console.route("/servers/{server}/addins", get=_addins, post=_enable, role="operate", post_role="administer"),
        console.route(table, get=_table, post=_save, role="operate", post_role="administer"),
    ]


def _written(server: ServerDirectory) -> dict[str, Any]:
    """What the settings file says; a file that cannot be read says nothing, and its mistakes are told elsewhere."""
    try:
        return tomllib.loads(server.file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _schema(server: ServerDirectory, table: str) -> Schema:
    """The schema of a table of the server, or of an add-in's, ``addin.NAME``.

    Raises:
        Problem: 404, there is none.
    """
    kind, _, name = table.partition(".")
    if kind == "addin" and name in _known_addins(server):  # another name may be that of any module, which is loaded
        found = Finder(server.path).find(name)
        return {**found.settings_model.model_json_schema(), "description": found.description}
    if table not in _TABLES:
        raise Problem(404, f'there is no table "{table[:64]}"')
    whole = Settings.model_json_schema()
    place = whole["properties"][table]
    reference = place.get("$ref") or place["anyOf"][0]["$ref"]
    return {**whole["$defs"][reference.rpartition("/")[2]], "$defs": whole["$defs"]}


def _known_addins(server: ServerDirectory) -> set[str]:
    """The names of those that are installed, or enabled."""
    enabled = _values(server, "addins").get("enable", ())
    return {name for name, _ in Finder(server.path).names()} | set(enabled)


def _values(server: ServerDirectory, table: str) -> Mapping[str, Any]:
    here: Any = _written(server)
    for name in table.split(".", 1):
        here = here.get(name, {}) if isinstance(here, Mapping) else {}
    return here if isinstance(here, Mapping) else {}


async def _index(ask: Ask) -> Response:
    server = ask.server
    problems: list[str] = []
    try:
        server.settings()
    except SettingsInvalid as error:
        problems = [str(one) for one in error.problems]
    tables = [(one, str(_schema(server, one).get("description", ""))) for one in _TABLES]
    enabled = _values(server, "addins").get("enable", ["verification"])
    return ask.render("settings.html", tables=tables, enabled=enabled, problems=problems)


async def _table(ask: Ask) -> Response:
    table = ask.request.path_params["table"]
    schema = _schema(ask.server, table)
    return _page(ask, table, schema, fields_of(schema, table, _values(ask.server, table)), [])


def _page(ask: Ask, table: str, schema: Schema, fields: list[Field], wrong: list[str]) -> Response:
    return ask.render(
        "table.html", status=422 if wrong or any(one.error for one in fields) else 200, table=table, fields=fields,
        about=str(schema.get("description", "")).replace("`", ""), wrong=wrong,
    )  # fmt: skip


async def _save(ask: Ask) -> Response:
    server, table, form = ask.server, ask.request.path_params["table"], await ask.form()
    schema = _schema(server, table)
    fields = fields_of(schema, table, _values(server, table))
    form.keep(fields)
    values = values_of(schema, fields, form)
    wrong: list[str] = []
    if not any(one.error for one in fields):
        wrong = mark(fields, _checked(server, table, values))
    if wrong or any(one.error for one in fields):
        return _page(ask, table, schema, fields, wrong)
    return ask.done(f"Saved. {await _in_force(ask)}", f"/servers/{server.name}/settings")


def _checked(server: ServerDirectory, table: str, values: dict[str, Any]) -> list[dict[str, str]]:
    """Write values; what is wrong with them where they are not written."""
    kind, _, name = table.partition(".")
    if kind == "addin":
        given = {key.rpartition(".")[2]: one for key, one in values.items() if one is not None}
        if problems := settings_problems(server, name, {**_kept_passwords(server, table, values), **given}):
            return problems
    try:
        server.edit(values)
    except SettingsInvalid as error:
        return [one.as_json() for one in error.problems]
    return []


def _kept_passwords(server: ServerDirectory, table: str, values: dict[str, Any]) -> dict[str, Any]:
    """What the form left as it is."""
    return {key: one for key, one in _values(server, table).items() if f"{table}.{key}" not in values}


async def _in_force(ask: Ask) -> str:
    """Have a server that runs read its settings; what holds now, in a sentence."""
    if ask.server.process() is None:
        return "It holds when the server starts."
    try:
        return reloaded(await ask.client.reload())
    except DicomNetError as error:
        return f"The server that runs cannot take it: {error}"


# ---- which add-ins run -------------------------------------------------------------------------------------------


def _addin_fields(server: ServerDirectory) -> list[Field]:
    values = _values(server, "addins")
    enabled = list(values.get("enable", ["verification"]))
    known = sorted(_known_addins(server))
    order = "The order in which they are asked, one on each line; add-ins that are not listed come last."
    return [
        Field("enable", "Add-ins that run", "several", enabled, choices=[(one, one) for one in known]),
        Field("order", "Order", "lines", "\n".join(enabled), order),
        Field("optional", "Without these it starts all the same", "lines", "\n".join(values.get("optional", ())),
              "One on each line."),
    ]  # fmt: skip


async def _addins(ask: Ask) -> Response:
    return ask.render("addins.html", fields=_addin_fields(ask.server), wrong=[])


async def _enable(ask: Ask) -> Response:
    form, fields = await ask.form(), _addin_fields(ask.server)
    form.keep(fields)
    chosen = _ordered(form)
    wrong = []
    finder = Finder(ask.server.path)
    for name in chosen:
        try:
            finder.find(name)
        except DicomNetError as error:
            wrong.append(str(error))
    if not wrong:
        try:
            ask.server.edit({"addins.enable": chosen, "addins.optional": form.lines("optional") or None})
            return ask.done(f"Saved. {await _in_force(ask)}", f"/servers/{ask.server.name}/settings")
        except SettingsInvalid as error:
            wrong = mark(fields, [one.as_json() for one in error.problems])
    return ask.render("addins.html", status=422, fields=fields, wrong=wrong)


def _ordered(form: Form) -> list[str]:
    enabled = form.all("enable")
    order = [one for one in form.lines("order") if one in enabled]
    return [*dict.fromkeys([*order, *enabled])]
