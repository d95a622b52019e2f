"""C-MOVE that another provider performs: what that reports is passed on to who asked (`on_move(relays=True)`)."""

from __future__ import annotations

import asyncio
import threading

import pytest

import dicomnet as dn
from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import ConnectionFailed, ServiceFailure
from dicomnet.services.retrieve_progress import RetrieveProgress
from dicomnet.status import Status

MOVE = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE
FAILED = codec.encode(codec.from_keywords({"FailedSOPInstanceUIDList": ["1.2.3"]}), uids.EXPLICIT_VR_LITTLE_ENDIAN)
STEPS = [
    RetrieveProgress(Status.PENDING, remaining=2, completed=1),
    RetrieveProgress(Status.PENDING, remaining=1, completed=2),
    RetrieveProgress(
        Status.SUB_OPERATIONS_WARNING, completed=2, failed=1, data=FAILED,
        transfer_syntax=uids.EXPLICIT_VR_LITTLE_ENDIAN,
    ),
]  # fmt: skip
WANTED = {"destination": "ANYWHERE", "StudyInstanceUID": "1.2"}


@pytest.fixture
def relaying():
    """A provider that passes on what a generator tells, to any destination."""
    listener = dn.sync.Listener("RELAY", port=0)
    handlers = []

    @listener.on_move("STUDY_ROOT", relays=True)
    def move(request):
        return handlers[0](request)

    with listener:
        yield f"RELAY@127.0.0.1:{listener.address[1]}", handlers


def asking(peer):
    return dn.connect(peer, contexts=dn.contexts.sop_classes(MOVE))


def counts(step):
    return int(step.status), step.remaining, step.completed, step.failed


def test_every_step_is_passed_on_with_its_counts_and_what_failed(relaying):
    peer, handlers = relaying
    handlers.append(lambda request: iter(STEPS))
    with asking(peer) as association:
        told = list(association.move_steps("STUDY", **WANTED))
        assert counts(told[-1]) == (0xB000, 0, 2, 1)
        assert told[-1].failed_uids == ["1.2.3"]
        assert all(one.status.is_pending for one in told[:-1])
        assert association.move("STUDY", **WANTED).completed == 2


def test_the_asyncio_face_is_told_the_same(relaying):
    peer, handlers = relaying
    handlers.append(lambda request: iter(STEPS))

    async def told():
        async with await dn.aio.connect(peer, contexts=dn.contexts.sop_classes(MOVE)) as association:
            return [one async for one in association.move_steps("STUDY", **WANTED)]

    steps = asyncio.run(told())
    assert counts(steps[-1]) == (0xB000, 0, 2, 1)


def test_a_cancel_closes_the_generator_and_is_answered_with_what_was_done(relaying):
    peer, handlers = relaying
    closed, go_on = threading.Event(), threading.Event()

    def told(request):
        try:
            yield STEPS[0]
            go_on.wait(30)
            while True:
                yield STEPS[1]
        finally:
            closed.set()

    handlers.append(told)
    with asking(peer) as association:
        steps = association.move_steps("STUDY", **WANTED)
        assert next(steps).completed == 1
        steps.close()  # cancels
        go_on.set()
        assert closed.wait(30)
        handlers[:] = [lambda request: iter(STEPS)]
        assert association.move("STUDY", **WANTED).failed == 1


def raises(request):
    yield STEPS[0]
    raise ConnectionFailed("gone", peer="x", errno=104)


@pytest.mark.parametrize(
    ("handler", "status"),
    [
        (lambda request: Status.MOVE_DESTINATION_UNKNOWN, 0xA801),
        (raises, 0xA702),
        (lambda request: 1 / 0, 0x0110),
    ],
    ids=["a status", "a peer that is gone", "an error"],
)
def test_what_the_handler_cannot_do_is_the_answer(relaying, handler, status):
    peer, handlers = relaying
    handlers.append(handler)
    with asking(peer) as association, pytest.raises(ServiceFailure) as caught:
        association.move("STUDY", **WANTED)
    assert int(caught.value.status) == status


def ends(request):
    yield STEPS[0]
    return Status.UNABLE_TO_PERFORM_SUB_OPERATIONS


def test_a_final_status_of_the_generator_comes_with_the_last_counts(relaying):
    peer, handlers = relaying
    handlers.append(ends)
    with asking(peer) as association:
        done = association.move("STUDY", **WANTED)
    assert (int(done.status), done.completed) == (0xA702, 1)


@pytest.mark.parametrize("steps", [STEPS[:2], STEPS[:1]], ids=["two", "one"])
def test_a_generator_that_ends_without_an_outcome_fails(relaying, steps):
    peer, handlers = relaying
    handlers.append(lambda request: iter(steps))
    with asking(peer) as association:
        done = association.move("STUDY", **WANTED)
    assert (int(done.status), done.completed) == (0x0110, steps[-1].completed)
