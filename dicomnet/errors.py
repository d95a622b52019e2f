"""The error tree, for three audiences: you (a wrong call), the peer, and the network.

::

    DicomNetError                     .peer .message .hint; everything below is one
    ├── LocalProtocolError            the owner asked for what is not legal now; nothing was sent
    ├── InvalidArgument               also a ValueError: a value that DICOM or dicomnet cannot take
    ├── RemoteProtocolError           the peer broke the protocol
    │   └── MalformedPDU              .reason .pdu_type .offset
    ├── AssociationError
    │   ├── AssociationRejected       .result .source .reason
    │   ├── AssociationAborted        .source .reason .by_peer
    │   └── NoAcceptedContext         .abstract_syntax .transfer_syntaxes
    ├── ServiceFailure                .status
    ├── ConnectionFailed              also an OSError: .errno
    │   ├── CannotListen
    │   └── TLSFailed
    ├── DeadlineExceeded              also a TimeoutError: .timeout .seconds
    ├── InputFileError                also an OSError: .path .problem
    └── OutputFileError               also an OSError: .path .problem

Facts are attributes. ``str()`` is one line: who, what happened, why, and what to try.
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum
from typing import Any, ClassVar

from dicomnet.status import Status
from dicomnet.uids import STORAGE_CLASSES, name_of

__all__ = [
    "AssociationAborted",
    "AssociationError",
    "AssociationRejected",
    "CannotListen",
    "ConnectionFailed",
    "DeadlineExceeded",
    "DicomNetError",
    "InputFileError",
    "InputProblem",
    "InvalidArgument",
    "LocalProtocolError",
    "MalformedPDU",
    "NoAcceptedContext",
    "OutputFileError",
    "OutputProblem",
    "RemoteProtocolError",
    "ServiceFailure",
    "TLSFailed",
    "cannot_connect",
    "cannot_listen",
    "cannot_read",
    "cannot_write",
    "escaped",
]


def escaped(text: str) -> str:
    """Return `text` fit for one line of a terminal or a log: control, bidirectional and unprintable characters escaped.

    Whatever a peer or a file sent passes through here before it is shown.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class DicomNetError(Exception):
    """Base of every error that dicomnet raises on purpose.

    Args:
        message: what happened, one sentence without its full stop.
        peer: who it happened with, as "AET@host:port".
        hint: what to try, one or two whole sentences.

    Attributes:
        unanswered: of a ``store_many`` that ended so, the instances that were sent, in whole or in part, without an
            answer: the peer may have stored them, or not.
    """

    unanswered: tuple[object, ...] = ()

    # Between the peer and the message: a message that is a predicate ("rejected …") takes the peer as its subject.
    _joint: ClassVar[str] = ": "
    _anonymous: ClassVar[str] = ""

    def __init__(self, message: str, *, peer: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.peer = peer
        self.hint = hint

    def __str__(self) -> str:
        subject = f"{self.peer}{self._joint}" if self.peer else self._anonymous
        sentence = f"{subject}{self.message}"
        return escaped(f"{sentence.rstrip('.')}. {self.hint}" if self.hint else sentence)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default calls the class with `args` alone, which the required keywords of some classes refuse.
        return _restored, (type(self), self.args), self.__dict__


def _restored(cls: type[DicomNetError], args: tuple[Any, ...]) -> DicomNetError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    return error


class LocalProtocolError(DicomNetError):
    """A call that is not legal in the present state: nothing was sent, no state changed. A bug of the caller."""


class InvalidArgument(DicomNetError, ValueError):
    """A value that the standard or dicomnet cannot take: an AE title, an address, a size, a UID."""


class RemoteProtocolError(DicomNetError):
    """The peer broke the protocol."""


class MalformedPDU(RemoteProtocolError):
    """Bytes that are not a PDU, or a PDU that lies about itself.

    Args:
        reason: what an A-ABORT by the service-provider says about it: 0, 1, 2, 4, 5 or 6 (PS3.8 Table 9-26).
        pdu_type: the type byte, where there was one.
        offset: where in the PDU the fault lies, counted from its first byte.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: int,
        pdu_type: int | None = None,
        offset: int | None = None,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, peer=peer, hint=hint)
        self.reason = reason
        self.pdu_type = pdu_type
        self.offset = offset


class AssociationError(DicomNetError):
    """There is no association, or not the one that was wanted."""


class AssociationRejected(AssociationError):
    """The peer answered with an A-ASSOCIATE-RJ (PS3.8 Section 9.3.4).

    Args:
        result: 1 permanent, 2 transient.
        source: 1 the application, 2 the protocol layer (ACSE), 3 the protocol layer (presentation).
        reason: its meaning depends on the source (PS3.8 Table 9-21).
        peer: as in the other errors; the title before its "@" serves the hint.
        calling: our own AE title, for the hint.
    """

    _joint = " "
    _anonymous = "the peer "

    def __init__(
        self,
        result: int,
        source: int,
        reason: int,
        *,
        peer: str | None = None,
        calling: str | None = None,
        hint: str | None = None,
    ) -> None:
        kind = {1: "permanent", 2: "transient"}.get(result, f"result {result}")
        by = {1: "acceptor", 2: "acceptor's protocol layer", 3: "acceptor's presentation layer"}.get(
            source, f"source {source}"
        )
        why = _REJECTION_REASONS.get((source, reason), f"reason {reason}")
        if hint is None:
            hint = _rejection_hint(source, reason, (peer or "").rpartition("@")[0], calling)
        super().__init__(f"rejected the association ({kind}, by the {by}): {why}", peer=peer, hint=hint)
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def is_transient(self) -> bool:
        """The same may be accepted later."""
        return self.result == 2


_REJECTION_REASONS = {
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognised",
    (1, 7): "called AE title not recognised",
    (2, 1): "no reason given",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def _rejection_hint(source: int, reason: int, called: str, calling: str | None) -> str | None:
    match source, reason:
        case 1, 3:
            return f'Does the peer know "{calling}"?' if calling else "Does the peer know our AE title?"
        case 1, 7:
            return f'Is "{called}" the peer\'s AE title?' if called else "Is the called AE title right?"
        case ((1 | 2), 1):
            return "The peer's log may say why."
        case 3, (1 | 2):
            return "The peer is busy: try again later."
    return None


class AssociationAborted(AssociationError):
    """The association ended by an A-ABORT, or by a transport that closed under it (PS3.8 Sections 7.3, 7.4).

    Args:
        source: 0 the application, 2 the protocol layer.
        reason: for source 2, PS3.8 Table 9-26; without meaning for source 0.
        by_peer: False where this side aborted.
        message: instead of the sentence built from the codes.
    """

    def __init__(
        self,
        source: int,
        reason: int,
        *,
        by_peer: bool = True,
        message: str | None = None,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        who = "the peer" if by_peer else "this side"
        layer = {0: "by its application", 2: "by its protocol layer"}.get(source, f"source {source}")
        why = "" if source == 0 else f": {_ABORT_REASONS.get(reason, f'reason {reason}')}"
        super().__init__(message or f"{who} aborted the association ({layer}{why})", peer=peer, hint=hint)
        self.source = source
        self.reason = reason
        self.by_peer = by_peer


_ABORT_REASONS = {
    0: "reason not specified",
    1: "unrecognised PDU",
    2: "unexpected PDU",
    4: "unrecognised PDU parameter",
    5: "unexpected PDU parameter",
    6: "invalid PDU parameter value",
}


class NoAcceptedContext(AssociationError):
    """No accepted presentation context fits what is to be sent.

    Args:
        abstract_syntax: the SOP Class UID.
        transfer_syntaxes: the transfer syntaxes that would have done.
        message: instead of the sentence built from the two.
    """

    def __init__(
        self,
        abstract_syntax: str,
        transfer_syntaxes: tuple[str, ...] = (),
        *,
        message: str | None = None,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        encoded = f" in {' or '.join(map(name_of, transfer_syntaxes))}" if transfer_syntaxes else ""
        if message is None and abstract_syntax not in STORAGE_CLASSES:
            hint = hint or "`dicomnet doctor` shows which services the peer offers."
        super().__init__(
            message or f"no accepted presentation context for {name_of(abstract_syntax)}{encoded}", peer=peer, hint=hint
        )
        self.abstract_syntax = abstract_syntax
        self.transfer_syntaxes: tuple[str, ...] = tuple(transfer_syntaxes)


class ServiceFailure(DicomNetError):
    """The peer answered, with a status that is not a success."""

    def __init__(
        self, status: Status, message: str | None = None, *, peer: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message or f"the peer answered {status}", peer=peer, hint=hint)
        self.status = status


class _FromSystem(DicomNetError, OSError):
    """What the operating system said no to; `errno` is a slot of OSError, outside ``__dict__``."""

    def __init__(self, message: str, *, errno: int | None, peer: str | None, hint: str | None) -> None:
        super().__init__(message, peer=peer, hint=hint)
        self.errno = errno

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), {**self.__dict__, "errno": self.errno}


class ConnectionFailed(_FromSystem):
    """The transport could not be opened, or broke."""

    def __init__(
        self, message: str, *, errno: int | None = None, peer: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, errno=errno, peer=peer, hint=hint)


class CannotListen(ConnectionFailed):
    """An address cannot be listened at."""


def cannot_connect(error: OSError, peer: str) -> ConnectionFailed:
    """What to raise where the operating system does not connect us to a peer."""
    hint = "Is the program running, on that machine and that port? Does a firewall refuse us?"
    if type(error).__name__ == "gaierror":  # by its name: its maker has loaded socket, this module has not
        hint = "Is the name spelt right, and does the name server know it? An address does without."
    reason = error.strerror or str(error)
    return ConnectionFailed(f"cannot connect: {reason}", errno=error.errno, peer=peer, hint=hint)


_LISTEN_HINTS = {
    errno.EADDRINUSE: "Another program has that port: stop it, or take another port; 0 is any that is free.",
    errno.EADDRNOTAVAIL: "The address has to be one of this machine's; 0.0.0.0 is all of them.",
    errno.EACCES: "Ports below 1024 take a privilege.",
}


def cannot_listen(error: OSError, host: str, port: int) -> CannotListen:
    """What to raise where the operating system does not let us listen."""
    reason = (error.strerror or str(error)).partition(" (while ")[0]  # asyncio and socket tell the address once more
    hint = _LISTEN_HINTS.get(error.errno or 0)
    return CannotListen(f"cannot listen on {host}:{port}: {reason}", errno=error.errno, hint=hint)


class TLSFailed(ConnectionFailed):
    """The connection could not be secured, or is not secure any more: nothing is ever sent in the clear instead."""


class DeadlineExceeded(DicomNetError, TimeoutError):
    """A wait came to its end.

    Args:
        timeout: its name in `Timeouts`, such as "response".
        seconds: how long it was.
    """

    def __init__(
        self,
        timeout: str,
        seconds: float,
        message: str | None = None,
        *,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        hint = hint or _TIMEOUT_HINTS.get(timeout)
        super().__init__(message or f"{timeout} time-out after {seconds:g} s", peer=peer, hint=hint)
        self.timeout = timeout
        self.seconds = seconds


_TIMEOUT_HINTS = {
    "connect": "Is it the right host, and does a firewall drop what is sent there?",
    "tls": "Does that port speak TLS?",
    "associate": "Something listens there; is it DICOM, and does it expect TLS?",
    "response": "The peer is busy or stuck; Timeouts(response=...) grants it more.",
    "progress": "A message stopped half-way, or comes slower than Limits.least_rate.",
    "release": "What the peer has answered before stands.",
    "handler": "A handler took too long; its registration's deadline, or Timeouts(handler=...), grants it more.",
    "write": "The peer does not read what it is sent; is it out of disk, or stuck?",
}


class InputProblem(IntEnum):
    """What is wrong with an input file; the value is the exit code of the command line."""

    CANNOT_READ = 20
    NOT_PART10 = 21
    TRUNCATED = 22
    MISSING_UID = 23


class OutputProblem(IntEnum):
    """What is wrong with an output; the value is the exit code of the command line."""

    CANNOT_WRITE = 40
    NO_DIRECTORY = 45


class _FileError(_FromSystem):
    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None,
        errno: int | None,
        peer: str | None,
        hint: str | None,
    ) -> None:
        super().__init__(message, errno=errno, peer=peer, hint=hint)
        self.path: str | None = None if path is None else os.fspath(path)

    def __str__(self) -> str:
        return escaped(f"{self.path}: {super().__str__()}") if self.path else super().__str__()


class InputFileError(_FileError):
    """A file that cannot be sent.

    Args:
        problem: which of the four kinds.
        path: the file, or None where only its bytes are known.
        errno: where the operating system refused.

    Attributes:
        flaw: what may be mended, or overridden: "odd", a value has an odd number of bytes; "misdeclared", the data set
            is not in the transfer syntax that the file meta information names; empty for all else.
        mended: it was, and the user knows.
    """

    flaw = ""
    mended = False

    def __init__(
        self,
        message: str,
        *,
        problem: InputProblem,
        path: str | os.PathLike[str] | None = None,
        errno: int | None = None,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, errno=errno, peer=peer, hint=hint)
        self.problem = problem


class OutputFileError(_FileError):
    """A received data set that cannot be kept; arguments as of `InputFileError`."""

    def __init__(
        self,
        message: str,
        *,
        problem: OutputProblem = OutputProblem.CANNOT_WRITE,
        path: str | os.PathLike[str] | None = None,
        errno: int | None = None,
        peer: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, errno=errno, peer=peer, hint=hint)
        self.problem = problem


def cannot_read(error: OSError, path: str | os.PathLike[str]) -> InputFileError:
    """What to raise where the operating system does not let us read a file."""
    what = f"cannot be read: {error.strerror or error}"
    return InputFileError(what, problem=InputProblem.CANNOT_READ, path=path, errno=error.errno)


def cannot_write(error: OSError, path: str | os.PathLike[str]) -> OutputFileError:
    """What to raise where the operating system does not let us write a file."""
    return OutputFileError(f"cannot be written: {error.strerror or error}", path=path, errno=error.errno)
