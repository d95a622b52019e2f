"""Groups of instances into the index: what becomes of each, and that every count is exact."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from index_records import header, numbered, record

from dicomnet import uids
from dicomnet.dataset import codec
from dicomnet.errors import InvalidArgument
from dicomnet.repository import schema, work_schema
from dicomnet.repository.attributes import MissingElement, instance_record
from dicomnet.repository.database import Database
from dicomnet.repository.index import Index, Outcome
from dicomnet.repository.removal import remove_instances


@pytest.fixture
def index(database):
    return Index(database, clock=lambda: 1_800_000_000.0)


def outcomes(added):
    return [one.outcome for one in added]


def rows(database, table):
    with database.read() as connection:
        return connection.execute(sqlalchemy.select(table).order_by(*table.primary_key)).mappings().all()


def assert_exact(database):
    """Every count in the tables is what counting the rows gives."""
    counted = """
        SELECT s.id, s.n_inst, count(i.id), s.bytes, coalesce(sum(i.bytes), 0) FROM series s
        LEFT JOIN instance i ON i.series_id = s.id GROUP BY s.id, s.n_inst, s.bytes"""
    studies = """
        SELECT t.id, t.n_series, count(s.id), t.n_inst, coalesce(sum(s.n_inst), 0), t.bytes, coalesce(sum(s.bytes), 0)
        FROM study t LEFT JOIN series s ON s.study_id = t.id GROUP BY t.id, t.n_series, t.n_inst, t.bytes"""
    blobs = (
        "SELECT b.id, b.refs, count(i.id) FROM blob b LEFT JOIN instance i ON i.blob_id = b.id GROUP BY b.id, b.refs"
    )
    with database.read() as connection:
        for query in (counted, studies, blobs):
            for _, *pairs in connection.execute(sqlalchemy.text(query)):
                assert pairs[::2] == pairs[1::2]
        kinds = """
            SELECT t.id, t.mods, t.sop_classes, s.modality, i.cls FROM study t
            JOIN series s ON s.study_id = t.id JOIN instance i ON i.series_id = s.id"""
        told, found = {}, {}
        for number, mods, classes, modality, cls in connection.execute(sqlalchemy.text(kinds)):
            told[number] = set(filter(None, mods.split("\\"))), set(classes.split("\\"))
            known = found.setdefault(number, (set(), set()))
            known[0].update(filter(None, [modality]))
            known[1].add(cls)
        assert told == found


class TestTables:
    def test_migrations_make_the_tables_of_the_schema(self, database):
        def ours(thing, name, kind, *_):
            return not (kind == "table" and name.startswith("patient_name")) and name != "ix_patient_name_trigram"

        with database.write() as connection:
            context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
            assert work_schema.metadata is schema.metadata
            assert compare_metadata(context, schema.metadata) == []

    def test_migrating_again_changes_nothing(self, database):
        database.migrate()
        database.check()

    def test_nothing_loads_alembic_where_the_tables_are_current(self, database):
        code = "import sys; from dicomnet.repository.database import Database; Database.opened(sys.argv[1]).close()"
        code += "; print('alembic' in sys.modules)"
        where = database.url.render_as_string(hide_password=False)
        done = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    def test_an_index_without_tables_is_to_be_migrated(self, tmp_path):
        with Database(tmp_path / "index.db") as empty, pytest.raises(InvalidArgument, match="version none"):
            empty.check()

    def test_a_newer_version_is_refused(self, database):
        with database.write() as connection:
            connection.execute(sqlalchemy.text("DELETE FROM alembic_version"))
            connection.execute(sqlalchemy.text("INSERT INTO alembic_version VALUES ('9999')"))
        for step in (database.check, database.migrate):
            with pytest.raises(InvalidArgument, match="newer version"):
                step()

    def test_an_index_that_cannot_be_opened_says_so(self, tmp_path):
        with pytest.raises(InvalidArgument, match=r"cannot be opened.*Check that its directory"):
            Database.opened(tmp_path / "absent" / "index.db")

    @pytest.mark.parametrize("url", ["mysql://host/name", "postgresql//x://", "postgresql://host:port/name"])
    def test_other_databases_are_refused(self, url):
        with pytest.raises(InvalidArgument):
            Database(url)

    def test_readers_cannot_write(self, database):
        with pytest.raises(sqlalchemy.exc.DBAPIError), database.read() as connection:
            connection.execute(sqlalchemy.insert(schema.change).values(kind="x"))


class TestAdd:
    def test_a_new_instance_brings_its_patient_study_and_series(self, index, database):
        assert outcomes(index.add([record()])) == [Outcome.NEW]
        (patient,), (study,), (series,), (instance,) = (
            rows(database, table) for table in (schema.patient, schema.study, schema.series, schema.instance)
        )
        assert (patient["pid"], patient["name_n"], patient["sex"]) == ("P1", "doe^jane", "F")
        assert (study["uid"], study["date"], study["mods"], study["n_series"], study["n_inst"]) == (
            "1.2.3", "20260131", "CT", 1, 1
        )  # fmt: skip
        assert (study["pid"], study["name_n"], study["seen_at"]) == ("P1", "doe^jane", 1_800_000_000.0)
        assert (series["modality"], series["number"], series["n_inst"]) == ("CT", 1, 1)
        assert (instance["rows"], instance["cls"], instance["ts"]) == (
            512, uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN
        )  # fmt: skip
        assert [(row["kind"], row["uid"]) for row in rows(database, schema.change)] == [
            ("new", "1.2.3"), ("stored", "1.2.3.1")
        ]  # fmt: skip
        assert_exact(database)

    def test_the_same_again_is_known_and_other_bytes_are_told_apart(self, index, database):
        one = record()
        index.add([one])
        other = record(InstanceNumber=7)
        assert outcomes(index.add([one, other])) == [Outcome.SAME, Outcome.DIFFERENT]
        assert_exact(database)

    def test_repeated_within_a_group(self, index, database):
        one, other = record(), record(InstanceNumber=7)
        assert outcomes(index.add([one, one, other, one])) == [
            Outcome.NEW, Outcome.SAME, Outcome.DIFFERENT, Outcome.SAME
        ]  # fmt: skip
        assert_exact(database)

    def test_an_empty_group(self, index):
        assert index.add([]) == []

    def test_studies_know_their_modalities_and_classes(self, index, database):
        index.add([numbered(1, 2, 1, Modality="SR", SOPClassUID=uids.BASIC_TEXT_SR_STORAGE)])
        index.add([numbered(1, 1, 1), numbered(1, 1, 2), numbered(1, 3, 1, Modality="")])
        (study,) = rows(database, schema.study)
        assert study["mods"] == "CT\\SR"
        assert study["sop_classes"] == "\\".join(sorted([uids.CT_IMAGE_STORAGE, uids.BASIC_TEXT_SR_STORAGE]))
        assert (study["n_series"], study["n_inst"]) == (3, 4)
        assert_exact(database)

    def test_study_and_series_may_have_one_uid(self, index):
        same = {"StudyInstanceUID": "1.9", "SeriesInstanceUID": "1.9", "SOPInstanceUID": "1.9"}
        assert outcomes(index.add([record(**same)])) == [Outcome.NEW]

    def test_a_series_of_another_study(self, index, database):
        index.add([numbered(1)])
        added = index.add([numbered(2, SeriesInstanceUID="1.2.1.1")])
        assert outcomes(added) == [Outcome.SERIES_CONFLICT]
        assert added[0].reason == "the series is part of another study"
        assert_exact(database)

    @pytest.mark.long
    def test_hundreds_at_once(self, index, database):
        group = [numbered(study, 1, instance) for study in range(30) for instance in range(40)]
        assert set(outcomes(index.add(group))) == {Outcome.NEW}
        assert set(outcomes(index.add(group))) == {Outcome.SAME}
        assert_exact(database)


class TestPatients:
    def test_one_id_of_two_persons(self, index, database):
        index.add([numbered(1, PatientID="X", PatientName="Doe^Jane", PatientBirthDate="19700101", PatientSex="F")])
        added = index.add(
            [numbered(2, PatientID="X", PatientName="Poe^Edgar", PatientBirthDate="18090119", PatientSex="M")]
        )
        assert outcomes(added) == [Outcome.PATIENT_CONFLICT]
        assert added[0].reason == "the patient differs in name and birth date and sex"
        assert len(rows(database, schema.study)) == 1

    def test_a_conflict_leaves_no_trace(self, index, database):
        index.add([numbered(1, PatientID="X")])
        index.add([numbered(2, PatientID="X", PatientName="Poe^Edgar", PatientBirthDate="18090119")])
        assert len(rows(database, schema.patient)) == len(rows(database, schema.study)) == 1
        assert len(rows(database, schema.blob)) == 1

    @pytest.mark.parametrize(
        "told",
        [
            {"PatientName": "DOE^JANE"},
            {"PatientName": "Doé^Jane^^"},
            {"PatientName": "Jane^Doe"},
            {"PatientName": "Roe^Jane"},
            {"PatientName": "Doe^Jane^Q"},
            {"PatientName": ""},
            {"PatientBirthDate": "19700201"},
            {"PatientSex": "O"},
            {"PatientName": "Smith^Ann", "PatientBirthDate": "19700102"},
        ],
    )
    def test_what_one_person_may_be_told_as(self, index, told):
        index.add([numbered(1, PatientID="X")])
        assert outcomes(index.add([numbered(2, PatientID="X", **told)])) == [Outcome.NEW]

    def test_two_issuers_are_two_patients(self, index, database):
        index.add([numbered(1, PatientID="X", IssuerOfPatientID="A"), numbered(2, PatientID="X", PatientName="Poe^E")])
        assert len(rows(database, schema.patient)) == 2

    def test_patients_without_an_id_are_one_for_each_study(self, index, database):
        index.add([numbered(1, PatientID=""), numbered(2, PatientID=None)])
        index.add([numbered(1, 2, PatientID="")])
        assert [row["pid"] for row in rows(database, schema.patient)] == [None, None]
        assert_exact(database)

    def test_the_study_of_another_patient(self, index):
        index.add([numbered(1)])
        assert outcomes(index.add([numbered(1, 2, PatientID="Q")])) == [Outcome.PATIENT_CONFLICT]
        assert outcomes(index.add([numbered(1, 2, 2, PatientID="")])) == [Outcome.NEW]

    def test_of_two_persons_in_one_group_the_first_stays(self, index):
        group = [
            numbered(1, PatientID="X"),
            numbered(2, PatientID="X", PatientName="Poe^E", PatientBirthDate="18090119"),
        ]
        assert outcomes(index.add(group)) == [Outcome.NEW, Outcome.PATIENT_CONFLICT]


class TestConcurrency:
    @pytest.mark.parametrize("patient_id", ["P", ""])
    def test_sixteen_bring_one_new_study_at_once(self, index, database, patient_id):
        barrier = threading.Barrier(16)
        failures = []

        def bring(number):
            group = [numbered(1, 1 + number % 4, 100 * number + k, PatientID=patient_id) for k in range(10)]
            barrier.wait()
            try:
                assert set(outcomes(index.add(group))) == {Outcome.NEW}
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=bring, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(rows(database, schema.patient)) == len(rows(database, schema.study)) == 1
        (study,) = rows(database, schema.study)
        assert (study["n_series"], study["n_inst"]) == (4, 160)
        assert_exact(database)

    def test_the_same_instances_from_all_sides(self, index, database):
        barrier = threading.Barrier(8)
        all_outcomes = []

        def bring(number):
            group = [numbered(1 + (number + k) % 8) for k in range(8)]
            barrier.wait()
            all_outcomes.extend(outcomes(index.add(group)))

        threads = [threading.Thread(target=bring, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(one.value for one in all_outcomes) == ["new"] * 8 + ["same"] * 56
        assert_exact(database)

    def test_modalities_that_come_from_all_sides_are_all_told(self, index, database):
        index.add([numbered(1, 1, number, Modality="CT") for number in range(8)])
        barrier, failures = threading.Barrier(8), []
        classes = sorted(uids.STORAGE_CLASSES)[:8]

        def change(number):
            barrier.wait()
            try:
                for k in range(4):
                    one = numbered(1, 10 + number, k, Modality=f"M{number}", SOPClassUID=classes[number])
                    other = numbered(2, 10 + k, number, Modality=f"M{k}")
                    assert outcomes(index.add([one, other])) == [Outcome.NEW] * 2
                    if number % 2:
                        gone = [f"1.2.1.{10 + number}.{k}", f"1.2.1.1.{number}"]
                        database.transaction(lambda connection: remove_instances(connection, gone))  # noqa: B023
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert_exact(database)
        assert rows(database, schema.study)[0]["mods"] == "CT\\M0\\M2\\M4\\M6"

    def test_adding_to_a_study_while_others_remove_from_it(self, index, database):
        index.add([numbered(1, 1, number) for number in range(40)])
        barrier, failures = threading.Barrier(8), []

        def change(number):
            barrier.wait()
            try:
                for k in range(5):
                    if number % 2:
                        index.add([numbered(1, 1, 100 * number + k)])
                    else:
                        gone = [f"1.2.1.1.{5 * number + k}"]
                        database.transaction(lambda connection: remove_instances(connection, gone))  # noqa: B023
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert rows(database, schema.study)[0]["n_inst"] == 40
        assert_exact(database)


class TestRecords:
    @pytest.mark.parametrize(
        "syntax",
        [
            uids.IMPLICIT_VR_LITTLE_ENDIAN,
            uids.EXPLICIT_VR_LITTLE_ENDIAN,
            uids.EXPLICIT_VR_BIG_ENDIAN,
            uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        ],
    )
    def test_every_transfer_syntax_gives_the_same(self, syntax):
        keywords = {
            "PatientName": "Müller^Jörg",
            "RequestAttributesSequence": [{"RequestedProcedureID": "R1", "ScheduledProcedureStepID": "S1"}],
            "OtherPatientIDs": ["a", "b"],
        }
        told = record(syntax, **keywords)
        usual = record(uids.EXPLICIT_VR_LITTLE_ENDIAN, **keywords)
        assert (told.patient, told.study, told.series) == (usual.patient, usual.study, usual.series)
        assert (told.rows, told.number) == (512, 1)
        assert '"00401001":"R1"' in told.series.attrs
        assert '"00101000":"a\\\\b"' in told.patient.attrs
        assert told.patient.name_n == "muller^jorg"

    @pytest.mark.parametrize("syntax", [uids.IMPLICIT_VR_LITTLE_ENDIAN, uids.EXPLICIT_VR_LITTLE_ENDIAN])
    def test_what_came_before_in_the_same_bytes_changes_nothing(self, syntax):
        values = [
            {
                "StudyDescription": text,
                "RequestAttributesSequence": [{"RequestedProcedureID": text}],
                "Modality": modality,
            }
            for text in ("one", "two")
            for modality in ("CT", "MR")
        ]
        alone = [record(syntax, **one, InstanceNumber=7) for one in values]
        again = [record(syntax, **one, InstanceNumber=8, Rows=256, NumberOfFrames=3) for one in values]
        for first, second in zip(alone, again, strict=True):
            assert (first.patient, first.study, first.series) == (second.patient, second.study, second.series)
            assert (second.number, second.rows, second.frames, second.columns) == (8, 256, 3, 512)
        assert len({one.series.attrs for one in again}) == 2
        assert {one.series.modality for one in again} == {"CT", "MR"}
        no_image = record(syntax, Rows=None, ContentDescription="text")
        assert '"00700081":"text"' in no_image.attrs

    @pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
    def test_what_identifies_an_instance_must_be_there(self, keyword):
        with pytest.raises(MissingElement, match=keyword) as raised:
            record(**{keyword: None})
        assert raised.value.tag == codec_tag(keyword)

    def test_uids_of_the_request_fill_in(self):
        data = header(SOPInstanceUID=None, SOPClassUID=None)
        told = instance_record(data, uids.EXPLICIT_VR_LITTLE_ENDIAN, sop_class_uid="1.1", sop_instance_uid="1.2")
        assert (told.cls, told.uid) == ("1.1", "1.2")

    def test_a_header_cut_anywhere_is_no_surprise(self):
        data = header(RequestAttributesSequence=[{"RequestedProcedureID": "R1"}])
        for end in range(len(data)):
            try:
                instance_record(data[:end], uids.EXPLICIT_VR_LITTLE_ENDIAN)
            except MissingElement:
                continue

    def test_a_text_for_a_sequence_and_a_sequence_for_a_text_are_left_out(self, index):
        ds = codec.decode(header(), uids.EXPLICIT_VR_LITTLE_ENDIAN)
        ds.add_new(0x00081030, "SQ", [])
        ds[0x00081030].value.append(codec.from_keywords({"CodeValue": "1"}))
        ds.add_new(0x00081032, "LO", "odd")
        told = instance_record(codec.encode(ds, uids.EXPLICIT_VR_LITTLE_ENDIAN), uids.EXPLICIT_VR_LITTLE_ENDIAN)
        assert told.study.descr == ""
        assert "00081032" not in told.study.attrs
        assert outcomes(index.add([told])) == [Outcome.NEW]

    @pytest.mark.parametrize(
        ("written", "date"),
        [("20260131", "20260131"), ("2026.01.31", "20260131"), ("", ""), ("20261331", ""), ("31/01/2026", "")],
    )
    def test_dates(self, written, date):
        data = header(StudyDate="").replace(b"\x08\x00\x20\x00DA\x00\x00", b"\x08\x00\x20\x00DA" + encoded(written))
        study = instance_record(data, uids.EXPLICIT_VR_LITTLE_ENDIAN).study
        assert study.date == date
        assert ("00080020" in study.attrs) == (date != written)

    @pytest.mark.parametrize(
        ("written", "time"),
        [
            ("101530", "101530"),
            ("1015", "101500"),
            ("10:15:30", "101530"),
            ("101530.500", "101530.500"),
            ("250000", ""),
        ],
    )
    def test_times(self, written, time):
        data = header(StudyTime="").replace(b"\x08\x00\x30\x00TM\x00\x00", b"\x08\x00\x30\x00TM" + encoded(written))
        assert instance_record(data, uids.EXPLICIT_VR_LITTLE_ENDIAN).study.time == time

    def test_absurd_lengths_are_cut_in_what_is_searched(self, index):
        long = "x" * 9000  # as no library would write it
        data = header(PatientID="{PID}", PatientName="{NAME}")
        data = data.replace(b"LO\6\0{PID} ", b"LO" + encoded("é" * 4000))
        data = data.replace(b"PN\6\0{NAME}", b"PN" + encoded(long))
        told = instance_record(data, uids.EXPLICIT_VR_LITTLE_ENDIAN)
        assert (len(told.patient.pid), len(told.patient.name_n)) == (300, 300)
        assert outcomes(index.add([told])) == [Outcome.NEW]


def codec_tag(keyword):
    from dicomnet.dataset import codec

    return codec.tags([keyword])[0]


def encoded(text):
    data = text.encode() + b" " * (len(text) % 2)
    return len(data).to_bytes(2, "little") + data
