"""Notes of which instances can be had where: what an instance availability notification says (PS3.4 Annex R)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..config import check_ae_title
from ..dataset import codec
from ..errors import DicomNetError, InvalidArgument
from .inputs import gather

__all__ = ["AVAILABILITIES", "AvailableInstance", "instances_of", "notices"]

#: Instance Availability (PS3.3 Section C.4.23.1.1): at once, after a wait, by a person's hand, never.
AVAILABILITIES = ("ONLINE", "NEARLINE", "OFFLINE", "UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class AvailableInstance:
    """An instance, and how it can be had.

    Attributes:
        study_uid, series_uid: what it belongs to.
        sop_class_uid, sop_instance_uid: itself.
        availability: one of `AVAILABILITIES`.
        retrieve_ae_title: from where it can be retrieved; of one that is UNAVAILABLE, from where it could be.
        file_set_id, file_set_uid: of the medium that it is on, where it is OFFLINE.
        retrieve_url: of DICOMweb.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    availability: str
    retrieve_ae_title: str
    file_set_id: str = ""
    file_set_uid: str = ""
    retrieve_url: str = ""

    def __post_init__(self) -> None:
        if self.availability not in AVAILABILITIES:
            raise InvalidArgument(
                f"an instance cannot be {self.availability!r}", hint=f"One of {', '.join(AVAILABILITIES)}."
            )
        check_ae_title(self.retrieve_ae_title)
        if not all((self.study_uid, self.series_uid, self.sop_class_uid, self.sop_instance_uid)):
            raise InvalidArgument("an instance has a study, a series, a SOP class and a UID")

    def attributes(self) -> dict[str, Any]:
        """An item of Referenced SOP Sequence (PS3.4 Table R.3.2-1)."""
        values = {
            "ReferencedSOPClassUID": self.sop_class_uid,
            "ReferencedSOPInstanceUID": self.sop_instance_uid,
            "InstanceAvailability": self.availability,
            "RetrieveAETitle": self.retrieve_ae_title,
            "StorageMediaFileSetID": self.file_set_id,
            "StorageMediaFileSetUID": self.file_set_uid,
            "RetrieveURL": self.retrieve_url,
        }
        return {keyword: value for keyword, value in values.items() if value}


def notices(instances: Iterable[AvailableInstance], *, steps: Iterable[tuple[str, str]] = ()) -> list[dict[str, Any]]:
    """The attributes of the N-CREATEs that tell of these: one for each study.

    Args:
        instances: of any studies, in any order; the last word on an instance holds.
        steps: pairs of SOP class and instance UID of the performed procedure steps that made them.

    Raises:
        InvalidArgument: there is nothing to tell of.
    """
    studies: dict[str, dict[str, dict[str, AvailableInstance]]] = {}
    for one in instances:
        studies.setdefault(one.study_uid, {}).setdefault(one.series_uid, {})[one.sop_instance_uid] = one
    if not studies:
        raise InvalidArgument("there are no instances to tell of")
    performed = [
        {"ReferencedSOPClassUID": sop_class, "ReferencedSOPInstanceUID": uid, "PerformedWorkitemCodeSequence": []}
        for sop_class, uid in steps
    ]
    return [
        {
            "ReferencedPerformedProcedureStepSequence": performed,
            "StudyInstanceUID": study,
            "ReferencedSeriesSequence": [
                {"SeriesInstanceUID": uid, "ReferencedSOPSequence": [one.attributes() for one in held.values()]}
                for uid, held in series.items()
            ],
        }
        for study, series in studies.items()
    ]


def instances_of(paths: Iterable[str], *, availability: str, retrieve_ae_title: str) -> Iterator[AvailableInstance]:
    """The instances of files, folders, DICOMDIRs and zip archives.

    Raises:
        InputFileError: one cannot be read.
        InvalidArgument: one has no study or series; an availability or a title that cannot be.
    """

    def refuse(_: object, __: str, error: DicomNetError) -> None:
        raise error

    for item in gather(paths, refuse, recurse=True):
        with codec.open_source(item.open()) as source:
            data = b"".join(bytes(chunk) for chunk in source.chunks(1 << 20))
        header = codec.decode(data, item.pair[1])
        study, series = (str(header.get(keyword, "") or "") for keyword in ("StudyInstanceUID", "SeriesInstanceUID"))
        yield AvailableInstance(study, series, item.pair[0], item.sop_instance_uid, availability, retrieve_ae_title)
