"""The worklist of an archive: listed, booked, changed; and what modalities have reported of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...config import check_ae_title
from ...errors import DicomNetError
from ...repository.dicom_json import items_at, text_at
from .forms import Field, Form, number_in
from .pages import Ask, Console

__all__ = ["routes"]

_STEPS = 0x00400100
_is_day = re.compile(r"\d{4}-\d{2}-\d{2}").fullmatch
_is_time = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?").fullmatch
_is_code = re.compile(r"[A-Z0-9_ ]{1,16}").fullmatch
#: Fields of an item, and of its first step: name, label, tag, VR, kind, characters.
_ITEM = (
    ("patient_name", "Patient name", 0x00100010, "PN", "text", 324),
    ("patient_id", "Patient ID", 0x00100020, "LO", "text", 64),
    ("birth_date", "Birth date", 0x00100030, "DA", "date", 10),
    ("sex", "Sex", 0x00100040, "CS", "select", 1),
    ("accession", "Accession number", 0x00080050, "SH", "text", 16),
    ("referring", "Referring physician", 0x00080090, "PN", "text", 324),
    ("procedure", "Requested procedure", 0x00321060, "LO", "text", 64),
)
_STEP = (
    ("modality", "Modality", 0x00080060, "CS", "text", 16),
    ("station", "Station AE title", 0x00400001, "AE", "text", 16),
    ("date", "Date", 0x00400002, "DA", "date", 10),
    ("time", "Time", 0x00400003, "TM", "time", 8),
    ("step", "Step", 0x00400007, "LO", "text", 64),
    ("physician", "Performing physician", 0x00400006, "PN", "text", 324),
    ("status", "Status", 0x00400020, "CS", "select", 16),
)
_REQUIRED = ("patient_name", "patient_id", "modality", "date", "time")
_SEXES = (("", "unknown"), ("F", "female"), ("M", "male"), ("O", "other"))
_STATES = ("SCHEDULED", "ARRIVED", "READY", "STARTED", "DEPARTED", "CANCELED", "DISCONTINUED", "COMPLETED")


def routes(console: Console) -> list[Route]:
    """The routes."""
    item = "/servers/{server}/worklist/{item:int}"
    return [
        console.route("/servers/{server}/worklist", get=_list),
        console.route("/servers/{server}/booking", get=_new, post=_book, role="operate"),
        console.route(item, get=_edit, post=_change),
        console.route(f"{item}/remove", get=_ask_remove, post=_remove, role="operate"),
        console.route("/servers/{server}/steps", get=_steps),
        console.route("/servers/{server}/commitment", get=_commitments),
    ]


def row_of(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step of the worklist, as a line of the page."""
    item = step["item"]
    first = (items_at(item, _STEPS) or [{}])[0]
    found = {name: text_at(item, tag) for name, _, tag, *_ in _ITEM}
    return {"id": step["id"], **found, **{name: text_at(first, tag) for name, _, tag, *_ in _STEP}}


async def _list(ask: Ask) -> Response:
    asked = {name: ask.query.get(name, "").strip() for name in ("patient_name", "modality", "station", "day")}
    wrong = "" if not asked["day"] or _is_day(asked["day"]) else "expected a day, such as 2026-01-31"
    step = {"Modality": asked["modality"], "ScheduledStationAETitle": asked["station"],
            "ScheduledProcedureStepStartDate": "" if wrong else asked["day"].replace("-", "")}  # fmt: skip
    keys: dict[str, Any] = {"ScheduledProcedureStepSequence": {name: one for name, one in step.items() if one}}
    if asked["patient_name"]:
        keys["PatientName"] = f"*{asked['patient_name']}*"
    found = {"steps": []} if wrong else await ask.send("ArchiveWorklist", keys=keys)
    return ask.render(
        "worklist.html", status=422 if wrong else 200, asked=asked, wrong=wrong, steps=list(map(row_of, found["steps"]))
    )


# ---- one item ----------------------------------------------------------------------------------------------------


def _fields(item: Mapping[str, Any], *, new: bool) -> list[Field]:
    first = (items_at(item, _STEPS) or [{}])[0]
    fields = []
    for source, rows in ((item, _ITEM), (first, _STEP)):
        for name, label, tag, vr, kind, most in rows:
            if name == "status" and new:
                continue
            value = _shown(text_at(source, tag), vr)
            choices = {"sex": _SEXES, "status": tuple((one, one.lower()) for one in _STATES)}.get(name, ())
            if name == "status" and value not in _STATES:
                choices = ((value, value.lower()), *choices)
            about = {"patient_name": "Family^Given, as the standard has it."}.get(name, "")
            fields.append(Field(name, label, kind, value, about, choices, required=name in _REQUIRED, most=most))  # type: ignore[arg-type]
    return fields


def _shown(text: str, vr: str) -> str:
    """A date or time as browsers take it."""
    if vr == "DA" and len(text) == 8:
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if vr == "TM" and len(text) >= 4:
        return ":".join(filter(None, (text[:2], text[2:4], text[4:6])))
    return text


