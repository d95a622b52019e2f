"""The add-in `media`: makes media of instances that were stored here, when it is asked to (PS3.4 Annex S).

::

    [addin.media]
    form = "iso"
    capacity = "CD"

A disc robot, or a person, takes what comes out; the add-in `exec` runs a program for each event ``media.done``.
Requests are in files: what was asked for is made, and can be asked after, also after a restart.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydicom.dataset import Dataset

from ... import uids
from ...client import media_set
from ...config import parse_size
from ...dataset import codec
from ...errors import DicomNetError, InvalidArgument
from ...services.provider_requests import NormalizedRequest, StoreRequest
from ...services.service_registry import Registering
from ...status import Status
from ..context import AddInContext
from ..hookspecs import hookimpl
from ..kept_files import KeptFiles
from ..settings import FilePath, Table

__all__ = ["Media"]

_CLASS = uids.MEDIA_CREATION_MANAGEMENT
_SERVICE = "Media Creation Management"
_INITIATE, _CANCEL = 1, 2
_ALREADY_BEGUN, _COMPLETED, _IN_PROGRESS, _NOT_FOUND, _CONFLICT = 0xA510, 0xC201, 0xC202, 0x0112, 0x0119
_FILE_SET_ID = re.compile(r"[A-Z0-9_]{1,16}").fullmatch


def _capacity(text: str) -> str:
    if text and text not in media_set.CAPACITIES:
        parse_size(text)
    return text


@dataclass(eq=False)
class Creation:
    """A request, from N-CREATE on.

    Attributes:
        given: its attributes.
        wanted: SOP class by SOP Instance UID.
        profile: what all instances are to fit; empty for none.
        status, info: Execution Status and Execution Status Info.
        copies: of each medium.
        media: what was made.
        failed: reasons by SOP Instance UID.
    """

    given: Any
    wanted: dict[str, str]
    profile: str
    status: str = "IDLE"
    info: str = "NORMAL"
    copies: int = 1
    media: tuple[media_set.Medium, ...] = ()
    failed: tuple[tuple[str, int], ...] = ()

    def packed(self) -> bytes:
        """As the bytes of a file."""
        media = [asdict(one) | {"path": str(one.path)} for one in self.media]
        told = {one: getattr(self, one) for one in ("wanted", "profile", "status", "info", "copies", "failed")}
        return json.dumps(told | {"given": self.given.to_json_dict(), "media": media}).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> Creation:
        """From the bytes of a file.

        Raises:
            ValueError, KeyError, TypeError: they are none of a request.
        """
        said = json.loads(data)
        media = tuple(
            media_set.Medium(**(one | {"path": Path(one["path"]), "instances": tuple(one["instances"])}))
            for one in said.pop("media")
        )
        failed = tuple((uid, why) for uid, why in said.pop("failed"))
        return cls(Dataset.from_json(said.pop("given")), media=media, failed=failed, **said)

    @property
    def has_ended(self) -> bool:
        """Whether it is DONE, or FAILURE."""
        return self.status in ("DONE", "FAILURE")

    def says(self, keyword: str) -> bool:
        """Whether an attribute of YES and NO is YES."""
        return str(self.given.get(keyword, "") or "") == "YES"


class Unmakeable(Exception):
    """A request that fails: Execution Status Info, and the instances that are to blame."""

    def __init__(self, info: str, failed: tuple[tuple[str, int], ...] = ()) -> None:
        super().__init__(info)
        self.info: str = info
        self.failed: tuple[tuple[str, int], ...] = failed


class Media:
    """Makes media of instances that were stored here (PS3.4 Annex S)."""

    class Settings(Table):
        """``[addin.media]``."""

        folder: FilePath | None = None
        """Where media go; left out, `data/media/media` in the server's directory."""
        form: Literal["folder", "zip", "iso"] = "folder"
        """What they are; images need the extra `media`."""
        capacity: Annotated[str, AfterValidator(_capacity)] = ""
        """Bytes of a medium: CD, DVD, DVD-DL, BD, or a size; left out, any number."""
        file_set_id: Annotated[str, Field(pattern="^[A-Z0-9_]{1,16}$")] = "DICOM"
        """What media are called where a request does not say."""
        display: FilePath | None = None
        """A folder with a viewer, which is put on media that ask for one."""
        receive: bool = True
        """Whether instances are stored here to be put on media; with an add-in beside that stores, not."""
        sources: tuple[FilePath, ...] = ()
        """Folders of others, where instances are looked for as UID.dcm."""
        most: Annotated[int, Field(ge=1)] = 1000
        """Requests that are remembered; past it the oldest that have ended are forgotten, or new ones refused."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Make the folders."""
        self.context = context
        self.settings: Media.Settings = context.settings
        self.folder: FilePath = self.settings.folder or context.data / "media"
        self.instances: Path = context.data / "instances"
        for folder in (self.folder, self.instances, self._spool):
            folder.mkdir(parents=True, exist_ok=True)
        text = self.settings.capacity
        self.capacity: int | None = (media_set.CAPACITIES.get(text) or parse_size(text)) if text else None
        self._requests: dict[str, Creation] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "dicomnet-media")
        self._kept: KeptFiles = KeptFiles(context.data / "requests", ".json", context.log)
        self._resume()

    def _resume(self) -> None:
        """Take up what an earlier process was asked for; media that it had begun are begun anew."""
        for uid, data in self._kept.read():
            try:
                creation = self._requests[uid] = Creation.unpacked(data)
            except (ValueError, KeyError, TypeError) as error:
                self.context.log.error("the request %s that was kept cannot be read, and is left: %s", uid, error)
                continue
            if creation.status == "CREATING":
                creation.status, creation.info = "PENDING", "QUEUED"
                self._remove_made(uid)
            if creation.status == "PENDING":
                self._worker.submit(self._make, uid)

    def _remove_made(self, uid: str) -> None:
        suffix = "" if self.settings.form == "folder" else re.escape(f".{self.settings.form}")
        ours = re.compile(rf"{re.escape(uid)}(-\d+)?{suffix}|\.{re.escape(uid)}(-\d+)?{suffix}\.part.*").fullmatch
        for path in self.folder.iterdir():
            if ours(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @property
    def _spool(self) -> Path:
        return self.instances / "incoming"

    @hookimpl
    def services(self, registry: Registering) -> None:
        """Take requests, and the instances for them."""
        registry.on_n_create(_CLASS)(self.create)
        registry.on_n_action(_CLASS)(self.act)
        registry.on_n_get(_CLASS)(self.get)
        if self.settings.receive:
            registry.on_store(spool=str(self._spool), unknown_classes=True)(self.store)

    @hookimpl
    def stop(self) -> None:
        """End with the medium at hand; requests that wait are begun after the next start."""
        self._worker.shutdown(cancel_futures=True)

    # ---- requests ----------------------------------------------------------------------------------------------

    def store(self, request: StoreRequest) -> Status:
        """An instance for media."""
        request.file.commit(f"{request.sop_instance_uid}.dcm", root=self.instances, replace=True)
        return Status.SUCCESS

    def create(self, request: NormalizedRequest) -> Any:
        """N-CREATE: what is wanted is checked; nothing is made yet."""
        given = request.dataset if request.size else codec.from_keywords({})
        uid, references = request.sop_instance_uid, list(given.get("ReferencedSOPSequence") or ())
        refusal = self._refusal(uid, given, references)
        if refusal is not None:
            return refusal
        wanted = {str(one.ReferencedSOPInstanceUID): str(one.ReferencedSOPClassUID) for one in references}
        profile = str(references[0].get("RequestedMediaApplicationProfile", "") or "")
        with self._lock:
            if uid in self._requests:
                return Status(Status.DUPLICATE_SOP_INSTANCE, _SERVICE)
            if not self._has_room():
                return Status(Status.RESOURCE_LIMITATION, _SERVICE, "too many requests")
            creation = Creation(given, wanted, profile)
            if not self._keep(uid, creation):
                return Status(Status.RESOURCE_LIMITATION, _SERVICE, "the request cannot be kept")
            self._requests[uid] = creation
        return Status.SUCCESS, given

    def _keep(self, uid: str, creation: Creation) -> bool:
        try:
            self._kept.put(uid, creation.packed())
        except OSError as error:
            self.context.log.error("the request %s cannot be kept: %s", uid, error.strerror)
            return False
        return True

    def _has_room(self) -> bool:
        if len(self._requests) >= self.settings.most:
            ended = next((uid for uid, one in self._requests.items() if one.has_ended), None)
            if ended is None:
                return False
            self._forget(ended)
        return True

    def _forget(self, uid: str) -> None:
        del self._requests[uid]
        self._kept.remove(uid)

    def _refusal(self, uid: str, given: Any, references: Any) -> Status | None:
        """Why a request cannot be, with the attribute named."""

        def wrong(code: int, keyword: str, why: str) -> Status:
            return Status(code, _SERVICE, why, codec.tags([keyword]) or ())

        if not uids.is_valid(uid):
            return Status(Status.INVALID_SOP_INSTANCE, _SERVICE, "no SOP Instance UID")
        if not references:
            return wrong(Status.MISSING_ATTRIBUTE, "ReferencedSOPSequence", "no instances")
        for keyword in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID"):
            if not all(one.get(keyword) for one in references):
                return wrong(Status.MISSING_ATTRIBUTE, keyword, f"an instance without {keyword}")
        named = str(given.get("StorageMediaFileSetID", "") or "")
        if named and not _FILE_SET_ID(named):
            return wrong(Status.INVALID_ATTRIBUTE_VALUE, "StorageMediaFileSetID", "16 of A-Z, 0-9 and _ at most")
        profiles = {str(one.get("RequestedMediaApplicationProfile", "") or "") for one in references}
        if len(profiles) > 1 or not profiles <= {"", *media_set.PROFILES}:
            why = "one of " + ", ".join(media_set.PROFILES)
            return wrong(Status.INVALID_ATTRIBUTE_VALUE, "RequestedMediaApplicationProfile", why)
        if given.get("IncludeDisplayApplication") == "REQUIRED" and self.settings.display is None:
            return wrong(Status.INVALID_ATTRIBUTE_VALUE, "IncludeDisplayApplication", "there is no viewer here")
        return None

    def act(self, request: NormalizedRequest) -> Status:
        """N-ACTION: begin, or do not."""
        with self._lock:
            creation = self._requests.get(request.sop_instance_uid)
            if creation is None:
                return Status(Status.NO_SUCH_SOP_INSTANCE, _SERVICE, "there is no such request")
            if request.action_type_id == _INITIATE:
                return self._initiate(request, creation)
            if request.action_type_id != _CANCEL:
                return Status(Status.NO_SUCH_ACTION_TYPE, _SERVICE)
            if creation.has_ended:
                return Status(_COMPLETED, _SERVICE)
            if creation.status == "CREATING":
                return Status(_IN_PROGRESS, _SERVICE)
            self._forget(request.sop_instance_uid)
            return Status.SUCCESS

    def _initiate(self, request: NormalizedRequest, creation: Creation) -> Status:
        if creation.status != "IDLE":
            return Status(_ALREADY_BEGUN, _SERVICE)
        copies = int(request.dataset.get("NumberOfCopies", 1) or 1) if request.size else 1
        if not 1 <= copies <= 99:
            return Status(Status.INVALID_ARGUMENT_VALUE, _SERVICE, "from 1 to 99 copies")
        creation.copies, creation.status, creation.info = copies, "PENDING", "QUEUED"
        if not self._keep(request.sop_instance_uid, creation):
            creation.status, creation.info = "IDLE", "NORMAL"
            return Status(Status.RESOURCE_LIMITATION, _SERVICE, "the request cannot be kept")
        self._worker.submit(self._make, request.sop_instance_uid)
        return Status.SUCCESS

    def get(self, request: NormalizedRequest) -> Any:
        """N-GET: how far a request is."""
        with self._lock:
            creation = self._requests.get(request.sop_instance_uid)
            if creation is None:
                return Status(Status.NO_SUCH_SOP_INSTANCE, _SERVICE, "there is no such request")
            found = codec.from_keywords(self._told(creation), creation.given)
        if request.attribute_identifier_list:
            for tag in set(found.keys()) - set(request.attribute_identifier_list):
                del found[tag]
        return found

    def _told(self, creation: Creation) -> dict[str, Any]:
        said: dict[str, Any] = {"ExecutionStatus": creation.status, "ExecutionStatusInfo": creation.info}
        if creation.media:
            said["TotalNumberOfPiecesOfMediaCreated"] = len(creation.media) * creation.copies
            said["ReferencedStorageMediaSequence"] = [
                {"StorageMediaFileSetID": one.file_set_id, "StorageMediaFileSetUID": one.file_set_uid}
                for one in creation.media
            ]
        if creation.failed:
            said["FailedSOPSequence"] = [
                {"ReferencedSOPClassUID": creation.wanted[uid], "ReferencedSOPInstanceUID": uid, "FailureReason": why}
                for uid, why in creation.failed
            ]
        return said

    # ---- making them -------------------------------------------------------------------------------------------

    def _make(self, uid: str) -> None:
        with self._lock:
            creation = self._requests.get(uid)
            if creation is None:
                return  # cancelled
            creation.status, creation.info = "CREATING", "NORMAL"
            self._keep(uid, creation)
        media: tuple[media_set.Medium, ...] = ()
        failed: tuple[tuple[str, int], ...] = ()
        status, info = "DONE", "NORMAL"
        try:
            media = self._made(uid, creation)
        except Unmakeable as error:
            status, info, failed = "FAILURE", error.info, error.failed
        except Exception as error:
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            status, info = "FAILURE", "OUT_OF_SUPPLIES" if full else "MCD_FAILURE"
            self.context.log.exception("the media of %s were not made", uid)
        with self._lock:
            creation.status, creation.info, creation.media, creation.failed = status, info, media, failed
            self._keep(uid, creation)
            self._forget_instances(creation)
        paths = [str(medium.path) for medium in media]
        self.context.publish(status.lower(), uid=uid, copies=creation.copies, info=info, media=paths)

    def _made(self, uid: str, creation: Creation) -> tuple[media_set.Medium, ...]:
        entries = self._entries(creation)
        name = str(creation.given.get("StorageMediaFileSetID", "") or self.settings.file_set_id)
        beside = self.settings.display if creation.given.get("IncludeDisplayApplication") == "REQUIRED" else None
        target = self.folder / (uid if self.settings.form == "folder" else f"{uid}.{self.settings.form}")
        try:
            count = len(media_set.split(entries, self.capacity))
        except InvalidArgument as error:
            raise Unmakeable("INST_OVERSIZED") from error
        if count > 1 and str(creation.given.get("AllowMediaSplitting", "") or "YES") != "YES":
            raise Unmakeable("SET_OVERSIZED")
        made = media_set.write(
            entries, target, form=self.settings.form, capacity=self.capacity, name=name, beside=beside
        )
        return tuple(made)

    def _entries(self, creation: Creation) -> list[media_set.Entry]:
        files = self._files(set(creation.wanted))
        missing = [(uid, _NOT_FOUND) for uid in creation.wanted if uid not in files]
        if missing:
            raise Unmakeable("NO_INSTANCE", tuple(missing))
        entries = []
        for uid, sop_class in creation.wanted.items():
            try:
                with media_set.entries_of([files[uid]], profile=creation.profile) as found:
                    (entry,) = found
            except (DicomNetError, ValueError) as error:
                info = "INST_AP_CONFLICT" if isinstance(error, InvalidArgument) else "PROC_FAILURE"
                raise Unmakeable(info, ((uid, Status.PROCESSING_FAILURE),)) from error
            if str(entry.header.get("SOPClassUID")) != sop_class:
                raise Unmakeable("NO_INSTANCE", ((uid, _CONFLICT),))
            entries.append(entry)
        return entries

    def _files(self, wanted: set[str]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for source in (self.instances, *self.settings.sources):
            for parent, _, names in os.walk(source):
                for name in names:
                    uid = name.removesuffix(".dcm")
                    if uid in wanted and uid not in found:
                        found[uid] = Path(parent, name)
        return found

    def _forget_instances(self, creation: Creation) -> None:
        """What was stored here for these media goes, unless it is to stay, or others wait for it."""
        if creation.status != "DONE" or creation.says("PreserveCompositeInstancesAfterMediaCreation"):
            return
        waiting = [one for one in self._requests.values() if one.status in ("IDLE", "PENDING", "CREATING")]
        for uid in set(creation.wanted) - {uid for one in waiting for uid in one.wanted}:
            (self.instances / f"{uid}.dcm").unlink(missing_ok=True)
