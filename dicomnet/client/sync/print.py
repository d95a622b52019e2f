# Generated from dicomnet/client/aio/print.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`PrintScu`: prints pictures on film or paper (PS3.4 Annex H)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Unpack

from ... import uids
from ...config import Entity
from ...dataset import codec
from ...dataset.pictures import Window
from ...dataset.types import Dataset
from ...errors import DeadlineExceeded, DicomNetError, InvalidArgument, RemoteProtocolError, ServiceFailure
from ...protocol.peer_profile import Peer
from ...services import presentation_contexts
from ...services.provider_requests import NormalizedRequest
from ...services.user import Reply
from ...status import Status
from ...sync.association import Association
from .. import events
from ..options import ClientOptions
from ..print_job import (
    Film,
    Picture,
    Printed,
    PrinterState,
    PrintJob,
    PrintSession,
    film_session,
    image_box,
    pictures_of,
)
from .client import Borrowed, Client
from .concurrency import aside, now, wait
from .service import Service

__all__ = ["PrintScu"]

_GREY = uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META
_COLOR = uids.BASIC_COLOR_PRINT_MANAGEMENT_META
_CLASSES = (_GREY, _COLOR, uids.PRESENTATION_LUT, uids.BASIC_ANNOTATION_BOX, uids.PRINT_JOB)
_SERVICE = "Print Management"
_PRINT = 1  # the only action type (PS3.4 Tables H.4.1-6 and H.4.2-6)
#: A picture, and the attributes of its image box.
_Box = tuple[Picture, dict[str, Any]]
#: Seconds between two questions after a job: at first, and at last.
_SOON, _LATER = 0.05, 1.0
#: A film has to be printed before the next can be made; or sessions cannot be printed.
_FILM_WAITS, _NO_SESSIONS = 0xC616, frozenset({0x0123, 0x0211, 0x0122})


