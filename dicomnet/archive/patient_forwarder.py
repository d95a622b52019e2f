"""What was changed of patients, passed on to other systems: the HL7 messages, as they came, once they are done here.

What is to be passed on is in the outbox with the change itself, in the order of each patient. What another system
refuses for good is parked until a person says `retry`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

from sqlalchemy import Connection

from ..client.hl7 import Hl7Refused, exchange, require_taken
from ..config import Entity
from ..errors import DicomNetError
from ..log import log
from ..net.tls import TLS
from ..repository.outbox import Item
from .forwarder import Forwarder
from .hl7_message import Message
from .holdings import Holdings

__all__ = ["QUEUE", "PatientForwarder"]

QUEUE = "patient"
_SECONDS = 30.0  # for a connection, and for an acknowledgement
_NOT_TAKEN = "AR"


class PatientForwarder(Forwarder):
    """Tells the addresses that the settings name.

    Args:
        holdings: where the outbox is.
    """

    def __init__(self, holdings: Holdings) -> None:
        super().__init__(holdings, QUEUE, "patients_to")

    def enqueue(self, connection: Connection, message: Message, pid: str) -> None:
        """Have a message passed on once the caller's transaction is committed; then call `wake`."""
        payload = {"message": b64encode(message.raw).decode(), "control": message.control_id}
        for where in self.destinations:
            self._holdings.outbox.enqueue(connection, QUEUE, payload, destination=where, lane=f"{where} {pid}")

    def forward(self, item: Item) -> None:
        """Send it, until it is acknowledged."""
        where, outbox = Entity.parse(item.destination), self._holdings.outbox
        try:
            answer = exchange(where, b64decode(item.payload["message"]), TLS() if where.tls else None, _SECONDS)
            require_taken(item.payload["control"], answer, item.destination)
        except Hl7Refused as error:
            log.warning("%s refuses a change of a patient: %s", item.destination, error.code)
            (outbox.park if error.code == _NOT_TAKEN else outbox.fail)(item, str(error))
        except (DicomNetError, OSError) as error:
            log.warning("%s is not told of a change of a patient: %s", item.destination, error)
            outbox.fail(item, str(error))
        else:
            outbox.done(item)
