"""``dicomnet demo --site``: a whole site, set up, put to a day's work, checked, stopped; what happened."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import httpx
from PIL import Image
from pydicom import dcmread

from ..client import Client, CommitmentScu, MppsScu, StoreScu, WorklistScu
from ..errors import DicomNetError
from ..server import admin
from ..server.directory import ServerDirectory
from ..site.checking import check
from ..site.making import init
from ..site.plan import Site, planned
from ..site.running import down, up
from ..site.samples import write_series
from .exits import Exit
from .output import Output, counted
from .site_init import certify
from .tables import Table

__all__ = ["tour"]

#: Seconds for what was sent to be where it is to go.
PATIENCE = 60.0
_END_OF_STUDY = 2.0  # seconds without an instance; a real workstation waits for longer
_LOOK = 0.1  # seconds between two looks at what routers and folders have no event for


class Failed(DicomNetError):
    """A step did not do what it should."""


@dataclass
class _Day:
    """What the steps of a day tell each other."""

    site: Site
    folder: Path
    item: Any = None
    step: Any = None
    study: str = ""
    files: tuple[Path, ...] = ()

    def modality(self, role: str) -> Client:
        """The modality, connected to a server of the site."""
        return Client(self.site.nodes[role].plain, calling=self.site.modality)


def tour(directory: Path, output: Output) -> int:
    """Make a site in a directory, and do with it what a hospital does in a day; each step is a row of a table.

    Args:
        directory: empty; nothing stays open in it.
        output: where it says what it does.
    """
    day = _Day(planned(directory / "site", port=0, deidentified=True), directory)
    steps: tuple[tuple[str, Callable[[_Day], str]], ...] = (
        ("site init", _init), ("site up", _up), ("worklist", _worklist), ("MPPS begins", _begin), ("store", _store),
        ("MPPS ends", _end), ("routed", _routed), ("commitment", _commit), ("de-identified", _deidentified),
        ("workstation", _found), ("rendered", _rendered), ("site check", _check), ("site down", _down),
    )  # fmt: skip
    table, failed = Table(output, ("step", "seconds", "what happened")), 0
    try:
        for name, step in steps:
            start = monotonic()
            try:
                said, good = step(day), True
            except (DicomNetError, httpx.HTTPError, OSError) as error:
                said, good, failed = f"FAILED: {error}", False, failed + 1
            seconds = monotonic() - start
            table.add((name, f"{seconds:.2f}", said))
            output.record(step=name, said=said, good=good, seconds=round(seconds, 3))
            if not good:
                break
    finally:
        with suppress(DicomNetError):
            down(day.site)
    table.close()
    output.summary(f"{failed} of {counted(len(steps), 'step')} failed" if failed else "all of it went well",
                   failed=failed, steps=len(steps))  # fmt: skip
    return Exit.FAILURES if failed else Exit.DONE


def _init(day: _Day) -> str:
    init(day.site, certify, day=date.today())
    soon = {"addin.workstation.end_of_study": _END_OF_STUDY}
    ServerDirectory(day.site.server("workstation")).edit(soon)
    return "archive, workstation, router; certificates, rules, samples and a worklist"


def _up(day: _Day) -> str:
    up(day.site)
    return ", ".join(str(node.plain) for node in day.site.nodes.values())


def _worklist(day: _Day) -> str:
    with day.modality("archive") as client, WorklistScu(client) as scu:
        day.item = next(iter(scu.items(step={"ScheduledStationAETitle": day.site.modality})), None)
    if day.item is None:
        raise Failed("the archive has nothing for the modality")
    day.study = str(day.item.StudyInstanceUID)
    day.files = tuple(write_series(
        day.folder / "acquired", study=day.study, day=date.today(), AccessionNumber=str(day.item.AccessionNumber)
    ))  # fmt: skip
    return f"{day.site.modality} is to do {day.item.RequestedProcedureDescription} for {day.item.PatientID}"


def _begin(day: _Day) -> str:
    with day.modality("archive") as client, MppsScu(client) as scu:
        day.step = scu.begin(day.item)
    return "the archive knows that it is in progress (N-CREATE)"


def _store(day: _Day) -> str:
    with day.modality("router") as client, StoreScu(client) as scu:
        results = list(scu.send(*map(str, day.files)))
    if not all(one.ok for one in results):
        raise Failed(next(one.reason for one in results if not one.ok))
    return f"{counted(len(results), 'instance')} sent to the router, each on its disk when it was acknowledged"


def _end(day: _Day) -> str:
    series = str(dcmread(day.files[0], stop_before_pixels=True).SeriesInstanceUID)
    with day.modality("archive") as client, MppsScu(client) as scu:
        scu.complete(day.step, [{"SeriesInstanceUID": series, "ProtocolName": "Head routine"}])
    return "the archive knows that it is completed (N-SET)"


def _routed(day: _Day) -> str:
    def done() -> bool:
        with admin.Client(day.site.server("router")) as client:
            found = client.send("RouterStatus")["destinations"]
        return len(found) == 3 and all(one["sent"] == len(day.files) for one in found)

    _until(done, "the router has not sent all of it")
    with admin.Client(day.site.server("router")) as client:
        report = client.send("RouterReport", {})
    if not report["balances"]:
        raise Failed("what the router received is not what it sent")
    return "on to the workstation, the archive and a folder; what came in is what went out"


def _commit(day: _Day) -> str:
    heads = [dcmread(path, stop_before_pixels=True) for path in day.files]
    with day.modality("archive") as client, CommitmentScu(client) as scu:
        result = scu.commit([(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in heads])
    if not result.ok:
        raise Failed("the archive does not take responsibility for all of it")
    return f"the archive has read {counted(len(heads), 'instance')} again, and is responsible for them"


def _deidentified(day: _Day) -> str:
    research = day.site.directory / "research"
    _until(lambda: len(list(research.rglob("*.dcm"))) == len(day.files), "not all copies are there")
    copies = [dcmread(path) for path in research.rglob("*.dcm")]
    originals = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in day.files}
    for one in copies:
        is_known = "Sample" in str(one.PatientName) or str(one.SOPInstanceUID) in originals
        if is_known or one.PatientIdentityRemoved != "YES":
            raise Failed("a copy says who it is of")
    return f"{counted(len(copies), 'file')} of {copies[0].PatientID}, without the patient's name"


def _found(day: _Day) -> str:
    def study() -> dict[str, Any]:
        found = client.send("WorkstationStudies")["studies"]
        return next((one for one in found if one["uid"] == day.study), {})

    with admin.Client(day.site.server("workstation")) as client:
        _until(lambda: bool(study().get("ended")), "the workstation does not see the study's end")
        held = study()
        asked = {"peer": day.site.nodes["archive"].title, "keys": {"PatientID": held["patient_id"]}}
        matches = client.send("WorkstationQuery", asked)["matches"]
    if held["instances"] != len(day.files) or not matches:
        raise Failed("the workstation does not have all of it")
    return f"it holds {held['patient_name']}, {held['instances']} instances, whole; the archive answers its query"


def _rendered(day: _Day) -> str:
    node = day.site.nodes["workstation"]
    study = f"{node.web}/workstation/dicomweb/studies/{day.study}"
    with httpx.Client(timeout=PATIENCE) as http:
        answer = http.get(f"{study}/rendered", headers={"Accept": "image/png"})
        metadata = http.get(f"{study}/metadata", headers={"Accept": "application/dicom+json"})
    for one in (answer, metadata):
        one.raise_for_status()
    kind = answer.headers["content-type"].split(";")[0]
    content = answer.content
    if kind.startswith("multipart"):
        content = content[content.index(b"\x89PNG") :]
    picture = Image.open(io.BytesIO(content))
    low, high = picture.convert("L").getextrema()
    if low == high or len(json.loads(metadata.content)) != len(day.files):
        raise Failed("the picture is empty")
    return f"a picture of {picture.width} by {picture.height}, by DICOMweb; shades from {low} to {high}"


def _check(day: _Day) -> str:
    report = check(day.site)
    if report.problems:
        raise Failed("; ".join(report.problems))
    return f"{counted(len(report.cells), 'echo').replace('echos', 'echoes')} between all pairs, plain and over TLS"


def _down(day: _Day) -> str:
    return f"{counted(len(down(day.site)), 'server')} stopped"


def _until(done: Callable[[], bool], otherwise: str) -> None:
    """Wait for what has no event to be waited for."""
    end, pause = monotonic() + PATIENCE, Event()
    while not done():
        if monotonic() > end:
            raise Failed(f"{otherwise} within {PATIENCE:.0f} s")
        pause.wait(_LOOK)
