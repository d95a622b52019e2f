"""`PatientUpdateScu` and ``dicomnet patient``: who a patient is, told to an archive, and what others find then."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import archives
import pytest
from programs import run_here
from rig import until

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.hl7_message import Message
from dicomnet.archive.mllp import MllpServer
from dicomnet.client import PatientUpdateScu
from dicomnet.client.aio import PatientUpdateScu as AsyncPatientUpdateScu
from dicomnet.client.hl7 import Hl7Refused, PatientId, adt, exchange
from dicomnet.net.mllp import MllpReader, framed
from dicomnet.net.tls import TLS
from dicomnet.repository.deferred import Deferred


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path, archives.make(tmp_path, hl7_port=0)) as archive:
        files = [archives.part10(1, study=study, PatientName=f"Name^{study}") for study in (1, 2)]
        archives.store(archive.holdings, files)
        yield archive


@pytest.fixture
def scu(archive):
    return PatientUpdateScu(address_of(archive))


def address_of(archive) -> str:
    return f"127.0.0.1:{archive.hl7.server.address[1]}"


def found(archive, **keys) -> dict[str, tuple[str, str, str, str]]:
    """By study: the patient's ID, name, birth date and sex, as C-FIND says."""
    wanted = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
    with dn.connect(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}", contexts=dn.contexts.query_retrieve()) as link:
        matches = link.find("STUDY", StudyInstanceUID=None, **(dict.fromkeys(wanted) | keys))
        return {
            match.dataset.StudyInstanceUID: tuple(str(match.dataset.get(one) or "") for one in wanted)
            for match in matches
        }


def test_a_patient_is_corrected(archive, scu):
    scu.update("P1", name="Müller^Jörg^^Dr", birth_date="19700131", sex="M")
    assert found(archive) == {
        "1.2.1": ("P1", "Müller^Jörg^^Dr", "19700131", "M"), "1.2.2": ("P2", "Name^2", "19700102", "F"),
    }  # fmt: skip
    scu.update("P1", sex="O")
    assert found(archive, PatientID="P1") == {"1.2.1": ("P1", "Müller^Jörg^^Dr", "19700131", "O")}
    scu.update("NOBODY", name="Nobody")  # whom the archive does not know
    assert len(found(archive)) == 2


def test_two_are_merged_and_taken_apart_again(archive, scu):
    scu.merge("P1", "P2")
    scu.merge("P1", "P2")  # again, after an answer that was lost
    assert {one[0] for one in found(archive).values()} == {"P2"}
    assert list(found(archive, PatientID="P2")) == ["1.2.1", "1.2.2"]
    archives.store(archive.holdings, [archives.part10(1, study=3, PatientID="P1", PatientName="Name^1")])
    assert found(archive)["1.2.3"][0] == "P2"  # what comes under the old ID
    scu.unmerge("P1", "P2")
    scu.unmerge("P1", "P2")
    assert {study: one[0] for study, one in found(archive).items()} == {"1.2.1": "P1", "1.2.2": "P2", "1.2.3": "P1"}


def test_a_patient_gets_another_id(archive, scu):
    scu.change_id("P1", ("P9", "HOSP"))
    scu.change_id("P1", ("P9", "HOSP"))
    assert found(archive)["1.2.1"][0] == "P9"
    archives.store(archive.holdings, [archives.part10(2, study=1, PatientName="Name^1")])
    assert found(archive)["1.2.1"][0] == "P9"


@pytest.mark.parametrize("do", [
    lambda scu: scu.merge("P1", "P1"), lambda scu: scu.change_id("P1", "P2"),
    lambda scu: scu.update("P1", birth_date="31.1.70"),
])  # fmt: skip
def test_what_contradicts_itself_changes_nothing(archive, scu, do):
    before = found(archive)
    with pytest.raises(Hl7Refused) as caught:
        do(scu)
    assert (caught.value.code, len(str(caught.value).splitlines())) == ("AE", 1)
    assert found(archive) == before


def test_what_is_no_patient_is_not_sent(scu):
    for wrong in ("", " ", ("", "HOSP")):
        with pytest.raises(dn.InvalidArgument):
            scu.update(wrong, name="x")


def test_what_could_be_taken_for_separators_is_escaped():
    message = adt("A40", PatientId("P|1", "A^B"), prior=PatientId("P&2"), values={"PatientName": "O~Neil\\^Ann"})
    from dicomnet.archive.hl7_orders import patient_of

    read = Message.decode(message)
    assert patient_of(read) == {"PatientID": "P|1", "IssuerOfPatientID": "A^B", "PatientName": "O~Neil\\^Ann"}
    assert read.first("MRG").get(1) == "P&2"


class Other:
    """Another system that takes HL7; what it is told waits while it is away."""

    def __init__(self):
        self.told, self.answers = [], []
        self.news = threading.Condition()

    def take(self, data):
        message = Message.decode(data)
        answer = Deferred()
        with self.news:
            code = self.answers.pop(0) if self.answers else "AA"
            self.told.append((message.type, message.first("PID").get(5), data))
            self.news.notify_all()
        answer.set_result(f"MSH|^~\\&|\rMSA|{code}|{message.control_id}\r".encode())
        return answer

    def wait_for(self, count):
        with self.news:
            assert self.news.wait_for(lambda: len(self.told) >= count, 30)
        return [kind for kind, *_ in self.told]


