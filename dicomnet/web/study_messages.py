"""Messages of the administration about the studies that a server holds: searched, deleted, brought in, taken out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ..errors import InvalidArgument
from ..repository.catalog import Level
from ..repository.committer import Committer
from ..repository.deletion import delete_instances
from ..repository.dicom_json import text_at
from ..repository.exporting import FORMATS, export, selected
from ..repository.finding import QueryTooLong
from ..repository.holdings import Holdings
from ..repository.importing import import_files
from ..repository.incoming import Incoming
from ..repository.intake import Kept
from ..repository.keys import Identifier, InvalidKey, QueryOptions
from ..repository.responses import Match
from ..server import Table
from ..server.base import AuditTrail
from ..server.messages import MessageRegistry
from ..server.settings import UID

__all__ = ["StudiesMessage", "StudyMessages"]

#: Seconds that a search may take.
SEARCH_SECONDS = 5.0
_STUDY = {
    "study": ("StudyInstanceUID", 0x0020000D), "patient_id": ("PatientID", 0x00100020),
    "patient_name": ("PatientName", 0x00100010), "birth_date": ("PatientBirthDate", 0x00100030),
    "sex": ("PatientSex", 0x00100040), "date": ("StudyDate", 0x00080020), "time": ("StudyTime", 0x00080030),
    "accession": ("AccessionNumber", 0x00080050), "description": ("StudyDescription", 0x00081030),
    "modalities": ("ModalitiesInStudy", 0x00080061), "series": ("NumberOfStudyRelatedSeries", 0x00201206),
    "instances": ("NumberOfStudyRelatedInstances", 0x00201208),
}  # fmt: skip
_SERIES = {
    "series": ("SeriesInstanceUID", 0x0020000E), "modality": ("Modality", 0x00080060),
    "number": ("SeriesNumber", 0x00200011), "description": ("SeriesDescription", 0x0008103E),
    "instances": ("NumberOfSeriesRelatedInstances", 0x00201209),
}  # fmt: skip
_RELATIONAL = QueryOptions(relational=True)


class SearchMessage(Table):
    """What is looked for."""

    keys: Mapping[str, str] = Field(default_factory=dict)
    """Values by keyword, with wild cards and ranges as the standard has them."""
    after: int | None = None
    """Go on after this cursor."""
    most: Annotated[int, Field(ge=1, le=1000)] = 100
    """The most studies."""


class StudyMessage(Table):
    """Which study."""

    study: UID
    """Study Instance UID."""


class StudiesMessage(Table):
    """Which studies."""

    studies: Annotated[tuple[UID, ...], Field(min_length=1, max_length=1000)]
    """Study Instance UIDs."""


class ImportMessage(Table):
    """What is imported."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, folders, zip files and DICOMDIR media of the server's machine."""


class ExportMessage(StudiesMessage):
    """What is exported."""

    target: str
    """A new or empty folder of the server's machine; for "zip" a file that does not exist."""
    format: Literal["folder", "zip", "dicomdir"] = "folder"
    """As what."""


assert set(FORMATS) == {"folder", "zip", "dicomdir"}


class StudyMessages:
    """Answers them.

    Args:
        holdings: what is held.
        committer: stores what is imported, with what is received.
        audit: hears of what is deleted, brought in and taken out.
    """

    def __init__(self, holdings: Holdings, committer: Committer[Incoming, Kept], audit: AuditTrail) -> None:
        self._holdings, self._committer, self._audit = holdings, committer, audit

    def register(self, messages: MessageRegistry, prefix: str) -> None:
        """Take messages whose names begin so."""
        messages.add(f"{prefix}Search", self.search, role="read", model=SearchMessage)
        messages.add(f"{prefix}Study", self.study, role="read", model=StudyMessage)
        messages.add(f"{prefix}Delete", self.delete, role="administer", model=StudiesMessage)
        messages.add(f"{prefix}Import", self.take_in, role="administer", model=ImportMessage)
        messages.add(f"{prefix}Export", self.take_out, role="administer", model=ExportMessage)

    def search(self, asked: SearchMessage) -> Mapping[str, Any]:
        """Studies by keys, and the cursor after which there are more; None: these are all."""
        found = self._found(Level.STUDY, _STUDY, dict(asked.keys), asked.most + 1, asked.after)
        more = found[asked.most - 1].cursor if len(found) > asked.most else None
        return {"studies": [_row(one, _STUDY) for one in found[: asked.most]], "next": more}

    def study(self, asked: StudyMessage) -> Mapping[str, Any]:
        """A study and its series."""
        key = {"StudyInstanceUID": asked.study}
        studies = self._found(Level.STUDY, _STUDY, key, 1)
        if not studies:
            raise InvalidArgument(f"there is no study {asked.study}")
        series = self._found(Level.SERIES, _SERIES, key, None)
        return _row(studies[0], _STUDY) | {"series_list": [_row(one, _SERIES) for one in series]}

    def delete(self, asked: StudiesMessage) -> Mapping[str, Any]:
        """Delete studies; what is not there is passed over."""
        places = selected(self._holdings, studies=asked.studies)
        gone = delete_instances(self._holdings, [one.uid for one in places])
        for study in asked.studies:
            self._audit.record("study-deleted", what=f"the study {study} was deleted by its administration")
        return {"instances": gone.instances, "bytes": gone.bytes}

    def take_in(self, asked: ImportMessage) -> Mapping[str, Any]:
        """Import files; what cannot be imported is named."""
        result = import_files(self._holdings, asked.paths, store=self._committer.together)
        self._audit.record("import", what=f"{result.stored} instances were imported")
        return result.as_json()

    def take_out(self, asked: ExportMessage) -> Mapping[str, Any]:
        """Export studies."""
        places = selected(self._holdings, studies=asked.studies)
        export(self._holdings, places, Path(asked.target), asked.format, progress=lambda _: None)
        self._audit.record("export", what=f"{len(places)} instances of {', '.join(asked.studies)} were exported")
        return {"instances": len(places), "bytes": sum(one.size for one in places)}

    def _found(
        self, level: Level, columns: Mapping[str, tuple[str, int]], keys: dict[str, str], most: int | None,
        after: int | None = None,
    ) -> list[Match]:  # fmt: skip
        asked = {keyword: "" for keyword, _ in columns.values()} | keys
        try:
            identifier = Identifier.of(asked, options=_RELATIONAL)
            find = self._holdings.index.find
            return list(find(identifier, level=level, limit=most, after=after, seconds=SEARCH_SECONDS))
        except InvalidKey as error:
            raise InvalidArgument(str(error)) from error
        except QueryTooLong as error:
            raise InvalidArgument(error.message, hint=error.hint) from error


def _row(match: Match, columns: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    item = match.json()
    return {name: text_at(item, tag) for name, (_, tag) in columns.items()}
