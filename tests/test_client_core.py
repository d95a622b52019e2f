"""The core of the client framework: clients, their pools, retries and events, in both faces over real sockets."""

from __future__ import annotations

import asyncio
import errno
import inspect
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any

import clients
import faces
import peers
import pytest
import rig
from clients import Watching
from faces import instance

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateRJ
from dicomnet.client import Client, Retry, events
from dicomnet.client import aio as client_aio
from dicomnet.client.aio import concurrency as aio_concurrency
from dicomnet.client.sync.concurrency import Together
from dicomnet.errors import AssociationRejected, ConnectionFailed, TLSFailed

QUICKLY = Retry(attempts=4, first=0.01, jitter=0)


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


def three_matches(listener: Any) -> None:
    @listener.on_find("STUDY_ROOT")
    def find(_: Any) -> Iterator[dict[str, str]]:
        for number in range(3):
            yield {"StudyInstanceUID": f"2.25.{number}"}


# ---- what is tried again ---------------------------------------------------------------------------------------------


def test_a_refused_connection_is_tried_again(made):
    port = peers.free_port()
    tried = []
    opened = []

    def count(event: Any) -> None:
        tried.append(event.peer)
        if len(tried) == 3:
            opened.append(faces.provider("sync", port=port))
            opened[0].__enter__()

    with made.client(f"ANY-SCP@127.0.0.1:{port}", retry=QUICKLY) as client:
        client.on(events.BeforeConnect)(count)
        try:
            assert client.echo().is_success
            assert len(tried) == 3
        finally:
            client.close()
            opened[0].__exit__(None, None, None)


def test_attempts_have_an_end(made):
    tried = []
    with made.client(f"ANY-SCP@127.0.0.1:{peers.free_port()}", retry=QUICKLY) as client:
        client.on(events.AfterConnect)(tried.append)
        with pytest.raises(ConnectionFailed):
            client.echo()
    assert [event.error.errno for event in tried] == [errno.ECONNREFUSED] * 4


@pytest.mark.parametrize(("result", "attempts"), [(2, 3), (1, 1)])
def test_a_rejection_is_tried_again_where_it_is_transient(made, result, attempts):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(faces.PATIENCE)

        def reject() -> None:
            for _ in range(attempts):
                with faces.RawProvider(listening.accept()[0]) as raw:
                    raw.read()
                    raw.send(AssociateRJ(result, 1, 1))
                    raw.read()

        thread = threading.Thread(target=reject)
        thread.start()
        with made.client(f"X@127.0.0.1:{listening.getsockname()[1]}", retry=Retry(attempts=3, first=0.01)) as client:
            watching = Watching(made, client)
            with pytest.raises(AssociationRejected):
                client.echo()
            assert watching.names() == ["AfterAssociate"] * attempts
        thread.join(faces.PATIENCE)


def test_what_is_transient():
    retry = Retry(out_of_resources=True)
    assert retry.is_transient(ConnectionFailed("x", errno=errno.ECONNREFUSED))
    assert retry.is_transient(AssociationRejected(2, 3, 1))
    for error in (
        ConnectionFailed("x", errno=errno.ECONNRESET),
        TLSFailed("x", errno=errno.ECONNREFUSED),
        AssociationRejected(1, 1, 7),
        dn.DeadlineExceeded("response", 1),
        dn.AssociationAborted(0, 0),
        dn.ServiceFailure(dn.Status(0xA700)),
    ):
        assert not retry.is_transient(error)
    assert [retry.wants(dn.Status(code)) for code in (0xA700, 0xA7FF, 0xA900, 0)] == [True, True, False, False]
    assert not Retry().wants(dn.Status(0xA700))


def test_the_pauses_grow_to_a_limit_and_can_be_foretold():
    pause = Retry(first=1, factor=2, longest=5, jitter=0).pauses()
    assert [pause(attempt) for attempt in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]
    first, again = Retry(seed=7).pauses(), Retry(seed=7).pauses()
    assert [first(n) for n in range(1, 9)] == [again(n) for n in range(1, 9)]
    other = Retry(seed=8, jitter=0.5).pauses()
    assert all(0.5 * 0.5 <= other(1) <= 0.5 for _ in range(50))
    with pytest.raises(dn.InvalidArgument, match="attempts"):
        Retry(attempts=0)


# ---- the end, from elsewhere -----------------------------------------------------------------------------------------


