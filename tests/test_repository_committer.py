"""Group commit, and the watermarks of the disk."""

import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from dicomnet.errors import LocalProtocolError
from dicomnet.repository.committer import MOST_IN_GROUP, Committer
from dicomnet.repository.deferred import Deferred
from dicomnet.repository.disk import DiskState, DiskWatch, used_share


class Disk:
    """Commits when it is told to."""

    def __init__(self):
        self.groups = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, group):
        self.groups.append(list(group))
        self.begun.release()
        assert self.go.acquire(timeout=30)
        return [item if item != "bad" else ValueError("bad") for item in group]


@pytest.fixture
def disk():
    return Disk()


def test_what_comes_while_a_group_is_committed_is_the_next_group(disk):
    committer = Committer(disk)
    first = committer.submit("a")
    disk.begun.acquire(timeout=30)
    rest = [committer.submit(item) for item in "bcd"]
    assert not first.done()
    disk.go.release(2)
    assert [one.result(30) for one in [first, *rest]] == list("abcd")
    committer.close()
    assert disk.groups == [["a"], ["b", "c", "d"]]
    assert (committer.groups, committer.items) == (2, 4)


def test_a_turn_of_the_loop_is_a_group(disk):
    committer = Committer(disk, turns=True)
    futures = [committer.submit(item) for item in "ab"]
    assert not disk.begun.acquire(timeout=0.05)
    committer.turn()
    disk.go.release(1)
    assert [one.result(30) for one in futures] == ["a", "b"]
    committer.turn()
    committer.close()
    assert disk.groups == [["a", "b"]]


def test_one_that_fails_spoils_no_other(disk):
    committer = Committer(disk, turns=True)
    futures = [committer.submit(item) for item in ["a", "bad", "c"]]
    committer.turn()
    disk.go.release(1)
    assert (futures[0].result(30), futures[2].result(30)) == ("a", "c")
    with pytest.raises(ValueError, match="bad"):
        futures[1].result(30)
    committer.close()


def test_where_the_disk_fails_all_of_the_group_fail_and_the_next_does_not():
    fails = iter([True, False])

    def commit(group):
        if next(fails):
            raise OSError(28, "full")
        return group

    committer = Committer(commit)
    with pytest.raises(OSError, match="full"):
        committer.submit("a").result(30)
    assert committer.submit("b").result(30) == "b"
    committer.close()


def test_a_long_queue_is_several_groups(disk):
    committer = Committer(disk, turns=True)
    futures = [committer.submit(number) for number in range(MOST_IN_GROUP + 10)]
    committer.turn()
    disk.go.release(2)
    assert [one.result(30) for one in futures] == list(range(MOST_IN_GROUP + 10))
    committer.close()
    assert [len(group) for group in disk.groups] == [MOST_IN_GROUP, 10]


def test_closing_commits_what_waits_and_takes_nothing_more(disk):
    committer = Committer(disk, turns=True)
    future = committer.submit("a")
    disk.go.release(1)
    committer.close()
    assert future.result(0) == "a"
    with pytest.raises(LocalProtocolError):
        committer.submit("b")


def test_watermarks_have_a_gap(tmp_path, caplog):
    shares = iter([0.5, 0.949, 0.95, 0.94, 0.97, 0.98, 0.96, 0.931, 0.93, 0.5])
    now = iter(range(1, 100))
    watch = DiskWatch(tmp_path, share=lambda _: next(shares), clock=lambda: float(next(now)))
    states = [watch.state() for _ in range(10)]
    room, refuse, reject = DiskState
    assert states == [room, room, refuse, refuse, refuse, reject, refuse, refuse, room, room]
    assert [record.message.rpartition(" is ")[2][:11] for record in caplog.records] == [
        "nearly full", "full: assoc", "nearly full", "no longer f",
    ]  # fmt: skip


def test_the_disk_is_not_asked_for_each_instance(tmp_path):
    asked = []
    watch = DiskWatch(tmp_path, share=lambda path: asked.append(path) or 0.5, clock=lambda: 1.0)
    assert {watch.state() for _ in range(100)} == {DiskState.ROOM}
    assert len(asked) == 1


def test_a_write_that_failed_is_believed(tmp_path):
    now = [1.0]
    watch = DiskWatch(tmp_path, share=lambda _: 0.5, clock=lambda: now[0])
    watch.failed()
    assert watch.state() is DiskState.REFUSE
    now[0] += 1
    assert watch.state() is DiskState.ROOM


def test_the_share_in_use_is_one_of_the_disk():
    assert 0 < used_share(Path("/")) < 1


class TestDeferred:
    """A future that costs little is one, for all that anybody asks of it."""

    def test_it_calls_back_and_gives_its_answer(self):
        deferred, told = Deferred(), []
        deferred.add_done_callback(told.append)
        assert [deferred.done(), deferred.running(), deferred.cancelled()] == [False] * 3
        with pytest.raises(TimeoutError):
            deferred.result(0)
        deferred.set_result(7)
        deferred.add_done_callback(told.append)
        assert told == [deferred, deferred]
        assert (deferred.done(), deferred.result(), deferred.exception()) == (True, 7, None)
        assert not deferred.cancel()

    def test_a_failure_is_raised_for_who_asks(self):
        deferred = Deferred()
        deferred.set_exception(ValueError("bad"))
        with pytest.raises(ValueError, match="bad"):
            deferred.result()

    def test_what_is_cancelled_stays_so(self):
        deferred, told = Deferred(), []
        deferred.add_done_callback(told.append)
        assert deferred.cancel()
        deferred.set_result(7)
        assert told == [deferred]
        assert deferred.cancelled()
        with pytest.raises(CancelledError):
            deferred.result()

    def test_a_callback_that_fails_spoils_no_other(self, caplog):
        deferred, told = Deferred(), []
        deferred.add_done_callback(lambda _: 1 / 0)
        deferred.add_done_callback(told.append)
        deferred.set_result(7)
        assert told == [deferred]
        assert "ZeroDivisionError" in caplog.text

    def test_from_two_threads_every_callback_is_called_once(self):
        for _ in range(300):
            deferred, told = Deferred(), []
            thread = threading.Thread(target=deferred.set_result, args=(7,))
            thread.start()
            deferred.add_done_callback(told.append)
            thread.join()
            assert told == [deferred]


def test_groups_are_committed_side_by_side_where_that_is_allowed():
    both = threading.Barrier(2, timeout=30)

    def commit(group):
        both.wait()  # neither goes on before the other is there
        return list(group)

    committer = Committer(commit, at_once=2)
    futures = [committer.submit(1)]
    while committer.groups < 1:
        threading.Event().wait(0.01)
    futures.append(committer.submit(2))
    assert [future.result(30) for future in futures] == [1, 2]
    committer.close()


def test_what_is_beyond_the_bytes_of_a_group_is_another_one_beside_it():
    three = threading.Barrier(3, timeout=30)
    groups = []

    def commit(group):
        groups.append(list(group))
        three.wait()  # none goes on before all are there
        return list(group)

    committer = Committer(commit, turns=True, at_once=3, size=len, most_bytes=6)
    items = ["aaa", "bbb", "ccccccccc", "d", "e"]  # one is larger than a group may be
    futures = [committer.submit(item) for item in items]
    committer.turn()
    assert [future.result(30) for future in futures] == items
    committer.close()
    assert sorted(groups) == [["aaa", "bbb"], ["ccccccccc"], ["d", "e"]]