class PrintScu(Service):
    """Prints pictures: as many films as they need, each as a layout has it, in one job where the printer can.

    Args:
        client: the printer; or its address for a client of its own, which takes the other ``options``.
    """

    def __init__(self, client: Client | str | Entity | Peer, **options: Unpack[ClientOptions]) -> None:
        super().__init__(client, **options)
        self._reports: list[events.Reported] = []

    def print(
        self,
        /,
        *sources: Any,
        film: Film | None = None,
        session: PrintSession | None = None,
        color: bool = False,
        bits: int = 8,
        window: Window | None = None,
        polarity: str = "",
        true_size: bool = False,
        behaviour: str = "",
        patience: float = 0.0,
    ) -> Printed:
        """Print every frame of what is given; all are read and rendered before anything is sent.

        Args:
            sources, color, bits, window: see `pictures_of`.
            film, session: how films are laid out; copies, medium and so on.
            polarity, true_size, behaviour: of each image, see `image_box`.
            patience: seconds to wait for the end of the jobs; 0 does not wait.

        Raises:
            InvalidArgument, InputFileError: something cannot be printed; nothing was sent.
            ServiceFailure: the printer refuses, or a job of it has failed; what was not printed yet is not.
            DeadlineExceeded: the jobs have not ended in time.
        """
        film, meta = film or Film(), _COLOR if color else _GREY
        how: dict[str, Any] = {"color": color, "bits": bits, "window": window}
        wanted: dict[str, Any] = {"polarity": polarity, "true_size": true_size, "behaviour": behaviour}
        boxes: list[_Box] = aside(_rendered, sources, film.capacity, how, wanted)
        with self._connected() as association:
            self._listen(association)
            sending = _Sending(self, association, meta, film)
            sending.run(session or PrintSession(), boxes)
        self._tell_reports()
        jobs = self.ended(sending.jobs, patience) if patience else tuple(map(PrintJob, sending.jobs))
        return Printed(sending.films, len(boxes), jobs, tuple(sending.warnings))

    def printer(self) -> PrinterState:
        """N-GET: how the printer is (PS3.4 Section H.4.6)."""
        with self._connected() as association:
            self._listen(association)
            meta = _GREY if _accepted(association, _GREY) else _COLOR
            reply = self.send(association, "n_get", uids.PRINTER, uids.PRINTER_INSTANCE, context=meta)
        self._tell_reports()
        said = reply.dataset or codec.from_keywords({})
        status, info, name = (
            str(said.get(one, "") or "") for one in ("PrinterStatus", "PrinterStatusInfo", "PrinterName")
        )
        return PrinterState(status, info, name, said)

    def job(self, uid: str) -> PrintJob:
        """N-GET: how far a job is (PS3.4 Section H.4.5).

        Raises:
            NoAcceptedContext: the printer tells nothing of its jobs.
            ServiceFailure: it does not know this one.
        """
        with self._connected() as association:
            self._listen(association)
            reply = self.send(association, "n_get", uids.PRINT_JOB, uid)
        said = reply.dataset or codec.from_keywords({})
        return PrintJob(uid, str(said.get("ExecutionStatus", "") or ""), str(said.get("ExecutionStatusInfo", "") or ""))

    def ended(self, jobs: Sequence[str], patience: float) -> tuple[PrintJob, ...]:
        """Ask after jobs until all have ended.

        Raises:
            ServiceFailure: one has failed.
            DeadlineExceeded: one has not ended in so many seconds.
        """
        end = now() + patience
        done: list[PrintJob] = []
        for uid in jobs:
            pause = _SOON
            while not (job := self.job(uid)).has_ended:
                if now() >= end:
                    raise DeadlineExceeded("print job", patience, peer=self.peer)
                wait(self.client.pool.closing, min(pause, max(end - now(), 0.01)))
                pause = min(pause * 2, _LATER)
            if job.status == "FAILURE":
                status = Status(Status.PROCESSING_FAILURE, service=_SERVICE, comment=job.info or None)
                why = f"the print job has failed: {job.info or 'no reason given'}"
                raise ServiceFailure(status, why, peer=self.peer)
            done.append(job)
        return tuple(done)

    # ---- what it is made of ------------------------------------------------------------------------------------

    def send(
        self, association: Association, service: str, sop_class: str, uid: str, *arguments: Any, context: str = ""
    ) -> Reply:
        """One N-service on an association, with its events."""
        event = events.BeforeAction(
            self.peer, service=service, sop_class_uid=sop_class, sop_instance_uid=uid, arguments=list(arguments)
        )
        self.hooks.announce(event)
        reply: Reply = self.hooks.act(event, association, context=context)
        return reply

    def _connected(self) -> Borrowed:
        """For all that is asked, so that one association does: some printers have no more at a time."""
        return self.client.association(presentation_contexts.sop_classes(*_CLASSES))

    def _listen(self, association: Association) -> None:
        """Have event reports of the printer and of jobs told as `events.Reported`."""
        with suppress(InvalidArgument):  # it does already: it was used before
            association.on_event_report(uids.PRINTER, uids.PRINT_JOB)(self._report)

    def _report(self, request: NormalizedRequest) -> Status:
        self._reports.append(
            events.Reported(
                self.peer,
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                event_type_id=request.event_type_id or 0,
                dataset=request.dataset if request.size else None,
            )
        )
        return Status.SUCCESS

    def _tell_reports(self) -> None:
        while self._reports:
            self.hooks.fire(self._reports.pop(0))


