"""What a router is told: ``router.toml`` in its directory, made with the router, and its defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ..errors import InvalidArgument
from ..repository.application import read_settings
from ..repository.disk import Watermarks
from ..server.setting_errors import problems_of
from ..server.settings import AETitle, Port, Seconds, Table

__all__ = ["FILE_NAME", "RULES_NAME", "RouterSettings"]

FILE_NAME, RULES_NAME = "router.toml", "rules.toml"

_TEMPLATE = """\
# A router of dicomnet. What stands behind a # is a default. What it does with what arrives is in rules.toml.

ae_title = "{ae_title}"
host = "{host}"
port = {port}

# Where the queues are: "" is a file in this directory; a PostgreSQL server by its URL.
# database = "postgresql://router@localhost/router"

# What an acknowledged instance survives: "disk" a loss of power, "os" the end of this program.
# durability = "disk"

# How long instances stay in the spool after they were sent, for a look back: seconds.
# keep = 3600

# How full the disk may get: instances are refused, associations rejected, all is well again.
# [watermarks]
# refuse = 0.95
# reject = 0.98
# resume = 0.93
"""
_RULES = """\
# What becomes of what arrives. `dicomnet router rules check {directory}` reads it without a router.
# A rule: when it fires, and what it does. Without any rule all that arrives is held.

# [destinations.ARCHIVE]
# address = "ARCHIVE@pacs.example:11112"

# [[rules]]
# name = "CT to the archive"
# when = {{ field = "Modality", equals = "CT" }}
# actions = [{{ do = "forward", to = ["ARCHIVE"] }}]
"""


class RouterSettings(Table):
    """The settings of a router."""

    ae_title: AETitle = "ROUTER"
    """What callers have to call, and what it calls with."""
    any_called_title: bool = False
    """Whether a caller may call any AE title, which rules may ask for."""
    host: str = "127.0.0.1"
    """Where it listens."""
    port: Port = 11112
    """The port; 0 picks a free one."""
    database: str = ""
    """URL of the queues; empty: SQLite in the router's directory."""
    spool: str = "spool"
    """Directory of the instances, relative to the router's."""
    durability: Literal["disk", "os"] = "disk"
    """What an acknowledged instance survives."""
    keep: Seconds = 3600.0
    """How long instances stay in the spool after they were sent or dropped."""
    ledger: Seconds = 90 * 86400.0
    """How long it is remembered what became of each instance."""
    associations: int = 100
    """How many callers at a time."""
    watermarks: Watermarks = Watermarks()
    """How full the disk may get."""

    @classmethod
    def load(cls, directory: Path) -> RouterSettings:
        """The settings of a router.

        Raises:
            InvalidArgument: there is no router, or its settings make no sense: which, and where.
        """
        return cls._checked(read_settings(directory, FILE_NAME, "router"), str(directory / FILE_NAME))

    @classmethod
    def _checked(cls, values: dict[str, Any], file: str) -> RouterSettings:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            said = "; ".join(map(str, problems_of(error, cls, file, {}, "")))
            raise InvalidArgument(said) from error

    @classmethod
    def make(cls, directory: Path, **chosen: Any) -> RouterSettings:
        """Make the directory of a new router, with its files; those that are there are loaded and stay.

        Args:
            directory: of the router.
            chosen: settings by name, which a new router is made with, and which come before those of an old one.

        Raises:
            InvalidArgument: it cannot be made, or of `load`.
        """
        path, rules = directory / FILE_NAME, directory / RULES_NAME
        usual = cls._checked(chosen, "the options")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                text = _TEMPLATE.format(ae_title=usual.ae_title, host=usual.host, port=usual.port)
                if usual.database:
                    text = text.replace("\n# database", f'\ndatabase = "{usual.database}"\n# database')
                # A URL of a database may have a password in it.
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                    file.write(text)
            if not rules.exists():
                rules.write_text(_RULES.format(directory=directory), encoding="utf-8")
        except OSError as error:
            raise InvalidArgument(f"{directory} cannot be made: {error.strerror}") from error
        known = cls.load(directory)
        return cls._checked(known.model_dump(exclude_unset=True) | chosen, "the options")
