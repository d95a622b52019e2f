"""The studies of an archive or a workstation: searched, opened in the viewer, sent, deleted, imported and exported."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ..pieces import streamed
from ..problems import Problem
from .forms import number_in
from .pages import Ask, Console

__all__ = ["holder", "routes"]

#: Add-ins that hold studies, and how the names of their messages begin.
PREFIXES = {"archive": "Archive", "workstation": "Workstation"}
_PAGE = 50
_MOST_CHOSEN = 200
#: Studies that the page names before it deletes them; it counts the others.
_MOST_NAMED = 20
_FILTERS = ("patient_name", "patient_id", "from", "to", "modality", "accession", "description")
_STUDIES = "/servers/{server}/studies"
_is_day = re.compile(r"\d{4}-\d{2}-\d{2}").fullmatch
_PIECE = 1 << 20


def routes(console: Console) -> list[Route]:
    """The routes."""

    def act(path: str, handler: Any, role: str = "operate") -> Route:
        return console.route(f"{_STUDIES}/{path}", post=handler, post_role=role)

    return [
        console.route(_STUDIES, get=_search),
        act("act", _act),
        act("delete", _delete, "administer"),
        act("export", _export),
        console.route("/servers/{server}/import", get=_ask_import, post=_import, role="operate"),
        console.route("/servers/{server}/sending", get=_sending, post=_change_sending),
        console.route(f"{_STUDIES}/{{study}}", get=_study),
    ]


def holder(ask: Ask) -> str:
    """How the messages begin of the add-in that holds studies.

    Raises:
        Problem: 404, the server holds none.
    """
    for addin in ask.console.desk.addins(ask.server):
        if addin in PREFIXES:
            return addin
    raise Problem(404, f"the server {ask.server.name} holds no studies")


def keys_of(asked: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Keys of a query from what was typed, and what is wrong, by field."""
    keys: dict[str, str] = {}
    wrong: dict[str, str] = {}
    if asked["patient_name"]:
        keys["PatientName"] = _anywhere(asked["patient_name"])
    if asked["description"]:
        keys["StudyDescription"] = _anywhere(asked["description"])
    exact = {"patient_id": "PatientID", "accession": "AccessionNumber", "modality": "ModalitiesInStudy"}
    for name, keyword in exact.items():
        if asked[name]:
            keys[keyword] = asked[name]
    days = []
    for name in ("from", "to"):
        if asked[name] and not _is_day(asked[name]):
            wrong[name] = "expected a day, such as 2026-01-31"
        days.append(asked[name].replace("-", ""))
    if any(days) and not wrong:
        keys["StudyDate"] = days[0] if days[0] == days[1] else "-".join(days)
    return keys, wrong


def _anywhere(text: str) -> str:
    return text if "*" in text or "?" in text else f"*{text}*"


async def _search(ask: Ask) -> Response:
    asked = {name: ask.query.get(name, "").strip() for name in _FILTERS}
    addin = holder(ask)
    keys, wrong = keys_of(asked)
    found: dict[str, Any] = {"studies": [], "next": None}
    failure = ""
    if not wrong:
        given: dict[str, Any] = {"keys": keys, "most": _PAGE}
        if (after := number_in(ask.query.get("after", ""))) is not None:
            given["after"] = after
        try:
            found = await ask.send(f"{PREFIXES[addin]}Search", **given)
        except DicomNetError as error:
            failure = str(error)
    more = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)
    known = await ask.console.desk.known(ask.server)
    values = {
        "asked": asked, "wrong": wrong, "studies": found["studies"], "next": found["next"], "more": more,
        "failure": failure, "viewer": viewer_of(ask, addin, known.web), "titles": known.titles,
    }  # fmt: skip
    status = 422 if wrong or failure else 200
    return ask.render("_studies.html" if ask.is_fragment else "studies.html", status=status, **values)


def viewer_of(ask: Ask, addin: str, web: str) -> str:
    """The address of the viewer of a server, as this browser reaches it; empty where it has no web port."""
    if not web:
        return ""
    own = ask.request.url
    parts = urlsplit(web)
    host = own.hostname or parts.hostname
    here = f"[{host}]" if ":" in str(host) else host
    return f"{parts.scheme}://{here}:{parts.port}/{addin}/viewer/viewer?StudyInstanceUIDs="


async def _study(ask: Ask) -> Response:
    addin = holder(ask)
    found = await ask.send(f"{PREFIXES[addin]}Study", study=ask.request.path_params["study"])
    known = await ask.console.desk.known(ask.server)
    return ask.render("study.html", one=found, viewer=viewer_of(ask, addin, known.web), titles=known.titles)


# ---- what is done with those that are chosen ---------------------------------------------------------------------


async def _act(ask: Ask) -> Response:
    """A button below the list: send, or a page that asks before it deletes or packs."""
    form = await ask.form()
    studies, back = form.all("study")[:_MOST_CHOSEN], ask.found_at("studies")
    if not studies:
        return ask.done("Choose the studies first.", back, "error")
    act = form.text("act")
    if act == "send":
        return await _send(ask, studies, form.text("to"), back)
    if act == "export":
        return ask.render("export.html", studies=studies, back=back)
    if act == "delete":
        ask.require("administer")
        message = f"{PREFIXES[holder(ask)]}Study"
        shown = [await ask.send(message, study=one) for one in studies[:_MOST_NAMED]]
        return ask.render("delete_studies.html", studies=studies, shown=shown, back=back)
    if act in ("pin", "unpin", "prefetch") and holder(ask) == "workstation":
        return await _look_after(ask, act, studies, form.text("to"))
    raise Problem(400, "there is no such button", parameter="act")


