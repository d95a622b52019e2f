"""The add-in `printer`: films come in by DICOM, and out as PDF and PNG into a folder, or by a command.

::

    [addin.printer]
    folder = "films"
    command = ["lp", "-n", "{copies}", "{pdf}"]

Grey and colour, presentation LUTs, annotations, jobs. What a user makes lasts as long as the association.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from prometheus_client import CollectorRegistry, Gauge
from pydantic import AfterValidator, Field

from .... import uids
from ....dataset import codec
from ....services.film import FILM_SIZES
from ....services.provider_requests import NormalizedRequest
from ....services.service_registry import Registering
from ....status import Status
from ...context import AddInContext
from ...health import Check, disk_check
from ...hookspecs import hookimpl
from ...settings import FilePath, Seconds, Size, Table
from .boxes import Refused, Usual
from .density import Tone
from .drawing import Press
from .hierarchy import COLOR, GREY, Hierarchy, Trade
from .jobs import Job, Jobs

__all__ = ["Printer"]

_STOP_SECONDS = 30.0
_PLACES = ("pdf", "folder", "uid", "copies")
_REPORTS = {"NORMAL": 1, "WARNING": 2, "FAILURE": 3}  # event types of the printer (PS3.4 Table H.4.6-2)
_JOB_REPORTS = {"PENDING": 1, "PRINTING": 2, "DONE": 3, "FAILURE": 4}  # those of a job (PS3.4 Table H.4.5-2)


def _command(command: tuple[str, ...]) -> tuple[str, ...]:
    for part in command:
        for _, name, form, conversion in Formatter().parse(part):
            if form or conversion or name not in (None, *_PLACES):
                raise ValueError(f'"{part}": in braces are only {", ".join(f"{{{one}}}" for one in _PLACES)}')
    if command and "{" in command[0]:
        raise ValueError("the program itself cannot come from a job")
    return command


def _film(size: str) -> str:
    if size not in FILM_SIZES:
        raise ValueError(f"expected one of {', '.join(FILM_SIZES)}")
    return size


class Printer:
    """Prints films as PDF and PNG (PS3.4 Annex H)."""

    class Settings(Table):
        """``[addin.printer]``."""

        name: str = "dicomnet"
        """Printer Name."""
        folder: FilePath | None = None
        """Where films go; left out, `data/printer` in the server's directory."""
        files: tuple[Literal["pdf", "png"], ...] = ("pdf", "png")
        """What is made of a film: a PDF for each job, a PNG for each film."""
        command: Annotated[tuple[str, ...], AfterValidator(_command)] = ()
        """Run for each job, without a shell; {pdf}, {folder}, {uid} and {copies} are filled in."""
        command_seconds: Seconds = 60
        """Seconds that it gets; then it is killed, and the job has failed."""
        dots: Annotated[int, Field(ge=50, le=1200)] = 300
        """Dots per inch."""
        margin: Annotated[float, Field(ge=0, le=100)] = 5.0
        """Millimetres around all images."""
        gap: Annotated[float, Field(ge=0, le=100)] = 2.0
        """Millimetres between images."""
        film: Annotated[str, AfterValidator(_film)] = "14INX17IN"
        """The size of a film that names none."""
        magnification: Literal["REPLICATE", "BILINEAR", "CUBIC", "NONE"] = "CUBIC"
        """Of images that name none."""
        border: Annotated[str, Field(pattern="^(BLACK|WHITE|[0-9]{1,3})$")] = "BLACK"
        """Density around images of a film that names none."""
        empty: Annotated[str, Field(pattern="^(BLACK|WHITE|[0-9]{1,3})$")] = "BLACK"
        """Density of image boxes without an image."""
        min_density: Annotated[int, Field(ge=0, le=400)] = 20
        """The least optical density, in hundredths."""
        max_density: Annotated[int, Field(ge=1, le=500)] = 320
        """The greatest optical density, in hundredths."""
        annotations: dict[str, Annotated[int, Field(ge=1, le=20)]] = Field(
            default_factory=lambda: {"COMBINED": 1, **{str(count): count for count in range(1, 7)}}
        )
        """By Annotation Display Format ID, how many annotation boxes a film has at its foot."""
        sessions: Literal["collated", "uncollated", "refused"] = "collated"
        """Film sessions are printed as one job, as one for each film, or only film by film."""
        colors: bool = True
        """Whether films in colour are taken."""
        most_jobs: Annotated[int, Field(ge=0)] = 100
        """Jobs that may wait; then users are told that the queue is full."""
        most_films: Annotated[int, Field(ge=1)] = 50
        """Films of a session."""
        memory: Size = 1 << 30
        """Bytes of images that one association may hold, and those of all jobs that wait together."""
        kept_jobs: Annotated[int, Field(ge=1)] = 1000
        """Jobs that can be asked after when they have ended."""
        reports: bool = True
        """Whether users that propose Print Job are told how far their jobs are; some cannot be spoken to meanwhile."""
        room: Annotated[int, Field(ge=0)] = 100 << 20
        """Bytes that must be free on the disk; with less, the printer is out of film."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Begin to print."""
        self.context = context
        self.settings: Any
        settings = self.settings = context.settings
        self.folder: Path = settings.folder or context.data
        press = Press(settings.dots, settings.margin, settings.gap)
        tone = Tone(settings.min_density / 100, settings.max_density / 100)
        usual = Usual(
            press, settings.film, settings.magnification, settings.border, settings.empty, tone, settings.annotations
        )
        self.jobs: Jobs = Jobs(
            self.folder, context.data / "waiting", press, pdf="pdf" in settings.files, png="png" in settings.files,
            command=settings.command,
            patience=settings.command_seconds, most=settings.most_jobs, memory=settings.memory, kept=settings.kept_jobs,
            told=self._told, log=context.log,
        )  # fmt: skip
        self.trade: Trade = Trade(usual, self.jobs, settings.sessions, settings.most_films, settings.memory, self.state)
        self.jobs.start()

    @hookimpl
    def services(self, registry: Registering) -> None:
        """Take print management."""
        metas = (GREY, COLOR) if self.settings.colors else (GREY,)
        registry.on_n_create(*metas, uids.PRESENTATION_LUT)(self.create)
        registry.on_n_set(*metas, uids.BASIC_ANNOTATION_BOX)(self.change)
        registry.on_n_action(*metas)(self.print)
        registry.on_n_delete(*metas, uids.PRESENTATION_LUT)(self.delete)
        registry.on_n_get(*metas, uids.PRINTER, uids.PRINT_JOB)(self.get)

    @hookimpl
    def metrics(self, registry: CollectorRegistry) -> None:
        """How many jobs wait."""
        Gauge("dicomnet_printer_waiting", "Print jobs that wait.", registry=registry).set_function(
            lambda: self.jobs.waiting
        )

    @hookimpl
    def health(self) -> Iterable[Check]:
        """Whether there is room for films."""
        return [disk_check(self.folder)]

    @hookimpl
    def stop(self) -> None:
        """End, once the job at hand is printed."""
        self.jobs.stop(_STOP_SECONDS)

    # ---- requests ----------------------------------------------------------------------------------------------

    def create(self, request: NormalizedRequest) -> Any:
        """N-CREATE of a film session, a film box or a presentation LUT."""
        made = self._performed("create", request)
        status, _ = self.state()
        if request.sop_class_uid == uids.BASIC_FILM_SESSION and status != "NORMAL":
            self._report(request)
        return made

    def change(self, request: NormalizedRequest) -> Any:
        """N-SET of a session or a film, of an image box, or of an annotation box."""
        return self._performed("change", request)

    def print(self, request: NormalizedRequest) -> Any:
        """N-ACTION: print a film, or all films of a session."""
        return self._performed("print", request)

    def delete(self, request: NormalizedRequest) -> Any:
        """N-DELETE of a film session, a film box or a presentation LUT."""
        return self._performed("delete", request)

    def get(self, request: NormalizedRequest) -> Any:
        """N-GET of the printer, or of a job."""
        if request.sop_class_uid == uids.PRINTER:
            if request.sop_instance_uid != uids.PRINTER_INSTANCE:
                return Status(Status.NO_SUCH_SOP_INSTANCE, comment="there is one printer")
            return _wanted(request, self._printer())
        job = self.jobs.get(request.sop_instance_uid) if request.sop_class_uid == uids.PRINT_JOB else None
        if job is None:
            return Status(Status.NO_SUCH_SOP_INSTANCE, comment="there is no such job")
        return _wanted(request, self._job(job))

    def _performed(self, what: str, request: NormalizedRequest) -> Any:
        hierarchy = request.kept.setdefault(self, Hierarchy(self.trade))
        try:
            with hierarchy.lock:
                answer = getattr(hierarchy, what)(request)
                self._report_jobs(request, hierarchy)
                return answer
        except Refused as refused:
            self.context.log.info("%s: %s is refused: %s", request.calling, request.operation.name, refused)
            return refused.status

    # ---- what it is --------------------------------------------------------------------------------------------

    def state(self) -> tuple[str, str]:
        """Printer Status and Printer Status Info."""
        if shutil.disk_usage(self.folder).free < self.settings.room:
            return "FAILURE", "SUPPLY EMPTY"
        return ("WARNING", self.jobs.trouble) if self.jobs.trouble else ("NORMAL", "NORMAL")

    def _printer(self) -> dict[str, Any]:
        status, info = self.state()
        return {
            "PrinterStatus": status,
            "PrinterStatusInfo": info,
            "PrinterName": self.settings.name,
            "Manufacturer": "dicomnet",
            "ManufacturerModelName": "printer",
            "SoftwareVersions": uids.IMPLEMENTATION_VERSION_NAME,
        }

    def _job(self, job: Job) -> dict[str, Any]:
        return {
            "ExecutionStatus": job.status,
            "ExecutionStatusInfo": job.info,
            "PrintPriority": job.priority,
            "CreationDate": f"{job.created:%Y%m%d}",
            "CreationTime": f"{job.created:%H%M%S}",
            "PrinterName": self.settings.name,
            "Originator": job.originator,
        }

    def _report(self, request: NormalizedRequest) -> None:
        """Tell a user on the association that the printer is not well (PS3.4 Section H.4.6.2.1)."""
        status, info = self.state()
        said = codec.from_keywords({"PrinterName": self.settings.name, "PrinterStatusInfo": info})
        request.report(_REPORTS[status], said, sop_class_uid=uids.PRINTER, sop_instance_uid=uids.PRINTER_INSTANCE)

    def _report_jobs(self, request: NormalizedRequest, hierarchy: Hierarchy) -> None:
        """Tell a user who wants to know how far its jobs are, where that has changed (PS3.4 Section H.4.5.2.1)."""
        for job in hierarchy.jobs if self.settings.reports else ():
            status = job.status
            if status != hierarchy.told.get(job.uid):
                hierarchy.told[job.uid] = status
                said = codec.from_keywords({"ExecutionStatusInfo": job.info, "PrinterName": self.settings.name})
                event = _JOB_REPORTS[status]
                request.report(event, said, sop_class_uid=uids.PRINT_JOB, sop_instance_uid=job.uid, own_context=True)
        hierarchy.jobs = [job for job in hierarchy.jobs if hierarchy.told.get(job.uid) not in ("DONE", "FAILURE")]

    def _told(self, job: Job) -> None:
        done = job.status == "DONE"
        self.context.publish(
            "printed" if done else "failed", job=job.uid, calling=job.originator, copies=job.copies,
            files=[str(path) for path in job.files], info=job.info,
        )  # fmt: skip


def _wanted(request: NormalizedRequest, values: dict[str, Any]) -> Any:
    """What was asked for of these; a warning where some of it is not there."""
    tags = request.attribute_identifier_list
    found = codec.from_keywords(values)
    if tags:
        for tag in set(found.keys()) - set(tags):
            del found[tag]
    missing = [tag for tag in tags if tag not in found]
    return (Status(0x0001) if missing else Status.SUCCESS), found
