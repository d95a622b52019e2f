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
from dicomnet.repository.work_schema import outbox

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
        with dn.Listener("DEST") as listener:
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
