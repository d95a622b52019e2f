"""The add-in `storage-folder`: keeps what is stored as files, at paths made of attributes by a template.

::

    [addins]
    enable = ["verification", "storage-folder"]

    [addin.storage-folder]
    template = "{StudyDate}/{StudyInstanceUID}/{SOPInstanceUID}.dcm"
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from ...errors import OutputFileError
from ...services.provider_requests import StoreRequest
from ...services.service_registry import Registering
from ...status import Status
from ..context import AddInContext
from ..health import Check, disk_check
from ..hookspecs import hookimpl
from ..settings import Table
from ..storage import FolderStorage, check_template

__all__ = ["StorageFolder"]


def _checked(template: str) -> str:
    check_template(template)
    return template


class StorageFolder:
    """Keeps what is stored as files in a folder (PS3.4 Annex B)."""

    class Settings(Table):
        """``[addin.storage-folder]``."""

        folder: Path | None = None
        """Where the files go; left out, `data/storage-folder` in the server's directory."""
        template: Annotated[str, AfterValidator(_checked)] = "{StudyInstanceUID}/{SOPInstanceUID}.dcm"
        """The path of a file below the folder, made of attributes by their keywords."""
        duplicates: Literal["replace", "keep", "refuse"] = "replace"
        """Of an instance that is there: the new one replaces it, the old one stays, or 0111H is answered."""
        durable: bool = True
        """Whether an instance is acknowledged only when the disk has confirmed it."""
        sop_classes: tuple[str, ...] = ()
        """The SOP classes that are stored; left out, every storage class, and those that dicomnet does not know."""
        transfer_syntaxes: tuple[str, ...] = ()
        """The transfer syntaxes that are taken, in order of preference; left out, any."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Make the folder."""
        self.context = context
        self.settings: StorageFolder.Settings = context.settings
        self.storage: FolderStorage = FolderStorage(self.settings.folder or context.data)
        self.storage.spool.mkdir(parents=True, exist_ok=True)

    @hookimpl
    def services(self, registry: Registering) -> None:
        """Take C-STORE."""
        registry.on_store(
            self.settings.sop_classes or None,
            spool=str(self.storage.spool),
            durable=self.settings.durable,
            transfer_syntaxes=self.settings.transfer_syntaxes,
            unknown_classes=not self.settings.sop_classes,
        )(self.store)

    @hookimpl
    def reload(self, context: AddInContext) -> None:
        """Templates and duplicates hold at once; the rest with the next start."""
        self.settings = context.settings

    @hookimpl
    def health(self) -> Iterable[Check]:
        """Whether there is room."""
        return [disk_check(self.storage.root)]

    def store(self, request: StoreRequest) -> Status:
        """Put the file that has arrived in its place."""
        settings = self.settings
        assert request.file.path is not None
        attributes = read_attributes(request.file.path, check_template(settings.template))
        attributes["SOPInstanceUID"] = request.sop_instance_uid
        path = self.storage.place(settings.template, attributes)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            request.file.commit(path, replace=settings.duplicates == "replace")
        except OutputFileError as error:
            if error.errno != errno.EEXIST:
                raise
            return Status(0x0111, service="C-STORE") if settings.duplicates == "refuse" else Status.SUCCESS
        self.context.publish("stored", sop_instance_uid=request.sop_instance_uid, size=request.size)
        return Status.SUCCESS


def read_attributes(path: str, keywords: Iterable[str]) -> dict[str, str]:
    """A few attributes of a file, as text; what it has not is empty."""
    import pydicom  # noqa: PLC0415 - heavy, and loaded with the first instance

    names = list(keywords)
    dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=names)
    return {name: str(dataset.get(name, "") or "") for name in names}
