"""Performed procedure steps, passed on to other systems: each step's messages in the order in which they came.

What is to be passed on is in the outbox with the step itself, and is tried for two days; then, or where the other
system refuses for good, it is parked until a person says `retry`. One thread serves each destination.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import Connection

from .. import uids
from ..errors import DicomNetError, ServiceFailure
from ..log import log, log_failure
from ..repository.dicom_json import DicomJson
from ..repository.outbox import Item
from ..services import presentation_contexts
from ..status import Status
from ..sync import connect
from .dicom_json import dataset_of_json
from .holdings import Holdings

__all__ = ["QUEUE", "StepForwarder"]

QUEUE = "procedure-step"
_LEASE = 300.0  # seconds for one message
_MOST_PAUSE = 30.0  # seconds between two looks at the queue: another process may have put something there
_LEAST_PAUSE = 1.0  # what is due may wait behind something that is parked
_PAUSE_AFTER_TROUBLE = 10.0
_TEMPORARY = frozenset({Status.PROCESSING_FAILURE, Status.RESOURCE_LIMITATION, Status.OUT_OF_RESOURCES})


class StepForwarder:
    """Passes performed procedure steps on to the destinations that the settings name.

    Args:
        holdings: where the outbox is.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(self, holdings: Holdings, *, clock: Callable[[], float] | None = None) -> None:
        self._holdings, self._clock = holdings, clock or holdings.database.clock
        self._titles = holdings.settings.steps_to
        self._wakes = {title: threading.Event() for title in self._titles}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def enqueue(self, connection: Connection, service: str, uid: str, item: DicomJson) -> None:
        """Have a message passed on once the caller's transaction is committed; then call `wake`."""
        payload = {"service": service, "uid": uid, "item": item}
        for title in self._titles:
            self._holdings.outbox.enqueue(connection, QUEUE, payload, destination=title, lane=f"{title} {uid}")

    def wake(self) -> None:
        """There is something to pass on."""
        for event in self._wakes.values():
            event.set()

    def start(self) -> None:
        """Pass on what waits, from before now too, in threads of its own."""
        for title in self._titles:
            thread = threading.Thread(target=self._run, args=(title,), name=f"dicomnet-steps-{title}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, title: str) -> None:
        wake = self._wakes[title]
        while not self._stop.is_set():
            wake.clear()
            try:
                pause = 0.0 if self.forward_due(title) else self._pause()
            except Exception as error:
                log_failure("the queue of procedure steps cannot be looked at", error)
                pause = _PAUSE_AFTER_TROUBLE
            wake.wait(pause)

    def _pause(self) -> float:
        due = self._holdings.outbox.next_due(QUEUE)
        return _MOST_PAUSE if due is None else min(max(due - self._clock(), _LEAST_PAUSE), _MOST_PAUSE)

    def forward_due(self, title: str) -> int:
        """Pass on what is due for a destination; how many messages that were."""
        owner = f"steps-{id(self):x}"
        items = self._holdings.outbox.lease(QUEUE, owner, seconds=_LEASE, destination=title)
        for item in items:
            self._forward(item)
        return len(items)

    def _forward(self, item: Item) -> None:
        outbox = self._holdings.outbox
        service, uid = item.payload["service"], item.payload["uid"]
        try:
            self._send(item)
        except ServiceFailure as error:
            if _is_known(item, error.status):
                outbox.done(item)
                return
            log.warning("%s refuses %s of the step %s: %s", item.destination, service, uid, error.status)
            (outbox.fail if error.status in _TEMPORARY else outbox.park)(item, str(error))
        except (DicomNetError, OSError) as error:
            log.warning("the step %s cannot be passed on to %s: %s", uid, item.destination, error)
            outbox.fail(item, str(error))
        else:
            outbox.done(item)

    def _send(self, item: Item) -> None:
        peer = self._holdings.settings.destinations[item.destination]
        contexts = presentation_contexts.sop_classes(uids.MODALITY_PERFORMED_PROCEDURE_STEP)
        with connect(peer, calling=self._holdings.settings.ae_title, contexts=contexts) as association:
            send = association.n_create if item.payload["service"] == "n_create" else association.n_set
            dataset = dataset_of_json(item.payload["item"])
            send(uids.MODALITY_PERFORMED_PROCEDURE_STEP, item.payload["uid"], dataset)

    def close(self) -> None:
        """Pass nothing more on; what waits stays."""
        self._stop.set()
        self.wake()
        for thread in self._threads:
            thread.join()


def _is_known(item: Item, status: Status) -> bool:
    """Whether the other system has this message from an earlier try, whose answer was lost."""
    if item.payload["service"] == "n_create":
        return status == Status.DUPLICATE_SOP_INSTANCE
    return item.attempts > 1 and status.error_id == 0xA710
