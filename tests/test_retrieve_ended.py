"""`FindRequest.ended`: a handler hears how much of a retrieve was sent; what fails there spoils nothing. Both faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faces
import pytest
from archives import CT, part10

import dicomnet as dn

CONTEXTS = [*dn.contexts.storage([CT]), *dn.contexts.query_retrieve([CT])]


def retrieve(face: str, operation: str, ended: Callable[[int], object]) -> Any:
    """Have three instances sent; what the requestor is told."""

    def handler(request: Any) -> Any:
        request.ended = ended
        return [part10(number) for number in range(3)]

    def configure(listener: Any) -> None:
        listener.on_get("STUDY")(handler)
        listener.on_move("STUDY")(handler)

    with faces.nothing_left(), faces.provider("sync") as there:
        destinations = {"THERE": dn.Entity("THERE", "127.0.0.1", there.port)}
        where = {"to": lambda _: None} if operation == "get" else {"destination": "THERE"}
        with (
            faces.provider(face, configure, destinations=destinations) as provider,
            dn.connect(provider.peer(), contexts=CONTEXTS) as association,
        ):
            done = getattr(association, operation)("STUDY", StudyInstanceUID="1.2.1", **where)
            assert association.established
        return done


@pytest.mark.parametrize("face", ["sync", "aio"])
@pytest.mark.parametrize("operation", ["get", "move"])
def test_a_handler_is_told_how_many_were_sent(face: str, operation: str) -> None:
    told: list[int] = []
    assert retrieve(face, operation, told.append).completed == 3
    assert told == [3]


@pytest.mark.parametrize("face", ["sync", "aio"])
@pytest.mark.parametrize("operation", ["get", "move"])
def test_what_fails_as_it_is_told_is_logged_and_the_association_goes_on(
    face: str, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    who = "DOE JANE"

    def fails(_: int) -> None:
        raise RuntimeError(who)

    assert retrieve(face, operation, fails).completed == 3
    assert caplog.text.count("what hears of the end of a retrieve failed") == 1
    assert who not in caplog.text
