"""What an archive is told: ``archive.toml`` in its directory, made with the archive, and its defaults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..config import STOP_DRAIN, Entity, check_ae_title, parse_size
from ..errors import InvalidArgument
from ..repository.application import read_settings
from ..repository.disk import Watermarks
from ..repository.holdings import HoldingsSettings
from ..repository.intake import Duplicates
from ..repository.segments import DISK, OS
from ..web.settings import WebSettings

__all__ = ["FILE_NAME", "TOLD", "ArchiveSettings"]

FILE_NAME = "archive.toml"
#: Settings that name destinations which are told something.
TOLD = ("steps_to", "availability_to", "workitems_to")
_MOST_QUIET = 86400.0  # seconds
_MOST_DRAIN = 3600.0  # seconds: a process that is to stop and does not is killed sooner

_TEMPLATE = """\
# An archive of dicomnet. What stands behind a # is a default.

ae_title = "{ae_title}"
host = "{host}"
port = {port}

# Where the index is: "" is a file in this directory; a PostgreSQL server by its URL.
# database = "postgresql://archive@localhost/archive"

# Where instances are: a directory, or a bucket of an object store, whose keys are in the environment
# (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in a file.
# storage = "blobs"
# storage = "s3://archive?endpoint=https://store.example:9000&keys=/etc/dicomnet/s3.toml"

# Seconds that callers get to end what they do when the archive is told to stop; then their associations are aborted.
# drain = 10

# Load balancers in front of the port above: they say by the PROXY protocol for whom a connection is.
# proxies = ["192.0.2.10"]

# Instances: "segments" gathers small ones, "files" keeps a file for each, named by the template.
# layout = "segments"
# template = "{{PatientID}}/{{StudyInstanceUID}}/{{SeriesInstanceUID}}/{{SOPInstanceUID}}.dcm"

# What an acknowledged instance survives: "disk" a loss of power, "os" the end of this program.
# durability = "disk"

# Other bytes under a UID that is taken: "keep" the first, "replace" it, or "quarantine" the second.
# duplicates = "quarantine"

# What becomes of instances that a rejection note names (IHE Imaging Object Change Management): "store" keeps them and
# the note, "quarantine" takes them out of the index, "delete" deletes them. A peer that may store may send such notes.
# rejection_notes = "store"

# Whether queries of a level may leave out the unique keys of the levels above.
# relational = false

# Where performed procedure steps are passed on to: AE titles of the destinations below.
# steps_to = ["RIS"]

# Storage commitment is reported on the association that asked for it while that stands, else on a new one to the
# destination of that AE title; "new" always there, for devices that take no report while they send.
# commitment_reports = "same"

# Who is told which instances can be had here: AE titles of the destinations below; and after how many seconds in which
# nothing of a study has come or gone.
# availability_to = ["RIS"]
# availability_after = 60

# Who is told that the archive has begun again, beside those who watch work items (UPS): AE titles of the destinations.
# workitems_to = ["RIS"]
# What goes by itself, looked at every hour: studies that received nothing for so many days, and the oldest while more
# than so much is stored. Without either everything is kept.
# retention_days = 3650
# retention_size = "500g"
# protected_patients = ["4711"]
# protected_studies = ["1.2.3"]

# Where HL7 v2 messages are taken, by MLLP: orders for the worklist, corrections and merges of patients.
# hl7_port = 2575

# Where changes of patients are passed on to, as the HL7 messages came.
# patients_to = ["ris.example:2575"]

# DICOMweb and the viewer over HTTP. Beyond this machine they want a login (`dicomnet web user add DIR NAME`) or client
# certificates. `proxies` are reverse proxies, whose X-Forwarded headers are believed.
# [web]
# listen = "127.0.0.1:8042"
# cert = "web.pem"
# key = "web.key"
# users = "users.json"
# proxies = ["127.0.0.1"]

# Other AE titles of a station: whichever of them a modality asks its worklist for, it gets that of all.
# [stations]
# CT1 = ["CT1_OLD", "CT1_CONSOLE"]