async def _look_after(ask: Ask, act: str, studies: list[str], peer: str) -> Response:
    """What a workstation does with its studies: has them stay whatever the quota, and fetches earlier ones."""
    here = f"/servers/{ask.server.name}"
    if act != "prefetch":
        await ask.send("WorkstationPin", studies=studies, pinned=act == "pin")
        said = "It stays, whatever the quota." if act == "pin" else "The quota may remove it."
        return ask.done(said, f"{here}/studies")
    found = [await ask.send("WorkstationPrefetch", study=one, peer=peer) for one in studies]
    return ask.done(f"Earlier studies on their way: {sum(len(one['jobs']) for one in found)}.", f"{here}/jobs")


async def _send(ask: Ask, studies: list[str], title: str, back: str) -> Response:
    if not title:
        return ask.done("Choose where to send them.", back, "error")
    if holder(ask) == "workstation":
        for study in studies:
            await ask.send("WorkstationSend", peer=title, study=study)
        return ask.done(f"On their way to {title}: {len(studies)}.", f"/servers/{ask.server.name}/jobs")
    done = await ask.send("ArchiveSend", studies=studies, to=title)
    return ask.done(f"On their way to {title}: {done['ordered']}.", f"/servers/{ask.server.name}/sending")


async def _delete(ask: Ask) -> Response:
    studies = (await ask.form()).all("study")[:_MOST_CHOSEN]
    back = f"/servers/{ask.server.name}/studies"
    if not studies:
        return ask.done("Choose the studies first.", back, "error")
    gone = await ask.work(f"{PREFIXES[holder(ask)]}Delete", studies=studies)
    return ask.done(f"Deleted: {gone['instances']} instances.", back)


async def _export(ask: Ask) -> Response:
    """A zip file, made on the machine of both. It has no name any more when it is sent, and is gone with the answer."""
    form = await ask.form()
    studies = form.all("study")[:_MOST_CHOSEN]
    if not studies:
        return ask.done("Choose the studies first.", f"/servers/{ask.server.name}/studies", "error")
    message = f"{PREFIXES[holder(ask)]}Export"
    with tempfile.TemporaryDirectory(prefix="dicomnet-console-") as name:
        target, folder = Path(name) / "studies.zip", Path(name) / "media"
        if form.text("format") == "dicomdir":
            await ask.work(message, studies=studies, target=str(folder), format="dicomdir")
            await run_in_threadpool(shutil.make_archive, str(target.with_suffix("")), "zip", folder)
        else:
            await ask.work(message, studies=studies, target=str(target), format="zip")
        packed = target.open("rb")
    size = os.fstat(packed.fileno()).st_size
    disposition = f'attachment; filename="{ask.server.name}-{len(studies)}-studies.zip"'
    headers = {"Content-Type": "application/zip", "Content-Disposition": disposition, "Content-Length": str(size)}
    return streamed(_read(packed), headers)


def _read(packed: BinaryIO) -> Iterator[bytes]:
    with packed:
        while piece := packed.read(_PIECE):
            yield piece


# ---- import ------------------------------------------------------------------------------------------------------


async def _ask_import(ask: Ask) -> Response:
    holder(ask)
    return ask.render("import.html", result=None, wrong="")


async def _import(ask: Ask) -> Response:
    """Files that the browser sends, zip files too; each under a name that is a number, whatever it says."""
    addin = holder(ask)
    form = await ask.upload()
    files = [one for one in form.files if one.size]
    try:
        if not files:
            return ask.render("import.html", status=422, result=None, wrong="Choose files first.")
        with tempfile.TemporaryDirectory(prefix="dicomnet-console-") as folder:
            names = await run_in_threadpool(_keep, files, Path(folder))
            paths = [os.path.join(folder, name) for name in names]
            result = await ask.work(f"{PREFIXES[addin]}Import", paths=paths)
        for one in result["failed"]:
            one["file"] = _renamed(str(one["file"]), folder, names)
            one["why"] = str(one["why"]).removeprefix(folder + os.sep).partition(": ")[2] or one["why"]
    finally:
        await asyncio.gather(*(one.close() for one in form.files))
    return ask.render("import.html", status=422 if result["failed"] else 200, result=result, wrong="")


def _keep(files: list[UploadFile], folder: Path) -> dict[str, str]:
    names = {}
    for number, one in enumerate(files):
        suffix = ".zip" if str(one.filename).lower().endswith(".zip") else ".dcm"
        name = f"{number:06}{suffix}"
        names[name] = str(one.filename)[:200]
        with open(folder / name, "xb") as target:
            shutil.copyfileobj(one.file, target, _PIECE)
    return names


def _renamed(text: str, folder: str, names: dict[str, str]) -> str:
    """What the browser called a file, and where in it."""
    inner = text.removeprefix(folder).lstrip(os.sep)
    return next((inner.replace(name, given) for name, given in names.items() if inner.startswith(name)), inner)


# ---- what an archive sends ---------------------------------------------------------------------------------------


async def _sending(ask: Ask) -> Response:
    return ask.render("sending.html", jobs=(await ask.send("ArchiveSending"))["jobs"])


async def _change_sending(ask: Ask) -> Response:
    form = await ask.form()
    ids = list(_numbers(form.all("id")))
    back = f"/servers/{ask.server.name}/sending"
    if not ids:
        return ask.done("Choose the studies first.", back, "error")
    if form.text("act") == "cancel":
        gone = await ask.send("ArchiveCancelSending", ids=ids)
        return ask.done(f"Given up: {gone['jobs']}.", back)
    again = await ask.send("ArchiveRetrySending", ids=ids)
    return ask.done(f"Tried again: {again['jobs']}.", back)


def _numbers(texts: list[str]) -> Iterator[int]:
    return (number for one in texts if (number := number_in(one)) is not None)
