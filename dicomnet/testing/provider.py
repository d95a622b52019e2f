"""The provider behind the fixtures: a `Listener` that records what it gets, and misbehaves on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from .. import uids
from ..dataset import codec
from ..protocol.events import AssociateIndication, Event, RequestReceived
from ..protocol.exchange import Exchange
from ..protocol.messages import name_of
from ..protocol.negotiation import AcceptancePolicy
from ..services import query_models
from ..services.provider_requests import Request
from ..status import Status
from ..sync import Listener
from ..wire.command_set import Command, Message

__all__ = ["Provider", "Received"]

_N_SERVICES = ("on_n_get", "on_n_set", "on_n_action", "on_n_create", "on_n_delete", "on_event_report")
_SOP_CLASSES = (
    uids.MODALITY_PERFORMED_PROCEDURE_STEP,
    uids.STORAGE_COMMITMENT_PUSH_MODEL,
    uids.UNIFIED_PROCEDURE_STEP_PUSH,
    uids.UNIFIED_PROCEDURE_STEP_PULL,
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request that arrived.

    Attributes:
        service: "C-STORE", "N-ACTION" and so on.
        calling: the AE title of who asked.
        sop_class_uid, sop_instance_uid: what it was about.
        transfer_syntax_uid: of its data set.
        data: its data set as it came; empty where there was none.
        command: its command set.
    """

    service: str
    calling: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data: bytes
    command: Any

    @property
    def dataset(self) -> Any:
        """The data set as a pydicom Dataset."""
        return codec.decode(self.data, self.transfer_syntax_uid)


class Provider(Listener):
    """A provider for tests, on a free port, in threads of its own; a context manager.

    It takes every storage class, answers queries with ``matches``, and gives ``instances`` to C-GET and C-MOVE. With
    the options it does what real peers do on bad days.

    Args:
        ae_title: its title.
        matches: data sets that every C-FIND finds.
        instances: what every C-GET and C-MOVE brings; whatever can be stored.
        sop_classes: for N-services, beside MPPS, storage commitment and unified procedure steps.
        status: the answer to every request, or to those of the services that a mapping names ("C-STORE").
        refuse: abstract syntaxes whose presentation contexts are refused.
        reject: result, source and reason of an A-ASSOCIATE-RJ for every association (PS3.8 Section 9.3.4).
        stall: "associate" never answers an association request, "response" never answers any other.
        abort: "associate" aborts instead of accepting; a number n aborts on the n-th request (1 is the first).
        options: as of `Listener`.

    Attributes:
        received: the requests that arrived, in order.
        requested: the A-ASSOCIATE-RQ of every association.
    """

    def __init__(
        self,
        ae_title: str = "TEST",
        *,
        matches: Iterable[Any] = (),
        instances: Iterable[Any] = (),
        sop_classes: Iterable[str] = (),
        status: int | dict[str, int] = Status.SUCCESS,
        refuse: Iterable[str] = (),
        reject: tuple[int, int, int] | None = None,
        stall: str = "",
        abort: str | int = 0,
        **options: Any,
    ) -> None:
        super().__init__(ae_title, **{"port": 0, "drain": 1.0, **options})
        self.acceptance: AcceptancePolicy = self.acceptance._replace(refused_abstract_syntaxes=frozenset(refuse))
        self.received: list[Received] = []
        self.requested: list[Any] = []
        self.matches: list[Any] = list(matches)
        self.instances: list[Any] = list(instances)
        self.status = status
        self.reject = reject
        self.stall = stall
        self.abort_on = abort
        self._changed = threading.Condition()
        self._requests: WeakKeyDictionary[Exchange, int] = WeakKeyDictionary()
        self.intercept: Callable[[Exchange, Event], bool] | None = self._misbehaves
        self._provide((*_SOP_CLASSES, *sop_classes))

    def _provide(self, sop_classes: Iterable[str]) -> None:
        models = query_models.MODELS.values()
        self.on_echo(self._answer)
        self.on_store(unknown_classes=True)(self._answer)
        self.on_find(*(model.find for model in models if model.find))(lambda request: self._give(request, self.matches))
        self.on_get(*(model.get for model in models if model.get))(self._sent)
        self.on_move(*(model.move for model in models if model.move))(self._sent)
        for name in _N_SERVICES:
            getattr(self, name)(*sop_classes)(self._answer)

    @property
    def peer(self) -> str:
        """How to call it: ``TEST@127.0.0.1:40000``."""
        host, port = self.address
        return f"{self.ae_title}@{host}:{port}"

    def wait_for(self, count: int, timeout: float = 10.0) -> list[Received]:
        """Wait until so many requests have arrived; all that have.

        Raises:
            TimeoutError: they did not.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout):
                raise TimeoutError(f"{len(self.received)} of {count} requests arrived within {timeout} s")
            return list(self.received)

    # ---- what handlers do --------------------------------------------------------------------------------------

    def _status_for(self, request: Request) -> Status:
        status = self.status
        if isinstance(status, dict):
            status = status.get(_service(request.command), Status.SUCCESS)
        return Status(status)

    def _answer(self, request: Request) -> Any:
        status = self._status_for(request)
        commits = request.sop_class_uid == uids.STORAGE_COMMITMENT_PUSH_MODEL and request.command.action_type_id == 1
        if commits and status.is_success:
            request.report(1, request.data)  # type: ignore[attr-defined]  # it is a NormalizedRequest
        return status

    def _give(self, request: Request, results: list[Any]) -> Generator[Any, None, Status]:
        status = self._status_for(request)
        if not status.is_failure:
            yield from results
        return status

    def _sent(self, request: Request) -> Any:
        """A list says how many there are; a generator ends in a status of its own."""
        return list(self.instances) if self._status_for(request).is_success else self._give(request, self.instances)

    def _record(self, exchange: Exchange, message: Message) -> None:
        command, context = message.command, exchange.contexts[message.context_id]
        got = Received(
            _service(command),
            exchange.calling,
            command.affected_sop_class_uid or command.requested_sop_class_uid or "",
            command.affected_sop_instance_uid or command.requested_sop_instance_uid or "",
            context.transfer_syntax,
            message.data.getvalue() if message.data is not None else b"",
            command,
        )
        with self._changed:
            self.received.append(got)
            self._changed.notify_all()

    # ---- misbehaving -------------------------------------------------------------------------------------------

    def _misbehaves(self, exchange: Exchange, event: Event) -> bool:
        """Do instead of what is right what was asked for; False where nothing was."""
        if isinstance(event, AssociateIndication):
            return self._misbehaves_at_first(exchange, event)
        if not isinstance(event, RequestReceived):
            return False
        stalls, abort_on = self.stall == "response", self.abort_on  # as it is before anyone is told of the request
        self._record(exchange, event.message)
        requests = self._requests[exchange] = self._requests.get(exchange, 0) + 1
        if abort_on == requests:
            exchange.abort()
            return True
        return stalls

    def _misbehaves_at_first(self, exchange: Exchange, event: AssociateIndication) -> bool:
        aborts, reject, stalls = self.abort_on == "associate", self.reject, self.stall == "associate"
        self.requested.append(event.request)
        if aborts:
            exchange.abort()
        elif reject is not None:
            exchange.reject(*reject)
        return aborts or reject is not None or stalls


def _service(command: Command) -> str:
    return name_of(command).removesuffix("-RQ")
