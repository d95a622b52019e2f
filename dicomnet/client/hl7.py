"""Messages of HL7 v2 about patients (IHE Patient Information Reconciliation), and how they are sent (MLLP)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from ..config import Entity
from ..errors import (
    DeadlineExceeded,
    InvalidArgument,
    RemoteProtocolError,
    ServiceFailure,
    TLSFailed,
    cannot_connect,
    escaped,
)
from ..net.mllp import MllpReader, framed
from ..net.tls import TLS
from ..status import Status
from ..uids import new

__all__ = ["Hl7Refused", "PatientId", "adt", "control_of", "exchange", "patient_id", "require_taken"]

_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\r": "\\.br\\", "\n": "\\.br\\"}
#: Message structures by trigger event (HL7 v2.5.1 Chapter 3).
_STRUCTURES = {"A08": "ADT_A01", "A40": "ADT_A39", "A47": "ADT_A30", "A37": "ADT_A37"}
_CONTROL = 20  # characters of a message control ID, at most
_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class PatientId:
    """A patient's ID, and who gave it; an issuer that is not known is empty."""

    pid: str
    issuer: str = ""

    def __post_init__(self) -> None:
        if not self.pid.strip():
            raise InvalidArgument("a patient has an ID")

    def __str__(self) -> str:
        return f"{_escaped(self.pid)}^^^{_escaped(self.issuer)}".rstrip("^")


class Hl7Refused(ServiceFailure):
    """The receiver answered that it cannot, or will not.

    Attributes:
        code: MSA-1: AE where something is wrong with what the message says, AR where it is not taken at all.
    """

    def __init__(self, code: str, said: str, *, peer: str | None = None) -> None:
        message = f"the receiver says {code}: {said or 'no reason given'}"
        super().__init__(Status(Status.PROCESSING_FAILURE, comment=message[:64]), message, peer=peer)
        self.code: str = code


def patient_id(given: str | tuple[str, str] | PatientId) -> PatientId:
    """An ID as it is written: text, or a pair of ID and issuer."""
    if isinstance(given, PatientId):
        return given
    return PatientId(given) if isinstance(given, str) else PatientId(*given)


def adt(
    trigger: str,
    patient: PatientId,
    *,
    prior: PatientId | None = None,
    other: PatientId | None = None,
    values: Mapping[str, str] | None = None,
    applications: tuple[str, str] = ("DICOMNET", ""),
) -> bytes:
    """A message about a patient.

    Args:
        trigger: A08, A40, A47 or A37.
        patient: whom it is about: PID-3.
        prior: who that was before: MRG-1.
        other: a second PID, of whom the first is taken apart.
        values: PatientName, PatientBirthDate and PatientSex of the patient.
        applications: who sends, and who receives.
    """
    said = values or {}
    now = f"{datetime.now():%Y%m%d%H%M%S}"
    kind = f"ADT^{trigger}^{_STRUCTURES[trigger]}"
    sender, receiver = map(_escaped, applications)
    control = new()[-_CONTROL:]
    pid = f"PID|1||{patient}||{_name(said.get('PatientName', ''))}||{_escaped(said.get('PatientBirthDate', ''))}"
    segments = [
        f"MSH|^~\\&|{sender}||{receiver}||{now}||{kind}|{control}|P|2.5.1||||||UNICODE UTF-8",
        f"EVN|{trigger}|{now}",
        f"{pid}|{_escaped(said.get('PatientSex', ''))}",
        *([f"MRG|{prior}"] if prior else ()),
        *([f"PID|2||{other}"] if other else ()),
        *(["PV1|1|N"] if trigger == "A08" else ()),
    ]
    return "".join(f"{one}\r" for one in segments).encode()


def control_of(message: bytes) -> str:
    """The control ID of a message of `adt`, by which its acknowledgement is known."""
    return message.split(b"|", 10)[9].decode()


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in text)


def _name(name: str) -> str:
    """XPN of the first group: DICOM has the prefix before the suffix, HL7 has it behind."""
    parts = [_escaped(part) for part in name.split("=", 1)[0].split("^")]
    family, given, middle, prefix, suffix = (*parts, "", "", "", "", "")[:5]
    return f"{family}^{given}^{middle}^{suffix}^{prefix}".rstrip("^")


def exchange(where: Entity, message: bytes, tls: TLS | None, seconds: float) -> bytes:
    """Send a message over a connection of its own; the acknowledgement.

    Raises:
        ConnectionFailed: no program answers at the address, or TLS with it fails.
        DeadlineExceeded: there was no answer in so many seconds.
        RemoteProtocolError: the answer is none.
    """
    peer = f"{where.host}:{where.port}"
    end = monotonic() + seconds
    try:
        plain = socket.create_connection((where.host, where.port), seconds)
    except TimeoutError as error:
        raise DeadlineExceeded("connecting", seconds, peer=peer) from error
    except OSError as error:
        raise cannot_connect(error, peer) from error
    with closing(plain):
        try:
            name = tls.server_name or where.host if tls else ""
            link = tls.client_context().wrap_socket(plain, server_hostname=name) if tls else plain
            with closing(link):
                link.sendall(framed(message))
                for answer in _answers(link, end):
                    return answer
        except TimeoutError as error:
            raise DeadlineExceeded("acknowledgement", seconds, peer=peer) from error
        except ssl.SSLError as error:
            raise TLSFailed(f"TLS with the receiver failed: {error}", peer=peer) from error
        except (OSError, ValueError) as error:
            raise RemoteProtocolError(f"the connection broke: {error}", peer=peer) from error
    raise RemoteProtocolError("the receiver closed the connection without an answer", peer=peer)


def _answers(link: socket.socket, end: float) -> Iterator[bytes]:
    """The blocks that come until then: a receiver that sends a byte now and then gets no more time by it."""
    reader = MllpReader()
    while True:
        link.settimeout(max(end - monotonic(), 0.001))  # 0 would not wait at all
        data = link.recv(_READ)
        if not data:
            return
        yield from reader.feed(data)


def require_taken(control: str, answer: bytes, peer: str) -> None:
    """Read an acknowledgement of the message with this control ID.

    Raises:
        Hl7Refused: the receiver has not taken the message.
        RemoteProtocolError: it is no acknowledgement of this one.
    """
    lines = answer.decode("utf-8", "replace").replace("\n", "\r").split("\r")
    fields = next((line.split("|") for line in lines if line.startswith("MSA|")), [])
    if len(fields) < 3 or fields[2] != control:
        raise RemoteProtocolError("the answer is no acknowledgement of the message", peer=peer)
    if fields[1] not in ("AA", "CA"):
        raise Hl7Refused(escaped(fields[1]), escaped("|".join(fields[3:4])), peer=peer)
