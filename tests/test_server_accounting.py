"""What a server counts of each message: `Account`, without a connection."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from collecting import CONTAINERS, collecting

from dicomnet import uids
from dicomnet.protocol.messages import CommandField, DataInMemory
from dicomnet.server.accounting import BOUNDS, Account, Performed
from dicomnet.server.events import Event, EventLog
from dicomnet.server.metrics import Metrics
from dicomnet.wire.command_set import Command, Message


class Told(EventLog):
    """Keeps what events say of requests that were answered."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: 2.0)

    @property
    def events(self) -> list[dict[str, Any]]:
        found = self.since(0)
        assert {(one.time, one.type) for one in found} <= {(2.0, "client.action")}
        return [dict(one.data) for one in found]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def cells() -> dict[tuple[str, int, str | None], Performed]:
    return {}


@pytest.fixture
def account(told, cells):
    def cell_of(*key: Any) -> Performed:
        return cells.setdefault(key, Performed(("MODALITY", "C-STORE-RQ", "CT Image Storage")))

    account = Account("7", 100.0, told, cell_of)
    account.calling = "MODALITY"
    return account


def store(number: int, size: int = 10) -> Message:
    command = Command(
        command_field=CommandField.C_STORE_RQ, message_id=number, affected_sop_class_uid=uids.CT_IMAGE_STORAGE
    )
    return Message(1, command, DataInMemory(bytes(size), 1024))


def test_answers_that_come_in_another_order_than_the_requests(account, told, cells):
    first, second = store(1, size=10), store(2, size=30)
    account.begin(first)
    account.begin(second)
    assert account.pending == [1, 2]
    account.answered(second, 0xB007)
    account.answered(first, 0)
    assert (account.messages, account.received, account.pending, account.status) == (2, 40, [], 0)
    assert account.command is second.command
    assert [one["status"] for one in told.events] == ["B007", "0000"]
    assert told.events[0].items() >= {"id": "7", "calling": "MODALITY", "action": "C-STORE-RQ"}.items()
    (cell,) = cells.values()
    assert (cell.statuses, cell.bytes, sum(cell.buckets)) == ({0xB007: 1, 0: 1}, 40, 2)
    assert len(cell.buckets) == len(BOUNDS) + 1


def test_what_was_declined_before_it_was_performed_is_not_counted(account, told, cells):
    account.answered(store(1), 0x0211)
    assert (account.messages, told.events, cells) == (0, [], {})


def test_a_cancel_has_no_answer(account):
    account.begin(Message(1, Command(command_field=CommandField.C_CANCEL_RQ, message_id_being_responded_to=1)))
    assert (account.messages, account.pending) == (1, [])


def test_requests_of_another_kind_are_counted_apart(account, cells):
    command = Command(command_field=CommandField.C_ECHO_RQ, message_id=2, affected_sop_class_uid=uids.VERIFICATION)
    echo = Message(3, command)
    for message in (store(1), echo, store(3)):
        account.begin(message)
        account.answered(message, 0)
    assert {key[1:]: cell.statuses[0] for key, cell in cells.items()} == {
        (CommandField.C_STORE_RQ, uids.CT_IMAGE_STORAGE): 2,
        (CommandField.C_ECHO_RQ, uids.VERIFICATION): 1,
    }


def test_invented_titles_and_classes_make_no_series_without_end():
    recorder = Metrics().recorder()
    for number in range(1000):
        recorder.cell_of(f"SCU{number}", CommandField.C_STORE_RQ, f"1.2.{number}")
    assert len(recorder.cells) < 300


def test_who_begins_to_listen_hears_of_requests_from_then_on(cells):
    events, heard = EventLog(clock=lambda: 5.0), []
    events.listen(heard.append, "ae.")
    account = Account("7", 0.0, events, lambda *key: cells.setdefault(key, Performed(("A", "B", "C"))))

    def store_one(number: int) -> None:
        account.begin(store(number))
        account.answered(store(number), 0)

    store_one(1)
    end = events.listen(heard.append, "client.")
    store_one(2)
    end()
    store_one(3)
    assert [(one.id, one.type, one.time) for one in heard] == [(2, "client.action", 5.0)]
    assert [one.id for one in events.since(0)] == [1, 2, 3]


def test_statuses_are_counted_by_turns(account, cells):
    for number, status in enumerate([0, 0xB007, 0, 0, 0xB007], 1):
        account.begin(store(number))
        account.answered(store(number), status)
    (cell,) = cells.values()
    assert cell.statuses == {0: 3, 0xB007: 2}


@pytest.mark.parametrize("number", CONTAINERS)
def test_no_count_is_lost_while_the_garbage_collector_runs(account, cells, number):
    other = Account("8", 0.0, EventLog(), lambda *key: next(iter(cells.values())))
    message = store(1)

    def answer(account: Account, status: int) -> None:
        account.begin(message)
        account.answered(message, status)

    for status in (0, 0, 0xB007, 0, 0):
        answer(account, status)
    (cell,) = cells.values()
    read = collecting(number, lambda: answer(other, 0xB007), lambda: cell.statuses)
    assert read in [{0: 4, 0xB007: 1}, {0: 4, 0xB007: 2}]
    account.begin(message)
    collecting(number, lambda: answer(other, 0), lambda: account.answered(message, 0xB007))
    assert sum(cell.statuses.values()) == sum(cell.buckets)


def test_requests_without_end_are_under_way(account):
    for number in range(1, 100):
        account.begin(store(number))
    assert account.under_way > 0
    for number in range(99, 0, -1):
        account.answered(store(number), 0)
        assert account.pending == list(range(1, number))
    assert account.under_way == 0


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_the_log_keeps_the_latest(cells, keep):
    events = EventLog(keep, first=10, clock=lambda: 5.0)
    account = Account("7", 0.0, events, lambda *key: cells.setdefault(key, Performed(("A", "B", "C"))))
    for number in range(1, 9):
        if number % 2:
            events.publish("server.test", {"number": number})
        else:
            account.begin(store(number))
            account.answered(store(number), 0)
        kept = min(number, keep)
        lost = Event(10 + number - kept, 5.0, "gap", {"after": 10, "missed": number - kept})
        found = events.since(10)
        assert found[: number > kept] == [lost][: number > kept]
        latest = found[number > kept :]
        assert [one.id for one in latest] == list(range(11 + number - kept, 11 + number))
        assert {one.type for one in latest} <= {"server.test", "client.action"}
    assert [one.id for one in events.since(18)] == []
    for never in (19, -1, 1 << 70, -1 << 70):
        gap = events.since(never)[0]
        assert (gap.type, gap.data["after"]) == ("gap", never)


def test_numbers_have_no_gaps_whoever_adds(cells):
    events = EventLog(100_000)
    account = Account("7", 0.0, events, lambda *key: cells.setdefault(key, Performed(("A", "B", "C"))))

    def publish() -> None:
        for number in range(2000):
            events.publish("server.test", {"number": number})

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        account.begin(store(1))
        account.answered(store(1), 0)
        found = [one.id for one in events.since(0)]
        assert found == list(range(1, len(found) + 1))
    assert sum(one.type == "server.test" for one in events.since(0)) == 6000
