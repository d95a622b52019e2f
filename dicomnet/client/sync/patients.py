# Generated from dicomnet/client/aio/patients.py by tools/async_to_sync.py: edit that, and run `make twins`.
"""`PatientUpdateScu`: tells an archive who a patient is: corrected, of another ID, merged, taken apart (HL7 v2)."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

from ...config import Entity
from ...net.tls import TLS
from ..hl7 import PatientId, adt, control_of, exchange, patient_id, require_taken
from .concurrency import aside

__all__ = ["PatientUpdateScu"]

#: A patient's ID, or that and its issuer.
Id: TypeAlias = "str | tuple[str, str] | PatientId"


class PatientUpdateScu:
    """Sends what an admission system knows better: messages of HL7 v2 over MLLP, each until it is acknowledged.

    The receiver does all that a message says, or nothing; the same message again changes nothing.

    Args:
        where: the receiver's HL7 port, as "pacs.local:2575", with ``dicoms://`` over TLS.
        tls: how the connection is secured.
        applications: MSH-3 and MSH-5: who sends, and who receives.
        timeout: seconds to wait, for the connection and for the acknowledgement.
    """

    def __init__(
        self,
        where: str | Entity,
        *,
        tls: TLS | None = None,
        applications: tuple[str, str] = ("DICOMNET", ""),
        timeout: float = 30.0,
    ) -> None:
        self.where: Entity = Entity.parse(where) if isinstance(where, str) else where
        self.tls: TLS | None = tls or (TLS() if self.where.tls else None)
        self.applications = applications
        self.timeout = timeout

    @property
    def peer(self) -> str:
        """The receiver as people write it: "host:port"."""
        return f"{self.where.host}:{self.where.port}"

    def update(self, patient: Id, /, *, name: str = "", birth_date: str = "", sex: str = "") -> None:
        """ADT^A08: correct a patient's name, birth date or sex; what is not given stays.

        Args:
            patient: one of the patient's IDs.
            name: as DICOM writes it, "Family^Given^Middle^Prefix^Suffix".
            birth_date: "19700131".
            sex: M, F or O.

        Raises:
            Hl7Refused: the receiver cannot. So with the others.
            ConnectionFailed, DeadlineExceeded: it is not there, or does not answer.
        """
        said = {"PatientName": name, "PatientBirthDate": birth_date, "PatientSex": sex}
        values = {keyword: value for keyword, value in said.items() if value}
        self._send(adt("A08", patient_id(patient), values=values, applications=self.applications))

    def change_id(self, patient: Id, to: Id, /) -> None:
        """ADT^A47: give a patient another ID; the old one stays another name of the patient."""
        self._moved("A47", patient, to)

    def merge(self, patient: Id, into: Id, /) -> None:
        """ADT^A40: all of a patient belongs to another one from now on, and what comes under that ID later, too."""
        self._moved("A40", patient, into)

    def unmerge(self, patient: Id, merged_into: Id, /) -> None:
        """ADT^A37: take a patient who was merged out of the other one again, with what came under that ID."""
        first, second = patient_id(patient), patient_id(merged_into)
        self._send(adt("A37", first, other=second, applications=self.applications))

    def _moved(self, trigger: str, patient: Id, to: Id) -> None:
        self._send(adt(trigger, patient_id(to), prior=patient_id(patient), applications=self.applications))

    def _send(self, message: bytes) -> None:
        answer = aside(partial(exchange, self.where, message, self.tls, self.timeout))
        require_taken(control_of(message), answer, self.peer)
