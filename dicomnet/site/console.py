"""Pages of the console that make a site as `dicomnet site init` does, show where it is, and start it."""

from __future__ import annotations

import shlex
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from ..errors import DicomNetError, InvalidArgument
from ..server.directory import ServerDirectory
from ..web.console.forms import Field, Form, number_in
from ..web.console.pages import Ask, Console
from .making import Certify, init
from .plan import FIRST_PORT, USUAL_HOST, USUAL_TITLES, Fault, Site, SiteInvalid, wanted
from .running import state, up

__all__ = ["routes"]

_MOST_PORT = 65535


def routes(console: Console, *, certify: Certify) -> list[Route]:
    """The routes.

    Args:
        console: that they are of.
        certify: makes the certificates of a site.
    """

    async def make(ask: Ask) -> Response:
        return await _make(ask, certify)

    return [
        console.route("/new-site", get=_new, post=make, role="administer", post_role="administer"),
        console.route("/site", get=_show, role="administer"),
        console.route("/site/up", post=_up, post_role="administer"),
    ]


def _fields() -> list[Field]:
    """The options of `dicomnet site init`, as they usually are."""
    about = {"client": "Programs that use peers.toml call by it.", "modality": "The sample worklist is for it."}
    titles = [
        Field(role, f"AE title of the {role}", value=title, required=True, most=16, help=about.get(role, ""))
        for role, title in USUAL_TITLES.items()
    ]
    return [
        Field("directory", "Folder", value=str(Path.home() / "hospital"), required=True,
              help="A new or an empty one, by its whole path. All of the site is in it."),
        Field("host", "Address", value=USUAL_HOST, required=True, most=255,
              help="Where the servers listen; 0.0.0.0 is all of the machine. Their web ports are for this machine."),
        Field("port", "First port", "number", str(FIRST_PORT), required=True,
              help="Of the archive; workstation and router have the next two. TLS is 100 behind, the web 200. "
              "0 takes free ones."),
        *titles,
        Field("deidentified", "The router writes a de-identified copy, too", "checkbox", value=False,
              help="To the folder research of the site."),
    ]  # fmt: skip


async def _new(ask: Ask) -> Response:
    return ask.render("new_site.html", fields=_fields(), wrong=[])


async def _make(ask: Ask, certify: Certify) -> Response:
    form, fields = await ask.form(), _fields()
    form.keep(fields)
    by_name = {one.name: one for one in fields}
    try:
        directory = _folder(form.text("directory"))
        made = await run_in_threadpool(_init, directory, form, certify)
    except SiteInvalid as error:
        for fault in error.faults:
            for option in fault.options:
                field = by_name[option]
                field.error = f"{field.error}; {fault.what}" if field.error else fault.what
    except InvalidArgument as error:
        by_name["directory"].error = f"{error.message}. {error.hint or ''}".strip()
    else:
        ask.console.desk.add(directory / "servers")
        said = f"{directory} is made." if made else f"{directory} is this site already; nothing was changed."
        return ask.done(said, _address(directory))
    return ask.render("new_site.html", status=422, fields=fields, wrong=[])


def _init(directory: Path, form: Form, certify: Certify) -> bool:
    """Make what a form describes; whether it was not there."""
    port = number_in(form.text("port"))
    wrong = []
    if port is None or port > _MOST_PORT:
        port, wrong = None, [Fault(f"expected a number from 0 to {_MOST_PORT}", ("port",))]
    titles = {role: form.text(role) for role in USUAL_TITLES}
    try:
        site = wanted(
            directory, Site.found(directory), host=form.text("host"), port=port, titles=titles,
            deidentified="deidentified" in form,
        )  # fmt: skip
    except SiteInvalid as error:  # all at once
        raise SiteInvalid([*wrong, *error.faults]) from error
    if wrong:
        raise SiteInvalid(wrong)
    return init(site, certify, day=date.today())


def _folder(text: str) -> Path:
    """The folder of a site.

    Raises:
        InvalidArgument: it is no whole path.
    """
    if not text.startswith("/") or not text.isprintable():
        raise InvalidArgument("expected a whole path, which begins with /")
    return Path(text)


def _address(directory: Path) -> str:
    return f"/site?directory={quote(str(directory), safe='/')}"


async def _show(ask: Ask) -> Response:
    directory = _folder(ask.query.get("directory", ""))
    return await _page(ask, await run_in_threadpool(Site.load, directory), [])


async def _page(ask: Ask, site: Site, wrong: list[str], status: int = 200) -> Response:
    """Where a site is, how its servers are, and what comes next."""
    servers: list[dict[str, Any]] = [
        {"node": one.node, "process": one.process, "problems": one.problems,
         "listed": ask.console.desk.has(ServerDirectory(site.server(one.node.role)))}
        for one in await run_in_threadpool(state, site)
    ]  # fmt: skip
    return ask.render(
        "site.html", status=status, site=site, servers=servers, wrong=wrong,
        runs=all(one["process"] for one in servers), quoted=shlex.quote(str(site.directory)),
    )  # fmt: skip


async def _up(ask: Ask) -> Response:
    form = await ask.form()
    site = await run_in_threadpool(Site.load, _folder(form.text("directory")))
    try:
        started = await run_in_threadpool(up, site)
    except SiteInvalid as error:
        return await _page(ask, site, list(error.problems), 409)
    except DicomNetError as error:
        return await _page(ask, site, [str(error)], 409)
    ask.console.desk.add(site.directory / "servers")
    said = f"Started: {', '.join(started)}." if started else "All of it runs already."
    return ask.done(said, _address(site.directory))