def test_close_ends_the_wait_between_two_attempts(made):
    waiting = threading.Event()
    problems: list[Exception] = []
    with made.client(f"ANY-SCP@127.0.0.1:{peers.free_port()}", retry=Retry(first=1000, longest=1000)) as client:
        client.on(events.AfterConnect)(lambda _: waiting.set())

        def call() -> None:
            try:
                client.echo()
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert waiting.wait(faces.PATIENCE)
        client.close()
        thread.join(faces.PATIENCE)
        assert not thread.is_alive()
        assert "the client was closed" in str(problems[0])
        with pytest.raises(dn.LocalProtocolError, match="the client was closed"):
            client.echo()


def test_abort_from_another_thread_ends_what_is_under_way(made):
    begun, ended = threading.Event(), threading.Event()

    def slowly(listener: Any) -> None:
        @listener.on_store()
        def keep(_: Any) -> None:
            begun.set()
            ended.wait(faces.PATIENCE)

    problems: list[Exception] = []
    with faces.provider("sync", slowly) as provider, made.client(provider.peer()) as client:
        watching = Watching(made, client)

        def call() -> None:
            try:
                client.store(instance(100))
            except Exception as error:
                problems.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert begun.wait(faces.PATIENCE)
        client.abort()
        thread.join(faces.PATIENCE)
        ended.set()
        assert not thread.is_alive()
    assert isinstance(problems[0], dn.AssociationAborted)
    assert not problems[0].by_peer
    assert watching.names() == ["AfterAssociate", "Aborted"]
    assert (watching.seen[1].by_peer, watching.seen[1].source, watching.seen[1].reason) == (False, 0, 0)


def test_leaving_a_query_cancels_it_and_keeps_the_association(made):
    with faces.provider("sync", three_matches) as provider, made.client(provider.peer()) as client:
        watching = Watching(made, client)
        results = client.find("STUDY", PatientName="DOE*")
        assert next(results).StudyInstanceUID == "2.25.0"
        results.close()
        assert len(list(client.find("STUDY", PatientName="DOE*"))) == 3
        assert watching.names() == ["AfterAssociate"]


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_an_interrupted_association_is_aborted_on_the_wire(face):
    asked, told = threading.Event(), []

    def script(raw: Any) -> Any:
        raw.accept()
        raw.read()
        asked.set()
        return raw.read()

    def wait(association: Any) -> None:
        with pytest.raises(dn.AssociationAborted) as caught:
            association.echo()
        told.append(caught.value.by_peer)

    with faces.raw_provider(script) as result:
        one = rig.Rig(f"{face}-sync")
        try:
            with one.connected(result.peer, dn.contexts.verification()) as association:
                thread = threading.Thread(target=wait, args=(association,))
                thread.start()
                assert asked.wait(faces.PATIENCE)
                association.interrupt()
                thread.join(faces.PATIENCE)
                assert not association.check()
                association.interrupt()  # it is over: nothing happens
        finally:
            one.close()
        assert result() == Abort(0, 0)
    assert told == [False]


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_an_association_notices_its_end_while_nobody_asks_for_anything(face):
    def script(raw: Any) -> None:
        raw.accept()
        go.wait(faces.PATIENCE)
        raw.send(Abort(2, 1))
        raw.read()

    go = threading.Event()
    with faces.raw_provider(script) as result:
        one = rig.Rig(f"{face}-sync")
        try:
            with one.connected(result.peer, dn.contexts.verification()) as association:
                assert association.check()
                go.set()
                while association.check():  # until it has arrived
                    pass
                with pytest.raises(dn.AssociationAborted):
                    association.echo()
        finally:
            one.close()


def test_a_look_has_an_end_where_the_peer_never_stops_talking():
    def script(raw: Any) -> None:
        raw.accept()
        raw.send(faces.echo_request() * 8_000, Abort(2, 1))
        said.set()
        raw.read_to_the_end()

    def look(peer: str) -> None:
        with one.connected(peer, dn.contexts.verification()) as association:
            assert said.wait(faces.PATIENCE)
            assert association.check(), "the abort lies behind more than one look takes"
            association.interrupt()

    said = threading.Event()
    with faces.raw_provider(script) as result:
        one = rig.Rig("sync-sync")
        try:
            with pytest.raises(dn.AssociationAborted, match="this side"):
                look(result.peer)
        finally:
            one.close()


# ---- events ----------------------------------------------------------------------------------------------------------


