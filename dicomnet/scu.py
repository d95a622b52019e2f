"""The services as their user sees them: each procedure once, as a flow over an exchange (PS3.4, PS3.7 Section 9)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from . import uids
from ._dimse import Message
from .errors import InputFileError, InvalidArgument, NoAcceptedContext
from .events import Event, ReleaseConfirmation, ReleaseIndication
from .exchange import Exchange
from .messages import CommandField, Priority
from .sources import Source
from .status import Status

__all__ = ["StoreResult", "associate", "echo", "release", "store", "store_many"]

Waiting = Generator[None, Event, Status]


@dataclass(frozen=True, slots=True)
class StoreResult:
    """What became of one instance.

    Attributes:
        source: what was asked to be stored, as it was given.
        status: the peer's answer; None where nothing was sent.
        error: why nothing was sent; None where there is a status.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid: of the instance, as far as they are known.
        size: bytes of its data set.
        seconds: from its first byte sent to its response.
    """

    source: object
    status: Status | None = None
    error: Exception | None = None
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""
    size: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """The peer has it: success, or a warning."""
        return self.status is not None and (self.status.is_success or self.status.is_warning)


def associate(exchange: Exchange) -> Generator[None, Event, None]:
    """Wait for the answer to our A-ASSOCIATE-RQ.

    Raises:
        AssociationRejected, AssociationAborted, ConnectionFailed, DeadlineExceeded: there is no association.
    """
    while not exchange.established:
        event = yield None
        exchange.raise_for(event)


def release(exchange: Exchange) -> Generator[None, Event, None]:
    """Release the association; a collision with the peer's release is resolved as PS3.8 Section 7.2.2 wants it."""
    exchange.release()
    while True:
        event = yield None
        if isinstance(event, ReleaseConfirmation):
            return
        if isinstance(event, ReleaseIndication):
            exchange.release_response()
        else:
            exchange.raise_for(event)


def echo(exchange: Exchange) -> Waiting:
    """C-ECHO: is the peer there, and does it speak DICOM (PS3.7 Section 9.1.5)?"""
    context = exchange.context_for(uids.VERIFICATION)
    request = exchange.request(context, CommandField.C_ECHO_RQ, affected_sop_class_uid=uids.VERIFICATION)
    response = yield from exchange.response_to(request)
    return status_of(response, "C-ECHO")


def store(exchange: Exchange, instance: Source, priority: Priority = Priority.MEDIUM) -> Waiting:
    """C-STORE of one instance, in the transfer syntax that it has (PS3.7 Section 9.1.1).

    Raises:
        NoAcceptedContext: the peer did not accept the SOP class in this transfer syntax; nothing was sent.
    """
    context = exchange.context_for(instance.sop_class_uid, instance.transfer_syntax_uid)
    request = exchange.request(
        context,
        CommandField.C_STORE_RQ,
        instance,
        affected_sop_class_uid=instance.sop_class_uid,
        affected_sop_instance_uid=instance.sop_instance_uid,
        priority=priority,
    )
    response = yield from exchange.response_to(request)
    return status_of(response, "C-STORE")


def store_many(
    exchange: Exchange,
    sources: Iterable[object],
    open_source: Callable[[object], Source],
    clock: Callable[[], float],
    priority: Priority = Priority.MEDIUM,
) -> Generator[StoreResult | None, Event, None]:
    """C-STORE of one instance after another; yields a result for each, and goes on after one that cannot be sent.

    Args:
        exchange: an established association.
        sources: what to store, each as ``open_source`` takes it.
        open_source: opens one of them; closed here when it is done with.
        clock: gives the time in seconds, for the results.
        priority: of every C-STORE.

    Raises:
        AssociationError, ConnectionFailed, DeadlineExceeded, RemoteProtocolError: the association ended.
    """
    for given in sources:
        try:
            source = open_source(given)
        except (InputFileError, InvalidArgument) as error:
            yield StoreResult(given, error=error)
            continue
        with source:
            start = clock()
            status = error = None
            try:
                status = yield from store(exchange, source, priority)
            except NoAcceptedContext as refused:
                error = refused
            yield StoreResult(
                given,
                status,
                error,
                source.sop_class_uid,
                source.sop_instance_uid,
                source.transfer_syntax_uid,
                source.size,
                clock() - start,
            )


def status_of(response: Message, service: str) -> Status:
    """The status of a response, with what the peer said about it (PS3.7 Annex C)."""
    command = response.command
    return Status(
        command.status,
        service=service,
        comment=command.error_comment,
        offending=command.offending_element or (),
    )
