"""What a rule does with an instance: its actions, as data, done in the order in which they are written.

What edits or de-identifies holds for the forwards and copies behind it in the same rule. The instance in the spool
stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ..errors import InvalidArgument
from ..repository.deidentify.profile import options_of
from ..server.discovery import AddInError, resolved
from ..server.settings import AETitle, Seconds, Table
from .conditions import Window, uid_of
from .paths import parse_path

__all__ = [
    "AGAIN", "MOST_PATIENCE", "URGENCY", "Action", "Ask", "Call", "Change", "Copy", "Deidentify", "Drop", "Edit",
    "Forward", "Hold", "Operation", "Prefetch", "Retrieve",
]  # fmt: skip

#: What overtakes what: the smaller number goes first.
URGENCY = {"urgent": 0, "normal": 1, "low": 2}
#: Seconds for which what was prefetched or retrieved for a study, or for a patient, is not again.
AGAIN = 86400.0
#: Senders wait a minute for an answer, as a rule.
MOST_PATIENCE = 45.0
Path = Annotated[str, Field(min_length=1)]


class Forward(Table):
    """Send to one or more destinations."""

    do: Literal["forward"]
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of destinations."""
    urgency: Literal["urgent", "normal", "low"] = "normal"
    """What overtakes what in a destination's queue."""
    between: Window | None = None
    """The time of the day when this is sent; left out, at once."""
    compress: str | None = None
    """A lossless transfer syntax to convert to, by keyword or UID, where the peer takes it: JPEGLSLossless."""
    mode: Literal["queue", "cut-through"] = "queue"
    """By the queue, once it is in the spool; or while it arrives, and its sender gets the status of the destination."""
    patience: Annotated[Seconds, Field(le=MOST_PATIENCE)] = 10.0
    """Of cut-through: how long after its last byte an answer is waited for; then the queue takes it over."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.compress is not None:
            uid_of(self.compress)
        if self.mode == "cut-through":
            if len(self.to) > 1:
                raise InvalidArgument("cut-through goes to one destination, whose status the sender gets")
            if self.between is not None:
                raise InvalidArgument("cut-through and between exclude each other: what is passed on does not wait")
            if self.compress is not None:
                raise InvalidArgument("cut-through and compress exclude each other: what is passed on stays as it is")
        return self


class Drop(Table):
    """Do not keep it: it is gone from the spool, and counted."""

    do: Literal["drop"]


class Hold(Table):
    """Keep it until a person releases it, or drops it."""

    do: Literal["hold"]
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    """Where it goes once it is released."""
    why: str = "on hold by a rule"
    """For people."""


class Copy(Table):
    """Copy it to a folder destination."""

    do: Literal["copy"]
    to: str
    """The name of a destination that is a folder."""


class Operation(Table):
    """One change of an element: set, copy, map, remove, or hash_uids."""

    op: Literal["set", "copy", "map", "remove", "hash_uids"]
    element: str | None = None
    """The path of the element; of hash_uids nothing, which means all UIDs of instances, series and studies."""
    value: str | None = None
    """For set: the new value; several are separated by backslashes."""
    to: str | None = None
    """For copy: the element that gets the value."""
    table: dict[str, str] | None = None
    """For map: new values by old ones; what is not in it stays, unless there is an entry "*"."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted = {"set": ("value",), "copy": ("to",), "map": ("table",), "remove": (), "hash_uids": ()}[self.op]
        if self.element is None and self.op != "hash_uids":
            raise InvalidArgument(f"{self.op} wants an element")
        for name in ("value", "to", "table"):
            if (getattr(self, name) is not None) is not (name in wanted):
                raise InvalidArgument(f"{self.op} {'wants' if name in wanted else 'takes no'} {name}")
        for path in filter(None, (self.element, self.to)):
            parse_path(path)
        return self


class Edit(Table):
    """Change elements of what is sent."""

    do: Literal["edit"]
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
    """In order."""
    uid_key: str = ""
    """The key of hash_uids: with the same one, UIDs become the same on every node."""


class Deidentify(Table):
    """De-identify what is sent, by the profile of PS3.15 Annex E; what has burned-in text is parked."""

    do: Literal["deidentify"]
    options: tuple[str, ...] = ()
    """Options of the profile: private, uids, device, institution, patient, dates, shifted, descriptors, content."""
    key: str | None = None
    """The directory of the key that replacements are made by, the same on every node; left out, the router's own."""
    burned_in: bool = False
    """Whether instances are sent that say that text is burned into their pixels."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        options_of(self.options)
        return self


class Call(Table):
    """Have a function of an installed package change what is sent: it gets a pydicom Dataset."""

    do: Literal["call"]
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """Where it is, as package.module:function; what it raises parks the instance."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.load()
        return self

    def load(self) -> Callable[[Any], object]:
        """The function.

        Raises:
            InvalidArgument: there is none.
        """
        try:
            found = resolved(self.function, self.function, "a rule's function")
        except AddInError as error:
            raise InvalidArgument(f'there is no function "{self.function}": {error.message}') from error
        if not callable(found):
            raise InvalidArgument(f'"{self.function}" is no function')
        return found


class Prefetch(Table):
    """Have an archive send earlier studies of the same patient (C-FIND, C-MOVE)."""

    do: Literal["prefetch"]
    source: str
    """The name of the destination that has them."""
    to: AETitle | None = None
    """The AE title that they are sent to, which the archive has to know; left out of a query or retrieve, who asks."""
    most: Annotated[int, Field(ge=1, le=100)] = 3
    """How many studies, the latest first."""
    same_modality: bool = True
    """Only studies with the modality of what has arrived, is wanted, or is to be made."""
    days: Annotated[int, Field(ge=1)] = 3650
    """How far back."""
    again: Seconds = AGAIN
    """Once done for a study, or for a patient where no study is named, it is not again for so many seconds."""


class Retrieve(Table):
    """Have an archive send the study itself that a message names (C-MOVE); without one, all of the patient."""

    do: Literal["retrieve"]
    source: str
    """The name of the destination that has it."""
    to: AETitle | None = None
    """The AE title that it is sent to, which the archive has to know; left out of a query or retrieve, who asks."""
    again: Seconds = AGAIN
    """Once done for a study, it is not again for so many seconds."""


class Ask(Table):
    """Have a peer answer a query, a worklist query or a retrieve: what it says is passed on as it comes."""

    do: Literal["ask"]
    source: str
    """The name of the destination that is asked. It sends what is retrieved, and has to know whereto."""


Action = Annotated[
    Forward | Drop | Hold | Copy | Edit | Deidentify | Call | Prefetch | Retrieve | Ask, Field(discriminator="do")
]
#: What changes what is sent behind it.
Change = Edit | Deidentify | Call
