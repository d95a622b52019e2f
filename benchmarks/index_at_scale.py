"""The index at scale: rows made in bulk, then the queries that archives are asked, timed.

Usage::

    python benchmarks/index_at_scale.py --instances 1000000 sqlite:////tmp/index.db
    python benchmarks/index_at_scale.py --instances 10000000 postgresql://user@host/empty

The database is made and filled if it is empty; a second run only asks, and ``--fill`` only makes it. Patients have
three studies each, of two series of six instances. What is printed: p50, p95 and the slowest of each query, from the
keys to the encoded answers, what reads a whole table or index, and how many answers a second one query streams. CPU is
this process's, per query: all there is of SQLite, the client's part of PostgreSQL; on a busy machine that is what to
compare.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator

import sqlalchemy
from starlette.applications import Starlette
from starlette.routing import Mount

from dicomnet import uids
from dicomnet.repository import schema
from dicomnet.repository.catalog import Level
from dicomnet.repository.database import Database
from dicomnet.repository.index import Index
from dicomnet.repository.keys import Identifier, QueryOptions
from dicomnet.web.application import dicomweb
from dicomnet.web.repository import WebRepository
from dicomnet.web.serving import WebServing

STUDIES_OF_PATIENT, SERIES_OF_STUDY, INSTANCES_OF_SERIES = 3, 2, 6
BATCH = 20_000
WARMING = 3
SYLLABLES = ("ma", "son", "ber", "li", "schmi", "dt", "kow", "al", "ski", "gar", "ci", "nak", "ura", "jo", "hn", "ro")
GIVEN = ["anna", "jane", "john", "li", "maria", "mohammed", "olga", "peter", "sofia", "taro", "wei", "yusuf"]
MODALITIES = ["CT", "MR", "CR", "US", "DX", "MG", "XA", "NM"]
KEYS = ["PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
        "AccessionNumber", "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances",
        "StudyID"]  # fmt: skip


@functools.lru_cache(40_000)
def _family(number: int) -> str:
    draw = random.Random(number)
    return "".join(draw.choice(SYLLABLES) for _ in range(draw.choice([2, 3, 3])))


def family(number: int) -> str:
    return _family(number % 40_000)


def name(patient: int) -> str:
    return f"{family(patient * 7919)}^{GIVEN[patient % len(GIVEN)]}"


def study_date(study: int, studies: int) -> str:
    day = study * 3650 // studies  # ten years, as many each day
    return time.strftime("%Y%m%d", time.gmtime(1_451_606_400 + 86_400 * day))


def rows(instances: int) -> Iterator[tuple[sqlalchemy.Table, Iterator[tuple[object, ...]], list[str]]]:
    """The rows of each table, and the columns that they have."""
    series = max(2, instances // INSTANCES_OF_SERIES)
    studies = max(1, series // SERIES_OF_STUDY)
    patients = max(1, studies // STUDIES_OF_PATIENT)
    sha = bytes(32)
    yield schema.patient, (
        (n, f"PID{n:08}", name(n), name(n), f"{1930 + n % 80}{1 + n % 12:02}{1 + n % 28:02}", "FM"[n % 2], "{}")
        for n in range(1, patients + 1)
    ), ["id", "pid", "name", "name_n", "birth", "sex", "attrs"]  # fmt: skip
    yield schema.study, (
        (n, 1 + n % patients, f"1.2.840.99999.1.{n}", study_date(n, studies), f"{n % 24:02}{n % 60:02}00", f"ACC{n:09}",
         f"S{n}", f"Study of kind {n % 100}", MODALITIES[n * 7 % 8], uids.CT_IMAGE_STORAGE, f"PID{1 + n % patients:08}",
         name(1 + n % patients), SERIES_OF_STUDY, SERIES_OF_STUDY * INSTANCES_OF_SERIES, "{}")
        for n in range(1, studies + 1)
    ), ["id", "patient_id", "uid", "date", "time", "acc", "study_id", "descr", "mods", "sop_classes", "pid", "name_n",
        "n_series", "n_inst", "attrs"]  # fmt: skip
    yield schema.series, (
        (n, 1 + n % studies, f"1.2.840.99999.2.{n}", MODALITIES[(1 + n % studies) * 7 % 8], n // studies, "Series",
         INSTANCES_OF_SERIES, '{"00080070":"Maker","00081090":"Model"}')
        for n in range(1, series + 1)
    ), ["id", "study_id", "uid", "modality", "number", "descr", "n_inst", "attrs"]  # fmt: skip
    yield schema.blob, iter([(1, "main", "segment-1")]), ["id", "storage", "key"]
    yield schema.instance, (
        (n, 1 + n % series, f"1.2.840.99999.3.{n}", uids.CT_IMAGE_STORAGE, uids.EXPLICIT_VR_LITTLE_ENDIAN, n // series,
         512, 512, 16, 530_000, sha, 1, n * 530_000)
        for n in range(1, instances + 1)
    ), ["id", "series_id", "uid", "cls", "ts", "number", "rows", "columns", "bits", "bytes", "sha", "blob_id",
        "off"]  # fmt: skip


def fill(database: Database, instances: int) -> None:
    for table, values, columns in rows(instances):
        started = time.monotonic()
        count = 0
        while batch := list(itertools.islice(values, BATCH)):
            count += len(batch)
            with database.write() as connection:
                driver = connection.connection.cursor()
                names = ", ".join(f'"{column}"' for column in columns)
                if database.is_sqlite:
                    marks = ", ".join("?" * len(columns))
                    driver.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", batch)
                else:
                    with driver.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
                        for row in batch:
                            copy.write_row(row)
        print(f"  {table.name}: {count} rows in {time.monotonic() - started:.1f} s", flush=True)
    with database.write() as connection:
        for table in ("patient", "study", "series", "instance", "blob"):
            if not database.is_sqlite:
                last = f"(SELECT max(id) FROM {table})"
                connection.execute(sqlalchemy.text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})"))
        connection.execute(sqlalchemy.text("ANALYZE"))


def questions(studies: int, draw: random.Random) -> dict[str, Callable[[], tuple[Level, dict[str, str], int | None]]]:
    """The shipped queries: level, keys and limit."""
    patients = max(1, studies // STUDIES_OF_PATIENT)
    any_study, any_patient = (lambda: draw.randint(1, studies)), (lambda: draw.randint(1, patients))

    def year() -> str:
        first = study_date(any_study(), studies)
        return f"{first}-{int(first[:4]) + 1}{first[4:6]}28"

    study, series, image = Level.STUDY, Level.SERIES, Level.IMAGE
    study_uid = lambda: f"1.2.840.99999.1.{any_study()}"  # noqa: E731
    return {
        "study UID": lambda: (study, {"StudyInstanceUID": study_uid()}, None),
        "accession number": lambda: (study, {"AccessionNumber": f"ACC{any_study():09}"}, None),
        "patient ID": lambda: (study, {"PatientID": f"PID{any_patient():08}"}, None),
        "patient ID, level PATIENT": lambda: (Level.PATIENT, {"PatientID": f"PID{any_patient():08}"}, None),
        "patient ID and dates": lambda: (study, {"PatientID": f"PID{any_patient():08}", "StudyDate": year()}, None),
        "whole name": lambda: (study, {"PatientName": name(any_patient())}, None),
        "name, 5 letters": lambda: (study, {"PatientName": family(any_patient() * 7919)[:5] + "*"}, 200),
        "name, 3 letters": lambda: (study, {"PatientName": family(any_patient() * 7919)[:3] + "*"}, 200),
        "name and a year": lambda: (
            study, {"PatientName": family(any_patient() * 7919)[:4] + "*", "StudyDate": year()}, 200),
        "name, level PATIENT": lambda: (Level.PATIENT, {"PatientName": family(any_patient() * 7919)[:6] + "*"}, 200),
        "part of a name": lambda: (study, {"PatientName": f"*{family(any_patient() * 7919)[2:7]}*"}, 200),
        "birth date": lambda: (study, {"PatientBirthDate": f"{1930 + any_patient() % 80}0101", "PatientSex": "F"}, 200),
        "a day": lambda: (study, {"StudyDate": study_date(any_study(), studies)}, None),
        "a day's CTs": lambda: (
            study, {"StudyDate": study_date(any_study(), studies), "ModalitiesInStudy": "CT"}, None),
        "dates, first 101": lambda: (study, {"StudyDate": study_date(any_study(), studies) + "-"}, 101),
        "two modalities, first 100": lambda: (study, {"ModalitiesInStudy": "CT\\MR"}, 100),
        "modality, first 100": lambda: (study, {"ModalitiesInStudy": draw.choice(MODALITIES)}, 100),
        "everything, first 100": lambda: (study, {}, 100),
        "series of a study": lambda: (series, {"StudyInstanceUID": study_uid(), "SeriesInstanceUID": "",
                                               "NumberOfSeriesRelatedInstances": ""}, None),
        "images of a study": lambda: (image, {"StudyInstanceUID": study_uid(), "SOPInstanceUID": "",
                                              "InstanceNumber": ""}, None),
        "image UID": lambda: (image, {"SOPInstanceUID": f"1.2.840.99999.3.{any_study()}"}, None),
    }  # fmt: skip


def identifier_of(level: Level, keys: dict[str, str]) -> Identifier:
    wanted = dict.fromkeys(KEYS if level == Level.STUDY else KEYS[:5], "") | keys
    return Identifier.of(wanted, level=level.name, options=QueryOptions(relational=True))


def ask(index: Index, level: Level, keys: dict[str, str], limit: int | None) -> int:
    found = 0
    for match in index.find(identifier_of(level, keys), root=Level.PATIENT, limit=limit):
        match.encode(uids.EXPLICIT_VR_LITTLE_ENDIAN)
        found += 1
    return found


def measure(index: Index, studies: int, times: int) -> None:
    draw = random.Random(1)
    print(f"{'query':28} {'driver':12} {'found':>6} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8} {'CPU ms':>8}")
    for title, question in questions(studies, draw).items():
        for _ in range(WARMING):  # statements are compiled, connections made
            ask(index, *question())
        spent, found, before = [], [], time.process_time()
        for _ in range(times):
            level, keys, limit = question()
            started = time.perf_counter()
            found.append(ask(index, level, keys, limit))
            spent.append(1000 * (time.perf_counter() - started))
        processor = 1000 * (time.process_time() - before) / times
        level, keys, limit = question()
        driver = index.planned(identifier_of(level, keys), root=Level.PATIENT, limit=limit)[0].driver
        spent.sort()
        p95 = spent[min(len(spent) - 1, int(0.95 * len(spent)))]
        print(
            f"{title:28} {driver.name:12} {statistics.mean(found):6.0f} {statistics.median(spent):8.2f} {p95:8.2f}"
            f" {spent[-1]:8.2f} {processor:8.2f}",
            flush=True,
        )


def scans(index: Index, studies: int, times: int) -> None:
    """Which queries read a whole table, or a whole index: only the first ones of all studies may."""
    draw = random.Random(2)
    for title, question in questions(studies, draw).items():
        found: set[str] = set()
        for _ in range(times):
            level, keys, limit = question()
            plan, _ = index.planned(identifier_of(level, keys), root=Level.PATIENT, limit=limit)
            with index.database.read() as connection:
                statement = str(plan.statement.compile(connection, compile_kwargs={"literal_binds": True}))
                found |= set(scanned(connection, statement))
        if found:
            print(f"{title}: {', '.join(sorted(found))}")


def scanned(connection: sqlalchemy.Connection, statement: str) -> Iterator[str]:
    if connection.dialect.name == "sqlite":
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}"):
            # An arm of a query in a table's place has its own lines; trigrams are a table of their own.
            if row[3].startswith("SCAN ") and "VIRTUAL TABLE" not in row[3] and "SCAN anon_" not in row[3]:
                yield row[3]
        return
    nodes = [connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}").scalar_one()[0]["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", ())
        kind = node["Node Type"]
        if kind == "Seq Scan" or (kind.endswith(("Index Scan", "Index Only Scan")) and not node.get("Index Cond")):
            yield f"{kind} {node.get('Index Name', node.get('Relation Name', ''))}"


def stream(index: Index, most: int) -> None:
    identifier = Identifier.of(dict.fromkeys(KEYS, ""), level="STUDY", options=QueryOptions(relational=True))
    started, before, count = time.perf_counter(), time.process_time(), 0
    for match in index.find(identifier):
        match.encode(uids.EXPLICIT_VR_LITTLE_ENDIAN)
        count += 1
        if count == most:
            break
    seconds = time.perf_counter() - started
    processor = time.process_time() - before
    print(
        f"streaming: {count} answers of {len(KEYS)} keys, {count / seconds:.0f}/s;"
        f" {count / processor:.0f} per second of CPU"
    )


def search_by_web(index: Index, times: int) -> None:
    """What a viewer's list of studies asks, over HTTP, with a connection that stays open."""
    app = Starlette(routes=[Mount("/dicomweb", dicomweb(WebRepository(index, None, None, lambda: None, lambda: True)))])
    query = "/dicomweb/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060,00080090,00100030"
    spent: dict[str, list[float]] = {"the first": [], "by a name": [], "the tenth page": []}
    with WebServing(app, "127.0.0.1", 0) as serving:
        connection = http.client.HTTPConnection(*serving.address)
        for number in range(times):
            keys = ("", f"&PatientName=*{family(number * 7919)[:5]}*", "&offset=909")
            for (title, times_of), key in zip(spent.items(), keys, strict=True):
                started = time.perf_counter()
                connection.request("GET", query.replace("&offset=0", "") + (key or "&offset=0"))
                answer = connection.getresponse()
                body = answer.read()
                times_of.append(1000 * (time.perf_counter() - started))
                assert answer.status in (200, 204), (title, body[:200])
    for title, values in spent.items():
        values.sort()
        p95 = values[min(len(values) - 1, int(0.95 * len(values)))]
        print(f"QIDO-RS, limit=101, {title:15} p50 {statistics.median(values):.1f} ms, p95 {p95:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="SQLite's path, or the URL of an empty PostgreSQL database")
    parser.add_argument("--instances", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=100, help="how often each query is asked")
    parser.add_argument("--fill", action="store_true", help="make the rows alone")
    parser.add_argument("--web", action="store_true", help="the searches over HTTP alone")
    arguments = parser.parse_args()
    with Database.opened(arguments.url, durable=False) as database:
        with database.read() as connection:
            studies = connection.execute(sqlalchemy.select(sqlalchemy.func.max(schema.study.c.id))).scalar()
        if studies is None:
            fill(database, arguments.instances)
            with database.read() as connection:
                studies = connection.execute(sqlalchemy.select(sqlalchemy.func.max(schema.study.c.id))).scalar()
        if arguments.fill:
            return
        index = Index(database)
        search_by_web(index, arguments.times)
        if arguments.web:
            return
        measure(index, int(studies or 1), arguments.times)
        scans(index, int(studies or 1), 5)
        stream(index, 50_000)


if __name__ == "__main__":
    main()
