"""HL7 v2: orders and admissions change the worklist; what is acknowledged is kept.

ORM^O01, OMI^O23 and OMG^O19 add, change and cancel items; ADT^A01, A04 and A08 correct the patient of items; A40 merges
two patients. A message that comes twice changes nothing the second time, and is acknowledged again.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.exc import DBAPIError

from ..errors import DicomNetError, InvalidArgument, escaped
from ..log import log
from ..repository.identity import PatientId, merge
from ..repository.worklist import Worklist
from .hl7_message import Message
from .hl7_orders import items_of_orders, patient_of
from .holdings import Holdings
from .mllp import MllpServer
from .worklist_files import item_of_keywords

__all__ = ["Hl7Service"]

_ORDERS = frozenset({"ORM^O01", "OMI^O23", "OMG^O19"})
_ADMISSIONS = frozenset({"ADT^A01", "ADT^A04", "ADT^A08"})
_MERGE = "ADT^A40"
_ACCEPTED, _ERROR, _REJECTED = "AA", "AE", "AR"
_MOST_TEXT = 80


class Hl7Service:
    """Takes HL7 messages.

    Args:
        holdings: whose worklist they change.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._worklist = Worklist(holdings.database)
        self.server: MllpServer | None = None

    def start(self) -> None:
        """Listen, where the settings say so.

        Raises:
            CannotListen: another program does.
        """
        settings = self._holdings.settings
        if settings.hl7_port is not None:
            self.server = MllpServer(self.answer, host=settings.host, port=settings.hl7_port)
            log.info("HL7 messages are taken on port %d", self.server.address[1])

    def close(self) -> None:
        """Take no more messages."""
        if self.server is not None:
            self.server.close()

    def answer(self, data: bytes) -> bytes:
        """The acknowledgement of a message; once it says AA, what the message says is durable."""
        try:
            message = Message.decode(data)
        except DicomNetError as error:
            log.info("an HL7 message is refused: %s", error.message)
            head = Message.parse("MSH|^~\\&|\r")
            return _acknowledgement(head, _REJECTED, error.message)
        code, text = self._perform(message)
        log.info("the HL7 message %s %s: %s %s", message.type, escaped(message.control_id), code, text)
        return _acknowledgement(message, code, text)

    def _perform(self, message: Message) -> tuple[str, str]:
        try:
            if message.type in _ORDERS:
                self._order(message)
            elif message.type in _ADMISSIONS:
                self._worklist.correct_patient(item_of_keywords(patient_of(message)))
            elif message.type == _MERGE:
                self._merge(message)
            else:
                return _REJECTED, "this type of message is not supported"
        except DicomNetError as error:
            return _ERROR, error.message
        except DBAPIError:
            return _ERROR, "the database cannot be written"
        return _ACCEPTED, ""

    def _order(self, message: Message) -> None:
        for keywords in items_of_orders(message):
            self._worklist.put(item_of_keywords(keywords))

    def _merge(self, message: Message) -> None:
        """The patient of MRG becomes that of PID, in the worklist and in the index."""
        patient, gone = patient_of(message), message.first("MRG")
        old = PatientId(gone.get(1), gone.get(1, 4))
        new = PatientId(patient.get("PatientID", ""), patient.get("IssuerOfPatientID", ""))
        if not old.pid:
            raise InvalidArgument("MRG names no patient")
        self._worklist.correct_patient(item_of_keywords(patient), old.pid)
        try:
            self._holdings.database.transaction(lambda connection: merge(connection, old, new))
        except InvalidArgument:
            return  # the index has nothing of them, or this message has come before


def _acknowledgement(message: Message, code: str, text: str) -> bytes:
    """An ACK (HL7 v2.5.1 Section 2.9), in the separators of the message."""
    head = message.segments[0]
    sign = head.separators.field

    def line(segment: str, *fields: str) -> str:
        return sign.join((segment, *fields))

    trigger = head.get(9, 2)
    kind = head.separators.component.join(one for one in ("ACK", trigger) if one)
    control = message.control_id
    ours = (head.field(5), head.field(6), head.field(3), head.field(4))
    now = f"{datetime.now():%Y%m%d%H%M%S}"
    version = head.field(12) or "2.5.1"
    first = line("MSH", head.field(2), *ours, now, "", kind, f"A{control}", head.field(11) or "P", version)
    said = "".join(" " if one in "|^~\\&\r\n" + sign else one for one in text[:_MOST_TEXT])
    answer = f"{first}\r{line('MSA', code, control, said).rstrip(sign)}\r"
    return answer.encode("utf-8", "replace")
