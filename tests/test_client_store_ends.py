"""How a batch of `StoreScu` ends before its time: stopped, interrupted, failed; both faces over real sockets."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clients
import faces
import pytest
import rig
from test_cli_store import instance

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateAC, MaximumLength, PresentationContextAC
from dicomnet.client import Retry, StoreScu, events
from dicomnet.client import aio as client_aio
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument

TWICE = Retry(attempts=2, first=0.01, jitter=0)


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


@pytest.fixture
def five(tmp_path: Path) -> list[Path]:
    return [instance(tmp_path / "five" / f"{number}.dcm", number) for number in range(5)]


class Holding:
    """A provider that does not answer for the instances of these numbers before it is told to."""

    def __init__(self, *held: int) -> None:
        self.held = {f"1.2.3.{number}" for number in held}
        self.uids: list[str] = []
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self, listener: Any) -> None:
        @listener.on_store()
        def keep(request: Any) -> None:
            self.uids.append(request.sop_instance_uid)
            self.begun.release()
            if request.sop_instance_uid in self.held:
                assert self.go.wait(faces.PATIENCE)

    def await_begun(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=faces.PATIENCE)


@contextmanager
def sending(made: clients.Clients, archive: Holding, **options: Any) -> Iterator[Any]:
    with faces.provider("sync", archive) as provider:
        try:
            with made.make("StoreScu", provider.peer(), **options) as scu:
                yield scu
        finally:
            archive.go.set()


def outcomes(results: Any) -> Counter[str]:
    return Counter(result.outcome.value for result in results)


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """What comes of a call in a thread of its own."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


# ---- by the caller ---------------------------------------------------------------------------------------------------


def test_a_batch_that_is_stopped_ends_after_what_is_under_way(made, five):
    archive = Holding(1)
    with sending(made, archive, window=1) as scu:
        thread, outcome = in_thread(lambda: list(scu.send(*five)))
        archive.await_begun(2)
        scu.stop()
        archive.go.set()
        thread.join(faces.PATIENCE)
        assert outcomes(outcome[0]) == {"stored": 2, "skipped": 3}
        assert outcome[0][-1].reason == "the batch was stopped"
        assert scu.store(five[4]).ok  # another batch is not concerned
    assert archive.uids == ["1.2.3.0", "1.2.3.1", "1.2.3.4"]


def test_a_batch_that_is_interrupted_waits_for_nothing(made, five):
    archive = Holding(1)
    with sending(made, archive, window=1) as scu:
        assert not scu.interrupt()  # there is no batch yet
        thread, outcome = in_thread(lambda: list(scu.send(*five)))
        archive.await_begun(2)
        assert scu.interrupt()
        thread.join(faces.PATIENCE)
        assert outcomes(outcome[0]) == {"stored": 1, "failed": 1, "skipped": 3}
        failed, *_, last = outcome[0][1:]
        assert (failed.under_way, type(failed.error)) == (True, dn.AssociationAborted)
        assert last.reason == "the batch was interrupted"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends a signal to a thread")
def test_ctrl_c_waits_for_nothing_either(five):
    def interrupt(_: Any) -> None:
        meeting.wait(faces.PATIENCE)  # both associations have something under way
        if first.acquire(blocking=False):
            rig.until(waits_for_results)
            signal.pthread_kill(caller, signal.SIGINT)
        assert go.wait(faces.PATIENCE)

    def waits_for_results() -> bool:
        frame = sys._current_frames()[caller].f_back
        return frame is not None and frame.f_code is threading.Condition.wait_for.__code__

    caller = threading.get_ident()
    meeting, first, go = threading.Barrier(2), threading.Lock(), threading.Event()
    with faces.nothing_left(), faces.provider("sync", lambda listener: listener.on_store()(interrupt)) as provider:
        with StoreScu(provider.peer(), associations=2, window=1) as scu:
            with pytest.raises(KeyboardInterrupt):
                list(scu.send(*five))
            assert len(scu.client.pool) == 0
            assert not go.is_set()
        go.set()


