"""What one association has made at a printer, by the rules of PS3.4 Annex H; it is gone with the association."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from .... import uids
from ....dataset import codec
from ....services.provider_requests import NormalizedRequest
from ....status import Status
from .boxes import FilmBox, FilmSession, Refused, Usual, film_box, lut_of, picture_of
from .density import Tone
from .drawing import fit
from .jobs import Job, Jobs

__all__ = ["COLOR", "GREY", "Hierarchy", "Trade"]

GREY = uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META
COLOR = uids.BASIC_COLOR_PRINT_MANAGEMENT_META
#: Presentation LUTs of an association, each of at most half a MiB.
MOST_LUTS = 64
_SERVICE = "Print Management"
_PRINT = 1
_PRIORITIES = ("HIGH", "MED", "LOW")
_NO_MEMORY_ALLOCATION, _NOT_COLLATED, _EMPTY_SESSION, _EMPTY_FILM = 0xB600, 0xB601, 0xB602, 0xB603
_NO_FILMS, _SESSION_QUEUE_FULL, _FILM_QUEUE_FULL, _NO_MEMORY, _FILM_WAITS = 0xC600, 0xC601, 0xC602, 0xC605, 0xC616

Answer = Status | tuple[Status, Any]


@dataclass(frozen=True, slots=True)
class Trade:
    """What all associations with a printer share.

    Attributes:
        usual: what it does where nothing else is said.
        jobs: its queue.
        sessions: "collated", "uncollated" or "refused".
        films: of a session, at most.
        memory: bytes of images of an association, at most.
        state: Printer Status, and Printer Status Info.
    """

    usual: Usual
    jobs: Jobs
    sessions: str
    films: int
    memory: int
    state: Callable[[], tuple[str, str]]


class Hierarchy:
    """A film session, its films with their boxes, and presentation LUTs.

    Each method performs one request, and raises `Refused` where it cannot.

    Attributes:
        lock: held while a request is performed.
        jobs: whose end the user has not been told of.
        told: by the UID of a job, its status as it was told.
    """

    def __init__(self, trade: Trade) -> None:
        self.lock: threading.Lock = threading.Lock()
        self.jobs: list[Job] = []
        self.told: dict[str, str] = {}
        self._trade = trade
        self._session: FilmSession | None = None
        self._luts: dict[str, Tone] = {}
        self._printed: set[str] = set()

    # ---- N-CREATE ----------------------------------------------------------------------------------------------

    def create(self, request: NormalizedRequest) -> Answer:
        """A film session, a film box, or a presentation LUT."""
        uid, given = request.sop_instance_uid, _given(request)
        if not uids.is_valid(uid):
            raise Refused(Status.INVALID_SOP_INSTANCE, "no SOP Instance UID")
        if request.sop_class_uid == uids.BASIC_FILM_SESSION:
            return self._create_session(request, uid, given)
        if request.sop_class_uid == uids.BASIC_FILM_BOX:
            return self._create_film(uid, given)
        if request.sop_class_uid == uids.PRESENTATION_LUT:
            if uid in self._luts:
                raise Refused(Status.DUPLICATE_SOP_INSTANCE, "the presentation LUT is there")
            if len(self._luts) >= MOST_LUTS:
                raise Refused(Status.RESOURCE_LIMITATION, f"an association has at most {MOST_LUTS} presentation LUTs")
            self._luts[uid] = lut_of(given, self._trade.usual.tone)
            return Status.SUCCESS, given
        raise Refused(Status.NO_SUCH_SOP_CLASS, "not created by users")

    def _create_session(self, request: NormalizedRequest, uid: str, given: Dataset) -> Answer:
        if self._session is not None:
            raise Refused(Status.DUPLICATE_SOP_INSTANCE, "an association has one film session")
        _check_session(given)
        self._session = FilmSession(uid, request.context.abstract_syntax, given)
        if given.get("MemoryAllocation"):
            return Status(_NO_MEMORY_ALLOCATION, _SERVICE), given
        return Status.SUCCESS, given

    def _create_film(self, uid: str, given: Dataset) -> Answer:
        session = self._film_session()
        named = _reference(given, "ReferencedFilmSessionSequence")
        if named != session.uid:
            code = Status.INVALID_ATTRIBUTE_VALUE if named else Status.MISSING_ATTRIBUTE
            raise Refused(code, "a film belongs to the film session", "ReferencedFilmSessionSequence")
        if uid in session.films:
            raise Refused(Status.DUPLICATE_SOP_INSTANCE, "the film is there")
        if self._trade.sessions == "refused" and set(session.films) - self._printed:
            raise Refused(_FILM_WAITS, "print the last film first")
        if len(session.films) >= self._trade.films:
            raise Refused(Status.RESOURCE_LIMITATION, f"a session has at most {self._trade.films} films")
        plan, status = film_box(given, self._trade.usual, session.meta == COLOR, self._tone(given))
        images = [uids.new() for _ in plan.layout.boxes]
        texts = [uids.new() for _ in plan.annotations]
        session.films[uid] = FilmBox(uid, plan, images, texts, [""] * len(texts), given)
        kind = uids.BASIC_COLOR_IMAGE_BOX if session.meta == COLOR else uids.BASIC_GRAYSCALE_IMAGE_BOX
        said = codec.from_keywords({"ReferencedImageBoxSequence": _references(kind, images)}, given)
        if texts:
            boxes = {"ReferencedBasicAnnotationBoxSequence": _references(uids.BASIC_ANNOTATION_BOX, texts)}
            said = codec.from_keywords(boxes, said)
        return status, said

    def _tone(self, given: Dataset) -> Tone:
        """With the presentation LUT that a film names, if any."""
        named = _reference(given, "ReferencedPresentationLUTSequence")
        if named and named not in self._luts:
            keyword = "ReferencedPresentationLUTSequence"
            raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "there is no such presentation LUT", keyword)
        return self._luts.get(named, self._trade.usual.tone)

    # ---- N-SET -------------------------------------------------------------------------------------------------

    def change(self, request: NormalizedRequest) -> Answer:
        """The session, a film, an image box or an annotation box."""
        session, uid, given = self._film_session(), request.sop_instance_uid, _given(request)
        if request.sop_class_uid == uids.BASIC_FILM_SESSION:
            if uid != session.uid:
                raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such film session")
            _check_session(given)
            session.given.update(given)
            return Status.SUCCESS
        if request.sop_class_uid == uids.BASIC_FILM_BOX:
            return self._change_film(self._film(uid), given)
        for film in session.films.values():
            if uid in film.images:
                return self._set_image(film, film.images.index(uid), given)
            if uid in film.annotations:
                film.texts[film.annotations.index(uid)] = str(given.get("TextString", "") or "")
                return Status.SUCCESS
        raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such box")

    def _change_film(self, film: FilmBox, given: Dataset) -> Answer:
        """What a film is made for stays: its layout, and who its boxes are."""
        for keyword in ("ImageDisplayFormat", "AnnotationDisplayFormatID", "FilmOrientation", "FilmSizeID"):
            if keyword in given and given[keyword].value != film.given.get(keyword):
                raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "settled when the film was created", keyword)
        changed = codec.from_keywords({}, film.given)
        changed.update(given)
        film.plan, status = film_box(changed, self._trade.usual, film.plan.is_color, self._tone(changed))
        film.given = changed
        return status

    def _set_image(self, film: FilmBox, position: int, given: Dataset) -> Answer:
        if int(given.get("ImageBoxPosition", 0) or 0) not in (0, position + 1):
            raise Refused(Status.INVALID_ATTRIBUTE_VALUE, f"this is image box {position + 1}", "ImageBoxPosition")
        content = picture_of(given, film, self._trade.usual)
        if content is None:
            film.contents.pop(position, None)
            return Status.SUCCESS
        there = film.contents.get(position)
        session = self._film_session()
        held = sum(one.size for one in session.films.values()) - (there.pixels.nbytes if there else 0)
        if held + content.pixels.nbytes > self._trade.memory:
            raise Refused(_NO_MEMORY, "the images of this association are too large")
        left, top, right, bottom = film.plan.box(position, self._trade.usual.press)
        status = fit(content, (right - left, bottom - top), self._trade.usual.press).status
        if status.is_failure:
            raise Refused(status, status.comment or "", "RequestedImageSize" if content.width else "")
        film.contents[position] = content
        return status

    # ---- N-ACTION ----------------------------------------------------------------------------------------------

    def print(self, request: NormalizedRequest) -> Answer:
        """Print a film, or all films of the session."""
        session = self._film_session()
        if request.action_type_id != _PRINT:
            raise Refused(Status.NO_SUCH_ACTION_TYPE, "the one action prints")
        whole = request.sop_class_uid == uids.BASIC_FILM_SESSION
        if whole and request.sop_instance_uid != session.uid:
            raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such film session")
        if whole and self._trade.sessions == "refused":
            raise Refused(Status.NO_SUCH_ACTION_TYPE, "print film by film")
        films = list(session.films.values()) if whole else [self._film(request.sop_instance_uid)]
        if not films:
            raise Refused(_NO_FILMS, "the film session has no film")
        state, info = self._trade.state()
        if state == "FAILURE":
            raise Refused(Status.PROCESSING_FAILURE, f"the printer cannot print: {info}")
        together = not whole or self._trade.sessions == "collated"
        jobs = [self._job(request, films)] if together else [self._job(request, [film]) for film in films]
        if not self._trade.jobs.put(jobs):
            raise Refused(_SESSION_QUEUE_FULL if whole else _FILM_QUEUE_FULL, "the print queue is full")
        self.jobs += jobs
        self._printed.update(film.uid for film in films)
        status = Status.SUCCESS
        if not any(film.contents for film in films):
            status = Status(_EMPTY_SESSION if whole else _EMPTY_FILM, _SERVICE)
        elif len(jobs) > 1:
            status = Status(_NOT_COLLATED, _SERVICE)
        named = {"ReferencedPrintJobSequence": _references(uids.PRINT_JOB, [job.uid for job in jobs])}
        return status, codec.from_keywords(named)

    def _job(self, request: NormalizedRequest, films: list[FilmBox]) -> Job:
        given = self._film_session().given
        copies = int(given.get("NumberOfCopies", 1) or 1)
        priority = str(given.get("PrintPriority", "") or "MED")
        return Job(uids.new(), [film.finished() for film in films], copies, priority, request.calling)

    # ---- N-DELETE ----------------------------------------------------------------------------------------------

    def delete(self, request: NormalizedRequest) -> Answer:
        """The session with all that it has, a film with its boxes, or a presentation LUT."""
        uid = request.sop_instance_uid
        if request.sop_class_uid == uids.PRESENTATION_LUT:
            if self._luts.pop(uid, None) is None:
                raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such presentation LUT")
        elif request.sop_class_uid == uids.BASIC_FILM_BOX:
            del self._film_session().films[self._film(uid).uid]
        elif request.sop_class_uid == uids.BASIC_FILM_SESSION and self._film_session().uid == uid:
            self._session = None
        else:
            raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such film session")
        return Status.SUCCESS

    # ---- what is there -----------------------------------------------------------------------------------------

    def _film_session(self) -> FilmSession:
        if self._session is None:
            raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no film session")
        return self._session

    def _film(self, uid: str) -> FilmBox:
        film = self._film_session().films.get(uid)
        if film is None:
            raise Refused(Status.NO_SUCH_SOP_INSTANCE, "there is no such film")
        return film


def _given(request: NormalizedRequest) -> Dataset:
    given: Dataset = request.dataset if request.size else codec.from_keywords({})
    return given


def _check_session(given: Dataset) -> None:
    copies = given.get("NumberOfCopies")
    if copies not in (None, "") and not 1 <= int(copies) <= 999:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "from 1 to 999 copies", "NumberOfCopies")
    if given.get("PrintPriority") and str(given.PrintPriority) not in _PRIORITIES:
        raise Refused(Status.INVALID_ATTRIBUTE_VALUE, "HIGH, MED or LOW", "PrintPriority")


def _reference(dataset: Dataset, keyword: str) -> str:
    return next((str(item.get("ReferencedSOPInstanceUID", "")) for item in dataset.get(keyword) or ()), "")


def _references(sop_class: str, found: list[str]) -> list[dict[str, str]]:
    return [{"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid} for uid in found]
