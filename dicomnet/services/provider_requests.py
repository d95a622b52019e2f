"""What a provider's handlers are given: one class for each kind of request (PS3.7 Sections 9 and 10)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..dataset import codec
from ..files.dataset_sink import CollectingSink, MemorySink, Sink
from ..files.file_sink import FileSink
from ..files.part10 import meta_header
from ..protocol.exchange import Call, Exchange
from ..protocol.messages import MESSAGES, CommandField, MessageType
from ..protocol.negotiation import PresentationContext, SecureLink, UserIdentity, extended_answers
from ..uids import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from ..wire.command_set import Command, Message
from ..wire.element_walk import Element, HeaderCollector, Selection, header_of

__all__ = [
    "Arrival",
    "EchoRequest",
    "Ending",
    "FindRequest",
    "GetRequest",
    "MoveRequest",
    "NormalizedRequest",
    "Request",
    "StoreRequest",
    "file_sink",
]


class Ending:
    """What handlers keep in `Request.kept`, and a server tells of the end of the association."""

    def association_ended(self) -> None:
        """The association is over; its last instances may still be on their way to the disk. It must not block."""


class Request:
    """What every request tells its handler.

    Attributes:
        context: the presentation context that it came in.
        command: its command set.
        calling, called: the AE titles of the association.
        address: where the peer connected from, ``host:port``.
        tls: what TLS negotiated, with the peer's certificate; None on a plain connection.
        user: the caller's user, where ``AcceptancePolicy.identify`` let them in.
        call: that of the handler, once it is made.
        kept: what handlers keep for as long as the association lasts, by keys of their own; it ends with it.
    """

    __slots__ = (
        "_character_set", "_dataset", "_sink", "address", "call", "called", "calling", "command", "context", "kept",
        "tls", "user",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, message: Message, address: str) -> None:
        self.context: PresentationContext = exchange.contexts[message.context_id]
        self.command: Command = message.command
        self.calling: str = exchange.calling
        self.called: str = exchange.called
        self.address: str = address
        self.tls: SecureLink | None = exchange.tls
        self.user: UserIdentity | None = exchange.user
        self.kept: dict[object, Any] = exchange.kept
        self._character_set = exchange.profile.character_set
        self._sink: Sink | None = message.data
        self.call: Call | None = None
        self._dataset: Any = None

    @property
    def sop_class_uid(self) -> str:
        """Affected or Requested SOP Class UID, as the peer sent it."""
        return self.command.affected_sop_class_uid or self.command.requested_sop_class_uid or ""

    @property
    def sop_instance_uid(self) -> str:
        """Affected or Requested SOP Instance UID, as the peer sent it: it need not be a UID (`uids.is_valid`)."""
        return self.command.affected_sop_instance_uid or self.command.requested_sop_instance_uid or ""

    @property
    def transfer_syntax_uid(self) -> str:
        """The transfer syntax of the data set."""
        return self.context.transfer_syntax

    @property
    def size(self) -> int:
        """Bytes of the data set; 0 where there is none."""
        return 0 if self._sink is None else self._sink.size

    @property
    def data(self) -> bytes:
        """The bytes of the data set; empty where there is none. Not where a spool took them."""
        if self._sink is None:
            return b""
        if not isinstance(self._sink, MemorySink):
            raise TypeError("this handler has a spool: the data set is in request.file")
        return self._sink.getvalue()

    @property
    def dataset(self) -> Any:
        """The data set as a pydicom Dataset, decoded when first asked for."""
        if self._dataset is None:
            self._dataset = codec.decode(self.data, self.transfer_syntax_uid, self._character_set)
        return self._dataset

    def __repr__(self) -> str:
        return f"{type(self).__name__}(calling={self.calling!r}, sop_class_uid={self.sop_class_uid!r})"


class Arrival:
    """A data set that is about to arrive, for who decides where it goes; see `StoreOptions`.

    Attributes:
        context: the presentation context that it comes in.
        command: the command set of its request.
        calling, called: the AE titles of the association.
        address: where the peer connected from, ``host:port``.
    """

    __slots__ = ("address", "called", "calling", "command", "context")

    def __init__(self, exchange: Exchange, context: PresentationContext, command: Command) -> None:
        self.context: PresentationContext = context
        self.command: Command = command
        self.calling: str = exchange.calling
        self.called: str = exchange.called
        self.address: str = exchange.address

    def file_sink(self, spool: str | os.PathLike[str], *, durable: bool = False) -> FileSink:
        """A Part 10 file in a directory, as ``on_store(spool=...)`` has it.

        Raises:
            OutputFileError: it cannot be created.
        """
        return file_sink(spool, self.context, self.command, self.calling, durable=durable)


def file_sink(
    spool: str | os.PathLike[str], context: PresentationContext, command: Command, calling: str, *, durable: bool
) -> FileSink:
    """See `Arrival.file_sink`: a provider with a spool needs no `Arrival` for it."""
    uids = command.affected_sop_class_uid or "", command.affected_sop_instance_uid or ""
    return FileSink(spool, meta_header(*uids, context.transfer_syntax, calling), durable=durable)


class EchoRequest(Request):
    """A C-ECHO-RQ (PS3.7 Section 9.1.5)."""

    __slots__ = ()


class StoreRequest(Request):
    """A C-STORE-RQ whose data set has arrived (PS3.7 Section 9.1.1).

    With a spool, ``file`` holds the instance as a Part 10 file that is not visible yet: ``file.commit(name, root=...)``
    puts it in its place; what is not committed is deleted when the handler returns. Without a spool, ``data`` holds its
    bytes.
    """

    __slots__ = ("_collector", "_elements", "_selection")

    def collect(self, selection: Selection | None) -> None:
        """Have `elements` and `header`, of a handler that was registered with them."""
        self._selection = selection
        self._elements: dict[int | tuple[int, ...], Element] | None = None
        self._collector: HeaderCollector | None = None
        if isinstance(self._sink, CollectingSink):
            self._collector, self._sink = self._sink.collector, self._sink.inner

    @property
    def elements(self) -> Mapping[int | tuple[int, ...], Element] | None:
        """The elements that ``on_store(elements=...)`` names and that are there, by tag or path; no pydicom is needed.

        They are those before Pixel Data and within the first ``config.HEADER`` bytes. None for a deflated data set.
        """
        selection, sink, syntax = self._selecting(), self._sink, self.transfer_syntax_uid
        if self._elements is None and self._collector is not None:
            self._elements = self._collector.elements(selection, syntax)
        elif self._elements is None and isinstance(sink, MemorySink) and syntax != DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
            self._elements = selection.find(sink.getbuffer(), syntax)
        return self._elements

    def _selecting(self) -> Selection:
        selection: Selection | None = getattr(self, "_selection", None)
        if selection is None:
            raise TypeError("this handler was not registered with on_store(elements=...) or on_store(header=True)")
        return selection

    @property
    def header(self) -> bytes | None:
        """The data set up to Pixel Data (7FE0,xxxx), as it came; all of it where there is none.

        None where it cannot be had: the data set is deflated, is longer before Pixel Data than ``config.HEADER``, or is
        no sequence of elements.
        """
        self._selecting()
        if self._collector is not None:
            return self._collector.header if self._collector.whole else None
        if not isinstance(self._sink, MemorySink):
            return None
        return header_of(self._sink.getbuffer(), self.transfer_syntax_uid)

    @property
    def file(self) -> FileSink:
        """The spooled file; only where the handler was registered with a spool."""
        if not isinstance(self._sink, FileSink):
            raise TypeError("this handler has no spool: read request.data, or register it with on_store(spool=...)")
        return self._sink

    @property
    def sink(self) -> Sink:
        """What took the data set, where the handler was registered with ``on_store(sink=...)``."""
        if self._sink is None:
            raise TypeError("this request brought no data set")
        return self._sink


class FindRequest(Request):
    """A C-FIND-RQ (PS3.7 Section 9.1.2).

    Attributes:
        negotiated: the application information of extended negotiation that was granted for its SOP class, a byte for
            each option (PS3.4 Table C.5-1); empty where none was.
        ended: of a C-GET or C-MOVE: called with how many instances were sent, once it is over, in any way; not of a
            C-MOVE that another performs. A handler may set it; it must not block.
    """

    __slots__ = ("ended", "negotiated")

    def __init__(self, exchange: Exchange, message: Message, address: str) -> None:
        super().__init__(exchange, message, address)
        granted = extended_answers(exchange.request_pdu, exchange.accept_pdu)
        self.negotiated: bytes = granted.get(self.context.abstract_syntax, b"")
        self.ended: Callable[[int], object] | None = None

    @property
    def identifier(self) -> Any:
        """The keys, as a pydicom Dataset."""
        return self.dataset

    @property
    def level(self) -> str:
        """Query/Retrieve Level (0008,0052): PATIENT, STUDY, SERIES or IMAGE; empty where the model has no levels."""
        return str(self.dataset.get("QueryRetrieveLevel", ""))


class GetRequest(FindRequest):
    """A C-GET-RQ (PS3.7 Section 9.1.3)."""

    __slots__ = ()


class MoveRequest(FindRequest):
    """A C-MOVE-RQ (PS3.7 Section 9.1.4)."""

    __slots__ = ()

    @property
    def destination(self) -> str:
        """Move Destination: the AE title that the instances are to go to."""
        return self.command.move_destination or ""


#: What makes a report, who is told of its fate, and seconds for it.
MadeReport = tuple[Callable[[], tuple[int, Any] | None], Callable[[bool], object], float | None]


class NormalizedRequest(Request):
    """A request of an N-service (PS3.7 Section 10.1).

    Attributes:
        created_uid: for an N-CREATE without an instance UID, the one that the created instance gets; it may be changed.
        reports: event reports to send once the response to this request is out; see `report`.
        made_reports: those that are made then, and who is told of their fate; see `report_when_made`.
    """

    __slots__ = ("created_uid", "made_reports", "reports")

    def __init__(self, exchange: Exchange, message: Message, address: str) -> None:
        super().__init__(exchange, message, address)
        self.created_uid: str = ""
        self.reports: list[tuple[str, str, int, Any, bool]] = []
        self.made_reports: list[MadeReport] = []

    @property
    def operation(self) -> MessageType:
        """Which N-service it is."""
        return MESSAGES[self.command.command_field]

    @property
    def event_type_id(self) -> int | None:
        """Event Type ID, of an N-EVENT-REPORT."""
        return self.command.event_type_id

    @property
    def action_type_id(self) -> int | None:
        """Action Type ID, of an N-ACTION."""
        return self.command.action_type_id

    @property
    def attribute_identifier_list(self) -> tuple[int, ...]:
        """The tags that an N-GET asks for; empty asks for all."""
        return self.command.attribute_identifier_list or ()

    @property
    def sop_instance_uid(self) -> str:
        """The instance; for an N-CREATE that names none, `created_uid`."""
        return super().sop_instance_uid or self.created_uid

    def report(
        self,
        event_type_id: int,
        dataset: Any = None,
        *,
        sop_class_uid: str = "",
        sop_instance_uid: str = "",
        own_context: bool = False,
    ) -> None:
        """Send an N-EVENT-REPORT on this association once the response is out (PS3.7 Section 10.1.1).

        Args:
            event_type_id: which event.
            dataset: Event Information, a pydicom Dataset or encoded bytes.
            sop_class_uid, sop_instance_uid: of the event's instance; by default those of this request.
            own_context: only where the requestor has proposed that SOP class itself, not by a meta SOP class.
        """
        instance = sop_class_uid or self.sop_class_uid, sop_instance_uid or self.sop_instance_uid
        self.reports.append((*instance, event_type_id, dataset, own_context))

    def report_when_made(
        self,
        make: Callable[[], tuple[int, Any] | None],
        told: Callable[[bool], object],
        *,
        deadline: float | None = None,
    ) -> None:
        """Make an N-EVENT-REPORT of this request's instance once the response is out, and send it on this association.

        The peer comes first: where it releases the association or asks for something else before the report is made, it
        gets none here.

        Args:
            make: gives Event Type ID and Event Information, in threads of its own; None where there is no report.
            told: called with whether the peer took the report; it must not block. What ``make`` still does is in vain
                where that was not so.
            deadline: seconds that it may take to make it; by default those of the handler.
        """
        self.made_reports.append((make, told, deadline))


#: The class of request for each Command Field that a provider performs.
REQUEST_CLASSES: dict[int, type[Request]] = {
    CommandField.C_ECHO_RQ: EchoRequest,
    CommandField.C_STORE_RQ: StoreRequest,
    CommandField.C_FIND_RQ: FindRequest,
    CommandField.C_GET_RQ: GetRequest,
    CommandField.C_MOVE_RQ: MoveRequest,
}
