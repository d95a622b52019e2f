"""The asynchronous operations window: several C-STOREs under way on one association (PS3.7 Annex D.3.3.3)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import faces
import peers
import programs
import pytest
from faces import CT, RawProvider, instance, raw_provider
from rig import PAIRINGS, Rig
from wiring import POLICY, Drive, pair, transfer

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateAC, AsynchronousOperationsWindow, MaximumLength, PresentationContextAC
from dicomnet.files.instance_source import BytesSource
from dicomnet.protocol.negotiation import AcceptancePolicy
from dicomnet.services import user as services_user
from dicomnet.wire.command_set import Command

CONTEXTS = [*dn.contexts.verification(), *dn.contexts.storage([CT])]
COUNT = 40


def wide(window: int) -> dn.NegotiationOptions:
    return dn.NegotiationOptions(operations_window=(window, 1))


def granting(window: int) -> AcceptancePolicy:
    return AcceptancePolicy(operations_window=(window, 1))


def instances(count: int = COUNT, pixels: int = 1000) -> list[BytesSource]:
    return [instance(pixels, uid=f"2.25.{number}") for number in range(1, count + 1)]


# ---- between our own -------------------------------------------------------------------------------------------------


@pytest.fixture(params=PAIRINGS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(request.param)
    yield made
    made.close()


@pytest.mark.parametrize(("asked", "granted", "negotiated"), [(8, 8, 8), (8, 3, 3), (0, 5, 5), (0, 0, 0), (8, 1, 1)])
def test_everything_arrives_and_results_come_in_order(rig: Rig, asked: int, granted: int, negotiated: int) -> None:
    listener, stored = rig.listener(acceptance=granting(granted)), {}

    @listener.on_store()
    def keep(request: Any) -> dn.Status | None:
        stored[request.sop_instance_uid] = request.data
        return dn.Status.OUT_OF_RESOURCES if request.sop_instance_uid == "2.25.7" else None

    sent = instances(pixels=3000)
    given: list[Any] = [*sent[:5], "/absent.dcm", *sent[5:20], instance(10, faces.MR), *sent[20:]]
    with rig.pair(listener, CONTEXTS, extras=wide(asked)) as association:
        assert association.operations_window == (negotiated, 1)
        results = list(association.store_many(given))
        assert association.echo().is_success
    assert [result.source for result in results] == given
    assert [number for number, result in enumerate(results) if not result.ok] == [5, 7, 21]
    assert isinstance(results[5].error, dn.InputFileError)
    assert results[7].status == dn.Status.OUT_OF_RESOURCES
    assert isinstance(results[21].error, dn.NoAcceptedContext)
    assert stored == {source.sop_instance_uid: faces.data_of(source) for source in sent}


def test_files_are_read_while_others_are_under_way(rig: Rig, tmp_path: Path) -> None:
    """More files than there are buffers, some larger than one."""
    listener, stored = rig.listener(acceptance=granting(8)), {}
    listener.on_store()(lambda request: stored.__setitem__(request.sop_instance_uid, request.data))
    sent = [instance(pixels, uid=f"2.25.{pixels}") for pixels in (10, 700_000, 20, 30, 1_300_000, 40, 600_000, 50, 60)]
    paths = []
    for source in sent:
        path = tmp_path / f"{source.size}.dcm"
        path.write_bytes(part10(source))
        paths.append(path)
    with rig.pair(listener, CONTEXTS, extras=wide(8)) as association:
        assert all(result.ok for result in association.store_many(paths))
    assert stored == {source.sop_instance_uid: faces.data_of(source) for source in sent}


def part10(source: BytesSource) -> bytes:
    from dicomnet.files.part10 import meta_header

    header = meta_header(source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid)
    return bytes(header) + faces.data_of(source)


def test_leaving_the_loop_early_leaves_the_association_usable(rig: Rig) -> None:
    listener = rig.listener(acceptance=granting(8))
    listener.on_store()(lambda _: None)
    with rig.pair(listener, CONTEXTS, extras=wide(8)) as association:
        for result in association.store_many(instances()):
            assert result.ok
            break
        assert association.echo().is_success
        assert all(result.ok for result in association.store_many(instances()))


@pytest.mark.parametrize("provider_face", faces.FACES)
def test_other_calls_between_results(provider_face: str) -> None:
    """The answers that come to them are not lost. Over asyncio such a call is refused before anything is sent."""
    rig = Rig(f"sync-{provider_face}")
    listener = rig.listener(acceptance=granting(4))
    listener.on_store()(lambda _: None)
    with rig.pair(listener, CONTEXTS, extras=wide(4), timeouts=dn.Timeouts(response=5)) as association:
        count = 0
        for result in association.store_many(instances(20)):
            assert result.ok
            assert association.echo().is_success
            count += 1
        assert count == 20
    rig.close()


def test_an_answer_that_comes_to_another_call() -> None:
    """The second instance is answered while a C-ECHO waits, and then there is nobody any more."""

    def script(raw: RawProvider) -> None:
        accept(raw, 2)
        first, second = asked_of(raw, 2)
        answer(raw, first)
        echo = raw.read_command()
        answer(raw, second)
        raw.send(faces.message(1, faces.response(echo)))

    with raw_provider(script) as told:
        association = dn.connect(told.peer, contexts=CONTEXTS, extras=wide(2))  # type: ignore[attr-defined]
        results = iter(association.store_many(instances(2)))
        assert next(results).ok
        assert association.echo().is_success
        assert next(results).ok
        assert list(results) == []
        association.abort()


def test_other_calls_between_results_over_asyncio() -> None:
    rig = Rig("aio-sync")
    listener = rig.listener(acceptance=granting(4))
    listener.on_store()(lambda _: None)
    with rig.pair(listener, CONTEXTS, extras=wide(4)) as association:
        results = iter(association.store_many(instances(20)))
        assert next(results).ok
        with pytest.raises(dn.LocalProtocolError, match="still to come"):
            association.echo()
        assert all(result.ok for result in results)
        assert association.echo().is_success
    rig.close()


@pytest.mark.parametrize("call", ["echo", "find", "store", "get"])
def test_no_match_is_lost_to_a_call_between(rig: Rig, call: str) -> None:
    """What else is asked between the matches of a query would have to keep them: it is refused before it is sent."""
    listener = rig.listener(acceptance=granting(4))
    listener.on_find("STUDY_ROOT")(lambda _: ({"StudyInstanceUID": f"2.25.{number}"} for number in range(1, 101)))
    listener.on_get("STUDY_ROOT")(lambda _: [])
    listener.on_store()(lambda _: None)
    contexts = [*CONTEXTS, *dn.contexts.query_retrieve([CT])]
    with rig.pair(listener, contexts, extras=wide(4)) as association:
        calls = {
            "echo": association.echo,
            "find": lambda: list(association.find("STUDY")),
            "store": lambda: list(association.store_many(instances(2))),
            "get": lambda: association.get("STUDY", to=print, StudyInstanceUID="2.25.1"),
        }
        found = []
        for match in association.find("STUDY"):
            found.append(match.StudyInstanceUID)
            if len(found) < 3:
                with pytest.raises(dn.LocalProtocolError, match="still to come"):
                    calls[call]()
        assert found == [f"2.25.{number}" for number in range(1, 101)]
        assert association.echo().is_success


def test_a_call_when_all_matches_are_there_already(rig: Rig) -> None:
    """Nothing is unanswered any more, and yet what has come is for whoever reads the matches."""
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda _: [{"StudyInstanceUID": f"2.25.{number}"} for number in range(1, 4)])
    with rig.pair(listener, [*CONTEXTS, *dn.contexts.query_retrieve([CT])]) as association:
        found = []
        for match in association.find("STUDY"):
            found.append(match.StudyInstanceUID)
            with pytest.raises(dn.LocalProtocolError, match="still to come"):
                association.echo()
        assert len(found) == 3


def test_letting_go_of_other_results_loses_no_match(rig: Rig) -> None:
    listener = rig.listener()
    listener.on_find("STUDY_ROOT")(lambda _: ({"StudyInstanceUID": f"2.25.{number}"} for number in range(1, 101)))
    listener.on_store()(lambda _: None)
    with rig.pair(listener, [*CONTEXTS, *dn.contexts.query_retrieve([CT])]) as association:
        results = association.store_many(instances(3))
        assert next(results).ok
        found = []
        for match in association.find("STUDY"):
            found.append(match.StudyInstanceUID)
            if len(found) == 1:
                results.close()
        assert len(found) == 100


@pytest.mark.parametrize("provider_face", faces.FACES)
def test_what_is_answered_does_not_wait_for_slow_handlers(provider_face: str) -> None:
    """The second of two that came together is performed once the answer to the first has been read."""
    rig, read, handled = Rig(f"sync-{provider_face}"), threading.Event(), []

    def keep(request: Any) -> None:
        handled.append(request.sop_instance_uid)
        if len(handled) == 2:
            assert read.wait(faces.PATIENCE)

    listener = rig.listener(acceptance=granting(2))
    listener.on_store()(keep)
    with rig.pair(listener, CONTEXTS, extras=wide(2)) as association:
        results = iter(association.store_many(instances(2)))
        assert next(results).ok
        read.set()
        assert next(results).ok
    rig.close()


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_is_none(window: int) -> None:
    with faces.provider("sync") as provider, faces.SyncUser(provider.peer()) as user:
        with pytest.raises(dn.InvalidArgument):
            user.store_many(instances(), window=window)
        assert user.echo().is_success


# ---- with a peer that answers as it likes ----------------------------------------------------------------------------


def accept(raw: RawProvider, window: int) -> None:
    request = raw.read()
    proposed = request.presentation_contexts
    contexts = tuple(PresentationContextAC(one.id, 0, one.transfer_syntaxes[0]) for one in proposed)
    information = (MaximumLength(16384), AsynchronousOperationsWindow(window, 1))
    raw.send(AssociateAC(request.called_ae_title, request.calling_ae_title, contexts, information))


def asked_of(raw: RawProvider, count: int = 1) -> list[tuple[int, Command]]:
    """Contexts and command sets of the next C-STOREs, each whole."""
    found: list[tuple[int, Command]] = []
    complete = 0
    while complete < count:
        for pdv in raw.read().pdvs:
            if pdv.is_command:
                found.append((pdv.context_id, faces.decode(pdv.data)))
            complete += pdv.is_last and not pdv.is_command
    return found


def answer(raw: RawProvider, asked: tuple[int, Command], status: int = 0) -> None:
    raw.send(faces.message(asked[0], faces.response(asked[1], status)))


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_as_many_are_under_way_as_were_granted_and_answers_come_in_any_order(face: str, order: list[int]) -> None:
    def script(raw: RawProvider) -> list[int]:
        accept(raw, 4)
        asked = asked_of(raw, 4)  # nothing has been answered
        for place in order:
            answer(raw, asked[place], 0xB000 + place)
        later = asked_of(raw, 4)
        for one in later:
            answer(raw, one)
        raw.read_to_the_end()
        return [command.message_id or 0 for _, command in asked]

    sent = instances(8)
    with raw_provider(script) as told:
        with faces.USERS[face](told.peer, contexts=CONTEXTS, extras=wide(9)) as user:  # type: ignore[attr-defined]
            results = user.store_many(sent)
            user.abort()
        assert told() == [1, 2, 3, 4]
    assert [result.source for result in results] == sent
    assert [result.status for result in results] == [0xB000, 0xB001, 0xB002, 0xB003, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("window", "limit", "under_way"), [(None, 64, 4), (1, 64, 1), (2, 64, 2), (9, 64, 4), (None, 3, 3)]
)
def test_how_many_are_under_way(window: int | None, limit: int, under_way: int) -> None:
    policy = POLICY._replace(operations_window=(4, 1))
    user, provider = pair(policy=policy, limits=dn.Limits(window=limit), asked_window=(9, 1))
    drive = Drive(services_user.store_many(user, instances(), float, window=window), lambda: transfer(user, provider))
    received = provider.events()
    assert len(received) == under_way
    provider.respond(received[0].message, 0)
    transfer(provider, user)
    drive.give(*user.events())
    assert (len(drive.results), len(provider.events())) == (1, 1), "one is done, and one more follows"
    drive.flow.close()


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("end", ["abort", "close"])
def test_what_was_not_answered_is_known_when_the_association_ends(face: str, end: str) -> None:
    def script(raw: RawProvider) -> None:
        accept(raw, 4)
        asked = asked_of(raw, 4)
        answer(raw, asked[1])
        answer(raw, asked[3])
        if end == "abort":
            raw.send(Abort(0, 0))

    sent, results = instances(9), []

    def note(result: dn.StoreResult) -> dn.StoreResult:
        results.append(result.source)
        return result

    with raw_provider(script) as told:
        user = faces.USERS[face](told.peer, contexts=CONTEXTS, extras=wide(4))  # type: ignore[attr-defined]
        with pytest.raises((dn.AssociationAborted, dn.ConnectionFailed)) as caught:
            each_result(user, sent, note)
        user.abort()
    assert results == [sent[1], sent[3]]
    assert caught.value.unanswered == (sent[0], sent[2])


def each_result(user: Any, sources: list[Any], take: Any) -> None:
    """Give each result to ``take`` as it comes."""
    if isinstance(user, faces.AioUser):

        async def loop() -> None:
            async for result in user.association.store_many(sources):
                take(result)

        user._run(loop())
    else:
        for result in user.association.store_many(sources):
            take(result)


@pytest.mark.parametrize("face", faces.FACES)
def test_the_one_that_was_not_answered_without_a_window(face: str) -> None:
    def script(raw: RawProvider) -> None:
        raw.accept()
        answer(raw, asked_of(raw)[0])
        asked_of(raw)

    sent = instances(3)
    with raw_provider(script) as told:
        user = faces.USERS[face](told.peer, contexts=CONTEXTS)  # type: ignore[attr-defined]
        with pytest.raises(dn.ConnectionFailed) as caught:
            user.store_many(sent)
        user.abort()
    assert caught.value.unanswered == (sent[1],)


@pytest.mark.parametrize("face", faces.FACES)
def test_a_refusal_within_a_message_stops_that_one_only(face: str) -> None:
    """The peer refuses the second, which is large, before its end; the first and the third are stored."""

    def script(raw: RawProvider) -> list[int]:
        accept(raw, 4)
        first = asked_of(raw)[0]
        (pdv,) = raw.read().pdvs
        second = (pdv.context_id, faces.decode(pdv.data))
        answer(raw, second, 0xA700)
        size = 0
        while True:
            (pdv,) = raw.read().pdvs
            size += len(pdv.data)
            if pdv.is_last:
                break
        third = asked_of(raw)[0]
        answer(raw, third)
        answer(raw, first)
        raw.read_to_the_end()
        return [size]

    large = instance(60_000_000, uid="2.25.99")
    sent = [instance(100), large, instance(200)]
    with raw_provider(script) as told:
        with faces.USERS[face](told.peer, contexts=CONTEXTS, extras=wide(4)) as user:  # type: ignore[attr-defined]
            results = user.store_many(sent)
            user.abort()
        assert told()[0] < large.size
    assert [result.status for result in results] == [0, 0xA700, 0]


# ---- other programs decline ------------------------------------------------------------------------------------------


@contextmanager
def storescp(directory: Path) -> Iterator[str]:
    port = peers.free_port()
    program = [peers.peer_program("storescp"), "+B", "+xa", "-od", directory, port]
    with programs.peer(program, port, env={**os.environ, "TCP_NODELAY": "1"}):
        yield f"STORESCP@127.0.0.1:{port}"


@contextmanager
def pynetdicom_scp(directory: Path) -> Iterator[str]:
    pynetdicom = peers.peer_module("pynetdicom")

    def keep(event: Any) -> int:
        (directory / event.request.AffectedSOPInstanceUID).write_bytes(event.request.DataSet.getvalue())
        return 0

    ae = pynetdicom.AE("PYNETDICOM")
    for context in CONTEXTS:
        ae.add_supported_context(context.abstract_syntax, list(context.transfer_syntaxes))
    server = ae.start_server(
        ("127.0.0.1", peers.free_port()), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, keep)]
    )
    try:
        yield f"PYNETDICOM@127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@pytest.mark.parametrize("face", faces.FACES)
@pytest.mark.parametrize("peer", [storescp, pynetdicom_scp])
def test_with_a_peer_that_declines_one_is_under_way(peer: Any, face: str, tmp_path: Path) -> None:
    with peer(tmp_path) as address, faces.USERS[face](address, contexts=CONTEXTS, extras=wide(8)) as user:
        assert user.association.operations_window == (1, 1)
        assert all(result.ok for result in user.store_many(instances(5)))
    assert len(list(tmp_path.iterdir())) == 5


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granted", [1, 4])
def test_dicomnet_store_and_recv(granted: int, tmp_path: Path) -> None:
    out, sent = tmp_path / "out", tmp_path / "sent"
    sent.mkdir()
    for source in instances():
        (sent / f"{source.sop_instance_uid}.dcm").write_bytes(part10(source))
    with programs.provider("--out", out, "--window", granted) as recv:
        result = programs.run("store", recv.address, sent, "--window", 8)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"{COUNT} instances sent")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in sent.iterdir())


@pytest.mark.parametrize("silent", [False, True])
def test_dicomnet_store_accounts_for_each_when_the_association_ends(tmp_path: Path, silent: bool) -> None:
    """The peer takes one association only: it refuses the next connection, or lets it wait without a word."""
    with socket.socket() as waiting, ExitStack() as stack:

        def script(raw: RawProvider) -> None:
            accept(raw, 3)
            asked = asked_of(raw, 3)
            answer(raw, asked[0])
            asked += asked_of(raw)
            answer(raw, asked[2])
            if silent:
                waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                waiting.bind(raw.sock.getsockname())
                waiting.listen()
            raw.send(Abort(0, 0))
            raw.read_to_the_end()

        paths = []
        for number, source in enumerate(instances(9)):
            paths.append(tmp_path / f"{number}.dcm")
            paths[-1].write_bytes(part10(source))
        told = stack.enter_context(raw_provider(script))
        timeout = ("--timeout", "500ms" if silent else "10s")  # another program may have got the port meanwhile
        result = programs.run("store", told.peer, *paths, "--window", 3, *timeout)  # type: ignore[attr-defined]
    assert result.returncode == 62
    assert result.stdout.startswith("2 instances sent")
    assert "7 failed" in result.stdout
    left = [path.name for path in paths if str(path) in result.stderr]
    # All seven failed for one reason: five are named, and the rest is counted.
    assert left == ["1.dcm", "3.dcm", "4.dcm", "5.dcm", "6.dcm"]
    assert "error: 2 more, which -v names: not sent: no association" in result.stderr