class _Sending:
    """One film session over an association: what was made of it, and what the printer said of that."""

    def __init__(self, scu: PrintScu, association: Association, meta: str, film: Film) -> None:
        self.films = 0
        self.jobs: list[str] = []
        self.warnings: list[Status] = []
        self._scu, self._association, self._meta, self._film = scu, association, meta, film
        self._what = ""
        self._image_class = uids.BASIC_COLOR_IMAGE_BOX if meta == _COLOR else uids.BASIC_GRAYSCALE_IMAGE_BOX

    def run(self, session: PrintSession, boxes: list[_Box]) -> None:
        """Make the session with its films, print them, and delete it, whatever becomes of it."""
        each = self._film.capacity
        films = [boxes[at : at + each] for at in range(0, len(boxes), each)]
        uid, lut = self._create("film session", uids.BASIC_FILM_SESSION, film_session(session)), ""
        try:
            lut = self._lut()
            waiting: list[str] = []
            for number, images in enumerate(films, 1):
                self._what = f"film {number}" if len(films) > 1 else "film"
                waiting = self._next_film(uid, lut, waiting, images)
            self._print(uid, waiting)
        finally:
            if self._association.established:
                self._delete(uids.BASIC_FILM_SESSION, uid, self._meta)
            if lut and self._association.established:
                self._delete(uids.PRESENTATION_LUT, lut, uids.PRESENTATION_LUT)

    def _delete(self, sop_class: str, uid: str, context: str) -> None:
        with suppress(DicomNetError):  # it ends with the association all the same
            self._send("n_delete", sop_class, uid, context=context)

    def _lut(self) -> str:
        if not self._film.lut:
            return ""
        values = {"PresentationLUTShape": self._film.lut}
        return self._create("presentation LUT", uids.PRESENTATION_LUT, values, context=uids.PRESENTATION_LUT)

    def _next_film(self, session: str, lut: str, waiting: list[str], boxes: list[_Box]) -> list[str]:
        """Make a film, printing first those that wait where the printer takes no second one; those that wait now."""
        try:
            film = self._make(session, lut, boxes)
        except ServiceFailure as error:
            if error.status != _FILM_WAITS or not waiting:
                raise
            for uid in waiting:
                self._print_film(uid)
            waiting, film = [], self._make(session, lut, boxes)
        self.films += 1
        return [*waiting, film]

    def _make(self, session: str, lut: str, boxes: list[_Box]) -> str:
        uid, what = uids.new(), self._what
        values = codec.from_keywords(self._film.attributes(session, lut))
        reply = self._send("n_create", uids.BASIC_FILM_BOX, uid, values, what=what)
        said, uid = reply.dataset or codec.from_keywords({}), reply.sop_instance_uid or uid
        places = _references(said, "ReferencedImageBoxSequence")
        if len(places) < len(boxes):
            why = f"the printer made a film of {len(places)} image boxes, not of {self._film.capacity}"
            raise RemoteProtocolError(why, peer=self._scu.peer)
        for at, ((picture, attributes), place) in enumerate(zip(boxes, places, strict=False), 1):
            values = codec.from_keywords(attributes)
            named = f"{what}, image {at} ({picture.name})"
            self._send("n_set", self._image_class, place, values, what=named)
        texts = _references(said, "ReferencedBasicAnnotationBoxSequence")
        if len(texts) < len(self._film.annotations):
            why = f"the printer has {len(texts)} annotation boxes, not {len(self._film.annotations)}"
            raise RemoteProtocolError(why, peer=self._scu.peer)
        for at, (text, place) in enumerate(zip(self._film.annotations, texts, strict=False), 1):
            values = codec.from_keywords({"AnnotationPosition": at, "TextString": text})
            box = uids.BASIC_ANNOTATION_BOX
            self._send("n_set", box, place, values, what=f"{what}, annotation {at}", context=box)
        return uid

    def _print(self, session: str, films: list[str]) -> None:
        """All films that wait: together, or one after another where the printer cannot."""
        self._what = "printing"
        if len(films) > 1:
            try:
                self._note(self._send("n_action", uids.BASIC_FILM_SESSION, session, _PRINT, what=self._what))
                return
            except ServiceFailure as error:
                if error.status not in _NO_SESSIONS:
                    raise
        for film in films:
            self._print_film(film)

    def _print_film(self, uid: str) -> None:
        self._note(self._send("n_action", uids.BASIC_FILM_BOX, uid, _PRINT, what="printing"))
        self._send("n_delete", uids.BASIC_FILM_BOX, uid)

    def _note(self, reply: Reply) -> None:
        self.jobs += _references(reply.dataset or codec.from_keywords({}), "ReferencedPrintJobSequence")

    def _create(self, what: str, sop_class: str, values: dict[str, Any], context: str = "") -> str:
        uid = uids.new()
        reply = self._send("n_create", sop_class, uid, codec.from_keywords(values), what=what, context=context)
        return reply.sop_instance_uid or uid

    def _send(
        self, service: str, sop_class: str, uid: str, *arguments: Any, what: str = "", context: str = ""
    ) -> Reply:
        try:
            reply = self._scu.send(
                self._association, service, sop_class, uid, *arguments, context=context or self._meta
            )
        except ServiceFailure as error:
            status = error.status.of_service(_SERVICE)
            why = f"{what or 'cleaning up'}: the printer says {status}"
            raise ServiceFailure(status, why, peer=error.peer) from error
        if reply.status.is_warning:
            self.warnings.append(reply.status.of_service(_SERVICE))
        return reply


def _rendered(sources: Sequence[Any], capacity: int, how: dict[str, Any], wanted: dict[str, Any]) -> list[_Box]:
    return [(one, image_box(one, at % capacity + 1, **wanted)) for at, one in enumerate(pictures_of(sources, **how))]


def _accepted(association: Association, abstract_syntax: str) -> bool:
    return any(one.accepted and one.abstract_syntax == abstract_syntax for one in association.contexts.values())


def _references(dataset: Dataset, keyword: str) -> list[str]:
    return [str(item.get("ReferencedSOPInstanceUID", "")) for item in dataset.get(keyword) or ()]
