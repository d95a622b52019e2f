"""`PrintScu` and printers that do less than they say, or say it late; both faces, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import clients
import faces
import numpy as np
import pytest
import rig

import dicomnet as dn
from dicomnet import uids
from dicomnet.client import Film

GRADIENT = np.arange(256, dtype=np.uint8).reshape(16, 16)
GREY = uids.BASIC_GRAYSCALE_PRINT_MANAGEMENT_META
CLASSES = (GREY, uids.PRINT_JOB, uids.BASIC_ANNOTATION_BOX)


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


def references(*uids: str) -> list[Any]:
    return [rig.keys(ReferencedSOPClassUID=GREY, ReferencedSOPInstanceUID=uid) for uid in uids]


class Printer:
    """Films have so many image boxes and annotation boxes; a job is as it is said to be."""

    def __init__(self, images: int = 1, annotations: int = 0) -> None:
        self.images = [f"1.2.1.{number}" for number in range(images)]
        self.annotations = [f"1.2.2.{number}" for number in range(annotations)]
        self.printed = dn.Status(0)  # how a session is printed
        self.changed = dn.Status(0)  # how an image box is set
        self.job = "PRINTING"
        self.deleted: list[str] = []
        self.texts: list[tuple[int, str]] = []
        self.actions: list[str] = []

    def __call__(self, listener: Any) -> None:
        listener.on_n_create(*CLASSES)(self.create)
        listener.on_n_set(*CLASSES)(self.set)
        listener.on_n_action(*CLASSES)(self.act)
        listener.on_n_get(*CLASSES)(lambda _: rig.keys(ExecutionStatus=self.job))
        listener.on_n_delete(*CLASSES)(lambda request: self.deleted.append(request.sop_class_uid))

    def create(self, request: Any) -> Any:
        if request.sop_class_uid != uids.BASIC_FILM_BOX:
            return None
        return rig.keys(
            ReferencedImageBoxSequence=references(*self.images),
            ReferencedBasicAnnotationBoxSequence=references(*self.annotations),
        )

    def set(self, request: Any) -> Any:
        if request.sop_class_uid == uids.BASIC_ANNOTATION_BOX:
            self.texts.append((request.dataset.AnnotationPosition, request.dataset.TextString))
            return None
        return self.changed

    def act(self, request: Any) -> Any:
        self.actions.append(request.sop_class_uid)
        if request.sop_class_uid == uids.BASIC_FILM_SESSION and not self.printed.is_success:
            return self.printed
        return rig.keys(ReferencedPrintJobSequence=references("1.2.9"))


def printing(made: clients.Clients, printer: Printer, *pictures: Any, **options: Any) -> Any:
    with faces.provider("sync", printer) as provider, made.make("PrintScu", provider.peer()) as scu:
        return scu.print(*pictures or [GRADIENT], **options)


@pytest.mark.parametrize(
    ("printer", "film", "says"),
    [
        (Printer(images=1), Film(layout="1x2"), "made a film of 1 image boxes, not of 2"),
        (Printer(images=0), Film(), "made a film of 0 image boxes, not of 1"),
        (Printer(annotations=1), Film(annotations=("a", "b"), annotation_format="LABEL"), "1 annotation boxes, not 2"),
    ],
)
def test_a_film_with_less_room_than_was_asked_for_is_not_printed(made, printer, film, says):
    with pytest.raises(dn.RemoteProtocolError, match=says):
        printing(made, printer, GRADIENT, GRADIENT, film=film)
    assert printer.actions == []
    assert printer.deleted[-1] == uids.BASIC_FILM_SESSION  # nothing is left there


def test_texts_go_into_the_boxes_that_the_printer_has_for_them(made):
    printer = Printer(annotations=3)
    printing(made, printer, film=Film(annotations=("Anna", "Eva"), annotation_format="LABEL"))
    assert printer.texts == [(1, "Anna"), (2, "Eva")]


def test_what_the_printer_warns_of_is_handed_back(made):
    printer = Printer()
    printer.changed = dn.Status(0xB604)
    done = printing(made, printer)
    assert (done.films, list(done.warnings)) == (1, [0xB604])
    assert done.warnings[0].meaning != dn.Status(0xB604).meaning  # in the words of its service


def test_films_are_printed_together_or_one_by_one(made):
    together, one_by_one = Printer(), Printer()
    one_by_one.printed = dn.Status(0x0123)  # no such action
    assert printing(made, together, GRADIENT, GRADIENT).films == 2
    assert printing(made, one_by_one, GRADIENT, GRADIENT).films == 2
    assert together.actions == [uids.BASIC_FILM_SESSION]
    assert one_by_one.actions == [uids.BASIC_FILM_SESSION, uids.BASIC_FILM_BOX, uids.BASIC_FILM_BOX]


def test_a_session_that_fails_is_not_printed_otherwise(made):
    printer = Printer()
    printer.printed = dn.Status(0xC600)
    with pytest.raises(dn.ServiceFailure, match="printing: the printer says 0xC600") as caught:
        printing(made, printer, GRADIENT, GRADIENT)
    assert caught.value.status == 0xC600
    assert printer.actions == [uids.BASIC_FILM_SESSION]


def test_a_job_that_does_not_end_is_waited_for_only_so_long(made):
    printer = Printer()
    with pytest.raises(dn.DeadlineExceeded, match=r"print job time-out after 0\.05 s"):
        printing(made, printer, patience=0.05)
    printer.job = "DONE"
    assert [job.status for job in printing(made, printer, patience=20.0).jobs] == ["DONE"]
