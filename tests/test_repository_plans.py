"""What the databases make of every query that is shipped: an index each time, and the one that was meant."""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy
from index_records import numbered
from sqlalchemy import event

from dicomnet.repository.catalog import Level
from dicomnet.repository.index import Index
from dicomnet.repository.keys import Identifier, QueryOptions
from dicomnet.repository.query import Driver, plan

PATIENT, STUDY, SERIES, IMAGE = Level
ASKED = dict.fromkeys(["PatientName", "PatientID", "StudyInstanceUID", "StudyDescription", "ModalitiesInStudy"], "")
NAME_AND_DATE = {"PatientName": "smith*", "StudyDate": "20260101-20261231"}
QUERIES = [
    (STUDY, {"StudyInstanceUID": "1.2"}, Driver.UID),
    (STUDY, {"StudyInstanceUID": "1.2\\1.3", "StudyDate": "20260101-"}, Driver.UID),
    (STUDY, {"AccessionNumber": "A1", "PatientID": "P1", "StudyDate": "20260101-"}, Driver.ACCESSION),
    (STUDY, {"AccessionNumber": "A12*"}, Driver.ACCESSION),
    (STUDY, {"StudyID": "S1"}, Driver.ACCESSION),
    (STUDY, {"PatientID": "P1"}, Driver.PATIENT_ID),
    (STUDY, {"PatientID": "P1", "StudyDate": "20260101-20261231", "ModalitiesInStudy": "CT"}, Driver.PATIENT_ID),
    (STUDY, {"PatientID": "P12*"}, Driver.PATIENT_ID),
    (STUDY, {"PatientName": "smith*"}, Driver.NAME),
    (STUDY, {"PatientName": "smith^ann"}, Driver.NAME),
    (STUDY, NAME_AND_DATE, Driver.NAME),
    (STUDY, {"PatientName": "*smith*", "StudyDate": "20260101-20261231"}, Driver.NAME),
    (STUDY, {"PatientName": "=山田太*"}, Driver.NAME),
    (STUDY, {"PatientName": "smith*\\jones*"}, Driver.NAME),
    (STUDY, {"PatientBirthDate": "19700101", "PatientSex": "F"}, Driver.BIRTH_DATE),
    (STUDY, {"StudyDate": "20260131"}, Driver.DATE),
    (STUDY, {"StudyDate": "20260131", "StudyTime": "10-12", "ModalitiesInStudy": "CT"}, Driver.DATE),
    (STUDY, {"StudyDate": "20260131", "PatientName": "s*"}, Driver.DATE),
    (STUDY, {"ModalitiesInStudy": "CT"}, Driver.MODALITY),
    (PATIENT, {"PatientID": "P1"}, Driver.PATIENT_ID),
    (PATIENT, {"PatientName": "smith*"}, Driver.NAME),
    (PATIENT, {"PatientName": "*smith*"}, Driver.NAME),
    (PATIENT, {"PatientBirthDate": "19700101"}, Driver.BIRTH_DATE),
    (PATIENT, {"StudyInstanceUID": "1.2"}, Driver.UID),
    (PATIENT, {"PatientID": "P1", "NumberOfPatientRelatedStudies": "", "NumberOfPatientRelatedInstances": ""},
     Driver.PATIENT_ID),
    (SERIES, {"StudyInstanceUID": "1.2", "Modality": "CT"}, Driver.UID),
    (SERIES, {"SeriesInstanceUID": "1.2"}, Driver.UID),
    (SERIES, {"StudyDate": "20260131", "Modality": "MR"}, Driver.DATE),
    (SERIES, {"Modality": "MR"}, Driver.MODALITY),
    (IMAGE, {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "InstanceNumber": "1"}, Driver.UID),
    (IMAGE, {"SOPInstanceUID": "1.2\\1.3"}, Driver.UID),
    (IMAGE, {"AccessionNumber": "A1"}, Driver.ACCESSION),
    (STUDY, {"AccessionNumber": "A1", "SOPClassUID": "1.2"}, Driver.ACCESSION),
]  # fmt: skip
INDEXES = {
    Driver.UID: "uid", Driver.ACCESSION: "ix_study_", Driver.PATIENT_ID: "pid", Driver.NAME: "name",
    Driver.BIRTH_DATE: "ix_patient_birth", Driver.DATE: "ix_study_date_time", Driver.MODALITY: "ix_series_modality",
}  # fmt: skip


