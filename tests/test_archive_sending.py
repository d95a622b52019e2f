"""Queues that an archive works off, and the studies that a person has sent."""

import logging
import threading
from itertools import count
from types import SimpleNamespace

import archives
import pytest
from archives import part10
from sqlalchemy import update

import dicomnet as dn
from dicomnet.archive.forwarder import work_off
from dicomnet.archive.sending import QUEUE, Sending
from dicomnet.errors import InvalidArgument
from dicomnet.repository.work_schema import outbox
from dicomnet.status import Status

INSTANCES = 100


class TestQueue:
    def test_an_end_that_comes_at_any_moment_is_seen(self):
        """Here it comes right before the worker forgets that it was woken."""
        stop, done = threading.Event(), []

        class Wake(threading.Event):
            def clear(self):
                stop.set()
                self.set()
                super().clear()

        wake = Wake()
        wake.set()
        worker = threading.Thread(
            target=work_off, args=(lambda: done.append(1) or 0, lambda: 600.0, wake, stop, ""), daemon=True
        )
        worker.start()
        worker.join(30)
        assert not worker.is_alive()
        assert done == [1]

    def test_what_fails_is_told_and_tried_again(self, caplog):
        wake, stop = threading.Event(), threading.Event()

        def fail():
            wake.set()
            if caplog.records:
                stop.set()
            raise ZeroDivisionError

        work_off(fail, lambda: 600.0, wake, stop, "the queue is in disorder")
        told = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
        assert told == ["the queue is in disorder"] * 2


class TestLease:
    @pytest.fixture
    def taking(self):
        with dn.Listener("DEST", port=0) as listener:
            yield listener

    @pytest.mark.parametrize("is_taken", [False, True])
    def test_it_is_kept_for_as_long_as_it_takes_unless_another_has_it(self, tmp_path, taking, is_taken):
        """Each look at the clock is a minute later; another worker takes the study over with the first instance."""
        minutes, kept, is_asked = count(), [], threading.Event()
        with archives.opened(tmp_path / "archive") as holdings:
            archives.store(holdings, [part10(number) for number in range(INSTANCES)])

            def take(request):
                kept.append(request.dataset.SOPInstanceUID)
                if len(kept) > 3:  # the second's answer may wait for the third's handler, but not for the fourth's
                    is_asked.wait(30)
                elif is_taken:
                    with holdings.database.write() as connection:
                        connection.execute(update(outbox).values(owner="another"))

            taking.on_store(take)
            with holdings.database.write() as connection:
                holdings.outbox.enqueue(connection, QUEUE, {"study": "1.2.1"}, destination="DEST")
            extended, real = [], holdings.outbox.extend

            def extend(item, more):
                extended.append(real(item, more))
                is_asked.set()
                return extended[-1]

            holdings.outbox.extend = extend
            host, port = taking.address
            requests = SimpleNamespace(client=lambda title: f"{title}@{host}:{port}")
            sending = Sending(holdings, requests, clock=lambda: 60.0 * next(minutes))
            assert sending._send_due("DEST") == 1
            left = [one.owner for one in holdings.outbox.items()]
            sending.close()
        if is_taken:
            assert (extended, left) == ([False], ["another"])
            assert len(kept) < INSTANCES
        else:
            assert (len(kept), left) == (INSTANCES, [])
            assert len(extended) > INSTANCES // 4
            assert all(extended)


class TestOrders:
    @pytest.fixture
    def received(self):
        """The instances that a peer has taken, and the peer."""
        with dn.Listener("DEST", port=0) as listener:
            kept = []
            listener.on_store(lambda request: kept.append(str(request.dataset.SOPInstanceUID)))
            yield kept, listener

    def sending(self, holdings, listener, then=lambda title: None):
        def client(title):
            then(title)
            host, port = listener.address
            return f"{title}@{host}:{port}"

        return Sending(holdings, SimpleNamespace(client=client))

    def ordered(self, holdings):
        with holdings.database.write() as connection:
            holdings.outbox.enqueue(connection, QUEUE, {"study": "1.2.1"}, destination="DEST")

    def test_one_that_cannot_be_read_is_told_of_and_the_others_are_sent(self, tmp_path, received):
        kept, listener = received
        with archives.opened(tmp_path / "archive") as holdings:
            archives.store(holdings, [part10(number) for number in range(3)])
            place = holdings.places.of(["1.2.1.1.1"])["1.2.1.1.1"]
            with (holdings.blobs.root / place.key).open("r+b") as file:
                file.seek(place.offset)
                file.write(b"\xff" * place.size)
            self.ordered(holdings)
            sending = self.sending(holdings, listener)
            assert sending._send_due("DEST") == 1
            [job] = sending.jobs()
            sending.close()
        assert kept == ["1.2.1.1.0", "1.2.1.1.2"]
        assert (job["state"], job["attempts"]) == ("parked", 1)
        assert job["error"].startswith("1 of 3 instances were refused: ")

    def test_what_a_peer_refuses_is_told_of_by_its_last_reason(self, tmp_path):
        with dn.Listener("DEST", port=0) as listener, archives.opened(tmp_path / "archive") as holdings:
            listener.on_store(lambda request: Status(0xA900, comment=f"not {request.dataset.InstanceNumber}"))
            archives.store(holdings, [part10(number) for number in (1, 2)])
            self.ordered(holdings)
            sending = self.sending(holdings, listener)
            assert sending._send_due("DEST") == 1
            [job] = sending.jobs()
            sending.close()
        assert job["state"] == "parked"
        assert "2 of 2 instances were refused" in job["error"]
        assert "not 2" in job["error"]

    def test_a_study_that_is_not_there_is_not_ordered(self, tmp_path, received):
        _, listener = received
        with archives.opened(tmp_path / "archive") as holdings:
            sending = self.sending(holdings, listener)
            with pytest.raises(InvalidArgument, match="there is no study"):
                sending.order(["1.2.9"], "DEST")
            assert sending.jobs() == []
            sending.close()

    @pytest.mark.parametrize("fails", [False, True])
    def test_an_end_in_the_midst_leaves_it_for_the_next_start_and_that_was_no_try(self, tmp_path, received, fails):
        kept, listener = received
        with archives.opened(tmp_path / "archive") as holdings:
            archives.store(holdings, [part10(number) for number in range(3)])
            self.ordered(holdings)

            def then(title):
                sending._stop.set()
                if fails:
                    raise dn.ConnectionFailed("the archive ends", errno=None, peer=None, hint=None)

            sending = self.sending(holdings, listener, then)
            assert sending._send_due("DEST") == 1
            [job] = sending.jobs()
            assert (job["state"], job["attempts"]) == ("waiting", 0)
            sending._wake("DEST")  # which begins nothing any more
            assert sending._workers == {}
            sending.close()
            again = self.sending(holdings, listener)
            assert again._send_due("DEST") == 1
            assert again.jobs() == []
            again.close()
        assert set(kept) == {f"1.2.1.1.{number}" for number in range(3)}