def _check(fields: list[Field]) -> None:
    for one in fields:
        text = str(one.value).strip()
        if not text:
            one.error = "is needed" if one.required else ""
        elif one.kind == "date" and not _is_day(text):
            one.error = "expected a day, such as 2026-01-31"
        elif one.kind == "time" and not _is_time(text):
            one.error = "expected a time, such as 14:30"
        elif one.name == "modality" and not _is_code(text):
            one.error = "expected capitals and digits, such as CT"
        elif one.name == "station":
            try:
                check_ae_title(text)
            except DicomNetError as error:
                one.error = error.message
        elif one.most and len(text) > one.most:
            one.error = f"at most {one.most} characters"
        elif "\\" in text or any(not character.isprintable() for character in text):
            one.error = "a backslash, or a character that cannot be printed, has no place here"


def _element(vr: str, text: str) -> dict[str, Any]:
    if not text:
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [{"Alphabetic": text}]}
    return {"vr": vr, "Value": [text.replace("-", "") if vr == "DA" else text.replace(":", "") if vr == "TM" else text]}


def _item(fields: list[Field], before: Mapping[str, Any]) -> dict[str, Any]:
    """The item that a form describes; what the form does not show stays as it was."""
    values = {one.name: str(one.value).strip() for one in fields}
    found = {f"{tag:08X}": _element(vr, values[name]) for name, _, tag, vr, *_ in _ITEM}
    steps = [dict(one) for one in items_at(before, _STEPS)] or [{}]
    steps[0] |= {f"{tag:08X}": _element(vr, values[name]) for name, _, tag, vr, *_ in _STEP if name in values}
    return {**found, f"{_STEPS:08X}": {"vr": "SQ", "Value": steps}}


def _page(ask: Ask, fields: list[Field], *, status: int = 200, wrong: str = "", version: object = "") -> Response:
    number = ask.request.path_params.get("item")
    return ask.render("worklist_item.html", status=status, fields=fields, wrong=wrong, number=number, version=version)


async def _new(ask: Ask) -> Response:
    return _page(ask, _fields({}, new=True))


def _typed(form: Form, *, new: bool) -> list[Field]:
    fields = _fields({}, new=new)
    form.keep(fields)
    _check(fields)
    return fields


async def _book(ask: Ask) -> Response:
    fields = _typed(await ask.form(), new=True)
    if any(one.error for one in fields):
        return _page(ask, fields, status=422)
    try:
        await ask.send("ArchiveBook", item=_item(fields, {}))
    except DicomNetError as error:
        return _page(ask, fields, status=409, wrong=str(error))
    return ask.done("Booked.", f"/servers/{ask.server.name}/worklist")


async def _edit(ask: Ask) -> Response:
    entry = await ask.send("ArchiveWorklistItem", id=ask.request.path_params["item"])
    return _page(ask, _fields(entry["item"], new=False), version=entry["version"])


async def _change(ask: Ask) -> Response:
    form, number = await ask.form(), ask.request.path_params["item"]
    fields, version = _typed(form, new=False), form.text("version")
    if any(one.error for one in fields):
        return _page(ask, fields, status=422, version=version)
    entry = await ask.send("ArchiveWorklistItem", id=number)
    try:
        changes = _item(fields, entry["item"])
        await ask.send("ArchiveChangeItem", id=number, changes=changes, version=number_in(version))
    except DicomNetError as error:
        return _page(ask, fields, status=409, wrong=str(error), version=version)
    return ask.done("Saved.", f"/servers/{ask.server.name}/worklist")


async def _ask_remove(ask: Ask) -> Response:
    entry = await ask.send("ArchiveWorklistItem", id=ask.request.path_params["item"])
    who = text_at(entry["item"], 0x00100010)
    text, back = "Modalities do not see it any more.", f"/servers/{ask.server.name}/worklist"
    return ask.render("confirm.html", title=f"Remove what is booked for {who}?", action="Remove", back=back, text=text)


async def _remove(ask: Ask) -> Response:
    await ask.send("ArchiveRemoveItem", id=ask.request.path_params["item"])
    return ask.done("Removed.", f"/servers/{ask.server.name}/worklist")


# ---- what modalities have reported -------------------------------------------------------------------------------


async def _steps(ask: Ask) -> Response:
    found = (await ask.send("ArchiveSteps"))["steps"]
    for one in found:
        item = one["item"]
        series = items_at(item, 0x00400340)
        one["name"], one["modality"] = text_at(item, 0x00100010), text_at(item, 0x00080060)
        one["description"], one["series"] = text_at(item, 0x00400254), len(series)
        one["images"] = sum(len(items_at(each, 0x00081140)) for each in series)
        one["station"] = text_at(item, 0x00400241)
    return ask.render("steps.html", steps=found)


async def _commitments(ask: Ask) -> Response:
    return ask.render("commitment.html", commitments=(await ask.send("ArchiveCommitments"))["commitments"])
