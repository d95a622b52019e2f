"""HL7 v2: orders and admissions change the worklist; what is acknowledged is kept.

ORM^O01, OMI^O23 and OMG^O19 add, change and cancel items; ADT^A01, A04 and A08 correct a patient, in the worklist and
in the index; A40 merges two patients, A37 takes one out again, A47 gives one another ID. A message that comes twice
changes nothing the second time, and is acknowledged again. What cannot be done whole is not done at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError

from ..errors import DicomNetError, InvalidArgument, LocalProtocolError, escaped
from ..log import log
from ..repository.committer import Committer
from ..repository.deferred import Deferred
from ..repository.identity import PatientId, UnknownPatient, change_id, correct, is_one, merge, unmerge
from ..repository.worklist import Worklist
from .hl7_message import Message
from .hl7_orders import items_of_orders, patient_of
from .holdings import Holdings
from .mllp import MllpServer
from .patient_forwarder import PatientForwarder
from .worklist_files import item_of_keywords

__all__ = ["Hl7Service"]

_ORDERS = frozenset({"ORM^O01", "OMI^O23", "OMG^O19"})
_ADMISSIONS = frozenset({"ADT^A01", "ADT^A04", "ADT^A08"})
_MERGE, _CHANGE_ID, _UNMERGE = "ADT^A40", "ADT^A47", "ADT^A37"
_OF_PATIENTS = _ADMISSIONS | {_MERGE, _CHANGE_ID, _UNMERGE}
_CORRECTED = ("PatientName", "PatientBirthDate", "PatientSex")
_ACCEPTED, _ERROR, _REJECTED = "AA", "AE", "AR"
_MOST_TEXT = 80


class Hl7Service:
    """Takes HL7 messages.

    Args:
        holdings: whose worklist and patients they change.

    Attributes:
        forwarder: passes on what is told of patients.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self.forwarder: PatientForwarder = PatientForwarder(holdings)
        self._worklist = Worklist(holdings.database)
        self._committer: Committer[Message, tuple[str, str]] = Committer(self._commit)
        self.server: MllpServer | None = None

    def start(self) -> None:
        """Listen, where the settings say so.

        Raises:
            CannotListen: another program does.
        """
        settings = self._holdings.settings
        self.forwarder.start()
        if settings.hl7_port is not None:
            self.server = MllpServer(self.take, host=settings.host, port=settings.hl7_port)
            log.info("HL7 messages are taken on port %d", self.server.address[1])

    def close(self) -> None:
        """Take no more messages."""
        if self.server is not None:
            self.server.close()
        self._committer.close()
        self.forwarder.close()

    def take(self, data: bytes) -> Future[bytes]:
        """The acknowledgement of a message; once it says AA, what the message says is durable.

        Messages that come while the disk confirms others are one transaction.
        """
        answer: Deferred[bytes] = Deferred()
        try:
            message = Message.decode(data)
        except DicomNetError as error:
            log.info("an HL7 message is refused: %s", error.message)
            head = Message.parse("MSH|^~\\&|\r")
            answer.set_result(_acknowledgement(head, _REJECTED, error.message))
            return answer

        def settle(result: tuple[str, str] | Exception) -> None:
            code, text = (_ERROR, "the database cannot be written") if isinstance(result, Exception) else result
            log.info("the HL7 message %s %s: %s %s", message.type, escaped(message.control_id), code, text)
            answer.set_result(_acknowledgement(message, code, text))
            self.forwarder.wake()

        try:
            self._committer.hand(message, settle)
        except LocalProtocolError as error:
            settle(error)
        return answer

    def _commit(self, group: Sequence[Message]) -> list[tuple[str, str] | Exception]:
        """One transaction for all; where it fails, each by itself, so that one spoils no other."""
        try:
            return self._holdings.database.transaction(
                lambda connection: [self._perform(connection, message) for message in group]
            )
        except DBAPIError as error:
            if len(group) == 1:
                return [error]
        return [result for message in group for result in self._commit_again([message])]

    def _commit_again(self, message: list[Message]) -> list[tuple[str, str] | Exception]:
        """Another process may have added the same: then it is there at the second look."""
        [result] = self._commit(message)
        return self._commit(message) if isinstance(result, IntegrityError) else [result]

    def _perform(self, connection: Connection, message: Message) -> tuple[str, str]:
        """Do what a message says; of one that fails nothing is done."""
        try:
            with connection.begin_nested():
                if message.type in _ORDERS:
                    self._order(connection, message)
                elif message.type in _ADMISSIONS:
                    self._correct(connection, message)
                elif message.type in (_MERGE, _CHANGE_ID):
                    self._move(connection, message)
                elif message.type == _UNMERGE:
                    self._unmerge(connection, message)
                else:
                    return _REJECTED, "this type of message is not supported"
                if message.type in _OF_PATIENTS:
                    self.forwarder.enqueue(connection, message, message.first("PID").get(3))
        except DicomNetError as error:
            return _ERROR, error.message
        return _ACCEPTED, ""

    def _order(self, connection: Connection, message: Message) -> None:
        for keywords in items_of_orders(message):
            self._worklist.put_in(connection, item_of_keywords(keywords))

    def _correct(self, connection: Connection, message: Message) -> None:
        """The patient of PID is so, in the worklist and in the index, as far as either knows the patient."""
        patient = patient_of(message)
        self._worklist.correct_patient(connection, item_of_keywords(patient))
        with suppress(UnknownPatient):
            correct(connection, _id_of(patient), {one: patient[one] for one in _CORRECTED if one in patient})

    def _move(self, connection: Connection, message: Message) -> None:
        """The patient of MRG becomes that of PID, or gets that ID, in the worklist and in the index."""
        patient, gone = patient_of(message), message.first("MRG")
        old, new = PatientId(gone.get(1), gone.get(1, 4)), _id_of(patient)
        if not old.pid:
            raise InvalidArgument("MRG names no patient")
        if not new.pid:
            raise InvalidArgument("PID names no patient")
        if old == new:
            raise InvalidArgument("MRG and PID name the same patient")
        self._worklist.correct_patient(connection, item_of_keywords(patient), old.pid)
        if is_one(connection, old, new):
            return  # this message has come before
        with suppress(UnknownPatient):
            (merge if message.type == _MERGE else change_id)(connection, old, new)

    def _unmerge(self, connection: Connection, message: Message) -> None:
        """The patient of the first PID is taken out of that of the second."""
        named = [PatientId(one.get(3), one.get(3, 4)) for one in message.named("PID")]
        if len(named) != 2 or not all(one.pid for one in named):
            raise InvalidArgument("two PIDs name who is taken out of whom")
        if is_one(connection, *named):
            unmerge(connection, named[0])


def _id_of(patient: Mapping[str, str]) -> PatientId:
    return PatientId(patient.get("PatientID", ""), patient.get("IssuerOfPatientID", ""))


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
