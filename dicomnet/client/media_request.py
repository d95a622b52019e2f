"""What a request to create media says, and how far it is (PS3.4 Annex S, PS3.3 Section C.22)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..dataset.types import Dataset
from ..errors import InvalidArgument

__all__ = ["MediaCreation", "MediaRequest", "creation_of"]

_PRIORITIES = ("", "HIGH", "MED", "LOW")
_DISPLAYS = ("", "NO", "REQUIRED")
_WHEN_DONE = ("DONE", "FAILURE")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRequest:
    """How media are to be made; what is left out is as the maker has it.

    Attributes:
        profile: Requested Media Application Profile, as "STD-GEN-CD".
        file_set_id: what the media are called, at most 16 capital letters, digits and underscores.
        label: text of the label; empty takes it from the instances.
        split: whether several media may be made.
        display: NO or REQUIRED: a program that shows the images is on the media.
        lossy: whether images may be compressed with a loss.
        keep: whether the maker keeps the instances when the media are done.
        copies: of each medium.
        priority: HIGH, MED or LOW.
    """

    profile: str = ""
    file_set_id: str = ""
    label: str = ""
    split: bool = True
    display: str = ""
    lossy: bool = False
    keep: bool = False
    copies: int = 1
    priority: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.copies <= 99:
            raise InvalidArgument(f"{self.copies} copies of media cannot be made", hint="From 1 to 99.")
        if self.priority not in _PRIORITIES or self.display not in _DISPLAYS:
            raise InvalidArgument("the priority is HIGH, MED or LOW, and the display NO or REQUIRED")

    def creation(self, instances: Iterable[tuple[str, str]]) -> dict[str, Any]:
        """The attributes of an N-CREATE (PS3.4 Table S.3.2.1.1.1-1)."""
        references = [_reference(sop_class, uid, self.profile) for sop_class, uid in instances]
        if not references:
            raise InvalidArgument("media without an instance cannot be made")
        values = {
            "StorageMediaFileSetID": self.file_set_id,
            "LabelText": self.label,
            "IncludeDisplayApplication": self.display,
        }
        return {keyword: value for keyword, value in values.items() if value} | {
            "LabelUsingInformationExtractedFromInstances": "NO" if self.label else "YES",
            "AllowMediaSplitting": _yes(self.split),
            "AllowLossyCompression": _yes(self.lossy),
            "PreserveCompositeInstancesAfterMediaCreation": _yes(self.keep),
            "ReferencedSOPSequence": references,
        }

    def start(self) -> dict[str, Any]:
        """The information of the N-ACTION that begins (PS3.4 Table S.3.2.2-1)."""
        return {"NumberOfCopies": self.copies} | ({"RequestPriority": self.priority} if self.priority else {})


def _yes(value: bool) -> str:
    return "YES" if value else "NO"


def _reference(sop_class: str, uid: str, profile: str) -> dict[str, str]:
    made = {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid}
    return made | ({"RequestedMediaApplicationProfile": profile} if profile else {})


@dataclass(frozen=True, slots=True)
class MediaCreation:
    """How far a request is.

    Attributes:
        uid: of the request.
        status: IDLE, PENDING, CREATING, DONE or FAILURE.
        info: why, as NORMAL, QUEUED, NO_INSTANCE or SET_OVERSIZED.
        media: File-set ID and UID of each medium that was made.
        failed: SOP Instance UID and reason of each instance that is on none.
    """

    uid: str
    status: str = ""
    info: str = ""
    media: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, int], ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _WHEN_DONE


def creation_of(uid: str, said: Dataset) -> MediaCreation:
    """What an N-GET says of a request."""
    made = [
        (str(item.get("StorageMediaFileSetID", "") or ""), str(item.get("StorageMediaFileSetUID", "") or ""))
        for item in said.get("ReferencedStorageMediaSequence") or ()
    ]
    failed = [
        (str(item.get("ReferencedSOPInstanceUID", "")), int(item.get("FailureReason", 0) or 0))
        for item in said.get("FailedSOPSequence") or ()
    ]
    status, info = (str(said.get(one, "") or "") for one in ("ExecutionStatus", "ExecutionStatusInfo"))
    return MediaCreation(uid, status, info, tuple(made), tuple(failed))
