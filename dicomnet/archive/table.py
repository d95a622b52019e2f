"""The table of an archive in a server's settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..repository.intake import Duplicates
from ..server import Table
from ..server.settings import RESTART, SHARED, AETitle, Port, Seconds, Size
from .settings import ArchiveSettings

__all__ = ["ArchiveTable"]

_USUAL = ArchiveSettings()


class ArchiveTable(Table):
    """``[addin.archive]``."""

    directory: Annotated[Path | None, RESTART] = None
    """Where the archive is; left out, `data/archive` in the server's directory."""
    database: Annotated[str, RESTART] = ""
    """URL of the index, postgresql://user@host/name; left out, SQLite in the archive's directory."""
    storage: Annotated[str, RESTART] = _USUAL.storage
    """Where instances are kept: relative to the archive's directory, or a bucket (s3://NAME?endpoint=URL)."""
    storage_before: Annotated[str, RESTART] = ""
    """Where instances are moved from, while `dicomnet archive migrate` moves them; left out, nowhere."""
    layout: Annotated[Literal["segments", "files"], RESTART] = "segments"
    """"segments" gathers small instances, "files" keeps a file for each, named by `template`."""
    template: Annotated[str, RESTART] = _USUAL.template
    """The names of the files."""
    durability: Annotated[Literal["disk", "os"], RESTART] = "disk"
    """What an acknowledged instance survives: a loss of power, or the end of the program."""
    duplicates: Annotated[Duplicates, SHARED] = _USUAL.duplicates
    """Of other bytes under a UID that is taken: "keep" the first, "replace" it, or "quarantine" the second."""
    rejection_notes: Annotated[Literal["store", "quarantine", "delete"], SHARED] = "store"
    """Of what a rejection note names (IHE IOCM): "store" keeps it, "quarantine" hides it, "delete" deletes it."""
    refuse_at: Annotated[float, RESTART] = _USUAL.watermarks.refuse
    """The share of the disk in use at which instances are refused."""
    reject_at: Annotated[float, RESTART] = _USUAL.watermarks.reject
    """The share of the disk in use at which associations are rejected."""
    resume_at: Annotated[float, RESTART] = _USUAL.watermarks.resume
    """The share of the disk in use below which all is well again."""
    character_set: Annotated[str, SHARED] = ""
    """Of data sets, and queries, that name none."""
    relational: Annotated[bool, SHARED] = False
    """Whether queries may leave out the unique keys of the levels above theirs."""
    steps_to: Annotated[tuple[AETitle, ...], SHARED] = ()
    """Where performed procedure steps are passed on to: AE titles that the server knows."""
    commitment_reports: Annotated[Literal["same", "new"], SHARED] = "same"
    """Storage commitment is reported on the "same" association while it stands, or always on a "new" one."""
    availability_to: tuple[AETitle, ...] = ()
    """Who is told which instances can be had here: AE titles that the server knows."""
    availability_after: Seconds = _USUAL.availability_after
    """Seconds in which nothing of a study has come or gone, before it is told of."""
    workitems_to: Annotated[tuple[AETitle, ...], SHARED] = ()
    """Who is told that the archive has begun again, beside those who watch work items: AE titles as above."""
    retention_days: Annotated[float | None, Field(gt=0, allow_inf_nan=False), SHARED] = None
    """Days without anything new, after which a study is deleted; left out, never."""
    retention_size: Annotated[Size | None, SHARED] = None
    """How much is kept, as in "500g", before the oldest studies are deleted; left out, without a bound."""
    protected_patients: Annotated[tuple[str, ...], SHARED] = ()
    """Patient IDs whose studies stay all the same."""
    protected_studies: Annotated[tuple[str, ...], SHARED] = ()
    """Study Instance UIDs that stay all the same."""
    stations: Annotated[Mapping[str, tuple[AETitle, ...]], SHARED] = {}
    """Other AE titles of stations, by AE title: each gets the worklist of all."""
    patients_to: Annotated[tuple[str, ...], SHARED] = ()
    """Where HL7 messages about patients are passed on to: host:port."""
    hl7_port: Annotated[Port | None, RESTART] = None
    """Where HL7 v2 messages are taken, by MLLP; 0 picks a free port, left out there is none."""