@pytest.fixture
def index(database):
    index = Index(database)
    index.add([numbered(study) for study in range(3)])
    return index


def steps(connection, sql, parameters=None):
    """How the database goes about a statement, a line for each table that it reads."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters or ()).all()
        return [row[3] for row in rows]
    # The tables are small, which PostgreSQL would rather read whole; here it may not.
    connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
    (plans,) = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {sql}", parameters or {}).one()
    found = []

    def walk(node):
        found.append(f"{node['Node Type']} {node.get('Index Name', '')} {node.get('Index Cond', '')}".strip())
        for inner in node.get("Plans", ()):
            walk(inner)

    walk((plans if isinstance(plans, list) else json.loads(plans))[0]["Plan"])
    return found


def scans(lines):
    """The steps that read a whole table, or a whole index; a list of values (json_each) and a page are no tables."""
    return [
        line
        for line in lines
        if line.startswith("Seq Scan")
        or (line.startswith(("Index Scan", "Index Only Scan", "Bitmap Index Scan")) and len(line.split(maxsplit=3)) < 4)
        or (
            line.startswith("SCAN ")
            and not ("VIRTUAL TABLE INDEX " in line and ":G" in line)
            and "LIST SUBQUERY" not in line
            and "SCAN listed " not in line
            and not line.startswith("SCAN anon_")  # a page of one arm, whose own steps are other lines
        )
    ]


@pytest.mark.parametrize(("level", "keys", "driver"), QUERIES, ids=str)
def test_every_query_is_driven_by_the_index_that_narrows_most(index, level, keys, driver):
    asked = ASKED if level > PATIENT else {"PatientName": "", "PatientID": ""}
    identifier = Identifier.of(asked | keys, level=level.name, options=QueryOptions(relational=True))
    for limit in (None, 100):
        planned, _ = index.planned(identifier, root=PATIENT, limit=limit)
        assert planned.driver is driver
        statement = planned.statement.compile(index.database._reader, compile_kwargs={"literal_binds": True})
        with index.database.read() as connection:
            lines = steps(
                connection, str(statement).replace("%", "%%") if not index.database.is_sqlite else str(statement)
            )
        assert scans(lines) == [], lines
        if index.database.is_sqlite:  # PostgreSQL chooses by its statistics
            assert any(INDEXES[driver] in line for line in lines), lines


PAGES = [
    (STUDY, {"AccessionNumber": "A12*"}),
    (STUDY, {"PatientID": "P12*"}),
    (STUDY, {"PatientName": "==やま*"}),
    (STUDY, {"PatientName": "smith*="}),
    (PATIENT, {"PatientName": "smith*="}),
    (STUDY, {"PatientName": "*smith*"}),
    (PATIENT, {"PatientName": "*smith*"}),
    (STUDY, {"PatientBirthDate": "19700101-"}),
    (STUDY, {"StudyDate": "20260101-", "ModalitiesInStudy": "CT"}),
    (SERIES, {"StudyDate": "20260101-"}),
    (STUDY, {"ModalitiesInStudy": "CT"}),
    (SERIES, {"Modality": "CT"}),
    (STUDY, {}),
]


@pytest.mark.parametrize(("level", "keys"), PAGES, ids=str)
def test_a_page_is_read_in_the_order_of_its_index(index, level, keys):
    asked = ASKED if level > PATIENT else {"PatientName": "", "PatientID": ""}
    identifier = Identifier.of(asked | keys, level=level.name, options=QueryOptions(relational=True))
    planned, _ = index.planned(identifier, root=PATIENT, limit=100)
    statement = str(planned.statement.compile(index.database._reader, compile_kwargs={"literal_binds": True}))
    # Studies come once for each of their series of a modality: the first page looks further.
    assert ("LIMIT 200" if list(keys) == ["ModalitiesInStudy"] else "LIMIT 100") in statement
    with index.database.read() as connection:
        if index.database.is_sqlite:
            lines = steps(connection, statement)
        else:
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
            lines = steps(connection, statement.replace("%", "%%"))
    assert not [line for line in lines if "TEMP B-TREE" in line or line.startswith("Sort")], lines


def test_parts_of_names_come_before_the_studies_that_have_them(index):
    planned = plan(Identifier.of(ASKED | {"PatientName": "*doe*"}, level="STUDY"), STUDY, sqlite=True)
    text = str(planned.statement.compile(compile_kwargs={"literal_binds": True}))
    assert "patient.id = +patient_name.rowid" in text
    if index.database.is_sqlite:
        with index.database.read() as connection:
            lines = steps(connection, text)
        assert [line for line in lines if "VIRTUAL TABLE" in line] == ["SCAN patient_name VIRTUAL TABLE INDEX 0:G0"]
        assert scans(lines) == []


def test_what_is_not_narrowed_is_read_in_order(index):
    planned = plan(Identifier.of(ASKED, level="STUDY"), STUDY, sqlite=index.database.is_sqlite, limit=10)
    assert planned.driver is Driver.NONE
    statement = str(planned.statement.compile(index.database._reader, compile_kwargs={"literal_binds": True}))
    with index.database.read() as connection:
        lines = steps(connection, statement)
    assert not [line for line in lines if "TEMP B-TREE" in line or line.startswith("Sort")], lines


@contextmanager
def watched(database):
    """The statements that read or change rows, with their parameters, as they reach the database's driver."""
    seen = []

    def remember(statement, parameters=None):
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE"):
            seen.append((statement, parameters))

    def taken(driver, *_):  # SQLite tells of what it does, psycopg's cursors of what they are given
        driver.set_trace_callback(remember)

    def given(cursor, query, params=None, *, execute=psycopg.Cursor.execute, **options):
        remember(str(query), params)
        return execute(cursor, query, params, **options)

    def many(cursor, query, rows, *, executemany=psycopg.Cursor.executemany, **options):
        remember(str(query), next(iter(rows)))
        return executemany(cursor, query, rows, **options)

    engines = {database._writer, database._logged, database._reader} if database.is_sqlite else set()
    for engine in engines:
        event.listen(engine, "checkout", taken)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", given)
        patch.setattr(psycopg.Cursor, "executemany", many)
        yield seen
    for engine in engines:
        event.remove(engine, "checkout", taken)
        engine.dispose()


