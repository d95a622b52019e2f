"""What a workstation is told: the table ``[addin.workstation]`` of its server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..errors import InvalidArgument
from ..repository.holdings import HoldingsSettings
from ..server.directory import ServerDirectory
from ..server.settings import RESTART, AETitle, Seconds, Size, Table

__all__ = ["NAME", "WorkstationSettings", "place_of"]

#: As the add-in is enabled.
NAME = "workstation"


class WorkstationSettings(Table):
    """``[addin.workstation]``."""

    directory: Annotated[Path | None, RESTART] = None
    """Where its instances are; left out, `data/workstation` in the server's directory."""
    durability: Annotated[Literal["disk", "os"], RESTART] = "disk"
    """What an acknowledged instance survives: a loss of power, or the end of the program."""
    quota: Size | None = None
    """The most that it holds, such as "200g"; what was not looked at for longest goes. Left out, no bound."""
    open_for: Annotated[Seconds, RESTART] = 1800.0
    """Seconds for which a study that was looked at counts as open: the quota spares it."""
    end_of_study: Annotated[Seconds, RESTART] = 60.0
    """Seconds without a further instance after which a study has ended."""
    parallel: Annotated[int, Field(ge=1, le=16), RESTART] = 2
    """Jobs, retrieves and sends, that run at a time."""
    dicomweb: Annotated[Mapping[str, str], RESTART] = Field(default_factory=dict)
    """Remote archives over DICOMweb, by name: an address, or a name of peers.toml."""
    priors_from: Annotated[tuple[AETitle, ...], RESTART] = ()
    """Where earlier studies of a patient are fetched from, once a study has ended: AE titles that the server knows."""
    priors: Annotated[int, Field(ge=1, le=50), RESTART] = 3
    """The most earlier studies of a patient that are fetched."""


def place_of(server: ServerDirectory) -> tuple[Path, HoldingsSettings]:
    """Where the workstation of a server is, and how it holds instances; for what is done beside it.

    Raises:
        InvalidArgument: the server is none, or was not started yet.
    """
    settings = server.settings()
    if NAME not in settings.addins.enable:
        hint = "`dicomnet workstation create` makes one."
        raise InvalidArgument(f'the server {server.name} is no workstation: it does not enable "{NAME}"', hint=hint)
    table = settings.table(NAME, WorkstationSettings)
    directory = server.path / (table.directory or Path("data", NAME))
    directory.mkdir(parents=True, exist_ok=True)
    return directory, HoldingsSettings(durability=table.durability)
