"""What an asyncio provider does while a handler is awaited: it hears a C-CANCEL, an end, and keeps its patience."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import faces
import pytest
import rig as rigs
from faces import instance
from rig import Rig, keys

import dicomnet as dn
from dicomnet._pdu import Abort
from dicomnet.services import presentation_contexts

STUDY = {"StudyInstanceUID": "2.25.100"}


@pytest.fixture
def rig() -> Iterator[Rig]:
    one = Rig("sync-aio")
    yield one
    one.close()


class Endless:
    """An asynchronous generator that gives so many results, and then waits for ever."""

    def __init__(self, *results: Any) -> None:
        self.results = results
        self.waits, self.closed = threading.Event(), threading.Event()

    async def __call__(self, _: Any) -> AsyncIterator[Any]:
        try:
            for result in self.results:
                yield result
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.closed.set()


def test_a_query_that_waits_for_its_next_match_is_cancelled(rig: Rig) -> None:
    listener, endless = rig.listener(), Endless(keys(PatientID="1"), keys(PatientID="2"))
    listener.on_find("STUDY_ROOT")(endless)
    contexts = [*presentation_contexts.sop_classes(dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)]
    with rig.pair(listener, [*contexts, *dn.contexts.verification()]) as association:
        found = []
        for match in association.find("STUDY"):
            found.append(match.PatientID)
            if len(found) == 2:
                association.cancel()
        assert found == ["1", "2"]
        assert endless.closed.wait(rigs.PATIENCE)
        assert association.echo().is_success  # it goes on


def test_a_get_that_waits_for_its_next_instance_is_cancelled(rig: Rig) -> None:
    listener, endless = rig.listener(), Endless(rigs.instance(1))
    listener.on_get("STUDY_ROOT")(endless)
    contexts = presentation_contexts.retrieving(dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET)
    with rig.pair(listener, contexts) as association, concurrent.futures.ThreadPoolExecutor(1) as other:
        other.submit(lambda: endless.waits.wait(rigs.PATIENCE) and association.cancel())
        done = association.get("STUDY", to=lambda _: None, **STUDY)
    assert (done.status.is_cancel, done.completed) == (True, 1)
    assert endless.closed.wait(rigs.PATIENCE)


@pytest.mark.parametrize("waits", [True, False])
def test_a_move_that_is_still_told_what_to_send_is_cancelled(rig: Rig, waits: bool) -> None:
    """Nothing is sent before all of it is known; the peer is told of what is, and has enough."""

    def without_end(_: Any) -> Iterator[Any]:
        while True:
            yield rigs.instance(1)

    endless = Endless(rigs.instance(1))
    listener = rig.listener(destinations={"THIRD": dn.Entity("THIRD", "127.0.0.1", 1)})
    listener.pending_every = 0.0
    listener.on_move("STUDY_ROOT")(endless if waits else without_end)
    contexts = presentation_contexts.sop_classes(dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE)
    with rig.pair(listener, contexts) as association:
        done = association.move("STUDY", destination="THIRD", progress=lambda _: association.cancel(), **STUDY)
    assert (done.status.is_cancel, done.completed) == (True, 0)
    assert endless.closed.is_set() == waits


def test_what_a_query_finds_may_come_in_a_future(rig: Rig) -> None:
    listener = rig.listener()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        listener.on_find("STUDY_ROOT")(lambda _: pool.submit(lambda: [keys(PatientID="1")]))
        contexts = presentation_contexts.sop_classes(dn.uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
        with rig.pair(listener, contexts) as association:
            assert [match.PatientID for match in association.find("STUDY")] == ["1"]


def test_a_future_is_cancelled_when_its_peer_is_gone() -> None:
    cancelled, begun = threading.Event(), threading.Event()

    def configure(scp: Any) -> None:
        @scp.on_store()
        def keep(_: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda one: cancelled.set() if one.cancelled() else None)
            begun.set()
            return future

    with faces.provider("aio", configure) as provider:
        with provider.raw() as raw:
            raw.associate()
            raw.send(faces.store_request(bytes(100)))
            assert begun.wait(faces.PATIENCE)
            raw.send(Abort(0, 0))
            assert cancelled.wait(faces.PATIENCE)
            assert raw.read() is None
        with faces.SyncUser(provider.peer()) as user:
            assert user.established


def test_a_peer_that_waits_for_a_future_is_not_idle() -> None:
    def configure(scp: Any) -> None:
        @scp.on_store()
        def keep(_: Any) -> Any:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            loop.call_later(0.5, future.set_result, dn.Status.SUCCESS)
            return future

    timeouts = dn.Timeouts(idle=0.1)
    with faces.provider("aio", configure, timeouts=timeouts) as provider, provider.raw() as raw:
        raw.associate()
        raw.send(faces.store_request(bytes(100)))
        assert raw.read_command().status == 0
        assert raw.read() == Abort(0, 0)  # now it is


def test_a_bug_in_an_admission_rule_ends_that_association_alone(caplog: pytest.LogCaptureFixture) -> None:
    bugs = [ZeroDivisionError]

    class Rule:
        def evaluate(self, *_: Any) -> None:
            if bugs:
                raise bugs.pop()

    def configure(scp: Any) -> None:
        scp.admission = dn.Admission(Rule())
        scp.on_store()(lambda _: None)

    with caplog.at_level(logging.ERROR, "dicomnet"), faces.provider("aio", configure) as provider:
        with provider.raw() as raw:
            raw.send(raw.REQUEST)
            raw.read_to_the_end()
        with faces.SyncUser(provider.peer()) as user:
            assert user.store(instance(100)).ok
    assert "ZeroDivisionError" in caplog.text