def test_every_event_of_an_association_comes_in_its_order(made):
    seen: list[str] = []
    with faces.provider("sync", three_matches) as provider, made.client(provider.peer()) as client:
        for kind in vars(events).values():
            if inspect.isclass(kind) and issubclass(kind, events.Event):
                client.on(kind)(made.handler(lambda event: seen.append(type(event).__name__)))
        list(client.find("STUDY", PatientName="DOE*"))
        client.echo()
    begin = ["BeforeConnect", "BeforeAssociate", "AfterConnect", "AfterAssociate"]
    assert seen == [
        "BeforeFind",
        *begin,
        *["BeforeMatch"] * 3,
        "AfterFind",
        *begin,
        *["BeforeRelease", "AfterRelease"] * 2,
    ]


def test_a_subclass_method_is_a_handler(made):
    base = made.module.Client
    seen = []

    class Mine(base):  # type: ignore[valid-type, misc]
        def before_associate(self, event: Any) -> None:
            seen.append(event.called)
            event.calling = "CHANGED"

    titles = []

    def listen(listener: Any) -> None:
        listener.on_echo(lambda request: titles.append(request.calling))

    with faces.provider("sync", listen) as provider, made.make("Client", provider.peer(), cls=Mine) as client:
        client.echo()
    assert (seen, titles) == (["ANY-SCP"], ["CHANGED"])


def test_an_instance_is_edited_before_it_is_sent(made):
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:

        def edit(event: Any) -> None:
            event.dataset.PatientName = "EDITED"

        client.on(events.BeforeStore)(made.handler(edit))
        assert client.store(instance(100)).ok
    assert b"EDITED" in provider.stored[0][1]


def test_a_query_is_edited_and_its_matches_are_skipped(made):
    asked = []

    def answer(listener: Any) -> None:
        @listener.on_find("STUDY_ROOT")
        def find(request: Any) -> Iterator[dict[str, str]]:
            asked.append(str(request.identifier.PatientName))
            for number in range(5):
                yield {"StudyInstanceUID": f"2.25.{number}"}

    with faces.provider("sync", answer) as provider, made.client(provider.peer()) as client:

        def edit(event: Any) -> None:
            event.keys["PatientName"] = "ROE*"

        def choose(event: Any) -> None:
            number = event.match.StudyInstanceUID[-1]
            if number == "1":
                event.skip()
            elif number == "3":
                event.skip_rest()

        client.on(events.BeforeFind)(edit)
        client.on(events.BeforeMatch)(made.handler(choose))
        found = [match.StudyInstanceUID for match in client.find("STUDY", PatientName="DOE*")]
        assert (asked, found) == (["ROE*"], ["2.25.0", "2.25.2"])


@pytest.mark.parametrize("kind", [events.BeforeConnect, events.BeforeAssociate])
def test_a_connection_is_vetoed(made, kind):
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:
        client.on(kind)(made.handler(lambda event: event.veto("not today")))
        with pytest.raises(events.Vetoed, match="not today"):
            client.echo()
        assert len(client.pool) == 0
    assert provider.stored == []


def test_an_instance_is_vetoed_before_anything_is_connected(made):
    with made.client(f"ANY-SCP@127.0.0.1:{peers.free_port()}") as client:
        client.on(events.BeforeStore)(lambda event: event.veto("private"))
        with pytest.raises(events.Vetoed, match="private"):
            client.store(instance(100))


