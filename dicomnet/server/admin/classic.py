"""The messages of the classic PACS server frameworks, for programs that were written for those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ..ae_entry import AEEntry
from ..messages import MessageRegistry
from .face import Administered

__all__ = ["register_classic"]


class _Data(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Title(_Data):
    """An AE title by its name."""

    ae_title: str = Field(alias="AETitle", min_length=1)


class Update(_Data):
    """An entry, and the title that it had."""

    old: str = Field(min_length=1)
    new: AEEntry


class Association(_Data):
    """An association by its id."""

    id: str = Field(min_length=1)


def register_classic(messages: MessageRegistry, server: Administered) -> None:
    """Take GetAeTitles, AddAeTitle, UpdateAeTitle, RemoveAeTitle, GetClients, DisconnectClient, and the rest."""
    titles = server.base.ae_titles
    messages.owner = ""

    def dump(entry: AEEntry) -> Mapping[str, Any]:
        return entry.model_dump(mode="json")

    def disconnect(given: Association) -> None:
        server.disconnect(given.id)

    messages.add("GetAeTitles", lambda _: {"ae_titles": [dump(one) for one in titles]}, role="read")
    messages.add("AddAeTitle", lambda given: dump(titles.add(given)), role="administer", model=AEEntry)
    messages.add(
        "UpdateAeTitle", lambda given: dump(titles.update(given.old, given.new)), role="administer", model=Update
    )
    messages.add("RemoveAeTitle", lambda given: dump(titles.remove(given.ae_title)), role="administer", model=Title)
    messages.add("GetClients", lambda _: {"clients": [one.brief() for one in server.clients]}, role="read")
    messages.add("DisconnectClient", disconnect, role="operate", model=Association)
    messages.add("PauseServer", lambda _: server.pause(), role="operate")
    messages.add("ResumeServer", lambda _: server.resume(), role="operate")
    messages.add("GetStatus", lambda _: server.status(), role="read")
