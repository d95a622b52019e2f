"""What both faces must do: `test_sync` and `test_aio` run these, each with its own face on this side."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import faces
import pytest
from faces import CT, EVERYTHING, MR, SYNTAX, RawProvider, data_of, echo_request, instance, response, store_request

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import PDV, Abort, AssociateRJ, PDataTF, ReleaseRP, ReleaseRQ
from dicomnet.dataset import codec
from dicomnet.files.file_sink import uid_path

QUERY = [*dn.contexts.query_retrieve([CT]), *dn.contexts.verification()]
QUICK = 0.2  # seconds of a time-out that is to run out


class UserSuite:
    """The user's side: associations of ``face``."""

    face: str

    @pytest.fixture(params=faces.FACES)
    def other(self, request: pytest.FixtureRequest) -> str:
        """The face of the provider."""
        return str(request.param)

    def connect(self, peer: str, **options: Any) -> Any:
        return faces.USERS[self.face](peer, **options)

    # ---- with a real provider ----

    def test_echo(self, other: str) -> None:
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            assert user.established
            assert user.echo().is_success
            assert user.echo() == 0x0000

    @pytest.mark.parametrize("pixels", [0, 2, 16_000, 262_144, 5_000_000])
    def test_store_arrives_bit_for_bit(self, other: str, pixels: int) -> None:
        source = instance(pixels)
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            result = user.store(source)
            assert result.ok
            assert result.status.is_success
            assert result.size == source.size
            assert (result.sop_class_uid, result.sop_instance_uid) == (CT, "2.25.1")
            assert result.transfer_syntax_uid == SYNTAX
        assert provider.stored == [("2.25.1", data_of(source))]

    @pytest.mark.parametrize("max_pdu", [16, 1024, 16384, 1 << 20])
    def test_store_in_pdus_of_any_size(self, other: str, max_pdu: int) -> None:
        source = instance(100_000)
        with (
            faces.provider(other, limits=dn.Limits(max_pdu=max_pdu)) as provider,
            self.connect(provider.peer()) as user,
        ):
            assert user.store(source).ok
        assert provider.stored == [("2.25.1", data_of(source))]

    def test_a_large_object_goes_from_file_to_file(self, other: str, tmp_path: Path) -> None:
        source = instance(40_000_000)
        path = write_part10(tmp_path / "large.dcm", source)
        store, spool = tmp_path / "store", tmp_path / "spool"
        store.mkdir()
        spool.mkdir()
        with faces.provider(other, keeper(store, spool)) as provider, self.connect(provider.peer()) as user:
            result = user.store(path)
            assert result.ok
            assert result.source == path
        (kept,) = store.iterdir()
        assert kept.name == "2.25.1.dcm"
        assert kept.read_bytes().endswith(data_of(source))
        assert list(spool.iterdir()) == []

    def test_a_batch_goes_on_past_what_cannot_be_sent(self, other: str, tmp_path: Path) -> None:
        good = write_part10(tmp_path / "good.dcm", instance(1000))
        cut = tmp_path / "cut.dcm"
        cut.write_bytes(good.read_bytes()[:-10])
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            results = user.store_many(
                [good, tmp_path / "absent.dcm", cut, instance(10, MR), instance(20, CT, "2.25.7")]
            )
        assert [result.ok for result in results] == [True, False, False, False, True]
        problems = [getattr(result.error, "problem", None) for result in results[1:3]]
        assert problems == [20, 22]
        assert isinstance(results[3].error, dn.NoAcceptedContext)
        assert [uid for uid, _ in provider.stored] == ["2.25.1", "2.25.7"]

    def test_store_raises_what_keeps_an_instance_from_being_sent(self, other: str, tmp_path: Path) -> None:
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            with pytest.raises(dn.InputFileError):
                user.store(tmp_path / "absent.dcm")
            with pytest.raises(dn.NoAcceptedContext) as caught:
                user.store(instance(10, MR))
            assert caught.value.abstract_syntax == MR
            assert caught.value.transfer_syntaxes == (SYNTAX,)
            assert user.echo().is_success

    def test_leaving_the_results_early_leaves_the_association_usable(self, other: str) -> None:
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            assert user.first_result([instance(10), instance(20)]).ok
            assert user.echo().is_success
        assert len(provider.stored) == 1

    def test_refused_contexts_are_told(self, other: str) -> None:
        contexts = [*EVERYTHING, *dn.contexts.storage([MR])]
        with (
            faces.provider(other, lambda scp: scp.on_store([CT])(accept)) as provider,
            self.connect(provider.peer(), contexts=contexts) as user,
        ):
            results = {context.abstract_syntax: context.result for context in user.contexts.values()}
            assert results == {uids.VERIFICATION: 0, CT: 0, MR: 3}
            assert user.store(instance(10)).ok

    def test_an_association_without_a_context_is_none(self, other: str) -> None:
        with faces.provider(other, lambda scp: scp.on_store([CT])(accept)) as provider:
            with pytest.raises(dn.NoAcceptedContext) as caught:
                self.connect(provider.peer(), contexts=dn.contexts.storage([MR]))
            assert caught.value.abstract_syntax == MR
            assert caught.value.peer == provider.peer()

    def test_rejection(self, other: str) -> None:
        with faces.provider(other, ae_title="ARCHIVE") as provider:
            with pytest.raises(dn.AssociationRejected, match="called AE title not recognised") as caught:
                self.connect(provider.peer("ELSEWHERE"))
            assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)
            with self.connect(provider.peer("ARCHIVE")) as user:
                assert user.echo().is_success

    def test_one_association_too_many_is_rejected_for_now(self, other: str) -> None:
        with faces.provider(other, limits=dn.Limits(associations=1)) as provider, self.connect(provider.peer()) as user:
            with pytest.raises(dn.AssociationRejected) as caught:
                self.connect(provider.peer())
            assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
            assert user.echo().is_success

    def test_a_handlers_exception_is_a_status(self, other: str, caplog: pytest.LogCaptureFixture) -> None:
        def fail(_: object) -> None:
            raise ValueError("a bug")

        def configure(scp: Any) -> None:
            scp.on_store()(fail)
            scp.on_echo(fail)

        with faces.provider(other, configure) as provider, self.connect(provider.peer()) as user:
            result = user.store(instance(10))
            assert not result.ok
            assert result.status == 0x0110
            assert user.echo() == 0x0110
            with self.connect(provider.peer()) as second:
                assert second.store(instance(10)).status == 0x0110
        assert "ValueError" in caplog.text
        assert "in fail" in caplog.text
        assert "a bug" not in caplog.text.replace('raise ValueError("a bug")', "")  # but for the line of code

    def test_a_full_disk_is_a_status(self, other: str) -> None:
        def fail(_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with faces.provider(other, lambda scp: scp.on_store()(fail)) as provider, self.connect(provider.peer()) as user:
            assert user.store(instance(10)).status == 0xA700

    @pytest.mark.parametrize(("answer", "status"), [(None, 0), (0xB000, 0xB000), (dn.Status(0xC123), 0xC123)])
    def test_what_a_handler_returns_is_the_status(self, other: str, answer: Any, status: int) -> None:
        with (
            faces.provider(other, lambda scp: scp.on_store()(lambda _: answer)) as provider,
            self.connect(provider.peer()) as user,
        ):
            result = user.store(instance(10))
            assert result.status == status
            assert result.ok == (status in (0, 0xB000))

    def test_a_handler_learns_what_it_is_about(self, other: str) -> None:
        seen = []

        def keep(request: Any) -> None:
            seen.append((request.calling, request.called, request.sop_class_uid, request.sop_instance_uid))
            seen.append((request.transfer_syntax_uid, request.size, request.address.rpartition(":")[0]))

        source = instance(10)
        with (
            faces.provider(other, lambda scp: scp.on_store()(keep), ae_title="ARCHIVE") as provider,
            self.connect(provider.peer("ARCHIVE"), calling="WS1") as user,
        ):
            assert user.store(source).ok
        assert seen == [("WS1", "ARCHIVE", CT, "2.25.1"), (SYNTAX, source.size, "127.0.0.1")]

    def test_many_at_once(self, other: str) -> None:
        source = instance(200_000)

        def send() -> int:
            with self.connect(provider.peer()) as user:
                return sum(result.ok for result in user.store_many([source] * 5))

        with faces.provider(other) as provider:
            assert faces.gather(*[send] * 12) == [5] * 12
        assert provider.stored == [("2.25.1", data_of(source))] * 60

    def test_nothing_is_left_behind(self, other: str) -> None:
        def everything() -> None:
            with faces.provider(other, ae_title="ARCHIVE") as provider:
                with self.connect(provider.peer("ARCHIVE")) as user:
                    assert user.echo().is_success
                    assert user.store(instance(100_000)).ok
                with pytest.raises(dn.AssociationRejected):
                    self.connect(provider.peer())
                with pytest.raises(ZeroDivisionError), self.connect(provider.peer("ARCHIVE")):
                    raise ZeroDivisionError
                with provider.raw() as raw:
                    raw.send(b"GET / HTTP/1.1\r\n\r\n")
                    assert raw.read() == Abort(0, 0)

        everything()  # what is made once for all stays
        with faces.nothing_left():
            everything()

    # ---- queries and retrieves ----

    def test_find(self, other: str) -> None:
        with faces.provider(other, finder(100)) as provider, self.connect(provider.peer(), contexts=QUERY) as user:
            matches = user.find("STUDY", PatientName="DOE*", returning=["StudyInstanceUID"])
            assert [match.StudyInstanceUID for match in matches] == [f"1.2.{number}" for number in range(100)]
            assert user.find("STUDY", PatientName="NOBODY") == []

    def test_leaving_the_matches_cancels(self, other: str) -> None:
        closed = threading.Event()
        with (
            faces.provider(other, finder(10**9, closed)) as provider,
            self.connect(provider.peer(), contexts=QUERY) as user,
        ):
            assert user.first_match("STUDY", PatientName="DOE*").StudyInstanceUID == "1.2.0"
            assert user.echo().is_success
            assert closed.wait(faces.PATIENCE)

    def test_a_query_that_fails(self, other: str) -> None:
        def fail(_: object) -> dn.Status:
            return dn.Status(0xA700)

        with (
            faces.provider(other, lambda scp: scp.on_find("STUDY_ROOT")(fail)) as provider,
            self.connect(provider.peer(), contexts=QUERY) as user,
        ):
            with pytest.raises(dn.ServiceFailure) as caught:
                user.find("STUDY", PatientName="DOE*")
            assert caught.value.status == 0xA700
            assert user.established
            with pytest.raises(dn.InvalidArgument):
                user.find("PLANET", PatientName="DOE*")

    def test_get(self, other: str, tmp_path: Path) -> None:
        sources = [instance(50_000, CT, f"2.25.{number}") for number in range(1, 4)]
        steps = []

        def prepare(scp: Any) -> None:
            scp.pending_every = 0  # a pending response for each
            scp.on_get("STUDY_ROOT")(lambda _: sources)

        with (
            faces.provider(other, prepare) as provider,
            self.connect(provider.peer(), contexts=QUERY) as user,
        ):
            done = user.get("STUDY", to=tmp_path, StudyInstanceUID="1.2", progress=steps.append)
            assert done.ok
            assert done.completed == 3
        assert len(steps) == 2
        for source in sources:
            assert (tmp_path / f"{source.sop_instance_uid}.dcm").read_bytes().endswith(data_of(source))

    def test_move(self, other: str) -> None:
        sources = [instance(50_000, CT, f"2.25.{number}") for number in range(1, 4)]
        with faces.provider(self.face) as archive:
            destinations = {"ARCHIVE": dn.Entity("ARCHIVE", "127.0.0.1", archive.port)}
            mover = faces.provider(
                other, lambda scp: scp.on_move("STUDY_ROOT")(lambda _: sources), destinations=destinations
            )
            with mover as provider, self.connect(provider.peer(), contexts=QUERY) as user:
                done = user.move("STUDY", destination="ARCHIVE", StudyInstanceUID="1.2")
                assert done.ok
                assert done.completed == 3
                with pytest.raises(dn.ServiceFailure) as caught:
                    user.move("STUDY", destination="ELSEWHERE", StudyInstanceUID="1.2")
                assert caught.value.status == 0xA801
        assert archive.stored == [(source.sop_instance_uid, data_of(source)) for source in sources]

    # ---- the end ----

    def test_after_the_end_nothing_can_be_asked_for(self, other: str) -> None:
        with faces.provider(other) as provider, self.connect(provider.peer()) as user:
            user.release()
            assert not user.established
            with pytest.raises(dn.LocalProtocolError, match="over"):
                user.echo()
            with pytest.raises(dn.LocalProtocolError):
                user.store(instance(10))
            user.release()
            user.abort()

    def test_abort_is_told_to_the_peer(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            return raw.read_to_the_end()

        with faces.raw_provider(script) as told:
            with self.connect(told.peer) as user:
                user.abort()
                assert not user.established
                with pytest.raises(dn.LocalProtocolError, match="over"):
                    user.echo()
            assert told() == [Abort(0, 0)]

    def test_a_block_that_fails_aborts(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            return raw.read_to_the_end()

        with faces.raw_provider(script) as told:
            with pytest.raises(ZeroDivisionError), self.connect(told.peer):
                raise ZeroDivisionError
            assert told() == [Abort(0, 0)]

    def test_a_block_that_ends_releases(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            asked = raw.read()
            raw.send(ReleaseRP())
            return [asked, *raw.read_to_the_end()]

        with faces.raw_provider(script) as told:
            with self.connect(told.peer):
                pass
            assert told() == [ReleaseRQ()]

    # ---- with a peer that is not there, or silent ----

    def test_an_unreachable_host(self, free_port: int) -> None:
        with faces.nothing_left(), pytest.raises(dn.ConnectionFailed) as caught:
            self.connect(f"X@127.0.0.1:{free_port}")
        assert caught.value.errno == errno.ECONNREFUSED
        assert caught.value.peer == f"X@127.0.0.1:{free_port}"

    def test_an_unknown_host(self) -> None:
        with pytest.raises(dn.ConnectionFailed, match="cannot connect"):
            self.connect("X@no-such-host.invalid:104")

    @pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="other systems refuse where Linux stays silent")
    def test_a_host_that_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            waiting = [socket.socket() for _ in range(3)]
            for sock in waiting:
                sock.setblocking(False)
                sock.connect_ex(address)
            with pytest.raises(dn.DeadlineExceeded) as caught:
                self.connect(f"X@127.0.0.1:{address[1]}", timeouts=dn.Timeouts(connect=QUICK))
            for sock in waiting:
                sock.close()
        assert caught.value.timeout == "connect"
        assert caught.value.seconds == QUICK

    def test_a_peer_that_does_not_answer_the_request(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            faces.nothing_left(),
            pytest.raises(dn.DeadlineExceeded) as caught,
        ):
            self.connect(f"X@127.0.0.1:{silent.getsockname()[1]}", timeouts=dn.Timeouts(associate=QUICK))
        assert caught.value.timeout == "associate"

    def test_a_peer_that_drips(self) -> None:
        """A byte now and then does not put off the end of the wait for an answer."""
        over = threading.Event()

        def script(raw: RawProvider) -> None:
            raw.read()
            for byte in b"\x02\x00" + (60000).to_bytes(4, "big") + bytes(1000):
                if over.wait(QUICK / 4):
                    break
                try:
                    raw.send(bytes([byte]))
                except OSError:
                    break

        with faces.raw_provider(script) as told:
            with pytest.raises(dn.DeadlineExceeded) as caught:
                self.connect(told.peer, timeouts=dn.Timeouts(associate=QUICK))
            over.set()
        assert caught.value.timeout == "associate"

    def test_a_peer_that_does_not_respond(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            raw.read_command()
            return raw.read_to_the_end()

        with faces.raw_provider(script) as told:
            with self.connect(told.peer, timeouts=dn.Timeouts(response=QUICK)) as user:
                with pytest.raises(dn.DeadlineExceeded) as caught:
                    user.echo()
                assert not user.established
            assert caught.value.timeout == "response"
            assert told() == [Abort(0, 0)]

    def test_a_peer_that_does_not_release(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            return raw.read_to_the_end()

        with faces.raw_provider(script) as told:
            with (
                pytest.raises(dn.DeadlineExceeded) as caught,
                self.connect(told.peer, timeouts=dn.Timeouts(release=QUICK)),
            ):
                pass
            assert caught.value.timeout == "release"
            assert told()[0] == ReleaseRQ()

    def test_a_peer_that_stops_reading(self) -> None:
        over = threading.Event()

        def script(raw: RawProvider) -> None:
            raw.accept()
            over.wait(faces.PATIENCE)

        timeouts = dn.Timeouts(write=QUICK, artim=QUICK)
        with faces.raw_provider(script) as told:
            with self.connect(told.peer, timeouts=timeouts) as user:
                with pytest.raises(dn.DeadlineExceeded) as caught:
                    user.store(instance(50_000_000))
                assert not user.established
            over.set()
        assert caught.value.timeout == "write"

    # ---- with a peer that leaves ----

    def test_an_abort_instead_of_a_response(self) -> None:
        def script(raw: RawProvider) -> None:
            raw.accept()
            raw.read_command()
            raw.send(Abort(2, 6))
            raw.read_to_the_end()

        with faces.raw_provider(script) as told, self.connect(told.peer) as user:
            with pytest.raises(dn.AssociationAborted) as caught:
                user.echo()
            assert (caught.value.source, caught.value.reason, caught.value.by_peer) == (2, 6, True)
            assert not user.established
            with pytest.raises(dn.AssociationAborted):
                user.echo()

    def test_an_abort_in_the_middle_of_our_message(self) -> None:
        def script(raw: RawProvider) -> None:
            raw.accept()
            raw.read_command()
            raw.send(Abort(0, 0))
            raw.read_to_the_end()

        with faces.raw_provider(script) as told, self.connect(told.peer) as user:
            with pytest.raises(dn.AssociationAborted):
                user.store(instance(30_000_000))
            assert not user.established

    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_a_connection_that_ends(self, end: str) -> None:
        def script(raw: RawProvider) -> None:
            raw.accept()
            raw.read_command()
            if end == "reset":
                raw.reset()

        with faces.raw_provider(script) as told, self.connect(told.peer) as user, pytest.raises(dn.ConnectionFailed):
            user.echo()
        with faces.raw_provider(script) as told, self.connect(told.peer) as user:
            with pytest.raises(dn.ConnectionFailed):
                user.store(instance(30_000_000))
            assert not user.established

    def test_a_connection_that_ends_during_the_request(self) -> None:
        with faces.raw_provider(lambda raw: raw.read()) as told, pytest.raises(dn.ConnectionFailed):
            self.connect(told.peer)

    def test_an_answer_that_is_not_dicom(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.read()
            raw.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return raw.read_to_the_end()

        with faces.raw_provider(script) as told:
            with pytest.raises(dn.RemoteProtocolError):
                self.connect(told.peer)
            assert told() == [Abort(2, 1)]

    def test_a_peer_that_releases_meanwhile(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            raw.send(ReleaseRQ())
            return [pdu for pdu in raw.read_to_the_end() if pdu == ReleaseRP()]

        with faces.raw_provider(script) as told:
            with self.connect(told.peer) as user, pytest.raises(dn.AssociationError, match="released"):
                user.echo()
            assert told() == [ReleaseRP()]

    def test_both_release_at_once(self) -> None:
        def script(raw: RawProvider) -> list[Any]:
            raw.accept()
            asked = raw.read()
            raw.send(ReleaseRQ())
            agreed = raw.read()
            raw.send(ReleaseRP())
            return [asked, agreed]

        with faces.raw_provider(script) as told:
            with self.connect(told.peer):
                pass
            assert told() == [ReleaseRQ(), ReleaseRP()]

    def test_a_refusal_before_the_last_fragment_ends_the_message_early(self) -> None:
        def script(raw: RawProvider) -> int:
            raw.accept()
            asked = raw.read_command()
            raw.send(faces.message(3, response(asked, 0xA700, error_comment="full")))
            received = 0
            while True:
                for pdv in raw.read().pdvs:
                    received += len(pdv.data)
                    if pdv.is_last:
                        echo = raw.read_command()
                        raw.send(faces.message(1, response(echo)))
                        raw.read()
                        raw.send(ReleaseRP())
                        return received

        with faces.raw_provider(script) as told:
            with self.connect(told.peer) as user:
                result = user.store(instance(50_000_000))
                assert result.status == 0xA700
                assert result.status.comment == "full"
                assert user.echo().is_success
            assert 0 < told() < 50_000_000


class ProviderSuite:
    """The provider's side: listeners of ``face``, and raw users."""

    face: str

    def provider(self, configure: Any = None, **options: Any) -> Any:
        return faces.provider(self.face, configure, **options)

    def test_silence_after_connecting(self) -> None:
        with self.provider(timeouts=dn.Timeouts(artim=QUICK)) as provider, provider.raw() as raw:
            assert raw.read_to_the_end() == []

    def test_half_a_header_and_silence(self) -> None:
        with self.provider(timeouts=dn.Timeouts(artim=QUICK)) as provider, provider.raw() as raw:
            raw.send(b"\x01\x00\x00")
            assert raw.read_to_the_end() == []

    def test_an_idle_association_is_aborted(self) -> None:
        with self.provider(timeouts=dn.Timeouts(idle=QUICK)) as provider, provider.raw() as raw:
            raw.associate()
            assert raw.read() == Abort(0, 0)

    def test_half_a_message_is_aborted(self) -> None:
        with self.provider(timeouts=dn.Timeouts(progress=QUICK)) as provider, provider.raw() as raw:
            raw.associate()
            raw.send(echo_request()[:20])
            assert raw.read() == Abort(0, 0)

    def test_what_is_not_dicom(self) -> None:
        with self.provider() as provider:
            with provider.raw() as raw:
                raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert raw.read() == Abort(0, 0)
            with provider.raw() as raw:
                raw.associate()
                raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert raw.read() == Abort(2, 1)
            assert still_serves(provider)

    def test_requests_without_waiting_are_answered_in_order(self) -> None:
        with self.provider() as provider, provider.raw() as raw:
            raw.associate()
            raw.send(*[echo_request(number) for number in range(1, 101)])
            answered = [raw.read_command().message_id_being_responded_to for _ in range(100)]
            assert answered == list(range(1, 101))

    def test_bytes_one_by_one(self) -> None:
        with self.provider() as provider, provider.raw() as raw:
            raw.associate()
            for byte in echo_request():
                raw.send(bytes([byte]))
            assert raw.read_command().status == 0

    @pytest.mark.parametrize("end", ["abort", "close", "reset"])
    def test_a_user_that_leaves_in_the_middle_of_a_message(self, end: str, tmp_path: Path) -> None:
        with self.provider(keeper(tmp_path, tmp_path)) as provider:
            with provider.raw() as raw:
                raw.associate()
                raw.send(store_request(bytes(500_000), last=False))
                if end == "abort":
                    raw.send(Abort(0, 0))
                    assert raw.read_to_the_end() == []
                elif end == "reset":
                    raw.reset()
            assert still_serves(provider)
        assert list(tmp_path.iterdir()) == []

    def test_an_unknown_command_is_answered(self) -> None:
        with self.provider() as provider, provider.raw() as raw:
            raw.associate()
            raw.send(echo_request().replace(b"\x30\x00", b"\x77\x00", 1))
            assert raw.read_command().status == 0x0211
            assert raw.echo(2).status == 0

    def test_a_user_that_reads_nothing_is_let_go(self) -> None:
        timeouts = dn.Timeouts(write=QUICK, artim=QUICK)
        with self.provider(timeouts=timeouts) as provider, provider.raw(receive_buffer=16384) as raw:
            raw.associate()
            requests = echo_request() * 2000
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                raw.send(*itertools.repeat(requests, 500))
            assert still_serves(provider)

    def test_release(self) -> None:
        with self.provider() as provider, provider.raw() as raw:
            raw.associate()
            raw.send(ReleaseRQ())
            assert raw.read() == ReleaseRP()

    def test_over_the_limit(self) -> None:
        with (
            self.provider(limits=dn.Limits(associations=2)) as provider,
            provider.raw() as first,
            provider.raw() as second,
            provider.raw() as third,
        ):
            first.associate()
            second.associate()
            assert third.associate() == AssociateRJ(2, 3, 2)
            assert first.echo().status == second.echo().status == 0

    def test_a_drip_of_bytes_ends_its_association(self) -> None:
        with self.provider(timeouts=dn.Timeouts(progress=QUICK)) as provider, provider.raw() as raw:
            raw.associate()
            raw.sock.settimeout(QUICK / 10)
            heard = b""
            for byte in store_request(bytes(1000)):
                raw.sock.sendall(bytes([byte]))
                with suppress(TimeoutError):
                    heard = raw.sock.recv(100)
                    break
            assert heard == Abort(0, 0).encode()

    def test_stopping_ends_idle_associations_soon_and_lets_the_others_end(self) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def wait(_: object) -> None:
            begun.set()
            go_on.wait(faces.PATIENCE)

        async def wait_elsewhere(_: object) -> None:
            await asyncio.to_thread(wait, _)

        def configure(scp: Any) -> None:
            scp.on_echo(wait if self.face == "sync" else wait_elsewhere)
            scp.on_store()(lambda request: None)

        serving = self.provider(configure, drain=600, timeouts=dn.Timeouts(quiet=QUICK))
        provider = serving.__enter__()
        stopping = threading.Thread(target=serving.__exit__, args=(None, None, None))
        with (
            provider.raw() as idle,
            provider.raw() as early,
            provider.raw() as busy,
            provider.raw() as halfway,
        ):
            for raw in (idle, busy, halfway):
                raw.associate()
            busy.send(echo_request())
            halfway.send(store_request(bytes(1000), last=False))
            assert begun.wait(faces.PATIENCE)
            stopping.start()
            assert idle.read_to_the_end() == [Abort(0, 0)]
            assert early.read_to_the_end() in ([], [Abort(0, 0)])
            go_on.set()
            assert busy.read_command().status == 0
            assert busy.read_to_the_end() == [Abort(0, 0)]
            halfway.send(PDataTF([PDV(3, bytes(2), False, True)]))
            assert halfway.read_command().status == 0
            assert halfway.read_to_the_end() == [Abort(0, 0)]
        stopping.join(faces.PATIENCE)
        assert not stopping.is_alive()

    def test_stopping_lets_associations_end(self) -> None:
        with self.provider(timeouts=dn.Timeouts(quiet=None)) as provider, provider.raw() as raw:
            raw.associate()
            provider.listener.stop()
            wait_for_refusal(provider.port)
            assert raw.echo().status == 0
            raw.send(ReleaseRQ())
            assert raw.read() == ReleaseRP()

    def test_stopping_ends_associations_that_do_not_end(self) -> None:
        with self.provider(drain=QUICK) as provider:
            raw = provider.raw()
            raw.associate()
            early = provider.raw()
        assert raw.read_to_the_end() in ([], [Abort(0, 0)])
        assert early.read_to_the_end() == []
        raw.sock.close()
        early.sock.close()

    def test_the_address_is_known_once_it_listens(self) -> None:
        listener = (dn.Listener if self.face == "sync" else dn.aio.Listener)(port=0)
        with pytest.raises(dn.LocalProtocolError):
            _ = listener.address
        with self.provider() as provider:
            host, port = provider.listener.address
            assert host == "127.0.0.1"
            assert port > 0

    def test_an_address_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(dn.ConnectionFailed, match="cannot listen") as caught, self.provider(port=port):
                pass
        assert caught.value.errno == errno.EADDRINUSE

    def test_ipv6(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
        seen = []
        with (
            self.provider(
                lambda scp: scp.on_echo(lambda request: seen.append(request.address)), host="::1"
            ) as provider,
            faces.USERS[self.face](f"[::1]:{provider.port}") as user,
        ):
            assert user.echo().is_success
        assert seen[0].startswith("[::1]:")


def accept(_: object) -> None:
    """Handle a request by doing nothing."""


def finder(count: int, closed: threading.Event | None = None) -> Any:
    """Configure a listener with so many studies of DOE."""

    def configure(scp: Any) -> None:
        @scp.on_find("STUDY_ROOT")
        def query(request: Any) -> Any:
            try:
                for number in range(count if "DOE" in str(request.identifier.PatientName) else 0):
                    yield codec.from_keywords({"StudyInstanceUID": f"1.2.{number}"})
            finally:
                if closed is not None:
                    closed.set()

    return configure


def keeper(store: Path, spool: Path) -> Any:
    """Configure a listener to keep files."""

    def configure(scp: Any) -> None:
        @scp.on_store(spool=spool)
        def keep(request: Any) -> None:
            request.file.commit(uid_path(store, request.sop_instance_uid))

    return configure


def write_part10(path: Path, source: Any) -> Path:
    """The instance as a Part 10 file."""
    from dicomnet.files.part10 import meta_header

    header = meta_header(source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid)
    path.write_bytes(header + data_of(source))
    return path


def still_serves(provider: Any) -> bool:
    """Whether it answers a C-ECHO."""
    with provider.raw() as raw:
        raw.associate()
        return bool(raw.echo().status == 0)


def wait_for_refusal(port: int) -> None:
    """Return once nobody listens there any more."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass  # it came too late to be accepted, and too early to be refused
