"""What a client tells its user, and lets the user change: typed events, before something is done and after it.

A handler is registered by decorator, ``@client.on(BeforeStore)``, or is a method of a subclass that has the event's
name: ``def before_store(self, event)``. In asyncio it may be a coroutine function. It runs where the work is done: with
several blocking associations, in their threads. What it raises stops the operation, and is what its caller gets. The
attributes of a "before" are what is about to be used; a handler may change them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..config import Entity
from ..dataset import codec
from ..dataset.types import Dataset, Path, Storable
from ..errors import DicomNetError, InputFileError, InputProblem
from ..protocol.negotiation import NegotiationOptions, PresentationContext, ProposedContext, SecureLink
from ..services.provider_requests import StoreRequest
from ..services.scp import Provider
from ..services.scu import RetrieveProgress, StoreResult
from ..services.user import Keep

__all__ = [
    "Aborted",
    "AfterAction",
    "AfterAssociate",
    "AfterConnect",
    "AfterFind",
    "AfterGet",
    "AfterMove",
    "AfterRelease",
    "AfterStore",
    "Before",
    "BeforeAction",
    "BeforeAssociate",
    "BeforeConnect",
    "BeforeFind",
    "BeforeGet",
    "BeforeMatch",
    "BeforeMove",
    "BeforeRelease",
    "BeforeStore",
    "Closed",
    "Event",
    "Handlers",
    "Link",
    "Received",
    "SecureLinkReady",
    "SubOperation",
    "Vetoed",
]


class Vetoed(DicomNetError):
    """A handler did not want an operation."""


class Link(Protocol):
    """What an association has in both faces; its operations are awaited in asyncio, and block otherwise."""

    @property
    def contexts(self) -> Mapping[int, PresentationContext]:
        """The negotiated presentation contexts by ID, refused ones too."""

    @property
    def tls(self) -> SecureLink | None:
        """What TLS negotiated."""

    @property
    def operations_window(self) -> tuple[int, int]:
        """How many operations at a time we may invoke, and perform."""

    @property
    def established(self) -> bool:
        """Whether services can be asked for."""

    def interrupt(self) -> None:
        """Abort it without waiting."""

    def cancel(self) -> None:
        """Send a C-CANCEL for what is under way."""


@dataclass(eq=False)
class Event:
    """Something that happens on an association with a peer.

    Attributes:
        peer: "AET@host:port".
    """

    peer: str


@dataclass(eq=False, kw_only=True)
class Before(Event):
    """Something that is about to be done; what a handler changes here is done instead."""

    _skipped: bool = field(default=False, init=False, repr=False)
    _ended: bool = field(default=False, init=False, repr=False)
    _reason: str | None = field(default=None, init=False, repr=False)

    def skip(self) -> None:
        """Do not do this one. An operation that stands alone is vetoed by that."""
        self._skipped = True

    def skip_rest(self) -> None:
        """Do neither this one nor what follows of the same batch."""
        self._skipped = self._ended = True

    def veto(self, reason: str) -> None:
        """Do not do it, and let it count as a failure: in a batch of this one, else the operation raises `Vetoed`."""
        self._reason = reason

    @property
    def skipped(self) -> bool:
        """A handler called `skip` or `skip_rest`."""
        return self._skipped

    @property
    def ended(self) -> bool:
        """A handler called `skip_rest`."""
        return self._ended

    @property
    def vetoed(self) -> Vetoed | None:
        """What is raised for it; None where no handler called `veto`."""
        return None if self._reason is None else Vetoed(self._reason, peer=self.peer)

    def require(self) -> None:
        """Raise `Vetoed` where it is not to be done."""
        if self.vetoed is not None or self._skipped:
            raise self.vetoed or Vetoed(f"{_method_of(type(self))} was skipped by a handler", peer=self.peer)


@dataclass(eq=False, kw_only=True)
class BeforeConnect(Before):
    """A connection is about to be opened, to ``entity``, which may be changed."""

    entity: Entity


@dataclass(eq=False, kw_only=True)
class BeforeAssociate(Before):
    """The A-ASSOCIATE-RQ that is to follow: its titles, presentation contexts and extras may be changed."""

    calling: str
    called: str
    contexts: list[ProposedContext]
    extras: NegotiationOptions | None


@dataclass(eq=False, kw_only=True)
class AfterConnect(Event):
    """The connection stands, or, with its ``error``, does not."""

    error: Exception | None


@dataclass(eq=False, kw_only=True)
class SecureLinkReady(Event):
    """TLS has been negotiated; its version and cipher are in ``link``."""

    link: SecureLink


@dataclass(eq=False, kw_only=True)
class AfterAssociate(Event):
    """The answer to an A-ASSOCIATE-RQ: an ``association``, or the ``error`` that says why there is none."""

    association: Link | None
    error: Exception | None


@dataclass(eq=False, kw_only=True)
class _Operation(Before):
    """A request that is about to be sent; the names of its attributes are those of the association's method."""

    association: Link | None = None


