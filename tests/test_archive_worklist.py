"""The worklist as modalities see it, as people change it, and as it is kept in both databases."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import threading

import archives
import peers
import pydicom
import pytest
from index_records import encoded

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.worklist_files import item_of_keywords, items_of_file
from dicomnet.cli import app
from dicomnet.client.return_keys import WORKLIST
from dicomnet.dataset import codec
from dicomnet.errors import InputFileError, InvalidArgument
from dicomnet.protocol.negotiation import ProposedContext
from dicomnet.repository.finding import QueryTooLong
from dicomnet.repository.keys import Identifier
from dicomnet.repository.worklist import NoSuchItem, Worklist, WorklistConflict, report_status
from dicomnet.repository.worklist_query import WorklistQuery

PATIENCE = 30
STEPS = "ScheduledProcedureStepSequence"


def a_step(number=1, **keywords):
    return {
        "ScheduledProcedureStepID": f"S{number}",
        "Modality": "CT",
        "ScheduledStationAETitle": "CT1",
        "ScheduledProcedureStepStartDate": "20260131",
        "ScheduledProcedureStepStartTime": "1000",
    } | keywords


def an_item(number=1, *steps, **keywords):
    values = {
        "PatientName": "Müller^Jörg",
        "PatientID": f"P{number}",
        "AccessionNumber": f"A{number}",
        "RequestedProcedureID": f"R{number}",
        "StudyInstanceUID": f"1.2.{number}",
        STEPS: list(steps) or [a_step()],
    } | keywords
    return item_of_keywords({key: value for key, value in values.items() if value is not None})


@pytest.fixture
def worklist(database):
    return Worklist(database, clock=lambda: 1.0)


def found(database, keys, aliases=None, **options):
    query = WorklistQuery(Identifier.of(keys), aliases, **options)
    matches = list(query.find(database))
    return [f"{match['00401001']}/{match['00400100'][0]['00400009']}" for match in matches]


class TestItems:
    def test_what_modalities_need_is_made_up_and_stays(self, worklist):
        bare = item_of_keywords({"PatientName": "A", "PatientID": "1", STEPS: [{"Modality": "CT"}, {"Modality": "CT"}]})
        entry = worklist.add(bare)
        (uid,) = entry.item["0020000D"]["Value"]
        assert uids.is_valid(uid)
        (request,) = entry.item["00401001"]["Value"]
        ids = [step["00400009"]["Value"] for step in entry.steps]
        assert ids == [[f"{request}-1"], [f"{request}-2"]]
        assert {step["00400020"]["Value"][0] for step in entry.steps} == {"SCHEDULED"}
        again = worklist.change(entry.id, item_of_keywords({"PatientName": "B"}))
        assert again.version == 2
        assert again.item["0020000D"]["Value"] == [uid]
        assert again.steps == entry.steps
        assert worklist.get(entry.id) == again

    @pytest.mark.parametrize(
        ("keywords", "why"),
        [
            ({"PatientID": None}, "no PatientID"),
            ({"PatientName": None}, "no PatientName"),
            ({STEPS: []}, "no step"),
            ({STEPS: [{"ScheduledProcedureStepID": "1"}]}, "no Modality"),
            ({STEPS: [a_step(), a_step()]}, "two steps"),
        ],
    )
    def test_what_is_missing_is_said(self, worklist, keywords, why):
        with pytest.raises(InvalidArgument, match=why):
            worklist.add(an_item(**keywords))
        assert list(worklist) == []

    def test_dates_and_uids_that_are_none(self, worklist):
        item = an_item()
        item["00400100"]["Value"][0]["00400002"]["Value"] = ["20261341"]
        with pytest.raises(InvalidArgument, match="is none"):
            worklist.add(item)
        item = an_item()
        item["0020000D"]["Value"] = ["1.2.x"]
        with pytest.raises(InvalidArgument, match="no UID"):
            worklist.add(item)

    def test_the_same_again(self, worklist):
        entry = worklist.add(an_item())
        with pytest.raises(WorklistConflict, match=f"item {entry.id}"):
            worklist.add(an_item())
        other, is_new = worklist.put(an_item(PatientName="Other"))
        assert (other.id, other.version, is_new) == (entry.id, 2, False)
        assert worklist.put(an_item(2))[1]
        without, is_new = worklist.put(an_item(StudyInstanceUID=None))
        assert (without.id, is_new) == (entry.id, False)
        assert without.item["0020000D"]["Value"] == ["1.2.1"]

    def test_two_orders_with_one_study_uid_are_two_items(self, worklist, database):
        worklist.put(an_item(1))
        worklist.put(an_item(1, AccessionNumber="B", RequestedProcedureID="R2"))
        assert found(database, {"StudyInstanceUID": "1.2.1"}) == ["R1/S1", "R2/S1"]

    def test_a_change_of_what_has_changed_is_refused(self, worklist):
        entry = worklist.add(an_item())
        worklist.change(entry.id, item_of_keywords({"PatientID": "X"}), version=1)
        with pytest.raises(WorklistConflict, match="version 2"):
            worklist.change(entry.id, item_of_keywords({"PatientID": "Y"}), version=1)
        second = worklist.add(an_item(2))
        with pytest.raises(WorklistConflict):
            worklist.change(
                second.id,
                item_of_keywords({"StudyInstanceUID": "1.2.1", "AccessionNumber": "A1", "RequestedProcedureID": "R1"}),
            )

    def test_steps_are_changed_by_their_id_and_keep_their_state(self, worklist, database):
        entry = worklist.add(an_item(1, a_step(1), a_step(2)))
        with database.write() as connection:
            assert report_status(connection, "1.2.1", "S2", "STARTED") == 1
            assert report_status(connection, "1.2.1", "S3", "STARTED") == 0
        changes = {STEPS: [{"ScheduledProcedureStepID": "S1", "Modality": "MR"}]}
        entry = worklist.change(entry.id, item_of_keywords(changes))
        assert [step["00080060"]["Value"][0] for step in entry.steps] == ["MR", "CT"]
        entry, _ = worklist.put(an_item(1, a_step(1), a_step(2)))
        assert [step["00400020"]["Value"][0] for step in entry.steps] == ["SCHEDULED", "STARTED"]

    def test_a_patient_is_corrected_in_all_items(self, worklist, database):
        worklist.add(an_item(1))
        worklist.add(an_item(2, PatientID="P1"))
        worklist.add(an_item(3, PatientID="P1", IssuerOfPatientID="OTHER"))
        patient = item_of_keywords({"PatientID": "P9", "PatientName": "New", "IssuerOfPatientID": "OURS"})

        def corrected(*arguments):
            return database.transaction(lambda connection: worklist.correct_patient(connection, *arguments))

        assert corrected(patient, "P1") == 2
        assert corrected(patient, "P1") == corrected(patient) == 0
        assert found(database, {"PatientID": "P9", "PatientName": "new"}) == ["R1/S1", "R2/S1"]

    def test_an_id_is_never_given_again(self, worklist):
        entry = worklist.add(an_item())
        worklist.remove(entry.id)
        with pytest.raises(NoSuchItem):
            worklist.remove(entry.id)
        with pytest.raises(NoSuchItem):
            worklist.get(entry.id)
        with pytest.raises(NoSuchItem):
            worklist.change(entry.id, an_item())
        assert worklist.add(an_item()).id > entry.id

    def test_the_same_by_many_at_once_is_one_item(self, worklist):
        barrier = threading.Barrier(6)

        def put():
            barrier.wait()
            worklist.put(an_item())

        threads = [threading.Thread(target=put) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (entry,) = worklist
        assert entry.version == 6

    def test_more_than_a_page(self, worklist, monkeypatch):
        monkeypatch.setattr("dicomnet.repository.worklist._PAGE", 2)
        for number in range(5):
            worklist.add(an_item(number))
        assert [entry.item["00401001"]["Value"][0] for entry in worklist] == [f"R{number}" for number in range(5)]


STEP = f"{STEPS}."


class TestMatching:
    @pytest.fixture(autouse=True)
    def items(self, worklist):
        worklist.add(
            an_item(
                1,
                a_step(1),
                a_step(2, Modality="MR", ScheduledStationAETitle="MR1", ScheduledProcedureStepStartTime="1400"),
            )
        )
        worklist.add(
            an_item(
                2,
                a_step(1, ScheduledProcedureStepStartDate="20260201", ScheduledStationAETitle=["CT2", "CT3"]),
                PatientName="Doe^Jane=山田^花子",
            )
        )
        worklist.add(an_item(3, a_step(1, ScheduledProcedureStepStatus="COMPLETED"), PatientName="Doe^John"))

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({STEPS: {}}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({"PatientName": "muller*"}, ["R1/S1", "R1/S2"]),
            ({"PatientName": "山田*"}, ["R2/S1"]),
            ({"PatientName": "*^j*"}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({"PatientID": "P?"}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({"PatientID": "P2"}, ["R2/S1"]),
            ({"PatientID": "p2"}, []),
            ({"AccessionNumber": "A1"}, ["R1/S1", "R1/S2"]),
            ({"RequestedProcedureID": "R2"}, ["R2/S1"]),
            ({"StudyInstanceUID": "1.2.1\\1.2.2"}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({STEP + "Modality": "CT"}, ["R1/S1", "R2/S1"]),
            ({STEP + "Modality": "CT", STEP + "ScheduledStationAETitle": "MR1"}, []),
            ({STEP + "ScheduledStationAETitle": "CT3"}, ["R2/S1"]),
            ({STEP + "ScheduledStationAETitle": "CT*"}, ["R1/S1", "R2/S1"]),
            ({STEP + "ScheduledStationAETitle": ""}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({STEP + "ScheduledProcedureStepStartDate": "20260131"}, ["R1/S1", "R1/S2"]),
            ({STEP + "ScheduledProcedureStepStartDate": "20260201-"}, ["R2/S1"]),
            ({STEP + "ScheduledProcedureStepStartTime": "13-15"}, ["R1/S2"]),
            ({STEP + "ScheduledProcedureStepStatus": ""}, ["R1/S1", "R1/S2", "R2/S1"]),
            ({STEP + "ScheduledProcedureStepStatus": "COMPLETED"}, ["R3/S1"]),
            ({STEP + "ScheduledProcedureStepID": "S2"}, ["R1/S2"]),
            ({"PatientWeight": "70"}, []),
        ],
    )
    def test_keys(self, database, keys, expected):
        assert found(database, keys) == expected

    def test_ranges_of_date_and_time_are_one_range_of_moments(self, database):
        keys = {STEP + "ScheduledProcedureStepStartDate": "20260131-20260201"}
        assert found(database, keys | {STEP + "ScheduledProcedureStepStartTime": "1200-1800"}) == ["R1/S2", "R2/S1"]
        assert found(database, keys | {STEP + "ScheduledProcedureStepStartTime": "1200-0930"}) == ["R1/S2"]

    def test_aliases_of_a_station(self, database):
        keys = {STEP + "ScheduledStationAETitle": "OLD"}
        assert found(database, keys) == []
        assert found(database, keys, {"OLD": ["CT1", "X"]}) == ["R1/S1"]

    def test_what_has_ended_is_shown_to_who_wants_all(self, database):
        assert found(database, {}, hide=False) == ["R1/S1", "R3/S1", "R1/S2", "R2/S1"]

    def test_a_key_that_is_not_known_matches_all_and_is_told(self):
        query = WorklistQuery(Identifier.decode(b"\x09\0\x01\x10LO\x02\0x ", uids.EXPLICIT_VR_LITTLE_ENDIAN))
        assert query.unsupported == (0x00091001,)
        assert query.accepts({}, {})


# ---- over the network --------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path):
    settings = archives.make(tmp_path / "archive", stations={"CT1": ("CT1_OLD",)})
    with Archive(tmp_path / "archive", settings) as archive:
        worklist = Worklist(archive.holdings.database)
        worklist.add(an_item(1, a_step(1), a_step(2, Modality="MR"), PregnancyStatus=4))
        worklist.add(an_item(2, a_step(1, ScheduledStationAETitle="CT2"), PatientName="Doe^Jane"))
        yield archive


def peer_of(archive):
    return dn.Entity("ARCHIVE", *archive.listener.address)


def asked(archive, identifier, syntax=uids.IMPLICIT_VR_LITTLE_ENDIAN):
    """What comes back to an identifier, as bytes or by keywords."""
    contexts = [ProposedContext(uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND, [syntax])]
    with dn.connect(peer_of(archive), calling="CT1", contexts=contexts) as association:
        return [match.dataset for match in association.find(model="WORKLIST", query=codec.from_keywords(identifier))]


class TestOverTheNetwork:
    def test_our_worklist_user(self, archive):
        with dn.client.WorklistScu(peer_of(archive), calling="CT1") as scu:
            items = list(scu.items(step={"Modality": "CT"}))
            assert [(str(item.PatientName), item.step.ScheduledStationAETitle) for item in items] == [
                ("Müller^Jörg", "CT1"),
                ("Doe^Jane", "CT2"),
            ]
            assert len(list(scu.items())) == 3

    @pytest.mark.parametrize(
        "syntax", [uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_BIG_ENDIAN]
    )
    def test_every_key_is_answered(self, archive, syntax):
        keys = WORKLIST | {
            "PatientID": "P1",
            "PregnancyStatus": None,
            "PatientComments": None,
            STEPS: [{"Modality": "CT", "ScheduledStationAETitle": None}],
        }
        (answer,) = asked(archive, keys, syntax)
        assert (answer.PatientID, answer.PregnancyStatus, answer.PatientComments) == ("P1", 4, "")
        (step,) = answer.ScheduledProcedureStepSequence
        assert (step.Modality, step.ScheduledStationAETitle, len(step)) == ("CT", "CT1", 2)

    def test_an_empty_sequence_asks_for_all_of_a_step(self, archive):
        for sequence in ([], [{}]):
            answers = asked(archive, {"PatientID": "P2", STEPS: sequence})
            (step,) = answers[0].ScheduledProcedureStepSequence
            assert step.ScheduledProcedureStepID == "S1"
            assert step.ScheduledStationAETitle == "CT2"

    def test_another_title_of_the_station(self, archive):
        answers = asked(archive, {"PatientID": None, STEPS: [{"ScheduledStationAETitle": "CT1_OLD", "Modality": "CT"}]})
        assert [answer.PatientID for answer in answers] == ["P1"]

    @pytest.mark.parametrize(
        ("named", "answered"),
        [
            ("ISO_IR 100", "ISO_IR 100"),
            ("ISO_IR 192", "ISO_IR 192"),
            ("ISO_IR 101", "ISO_IR 101"),
            ("ISO_IR 144", "ISO_IR 192"),
            ("", "ISO_IR 192"),
        ],
    )
    def test_answers_in_the_character_set_of_the_question(self, archive, named, answered):
        keys = {"PatientName": "M*", "SpecificCharacterSet": named or None, STEPS: [{"Modality": "CT"}]}
        (answer,) = asked(archive, keys)
        assert (str(answer.PatientName), answer.SpecificCharacterSet) == ("Müller^Jörg", answered)

    def test_keys_in_another_character_set(self, archive):
        keys = {"PatientName": "MÜLLER*", "SpecificCharacterSet": "ISO_IR 100", STEPS: [{"Modality": "CT"}]}
        assert len(asked(archive, keys)) == 1

    def test_keys_padded_with_nul(self, archive):
        element = b"\x10\x00\x20\x00" + b"\x04\x00\x00\x00" + b"P1\0\0"
        contexts = [ProposedContext(uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND, [uids.IMPLICIT_VR_LITTLE_ENDIAN])]
        with dn.connect(peer_of(archive), contexts=contexts) as association:
            matches = list(
                association.find(model="WORKLIST", query=codec.decode(element, uids.IMPLICIT_VR_LITTLE_ENDIAN))
            )
        assert len(matches) == 2

    def test_a_date_that_is_none_is_refused_by_its_name(self, archive):
        query = codec.decode(encoded({STEPS: [{"ScheduledProcedureStepStartDate": "20261399"}]}), archives.LITTLE)
        association = dn.connect(peer_of(archive), contexts=dn.contexts.worklist())
        with association, pytest.raises(dn.errors.ServiceFailure) as caught:
            list(association.worklist(query=query))
        assert caught.value.status == 0xA900
        assert caught.value.status.offending == (0x00400002,)

    def test_an_abort_right_after_the_answers_hurts_no_one_else(self, archive):
        for _ in range(5):
            association = dn.connect(peer_of(archive), contexts=dn.contexts.worklist())
            next(iter(association.worklist(returning=["PatientID"])))
            association.abort()
        assert len(asked(archive, {"PatientID": None})) == 3

    def test_findscu(self, archive, tmp_path):
        host, port = archive.listener.address
        command = [peers.peer_program("findscu"), "-W", "-X", "-od", str(tmp_path), "-aec", "ARCHIVE", host, str(port)]
        for key in (
            "PatientName",
            "PatientID",
            f"{STEPS}[0].Modality=CT",
            f"{STEPS}[0].ScheduledProcedureStepStartDate",
        ):
            command += ["-k", key]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
        answers = [pydicom.dcmread(path) for path in sorted(tmp_path.glob("rsp*.dcm"))]
        assert [(a.PatientID, a.ScheduledProcedureStepSequence[0].Modality) for a in answers] == [
            ("P1", "CT"),
            ("P2", "CT"),
        ]

    def test_pynetdicom(self, archive):
        pynetdicom = peers.peer_module("pynetdicom")
        ae = pynetdicom.AE()
        model = uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND
        ae.add_requested_context(model)
        association = ae.associate(*archive.listener.address, ae_title="ARCHIVE")
        question = codec.from_keywords({"PatientName": "Doe*", "PatientID": None, STEPS: [{}]})
        answers = [(status.Status, data) for status, data in association.send_c_find(question, model)]
        association.release()
        assert [status for status, _ in answers] == [0xFF00, 0x0000]
        assert answers[0][1].PatientID == "P2"


# ---- by people ---------------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    archives.make(tmp_path / "archive")
    return str(tmp_path / "archive")


def run(capsys, *arguments):
    code = app.run(["worklist", *arguments, "--json"])
    captured = capsys.readouterr()
    return code, [json.loads(line) for line in captured.out.splitlines()], captured.err


class TestCommands:
    ADD = ("--patient-id", "1", "--name", "DOE^JANE", "--modality", "CT", "--station", "CT1", "--date", "20260131")

    def test_add_list_set_remove(self, directory, capsys):
        code, (added,), _ = run(capsys, "add", directory, *self.ADD, "-k", "RequestedProcedureID=7")
        assert (code, added["version"]) == (0, 1)
        number = str(added["id"])
        code, listed, _ = run(capsys, "list", directory, "-k", f"{STEPS}.Modality=CT")
        assert listed[0]["item"]["00401001"]["Value"] == ["7"]
        assert listed[-1]["summary"] == {"steps": 1}
        code, (changed,), _ = run(capsys, "set", directory, number, "--status", "COMPLETED", "--version", "1")
        assert changed["version"] == 2
        assert run(capsys, "list", directory)[1][-1]["summary"]["steps"] == 0
        assert run(capsys, "list", directory, "--all")[1][-1]["summary"]["steps"] == 1
        code, _, error = run(capsys, "set", directory, number, "--name", "X", "--version", "1")
        assert code != 0
        assert "version 2" in error
        assert run(capsys, "remove", directory, number)[1][-1]["summary"] == {"removed": 1, "failed": 0}
        code, _, error = run(capsys, "remove", directory, number)
        assert code == 69
        assert f"no item {number}" in error

    def test_what_is_missing_is_one_line(self, directory, capsys):
        code, _, error = run(capsys, "add", directory, "--patient-id", "1", "--modality", "CT")
        assert code != 0
        assert error.startswith("error: the worklist item has no PatientName")
        code, _, error = run(capsys, "add", directory + "x", *self.ADD)
        assert "is no archive" in error

    def test_import_of_json_and_data_sets(self, directory, tmp_path, capsys):
        first, second, third = (tmp_path / name for name in ("a.json", "b.json", "c.wl"))
        first.write_text(json.dumps([an_item(1), an_item(2)]))
        second.write_text(
            json.dumps({"PatientName": "B", "PatientID": "9", "AccessionNumber": "9", STEPS: [{"Modality": "MR"}]})
        )
        data = codec.encode(
            codec.from_keywords(
                {
                    "PatientName": "Jörg",
                    "SpecificCharacterSet": "ISO_IR 100",
                    "PatientID": "8",
                    "AccessionNumber": "8",
                    STEPS: [a_step()],
                }
            ),
            uids.IMPLICIT_VR_LITTLE_ENDIAN,
        )
        third.write_bytes(data)
        files = [str(one) for one in (first, second, third)]
        assert run(capsys, "import", directory, *files)[1][-1]["summary"] == {"added": 4, "replaced": 0, "failed": 0}
        assert run(capsys, "import", directory, *files)[1][-1]["summary"] == {"added": 0, "replaced": 4, "failed": 0}
        names = [
            one["item"]["00100010"]["Value"][0]["Alphabetic"]
            for one in run(capsys, "list", directory, "-k", "PatientID=8")[1][:-1]
        ]
        assert names == ["Jörg"]

    @pytest.mark.parametrize("text", ["{", "[3]", '{"Nonsense": "x"}', '{"00100010": 3}', "", "garbage"])
    def test_files_that_are_no_items(self, directory, tmp_path, capsys, text):
        path = tmp_path / "x.json"
        path.write_text(text)
        code, records, error = run(capsys, "import", directory, str(path))
        assert (code, records[-1]["summary"]["failed"]) == (69, 1)
        assert str(path) in error
        assert len(error.splitlines()) == 1

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(InputFileError, match="cannot be read"):
            items_of_file(tmp_path / "none")

    def test_list_of_a_peer(self, archive, capsys):
        host, port = archive.listener.address
        code, records, _ = run(capsys, "list", f"ARCHIVE@{host}:{port}", "-k", f"{STEPS}.Modality=MR")
        assert (code, records[-1]["summary"]) == (0, {"steps": 1})
        assert app.run(["worklist", "list", f"ARCHIVE@{host}:{port}"]) == 0
        assert re.search(r"20260131 +10\d* +CT +CT1", capsys.readouterr().out)


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("dicomnet.archive.worklist_files._MOST_BYTES", 100)
    path = tmp_path / "x.json"
    path.write_text(json.dumps([an_item(1)]))
    with pytest.raises(InputFileError, match="too large"):
        items_of_file(path)


class TestTooMuch:
    def asked(self, archive):
        """The status of a query for all steps, and how many came before it."""
        count = 0
        try:
            with dn.client.WorklistScu(peer_of(archive), calling="CT1") as scu:
                for _ in scu.items():
                    count += 1
        except dn.ServiceFailure as error:
            return count, error.status
        return count, None

    def test_more_matches_than_anybody_wants(self, archive, monkeypatch, caplog):
        monkeypatch.setattr("dicomnet.archive.worklist.MOST_MATCHES", 3)
        assert self.asked(archive) == (3, None)
        monkeypatch.setattr("dicomnet.archive.worklist.MOST_MATCHES", 2)
        count, status = self.asked(archive)
        assert (count, status, status.comment) == (2, 0xA700, "more than 2 matches")

    def test_a_query_that_takes_too_long(self, archive, monkeypatch, caplog):
        def endless(self, database, *, seconds):
            yield from itertools.islice(real(self, database), 1)
            raise QueryTooLong(seconds)

        real = WorklistQuery.find
        monkeypatch.setattr(WorklistQuery, "find", endless)
        count, status = self.asked(archive)
        assert (count, status) == (1, 0xA700)
        assert "a worklist query by CT1 took too long: 1 steps so far" in caplog.text