def test_what_adds_and_locates_uses_indexes(index, database):
    with watched(database) as seen:
        index.add([numbered(1, 1, 2), numbered(1, 2, 1), numbered(7), numbered(8, PatientID="")])
        index.add([dataclasses.replace(numbered(9), uid="1.9.9")])
        for level, uid in ((PATIENT, "P1"), (STUDY, "1.2.1"), (SERIES, "1.2.1.1"), (IMAGE, "1.2.1.1.1")):
            list(index.instances(level, [uid]))
    assert len(seen) > 15
    with database.write() as connection:
        for statement, parameters in seen:
            if "pg_" not in statement:
                assert scans(steps(connection, statement, parameters)) == [], statement


def test_postgresql_finds_parts_of_names_by_trigrams(database):
    if database.is_sqlite:
        wanted = "SELECT rowid FROM patient_name WHERE name_n GLOB '*smith*'"
        with database.read() as connection:
            assert "VIRTUAL TABLE INDEX 0:G" in steps(connection, wanted)[0]
        return
    with database.read() as connection:
        lines = steps(connection, "SELECT id FROM patient WHERE name_n LIKE '%%smith%%'")
    assert any("ix_patient_name_trigram" in line for line in lines), sqlalchemy.__version__


def test_postgresql_knows_how_many_names_begin_with_some_letters(database):
    """By 100 samples it takes thousands of studies for a few, and sorts them all for each page."""
    if database.is_sqlite:
        return  # which goes by the order of the index in any case
    wanted = "SELECT attname FROM pg_attribute WHERE attrelid = 'study'::regclass AND attstattarget = 1000"
    with database.read() as connection:
        assert set(connection.scalars(sqlalchemy.text(wanted))) == {"name_n", "pid"}


def test_this_test_sees_scans(index):
    identifier = Identifier.of(ASKED | {"StudyDescription": "*x*"}, level="STUDY")
    planned, _ = index.planned(identifier)
    statement = str(planned.statement.compile(index.database._reader, compile_kwargs={"literal_binds": True}))
    with index.database.read() as connection:
        assert scans(steps(connection, statement.replace("%", "%%") if not index.database.is_sqlite else statement))
