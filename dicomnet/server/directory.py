"""Servers on this machine: a directory for each, below one place, found by name."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ..errors import InvalidArgument, escaped
from .directory_lock import holder
from .setting_errors import SettingsInvalid
from .settings import FILE_NAME, Settings

__all__ = ["ENVIRONMENT", "ServerDirectory", "at", "every_server", "home", "resolve"]

ENVIRONMENT = "DICOMNET_SERVERS"
_DELETED = ".deleted"
_HEAD = "# The settings of a dicomnet server; `dicomnet server check` checks them. docs/reference has every field.\n\n"


def home() -> Path:
    """The place of all servers: ``DICOMNET_SERVERS``, else by who we are."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/dicomnet/servers")
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data) / "dicomnet" / "servers"


def resolve(name: str) -> ServerDirectory:
    """The server of a name, or in a directory.

    Raises:
        InvalidArgument: there is none.
    """
    found = at(name)
    if not found.exists:
        near = get_close_matches(name, [one.name for one in every_server()], n=1)
        raise InvalidArgument(
            f'there is no server "{escaped(name)}" in {home()}',
            hint=f"Is it {near[0]}?" if near else "`dicomnet server create` makes one.",
        )
    return found


def at(name: str) -> ServerDirectory:
    """The directory that a name means, whether there is a server in it or not: with a slash it is a path."""
    return ServerDirectory(Path(name).absolute() if os.sep in name or name in (".", "..") else home() / name)


def every_server(place: Path | None = None) -> Iterator[ServerDirectory]:
    """All servers below a place, `home` by default, by name."""
    place = home() if place is None else place
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        one = ServerDirectory(path)
        if one.exists:
            yield one


@dataclass(frozen=True, slots=True)
class ServerDirectory:
    """The directory of one server."""

    path: Path

    @property
    def name(self) -> str:
        """As people call it."""
        return self.path.name

    @property
    def file(self) -> Path:
        """Its settings."""
        return self.path / FILE_NAME

    @property
    def exists(self) -> bool:
        """Whether there is a server in it, which was not deleted."""
        return self.file.is_file() and not (self.path / _DELETED).exists()

    @property
    def was_deleted(self) -> bool:
        """Whether there was one."""
        return self.file.is_file() and (self.path / _DELETED).exists()

    def settings(self) -> Settings:
        """Its settings; see `Settings.load`."""
        return Settings.load(self.file)

    def process(self) -> int | None:
        """The process that runs it; None where none does."""
        return holder(self.path)

    def create(self, values: Mapping[str, Any]) -> Settings:
        """Write its settings, with values by ``table.field``, and make its folders.

        Raises:
            SettingsInvalid: they are wrong; nothing is written.
            InvalidArgument: there is a server already.
        """
        if self.exists:
            hint = "`dicomnet server edit` changes it."
            raise InvalidArgument(f"there is a server in {self.path} already", hint=hint)
        document = tomlkit.parse(_HEAD)
        settings = self._checked(document, values)
        (self.path / "addins").mkdir(parents=True, exist_ok=True)
        self._write(document)
        (self.path / _DELETED).unlink(missing_ok=True)
        return settings

    def edit(self, values: Mapping[str, Any]) -> Settings:
        """Change fields of its settings, keeping all else of the file; checked before anything is written.

        None takes a field out, so that its default holds, and with its last field a table.
        """
        try:
            document = tomlkit.parse(self.file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, TOMLKitError) as error:
            raise InvalidArgument(f"{self.file}: {error}") from error
        settings = self._checked(document, values)
        self._write(document)
        return settings

    def _checked(self, document: tomlkit.TOMLDocument, values: Mapping[str, Any]) -> Settings:
        for key, value in values.items():
            if value is None:
                _take_out(document, key.split("."))
                continue
            *tables, field = key.split(".")
            table: Any = document
            for one in tables:
                table = table.setdefault(one, tomlkit.table())
            table[field] = value
        return Settings.parse(document.unwrap(), file=str(self.file), directory=self.path)

    def _write(self, document: tomlkit.TOMLDocument) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # A name that cannot be known before: what the server's user put there would be written to, or through.
        temporary = self.path / f".{FILE_NAME}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            with os.fdopen(os.open(temporary, flags, 0o666), "w", encoding="utf-8") as file:
                self._keep_owner(file.fileno())
                file.write(tomlkit.dumps(document))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.file)
        finally:
            temporary.unlink(missing_ok=True)

    def _keep_owner(self, descriptor: int) -> None:
        """Have the new file be read by those who read the old one: the server, which need not be who writes."""
        if not hasattr(os, "fchown") or not self.file.is_file() or self.file.is_symlink():
            return
        before = self.file.lstat()
        try:
            os.fchown(descriptor, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
        except PermissionError:
            return  # of a group that is not ours: it keeps the mode of a new file
        os.fchmod(descriptor, before.st_mode & 0o777)

    def delete(self) -> None:
        """Forget the server; its directory, and all that is in it, stays.

        Raises:
            InvalidArgument: it runs.
        """
        if self.process() is not None:
            raise InvalidArgument(f"the server {self.name} runs", hint="`dicomnet server stop` stops it.")
        (self.path / _DELETED).touch()

    def restore(self) -> None:
        """Take back that it was deleted."""
        (self.path / _DELETED).unlink(missing_ok=True)

    def log_file(self) -> Path | None:
        """Where its log goes."""
        return self.settings().log.file

    def summary(self) -> dict[str, Any]:
        """The server at a glance, whether it runs or not."""
        process = self.process()
        found: dict[str, Any] = {"name": self.name, "directory": str(self.path), "process": process}
        try:
            settings = self.settings()
        except SettingsInvalid as error:
            return {**found, "ae_title": None, "state": "broken", "problems": [one.as_json() for one in error.problems]}
        return {
            **found,
            "ae_title": settings.server.ae_title,
            "description": settings.server.description,
            "start_mode": settings.server.start_mode,
            "host": settings.listen.host,
            "port": settings.listen.port,
            "tls_port": settings.listen.tls_port,
            "state": "stopped" if process is None else "running",
        }


def _take_out(table: Any, names: list[str]) -> None:
    if names[0] not in table:
        return
    if len(names) > 1:
        _take_out(table[names[0]], names[1:])
        if table[names[0]]:
            return
    del table[names[0]]


def value_of(text: str) -> tuple[str, Any]:
    """A key and a value from ``TABLE.FIELD=VALUE``; the value as TOML has it, and else as text.

    Raises:
        InvalidArgument: it is no such thing.
    """
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", key.strip()):
        raise InvalidArgument(f'"{escaped(text)}" is not TABLE.FIELD=VALUE', hint="Write it like listen.port=11113.")
    try:
        return key.strip(), tomlkit.value(value.strip())
    except (TOMLKitError, ValueError):
        return key.strip(), value.strip()
