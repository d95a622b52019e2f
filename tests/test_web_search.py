"""QIDO-RS equals the naive matcher: random queries, as a URL has them, over odd instances (PS3.18 Section 8.3.4)."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_tree import Tree, odd_records
from starlette.requests import Request
from test_repository_find import PARTS, QUERIES, QUERIES_OF_PART, queries

from dicomnet.repository.catalog import ATTRIBUTES, BY_KEYWORD, VR_OF, Level
from dicomnet.repository.database import Database
from dicomnet.repository.index import Index, Outcome
from dicomnet.repository.keys import Identifier, QueryOptions
from dicomnet.repository.responses import Answers
from dicomnet.web.repository import WebRepository
from dicomnet.web.search import _answer, search

UNIQUE = {Level.STUDY: "StudyInstanceUID", Level.SERIES: "SeriesInstanceUID", Level.IMAGE: "SOPInstanceUID"}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Odd instances in an index, and in memory."""
    with Database.opened(tmp_path_factory.mktemp("odd") / "index.db", durable=False) as database:
        index, tree = Index(database), Tree()
        records = odd_records(random.Random(16), 250)
        for one, added in zip(records, index.add(records), strict=True):
            if added.outcome is Outcome.NEW:
                tree.add(one)
        yield WebRepository(index, None, None, lambda: None, lambda: True), tree


def asked(repository: WebRepository, level: Level, parameters: list[tuple[str, str]]) -> list[dict]:
    query = urlencode(parameters).encode()
    scope = {"type": "http", "method": "GET", "path": "/", "path_params": {}, "query_string": query,
             "headers": [(b"host", b"pacs")], "scheme": "http", "server": ("pacs", 80)}  # fmt: skip
    answer = search(Request(scope), repository, level)
    return json.loads(answer.body) if answer.status_code == 200 else []


def parameters_of(values: dict) -> list[tuple[str, str]]:
    """Keys as a URL has them: within a sequence with dots, UIDs with commas."""
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += [(f"{name}.{inner}", text) for inner, text in value.items()] or [(name, "")]
        else:
            found.append((name, value.replace("\\", ",") if name.endswith("InstanceUID") else value))
    return found


def compare(odd, query) -> None:
    repository, tree = odd
    values, level, options = query
    if level is Level.PATIENT:
        level = Level.STUDY
    options = QueryOptions(relational=True, empty_value=options.empty_value)
    more = [("emptyvaluematching", "true")] if options.empty_value else []
    found = [one[f"{BY_KEYWORD[UNIQUE[level]]:08X}"]["Value"][0] for one in
             asked(repository, level, parameters_of(values) + more)]  # fmt: skip
    identifier = Identifier.of({UNIQUE[level]: "", **values}, level=level.name, options=options)
    tag = f"{BY_KEYWORD[UNIQUE[level]]:08X}"
    wanted = [dict(one)[tag] for one in tree.find(identifier, level)]
    assert Counter(found) == Counter(wanted)


@settings(max_examples=QUERIES, report_multiple_bugs=False)
@pytest.mark.deadline(60 + QUERIES / 20)
@given(query=queries())
def test_finds_what_the_naive_matcher_finds(odd, query):
    compare(odd, query)


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
@settings(max_examples=QUERIES_OF_PART, report_multiple_bugs=False, database=None)
@pytest.mark.deadline(280)
@given(query=queries())
def test_finds_the_same_many_thousand_times(odd, part, query):
    compare(odd, query)


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_text_is_what_the_objects_are(odd, level):
    """Answers in JSON are written without the objects that those in XML are made of."""
    repository, _ = odd
    every = [one.keyword for one in ATTRIBUTES.values() if one.level <= level]
    for keys in (every, ["00081190", "00081199", UNIQUE[level]], []):
        identifier = Identifier.of(dict.fromkeys(keys, ""), level=level.name, options=QueryOptions(relational=True))
        matches = list(repository.index.find(identifier, level=level, answers=Answers(retrieve_ae_title="A\\B")))
        assert len(matches) > 1
        for match in matches:
            assert json.loads(match.json_text("http://pacs")) == _answer(match.json(), "http://pacs")


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        ("00101030", "DS", "1" * 5000, {"vr": "DS", "Value": ["1" * 5000]}),  # more than Python makes a number of
        ("00101030", "DS", [{}], {"vr": "SQ", "Value": [{}]}),
        ("001021B0", "LT", [{}], {"vr": "SQ", "Value": [{}]}),
        ("00321032", "PN", [{}], {"vr": "SQ", "Value": [{}]}),
    ],
    ids=["digits", "sequence for a number", "sequence for a text", "sequence for a name"],
)
def test_an_odd_value_keeps_nothing_from_being_found(tmp_path, tag, vr, value, expected):
    """A device may write anything; what it wrote is in the answers of all that searches find."""
    (record,) = odd_records(random.Random(1), 1)
    record = replace(record, study=replace(record.study, attrs=json.dumps({tag: value})))
    with Database.opened(tmp_path / "index.db", durable=False) as database:
        Index(database).add([record])
        repository = WebRepository(Index(database), None, None, lambda: None, lambda: True)
        assert VR_OF[int(tag, 16)] == vr
        (found,) = asked(repository, Level.STUDY, [("includefield", tag)])
        assert found[tag] == expected


@settings(max_examples=QUERIES // 5)
@given(size=st.integers(1, 40), level=st.sampled_from([Level.STUDY, Level.SERIES, Level.IMAGE]))
def test_pages_are_all_of_it_once(odd, size, level):
    repository, _ = odd
    whole = asked(repository, level, [])
    pages, offset = [], 0
    while page := asked(repository, level, [("limit", str(size)), ("offset", str(offset))]):
        pages += page
        offset += size
    assert pages == whole
