"""The AE titles that a server knows: listed, added, changed, removed, and tried by C-ECHO."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ...protocol.peer_profile import Relaxation
from ...server.admin import AdminError
from ...server.ae_entry import RIGHTS
from .forms import Field, Form, choices_of, mark, number_in
from .pages import Ask, Console, problems_of

__all__ = ["routes"]

_ONE = "/servers/{server}/ae-titles/{title:path}"  # a title may have a slash in it: what is below one comes first


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [
        console.route("/servers/{server}/ae-titles", get=_list),
        console.route("/servers/{server}/new-ae-title", get=_new, post=_add, role="administer", post_role="administer"),
        console.route(f"{_ONE}/echo", post=_echo),
        console.route(f"{_ONE}/remove", get=_ask_remove, post=_remove, role="administer", post_role="administer"),
        console.route(_ONE, get=_edit, post=_change, post_role="administer"),
    ]


def _fields(entry: dict[str, Any]) -> list[Field]:
    def lines(name: str) -> str:
        return "\n".join(one for one in entry.get(name, ()) if one)

    return [
        Field("title", "AE title", value=entry.get("title", ""), required=True, most=16,
              help="At most 16 characters."),
        Field("description", "Description", value=entry.get("description", ""), most=1024),
        Field("host", "Host", value=entry.get("host") or "", most=255,
              help="Where it listens: a name or an address. Empty for one that only calls."),
        Field("port", "Port", "number", value="" if entry.get("port") is None else str(entry["port"])),
        Field("tls", "It listens with TLS", "checkbox", value=bool(entry.get("tls"))),
        Field("rights", "It may ask for", "several", value=list(entry.get("rights", RIGHTS)),
              choices=choices_of(RIGHTS)),
        Field("modalities", "Modalities it may see", "lines", value=lines("modalities"),
              help="One on each line, of the series that it may find and retrieve. Empty: any."),
        Field("issuers", "Issuers of Patient IDs it may see", "lines", value=lines("issuers"),
              help="One on each line. Empty, and the next box, too: any."),
        Field("no_issuer", "Patients whose ID has no issuer", "checkbox", value="" in entry.get("issuers", ()),
              help="Those beside the patients of the issuers above; with none above, no others."),
        Field("move_to", "Destinations of its C-MOVE", "lines", value=lines("move_to"),
              help="AE titles, one on each line. Empty: all that are known."),
        Field("addresses", "Addresses it calls from", "lines", value=lines("addresses"),
              help="One on each line, beside its host. Empty: from anywhere."),
        Field("certificates", "Certificates", "lines", value=lines("certificates"),
              help="SHA-256 fingerprints, one on each line. Empty: any that is vouched for."),
        Field("aliases", "Other titles", "lines", value=lines("aliases"), help="One on each line."),
        Field("character_set", "Character set", value=entry.get("character_set", ""),
              help="Specific Character Set of its data sets that name none, such as ISO_IR 100."),
        Field("relax", "Rules relaxed for it", "several", value=list(entry.get("relax", ())),
              choices=choices_of(rule.value for rule in Relaxation)),
    ]  # fmt: skip


def _entry(form: Form) -> dict[str, Any]:
    """The entry that a form describes; numbers that are none stay text, for the server to refuse."""
    port, number = form.text("port"), number_in(form.text("port"))
    none = [""] if "no_issuer" in form else []  # no line of a form can say it
    return {
        "title": form.text("title"), "description": form.text("description"), "host": form.text("host") or None,
        "port": None if not port else port if number is None else number,
        "tls": "tls" in form, "rights": form.all("rights"), "modalities": form.lines("modalities"),
        "issuers": form.lines("issuers") + none, "move_to": form.lines("move_to"),
        "addresses": form.lines("addresses"), "certificates": form.lines("certificates"),
        "aliases": form.lines("aliases"),
        "character_set": form.text("character_set"), "relax": form.all("relax"),
    }  # fmt: skip


def _half_an_address(entry: dict[str, Any]) -> dict[str, Any] | None:
    """What is wrong where a host has no port, or a port no host: the server could not call it, and would not say so."""
    if entry["host"] and entry["port"] is None:
        what = "on which port does it listen? If it only calls from there, write its host below, at the addresses"
        return {"field": "port", "what": what}
    if entry["port"] is not None and not entry["host"]:
        return {"field": "host", "what": "on which host is this port?"}
    return None


async def _list(ask: Ask) -> Response:
    return ask.render("ae_titles.html", entries=await ask.client.ae_titles())


async def _found(ask: Ask) -> dict[str, Any]:
    title = ask.request.path_params["title"]
    for one in await ask.client.ae_titles():
        if one["title"] == title:
            return one
    raise AdminError(404, {"detail": f'there is no AE title "{title[:32]}"'})


async def _new(ask: Ask) -> Response:
    return _form(ask, _fields({}))


async def _edit(ask: Ask) -> Response:
    return _form(ask, _fields(await _found(ask)))


def _form(ask: Ask, fields: list[Field], wrong: list[str] | None = None, status: int = 200) -> Response:
    title = ask.request.path_params.get("title", "")
    return ask.render("ae_title.html", status=status, title=title, fields=fields, wrong=wrong or [])


async def _save(ask: Ask, title: str | None) -> Response:
    form = await ask.form()
    entry = _entry(form)
    if missing := _half_an_address(entry):
        fields = _fields({})
        form.keep(fields)
        return _form(ask, fields, mark(fields, [missing]), 422)
    try:
        if title is None:
            await ask.client.add_ae(**entry)
        else:
            await ask.client.update_ae(title, **entry)
    except DicomNetError as error:
        fields = _fields({})
        form.keep(fields)
        wrong = mark(fields, problems_of(error))
        if not any(one.error for one in fields):
            if isinstance(error, AdminError) and error.status == 409:
                fields[0].error = error.message
            else:
                wrong.append(str(error))
        return _form(ask, fields, wrong, error.status if isinstance(error, AdminError) else 503)
    return ask.done(f"{entry['title']} is saved.", f"/servers/{ask.server.name}/ae-titles")


async def _add(ask: Ask) -> Response:
    return await _save(ask, None)


async def _change(ask: Ask) -> Response:
    return await _save(ask, ask.request.path_params["title"])


async def _echo(ask: Ask) -> Response:
    title, there = ask.request.path_params["title"], f"/servers/{ask.server.name}/ae-titles"
    try:
        answer = await ask.client.echo(title)
    except AdminError as error:
        return ask.done(f"{title} does not answer: {error}", there, "error")
    if answer["status"] != "0000":
        return ask.done(f"{title} answers {answer['meaning']} ({answer['status']})", there, "error")
    return ask.done(f"{title} answers.", there)


async def _ask_remove(ask: Ask) -> Response:
    entry, back = await _found(ask), f"/servers/{ask.server.name}/ae-titles"
    text = "The server does not know this AE title any more: it may not call where only known ones may."
    return ask.render("confirm.html", title=f"Remove {entry['title']}?", action="Remove", back=back, text=text)


async def _remove(ask: Ask) -> Response:
    title = ask.request.path_params["title"]
    await ask.client.remove_ae(title)
    return ask.done(f"{title} is removed.", f"/servers/{ask.server.name}/ae-titles")
