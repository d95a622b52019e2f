"""What rules are asked about: an instance that has arrived, from whom, when, and any element of its data set."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from copy import copy
from datetime import datetime

from .. import uids
from ..dataset import codec
from ..dataset.vr import NUMBER_FORMATS, PROSE
from ..errors import InvalidArgument
from ..files.instance_source import DEFLATED
from ..repository.headers import Element, Item, read_elements
from ..repository.text import clean_uid, decode, encodings_of
from ..wire.elements import fault_of
from .paths import Path, Step

__all__ = [
    "ASKED",
    "AVAILABILITY",
    "IDENTIFYING",
    "INSTANCE",
    "ITEM",
    "QUERY",
    "RETRIEVE",
    "SENT",
    "TRIGGERS",
    "WORKLIST",
    "Facts",
    "Unreadable",
    "values_of",
]  # fmt: skip

AVAILABILITY = "1.2.840.10008.5.1.4.33"  # Instance Availability Notification
INSTANCE, QUERY, WORKLIST, ITEM, RETRIEVE = "instance", "query", "worklist query", "worklist item", "retrieve"
SENT = "sent"  # an instance that a destination has taken
#: What rules are asked about beside instances, by the SOP class of the message.
TRIGGERS = {
    uids.MODALITY_PERFORMED_PROCEDURE_STEP: "procedure step",
    AVAILABILITY: "availability",
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND: QUERY,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND: QUERY,
    uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE: RETRIEVE,
    uids.PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE: RETRIEVE,
    uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND: WORKLIST,
}
#: What is asked of a router, and answered by another peer.
ASKED = (QUERY, WORKLIST, RETRIEVE)

_CHARACTER_SET = 0x00080005
_PATIENT, _STUDY, _SCHEDULED_STEP_ATTRIBUTES = 0x00100020, 0x0020000D, 0x00400270
_CREATORS = range(0x10, 0x100)
#: What every decision needs of a data set, beside what its rules ask for.
IDENTIFYING = frozenset(
    {_CHARACTER_SET, 0x00080018, 0x00080050, 0x00100020, 0x0020000D, 0x0020000E, _SCHEDULED_STEP_ATTRIBUTES}
)


class Unreadable(InvalidArgument):
    """A data set that no rule can read."""


class Facts:
    """An instance as rules see it.

    Args:
        head: the beginning of its data set, up to Pixel Data or more.
        transfer_syntax, sop_class: UIDs.
        calling, called: AE titles; ``address``: from where, ``host:port`` or a host.
        at: when it arrived, in local time.
        destination: of a retrieve, the AE title that the instances are to go to; of what was sent, the name of the
            destination that has it.
        trigger: what it is, where its SOP class does not say that.
        wanted: tags of the top level that may be asked for; None is any.
        whole: ``head`` is all of the data set, so that it can be judged.
    """

    def __init__(
        self,
        head: bytes,
        transfer_syntax: str,
        sop_class: str,
        *,
        calling: str = "",
        called: str = "",
        address: str = "",
        at: datetime | None = None,
        wanted: Collection[int] | None = None,
        whole: bool = False,
        destination: str = "",
        trigger: str = "",
    ) -> None:
        self.transfer_syntax: str = transfer_syntax
        self.sop_class: str = sop_class
        self.calling: str = calling
        self.called: str = called
        self.address: str = _host(address)
        self.at: datetime = at or datetime.now()
        self.destination: str = destination
        #: What it is: an instance, or what a message tells or asks; see `plan.Rule.on`.
        self.trigger: str = trigger or TRIGGERS.get(sop_class, INSTANCE)
        self._head, self._wanted, self._whole = head, wanted, whole
        self._items: Item | None = None
        self._encodings: tuple[str, ...] = ()

    def as_sent(self, destination: str) -> Facts:
        """The same instance, once a destination has it."""
        sent = copy(self)
        sent.destination, sent.trigger = destination, SENT
        return sent

    def check(self) -> None:
        """Refuse a data set that no rule can read.

        Raises:
            Unreadable: it is none, or does not say which instance it is.
        """
        head = self._head
        try:
            if self.transfer_syntax in DEFLATED:
                head = codec.inflate(head) if self._whole else b""
            if self._whole:
                codec.actual_encoding(head, self.transfer_syntax)
            if self.trigger in (INSTANCE, SENT) and not self.uid(0x00080018):
                raise Unreadable("the data set has no SOP Instance UID (0008,0018)")
        except Unreadable:
            raise
        except (InvalidArgument, codec.UndecodableDataSet, ValueError, zlib.error) as error:  # the last of a mere head
            raise Unreadable(f"the data set cannot be read: {error}") from error

    @property
    def study(self) -> str:
        """The UID of its study; of a procedure step the first that it is for. Empty where there is none."""
        steps = (one.value for one in self.elements if one.tag == _SCHEDULED_STEP_ATTRIBUTES)
        items = [item for value in steps if isinstance(value, list) for item in value]
        inner = (one.value for item in items for one in item if one.tag == _STUDY and isinstance(one.value, bytes))
        return self.uid(_STUDY) or next(map(clean_uid, inner), "")

    @property
    def subject(self) -> str:
        """What is done once for it: its study; without one, its patient. Empty where that is none, or not a single one.

        A query may name several, or a pattern (PS3.4 Section C.2.2.2).
        """
        named = self.study or self.text(_PATIENT)
        return "" if self.trigger in ASKED and any(one in named for one in "*?\\") else named

    @property
    def sets_going(self) -> bool:
        """Whether rules may have something done for it; for a query of no study and no single patient they may not."""
        return bool(self.subject) or self.trigger not in (QUERY, WORKLIST, ITEM)

    @property
    def elements(self) -> Item:
        """The elements that were wanted."""
        if self._items is None:
            implicit, little = codec.encoding_of(self.transfer_syntax)
            syntax = self.transfer_syntax
            # Some writers leave out the VRs that their transfer syntax wants.
            if self._whole and syntax not in DEFLATED and not implicit and fault_of(self._head, implicit, little):
                syntax = uids.IMPLICIT_VR_LITTLE_ENDIAN if little else syntax
            self._items = read_elements(self._head, syntax, self._wanted)
            self._encodings = encodings_of(next(iter(self.texts_of(_CHARACTER_SET)), ""))
        return self._items

    def uid(self, tag: int) -> str:
        """A UID of the top level; empty where there is none."""
        return next(iter(self.texts_of(tag)), "")

    def texts_of(self, tag: int) -> list[str]:
        """An ASCII element of the top level, as the one text that it is."""
        items = self._items if self._items is not None else self.elements
        return [clean_uid(one.value) for one in items if one.tag == tag and isinstance(one.value, bytes)]

    def text(self, tag: int) -> str:
        """An element of the top level in its character set."""
        found = (one for one in self.elements if one.tag == tag and isinstance(one.value, bytes))
        return next((decode(one.value, self._encodings) for one in found if isinstance(one.value, bytes)), "")

    def find(self, path: Path) -> list[Element]:
        """The elements that a path leads to; none where it leads nowhere."""
        return list(_walk(self.elements, path.steps))

    def values(self, path: Path) -> list[str]:
        """The values of those elements, as text."""
        return [value for element in self.find(path) for value in values_of(element, self._encodings)]


def _host(address: str) -> str:
    """An address without its port."""
    host, colon, port = address.rpartition(":")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return host if colon and port.isdigit() and ":" not in host else address


def _walk(item: Item, steps: tuple[Step, ...]) -> Iterator[Element]:
    step, rest = steps[0], steps[1:]
    for element in _named(item, step):
        if not rest:
            yield element
        elif isinstance(element.value, list):
            inner = element.value if step.item is None else element.value[step.item : step.item + 1]
            for one in inner:
                yield from _walk(one, rest)


def _named(item: Item, step: Step) -> list[Element]:
    if not step.creator:
        return [one for one in item if one.tag == step.tag]
    group = step.tag >> 16
    blocks = [
        one.tag & 0xFF
        for one in item
        if one.tag >> 16 == group and one.tag & 0xFFFF in _CREATORS and isinstance(one.value, bytes)
        if one.value.decode("latin-1").strip(" \0") == step.creator
    ]
    tags = {group << 16 | block << 8 | step.tag & 0xFF for block in blocks}
    return [one for one in item if one.tag in tags]


def values_of(element: Element, encodings: tuple[str, ...]) -> list[str]:
    """The values of an element as text, without padding; none of a sequence or of what has no value."""
    value = element.value
    if isinstance(value, list) or not value:
        return []
    form = NUMBER_FORMATS.get(element.vr)
    if form is not None:
        size = struct.calcsize(form)
        whole = value[: len(value) // size * size]
        return [repr(number) for number in struct.unpack(f"<{len(whole) // size}{form}", whole)]
    text = decode(value, encodings)
    if element.vr in PROSE:
        return [text] if text else []
    return [part.strip() for part in text.split("\\")] if text else []
