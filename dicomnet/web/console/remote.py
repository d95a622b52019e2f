"""A workstation in the console: what remote archives have, retrieved by its queue; how far each job is, live."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...errors import DicomNetError
from ...repository.dicom_json import text_at
from ...server.directory import ServerDirectory
from .forms import number_in
from .live import Topic
from .pages import Ask, Console
from .studies import keys_of

__all__ = ["routes", "topic"]

_FILTERS = ("patient_name", "patient_id", "from", "to", "modality", "accession", "description")
_ASKED = ("PatientName", "PatientID", "StudyDate", "StudyDescription", "AccessionNumber", "ModalitiesInStudy",
          "StudyInstanceUID", "NumberOfStudyRelatedInstances", "NumberOfStudyRelatedSeries")  # fmt: skip
_MOST_CHOSEN = 100
_ACTS = {"cancel": "Cancel", "retry": "Retry"}


def routes(console: Console) -> list[Route]:
    """The routes."""
    return [
        console.route("/servers/{server}/remote", get=_remote, post=_retrieve, role="operate"),
        console.route("/servers/{server}/jobs", get=_jobs, post=_act),
    ]


async def _remote(ask: Ask) -> Response:
    asked = {name: ask.query.get(name, "").strip() for name in _FILTERS}
    peer = ask.query.get("peer", "")
    keys, wrong = keys_of(asked)
    status = await ask.send("WorkstationStatus")
    titles = (await ask.console.desk.known(ask.server)).titles
    matches: list[dict[str, Any]] = []
    failure = ""
    if peer and not wrong:
        try:
            found = await ask.send("WorkstationQuery", peer=peer, keys={**dict.fromkeys(_ASKED, ""), **keys})
            matches = list(map(row_of, found["matches"]))
        except DicomNetError as error:
            failure = f"{peer}: {error}"
    return ask.render(
        "remote.html", status=422 if wrong or failure else 200, asked=asked, peer=peer, wrong=wrong, failure=failure,
        matches=matches, peers=[*titles, *status["dicomweb"]],
    )  # fmt: skip


def row_of(item: dict[str, Any]) -> dict[str, str]:
    """A match, as a line of the page."""
    tags = {"study": 0x0020000D, "patient_name": 0x00100010, "patient_id": 0x00100020, "date": 0x00080020,
            "description": 0x00081030, "accession": 0x00080050, "modalities": 0x00080061, "series": 0x00201206,
            "instances": 0x00201208}  # fmt: skip
    return {name: text_at(item, tag) for name, tag in tags.items()}


async def _retrieve(ask: Ask) -> Response:
    form = await ask.form()
    studies, peer, here = form.all("study")[:_MOST_CHOSEN], form.text("peer"), f"/servers/{ask.server.name}"
    if not studies or not peer:
        return ask.done("Choose the studies first.", ask.found_at("remote"), "error")
    for study in studies:
        await ask.send("WorkstationRetrieve", peer=peer, study=study, urgent="urgent" in form)
    return ask.done(f"Retrieved from {peer}, as soon as it is their turn: {len(studies)}.", f"{here}/jobs")


# ---- the queue ---------------------------------------------------------------------------------------------------


def topic(console: Console, server: ServerDirectory, base: str) -> Topic:
    """The jobs of a workstation, to be followed."""

    async def look() -> dict[str, Any]:
        found = await console.desk.client(server).send("WorkstationJobs", {})
        return {"jobs": found["jobs"], "name": server.name}

    return Topic("_jobs.html", look, (server.name,), base)


async def _jobs(ask: Ask) -> Response:
    found = await ask.send("WorkstationJobs")
    return ask.render("jobs.html", jobs=found["jobs"], role=ask.role, failure="")


async def _act(ask: Ask) -> Response:
    form = await ask.form()
    here, number, act = f"/servers/{ask.server.name}/jobs", number_in(form.text("id")), form.text("act")
    if act == "clear":
        gone = await ask.send("WorkstationClear")
        return ask.done(f"Cleared: {gone['jobs']}.", here)
    if act not in _ACTS or number is None:
        return ask.done("Choose a job first.", here, "error")
    job = (await ask.send(f"Workstation{_ACTS[act]}", id=number))["job"]
    return ask.done(f"Job {job['id']} is {job['state']}.", here)
