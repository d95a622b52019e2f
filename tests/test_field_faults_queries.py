"""Faults of queries and retrieves that were found in the field: the row of the list is in each test's name."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import clients
import faces
import peers
import pydicom
import pynetdicom
import pytest
from faces import CT
from programs import run_here
from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import AssociateRQ, PresentationContextRQ
from dicomnet.client.callback_rules import CallbackRule, addresses_of
from dicomnet.dataset import codec
from dicomnet.errors import ServiceFailure
from dicomnet.protocol.admission import CallingTitles
from dicomnet.protocol.negotiation import Caller

STUDY = {"StudyInstanceUID": "1.2"}


@pytest.fixture(params=clients.FACES)
def made(request: Any) -> Iterator[clients.Clients]:
    face = clients.Clients(request.param)
    yield face
    face.close()


def address(listener: dn.Listener) -> str:
    return f"PACS@127.0.0.1:{listener.address[1]}"


def of_study(uid: str, study: str) -> Any:
    """An instance of a study."""
    values = {"SOPClassUID": CT, "SOPInstanceUID": uid, "StudyInstanceUID": study}
    return faces.BytesSource(codec.encode(values, uids.EXPLICIT_VR_LITTLE_ENDIAN), uids.EXPLICIT_VR_LITTLE_ENDIAN)


# ---- S8 --------------------------------------------------------------------------------------------------------------


def test_s8_what_was_not_asked_for_is_kept_and_named(made: clients.Clients, tmp_path: Path) -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_get("STUDY_ROOT")(lambda _: [of_study("2.25.1", "1.2"), of_study("2.25.2", "1.3")])
    with archive:
        with made.make("QueryRetrieveScu", address(archive)) as scu:
            done = scu.retrieve("STUDY", to=tmp_path, **STUDY)
        with faces.USERS[made.face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
            direct = user.get("STUDY", to=tmp_path, **STUDY)
    assert (done.unasked, done.missing, direct.unasked) == (["2.25.2"], 0, ("2.25.2",))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["2.25.1.dcm", "2.25.2.dcm"]


def test_s8_the_command_names_what_was_not_asked_for(tmp_path: Path) -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_get("STUDY_ROOT")(lambda _: [of_study("2.25.1", "1.2"), of_study("2.25.2", "1.3")])
    with archive:
        done = run_here("get", address(archive), "STUDY", "-k", "StudyInstanceUID=1.2", "--out", tmp_path)
    assert "warning: not asked for, and kept: 2.25.2" in done.stderr
    assert done.returncode == 0


# ---- N09 -------------------------------------------------------------------------------------------------------------

MANY = [f"1.2.826.0.1.3680043.8.498.12345678901234567890123456.1{number:05}" for number in range(1500)]


@pytest.mark.parametrize("syntax", [uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN])
def test_n09_a_list_of_uids_past_64_kib_is_one(syntax: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = codec.encode({"StudyInstanceUID": MANY, "QueryRetrieveLevel": "STUDY"}, syntax)
    assert b"UN\0\0" in data
    assert list(codec.decode(data, syntax).StudyInstanceUID) == MANY


def test_n09_numbers_and_sequences_past_64_kib_are_what_they_were() -> None:

    dataset = pydicom.Dataset()
    dataset.PixelAspectRatio = [str(number) for number in range(20_000)]
    dataset.ReferencedFrameNumbers = list(range(20_000))
    for syntax in (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN):
        found = codec.decode(codec.encode(dataset, syntax), syntax)
        assert list(found.PixelAspectRatio) == list(range(20_000))
        assert list(found.ReferencedFrameNumbers) == list(range(20_000))


def test_n09_a_handler_and_failed_uids_have_them_all(made: clients.Clients) -> None:
    asked: list[Any] = []
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda request: asked.append(list(request.identifier.StudyInstanceUID)) or [])
    archive.on_get("STUDY_ROOT")(lambda _: [faces.instance(10, uid=uid) for uid in MANY])
    with archive, faces.USERS[made.face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        assert user.find("STUDY", StudyInstanceUID=MANY) == []
        done = user.get("STUDY", to=lambda request: 0xA700 if request.sop_instance_uid != MANY[0] else 0, **STUDY)
    assert asked == [MANY]
    assert done.failed_uids == MANY[1:]


# ---- N14 -------------------------------------------------------------------------------------------------------------


def stores_as(title: str, where: int) -> dn.Listener:
    """An archive that performs a C-MOVE under this calling title."""
    archive = dn.Listener("PACS", port=0, destinations={"WS1": dn.Entity("WS1", "127.0.0.1", where)})

    @archive.on_move("STUDY_ROOT")
    def move(_: dn.MoveRequest) -> int:
        try:
            with dn.connect(f"WS1@127.0.0.1:{where}", calling=title, contexts=dn.contexts.storage([CT])) as to:
                to.store(of_study("2.25.1", "1.2"))
        except dn.AssociationRejected:
            return 0xA702
        return 0

    return archive


@pytest.mark.parametrize("known", [False, True])
def test_n14_another_calling_title_is_named_and_let_in_by_from(tmp_path: Path, known: bool) -> None:
    ours = peers.free_port()
    with stores_as("PACS_OUT", ours) as archive:
        command = ("retrieve", address(archive), "STUDY", "-k", "StudyInstanceUID=1.2", "--by", "move", "--aet", "WS1")
        more = ("--from", "PACS_OUT") if known else ()
        done = run_here(*command, "--listen", f"127.0.0.1:{ours}", "--out", tmp_path, *more)
    told = [line for line in done.stderr.splitlines() if "PACS_OUT" in line]
    assert len(list(tmp_path.iterdir())) == known
    if known:
        assert (done.returncode, told) == (0, [])
    else:
        assert done.returncode == 69
        assert len(told) == 1
        assert "was refused: it is not PACS." in told[0]
        assert "--from PACS_OUT" in told[0]


# ---- S15 -------------------------------------------------------------------------------------------------------------

ELSEWHERE = frozenset({ip_address("192.0.2.7")})


@pytest.mark.parametrize("named", [False, True])
def test_s15_the_peers_title_from_another_host_is_refused(
    made: clients.Clients, tmp_path: Path, named: bool, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    for face in faces.FACES:
        monkeypatch.setattr(f"dicomnet.client.{face}.retrieve_receiver.addresses_of", lambda _: ELSEWHERE)
    ours = peers.free_port()
    options: dict[str, Any] = {"senders": ["PACS"]} if named else {}
    with (
        stores_as("PACS", ours) as archive,
        made.make("QueryRetrieveScu", address(archive), calling="WS1", listen=f"127.0.0.1:{ours}", **options) as scu,
        nullcontext() if named else pytest.raises(ServiceFailure),  # the archive tells how its user fared
    ):
        scu.retrieve("STUDY", to=tmp_path, by="move", **STUDY)
    told = [record.getMessage() for record in caplog.records if "none of the addresses" in record.getMessage()]
    assert len(list(tmp_path.iterdir())) == named
    assert len(told) == (not named)
    assert named or ("PACS called from 127.0.0.1:" in told[0] and "192.0.2.7" in told[0] and "--from PACS" in told[0])


def sends_for(originator: str | None, where: int) -> dn.Listener:
    """An archive that performs a C-MOVE by pynetdicom, and names this originator."""
    archive = dn.Listener("PACS", port=0, destinations={"WS1": dn.Entity("WS1", "127.0.0.1", where)})

    @archive.on_move("STUDY_ROOT")
    def move(_: dn.MoveRequest) -> int:
        user = pynetdicom.AE("PACS")
        user.add_requested_context(CT)
        association = user.associate("127.0.0.1", where, ae_title="WS1")
        dataset = pydicom.dcmread(examples.get_path("ct"))
        dataset.StudyInstanceUID = "1.2"
        status = association.send_c_store(dataset, originator_aet=originator, originator_id=originator and 1)
        association.release()
        return int(status.Status)

    return archive


@pytest.mark.parametrize(
    ("originator", "options", "kept"),
    [(None, {}, 1), ("WS1", {}, 1), ("WS2", {}, 0), ("WS2", {"senders": ["PACS"]}, 1)],
)
def test_s15_what_is_sent_for_the_move_of_another_is_not_kept(
    made: clients.Clients, tmp_path: Path, originator: str | None, options: dict[str, Any], kept: int, caplog: Any
) -> None:
    ours = peers.free_port()
    with (
        sends_for(originator, ours) as archive,
        made.make("QueryRetrieveScu", address(archive), calling="WS1", listen=f"127.0.0.1:{ours}", **options) as scu,
        nullcontext() if kept else pytest.raises(ServiceFailure),
    ):
        scu.retrieve("STUDY", to=tmp_path, by="move", **STUDY)
    told = [record.getMessage() for record in caplog.records if "C-MOVE of WS2" in record.getMessage()]
    assert len(list(tmp_path.iterdir())) == kept
    assert len(told) == (not kept)


def test_s15_a_host_is_known_by_all_its_addresses() -> None:
    rule = CallbackRule(CallingTitles(frozenset({"PACS"})), "PACS", [])
    asked = AssociateRQ("WS1", "PACS", (PresentationContextRQ(1, CT, (uids.IMPLICIT_VR_LITTLE_ENDIAN,)),), ())

    def lets_in(*known: str, caller: str) -> bool:
        rule.expect_from([ip_address(one) for one in known])
        return rule.evaluate(asked, Caller(address=caller)) is None

    assert lets_in("192.0.2.7", "2001:db8::7", caller="192.0.2.7:50000")
    assert lets_in("192.0.2.7", caller="[::ffff:192.0.2.7]:50000")
    assert lets_in("192.0.2.7", "2001:db8::7", caller="[2001:db8::7]:50000")
    assert not lets_in("192.0.2.7", caller="192.0.2.70:50000")
    assert not lets_in("192.0.2.7", caller="127.0.0.1:50000")
    assert not lets_in("127.0.0.1", caller="192.0.2.7:50000")
    assert lets_in("127.0.0.1", caller="127.0.0.2:50000")  # both are this host
    assert lets_in(caller="192.0.2.70:50000")  # the peer's are not known
    assert addresses_of("no-such-host.invalid") == frozenset()
    assert ip_address("127.0.0.1") in addresses_of("localhost")


# ---- N16 -------------------------------------------------------------------------------------------------------------


def test_n16_what_a_handler_yields_goes_out_while_it_runs(made: clients.Clients) -> None:
    arrived, steps = threading.Semaphore(0), []
    archive = dn.Listener("PACS", port=0)
    archive.pending_every = 0

    @archive.on_get("STUDY_ROOT")
    def give(_: dn.GetRequest) -> Iterator[Any]:
        for number in range(5):
            yield faces.instance(10, uid=f"2.25.{number + 1}")
            assert arrived.acquire(timeout=faces.PATIENCE)  # it has arrived before the next is made

    with archive, faces.USERS[made.face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        done = user.get("STUDY", to=lambda _: arrived.release(), progress=steps.append, **STUDY)
    assert (done.completed, done.failed) == (5, 0)
    assert [(step.completed, step.remaining) for step in steps] == [(1, 1), (2, 1), (3, 1), (4, 1)]  # one at least


def test_n16_a_handler_that_fails_half_way_says_what_was_sent(made: clients.Clients) -> None:
    archive = dn.Listener("PACS", port=0)

    @archive.on_get("STUDY_ROOT")
    def give(_: dn.GetRequest) -> Iterator[Any]:
        yield faces.instance(10)
        raise LookupError

    with archive, faces.USERS[made.face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        done = user.get("STUDY", to=lambda _: None, **STUDY)
    assert (done.completed, done.kept, done.ok, done.status) == (1, 1, False, 0x0110)


def test_n16_a_slow_plan_of_a_move_keeps_the_peer_informed(made: clients.Clients) -> None:
    told = threading.Semaphore(0)
    came: list[str] = []
    there = dn.Listener("THERE", port=0)
    there.on_store()(lambda request: came.append(request.sop_instance_uid))
    with there:
        known = {"THERE": dn.Entity("THERE", "127.0.0.1", there.address[1])}
        archive = dn.Listener("PACS", port=0, destinations=known)
        archive.pending_every = 0

        @archive.on_move("STUDY_ROOT")
        def give(_: dn.MoveRequest) -> Iterator[Any]:
            for number in range(4):
                yield faces.instance(10, uid=f"2.25.{number + 1}")
                assert number < 1 or told.acquire(timeout=faces.PATIENCE)

        with archive, faces.USERS[made.face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
            progress = lambda _: told.release()  # noqa: E731
            done = user.move("STUDY", destination="THERE", progress=progress, **STUDY)
    assert (done.completed, came) == (4, [f"2.25.{number}" for number in range(1, 5)])


# ---- N17, N18 --------------------------------------------------------------------------------------------------------


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) & 1)
    return group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value


GREEK = element(0x10, 0x10, b"PN", "Παπαδόπουλος".encode("iso-8859-7"))


@pytest.mark.parametrize(
    ("answer", "profile", "told"),
    [
        (GREEK, {}, 1),
        (element(8, 5, b"CS", b"ISO_IR 126") + GREEK, {}, 0),
        (GREEK, {"character_set": "ISO_IR 126"}, 0),
        (element(0x10, 0x10, b"PN", b"DOE") + element(0x28, 0x10, b"US", b"\xc0\xc1"), {}, 0),
    ],
)
def test_n17_a_character_set_that_is_not_named_is_told_once(
    made: clients.Clients, caplog: Any, answer: bytes, profile: dict[str, str], told: int
) -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda _: [answer] * 3)
    with archive:
        entity = dn.Entity("PACS", "127.0.0.1", archive.address[1])
        with made.make("QueryRetrieveScu", dn.Peer(entity, **profile)) as scu:
            assert len(list(scu.studies())) == 3
    said = [record.getMessage() for record in caplog.records if "name no character set" in record.getMessage()]
    assert len(said) == told
    assert all("-k SpecificCharacterSet" in line and "peers.toml" in line for line in said)


@pytest.mark.parametrize("face", clients.FACES)
def test_n18_private_keys_go_by_tag_with_their_creator(face: str) -> None:
    asked: list[Any] = []
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda request: asked.append(request.identifier) or [])
    keys = {"7777,1037": "SRC*", "7777,0010": "ACME", "0019,0010": "GEMS_ACQU_01", "0019,1002": "912"}
    with archive, faces.USERS[face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        user.find("STUDY", **keys)
        with pytest.raises(dn.InvalidArgument, match="Give 7777,0010=CREATOR"):
            user.find("STUDY", **{"7777,1037": "SRC*"})
    (found,) = asked
    assert found.private_block(0x7777, "ACME")[0x37].value == "SRC*"
    assert (found[0x00190010].value, found[0x00191002].VR) == ("GEMS_ACQU_01", "SL")


def test_n18_the_command_asks_by_private_keys_and_shows_them() -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda request: [request.identifier])
    with archive:
        done = run_here("find", address(archive), "STUDY", "-k", "7777,0010=ACME", "-k", "(7777,1037)=SRC", "--csv")
        wrong = run_here("find", address(archive), "STUDY", "-k", "7777,1037=SRC")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['StudyInstanceUID,"7777,0010","7777,1037"', ",ACME,SRC"]
    assert (wrong.returncode, "its creator is not given" in wrong.stderr) == (2, True)


# ---- I4 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [uids.JPEG_LOSSLESS_SV1, uids.JPEG2000_LOSSLESS, uids.EXPLICIT_VR_LITTLE_ENDIAN])
def test_i4_a_get_is_accepted_in_what_can_be_sent(made: clients.Clients, first: str) -> None:
    """DCMTK's getscu offers a compressed transfer syntax before the one that the instance has."""
    others = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.JPEG_LOSSLESS_SV1)
    archive = dn.Listener("PACS", port=0)
    archive.on_get("STUDY_ROOT")(lambda _: [str(examples.get_path("ct"))])
    contexts = dn.contexts.query_retrieve([CT], list(dict.fromkeys((first, *others))))
    with archive, faces.USERS[made.face](address(archive), contexts=contexts) as user:
        assert user.get("STUDY", to=lambda _: None, **STUDY).completed == 1
