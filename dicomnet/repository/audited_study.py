"""`AuditedStudy`: the study that an audit message is about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..server.audit_message import Subject

__all__ = ["AuditedStudy"]


@dataclass(slots=True)
class AuditedStudy:
    """A study, and how many instances of each SOP class a message is about."""

    uid: str
    patient: str
    name: str
    instances: Counter[str] = field(default_factory=Counter)

    def subjects(self) -> tuple[Subject, Subject]:
        """The study and its patient."""
        return Subject("study", self.uid, instances=self.instances), Subject("patient", self.patient, self.name)
