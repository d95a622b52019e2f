"""The message log: whole, in order, readable both ways, and silent about patients unless asked."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import run_here
from rig import PAIRINGS, Rig, instance, keys

import dicomnet as dn
from dicomnet import uids
from dicomnet.client.log import MessageLog, redacted_elements
from dicomnet.config import LOGGED_DATA_SET
from dicomnet.errors import OutputFileError
from dicomnet.protocol.seen import MessageSeen, PDUSeen, Watched
from dicomnet.wire.command_set import Command

SECRETS = ("DOE", "SMITH", "Procedure 4711", "19700101", "Head of a patient", "open sesame", "no room for DOE")
FIND = dn.contexts.sop_classes(uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND)
CT = dn.contexts.storage([uids.CT_IMAGE_STORAGE])


@pytest.fixture(params=PAIRINGS[::3])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(request.param)
    yield rig
    rig.close()


def provider(rig: Rig) -> Any:
    listener = rig.listener("ARCHIVE")

    @listener.on_find("STUDY_ROOT")
    def find(request: Any) -> Iterator[Any]:
        yield keys(
            QueryRetrieveLevel="STUDY",
            StudyInstanceUID="2.25.100",
            PatientName="SMITH^JOHN",
            PatientBirthDate="19700101",
            StudyDescription="Head of a patient",
            ModalitiesInStudy=["CT", "SR"],
            RequestAttributesSequence=[keys(RequestedProcedureID="Procedure 4711")],
        )

    @listener.on_store()
    def store(request: Any) -> dn.Status:
        return dn.Status(0xA700, comment="no room for DOE")

    return listener


def session(rig: Rig, log: Any, *, pixels: int = 512) -> None:
    identity = dn.UserIdentity.named("jane", "open sesame")
    options: dict[str, Any] = {"tap": log, "extras": dn.NegotiationOptions(identity=identity), "calling": "WS1"}
    with rig.pair(provider(rig), FIND + CT, **options) as association:
        assert len(list(association.find("STUDY", PatientName="DOE*"))) == 1
        association.store(instance(1, pixels=pixels))


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.startswith('{"log": "dicomnet"')
    return [json.loads(line) for line in text.splitlines()]


def test_every_pdu_and_message_is_there_in_order(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path) as log:
        session(rig, log)
    first, *rest = lines(path)
    assert first == {"log": "dicomnet", "version": 1, "datasets": False, "patient_data": False}
    names = [line.get("pdu") or line.get("message") or line["kind"] for line in rest if line.get("pdu") != "P-DATA-TF"]
    assert names == [
        "A-ASSOCIATE-RQ",
        "A-ASSOCIATE-AC",
        "C-FIND-RQ",
        "C-FIND-RSP",
        "C-FIND-RSP",
        "C-STORE-RQ",
        "C-STORE-RSP",
        "A-RELEASE-RQ",
        "A-RELEASE-RP",
        "end",
    ]
    messages = [line for line in rest if line["kind"] == "message"]
    assert [line["message_id"] for line in messages] == [1, 1, 1, 2, 2]
    assert [line["sent"] for line in messages] == [True, False, False, True, False]
    assert {line["association"] for line in rest} == {1}
    assert all(line["peer"].startswith("ARCHIVE@127.0.0.1:") for line in rest)
    assert [line["time"] for line in rest] == sorted(line["time"] for line in rest)
    assert rest[0]["text"] == "-> A-ASSOCIATE-RQ: WS1 calls ARCHIVE, 2 contexts"
    study_root = "Study Root Query/Retrieve Information Model - FIND"
    assert messages[0]["text"].startswith(f"-> C-FIND-RQ 1, {study_root}, ")
    assert messages[4]["status"].startswith("0xA700")
    data = [line for line in rest if line.get("pdu") == "P-DATA-TF"]
    assert all(pdv["size"] > 0 for line in data for pdv in line["pdvs"])
    assert [pdv["kind"] for line in data for pdv in line["pdvs"]][:2] == ["command", "data set"]


def test_nothing_of_a_patient_and_no_passcode_is_in_it(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path, datasets=True) as log:
        session(rig, log)
    text = path.read_text()
    assert [secret for secret in SECRETS if secret in text] == []
    assert "jane" in text
    sets = [line for line in lines(path) if line.get("kind") == "data set"]
    assert [(line["message"], line["message_id"], line["sent"]) for line in sets] == [
        ("C-FIND-RQ", 1, True),
        ("C-FIND-RSP", 1, False),
        ("C-STORE-RQ", 2, True),
    ]
    shown = {one["keyword"]: one for one in sets[1]["elements"]}
    assert shown["PatientName"]["value"] == "(redacted)"
    assert shown["ModalitiesInStudy"]["value"] == "CT\\SR"
    assert shown["StudyInstanceUID"]["value"] == "2.25.100"
    [item] = shown["RequestAttributesSequence"]["items"]
    assert item[0] == {"tag": "(0040,1001)", "vr": "SH", "keyword": "RequestedProcedureID", "value": "(redacted)"}
    pixels = {one["keyword"]: one["value"] for one in sets[2]["elements"] if one["keyword"] == "PixelData"}
    assert pixels == {"PixelData": "(512 bytes)"}


def test_who_asks_for_patient_data_gets_them_but_no_passcode(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path, datasets=True, patient_data=True) as log:
        session(rig, log)
    text = path.read_text()
    assert [secret for secret in SECRETS if secret not in text] == ["open sesame"]


def test_a_data_set_that_is_too_long_is_said_to_be(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path, datasets=True) as log:
        session(rig, log, pixels=LOGGED_DATA_SET + 2)
    last = [line for line in lines(path) if line.get("kind") == "data set"][-1]
    assert (last["message"], last["unshown"]) == ("C-STORE-RQ", f"longer than {LOGGED_DATA_SET} bytes")


def test_one_log_does_for_many_associations(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path, datasets=True) as log, rig.serving(provider(rig)) as peer:

        def call() -> None:
            with dn.connect(peer, contexts=FIND, tap=log) as association:
                list(association.find("STUDY", PatientName="DOE*"))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rest = lines(path)[1:]
    for number in range(1, 9):
        own = [line for line in rest if line["association"] == number]
        assert [line["kind"] for line in own if line["kind"] != "pdu"] == [
            "message", "data set", "message", "data set", "message", "end",
        ]  # fmt: skip


def test_the_file_is_its_owners_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(2):
        MessageLog(path).close()
    assert [line["log"] for line in lines(path)] == ["dicomnet", "dicomnet"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OutputFileError, match="cannot be written"):
        MessageLog(tmp_path / "absent" / "log")


def test_a_log_that_is_closed_holds_nobody_up(rig: Rig, tmp_path: Path) -> None:
    log = MessageLog(tmp_path / "log")
    log.close()
    session(rig, log)
    assert not log.broken


def test_what_nobody_knows_is_not_shown() -> None:
    dataset = keys(PatientSex="F", PatientID="4711", StudyDate="", Rows=7)
    dataset.add_new(0x00091001, "CS", "SMITH")
    dataset.add_new(0x00091002, "SQ", [keys(Modality="CT")])
    shown = {one["tag"]: one["value"] for one in redacted_elements(dataset)}
    assert shown == {
        "(0008,0020)": "",
        "(0009,1001)": "(redacted)",
        "(0009,1002)": "(redacted)",
        "(0010,0020)": "(redacted)",
        "(0010,0040)": "(redacted)",
        "(0028,0010)": "7",
    }


def test_dump_shows_a_log(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "log"
    with MessageLog(path, datasets=True) as log:
        session(rig, log)
    logged = lines(path)
    shown = run_here("dump", path)
    assert shown.returncode == 0, shown.stderr
    first, *rest = shown.stdout.splitlines()
    assert first == "message log, with data sets, patient data redacted"
    assert rest == [f"{line['time']} #1 {line['text']}" for line in logged[1:]]
    details = run_here("dump", path, "-v").stdout
    assert "        item: " not in details
    assert "    (0010,0010) PN PatientName: (redacted)" in details
    assert "calling AE title: WS1" in details
    *again, total = map(json.loads, run_here("dump", path, "--json").stdout.splitlines())
    assert again == logged
    assert total == {"summary": {"lines": len(logged), "failed": 0}}


def test_dump_says_which_line_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "log"
    MessageLog(path).close()
    with path.open("a") as file:
        file.write('{"time": "2026')
    shown = run_here("dump", path)
    assert (shown.returncode, shown.stderr.strip()) == (22, f"error: {path}: line 2 is none of a message log")


def test_what_is_no_pdu_or_no_data_set_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "log"
    context = dn.PresentationContext(1, uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN, 0)
    command = Command(command_field=1, message_id=7, command_data_set_type=1)
    junk = b"\xff" * 20
    with MessageLog(path, datasets=True) as log:
        watched = Watched(1, False, "there")
        for header, body, whole in (
            (b"\x42\0\0\0\0\0", b"", False),
            (b"\x01\0\0\0\0\x02", b"\0\1", True),
            (b"\x07\0\0\0\0\x04", b"", False),
            (b"\x04\0\0\0\0\x1a", len(junk + b"..").to_bytes(4, "big") + b"\x01\x02" + junk, True),
        ):
            log.tell(PDUSeen(1.0, watched, False, header, body, whole))
        log.tell(MessageSeen(1.0, watched, False, command, context, len(junk)))
    assert not log.broken
    _, noise, malformed, cut, data, message, last = lines(path)
    assert noise["text"] == "<- type 42H, 0 bytes, of which 0 are known"
    assert malformed["text"].startswith("<- malformed A-ASSOCIATE-RQ: ")
    assert cut["text"] == "<- A-ABORT, 4 bytes, of which 0 are known"
    assert data["pdvs"] == [{"context": 1, "kind": "data set", "last": True, "size": 20}]
    assert (message["message"], message["message_id"]) == ("C-STORE-RQ", 7)
    assert last["malformed"] == "no data set in Explicit VR Little Endian"
