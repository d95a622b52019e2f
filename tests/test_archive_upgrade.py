"""An upgrade of the tables while a node that began with the old ones stores: nothing waits long, nothing fails.

Both nodes have this version's code: what is shown is that the steps hold up none that writes to the tables of before.
"""

from __future__ import annotations

import os
import threading
import time

import archives
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from archives import CT, part10
from rig import until
from sqlalchemy import text

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.checks import fsck
from dicomnet.repository import database as databases
from dicomnet.repository.database import Database
from dicomnet.repository.migrations import LAST
from dicomnet.repository.migrations.steps import scripts
from dicomnet.repository.setting_snapshots import SettingSnapshots

ROWS = int(os.environ.get("DICOMNET_UPGRADE_ROWS", "100000"))
#: What the tables of the version before say of themselves.
BEFORE = ("0003", "0008p", "0009a")
LONGEST = 1.0  # seconds for which a write may be held up
_LOCKED = text("""
    SELECT DISTINCT relation::regclass::text FROM pg_locks
    WHERE granted AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND relation IN ('patient'::regclass, 'study'::regclass, 'series'::regclass, 'instance'::regclass, 'blob'::regclass,
                     'change'::regclass, 'outbox'::regclass)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
# A patient, a study and a series to each hundred instances.
_FILL = """
INSERT INTO blob (storage, key, refs) VALUES ('', 'segments/900001.seg', {rows});
INSERT INTO patient (pid, name, name_n) SELECT 'F' || n, 'F^' || n, 'f^' || n FROM generate_series(1, {rows} / 100) n;
INSERT INTO study (patient_id, origin_id, uid, pid, name_n, n_series, n_inst)
SELECT id, id, '1.3.' || id, pid, name_n, 1, 100 FROM patient;
INSERT INTO series (study_id, uid, modality, n_inst) SELECT id, uid || '.1', 'CT', 100 FROM study;
INSERT INTO instance (series_id, uid, cls, ts, number, bytes, sha, blob_id)
SELECT series.id, series.uid || '.' || n, '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1', n, 0, 'x', blob.id
FROM series, blob, generate_series(1, 100) n
"""


def old_tables(url):
    """The tables of the version before, with rows."""
    known = scripts()
    with Database(url) as database, database.write() as connection:
        for head in BEFORE:
            context = MigrationContext.configure(
                connection, opts={"fn": lambda revisions, _, head=head: known._upgrade_revs(head, revisions)}
            )
            with Operations.context(context):
                context.run_migrations()
        for statement in _FILL.format(rows=ROWS).split(";"):
            connection.exec_driver_sql(statement)


class Sender(threading.Thread):
    """Stores at one node until it is told to stop, and keeps the seconds that each took."""

    def __init__(self, archive, study):
        super().__init__(daemon=True)
        host, port = archive.listener.address
        self._peer, self._study = f"ARCHIVE@{host}:{port}", study
        self.stop, self.begun = threading.Event(), threading.Event()
        self.taken, self.failed, self.error = [], [], None

    def run(self):
        try:
            with dn.connect(self._peer, contexts=dn.contexts.storage([CT])) as association:
                number = 0
                while not self.stop.is_set():
                    number += 1
                    begin = time.monotonic()
                    status = association.store(part10(number, study=self._study)).status
                    self.taken.append(time.monotonic() - begin)
                    if not status.is_success:
                        self.failed.append(str(status))
                    self.begun.set()
        except Exception as error:
            self.error = error
            self.begun.set()


class Watch(threading.Thread):
    """Looks which tables are locked against writers, and for how long."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self._url, self.stop = url, threading.Event()
        self.longest, self.looks = {}, 0

    def run(self):
        since = {}
        with Database(self._url) as database:
            while not self.stop.wait(0.005):
                with database.write() as connection:
                    locked = set(connection.execute(_LOCKED).scalars())
                now = time.monotonic()
                self.looks += 1
                since = {name: since.get(name, now) for name in locked}
                for name, begin in since.items():
                    self.longest[name] = max(self.longest.get(name, 0.0), now - begin)


@pytest.mark.long
@pytest.mark.measures
@pytest.mark.deadline(300)
def test_no_write_waits_for_a_second_and_no_store_fails(tmp_path, postgresql, monkeypatch):
    url = postgresql.url(postgresql.new_database())
    old_tables(url)
    shared = {"database": url, "storage": str(tmp_path / "blobs")}
    with monkeypatch.context() as patch:
        patch.setattr(databases, "upgrade", lambda _: None)  # as a node that knows of no step to take
        patch.setattr(SettingSnapshots, "newest", lambda *_: iter(()))  # nor of the table that it makes
        old = Archive(tmp_path / "old", archives.make(tmp_path / "old", **shared))
    with old:
        first, watch = Sender(old, 1), Watch(url)
        for thread in (first, watch):
            thread.start()
        assert first.begun.wait(60)
        with Archive(tmp_path / "new", archives.make(tmp_path / "new", **shared)) as new:
            second = Sender(new, 2)
            second.start()
            assert second.begun.wait(60)
            seen = len(first.taken)
            for one, enough in ((first, seen + 50), (second, 50)):
                until(lambda one=one, enough=enough: one.error or len(one.taken) >= enough)
            for one in (first, second):
                one.stop.set()
                one.join(60)
            watch.stop.set()
            watch.join(60)
            with new.holdings.database.read() as connection:
                said = set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
            stored = [one for one in fsck(new.holdings) if one.uid.startswith("1.2.")]
    assert said == LAST
    assert (first.error, second.error) == (None, None)
    assert (first.failed, second.failed, stored) == ([], [], [])
    assert watch.looks > 10
    print(f"{ROWS} rows, load {os.getloadavg()[0]:.1f}: {len(first.taken)} and {len(second.taken)} stored, the slowest "
          f"{max(first.taken + second.taken):.2f} s; locked against writers {watch.longest}")  # fmt: skip
    assert max(watch.longest.values(), default=0.0) < LONGEST
