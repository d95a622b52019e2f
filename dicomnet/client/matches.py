"""What queries find, by level: typed, and decoded when touched (PS3.4 Section C.4.1.1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from ..dataset.types import Dataset, is_uid_like
from ..services.scu import Match

__all__ = [
    "Availability",
    "InstanceMatch",
    "PatientMatch",
    "SeriesMatch",
    "StudyMatch",
    "TypedMatch",
    "WorkitemMatch",
    "WorklistItem",
    "match_class",
]


class Availability(Enum):
    """How fast instances can be had: Instance Availability (0008,0056) (PS3.4 Section C.4.1.1.3.2)."""

    #: At once.
    ONLINE = "ONLINE"
    #: From slow media: it takes its time.
    NEARLINE = "NEARLINE"
    #: An operator has to fetch the media first.
    OFFLINE = "OFFLINE"
    #: They cannot be had; a related instance may be.
    UNAVAILABLE = "UNAVAILABLE"


class TypedMatch(Match):
    """A match at a level of an information model; everything the peer sent is in ``dataset``, as in every `Match`.

    Attributes:
        above: the unique keys of the levels above, by keyword, as far as they were asked with.
    """

    __slots__ = ("above",)

    level: ClassVar[str] = ""
    key: ClassVar[str] = ""

    def __init__(self, match: Match, above: Mapping[str, str] | None = None) -> None:
        super().__init__(match.status, match.data, match.transfer_syntax, match.character_set)
        self.above: dict[str, str] = dict(above or {})

    def text(self, keyword: str) -> str:
        """A value as text, several joined by a backslash; empty where the peer sent none."""
        value = self.dataset.get(keyword)
        if value is None:
            return ""
        return "\\".join(map(str, value)) if hasattr(value, "append") else str(value)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """The values of an attribute as text, without blank ones."""
        return tuple(value.strip() for value in self.text(keyword).split("\\") if value.strip())

    @property
    def uid(self) -> str:
        """The unique key of its level; empty where the peer sent none, or none that is one."""
        uid = self.text(self.key)
        return uid if self.key == "PatientID" or is_uid_like(uid) else ""

    @property
    def availability(self) -> Availability | None:
        """How fast it can be had; None where the peer does not say."""
        value = self.text("InstanceAvailability").strip().upper()
        return Availability(value) if value in Availability.__members__ else None

    @property
    def retrieve_ae_titles(self) -> tuple[str, ...]:
        """Who has it: Retrieve AE Title (0008,0054)."""
        return self.texts("RetrieveAETitle")

    @property
    def keys(self) -> dict[str, str]:
        """The unique keys down to its level, by which it is retrieved or asked about."""
        own = {keyword: self.text(keyword) for keyword in ("StudyInstanceUID", "SeriesInstanceUID")}
        return self.above | {keyword: uid for keyword, uid in own.items() if is_uid_like(uid)} | {self.key: self.uid}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uid!r})"


class PatientMatch(TypedMatch):
    """A patient."""

    __slots__ = ()
    level: ClassVar[str] = "PATIENT"
    key: ClassVar[str] = "PatientID"


class StudyMatch(TypedMatch):
    """A study."""

    __slots__ = ()
    level: ClassVar[str] = "STUDY"
    key: ClassVar[str] = "StudyInstanceUID"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities in Study (0008,0061)."""
        return self.texts("ModalitiesInStudy")


class SeriesMatch(TypedMatch):
    """A series."""

    __slots__ = ()
    level: ClassVar[str] = "SERIES"
    key: ClassVar[str] = "SeriesInstanceUID"

    @property
    def modality(self) -> str:
        """Modality (0008,0060)."""
        return self.text("Modality").strip()


class InstanceMatch(TypedMatch):
    """An instance: an image, or whatever else a series has."""

    __slots__ = ()
    level: ClassVar[str] = "IMAGE"
    key: ClassVar[str] = "SOPInstanceUID"

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID (0008,0016)."""
        return self.text("SOPClassUID")


class WorklistItem(TypedMatch):
    """An item of a worklist: one scheduled procedure step of one patient (PS3.4 Annex K)."""

    __slots__ = ()
    level: ClassVar[str] = ""
    key: ClassVar[str] = "StudyInstanceUID"

    @property
    def step(self) -> Dataset:
        """The one item of Scheduled Procedure Step Sequence, as a pydicom Dataset; an empty one where there is none."""
        steps = self.dataset.get("ScheduledProcedureStepSequence")
        found: Dataset = steps[0] if steps else type(self.dataset)()
        return found


class WorkitemMatch(TypedMatch):
    """A work item: a unified procedure step (PS3.4 Annex CC)."""

    __slots__ = ()
    level: ClassVar[str] = ""
    key: ClassVar[str] = "SOPInstanceUID"

    @property
    def state(self) -> str:
        """Procedure Step State (0074,1000)."""
        return self.text("ProcedureStepState").strip()

    @property
    def label(self) -> str:
        """Procedure Step Label (0074,1204)."""
        return self.text("ProcedureStepLabel")


_CLASSES = {one.level: one for one in (PatientMatch, StudyMatch, SeriesMatch, InstanceMatch, WorklistItem)}


def match_class(level: str, model: str = "") -> type[TypedMatch]:
    """The class for the matches of a level; "" is that of a model without levels, such as "WORKLIST" or "UPS"."""
    return WorkitemMatch if model.startswith("UPS") else _CLASSES[level.upper()]
