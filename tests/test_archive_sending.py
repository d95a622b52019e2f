"""Queues that an archive works off, and the studies that a person has sent."""

import logging
import threading

from dicomnet.archive.forwarder import work_off


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
