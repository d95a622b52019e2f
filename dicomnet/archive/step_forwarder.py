"""Performed procedure steps, passed on to other systems: each step's messages in the order in which they came.

What is to be passed on is in the outbox with the step itself, and is tried for two days; then, or where the other
system refuses for good, it is parked until a person says `retry`. One thread serves each destination.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from .. import uids
from ..errors import DicomNetError, ServiceFailure
from ..log import log
from ..repository.dicom_json import DicomJson
from ..repository.outbox import Item
from ..services import presentation_contexts
from ..status import Status
from ..sync import connect
from .dicom_json import dataset_of_json
from .forwarder import Forwarder
from .holdings import Holdings

__all__ = ["QUEUE", "StepForwarder"]

QUEUE = "procedure-step"
_TEMPORARY = frozenset({Status.PROCESSING_FAILURE, Status.RESOURCE_LIMITATION, Status.OUT_OF_RESOURCES})


class StepForwarder(Forwarder):
    """Passes performed procedure steps on to the destinations that the settings name.

    Args:
        holdings: where the outbox is.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(self, holdings: Holdings, *, clock: Callable[[], float] | None = None) -> None:
        super().__init__(holdings, QUEUE, "steps_to", clock=clock)

    def enqueue(self, connection: Connection, service: str, uid: str, item: DicomJson) -> None:
        """Have a message passed on once the caller's transaction is committed; then call `wake`."""
        payload = {"service": service, "uid": uid, "item": item}
        for title in self.destinations:
            self._holdings.outbox.enqueue(connection, QUEUE, payload, destination=title, lane=f"{title} {uid}")

    def forward(self, item: Item) -> None:
        """Send it, and park what is refused for good."""
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


def _is_known(item: Item, status: Status) -> bool:
    """Whether the other system has this message from an earlier try, whose answer was lost."""
    if item.payload["service"] == "n_create":
        return status == Status.DUPLICATE_SOP_INSTANCE
    return item.attempts > 1 and status.error_id == 0xA710
