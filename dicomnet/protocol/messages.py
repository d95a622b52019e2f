"""The 23 DIMSE messages, from one table of fields (PS3.7 Sections 9.3 and 10.3, Annex E).

A message's value is a `Command` (its command set) and, for some, a data set; what makes it a C-STORE-RQ rather than
another message is its Command Field. `MESSAGES` says which elements each message needs and may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from operator import attrgetter
from typing import NamedTuple, Protocol

from ..errors import InvalidArgument
from ..files.dataset_sink import MemorySink
from ..wire.command_set import Command, Message

__all__ = [
    "MESSAGES",
    "Buffer",
    "CommandField",
    "DataInMemory",
    "DataSet",
    "DataSource",
    "MessageType",
    "Priority",
    "Sized",
    "fits",
    "missing_element",
    "name_of",
]

Buffer = bytes | bytearray | memoryview


class CommandField(IntEnum):
    """Command Field values (PS3.7 Annex E.1)."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    N_DELETE_RQ = 0x0150
    N_DELETE_RSP = 0x8150
    C_CANCEL_RQ = 0x0FFF


class Priority(IntEnum):
    """Priority of an operation (PS3.7 Annex E.1)."""

    LOW = 0x0002
    MEDIUM = 0x0000
    HIGH = 0x0001


class DataSet(IntEnum):
    """Whether a message carries a data set."""

    ABSENT = 0
    PRESENT = 1
    CONDITIONAL = 2


class MessageType(NamedTuple):
    """One message: its Command Field, the elements of `Command` that it needs and may have, and its data set."""

    field: CommandField
    required: tuple[str, ...]
    optional: tuple[str, ...]
    data_set: DataSet

    @property
    def name(self) -> str:
        """The standard's name, such as ``C-STORE-RQ``."""
        return self.field.name.replace("_", "-")


_SHORT = {
    "class": "affected_sop_class_uid",
    "instance": "affected_sop_instance_uid",
    "class*": "requested_sop_class_uid",
    "instance*": "requested_sop_instance_uid",
    "id": "message_id",
    "to": "message_id_being_responded_to",
    "event": "event_type_id",
    "action": "action_type_id",
    "tags": "attribute_identifier_list",
    "originator": "move_originator_ae_title",
    "originator_id": "move_originator_message_id",
    "remaining": "number_of_remaining_suboperations",
    "completed": "number_of_completed_suboperations",
    "failed": "number_of_failed_suboperations",
    "warning": "number_of_warning_suboperations",
}
_COUNTS = "remaining completed failed warning"

# message | required elements beside Command Field and Command Data Set Type | optional elements | data set
_TABLE = f"""
C_STORE_RQ         | class id priority instance       | originator originator_id     | PRESENT
C_STORE_RSP        | to status                        | class instance               | ABSENT
C_FIND_RQ          | class id priority                |                              | PRESENT
C_FIND_RSP         | to status                        | class                        | CONDITIONAL
C_GET_RQ           | class id priority                |                              | PRESENT
C_GET_RSP          | to status                        | class {_COUNTS}              | CONDITIONAL
C_MOVE_RQ          | class id priority move_destination |                            | PRESENT
C_MOVE_RSP         | to status                        | class {_COUNTS}              | CONDITIONAL
C_ECHO_RQ          | class id                         |                              | ABSENT
C_ECHO_RSP         | to status                        | class                        | ABSENT
N_EVENT_REPORT_RQ  | class id instance event          |                              | CONDITIONAL
N_EVENT_REPORT_RSP | to status                        | class instance event         | CONDITIONAL
N_GET_RQ           | class* id instance*              | tags                         | ABSENT
N_GET_RSP          | to status                        | class instance tags          | CONDITIONAL
N_SET_RQ           | class* id instance*              |                              | PRESENT
N_SET_RSP          | to status                        | class instance tags          | CONDITIONAL
N_ACTION_RQ        | class* id instance* action       |                              | CONDITIONAL
N_ACTION_RSP       | to status                        | class instance action        | CONDITIONAL
N_CREATE_RQ        | class id                         | instance                     | CONDITIONAL
N_CREATE_RSP       | to status                        | class instance tags          | CONDITIONAL
N_DELETE_RQ        | class* id instance*              |                              | ABSENT
N_DELETE_RSP       | to status                        | class instance               | ABSENT
C_CANCEL_RQ        | to                               |                              | ABSENT
"""
_STATUS_RELATED = ("offending_element", "error_comment", "error_id")


def _message_type(line: str) -> MessageType:
    name, required, optional, data_set = (part.strip() for part in line.split("|"))
    extra = _STATUS_RELATED if "status" in required.split() else ()
    return MessageType(
        CommandField[name],
        tuple(_SHORT.get(word, word) for word in required.split()),
        tuple(_SHORT.get(word, word) for word in optional.split()) + extra,
        DataSet[data_set],
    )


MESSAGES: dict[int, MessageType] = {
    message.field: message for message in map(_message_type, _TABLE.strip().splitlines())
}


# What each message needs, all of it at once; a name too many keeps it a tuple.
_REQUIRED = {field: attrgetter("command_field", *message.required) for field, message in MESSAGES.items()}


def name_of(command: Command) -> str:
    """The standard's name of a message, or its Command Field in hexadecimal where there is none."""
    return message_name(command.command_field or 0)


def message_name(field: int) -> str:
    """The standard's name of the message with this Command Field, or that in hexadecimal where there is none."""
    message = MESSAGES.get(field)
    return message.name if message else f"command field {field:04X}H"


def missing_element(command: Command) -> str | None:
    """The first element that the message needs and the command set lacks; None where nothing is missing."""
    values = _REQUIRED.get(command.command_field)
    if values is None or None not in values(command):  # nearly always, and twice for each request
        return None
    return next(name for name in MESSAGES[command.command_field].required if getattr(command, name) is None)


def fits(message: Message, others: Iterable[Message], most: int | None) -> bool:
    """Whether this message and the others hold no more in memory than that; one in a file always does."""
    if most is None or not isinstance(message.data, MemorySink):
        return True
    held = sum(one.data.size for one in others if isinstance(one.data, MemorySink))
    return held + message.data.size <= most


# ---- on the way out ------------------------------------------------------------------------------------------------


class Sized(Protocol):
    """A data set, of which nothing but the size is of interest."""

    @property
    def size(self) -> int:
        """In bytes."""


class DataSource(Protocol):
    """Where the bytes of a data set come from."""

    @property
    def size(self) -> int:
        """All bytes of the data set as they go over the wire; even."""

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """The bytes, in pieces whose length is a multiple of ``unit`` but for the last. A piece dies with the next."""


class DataInMemory:
    """A data set in memory, as a data source whose pieces are at most some ``piece`` bytes long."""

    def __init__(self, data: Buffer, piece: int) -> None:
        self._view = memoryview(data).cast("B")
        self._piece = piece
        self.size: int = self._view.nbytes
        if self.size % 2:
            raise InvalidArgument(f"a data set has an even length, not {self.size} bytes (PS3.5 Section 7.1)")

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """The bytes themselves; nothing is copied."""
        if self.size <= self._piece:
            return iter((self._view,))
        step = max(self._piece // unit, 1) * unit
        return (self._view[start : start + step] for start in range(0, self.size, step))
