"""Writes docs/server/settings.md, the reference of a server's settings, from the model itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from dicomnet.archive.add_in import ArchiveAddIn
from dicomnet.router.add_in import RouterAddIn
from dicomnet.server.settings import RESTART, SHARED, Settings, Table
from dicomnet.server.shipped.dicom_log import DicomLog
from dicomnet.server.shipped.exec import Exec
from dicomnet.server.shipped.media import Media
from dicomnet.server.shipped.printer import Printer
from dicomnet.server.shipped.storage_folder import StorageFolder
from dicomnet.server.shipped.webhook import Webhook

PAGE = Path(__file__).parent.parent / "docs" / "server" / "settings.md"
ADDINS: dict[str, type[Table]] = {
    "storage-folder": StorageFolder.Settings, "dicom-log": DicomLog.Settings, "webhook": Webhook.Settings,
    "exec": Exec.Settings, "archive": ArchiveAddIn.Settings,
    "router": RouterAddIn.Settings, "printer": Printer.Settings,
    "media": Media.Settings,
}  # fmt: skip
HEAD = """# Settings of a server

This page is made from the model by `tools/server_settings.py`. Times are in seconds, or as in "500ms" and "2m"; sizes
in bytes, or as in "64k". Paths are relative to the file. Fields with a star wait for a restart; the others hold from
the next reload on. Fields with a plus may be set once for all nodes of an archive, in its database: what the file, or
the environment, of a node says comes before that ([more than one machine](../how-to/scale.md)).
"""


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    """Its lines."""
    yield HEAD
    for name, field in Settings.model_fields.items():
        model = table_in(field.annotation)
        if model is not None:
            yield from table(name, model)
    for name, model in ADDINS.items():
        yield from table(f"addin.{name}", model)


def table_in(annotation: Any) -> type[Table] | None:
    """The table that a field is."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, Table):
            return one
    return None


def table(name: str, model: type[Table]) -> Iterator[str]:
    """One table of settings."""
    yield f"## [{name}]\n"
    yield f"{' '.join((model.__doc__ or '').split())}\n"
    yield "| field | default | what |"
    yield "|---|---|---|"
    for key, field in model.model_fields.items():
        star = (" *" if RESTART in field.metadata else "") + (" +" if SHARED in field.metadata else "")
        yield f"| `{key}`{star} | {default_of(field)} | {' '.join((field.description or '').split())} |"
    yield ""


def default_of(field: Any) -> str:
    """What holds where nothing is written."""
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else "empty"
    if field.default is None or field.default == "":
        return "none"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
