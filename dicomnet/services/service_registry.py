"""`ServiceRegistry`: which handler performs a message of a SOP class in a transfer syntax, and what is offered so.

A registry is composed into whatever serves: ``Listener(services=registry)``. Registrations come and go while it serves;
each change makes a new immutable `ServiceSnapshot`, and an association keeps the one that it began with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, cast, overload

from .. import uids
from ..config import listed
from ..errors import InvalidArgument
from ..files.dataset_sink import Sink
from ..protocol.messages import MESSAGES, CommandField
from ..protocol.negotiation import AcceptancePolicy
from ..status import Status
from ..wire.element_walk import Selection
from . import query_models
from .provider_requests import Arrival

__all__ = [
    "ANY_CLASS",
    "Handler",
    "HandlerOptions",
    "Offer",
    "Registering",
    "Registration",
    "ServiceRegistry",
    "ServiceSnapshot",
    "StoreOptions",
    "success",
]

Handler = Callable[[Any], Any]
_USUAL_MODELS = ("STUDY_ROOT", "PATIENT_ROOT")
_F = TypeVar("_F", bound=Handler)

#: Stands for every SOP class that no other registration names, in a registration of C-STORE.
ANY_CLASS = "*"


class HandlerOptions(TypedDict, total=False):
    """What every decorator takes beside what it registers.

    Attributes:
        owner: who registers, for messages and for `ServiceRegistry.withdraw`: an add-in's name. By default the name of
            the handler.
        transfer_syntaxes: what is taken, in order of preference; empty takes any, as the requestor prefers.
        deadline: seconds that the handler gets; None for no limit of its own.
        inline: the handler never blocks, and may run where the sockets are served.
        replace: stand before what is registered for the same, instead of being refused. Withdrawing this brings the
            other back.
        extended: what the handler can do beyond the baseline, as application information of extended negotiation; a
            requestor that offers it is granted it (PS3.7 Annex D.3.3.5).
        relays: of C-MOVE: another provider performs it, and the handler yields what that reports.
    """

    owner: str
    transfer_syntaxes: Iterable[str]
    deadline: float | None
    inline: bool
    replace: bool
    extended: bytes
    relays: bool


class StoreOptions(HandlerOptions, total=False):
    """What `Registering.on_store` takes beside SOP classes.

    Attributes:
        spool: a directory for files on their way, on the file system where they are to stay; without one, data sets
            are held in memory up to ``Limits.message``.
        durable: success means that the disk has confirmed the file and its name, at the price of waiting for it.
        sink: called with the `Arrival` of each data set, makes what takes it, in place of a spool.
        elements: tags, and paths of tags into sequences, that are picked out as the data set streams by: the handler
            finds them in ``request.elements``.
        header: have all that comes before Pixel Data in ``request.header``.
        unknown_classes: also take SOP classes that dicomnet does not know.
    """

    spool: str | os.PathLike[str] | None
    durable: bool
    sink: Callable[[Arrival], Sink] | None
    elements: Iterable[int | tuple[int, ...]]
    header: bool
    unknown_classes: bool


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """One handler, what it is for, and how it is fed and run; `ServiceRegistry.register` gives it.

    Attributes:
        message: the Command Field of the requests.
        sop_classes: UIDs of SOP classes or meta SOP classes; `ANY_CLASS` among them takes all others, too.
        handler: the user's code, called with a request.
        owner: who registered it.
        transfer_syntaxes: what is taken, in order of preference; empty takes any.
        deadline: seconds that the handler gets for one request; None for no limit of its own.
        inline: whether the handler may run where the sockets are served, for it never blocks.
        replaces: whether it stands before what was registered for the same.
        gives_way: whether anything else that is registered for the same stands before it.
        extended: application information of extended negotiation that is granted for it; empty: none.
        relays: whether its handler has a C-MOVE performed elsewhere, and yields what is reported of that.
        spool: a directory for data sets on their way; None keeps them in memory.
        durable: whether the disk is to confirm what is spooled, see `FileSink`.
        sink: makes what takes a data set, in place of a spool.
        elements: what is picked out of data sets as they stream by; None where that and the header are not wanted.
    """

    message: CommandField
    sop_classes: tuple[str, ...]
    handler: Handler
    owner: str = ""
    transfer_syntaxes: tuple[str, ...] = ()
    deadline: float | None = None
    inline: bool = False
    replaces: bool = False
    gives_way: bool = False
    extended: bytes = b""
    relays: bool = False
    spool: str | None = None
    durable: bool = False
    sink: Callable[[Arrival], Sink] | None = None
    elements: Selection | None = None

    def takes(self, transfer_syntax: str) -> bool:
        """Whether data sets may come in this transfer syntax."""
        return not self.transfer_syntaxes or transfer_syntax in self.transfer_syntaxes

    def overlaps(self, other: Registration) -> bool:
        """Whether there is a transfer syntax that both take."""
        ours, theirs = self.transfer_syntaxes, other.transfer_syntaxes
        return not ours or not theirs or not set(ours).isdisjoint(theirs)


class Offer(NamedTuple):
    """One line of what is offered: the message, the SOP class, its transfer syntaxes (empty for any), and whose."""

    message: CommandField
    sop_class: str
    transfer_syntaxes: tuple[str, ...]
    owner: str
    registration: Registration


_Table = dict[tuple[int, str], tuple[Registration, ...]]


class ServiceSnapshot:
    """The registrations of one moment; immutable, and safe to read from any thread. Iterating gives each `Offer`."""

    __slots__ = ("_acceptance", "_table", "registrations")

    def __init__(self, registrations: Iterable[Registration] = ()) -> None:
        #: All registrations, in the order in which they were made.
        self.registrations: tuple[Registration, ...] = tuple(registrations)
        self._table: _Table = {}
        self._acceptance: tuple[AcceptancePolicy, AcceptancePolicy] | None = None
        for one in self.registrations:
            _add(self._table, one)

    def find(self, message: int, sop_class: str, transfer_syntax: str = "") -> Registration | None:
        """Who performs this message of a SOP class in a transfer syntax; an empty one is any."""
        found = self._table.get((message, sop_class))
        if found is None:
            return None
        first = found[0]
        if not first.transfer_syntaxes or not transfer_syntax:
            return first
        return next((one for one in found if one.takes(transfer_syntax)), None)

    def found(self, message: int, sop_class: str) -> tuple[Registration, ...]:
        """All that perform this message of a SOP class, each in other transfer syntaxes."""
        return self._table.get((message, sop_class), ())

    def __iter__(self) -> Iterator[Offer]:
        for (message, sop_class), found in self._table.items():
            for one in found:
                yield Offer(CommandField(message), sop_class, one.transfer_syntaxes, one.owner, one)

    def transfer_syntaxes(self) -> dict[str, tuple[str, ...]]:
        """By SOP class, the transfer syntaxes that any of its handlers takes, in order; empty for any."""
        offered: dict[str, tuple[str, ...]] = {}
        for (_, sop_class), found in self._table.items():
            for one in found:
                known = offered.get(sop_class)
                if known is None:
                    offered[sop_class] = one.transfer_syntaxes
                elif known and one.transfer_syntaxes:
                    offered[sop_class] = tuple(dict.fromkeys(known + one.transfer_syntaxes))
                else:
                    offered[sop_class] = ()
        offered.pop(ANY_CLASS, None)  # it is no SOP class
        return offered

    def acceptance(self, rules: AcceptancePolicy) -> AcceptancePolicy:
        """What is accepted at negotiation: what ``rules`` say, and the union of what the handlers take."""
        known = self._acceptance
        if known is None or known[0] is not rules:
            known = self._acceptance = rules, self._offered_with(rules)
        return known[1]

    def _offered_with(self, rules: AcceptancePolicy) -> AcceptancePolicy:
        messages = {message for message, _ in self._table}
        reported = {uid for message, uid in self._table if message == CommandField.N_EVENT_REPORT_RQ} - {ANY_CLASS}
        stored = uids.STORAGE_CLASSES if CommandField.C_GET_RQ in messages else ()
        any_class = any(uid == ANY_CLASS for _, uid in self._table)
        return rules._replace(
            abstract_syntaxes=self.transfer_syntaxes() | dict(rules.abstract_syntaxes),
            requestor_as_scp=rules.requestor_as_scp.union(reported, stored),
            unknown_abstract_syntaxes=rules.unknown_abstract_syntaxes or any_class,
            extended=self._extended() | dict(rules.extended),
        )

    def _extended(self) -> dict[str, bytes]:
        return {uid: row[0].extended for (_, uid), row in self._table.items() if row[0].extended}


def _add(table: _Table, new: Registration) -> None:
    """Put a registration where it is looked for: before those that it replaces, behind those that it gives way to."""
    for sop_class in new.sop_classes:
        key = int(new.message), sop_class
        others = table.get(key, ())
        ranked = (new, *others) if new.replaces else (*others, new)
        table[key] = tuple(_reached(sorted(ranked, key=_gives_way)))


def _reached(ranked: Iterable[Registration]) -> Iterator[Registration]:
    """Those of a row of registrations for the same that can be found: there is a transfer syntax left for them."""
    taken: set[str] = set()
    for one in ranked:
        if not one.transfer_syntaxes:
            yield one
            return
        if not taken.issuperset(one.transfer_syntaxes):
            taken.update(one.transfer_syntaxes)
            yield one


def _gives_way(one: Registration) -> bool:
    return one.gives_way


class _State:
    """A snapshot, and the state that followed it.

    Changes need no lock: a thread that makes a new state from this one puts it into ``after``, which keeps the first
    that it is given (``dict.setdefault`` is atomic). A thread that comes second finds the other's there, and begins
    anew from that.
    """

    __slots__ = ("after", "snapshot")

    def __init__(self, snapshot: ServiceSnapshot) -> None:
        self.snapshot = snapshot
        self.after: dict[None, _State] = {}


class Registering:
    """The decorators that register handlers, over `register`; a registry has them, and so has a listener."""

    def register(self, registration: Registration) -> Registration:
        """Have requests performed by a handler from the next association on.

        Raises:
            InvalidArgument: another one is registered for the same message and SOP class, in a transfer syntax
                that both take.
        """
        raise NotImplementedError

    @overload
    def on_echo(self, function: _F) -> _F: ...
    @overload
    def on_echo(self, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]: ...
    def on_echo(self, function: Any = None, **options: Any) -> Any:
        """Register the handler of C-ECHO: ``function(EchoRequest) -> Status``. Without one, C-ECHO succeeds."""
        register = self._decorate(CommandField.C_ECHO_RQ, (uids.VERIFICATION,), cast(HandlerOptions, options))
        return register if function is None else register(function)

    @overload
    def on_store(self, sop_classes: _F) -> _F: ...
    @overload
    def on_store(
        self, sop_classes: Iterable[str] | None = None, **options: Unpack[StoreOptions]
    ) -> Callable[[_F], _F]: ...
    def on_store(self, sop_classes: Any = None, **options: Any) -> Any:
        """Register a handler of C-STORE: ``function(StoreRequest) -> Status``; None from it is success.

        Args:
            sop_classes: UIDs of the SOP classes it stores; None for every storage class that dicomnet knows.
            options: see `StoreOptions`, ``spool``, ``durable``, ``elements``, ``unknown_classes`` and more, and
                `HandlerOptions`.
        """
        if callable(sop_classes):
            return self.on_store()(sop_classes)
        classes = uids.STORAGE_CLASSES if sop_classes is None else listed(sop_classes)
        if options.get("unknown_classes"):
            classes = (*classes, ANY_CLASS)
        spool, durable = options.get("spool"), options.get("durable", False)
        spool = None if spool is None else os.fspath(spool)
        wanted = options.get("elements")
        elements = Selection(wanted or ()) if wanted is not None or options.get("header") else None
        feeding = {"spool": spool, "durable": durable, "sink": options.get("sink"), "elements": elements}
        return self._decorate(CommandField.C_STORE_RQ, classes, cast(HandlerOptions, options), **feeding)

    def on_find(self, *models: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of C-FIND: ``function(FindRequest)`` gives or yields the matches.

        A match is a pydicom Dataset, a mapping of keywords to values, encoded bytes, or a pair of pending status and
        one of these. A generator is closed when the peer cancels; its ``return`` gives the final status, success if it
        gives none.

        Args:
            models: information models, "STUDY_ROOT", "PATIENT_ROOT", "WORKLIST" and so on, or UIDs; see
                `query_models.MODELS`.
            options: see `HandlerOptions`.
        """
        return self._of_models(CommandField.C_FIND_RQ, models, "find", options)

    def on_get(self, *models: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of C-GET: ``function(GetRequest)`` gives or yields the instances to send back.

        An instance is anything that can be stored: a path, Part 10 bytes, a pydicom Dataset.
        """
        return self._of_models(CommandField.C_GET_RQ, models, "get", options)

    def on_move(self, *models: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of C-MOVE: ``function(MoveRequest)`` gives or yields the instances to send.

        They go to the AE of ``destinations`` that the request names, over an association of their own. With ``relays``
        another provider is to send them: the handler yields each `RetrieveProgress` that it hears of, the outcome last.
        """
        return self._of_models(CommandField.C_MOVE_RQ, models, "move", options)

    def on_event_report(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-EVENT-REPORT; for what it may return see `on_n_get`."""
        return self._decorate(CommandField.N_EVENT_REPORT_RQ, sop_classes, options)

    def on_n_get(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-GET: ``function(NormalizedRequest)`` returns a data set, a status, or both."""
        return self._decorate(CommandField.N_GET_RQ, sop_classes, options)

    def on_n_set(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-SET; for what it may return see `on_n_get`."""
        return self._decorate(CommandField.N_SET_RQ, sop_classes, options)

    def on_n_action(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-ACTION; for what it may return see `on_n_get`."""
        return self._decorate(CommandField.N_ACTION_RQ, sop_classes, options)

    def on_n_create(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-CREATE; for what it may return see `on_n_get`."""
        return self._decorate(CommandField.N_CREATE_RQ, sop_classes, options)

    def on_n_delete(self, *sop_classes: str, **options: Unpack[HandlerOptions]) -> Callable[[_F], _F]:
        """Register a handler of N-DELETE; for what it may return see `on_n_get`."""
        return self._decorate(CommandField.N_DELETE_RQ, sop_classes, options)

    def _of_models(
        self, message: CommandField, models: tuple[Any, ...], operation: str, options: HandlerOptions
    ) -> Callable[[_F], _F]:
        """The decorator for models: study and patient root where none is named, with parentheses or without."""
        if len(models) == 1 and callable(models[0]):
            return cast(Callable[[_F], _F], self._of_models(message, (), operation, options)(models[0]))
        named = [query_models.model_uid(model, operation) for model in models or _USUAL_MODELS]
        return self._decorate(message, named, options)

    def _decorate(
        self, message: CommandField, sop_classes: Iterable[str], options: HandlerOptions, **feeding: Any
    ) -> Callable[[_F], _F]:
        named = tuple(sop_classes)
        if not named or any(map(callable, named)):
            raise InvalidArgument(
                f"a handler of {MESSAGES[message].name} is for SOP classes, and none is named",
                hint="Name them in parentheses: @listener.on_n_action(uid).",
            )

        def register(function: _F) -> _F:
            self.register(
                Registration(
                    message,
                    named,
                    function,
                    owner=options.get("owner") or _name_of(function),
                    transfer_syntaxes=listed(options.get("transfer_syntaxes", ())),
                    deadline=options.get("deadline"),
                    inline=options.get("inline", False),
                    replaces=options.get("replace", False),
                    extended=options.get("extended", b""),
                    relays=options.get("relays", False),
                    **feeding,
                )
            )
            return function

        return register


def _name_of(function: Handler) -> str:
    """How a handler is called in messages: by its module and name."""
    kind = type(function)
    named = function if hasattr(function, "__qualname__") else kind
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', kind.__name__)}"


def success(_: object) -> Status:
    """The handler of C-ECHO where the user has none."""
    return Status.SUCCESS


_ECHO = Registration(CommandField.C_ECHO_RQ, (uids.VERIFICATION,), success, owner="dicomnet", gives_way=True)


class ServiceRegistry(Registering):
    """Which handler performs what: by message, SOP class and transfer syntax. Any thread may call any method.

    A second registration of the same is refused with both owners named, unless it is made with ``replace=True``. What
    an association may ask for is the union of all registrations at the moment when it begins; it keeps that.

    Args:
        echo: let C-ECHO succeed where no other handler of it is registered.
    """

    def __init__(self, *, echo: bool = True) -> None:
        self._state = _State(ServiceSnapshot((_ECHO,) if echo else ()))

    def register(self, registration: Registration) -> Registration:
        """Have requests performed by a handler from the next association on.

        Returns:
            The registration, for `withdraw`.

        Raises:
            InvalidArgument: another one is registered for the same message and SOP class, in a transfer syntax
                that both take; or it names no SOP class.
        """
        if not registration.sop_classes:
            raise InvalidArgument(f"{registration.owner} registers a handler of no SOP class")

        def add(before: ServiceSnapshot) -> ServiceSnapshot:
            _check(before, registration)
            return ServiceSnapshot((*before.registrations, registration))

        self._change(add)
        return registration

    def withdraw(self, what: Registration | str) -> tuple[Registration, ...]:
        """Offer something no more, from the next association on. What it replaced is back then.

        Args:
            what: a registration, or an owner, whose registrations are all meant.

        Returns:
            What was withdrawn; nothing where it was not registered.
        """
        gone: tuple[Registration, ...] = ()

        def remove(before: ServiceSnapshot) -> ServiceSnapshot:
            nonlocal gone
            gone = tuple(one for one in before.registrations if one is what or one.owner == what)
            return ServiceSnapshot(one for one in before.registrations if one not in gone) if gone else before

        self._change(remove)
        return gone

    def renew(self, function: Callable[[Registration], Registration]) -> None:
        """Put what a function says in the place of each registration, all in one step, from the next association on.

        What it gives has to take the same requests.
        """
        self._change(lambda before: ServiceSnapshot(map(function, before.registrations)))

    def snapshot(self) -> ServiceSnapshot:
        """What is registered now."""
        return self._last().snapshot

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot().registrations)

    def _last(self) -> _State:
        state = self._state
        while state.after:
            state = state.after[None]
        self._state = state  # another thread may put an older one here; the way on leads to the same
        return state

    def _change(self, change: Callable[[ServiceSnapshot], ServiceSnapshot]) -> None:
        state = self._last()
        while True:
            new = _State(change(state.snapshot))
            if new.snapshot is state.snapshot:
                return
            state = state.after.setdefault(None, new)
            if state is new:
                return


def _check(registered: ServiceSnapshot, new: Registration) -> None:
    """Refuse what is registered already."""
    if new.replaces:
        return
    for sop_class in new.sop_classes:
        for old in registered.found(new.message, sop_class):
            if old.gives_way == new.gives_way and old.overlaps(new):
                what = "SOP classes that are not known" if sop_class == ANY_CLASS else uids.name_of(sop_class)
                raise InvalidArgument(
                    f"{new.owner} cannot register {_message_name(new.message)} of {what}: {old.owner} has done so",
                    hint="Withdraw the other one, or register with replace=True.",
                )


def _message_name(message: CommandField) -> str:
    return MESSAGES[message].name.removesuffix("-RQ")