def test_a_failing_handler_stops_its_operation_with_its_own_exception(made):
    with faces.provider("sync", three_matches) as provider, made.client(provider.peer()) as client:
        client.on(events.BeforeMatch)(made.handler(lambda _: 1 // 0))
        with pytest.raises(ZeroDivisionError):
            list(client.find("STUDY", PatientName="DOE*"))
        assert client.echo().is_success


def test_the_peers_abort_is_an_event_with_its_source(made):
    def abort(raw: Any) -> None:
        raw.accept()
        raw.read()
        raw.send(bytes([7, 0, 0, 0, 0, 4, 0, 0, 2, 1]))
        raw.read()

    with faces.raw_provider(abort) as done, made.client(done.peer) as client:
        watching = Watching(made, client)
        with pytest.raises(dn.AssociationAborted):
            client.echo()
        (event,) = [event for event in watching.seen if isinstance(event, events.Aborted)]
        assert (event.by_peer, event.source, event.reason) == (True, 2, 1)


def test_the_end_of_a_connection_is_an_event(made):
    def leave(raw: Any) -> None:
        raw.accept()
        raw.read()

    with faces.raw_provider(leave) as done, made.client(done.peer) as client:
        watching = Watching(made, client)
        with pytest.raises(ConnectionFailed):
            client.echo()
        assert watching.names()[-1] == "Closed"


# ---- several sources of results --------------------------------------------------------------------------------------


def counting(start: int, count: int, log: list[Any]) -> Iterator[Any]:
    try:
        for number in range(start, start + count):
            log.append(number)
            yield number
    finally:
        log.append("tidied up")


class TestTogether:
    def test_together(self) -> None:
        merged = Together([counting(start, 50, []) for start in (0, 100, 200)])
        assert sorted(merged) == [*range(50), *range(100, 150), *range(200, 250)]

    def test_together_holds_its_sources_up(self) -> None:
        log: list[Any] = []
        merged = Together([counting(0, 1000, log)])
        next(merged)
        merged.close()
        assert log[-1] == "tidied up"
        assert len(log) < 20

    def test_the_failure_of_one_ends_the_others(self) -> None:
        def fail() -> Iterator[Any]:
            yield 1
            raise ValueError("x")

        log: list[Any] = []
        with pytest.raises(ValueError, match="x"):
            list(Together([fail(), counting(0, 100_000, log)]))
        assert log[-1] == "tidied up"


async def counting_later(numbers: Iterable[int], log: list[Any]) -> AsyncGenerator[int, None]:
    for number in counting(0, 100_000, log):
        if number not in numbers:
            raise ValueError(number)
        yield number


class TestTogetherInAsyncio:
    def test_the_failure_of_one_ends_the_others(self) -> None:
        async def run() -> None:
            merged = aio_concurrency.Together([counting_later(range(2), []), counting_later(range(100_000), log)])
            with pytest.raises(ValueError, match="2"):
                async for _ in merged:
                    pass

        log: list[Any] = []
        asyncio.run(run())
        assert log[-1] == "tidied up"
        assert len(log) < 100

    def test_who_wants_no_more_holds_up_nothing(self) -> None:
        async def run() -> int:
            merged = aio_concurrency.Together([counting_later(range(100_000), log)])
            first = await anext(merged)
            await merged.aclose()
            return first

        log: list[Any] = []
        assert asyncio.run(run()) == 0
        assert log[-1] == "tidied up"
        assert len(log) < 20

    def test_a_cancellation_ends_what_waits_for_nothing(self) -> None:
        async def endless() -> AsyncGenerator[int, None]:
            try:
                await asyncio.Event().wait()
                yield 0
            finally:
                log.append("tidied up")

        async def run() -> None:
            merged = aio_concurrency.Together([endless(), endless()])
            closing = asyncio.create_task(merged.aclose())
            while len([task for task in merged._tasks if task._fut_waiter is not None]) < 2:
                await asyncio.wait([closing], timeout=0)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing

        log: list[str] = []
        asyncio.run(run())
        assert log == ["tidied up"] * 2


# ---- the two faces ---------------------------------------------------------------------------------------------------


def test_both_faces_have_the_same_names_and_signatures():
    blocking = dn.client
    assert blocking.__all__ == client_aio.__all__
    for name in blocking.__all__:
        ours, theirs = getattr(blocking, name), getattr(client_aio, name)
        if not inspect.isclass(ours):
            continue
        public = [one for one in dir(ours) if not one.startswith("_")]
        assert public == [one for one in dir(theirs) if not one.startswith("_")]
        for one in public:
            if callable(getattr(ours, one)) and one != "hooks":
                theirs_as_ours = str(inspect.signature(getattr(theirs, one))).replace("Async", "")
                assert str(inspect.signature(getattr(ours, one))) == theirs_as_ours
        assert inspect.signature(ours) == inspect.signature(theirs)


def test_signatures_say_what_is_returned():
    for module in (dn.client, client_aio):
        assert inspect.signature(module.Client.echo).return_annotation == "Status"
        assert inspect.signature(module.StoreScu.store).return_annotation == "Stored"


def test_what_talks_to_the_peer_is_awaited():
    awaited = {name for name in dir(client_aio.Client) if inspect.iscoroutinefunction(getattr(client_aio.Client, name))}
    assert awaited >= {"echo", "store", "get", "move", "normalized", "commit", "close", "abort"}
    assert not any(inspect.iscoroutinefunction(getattr(Client, name)) for name in awaited if name[0] != "_")


def test_the_blocking_face_loads_no_asyncio():
    code = "import sys, dicomnet.client; print(*{'asyncio', 'pydicom', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_wrong_argument_is_one_clear_error():
    for title in ("A" * 17, "A\\B", "", "   ", "A\nB"):
        with pytest.raises(dn.InvalidArgument, match="AE title"):
            Client("ARCHIVE@host:104", calling=title)
        with pytest.raises(dn.InvalidArgument, match="AE title"):
            Client(dn.Entity(title, "host", 104))
    with pytest.raises(dn.InvalidArgument, match="associations"):
        Client("ARCHIVE@host:104", associations=0)