@dataclass(eq=False, kw_only=True)
class _Done(Event):
    """What came of a request: its ``result``, or the ``error`` that it ended in."""

    association: Link | None
    result: Any
    error: Exception | None


@dataclass(eq=False, kw_only=True)
class BeforeStore(_Operation):
    """A C-STORE of ``source``: a path, bytes, a Dataset or a `Source`; another may be put in its place."""

    source: Storable
    _dataset: Dataset | None = field(default=None, init=False, repr=False)
    #: Why `dataset` could not be read.
    unreadable: InputFileError | None = field(default=None, init=False, repr=False)

    @property
    def dataset(self) -> Dataset:
        """The instance as a pydicom Dataset, read when first asked for; from then on this is what is sent.

        Raises:
            InputFileError: it cannot be read; where the handler lets that pass, this instance fails, and no other.
        """
        if self._dataset is None:
            try:
                self._dataset = self._decoded()
            except InputFileError as error:
                self.unreadable = error
                raise
        return self._dataset

    @dataset.setter
    def dataset(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def _decoded(self) -> Dataset:
        with codec.open_source(self.source) as source:
            data = b"".join(bytes(chunk) for chunk in source.chunks(1 << 20))
            try:
                decoded: Dataset = codec.decode(data, source.transfer_syntax_uid)
            except codec.UndecodableDataSet as error:
                raise InputFileError(error.message, problem=InputProblem.NOT_PART10, path=source.name) from error
            return decoded

    @property
    def sent(self) -> Storable:
        """What is sent: the data set where a handler asked for it, else the source."""
        return self.source if self._dataset is None else self._dataset


@dataclass(eq=False, kw_only=True)
class AfterStore(_Done):
    """``result`` is a `StoreResult`; None where there is an error."""

    result: StoreResult | None


@dataclass(eq=False, kw_only=True)
class BeforeFind(_Operation):
    """A C-FIND: ``level``, ``model``, ``returning``, ``query`` and ``keys``."""

    level: str
    model: str
    returning: Iterable[str]
    query: Dataset | None
    keys: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class BeforeMatch(Before):
    """A match of a C-FIND, of a study, a series or an instance by its ``level``; skipped, it is not passed on."""

    level: str
    match: Any


@dataclass(eq=False, kw_only=True)
class AfterFind(_Done):
    """``result`` is the number of matches."""

    result: int


@dataclass(eq=False, kw_only=True)
class BeforeMove(_Operation):
    """A C-MOVE: ``level``, ``destination``, ``model``, ``query`` and ``keys``."""

    level: str
    destination: str
    model: str
    query: Dataset | None
    keys: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class AfterMove(_Done):
    """``result`` is a `RetrieveProgress`; None where there is an error."""

    result: RetrieveProgress | None


@dataclass(eq=False, kw_only=True)
class BeforeGet(_Operation):
    """A C-GET: ``level``, ``to``, ``model``, ``query`` and ``keys``."""

    level: str
    to: Path | Keep | Provider
    model: str
    query: Dataset | None
    keys: dict[str, Any]


@dataclass(eq=False, kw_only=True)
class AfterGet(_Done):
    """``result`` is a `RetrieveProgress`; None where there is an error."""

    result: RetrieveProgress | None


@dataclass(eq=False, kw_only=True)
class SubOperation(Event):
    """The peer has said how far a C-MOVE or C-GET is: ``progress``."""

    progress: RetrieveProgress


@dataclass(eq=False, kw_only=True)
class Received(Before):
    """An instance has arrived for a `QueryRetrieveScu`, by C-GET or by C-MOVE to oneself: ``request``.

    A veto refuses it; skipped, it is acknowledged and not kept.
    """

    request: StoreRequest


@dataclass(eq=False, kw_only=True)
class BeforeAction(_Operation):
    """An N-service, by its ``service``, "n_action" and its sisters, and by its ``arguments``, such as a data set."""

    service: str
    sop_class_uid: str
    sop_instance_uid: str | None
    arguments: list[Any]


@dataclass(eq=False, kw_only=True)
class AfterAction(_Done):
    """``result`` is a `Reply`."""


@dataclass(eq=False, kw_only=True)
class Reported(Event):
    """The peer has sent an N-EVENT-REPORT: of which instance, which event, and its data set, None where it has none."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int
    dataset: Dataset | None


@dataclass(eq=False, kw_only=True)
class BeforeRelease(Before):
    """An association is about to be released; skipped or vetoed, it is aborted instead."""

    association: Link


@dataclass(eq=False, kw_only=True)
class AfterRelease(Event):
    """An association has been released, or, with its ``error``, has not."""

    error: Exception | None


@dataclass(eq=False, kw_only=True)
class Aborted(Event):
    """An association was aborted, ``by_peer`` or by us, with ``source`` and ``reason`` of PS3.8 Table 9-26."""

    association: Link
    by_peer: bool
    source: int
    reason: int
    error: Exception


@dataclass(eq=False, kw_only=True)
class Closed(Event):
    """The connection of an association ended unexpectedly: ``error`` says how."""

    association: Link
    error: Exception


def _method_of(kind: type[Event]) -> str:
    """The name of the method that handles such an event: "before_store"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


#: What happens to an association, whatever asked for it: a client tells of these, never a component over it.
_OF_THE_LINK = (
    BeforeConnect,
    AfterConnect,
    SecureLinkReady,
    BeforeAssociate,
    AfterAssociate,
    BeforeRelease,
    AfterRelease,
    Aborted,
    Closed,
)


class Handlers:
    """The handlers of a client or a component, and of what it stands on.

    Args:
        owner: whose methods are handlers, too.
        below: those of what it stands on. A component's handlers for what happens to associations are put there.
    """

    def __init__(self, owner: object, below: Handlers | None = None) -> None:
        self._owner = owner
        self._below = below
        self._handlers: dict[type[Event], list[Callable[[Any], Any]]] = {}
        self._link = below if getattr(owner, "client", None) is not None else None
        for kind in _OF_THE_LINK if self._link is not None else ():
            if (method := getattr(owner, _NAMES[kind], None)) is not None:
                self.add(kind, method)

    def add(self, kind: type[Event], handler: Callable[[Any], Any]) -> None:
        """Have this called for such events."""
        if self._link is not None and kind in _OF_THE_LINK:
            self._link.add(kind, handler)
        else:
            self._handlers.setdefault(kind, []).append(handler)

    def of(self, kind: type[Event]) -> list[Callable[[Any], Any]]:
        """What is called for such an event, in order: those below first, the owner's method, its handlers."""
        found = [] if self._below is None else self._below.of(kind)
        method = getattr(self._owner, _NAMES[kind], None)
        return [*found, *([] if method is None else [method]), *self._handlers.get(kind, ())]


def _all_kinds(kind: type[Event]) -> list[type[Event]]:
    return [kind, *(one for child in kind.__subclasses__() for one in _all_kinds(child))]


_NAMES = {kind: _method_of(kind) for kind in _all_kinds(Event)}