# Where C-MOVE may send, and commitment is reported to, by AE title.
[destinations]
# WORKSTATION = "workstation.example:11112"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings(HoldingsSettings):
    """The settings of an archive: how it holds instances, and what it does for others.

    Attributes:
        ae_title: what callers have to call.
        host, port: where it listens; port 0 picks a free one.
        destinations: who may be sent to, by AE title.
        rejection_notes: "store" takes rejection notes as any other instances; "quarantine" and "delete" honour them.
        associations: how many at a time.
        drain: seconds that associations in flight get when it is told to stop, where it serves by itself.
        proxies: addresses and networks of load balancers, which say by the PROXY protocol for whom a connection is.
        steps_to: AE titles of the destinations that performed procedure steps are passed on to.
        commitment_reports: "same" reports storage commitment on the requester's association while it stands, else on a
            new one; "new" always on a new one, for devices that take none while they send.
        availability_to: AE titles of the destinations that are told which instances there are.
        availability_after: seconds for which a study has to be quiet before.
        workitems_to: AE titles of the destinations that are told when the archive has begun again, beside subscribers
            of work items.
        retention_days: after how many days without anything new a study is deleted; None: never.
        retention_size: how many bytes are kept at most, before the oldest are deleted; None: without a bound.
        protected_patients, protected_studies: Patient IDs and Study Instance UIDs that stay all the same.
        stations: other AE titles of stations, by AE title.
        patients_to: where HL7 messages about patients are passed on to, as "host:port".
        hl7_port: where HL7 messages are taken; None takes none, 0 picks a free port.
        web: how the web services are served.
        given: the names of those that the file, or who made these, gives; the database may have others for all nodes.
    """

    ae_title: str = "ARCHIVE"
    host: str = "127.0.0.1"
    port: int = 11112
    destinations: Mapping[str, Entity] = field(default_factory=dict)
    associations: int = 100
    drain: float = STOP_DRAIN
    proxies: tuple[str, ...] = ()
    rejection_notes: str = "store"
    steps_to: tuple[str, ...] = ()
    commitment_reports: str = "same"
    availability_to: tuple[str, ...] = ()
    availability_after: float = 60.0
    workitems_to: tuple[str, ...] = ()
    retention_days: float | None = None
    retention_size: int | None = None
    protected_patients: tuple[str, ...] = ()
    protected_studies: tuple[str, ...] = ()
    stations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patients_to: tuple[str, ...] = ()
    hl7_port: int | None = None
    web: WebSettings = field(default_factory=WebSettings)
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check_ae_title(self.ae_title)
        _one_of("layout", self.layout, ("segments", "files"))
        _one_of("durability", self.durability, (DISK, OS))
        _one_of("rejection_notes", self.rejection_notes, ("store", "quarantine", "delete"))
        _one_of("commitment_reports", self.commitment_reports, ("same", "new"))
        if not 0 <= self.port <= 65535:
            raise InvalidArgument(f"port {self.port}: 0 to 65535")
        if self.hl7_port is not None and not 0 <= self.hl7_port <= 65535:
            raise InvalidArgument(f"hl7_port {self.hl7_port}: 0 to 65535")
        is_number = isinstance(self.drain, int | float) and not isinstance(self.drain, bool)
        if not is_number or not 0 <= self.drain <= _MOST_DRAIN:
            raise InvalidArgument(f"drain {self.drain}: 0 to {_MOST_DRAIN:g} seconds")
        for where in self.patients_to:
            Entity.parse(where)
        for name in TOLD:
            for title in getattr(self, name):
                if title not in self.destinations:
                    raise InvalidArgument(
                        f'{name} = "{title}" is no destination',
                        hint="Give it an address: in [destinations], or by dicomnet server ae add.",
                    )
        if not 0 < self.availability_after <= _MOST_QUIET:
            raise InvalidArgument(f"availability_after {self.availability_after}: above 0, and a day at most")
        for name in ("retention_days", "retention_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgument(f"{name} {value}: above 0")

    @classmethod
    def load(cls, directory: Path) -> ArchiveSettings:
        """The settings of an archive.

        Raises:
            InvalidArgument: there is no archive, or its settings make no sense: which, and where.
        """
        values = read_settings(directory, FILE_NAME, "archive")
        given = frozenset(values)
        try:
            return cls(**_read(values, directory), given=given)
        except (InvalidArgument, TypeError, ValueError) as error:
            raise InvalidArgument(f"{directory / FILE_NAME}: {error}") from error

    @classmethod
    def make(cls, directory: Path, **chosen: Any) -> ArchiveSettings:
        """Make the directory of a new archive, with its settings; those that are there are loaded and stay.

        Args:
            directory: of the archive.
            chosen: settings by name, which a new archive is made with, and which come before those of an old one.

        Raises:
            InvalidArgument: it cannot be made, or of `load`.
        """
        path = directory / FILE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                usual = dataclasses.replace(cls(), **chosen)
                text = _TEMPLATE.format(ae_title=usual.ae_title, host=usual.host, port=usual.port)
                # A URL of a database may have a password in it.
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                    file.write(_with_places(text, chosen))
        except OSError as error:
            raise InvalidArgument(f"{directory} cannot be made: {error.strerror}") from error
        loaded = cls.load(directory)
        return dataclasses.replace(loaded, **chosen, given=loaded.given | chosen.keys())


def _with_places(text: str, chosen: Mapping[str, Any]) -> str:
    """Where index and blobs are is for good; what else was chosen may be chosen again."""
    lines = [f'{name} = "{chosen[name]}"' for name in ("database", "storage") if chosen.get(name)]
    return text.replace("[destinations]", "\n".join([*lines, "", "[destinations]"]))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidArgument(f'{name} = "{value}": {" or ".join(allowed)}')


def _read(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings from what TOML says; paths are relative to a folder."""
    names = [one.name for one in dataclasses.fields(ArchiveSettings) if one.name != "given"]
    for name in values:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise InvalidArgument(f'"{name}" is no setting', hint=f"Is it {near[0]}?" if near else None)
    if "duplicates" in values:
        _one_of("duplicates", str(values["duplicates"]), tuple(Duplicates))
        values["duplicates"] = Duplicates(values["duplicates"])
    if "watermarks" in values:
        values["watermarks"] = Watermarks(**values["watermarks"])
    values["web"] = WebSettings.read(values.get("web", {}), folder)
    for name in (*TOLD, "patients_to", "protected_patients", "protected_studies", "proxies"):
        values[name] = tuple(values.get(name, ()))
    if "retention_size" in values:
        values["retention_size"] = parse_size(str(values["retention_size"]))
    stations = values.get("stations", {})
    values["stations"] = {title: tuple(map(check_ae_title, others)) for title, others in stations.items()}
    destinations = values.get("destinations", {})
    values["destinations"] = {title: _destination(title, text) for title, text in destinations.items()}
    return values


def _destination(title: str, text: str) -> Entity:
    """A destination: its title, and its address as ``host:port``, ``dicoms://…`` for TLS."""
    return Entity.parse(text, ae_title=check_ae_title(title))