def test_a_task_that_is_cancelled_waits_for_nothing(five):
    async def run(peer: str) -> None:
        async def send() -> list[Any]:
            return [result async for result in scu.send(*five)]

        async with client_aio.StoreScu(peer, associations=2) as scu:
            task = asyncio.create_task(send())
            await asyncio.to_thread(archive.await_begun, 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    archive = Holding(*range(5))
    with faces.nothing_left(), faces.provider("sync", archive) as provider:
        try:
            asyncio.run(run(provider.peer()))
            assert not archive.go.is_set()
        finally:
            archive.go.set()


# ---- by what is to be sent -------------------------------------------------------------------------------------------


def test_nothing_is_no_instance(made):
    with made.make("StoreScu", "ANY@127.0.0.1:1") as scu:
        for nothing in ([], iter(())):
            with pytest.raises(InvalidArgument, match="nothing to store"):
                scu.store(nothing)


@pytest.mark.parametrize("handlers", [False, True])
def test_what_cannot_be_read_any_more_when_its_turn_comes_is_a_result(made, tmp_path, handlers):
    path = tmp_path / "five.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(5):  # each is too large to be held
            packed.write(instance(tmp_path / f"{number}.dcm", number, size=100_000), f"{number}.dcm")
    archive = Holding()
    with sending(made, archive, window=1) as scu:

        def spoil(given: Any) -> Any:
            with path.open("r+b") as file:
                file.seek(150_000)
                file.write(b"damaged")
            return given

        made.itself(scu).watch = spoil  # as the first is opened, the second is damaged
        if handlers:
            scu.on(events.BeforeStore)(made.handler(lambda _: None))
        results = list(scu.send(path))
    assert outcomes(results) == {"stored": 4, "unreadable": 1}
    (unreadable,) = [result for result in results if result.outcome.value == "unreadable"]
    assert unreadable.name.endswith("1.dcm")
    assert archive.uids == [f"1.2.3.{number}" for number in (0, 2, 3, 4)]


# ---- by handlers -----------------------------------------------------------------------------------------------------


def test_a_handlers_own_complaint_of_a_file_is_its_callers(made, five):
    def complain(event: Any) -> None:
        raise InputFileError("nothing I like", problem=InputProblem.CANNOT_READ, path="x")

    archive = Holding()
    with sending(made, archive) as scu:
        scu.on(events.BeforeStore)(made.handler(complain))
        with pytest.raises(InputFileError, match="nothing I like"):
            list(scu.send(*five))
    assert archive.uids == []


@pytest.mark.parametrize("kind", [events.BeforeStore, events.AfterStore])
def test_what_a_handler_raises_is_its_callers_though_the_association_is_over(made, five, kind):
    def fail(event: Any) -> None:
        event.association.interrupt()
        raise dn.ServiceFailure(dn.Status(0x0110), "no time")

    def over(event: Any) -> None:
        assert not event.association.established

    archive = Holding()
    with sending(made, archive, retry=TWICE) as scu:
        scu.on(kind)(made.handler(fail))
        scu.client.on(events.Closed)(over)
        with pytest.raises(dn.ServiceFailure, match="no time"):
            list(scu.send(*five))
        assert len(scu.client.pool) == 0
    assert archive.uids == ["1.2.3.0"] * (kind is events.AfterStore)


# ---- by the peer -----------------------------------------------------------------------------------------------------


def test_a_peer_that_leaves_before_anything_is_sent_blames_no_instance(made, five):
    """Each association is accepted, and aborted before it is used: an instance is tried so often, and never begun."""
    served = []

    def serve() -> None:
        for _ in range(2 * len(five)):
            with faces.RawProvider(listening.accept()[0]) as raw:
                asked = raw.read()
                accepted = tuple(
                    PresentationContextAC(one.id, 0, one.transfer_syntaxes[0]) for one in asked.presentation_contexts
                )
                raw.send(AssociateAC(asked.called_ae_title, "X", accepted, (MaximumLength(16384),)), Abort(2, 1))
                served.append(raw.read_to_the_end())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(faces.PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        with made.make("StoreScu", f"X@127.0.0.1:{listening.getsockname()[1]}", retry=TWICE) as scu:
            results = list(scu.send(*five))
        thread.join(faces.PATIENCE)
    assert served == [[]] * 2 * len(five)
    assert outcomes(results) == {"failed": 5}
    assert {(type(result.error), result.under_way) for result in results} == {(dn.AssociationAborted, False)}
