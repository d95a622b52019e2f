"""Faults that a new user met: the row of the list is in each test's name."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clients
import faces
import pydicom
import pytest
from faces import CT
from programs import provider, run, run_here
from pydicom import examples

import dicomnet as dn
from dicomnet import uids
from dicomnet.cli.layout import Layout
from dicomnet.dataset import codec

LITTLE = uids.EXPLICIT_VR_LITTLE_ENDIAN
CT_FILE = str(examples.get_path("ct"))


@pytest.fixture(params=clients.FACES)
def made(request: Any) -> Iterator[clients.Clients]:
    face = clients.Clients(request.param)
    yield face
    face.close()


def address(listener: dn.Listener) -> str:
    return f"PACS@127.0.0.1:{listener.address[1]}"


# ---- I6, I7 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "taken"),
    [(b"WS1".ljust(16, b"\0"), True), (b"WS1  ".ljust(16, b"\0"), True), (b"WS1\0junk".ljust(16, b"\0"), False)],
)
def test_i6_titles_that_are_padded_with_nuls_are_taken(title: bytes, taken: bool) -> None:
    listener = dn.Listener("PACS", port=0)
    request = bytearray(faces.RawUser.REQUEST.encode())
    request[10:26], request[26:42] = b"PACS".ljust(16, b"\0"), title
    with listener, socket.create_connection(listener.address, timeout=faces.PATIENCE) as raw:
        raw.sendall(request)
        assert raw.recv(1) == (b"\2" if taken else b"\3")


@pytest.mark.parametrize("face", clients.FACES)
def test_i7_a_group_that_is_no_data_is_left_out_of_an_answer(face: str, caplog: Any) -> None:
    codec._tell_left_out.cache_clear()
    dataset = pydicom.Dataset()
    dataset.add_new(0x00000110, "US", 1)
    dataset.PatientID = "1"
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda _: [dataset, dataset])
    with archive, faces.USERS[face](address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        assert [match.PatientID for match in user.find("STUDY")] == ["1", "1"]
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        "(0000,0110) belongs to a command or to file meta information: it is left out of what a handler answers"
    ]


# ---- U5, U6 ----------------------------------------------------------------------------------------------------------


def test_u5_one_text_where_several_are_wanted_is_one() -> None:
    assert dn.contexts.storage(CT) == dn.contexts.storage([CT])
    assert dn.contexts.storage([CT], LITTLE) == dn.contexts.storage([CT], [LITTLE])
    assert dn.contexts.for_files(CT_FILE) == dn.contexts.for_files([CT_FILE])
    archive = dn.Listener("PACS", port=0)
    archive.on_store(CT, transfer_syntaxes=LITTLE)(lambda _: None)
    archive.on_find("STUDY_ROOT")(lambda request: [request.identifier])
    contexts = [*dn.contexts.query_retrieve([CT]), dn.ProposedContext(CT, LITTLE)]  # type: ignore[arg-type]
    with archive, dn.connect(address(archive), contexts=contexts) as user:
        assert user.store(CT_FILE).ok
        (match,) = user.find("STUDY", returning="PatientName")
        assert "PatientName" in match


def test_u5_senders_and_syntaxes_of_a_component_may_be_one(made: clients.Clients) -> None:
    with made.make("QueryRetrieveScu", "PACS@127.0.0.1:1", senders="OTHER", transfer_syntaxes=LITTLE) as scu:
        assert (scu.senders, scu.transfer_syntaxes) == ({"OTHER"}, (LITTLE,))


@pytest.mark.parametrize("written", ["bare", "empty", "named"])
def test_u6_decorators_with_and_without_parentheses(written: str) -> None:
    archive = dn.Listener("PACS", port=0)
    models = ("STUDY_ROOT", "PATIENT_ROOT") if written == "named" else ()

    def find(_: dn.FindRequest) -> list[dict[str, str]]:
        return [{"PatientID": "1"}]

    def give(_: dn.FindRequest) -> list[Any]:
        return []

    for decorator, function in ((archive.on_find, find), (archive.on_get, give), (archive.on_move, give)):
        decorated = decorator(function) if written == "bare" else decorator(*models)(function)  # type: ignore[arg-type]
        assert decorated is function
    with archive, dn.connect(address(archive), contexts=dn.contexts.query_retrieve([CT])) as user:
        assert [match.PatientID for match in user.find("STUDY")] == ["1"]
        assert user.get("STUDY", StudyInstanceUID="1.2", to=lambda _: None).ok


@pytest.mark.parametrize(
    "name", ["on_n_get", "on_n_set", "on_n_action", "on_n_create", "on_n_delete", "on_event_report"]
)
def test_u6_a_handler_for_no_class_is_refused(name: str) -> None:
    decorator = getattr(dn.Listener("PACS", port=0), name)
    for arguments in ((), (lambda _: None,)):
        with pytest.raises(dn.InvalidArgument, match=r"Name them in parentheses"):
            decorator(*arguments)


# ---- recv --layout ---------------------------------------------------------------------------------------------------


def test_recv_names_files_by_a_layout(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(CT_FILE)
    dataset.PatientID = "../../x/Ü"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.save_as(tmp_path / "one.dcm")
    out = tmp_path / "out"
    with provider("--out", out, "--layout", "{patient}/{modality}-{date}/{study}/{calling}-{uid}.dcm") as there:
        done = run_here("store", f"X@{there.address}", tmp_path / "one.dcm", "--aet", "CT1")
        assert done.returncode == 0, done.stderr
    (found,) = [path.relative_to(out) for path in out.rglob("*") if path.is_file()]
    day, study, uid = dataset.StudyDate, dataset.StudyInstanceUID, dataset.SOPInstanceUID
    assert str(found) == f"_.._x_Ü/CT-{day}/{study}/CT1-{uid}.dcm"


@pytest.mark.parametrize(
    ("template", "said"),
    [("{study}.dcm", "the same name"), ("../{uid}", "no relative path"), ("/{uid}", "no relative path"),
     ("{name}/{uid}", "no place"), ("{study/{uid}", "no place"), ("a//{uid}", "no relative path")],
)  # fmt: skip
def test_a_layout_that_makes_no_sense_is_refused(template: str, said: str) -> None:
    with pytest.raises(dn.InvalidArgument, match=said):
        Layout(template)


# ---- U8, U9, U12 -----------------------------------------------------------------------------------------------------


def test_u8_what_was_not_proposed_was_not_declined(made: clients.Clients) -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_store()(lambda _: None)
    archive.on_find("STUDY_ROOT")(lambda _: [])
    with archive, faces.USERS[made.face](address(archive), contexts=dn.contexts.verification()) as user:
        with pytest.raises(dn.NoAcceptedContext, match="FIND was not proposed on this association"):
            user.find("STUDY")
        with pytest.raises(dn.NoAcceptedContext, match="CT Image Storage was not proposed on this association"):
            user.store(CT_FILE)


def test_u9_a_key_of_the_step_beside_it_is_warned_of() -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_find("WORKLIST")(lambda _: [])
    with archive:
        done = run_here("find", address(archive), "--model", "worklist", "-k", "Modality=CT", "-k", "PatientID=1")
    assert done.stderr.count("-k ScheduledProcedureStepSequence.Modality=…") == 1
    assert "PatientID" not in done.stderr


@pytest.mark.parametrize("root", ["-S", "-P", "-W"])
def test_u12_find_as_dcmtk_spells_it(root: str) -> None:
    asked: list[Any] = []
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT", "PATIENT_ROOT", "WORKLIST")(
        lambda request: asked.append((request.sop_class_uid, request.level)) or []
    )
    level = [] if root == "-W" else ["-k", "QueryRetrieveLevel=STUDY"]
    with archive:
        done = run_here("find", address(archive), root, *level, "-k", "PatientID=1")
    assert done.returncode == 0, done.stderr
    ((model, asked_at),) = asked
    wanted = {"-S": "STUDY_ROOT", "-P": "PATIENT_ROOT", "-W": "MODALITY_WORKLIST"}[root]
    assert wanted in next(name for name, uid in vars(uids).items() if uid == model)
    assert asked_at == ("" if root == "-W" else "STUDY")


# ---- S16 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "told"), [(0o644, True), (0o600, False)])
def test_s16_passwords_that_others_may_read_are_warned_of(tmp_path: Path, mode: int, told: bool) -> None:
    path = tmp_path / "peers.toml"
    path.write_text('[pacs]\naddress = "A@127.0.0.1:1"\nidentity = {name = "jane", passcode = "secret"}\n')
    path.chmod(mode)
    done = run("peers", env={**os.environ, "DICOMNET_PEERS": str(path)})
    assert done.returncode == 0, done.stderr
    assert ("chmod 600" in done.stderr) is told
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("face", clients.FACES)
def test_s16_a_disk_that_fails_is_out_of_resources(face: str, code: int) -> None:
    def fail(_: dn.StoreRequest) -> None:
        raise OSError(code, os.strerror(code))

    contexts = dn.contexts.for_files([CT_FILE])
    with faces.provider(face, lambda listener: listener.on_store()(fail)) as serving:
        user = dn.connect(serving.peer(), contexts=contexts)
        assert user.store(CT_FILE).status == 0xA700
        user.release()


def test_s16_what_a_killed_receiver_left_is_swept(tmp_path: Path) -> None:
    for name, age in ((".1f-3.part", 7200), (".1f-4.part", 60), ("1.2.3.part", 7200), (".keep", 7200)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with provider("--out", tmp_path) as there:
        assert there.errors == "warning: .1f-3.part: deleted, a program that was killed left it\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == [".1f-4.part", ".keep", "1.2.3.part"]


def test_s16_what_pydicom_warns_of_is_not_shown(tmp_path: Path) -> None:
    archive = dn.Listener("PACS", port=0)
    archive.on_find("STUDY_ROOT")(lambda _: [b"\x10\0\x30\0DA\x08\0DOE^JOHN"])
    with archive:
        done = run_here("find", address(archive), "STUDY", "-k", "PatientBirthDate")
    assert done.returncode == 0
    assert "DOE^JOHN" in done.stdout
    assert done.stderr == ""


def test_s16_what_a_terminal_would_obey_is_escaped() -> None:
    archive = dn.Listener("PACS", port=0)
    text = "A\x9b31mB\u202eC\x1b[0m"
    archive.on_find("STUDY_ROOT")(lambda _: [{"PatientName": text, "SpecificCharacterSet": "ISO_IR 192"}])
    with archive:
        done = run_here("find", address(archive), "STUDY", "-k", "PatientName")
    assert not set(done.stdout) & set("\x9b\u202e\x1b")
    assert "\\x9b" in done.stdout


# ---- N19 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", clients.FACES)
def test_n19_no_host_is_every_address_of_either_family(face: str) -> None:
    with faces.provider(face, lambda listener: listener.on_echo(lambda _: None), host="") as serving:
        for caller in ("127.0.0.1", "[::1]"):
            with dn.connect(f"P@{caller}:{serving.port}", contexts=dn.contexts.verification()) as user:
                assert user.echo().is_success
