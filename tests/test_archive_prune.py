"""Retention and quota: the oldest go, and never what must not."""

import json
import time
from dataclasses import replace

import archives
import pytest
from archives import part10
from sqlalchemy import update

from dicomnet.archive import retention
from dicomnet.archive import retention_worker as worker_module
from dicomnet.archive.checks import fsck
from dicomnet.archive.commitment import QUEUE
from dicomnet.archive.retention import Policy, prune
from dicomnet.archive.retention_worker import EVERY, RETENTION, RetentionWorker
from dicomnet.archive.settings import ArchiveSettings
from dicomnet.cli import app
from dicomnet.errors import InvalidArgument
from dicomnet.repository import schema
from dicomnet.repository.work_schema import commitment

DAY, NOW = 86_400.0, 1_700_000_000.0


@pytest.fixture
def holdings(tmp_path):
    """An archive of four studies: 40, 30, 20 days, and ten minutes old."""
    with archives.opened(tmp_path / "archive") as holdings:
        archives.store(
            holdings, [part10(number, study=study, size=3200) for study in (1, 2, 3, 4) for number in (1, 2)]
        )
        for study, age in ((1, 40 * DAY), (2, 30 * DAY), (3, 20 * DAY), (4, 600)):
            named = update(schema.study).where(schema.study.c.uid == f"1.2.{study}")
            with holdings.database.write() as connection:
                connection.execute(named.values(seen_at=NOW - age))
        yield holdings
        assert list(fsck(holdings)) == []


def left(holdings):
    return sorted({place.uid[:5] for page in holdings.places.pages() for place in page})


def size_of(holdings):
    return sum(place.size for page in holdings.places.pages() for place in page)


def test_what_is_too_old_goes(holdings):
    gone = list(prune(holdings, Policy(seconds=25 * DAY), NOW))
    assert [one.uid for one in gone] == ["1.2.1", "1.2.2"]
    assert left(holdings) == ["1.2.3", "1.2.4"]
    assert not list(prune(holdings, Policy(seconds=25 * DAY), NOW))


def test_of_too_much_the_oldest_go_but_not_what_came_within_the_hour(holdings):
    half = size_of(holdings) // 2
    assert [one.uid for one in prune(holdings, Policy(most_bytes=half), NOW)] == ["1.2.1", "1.2.2"]
    assert size_of(holdings) <= half
    assert [one.uid for one in prune(holdings, Policy(most_bytes=1), NOW)] == ["1.2.3"]
    assert left(holdings) == ["1.2.4"]


