"""Traces: a program that wants to know what happens on an association is told, and can neither alter nor stall it.

A tap is told of each PDU, each change of state and each message, both ways, as values of its own: there is nothing in
them by which the association could be reached. One tap does for any number of associations; it is called in the thread
of each, so a function that takes long holds that one up: give it a `TraceQueue` instead, and take from that elsewhere.

What a PDU shows is what goes over the wire. An A-ASSOCIATE-RQ holds the user's passcode, a data set the patient's name.
For logs, and for people, PDUs and commands are put into plain values here, too: names for numbers, and no secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from .. import uids
from .._pdu import Abort, AssociateAC, AssociateRJ, AssociateRQ, PDataTF, ReleaseRP, ReleaseRQ
from ..config import TAPPED_BODY, TAPPED_WAITING
from ..errors import AssociationAborted, AssociationRejected, MalformedPDU
from ..log import log_failure
from ..status import Status
from ..wire.command_set import ELEMENTS, Command, decode_command
from ..wire.items import UserIdentityAC, UserIdentityRQ
from ..wire.items import Value as Item
from .messages import name_of
from .seen import Seen, Watched
from .watch import SeenQueue, Watch

__all__ = [
    "PDU_NAMES",
    "Fields",
    "ProtocolTrace",
    "TraceQueue",
    "command_fields",
    "decoded_command",
    "lines",
    "named",
    "value_fields",
]


class ProtocolTrace:
    """Calls a function with whatever is seen; where that raises, it is logged, and the tap is told nothing more.

    Args:
        function: takes a `PDUSeen`, a `TransitionSeen` or a `MessageSeen`; called in the thread of the association.
        body: the most bytes of a PDU's body to keep; None keeps all.
        data: whether that includes the fragments of data sets.

    Attributes:
        function: see above.
        broken: whether it raised.
    """

    def __init__(
        self, function: Callable[[Seen], object], *, body: int | None = TAPPED_BODY, data: bool = False
    ) -> None:
        self.body = body
        self.data = data
        self.broken: bool = False
        self.function = function
        self._numbers = count(1)

    def observe(self, peer: str, requestor: bool, clock: Callable[[], float]) -> Watch:
        """Watch one more association; give the result to its `Exchange`."""
        return Watch(self, Watched(next(self._numbers), requestor, peer), clock)

    def tell(self, seen: Seen) -> None:
        """Call the function, unless it has failed."""
        if not self.broken:
            try:
                self.function(seen)
            except Exception as error:
                self.fail(error)

    def fail(self, error: Exception) -> None:
        """The function raised."""
        self.broken = True
        log_failure("a tap failed, and is told nothing more", error)


class TraceQueue(ProtocolTrace):
    """A trace for a slow reader: what is seen waits for `take`, in another thread; what is too much is lost.

    Args:
        most: as many may wait; what is seen past it is counted and dropped.
        body, data: see `ProtocolTrace`.
        wake: called, in the thread of the association, when something waits for the first time since `take`, such as
            an event's ``set``; clear that before you take.

    Attributes:
        queue: where it waits.
    """

    def __init__(
        self,
        most: int = TAPPED_WAITING,
        *,
        body: int | None = TAPPED_BODY,
        data: bool = False,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.queue: SeenQueue = SeenQueue(most, wake)
        super().__init__(self.queue, body=body, data=data)

    @property
    def dropped(self) -> int:
        """How much was lost so far."""
        return self.queue.dropped

    def take(self) -> list[Seen]:
        """All that waits, in order."""
        return [*self.queue.take()]


# ---- what was seen, in words -------------------------------------------------------------------------------------

#: What the standard calls them.
PDU_NAMES: dict[type[Item], str] = {
    AssociateRQ: "A-ASSOCIATE-RQ",
    AssociateAC: "A-ASSOCIATE-AC",
    AssociateRJ: "A-ASSOCIATE-RJ",
    PDataTF: "P-DATA-TF",
    ReleaseRQ: "A-RELEASE-RQ",
    ReleaseRP: "A-RELEASE-RP",
    Abort: "A-ABORT",
}
_NAMED_USER = {1, 2}  # types of user identity whose primary field is a name and no secret (PS3.7 Annex D.3.3.7)
_SHOWN_BYTES = 16

Fields = dict[str, Any]


def value_fields(value: Item) -> Fields:
    """The fields of a PDU or an item by their names; those of items in it, too."""
    names: tuple[str, ...] = type(value).__match_args__
    fields: Fields = {name: getattr(value, name) for name in names}
    if isinstance(value, UserIdentityRQ):
        is_name = value.type in _NAMED_USER
        fields["primary"] = value.primary.decode("utf-8", "replace") if is_name else _sized(value.primary)
        fields["secondary"] = _sized(value.secondary)
    if isinstance(value, UserIdentityAC):
        fields["response"] = _sized(value.response)  # it may be a ticket
    if isinstance(value, AssociateRJ):
        fields["meaning"] = AssociationRejected(value.result, value.source, value.reason, hint="").message
    if isinstance(value, Abort):
        fields["meaning"] = AssociationAborted(value.source, value.reason).message
    return {name: _plain(field) for name, field in fields.items() if field not in ((), None)}


def _plain(field: Any) -> Any:
    if isinstance(field, Item):
        return {"item": type(field).__name__} | value_fields(field)
    if isinstance(field, tuple):
        return [_plain(part) for part in field]
    if isinstance(field, bytes):
        return _hex(field)
    return named(field) if isinstance(field, str) else field


def named(text: str) -> str:
    """A UID with its name, where it has one."""
    name = uids.name_of(text)
    return text if name == text else f"{text} ({name})"


def _sized(data: bytes) -> str:
    """So many bytes."""
    return f"{len(data)} byte{'' if len(data) == 1 else 's'}"


def _hex(data: bytes) -> str:
    more = "…" if len(data) > _SHOWN_BYTES else ""
    return f"{_sized(data)} {data[:_SHOWN_BYTES].hex(' ')}{more}".strip()


def decoded_command(data: bytes | bytearray) -> Fields:
    """What is in the bytes of a command set, or what is wrong with them."""
    try:
        command = decode_command(data)
    except MalformedPDU as error:
        return {"malformed": error.message}
    return command_fields(command)


def command_fields(command: Command) -> Fields:
    """The elements of a command set by their names, after that of its message."""
    elements = {name: getattr(command, name) for _, name, _ in ELEMENTS if getattr(command, name) is not None}
    return {"message": name_of(command)} | {name: _element(command, name, elements[name]) for name in elements}


def _element(command: Command, name: str, value: Any) -> Any:
    if name == "status":
        return str(Status(value, name_of(command).removesuffix("-RSP")))
    if isinstance(value, tuple):
        return [f"({tag >> 16:04X},{tag & 0xFFFF:04X})" for tag in value]
    if name in ("command_field", "command_data_set_type"):
        return f"{value:04X}H"
    return named(value) if isinstance(value, str) else value


def lines(fields: Fields, depth: int = 1) -> Iterator[str]:
    """The fields of a PDU, an item or a message for people: one to a line, what is in them indented."""
    margin = "    " * depth
    for name, field in fields.items():
        if not isinstance(field, list):
            yield f"{margin}{_words(name)}: {field}"
        elif all(isinstance(part, str) for part in field):
            yield f"{margin}{_words(name)}: {', '.join(field)}"
        else:
            yield f"{margin}{_words(name)}:"
            for part in field:
                yield from _part(dict(part), depth + 1)


def _part(part: Fields, depth: int) -> Iterator[str]:
    """An item or a fragment: a heading, and below it what does not fit there."""
    if "item" in part:
        heading = str(part.pop("item"))
        if len(part) == 1:
            heading += f": {part.popitem()[1]}"
    else:
        last = ", the last" if part.pop("last") else ""
        heading = f"context {part.pop('context')}: {part.pop('kind')}, {part.pop('size')} bytes{last}"
    yield "    " * depth + heading
    yield from lines(part, depth + 1)


_UPPER = {"ae": "AE", "id": "ID", "scp": "SCP", "scu": "SCU", "uid": "UID"}


def _words(name: str) -> str:
    return " ".join(_UPPER.get(word, word) for word in name.split("_"))
