"""What an archive tells of its instances: once for each state of a study, truly, and over restarts."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager

import archives
import pytest
from programs import run_here

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive.archive import Archive
from dicomnet.archive.availability import AvailabilityNotifier
from dicomnet.archive.holdings import Holdings
from dicomnet.repository.deletion import delete_instances
from dicomnet.repository.exporting import export, selected

CLASS = uids.INSTANCE_AVAILABILITY_NOTIFICATION
PATIENCE = 30


class Subscriber:
    """A RIS that takes notes."""

    def __init__(self):
        self.notes, self.status, self.media = [], 0, {}
        self._changed = threading.Condition()
        self.listener = dn.Listener("RIS", port=0)
        self.listener.on_n_create(CLASS)(self._take)

    def _take(self, request):
        dataset = request.dataset
        said = {
            item.ReferencedSOPInstanceUID: item.InstanceAvailability
            for series in dataset.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        medium = ("StorageMediaFileSetID", "StorageMediaFileSetUID")
        self.media |= {
            item.ReferencedSOPInstanceUID: tuple(item.get(keyword, "") for keyword in medium)
            for series in dataset.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
            if item.InstanceAvailability == "OFFLINE"
        }
        with self._changed:
            self.notes.append((request.sop_instance_uid, dataset.StudyInstanceUID, said))
            self._changed.notify_all()
        return dn.Status(self.status)

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.notes) >= count, PATIENCE)

    def take(self):
        """The notes since the last time: study, and availability by UID."""
        notes, self.notes = self.notes, []
        return [note[1:] for note in notes]


@pytest.fixture
def ris():
    subscriber = Subscriber()
    with subscriber.listener:
        yield subscriber


class Told:
    """A notifier whose clock stands still until it is moved, as in one process of an archive."""

    def __init__(self, holdings):
        self.now = 1000.0
        self.notifier = AvailabilityNotifier(holdings, clock=lambda: self.now)
        self.own = self.notifier.open()

    def look(self, after=0.0):
        self.now += after
        self.notifier.look(self.own)


@contextmanager
def telling(directory, ris, now=1000.0):
    settings = archives.make(
        directory, destinations={"RIS": dn.Entity("RIS", *ris.listener.address)}, availability_to=("RIS",)
    )
    with Holdings(directory, settings) as holdings:
        told = Told(holdings)
        told.now = now
        with closing(told.own):
            yield holdings, told


def of(study, numbers, how):
    return {f"1.2.{study}.1.{number}": how for number in numbers}


def test_a_quiet_study_is_told_of_once_for_each_state(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(number) for number in (1, 2)])
        told.look()
        told.look(after=50)
        archives.store(holdings, [archives.part10(3)])
        told.look(after=20)  # something came: it is not quiet yet
        assert ris.take() == []
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1, 2, 3), "ONLINE"))]
        told.look(after=1000)
        archives.store(holdings, [archives.part10(3)])  # what is there already
        told.look(after=1000)
        told.look(after=1000)
        assert ris.take() == []


def test_what_is_deleted_is_unavailable(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(1), archives.part10(2), archives.part10(1, study=2)])
        told.look()
        told.look(after=61)
        assert sorted(study for study, _ in ris.take()) == ["1.2.1", "1.2.2"]
        delete_instances(holdings, ["1.2.1.1.1"])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1,), "UNAVAILABLE") | of(1, (2,), "ONLINE"))]
        delete_instances(holdings, ["1.2.1.1.2"])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (2,), "UNAVAILABLE"))]


def test_what_is_on_a_medium_alone_is_offline_and_says_where(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(1), archives.part10(2)])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1, 2), "ONLINE"))]
        assert holdings.offline.put(["1.2.1.1.1"], "DISC_7", "1.2.99") == 1
        told.look(after=61)
        assert ris.take() == []  # it is here yet
        delete_instances(holdings, ["1.2.1.1.1"])
        told.look()
        told.look(after=61)
        assert ris.media == {"1.2.1.1.1": ("DISC_7", "1.2.99")}
        assert ris.take() == [("1.2.1", of(1, (1,), "OFFLINE") | of(1, (2,), "ONLINE"))]
        delete_instances(holdings, ["1.2.1.1.2"])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1,), "OFFLINE") | of(1, (2,), "UNAVAILABLE"))]
        archives.store(holdings, [archives.part10(1)])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1,), "ONLINE"))]


def test_the_command_deletes_only_what_the_medium_has(tmp_path, ris):
    with telling(tmp_path / "archive", ris) as (holdings, told):
        archives.store(holdings, [archives.part10(number, Modality="CT") for number in (1, 2)])
        told.look()
        told.look(after=61)
        ris.take()
        places = selected(holdings, instances=["1.2.1.1.1"])
        export(holdings, places, tmp_path / "disc", "dicomdir", progress=lambda _: None)
    delete = "archive", "delete", str(tmp_path / "archive"), "--yes", "--medium", str(tmp_path / "disc")
    refused = run_here(*delete, "--study", "1.2.1")
    assert (refused.returncode != 0, "such as 1.2.1.1.2" in refused.stderr) == (True, True)
    done = run_here(*delete, "--instance", "1.2.1.1.1")
    assert done.returncode == 0, done.stderr
    with telling(tmp_path / "archive", ris, now=2000.0) as (holdings, told):
        told.look()
        told.look(after=61)
    assert ris.take() == [("1.2.1", of(1, (1,), "OFFLINE") | of(1, (2,), "ONLINE"))]


def test_a_restart_neither_forgets_nor_repeats(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(1)])
        told.look()
    with telling(tmp_path, ris, now=1100.0) as (holdings, told):
        told.look()
        assert ris.take() == [("1.2.1", of(1, (1,), "ONLINE"))]
    with telling(tmp_path, ris, now=1200.0) as (holdings, told):
        told.look(after=1000)
        assert ris.take() == []
        archives.store(holdings, [archives.part10(2)])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1, 2), "ONLINE"))]


def test_what_could_not_be_told_is_told_later_under_the_same_uid(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(1)])
        told.look()
        ris.status = 0x0110
        told.look(after=61)
        told.look(after=5)  # too early for another try
        assert len(ris.notes) == 1
        ris.status = 0x0111  # it was taken, and only the answer was lost
        told.look(after=6)
        told.look(after=4000)
        assert [uid for uid, *_ in ris.notes] == [ris.notes[0][0]] * 2


def test_what_is_committed_behind_a_higher_number_is_told_of(tmp_path, ris):
    with telling(tmp_path, ris) as (holdings, told):
        archives.store(holdings, [archives.part10(1)])
        with told.own:
            told.own.execute("UPDATE cursor SET seq = 100")  # as where another transaction was before
        told.look()
        told.look(after=61)
        told.look(after=61)
        assert ris.take() == [("1.2.1", of(1, (1,), "ONLINE"))]


def test_what_was_there_before_the_first_start_is_not_told_of(tmp_path, ris):
    with archives.opened(tmp_path) as holdings:
        archives.store(holdings, [archives.part10(1)])
    with telling(tmp_path, ris) as (holdings, told):
        told.look(after=61)
        archives.store(holdings, [archives.part10(1, study=2)])
        told.look()
        told.look(after=61)
        assert ris.take() == [("1.2.2", of(2, (1,), "ONLINE"))]


def test_an_archive_that_serves_tells(tmp_path, ris):
    settings = archives.make(
        tmp_path, destinations={"RIS": dn.Entity("RIS", *ris.listener.address)}, availability_to=("RIS",),
        availability_after=0.2,
    )  # fmt: skip
    with Archive(tmp_path, settings) as archive:
        archives.store(archive.holdings, [archives.part10(1)])
        ris.wait_for(1)
    assert ris.take() == [("1.2.1", of(1, (1,), "ONLINE"))]


@pytest.mark.parametrize("wrong", [{"availability_to": ("NOBODY",)}, {"availability_after": 0.0}])
def test_settings_that_cannot_be_are_refused(tmp_path, wrong):
    with pytest.raises(dn.InvalidArgument, match="availability"):
        archives.make(tmp_path, **wrong)
