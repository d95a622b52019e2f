"""The add-in `dicom-log`: writes every PDU and message, both ways, with patient data left out.

::

    [addin.dicom-log]
    datasets = true
"""

from __future__ import annotations

from pathlib import Path

from ...client.log import MessageLog
from ...protocol.seen import Seen
from ..context import AddInContext
from ..hookspecs import hookimpl
from ..settings import Table

__all__ = ["DicomLog"]


class DicomLog:
    """Writes PDUs and messages to a file that `dicomnet dump` shows."""

    #: Fragments of data sets are seen, too; what of them is written, the settings say.
    spy_data = True

    class Settings(Table):
        """``[addin.dicom-log]``."""

        file: Path | None = None
        """The file; left out, `data/dicom-log/messages.jsonl` in the server's directory."""
        datasets: bool = False
        """Whether data sets are written, too: codes, numbers and UIDs alone, unless patient data are."""
        patient_data: bool = False
        """Whether nothing is left out but what proves a user's identity."""

    @hookimpl
    def start(self, context: AddInContext) -> None:
        """Open the file."""
        settings: DicomLog.Settings = context.settings
        path = settings.file or context.data / "messages.jsonl"
        self.log: MessageLog = MessageLog(path, datasets=settings.datasets, patient_data=settings.patient_data)

    @hookimpl
    def spy(self, seen: Seen) -> None:
        """Write what was seen; in a thread of our own, so that no association waits for the disk."""
        self.log.tell(seen)

    @hookimpl
    def stop(self) -> None:
        """Close the file."""
        self.log.close()