def test_what_is_protected_stays_and_the_next_goes_for_it(holdings):
    policy = Policy(most_bytes=size_of(holdings) // 2, patients=frozenset({"P1"}), studies=frozenset({"1.2.2"}))
    told = [(one.uid, bool(one.kept)) for one in prune(holdings, policy, NOW)]
    assert told == [("1.2.1", True), ("1.2.2", True), ("1.2.3", False)]
    assert left(holdings) == ["1.2.1", "1.2.2", "1.2.4"]


def test_what_a_sender_waits_to_hear_of_stays(holdings):
    with holdings.database.write() as connection:
        request = json.dumps([[archives.CT, "1.2.1.1.2"]])
        values = {"uid": "1.2.9", "calling": "CT1", "called": "ARCHIVE", "request": request, "at": NOW}
        connection.execute(commitment.insert().values(**values))
        holdings.outbox.enqueue(connection, QUEUE, {"transaction": "1.2.9"}, destination="CT1", key="1.2.9")
    told = [(one.uid, one.kept) for one in prune(holdings, Policy(seconds=25 * DAY), NOW)]
    assert told == [("1.2.1", "its storage commitment is not reported yet"), ("1.2.2", "")]
    assert left(holdings) == ["1.2.1", "1.2.3", "1.2.4"]


def test_a_policy_says_something():
    with pytest.raises(InvalidArgument, match="neither"):
        Policy()


def test_the_command_tells_first_and_does_then(holdings, capsys):
    words = ["archive", "prune", str(holdings.directory), "--size", "1", "--except-patient", "P2", "--json"]
    summaries = []
    for more in (["--dry-run"], []):
        assert app.run([*words, *more]) == 0
        summaries.append(json.loads(capsys.readouterr().out.splitlines()[-1])["summary"])
    assert summaries[0] == summaries[1]
    assert (summaries[1]["studies"], summaries[1]["kept"]) == (3, 1)
    assert left(holdings) == ["1.2.2"]


def test_the_settings_bound_goes_by_itself(tmp_path):
    (tmp_path / "archive").mkdir()
    text = 'port = 0\nretention_days = 25\nretention_size = "500g"\nprotected_studies = ["1.2.2"]\n'
    (tmp_path / "archive" / "archive.toml").write_text(text)
    with archives.opened(tmp_path / "archive") as holdings:
        archives.store(holdings, [part10(1, study=study) for study in (1, 2, 3)])
        with holdings.database.write() as connection:
            connection.execute(update(schema.study).values(seen_at=NOW - 30 * DAY))
            recent = update(schema.study).where(schema.study.c.uid == "1.2.3")
            connection.execute(recent.values(seen_at=NOW - 20 * DAY))
        worker = RetentionWorker(holdings, clock=lambda: NOW)
        assert worker.look() == 1
        assert left(holdings) == ["1.2.2", "1.2.3"]
        assert worker.look() == 0


def test_one_node_of_several_deletes_by_the_clock_of_the_database(tmp_path, postgresql, monkeypatch):
    url = postgresql.url(postgresql.new_database())
    a, b = ({"directory": tmp_path / name, "database": url, "retention_days": 25} for name in ("a", "b"))
    real = time.time
    with archives.opened(**a) as first, archives.opened(**b) as second:
        archives.store(first, [part10(1)])
        monkeypatch.setattr(time, "time", lambda: real() + 30 * DAY)
        assert RetentionWorker(first).look() == 0
        first.database.clock = second.database.clock = lambda: real() + 30 * DAY
        one = RetentionWorker(first)
        assert second.nodes.take(RETENTION, EVERY)
        assert one.look() == 0
        second.nodes.leave()
        assert one.look() == 1
        assert not second.nodes.take(RETENTION, EVERY)
        assert left(first) == []


def test_without_a_bound_everything_is_kept(tmp_path):
    with archives.opened(tmp_path / "archive") as holdings:
        archives.store(holdings, [part10(1)])
        assert RetentionWorker(holdings, clock=lambda: NOW * 2).look() == 0
        assert left(holdings) == ["1.2.1"]


@pytest.mark.parametrize("wrong", ["retention_days = 0", 'retention_size = "much"', 'retention_size = "0"'])
def test_a_bound_that_is_none_is_refused(tmp_path, wrong):
    (tmp_path / "archive.toml").write_text(f"{wrong}\n")
    with pytest.raises(InvalidArgument, match=r"archive.toml: .*(retention_days|size)"):
        ArchiveSettings.load(tmp_path)


def test_page_by_page_what_goes_and_what_stays(holdings, monkeypatch):
    """Some of a page stay, some go; two studies were added to at the same moment."""
    monkeypatch.setattr(retention, "_PAGE", 1)
    with holdings.database.write() as connection:
        second = update(schema.study).where(schema.study.c.uid == "1.2.2")
        connection.execute(second.values(seen_at=NOW - 40 * DAY))
    policy = Policy(seconds=15 * DAY, studies=frozenset({"1.2.1"}))
    assert [(one.uid, bool(one.kept)) for one in prune(holdings, policy, NOW)] == [
        ("1.2.1", True), ("1.2.2", False), ("1.2.3", False),
    ]  # fmt: skip
    assert left(holdings) == ["1.2.1", "1.2.4"]


def test_a_policy_that_changes_holds_after_the_study_that_is_being_deleted(holdings, monkeypatch):
    holdings.apply(replace(holdings.settings, retention_days=15))
    worker = RetentionWorker(holdings, clock=lambda: NOW)
    real = worker_module.prune

    def prune_and_change(*arguments):
        for study in real(*arguments):
            holdings.apply(replace(holdings.settings, retention_days=35))
            yield study

    monkeypatch.setattr(worker_module, "prune", prune_and_change)
    assert worker.look() == 1
    assert left(holdings) == ["1.2.2", "1.2.3", "1.2.4"]
