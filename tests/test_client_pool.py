"""The associations that a client keeps: taken, waited for, given back, released, aborted; both faces, real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import clients
import faces
import peers
import pytest
import rig
from clients import Watching
from faces import CT, instance

import dicomnet as dn
from dicomnet._pdu import Abort, ReleaseRQ
from dicomnet.client import Client, events
from dicomnet.client import aio as client_aio
from dicomnet.client.aio.pool import Pool
from dicomnet.client.sync import pool as sync_pool


@pytest.fixture(params=clients.FACES)
def made(request: pytest.FixtureRequest) -> Iterator[clients.Clients]:
    with faces.nothing_left():
        one = clients.Clients(request.param)
        yield one
        one.close()


# ---- the pool --------------------------------------------------------------------------------------------------------


def test_an_association_is_kept_between_calls(made):
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:
        watching = Watching(made, client)
        for _ in range(3):
            assert client.echo().is_success
        assert watching.names() == ["AfterAssociate"]
        assert len(client.pool) == 1
    assert watching.names() == ["AfterAssociate", "AfterRelease"]


def test_what_an_operation_needs_is_negotiated_when_it_needs_it(made):
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:
        watching = Watching(made, client)
        client.echo()
        assert client.store(instance(100)).ok
        assert client.store(instance(100, uid="2.25.2")).ok
        client.echo()
        assert watching.names() == ["AfterAssociate"] * 2
        contexts = [set(event.association.contexts.values()) for event in watching.seen]
        assert [{one.abstract_syntax for one in few} for few in contexts] == [{dn.uids.VERIFICATION}, {CT}]
    assert [uid for uid, _ in provider.stored] == ["2.25.1", "2.25.2"]


def test_an_idle_one_goes_where_another_is_needed(made):
    with faces.provider("sync") as provider, made.client(provider.peer(), associations=1) as client:
        watching = Watching(made, client)
        client.echo()
        client.store(instance(100))
        assert watching.names() == ["AfterAssociate", "AfterRelease", "AfterAssociate"]
        assert len(client.pool) == 1


def test_an_idle_association_is_released(made):
    released = threading.Event()
    with faces.provider("sync") as provider, made.client(provider.peer(), idle=0.05) as client:
        client.on(events.AfterRelease)(lambda _: released.set())
        client.echo()
        assert released.wait(faces.PATIENCE)
        assert len(client.pool) == 0
        released.clear()
        assert client.echo().is_success  # and once more
        assert released.wait(faces.PATIENCE)


def test_an_association_is_used_for_so_many_requests(made):
    with faces.provider("sync") as provider, made.client(provider.peer(), requests_per_association=2) as client:
        watching = Watching(made, client)
        for _ in range(5):
            client.echo()
        assert watching.names().count("AfterAssociate") == 3


def test_one_that_the_peer_has_ended_is_not_used_again(made):
    with made.client(f"ANY-SCP@127.0.0.1:{peers.free_port()}") as client:
        for _ in range(2):
            port = client.entity.port
            with faces.provider("sync", port=port, drain=0):
                assert client.echo().is_success


def test_who_waits_for_an_association_gets_the_next(made):
    begun, go = threading.Event(), threading.Event()

    def slowly(listener: Any) -> None:
        @listener.on_store()
        def keep(_: Any) -> None:
            begun.set()
            assert go.wait(faces.PATIENCE)

    with faces.provider("sync", slowly) as provider, made.client(provider.peer(), associations=1) as client:
        first = threading.Thread(target=client.store, args=(instance(100),))
        first.start()
        assert begun.wait(faces.PATIENCE)
        second = threading.Thread(target=client.echo)
        second.start()
        go.set()
        first.join(faces.PATIENCE)
        second.join(faces.PATIENCE)
        assert not first.is_alive()
        assert not second.is_alive()
        assert len(client.pool) == 1


def test_the_wait_for_an_association_has_an_end(made):
    begun, go = threading.Event(), threading.Event()

    def slowly(listener: Any) -> None:
        @listener.on_store()
        def keep(_: Any) -> None:
            begun.set()
            assert go.wait(faces.PATIENCE)

    options = {"associations": 1, "timeouts": dn.Timeouts(pool=0.05)}
    with faces.provider("sync", slowly) as provider, made.client(provider.peer(), **options) as client:
        first = threading.Thread(target=client.store, args=(instance(100),))
        first.start()
        assert begun.wait(faces.PATIENCE)
        with pytest.raises(dn.DeadlineExceeded, match=r"pool time-out after 0\.05 s"):
            client.echo()
        go.set()
        first.join(faces.PATIENCE)


def test_who_gives_up_waiting_lets_the_next_have_it() -> None:
    """In the very moment in which one is given back, the task that was to have it is cancelled."""

    class One:
        def check(self) -> bool:
            return True

    class Opener:
        async def open_association(self, _: Any) -> Any:
            return One()

        async def release_association(self, _: Any) -> None:
            pass

    async def run() -> None:
        pool = Pool(Opener(), most=1, idle=None, patience=None, requests=None)
        lease = await pool.take([])
        first, second = (asyncio.create_task(pool.take([])) for _ in range(2))
        while len(pool._waiting) < 2:
            await asyncio.wait([first, second], timeout=0)
        await pool.give_back(lease)
        first.cancel()
        assert await asyncio.wait_for(second, faces.PATIENCE) is lease
        assert first.cancelled()

    asyncio.run(run())


def test_a_borrowed_association(made):
    with faces.provider("sync") as provider:
        if made.face == "sync":
            with Client(provider.peer()) as client:
                for _ in range(2):
                    with client.association(dn.contexts.verification()) as association:
                        assert association.echo().is_success
                assert len(client.pool) == 1
                with pytest.raises(ZeroDivisionError), client.association(dn.contexts.verification()):
                    raise ZeroDivisionError
                assert len(client.pool) == 0
            return

        async def run() -> None:
            async with client_aio.Client(provider.peer()) as client:
                for _ in range(2):
                    async with client.association(dn.contexts.verification()) as association:
                        assert (await association.echo()).is_success
                assert len(client.pool) == 1

        made._loop.run(run())


def test_without_a_limit_an_idle_association_is_kept(made):
    timeouts = dn.Timeouts(kept=None)
    with faces.provider("sync") as provider, made.client(provider.peer(), timeouts=timeouts) as client:
        client.echo()
        assert len(client.pool) == 1
        assert client.pool._janitor is None  # that would release it


def test_in_a_thread_who_gives_up_waiting_lets_the_next_have_it(monkeypatch):
    """The wait for an association ends, and in the next moment one is given back to who waited."""

    def wait(gate: Any, seconds: float) -> bool:
        opened = gate.wait(seconds)
        pool.give_back(lease)
        pool._waiting.append(behind)
        return bool(opened)

    class One:
        def check(self) -> bool:
            return True

    class Opener:
        def open_association(self, _: Any) -> Any:
            return One()

    behind = sync_pool.Gate()
    pool = sync_pool.Pool(Opener(), most=1, idle=None, patience=0.0, requests=None)
    lease = pool.take([])
    monkeypatch.setattr(sync_pool, "wait", wait)
    with pytest.raises(dn.DeadlineExceeded):
        pool.take([])
    assert behind.is_set()


# ---- closed meanwhile ------------------------------------------------------------------------------------------------


def fails(call: Any, *arguments: Any) -> tuple[threading.Thread, list[Exception]]:
    """A call in a thread that is to fail, and how it does."""
    problems: list[Exception] = []

    def run() -> None:
        try:
            call(*arguments)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, problems


def test_a_close_ends_the_wait_for_an_association(made):
    begun, go = threading.Event(), threading.Event()

    def slowly(listener: Any) -> None:
        @listener.on_store()
        def keep(_: Any) -> None:
            begun.set()
            assert go.wait(faces.PATIENCE)

    with faces.provider("sync", slowly) as provider, made.client(provider.peer(), associations=1) as client:
        busy, problems = fails(client.store, instance(100))
        assert begun.wait(faces.PATIENCE)
        waiting, told = fails(client.echo)
        rig.until(lambda: client.pool._waiting)
        client.close()
        waiting.join(faces.PATIENCE)
        go.set()
        busy.join(faces.PATIENCE)
        assert problems == []  # what is under way goes on
        assert len(client.pool) == 0
    assert [str(error) for error in told] == ["the client was closed"]


def test_an_association_that_comes_after_the_close_is_aborted(made):
    asked, closed = threading.Event(), threading.Event()

    def script(raw: Any) -> Any:
        raw.fill(6)  # the request is on its way
        asked.set()
        assert closed.wait(faces.PATIENCE)
        raw.accept()
        return raw.read()

    with faces.raw_provider(script) as result, made.client(result.peer) as client:
        thread, told = fails(client.echo)
        assert asked.wait(faces.PATIENCE)
        client.close()
        closed.set()
        thread.join(faces.PATIENCE)
        assert result() == Abort(0, 0)
    assert [str(error) for error in told] == ["the client was closed"]


# ---- handlers of the beginning and the end ---------------------------------------------------------------------------


def until_the_end(raw: Any) -> list[Any]:
    """Accept, answer an echo, and take what comes."""
    raw.accept()
    raw.send(faces.message(1, faces.response(raw.read_command())))
    return list(raw.read_to_the_end())


def wrong(_: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("do", [lambda event: event.skip(), lambda event: event.veto("no time")])
def test_where_a_handler_does_not_want_a_release_the_association_is_aborted(made, do):
    with faces.raw_provider(until_the_end) as result:
        with made.client(result.peer) as client:
            watching = Watching(made, client)
            client.on(events.BeforeRelease)(made.handler(do))
            client.echo()
        assert result() == [Abort(0, 0)]
    assert watching.names() == ["AfterAssociate", "AfterRelease"]
    assert watching.seen[-1].error is None


def test_a_release_that_the_peer_does_not_answer_is_told(made):
    def script(raw: Any) -> Any:
        raw.accept()
        raw.send(faces.message(1, faces.response(raw.read_command())))
        return raw.read()

    with faces.raw_provider(script) as result:
        with made.client(result.peer) as client:
            watching = Watching(made, client)
            client.echo()
        assert result() == ReleaseRQ()
    assert watching.names() == ["AfterAssociate", "AfterRelease"]
    assert isinstance(watching.seen[-1].error, dn.ConnectionFailed)


def test_an_association_whose_beginning_a_handler_does_not_bear_is_aborted(made):
    with faces.raw_provider(lambda raw: [raw.accept(), *raw.read_to_the_end()]) as result:
        with made.client(result.peer) as client:
            client.on(events.AfterAssociate)(made.handler(wrong))
            with pytest.raises(ZeroDivisionError):
                client.echo()
            assert len(client.pool) == 0
        assert result()[1:] == [Abort(0, 0)]


def test_a_handler_that_fails_at_a_release_costs_that_association_alone(made):
    """Of two that are idle: both go, and the first failure is who closes told of."""
    with faces.provider("sync") as provider, made.client(provider.peer()) as client:
        watching = Watching(made, client)
        client.echo()
        client.store(instance(100))
        failing = [wrong]
        client.on(events.BeforeRelease)(made.handler(lambda event: failing.pop()(event) if failing else None))
        with pytest.raises(ZeroDivisionError):
            client.close()
        assert watching.names() == ["AfterAssociate", "AfterAssociate", "AfterRelease"]
        assert not any(event.association.established for event in watching.seen[:2])


def test_a_handler_that_fails_where_one_gives_way_leaves_room_for_others(made):
    with faces.provider("sync") as provider, made.client(provider.peer(), associations=1) as client:
        client.echo()
        failing = [wrong]
        client.on(events.BeforeRelease)(made.handler(lambda event: failing.pop()(event) if failing else None))
        with pytest.raises(ZeroDivisionError):
            client.store(instance(100))
        assert client.store(instance(100)).ok
        assert len(client.pool) == 1


def test_a_handler_that_fails_after_the_last_request_leaves_room_for_others(made):
    with faces.provider("sync") as provider, made.client(provider.peer(), associations=1, idle=0) as client:
        failing = [wrong]
        client.on(events.BeforeRelease)(made.handler(lambda event: failing.pop()(event) if failing else None))
        with pytest.raises(ZeroDivisionError):
            client.echo()
        assert client.echo().is_success
        assert len(client.pool) == 0


def test_a_handler_that_fails_when_one_was_idle_for_too_long_is_logged(made, caplog):
    released = threading.Event()

    def first_fails(_: Any) -> None:
        if not failed:
            failed.append(True)
            raise ZeroDivisionError

    failed: list[bool] = []
    with faces.provider("sync") as provider, made.client(provider.peer(), idle=0.01) as client:
        client.on(events.BeforeRelease)(made.handler(first_fails))
        client.on(events.AfterRelease)(lambda _: released.set())
        client.echo()
        rig.until(lambda: failed and len(client.pool) == 0)
        assert client.echo().is_success
        assert released.wait(faces.PATIENCE)  # the next one is let go of all the same
    assert "ZeroDivisionError" in caplog.text
