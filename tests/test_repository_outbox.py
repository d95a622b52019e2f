"""The outbox: each item is done at least once, in the order of its lane, whatever becomes of its worker."""

import threading

import pytest

from dicomnet.errors import InvalidArgument
from dicomnet.repository.outbox import RETRY_CLASSES, ItemState, Outbox, RetryClass


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outbox(database, clock):
    return Outbox(database.write, clock=clock)


@pytest.fixture
def put(outbox, database):
    def put(number, **options):
        with database.write() as connection:
            return outbox.enqueue(connection, options.pop("queue", "forward"), {"number": number}, **options)

    return put


def numbers(items):
    return [item.payload["number"] for item in items]


class TestProducers:
    def test_an_item_is_there_if_its_transaction_is(self, outbox, database):
        def work(connection):
            outbox.enqueue(connection, "forward", {})
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            database.transaction(work)
        assert outbox.items() == []

    def test_one_thing_waits_once(self, outbox, put):
        assert put(1, key="study 1")
        assert not put(2, key="study 1")
        assert put(3, key="study 1", queue="other")
        (item,) = outbox.lease("forward", "me", seconds=10)
        assert not put(4, key="study 1")
        outbox.done(item)
        assert put(5, key="study 1")

    def test_an_unknown_retry_class_is_refused(self, put):
        with pytest.raises(InvalidArgument, match="no retry class"):
            put(1, retry_class="sometimes")

    def test_a_delay_is_kept(self, outbox, put, clock):
        put(1, delay=5)
        assert outbox.lease("forward", "me", seconds=10) == []
        assert outbox.next_due("forward") == 1005.0
        clock.now += 5
        assert numbers(outbox.lease("forward", "me", seconds=10)) == [1]


class TestWorkers:
    def test_items_are_taken_in_order_and_once(self, outbox, put):
        for number in range(5):
            put(number)
        first = outbox.lease("forward", "a", seconds=10, most=3)
        second = outbox.lease("forward", "b", seconds=10, most=3)
        assert (numbers(first), numbers(second)) == ([0, 1, 2], [3, 4])
        assert [(item.owner, item.until, item.attempts) for item in second] == [("b", 1010.0, 1)] * 2

    def test_a_worker_that_died_is_followed_by_another(self, outbox, put, clock):
        put(1)
        (lost,) = outbox.lease("forward", "a", seconds=10)
        clock.now += 10
        (item,) = outbox.lease("forward", "b", seconds=10)
        assert (item.owner, item.attempts) == ("b", 2)
        for late in (outbox.done(lost), outbox.fail(lost, "x"), outbox.park(lost, "x"), outbox.extend(lost, 1)):
            assert late is False
        assert outbox.done(item)
        assert not outbox.done(item)
        assert outbox.items() == []

    def test_a_lease_can_be_extended(self, outbox, put, clock):
        put(1)
        (item,) = outbox.lease("forward", "a", seconds=10)
        clock.now += 9
        assert outbox.extend(item, 10)
        clock.now += 9
        assert outbox.lease("forward", "b", seconds=10) == []

    def test_what_failed_is_tried_again_later_and_later_and_then_parked(self, outbox, put, clock):
        put(1, retry_class="report")
        pauses = []
        while items := outbox.lease("forward", "a", seconds=10):
            assert outbox.fail(items[0], "no answer")
            (item,) = outbox.items()
            pauses.append(item.due - clock.now)
            clock.now = max(item.due, clock.now)
        assert pauses[:-1] == [10, 30, 90, 270, 810, 2430, 3600, 3600, 3600]
        assert (item.state, item.attempts, item.error) == (ItemState.PARKED, 10, "no answer")

    def test_what_is_too_early_is_no_try(self, outbox, put, clock):
        put(1, retry_class="once")
        (item,) = outbox.lease("forward", "a", seconds=10)
        assert outbox.postpone(item, 60)
        clock.now += 60
        (item,) = outbox.lease("forward", "a", seconds=10)
        assert item.attempts == 1

    def test_a_destination_is_served_by_itself(self, outbox, put):
        put(1, destination="A")
        put(2, destination="B")
        assert numbers(outbox.lease("forward", "x", seconds=10, most=5, destination="B")) == [2]

    def test_a_lane_keeps_its_order(self, outbox, put, clock):
        put(1, lane="step 1")
        put(2, lane="step 1")
        put(3, lane="step 2")
        first, other = outbox.lease("forward", "a", seconds=10, most=5)
        assert numbers([first, other]) == [1, 3]
        outbox.fail(first, "x")
        assert outbox.lease("forward", "a", seconds=10, most=5) == []
        clock.now += 10
        (first, again) = outbox.lease("forward", "a", seconds=10, most=5)
        assert numbers([first, again]) == [1, 3]
        outbox.park(first, "x")
        assert outbox.lease("forward", "a", seconds=10, most=5) == []
        outbox.discard([first.id])
        assert numbers(outbox.lease("forward", "a", seconds=10, most=5)) == [2]

    def test_done_is_part_of_another_transaction(self, outbox, put, database):
        put(1)
        (item,) = outbox.lease("forward", "a", seconds=10)

        def work(connection):
            assert outbox.done(item, connection)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            database.transaction(work)
        assert len(outbox.items()) == 1

    def test_workers_at_once_never_take_the_same(self, outbox, put):
        for number in range(60):
            put(number)
        taken = []

        def work():
            while items := outbox.lease("forward", threading.current_thread().name, seconds=60, most=3):
                taken.extend(numbers(items))

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(taken) == list(range(60))


class TestPeople:
    def test_parked_items_are_listed_and_tried_again(self, outbox, put, clock):
        for number in range(3):
            put(number, destination="A")
        for item in outbox.lease("forward", "a", seconds=10, most=2):
            outbox.park(item, "refused")
        parked = outbox.items(state=ItemState.PARKED)
        assert [item.error for item in parked] == ["refused"] * 2
        assert numbers(outbox.items(after=parked[0].id, most=1)) == [1]
        assert [(one.state, one.items) for one in outbox.counts()] == [("parked", 2), ("waiting", 1)]
        assert outbox.retry(ids=[parked[0].id]) == 1
        assert outbox.retry(queue="forward", destination="A") == 3
        assert [item.attempts for item in outbox.lease("forward", "a", seconds=10, most=5)] == [1, 1, 1]

    def test_what_is_under_way_is_not_discarded(self, outbox, put):
        put(1)
        (item,) = outbox.lease("forward", "a", seconds=10)
        assert outbox.discard([item.id]) == 0
        outbox.park(item, "x")
        assert outbox.discard([item.id]) == 1

    def test_of_a_queue_nothing_of_another_is_discarded(self, outbox, put):
        put(1)
        (item,) = outbox.items()
        assert outbox.discard([item.id], queue="other") == 0
        assert outbox.discard([item.id], queue="forward") == 1


def test_pauses_have_an_end():
    forever = RetryClass(first=1, factor=2, most=100, attempts=10**6)
    assert forever.pause(500_000) == 100
    assert all(one.pause(one.attempts) is None for one in RETRY_CLASSES.values())