def test_what_changed_is_passed_on_as_it_came_and_over_a_restart(tmp_path):
    other = Other()
    with MllpServer(other.take, port=0) as away:
        port = away.address[1]
    settings = archives.make(tmp_path, hl7_port=0, patients_to=(f"127.0.0.1:{port}",))
    with Archive(tmp_path, settings) as archive:
        scu = PatientUpdateScu(address_of(archive))
        scu.update("P1", name="Müller^Jörg")
        scu.merge("P1", "P2")
        with pytest.raises(Hl7Refused):
            scu.merge("P2", "P2")  # which is not passed on
        assert sum(one.items for one in archive.holdings.outbox.counts() if one.queue == "patient") == 2
    with MllpServer(other.take, port=port), Archive(tmp_path, settings) as archive:
        archive.holdings.outbox.retry(queue="patient")
        archive.hl7.forwarder.wake()
        assert sorted(other.wait_for(2)) == ["ADT^A08", "ADT^A40"]
        PatientUpdateScu(address_of(archive)).update("P1", sex="F")
        assert other.wait_for(3)[2] == "ADT^A08"
    assert "Müller" in {name for _, name, _ in other.told}


def test_by_asyncio(archive):
    asyncio.run(AsyncPatientUpdateScu(address_of(archive)).update("P1", name="Other^Name"))
    assert found(archive)["1.2.1"][1] == "Other^Name"


def test_by_asyncio_two_are_merged_and_taken_apart_again(archive):
    async def work():
        scu = AsyncPatientUpdateScu(address_of(archive))
        await scu.merge("P1", "P2")
        merged = {one[0] for one in found(archive).values()}
        await scu.unmerge("P1", "P2")
        await scu.change_id("P1", "P9")
        return merged

    assert asyncio.run(work()) == {"P2"}
    assert {study: one[0] for study, one in found(archive).items()} == {"1.2.1": "P9", "1.2.2": "P2"}


@pytest.mark.parametrize("answer", [b"", b"MSH|^~\\&|\rMSA|AA|other\r", b"HTTP/1.1 400"])
def test_an_answer_that_is_none(answer):
    """A receiver that hangs up, answers another message, or speaks something else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            link, _ = listening.accept()
            with link:
                reader = MllpReader()
                while not list(reader.feed(link.recv(65536))):
                    pass
                link.sendall(framed(answer) if b"MSA" in answer else answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(dn.RemoteProtocolError):
            PatientUpdateScu(f"127.0.0.1:{listening.getsockname()[1]}").update("P1", name="x")
        serving.join()


def test_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(dn.ConnectionFailed):
        PatientUpdateScu(f"127.0.0.1:{port}").update("P1", name="x")


def test_the_command(archive):
    where = address_of(archive)
    for arguments in (
        ("update", where, "P1", "--name", "New^Name"), ("merge", where, "P1", "P2"), ("unmerge", where, "P1", "P2"),
        ("rename", where, "P1", "P7^^^HOSP"),
    ):  # fmt: skip
        done = run_here("patient", *arguments)
        assert done.returncode == 0, done.stderr
    assert found(archive)["1.2.1"][:2] == ("P7", "New^Name")
    refused = run_here("patient", "merge", where, "P2", "P2")
    assert (refused.returncode != 0, len(refused.stderr.splitlines())) == (True, 1)
    assert "same patient" in refused.stderr
    assert run_here("patient", "update", where, "P1").returncode == 2


@contextmanager
def receiver(serve):
    """A socket that accepts one connection, which a function has in a thread of its own; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def accepted() -> None:
            with server.accept()[0] as link, suppress(OSError):
                serve(link)

        serving = pool.submit(accepted)
        yield server.getsockname()[1]
        serving.result(30)


def test_a_receiver_that_sends_a_byte_now_and_then_is_not_waited_for():
    def drip(link: socket.socket) -> None:
        link.settimeout(0.02)
        while True:  # until the sender is gone
            link.sendall(b".")
            with suppress(TimeoutError):
                if not link.recv(1 << 16):
                    return

    with receiver(drip) as port, pytest.raises(dn.DeadlineExceeded, match="acknowledgement"):
        exchange(dn.Entity.parse(f"127.0.0.1:{port}"), b"MSH|", None, 0.3)


def test_tls_with_a_receiver_that_has_none_fails_as_such():
    with (
        receiver(lambda link: link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port,
        pytest.raises(dn.TLSFailed, match="TLS with the receiver failed"),
    ):
        exchange(dn.Entity.parse(f"127.0.0.1:{port}"), b"MSH|", TLS(), 10)


@pytest.mark.parametrize(("code", "state"), [("AE", "waiting"), ("AR", "parked")])
def test_what_the_other_system_refuses_is_said_and_tried_again_or_parked(tmp_path, caplog, code, state):
    other = Other()
    other.answers = [code]
    with MllpServer(other.take, port=0) as there:
        settings = archives.make(tmp_path, hl7_port=0, patients_to=(f"127.0.0.1:{there.address[1]}",))
        with Archive(tmp_path, settings) as archive:
            PatientUpdateScu(address_of(archive)).update("P1", name="Other^Name")
            other.wait_for(1)
            until(lambda: archive.holdings.outbox.items()[0].error)
            (item,) = archive.holdings.outbox.items()
            assert (item.state, item.attempts) == (state, 1)
            assert f"refuses a change of a patient: {code}" in caplog.text
            archive.holdings.outbox.retry(queue="patient")
            archive.hl7.forwarder.wake()
            other.wait_for(2)
            until(lambda: not archive.holdings.outbox.items())
