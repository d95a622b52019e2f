"""What becomes of a request for storage commitment between its row and its one report."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import archives
import psycopg
import pytest
from archives import CT, part10
from rig import PATIENCE, until
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

import dicomnet as dn
from dicomnet import uids
from dicomnet.archive import commitment as module
from dicomnet.archive.archive import Archive
from dicomnet.archive.commitment import QUEUE, CommitmentService
from dicomnet.dataset import codec
from dicomnet.errors import ServiceFailure
from dicomnet.repository import database as database_module
from dicomnet.repository.work_schema import commitment, outbox
from dicomnet.status import Status

TRANSACTION = "1.2.9"


@pytest.fixture
def holdings(tmp_path):
    with archives.opened(tmp_path) as holdings:
        archives.store(holdings, [part10(number) for number in range(1, 4)])
        yield holdings


@pytest.fixture
def service(holdings):
    """One that no thread works for: what is due is done when a test says so."""
    return CommitmentService(holdings, {"MODALITY": dn.Entity("MODALITY", "127.0.0.1", 1)})


@pytest.fixture
def away(holdings, monkeypatch):
    """While it is set, the database refuses connections."""
    away = threading.Event()
    monkeypatch.setattr(database_module, "FAILOVER_SECONDS", 0.0)

    def refuse(*_):
        if away.is_set():
            raise OperationalError("", {}, psycopg.OperationalError("connection refused"))

    for engine in (holdings.database._writer, holdings.database._reader):
        event.listen(engine, "checkout", refuse)
    return away


@pytest.fixture
def sent(service, monkeypatch):
    """The reports that went over associations of their own."""
    sent = []
    monkeypatch.setattr(service, "_send", lambda *report: sent.append(report))
    return sent


def asked(service, calling="MODALITY", transaction=TRANSACTION):
    """Ask for commitment of three instances: what makes the report, and who is told of its fate."""
    references = [{"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": f"1.2.1.1.{n}"} for n in range(1, 4)]
    dataset = codec.from_keywords({"TransactionUID": transaction, "ReferencedSOPSequence": references})
    kept = []
    request = SimpleNamespace(action_type_id=1, dataset=dataset, calling=calling, called="ARCHIVE")
    request.report_when_made = lambda make, told, deadline: kept.append((make, told))
    assert service.requested(request) == Status.SUCCESS
    return kept[0]


def state(holdings):
    with holdings.database.read() as connection:
        waiting = connection.execute(select(outbox.c.id).where(outbox.c.queue == QUEUE)).all()
        return connection.execute(select(commitment.c.state)).scalar(), len(waiting)


def test_what_nobody_waits_for_is_read_no_further(service, monkeypatch):
    make, told = asked(service)
    read = []

    def releases(blobs, place):
        read.append(place.uid)
        told(False)  # the peer has released the association meanwhile
        return place.sha

    monkeypatch.setattr(module, "hash_of", releases)
    assert make() is None
    assert read == ["1.2.1.1.1"]


def test_a_stop_waits_for_one_instance_alone(service, holdings, monkeypatch):
    _, told = asked(service)
    told(False)
    read = []

    def stops(blobs, place):
        read.append(place.uid)
        service.close()
        return place.sha

    monkeypatch.setattr(module, "hash_of", stops)
    assert service.report_due() == 1
    assert len(read) == 1
    assert [one.attempts for one in holdings.outbox.lease(QUEUE, "next", seconds=60)] == [1]  # it is no try that failed


def test_a_report_that_another_has_taken_is_not_sent_here(service, holdings):
    make, _ = asked(service)
    event, _ = make()
    assert event == 1
    assert holdings.outbox.lease(QUEUE, "other", seconds=60) == []  # the answer is waited for
    holdings.outbox.retry(queue=QUEUE)
    assert len(holdings.outbox.lease(QUEUE, "other", seconds=60)) == 1
    assert make() is None


def test_a_row_that_was_hastened_is_not_put_off(service, holdings, monkeypatch):
    make, told = asked(service)
    put_off = holdings.outbox.put_off

    def late(*arguments):
        told(False)
        return put_off(*arguments)

    monkeypatch.setattr(holdings.outbox, "put_off", late)
    holdings.outbox.retry(queue=QUEUE)
    assert make() is None
    assert len(holdings.outbox.lease(QUEUE, "other", seconds=60)) == 1


def test_what_was_reported_is_settled_though_the_database_fails_once(service, holdings, monkeypatch):
    _, told = asked(service)
    told(True)

    def fails(work):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(holdings.database, "transaction", fails)
        with pytest.raises(OSError, match="gone"):
            service.report_due()
    assert state(holdings)[1] == 1
    service.report_due()
    assert state(holdings) == ("reported", 0)


def test_what_was_reported_last_is_settled_at_the_end(service, holdings):
    _, told = asked(service)
    told(True)
    service.close()
    assert state(holdings) == ("reported", 0)


def test_a_database_that_goes_away_is_one_line_and_is_asked_again(service, holdings, away, sent, caplog):
    caplog.set_level(logging.WARNING)
    _, told = asked(service)
    told(False)
    away.set()
    service.start()
    for _ in range(3):
        service._wake.set()  # in the place of the time that passes
        until(lambda: caplog.records and not service._wake.is_set())
    away.clear()
    service._wake.set()
    until(lambda: sent)
    service.close()
    assert len(sent) == 1
    assert state(holdings) == ("reported", 0)
    [line] = caplog.records
    assert line.exc_info is None
    assert line.getMessage() == (
        "storage commitment cannot look at its queue: the index is away (connection refused); it is tried every 10 s, "
        "and nothing is lost: see that the database runs, and can be reached"
    )


def test_what_was_sent_as_the_database_went_is_not_sent_again(service, holdings, away, sent, monkeypatch):
    _, told = asked(service)
    told(False)
    send = service._send

    def goes(*report):
        send(*report)
        away.set()

    monkeypatch.setattr(service, "_send", goes)
    with pytest.raises(OperationalError):
        service.report_due()
    away.clear()
    service.report_due()
    assert len(sent) == 1
    assert state(holdings) == ("reported", 0)


def test_what_was_taken_as_the_database_went_is_due_at_once(service, holdings, away, sent, monkeypatch):
    _, told = asked(service)
    told(False)

    def goes(*_):
        away.set()
        return []

    with monkeypatch.context() as patch:
        patch.setattr(service, "check", goes)
        patch.setattr(service, "_send", lambda *_: service._holdings.outbox.counts())  # what needs the database
        with pytest.raises(OperationalError):
            service.report_due()
    away.clear()
    assert service.report_due() == 1
    assert len(sent) == 1
    assert state(holdings) == ("reported", 0)


@pytest.mark.parametrize("why", ["removed", "defect"])
def test_a_report_that_fails_each_time_holds_up_no_other(holdings, monkeypatch, caplog, why):
    caplog.set_level(logging.WARNING)
    peers = {name: dn.Entity(name, "127.0.0.1", 1) for name in ("FIRST", "SECOND")}
    service, sent = CommitmentService(holdings, peers), []

    def send(peer, *_):
        if peer.ae_title == "FIRST":
            raise ValueError(peer)
        sent.append(peer.ae_title)

    monkeypatch.setattr(service, "_send", send)
    for number, name in enumerate(peers):
        asked(service, name, f"{TRANSACTION}.{number}")[1](False)
    if why == "removed":
        del peers["FIRST"]
    assert service.report_due() == 2
    assert sent == ["SECOND"]
    [item] = holdings.outbox.items(queue=QUEUE)
    assert (item.destination, item.state, item.attempts) == ("FIRST", "waiting", 1)
    [line] = caplog.records
    assert line.getMessage().startswith("a commitment report to FIRST failed")
    assert (line.exc_info is None) == (why == "removed")


def test_a_request_is_refused_in_one_line_while_the_database_is_away(service, holdings, away, caplog):
    caplog.set_level(logging.WARNING)
    away.set()
    with pytest.raises(ServiceFailure) as caught:
        asked(service)
    assert caught.value.status == Status.RESOURCE_LIMITATION
    away.clear()
    asked(service)
    assert state(holdings) == ("asked", 1)
    [line] = caplog.records
    assert line.exc_info is None
    assert line.getMessage().startswith("MODALITY cannot ask for commitment: the index is away (connection refused); ")


def test_a_report_that_cannot_be_made_as_the_database_went_goes_elsewhere(service, holdings, away, sent, caplog):
    caplog.set_level(logging.WARNING)
    make, told = asked(service)
    away.set()
    assert make() is None
    told(False)
    away.clear()
    assert service.report_due() == 1
    assert len(sent) == 1
    assert [one.exc_info for one in caplog.records] == [None]


def test_what_was_reported_last_is_one_line_where_the_database_is_away(service, holdings, away, caplog):
    caplog.set_level(logging.WARNING)
    _, told = asked(service)
    told(True)
    away.set()
    service.close()
    away.clear()
    [line] = caplog.records
    assert line.exc_info is None
    assert "reported once more after the next start" in line.getMessage()


def test_no_more_is_kept_than_there_is_room_for(service, holdings, monkeypatch):
    monkeypatch.setattr(module, "_MOST_REPORTED", 0)
    _, told = asked(service)
    told(True)
    service.close()
    assert state(holdings) == ("asked", 1)  # it is reported once more


def test_reports_that_take_long_hold_up_no_requests():
    gate, opened, fates = threading.Event(), [], []
    listener = dn.Listener("ARCHIVE", port=0, limits=dn.Limits(handler_threads=1))

    @listener.on_n_action(uids.STORAGE_COMMITMENT_PUSH_MODEL)
    def take(request):
        request.report_when_made(lambda: opened.append(gate.wait(PATIENCE)), fates.append)

    model, instance = uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
    action = codec.from_keywords({"TransactionUID": TRANSACTION})
    with listener:
        host, port = listener.address
        for _ in range(2):  # the second is answered while the first one's report is being made
            with dn.connect(f"ARCHIVE@{host}:{port}", contexts=dn.contexts.commitment()) as association:
                assert association.n_action(model, instance, 1, action).status.is_success
        until(lambda: fates == [False, False])
        gate.set()
        until(lambda: opened == [True, True])  # neither was over before both requests were answered


@pytest.fixture
def archive(tmp_path):
    with Archive(tmp_path / "archive", archives.make(tmp_path / "archive")) as archive:
        yield archive


REFERENCES = [{"ReferencedSOPClassUID": CT, "ReferencedSOPInstanceUID": "1.2.1.1.1"}]


@pytest.mark.parametrize(("action", "values", "status"), [
    (2, {"TransactionUID": TRANSACTION, "ReferencedSOPSequence": REFERENCES}, Status.NO_SUCH_ACTION_TYPE),
    (1, {"ReferencedSOPSequence": REFERENCES}, Status.INVALID_ARGUMENT_VALUE),
    (1, {"TransactionUID": "1.2.03", "ReferencedSOPSequence": REFERENCES}, Status.INVALID_ARGUMENT_VALUE),
    (1, {"TransactionUID": TRANSACTION}, Status.MISSING_ATTRIBUTE),
    (1, {"TransactionUID": TRANSACTION, "ReferencedSOPSequence": []}, Status.MISSING_ATTRIBUTE),
])  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused_and_not_kept(archive, action, values, status):
    model = uids.STORAGE_COMMITMENT_PUSH_MODEL, uids.STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE
    peer = dn.Entity("ARCHIVE", *archive.listener.address)
    with (
        dn.connect(peer, calling="MODALITY", contexts=dn.contexts.commitment()) as association,
        pytest.raises(ServiceFailure) as caught,
    ):
        association.n_action(*model, action, codec.from_keywords(values))
    assert caught.value.status == status
    assert state(archive.holdings) == (None, 0)


def test_what_cannot_be_read_back_is_not_committed_and_said(service, holdings, caplog):
    place = holdings.places.of(["1.2.1.1.2"])["1.2.1.1.2"]
    with (holdings.blobs.root / place.key).open("r+b") as file:
        file.seek(place.offset)
        file.write(b"\xff" * place.size)
    make, _ = asked(service)
    event, dataset = make()
    assert event == 2
    assert [one.ReferencedSOPInstanceUID for one in dataset.FailedSOPSequence] == ["1.2.1.1.2"]
    assert "1.2.1.1.2 cannot be read back: " in caplog.text


def test_a_report_that_is_answered_with_a_failure_is_made_again(holdings, caplog):
    told = []

    def refuse(request):
        told.append(request.event_type_id)
        return Status.PROCESSING_FAILURE if len(told) == 1 else Status.SUCCESS

    with dn.Listener("MODALITY", port=0) as listener:
        listener.on_event_report(uids.STORAGE_COMMITMENT_PUSH_MODEL)(refuse)
        service = CommitmentService(holdings, {"MODALITY": dn.Entity("MODALITY", *listener.address)})
        _, settle = asked(service)
        settle(False)
        assert service.report_due() == 1
        assert (told, state(holdings)) == ([1], ("asked", 1))
        assert "a commitment report to MODALITY failed: " in caplog.text
        holdings.outbox.retry(queue=QUEUE)
        assert service.report_due() == 1
    assert told == [1, 1]
    assert state(holdings) == ("reported", 0)
