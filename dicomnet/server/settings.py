"""The settings of a server: one TOML file, environment overrides, and every mistake told at once.

`Settings` is an immutable snapshot: what began with one keeps it, a reload makes another. Fields marked `RESTART` are
read when the server starts; a reload lists them (`Settings.reloaded`) and changes nothing of them.

A variable overrides a field by its table and name: ``DICOMNET_LISTEN__PORT=11113`` is ``port`` of ``[listen]``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from ..config import Limits, Timeouts, check_ae_title, parse_seconds, parse_size
from ..net.tls import TLS
from ..uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_valid
from .setting_errors import Problem, SettingsInvalid, problems_of

__all__ = [
    "FILE_NAME",
    "RESTART",
    "SHARED",
    "AccessSettings",
    "AddInSettings",
    "AdminSettings",
    "AuditSettings",
    "ListenSettings",
    "LogSettings",
    "Problem",
    "ServerSettings",
    "Settings",
    "SettingsInvalid",
    "Table",
    "TlsSettings",
    "WebSettings",
    "as_written",
    "kept",
]

#: The settings file in a server's directory.
FILE_NAME = "server.toml"
ENVIRONMENT_PREFIX = "DICOMNET_"


class _Restart:
    """Marks a field that is read when the server starts."""

    def __repr__(self) -> str:
        return "RESTART"


#: In the annotation of a field: a change of it waits for the next start.
RESTART = _Restart()


class _Shared:
    """Marks a field that the nodes of one archive may have in common."""

    def __repr__(self) -> str:
        return "SHARED"


#: In the annotation of a field: an archive's database may have it for all nodes; what a node's own file, or its
#: environment, says comes before that.
SHARED = _Shared()


def _seconds(value: Any) -> Any:
    return parse_seconds(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _uid(value: str) -> str:
    if not is_valid(value):
        raise ValueError("expected a UID: digits and dots, at most 64 characters")
    return value


def _relative(path: Path, info: ValidationInfo) -> Path:
    """A path as it is meant: relative to the settings file."""
    base = (info.context or {}).get("directory")
    return Path(os.path.join(base, path.expanduser())) if base is not None else path.expanduser()


AETitle = Annotated[str, AfterValidator(check_ae_title)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]
UID = Annotated[str, AfterValidator(_uid)]
FilePath = Annotated[Path, AfterValidator(_relative)]
OptionalPath = Annotated[FilePath | None, BeforeValidator(lambda value: None if value == "" else value)]
#: What an administrator may do, each including those before it.
Role = Literal["read", "operate", "administer"]
_AnyTable = TypeVar("_AnyTable", bound="Table")


class Table(BaseModel):
    """A table of the settings file: frozen, and it knows every key that it may have. Add-ins derive theirs from it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True, validate_default=True
    )


class ServerSettings(Table):
    """What the server is."""

    ae_title: Annotated[AETitle, RESTART]
    """The AE title that callers must ask for."""
    aliases: Annotated[tuple[AETitle, ...], SHARED] = ()
    """Other called AE titles that are taken for the server's own, as after a move from another system."""
    any_called_title: Annotated[bool, SHARED] = False
    """Whether a caller may ask for any AE title at all."""
    description: str = ""
    """What the server is for, for people."""
    implementation_class_uid: Annotated[UID, RESTART] = IMPLEMENTATION_CLASS_UID
    """Implementation Class UID in negotiation (PS3.7 Annex D.3.3.2)."""
    implementation_version_name: Annotated[str, Field(max_length=16), RESTART] = IMPLEMENTATION_VERSION_NAME
    """Implementation Version Name in negotiation."""
    temporary_directory: Annotated[FilePath, RESTART] = Path("tmp")
    """Where data sets stay while they arrive; on the file system where they are to be kept."""
    start_mode: Literal["automatic", "manual", "paused", "disabled"] = "automatic"
    """Whether `start-all` and the machine's boot start the server, whether it starts paused, or never."""
    workers: Annotated[int, Field(ge=1, le=64), RESTART] = 1
    """Processes that serve, under one administration; `per_title` and `per_address` count in each by itself."""
    user: Annotated[str, RESTART] = ""
    """The user to become once the ports are bound, where the server is started as root; empty stays."""


class ListenSettings(Table):
    """Where the server listens for associations."""

    host: Annotated[str, RESTART] = "127.0.0.1"
    """The address to bind: a name, an IPv4 or IPv6 address; "0.0.0.0" and "::" are all of the machine."""
    port: Annotated[Port | None, RESTART] = 11112
    """The port for plain associations; 0 picks a free one. Leave it out with `tls_port` alone for TLS only."""
    tls_port: Annotated[Port | None, RESTART] = None
    """The port for associations over TLS; it needs the table [tls]."""
    plain: Annotated[bool, RESTART] = True
    """Whether there is a plain port at all."""
    send_buffer: Annotated[Size | None, RESTART] = None
    """Bytes of the socket's send buffer; left out, the system decides and adapts."""
    receive_buffer: Annotated[Size | None, RESTART] = None
    """Bytes of the socket's receive buffer; left out, the system decides and adapts."""


class TlsSettings(Table):
    """How the TLS port is secured, and our certificate towards destinations.

    Changed files are read again by themselves.
    """

    cert: FilePath
    """Our certificate with its intermediates, PEM."""
    key: OptionalPath = None
    """Its private key, PEM; left out, it is in `cert`."""
    key_password: SecretStr | None = None
    """Password of the private key."""
    ca: OptionalPath = None
    """The authorities that the certificates of callers must come from, PEM."""
    client_certificate: Literal["required", "optional", "ignored"] = "required"
    """What is asked of callers."""
    crl: OptionalPath = None
    """Revocation lists of the authorities, PEM."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""
    profile: Literal["B.12", "B.10"] = "B.12"
    """The secure transport profile of PS3.15 Annex B."""

    def tls(self) -> TLS:
        """The value that listeners and clients take."""
        given = self.model_dump(exclude={"key_password"}, exclude_none=True)
        password = None if self.key_password is None else self.key_password.get_secret_value()
        return TLS(**given, key_password=password)


class AccessSettings(Table):
    """Who may call."""

    anonymous: Annotated[bool, SHARED] = True
    """Whether AE titles may call that the server does not know; see `dicomnet server ae add`."""
    require_address: Annotated[bool, SHARED] = False
    """Whether a known AE title may call only from the addresses that are kept for it."""
    per_title: Annotated[Annotated[int, Field(ge=1)] | None, SHARED] = None
    """Associations at a time of one calling AE title; left out, any number."""
    per_address: Annotated[Annotated[int, Field(ge=1)] | None, SHARED] = None
    """Associations at a time from one address; left out, any number."""
    max_clients: Annotated[int, Field(ge=1, le=100_000), RESTART, SHARED] = 100
    """Associations at a time, in all; one more is rejected as transient (local limit exceeded)."""
    max_pdu: Annotated[Size, Field(ge=4096, le=0xFFFFFFFF), RESTART, SHARED] = 256 << 10
    """Maximum Length that is announced, in bytes."""


class TimeoutSettings(Table):
    """How long each wait may take, in seconds, or as in "500ms", "2m"."""

    client: Annotated[Seconds | None, RESTART, SHARED] = 300
    """An association without a message is ended."""
    reconnect: Annotated[Seconds, SHARED] = 30
    """How long a request of ours tries to reach a destination that refuses connections."""
    add_in: Annotated[Seconds, Field(ge=1), SHARED] = 60
    """How long a handler may take before its request is answered with 0110H, processing failure; a second at least."""
    drain: Annotated[Seconds, SHARED] = 30
    """What running messages get when the server stops."""


class LogSettings(Table):
    """The server's log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written. At "info" and above there are no patient data."""
    file: OptionalPath = Path("logs/server.log")
    """Where it goes; left out by `file = ""`, standard error. SIGUSR1 opens it anew after a rotation."""
    format: Literal["json", "text"] = "json"
    """A JSON object on each line, or text for people."""


class AdminSettings(Table):
    """The admin interface."""

    socket: Annotated[FilePath, RESTART] = Path("run/admin.sock")
    """The Unix socket; its directory is made with mode 0750, the socket has 0660."""
    enabled: Annotated[bool, RESTART] = True
    """Whether there is an admin interface."""
    tcp_port: Annotated[Port | None, RESTART] = None
    """A port of the loopback interface for the same, with the token of `run/admin.token`; health checks need none."""
    group_role: Role = "operate"
    """What members of the socket's group may do; the server's own user and root administer."""
    users: Mapping[str, Role] = Field(default_factory=dict)
    """What single users may do, by user name or number."""
    events: Annotated[int, Field(ge=16, le=1_000_000), RESTART] = 10_000
    """Events that are kept for subscribers that come back."""


def _loopback(host: str) -> str:
    """An address of this machine alone: there is no login yet."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        raise ValueError("the web port has no login: expected an address of this machine, such as 127.0.0.1")
    return host


class WebSettings(Table):
    """The web port: what add-ins serve over HTTP, each below its name; health and metrics."""

    host: Annotated[str, AfterValidator(_loopback), RESTART] = "127.0.0.1"
    """The address to bind: one of this machine. A reverse proxy with a login serves others."""
    port: Annotated[Port | None, RESTART] = None
    """The port; 0 picks a free one, left out there is none."""


class AuditSettings(Table):
    """The audit trail: messages of PS3.15 Annex A.5."""

    enabled: bool = True
    """Whether an audit trail is kept."""
    file: OptionalPath = Path("logs/audit.log")
    """The file of the trail, a message a line."""
    syslog: str = ""
    """An audit record repository, "host:port", by syslog over TLS (RFC 5425); what it cannot take yet stays on disk."""
    ca: OptionalPath = None
    """The authorities that its certificate must come from; left out, the system's."""
    buffer: Annotated[int, Field(ge=1)] = 100_000
    """Messages that are kept while the repository cannot be reached."""


class AddInSettings(Table):
    """Which add-ins run. Each has a table of its own, ``[addin.NAME]``."""

    enable: tuple[str, ...] = ("verification",)
    """The add-ins that run, in this order: names of installed ones, of the folder `addins/`, or "module:object"."""
    optional: tuple[str, ...] = ()
    """Those of them without which the server starts all the same where they are broken."""
    failures: Annotated[int, Field(ge=1)] = 5
    """Failures in a row that suspend an add-in."""
    abandoned: Annotated[int, Field(ge=1)] = 8
    """Handlers that never returned, past which their add-in is suspended."""
    threads: Annotated[int, Field(ge=1, le=1024), RESTART] = 32
    """Threads of each handler that may block; requests beyond that wait for one."""


def _defaults() -> Any:
    """An empty table, validated where it is used, so that its paths are resolved there."""
    return {}


class Settings(Table):
    """All settings of a server; `load` reads them from its file."""

    server: ServerSettings
    listen: ListenSettings = Field(default_factory=_defaults)
    tls: TlsSettings | None = None
    access: AccessSettings = Field(default_factory=_defaults)
    timeouts: TimeoutSettings = Field(default_factory=_defaults)
    log: LogSettings = Field(default_factory=_defaults)
    admin: AdminSettings = Field(default_factory=_defaults)
    web: WebSettings = Field(default_factory=_defaults)
    audit: AuditSettings = Field(default_factory=_defaults)
    addins: AddInSettings = Field(default_factory=_defaults)
    addin: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """The table of each add-in, as its own model takes it."""

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Settings:
        """Read a settings file, or ``server.toml`` of a directory, and the environment.

        Raises:
            SettingsInvalid: every mistake, each with its file, table, field, and what was expected.
        """
        path = Path(file)
        path = path / FILE_NAME if path.is_dir() else path
        written = _read(path)
        overrides = _environment()
        return cls.parse(_merged(written, overrides), file=str(path), directory=path.parent, overrides=overrides)

    @classmethod
    def parse(
        cls,
        tables: Mapping[str, Any],
        *,
        file: str = "settings",
        directory: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Check tables that were read already.

        Raises:
            SettingsInvalid: every mistake.
        """
        found: list[Problem] = []
        settings: Settings | None = None
        try:
            settings = cls.model_validate(dict(tables), context={"directory": directory})
        except ValidationError as error:
            found = problems_of(error, cls, file, overrides or {}, ENVIRONMENT_PREFIX)
        found += _unfit(tables, file)
        if found or settings is None:
            raise SettingsInvalid(found)
        return settings

    def of_worker(self, directory: Path, *, web: bool) -> Settings:
        """The same for one of the workers, which keeps its own in a directory of its own.

        Args:
            directory: of the worker.
            web: whether it is the one that has the web port.
        """
        share = -(-self.access.max_clients // self.server.workers)
        return self.model_copy(
            update={
                "access": self.access.model_copy(update={"max_clients": share}),
                "admin": self.admin.model_copy(
                    update={"socket": directory / "admin.sock", "enabled": True, "tcp_port": None}
                ),
                "web": self.web if web else self.web.model_copy(update={"port": None}),
            }
        )

    def within(self, directory: Path) -> Settings:
        """The same, with relative paths beneath a directory; for settings that were not read from there."""
        tables = self.model_dump(exclude_unset=True)  # what was not given stays a default, which others may come before
        return type(self).model_validate(tables, context={"directory": directory})

    def with_shared(self, tables: Mapping[str, Mapping[str, Any]]) -> Settings:
        """The same with what all nodes of an archive have in common, where it is not given here.

        Args:
            tables: values of fields, by table; they fit.
        """
        given = self.given()
        update = {}
        for name, values in tables.items():
            more = {key: value for key, value in values.items() if f"{name}.{key}" not in given}
            update[name] = getattr(self, name).model_copy(update=more)
        return self.model_copy(update=update)

    def given(self) -> frozenset[str]:
        """The fields that the file or the environment gives, as ``table.field``: the others are defaults."""
        tables = {name: getattr(self, name) for name in self.model_fields_set}
        given = {name: table.model_fields_set for name, table in tables.items() if isinstance(table, Table)}
        return frozenset(f"{name}.{key}" for name, keys in given.items() for key in keys)

    def table(self, name: str, model: type[_AnyTable], *, file: str = FILE_NAME) -> _AnyTable:
        """The settings of an add-in, by its own model.

        Raises:
            SettingsInvalid: every mistake in its table.
        """
        try:
            return model.model_validate(dict(self.addin.get(name, {})))
        except ValidationError as error:
            raise SettingsInvalid(
                problems_of(error, model, file, {}, ENVIRONMENT_PREFIX, table=f"addin.{name}")
            ) from error

    def limits(self) -> Limits:
        """The bounds of every association."""
        return Limits(
            max_pdu=self.access.max_pdu,
            associations=self.access.max_clients,
            handler_threads=self.addins.threads,
        )

    def network_timeouts(self) -> Timeouts:
        """The waits of every association."""
        return Timeouts(idle=self.timeouts.client)

    def reloaded(self, new: Settings) -> tuple[Settings, tuple[str, ...]]:
        """What holds after a reload: ``new`` but for what needs a restart, and the fields of that which changed."""
        return kept(self, new, "")

    def changes(self, new: Settings) -> tuple[str, ...]:
        """The fields, as ``table.field``, in which another snapshot differs."""
        return tuple(_differences(self, new, ""))


def as_written(text: str) -> Any:
    """A value from the text that a settings file would have for it; what is none there is text itself."""
    with suppress(tomllib.TOMLDecodeError):
        found = tomllib.loads(f"value = {text}")
        if found.keys() == {"value"}:
            return found["value"]
    return text.strip()


class _Sources(BaseSettings):
    """The same tables, as pydantic-settings reads them from the environment."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="ignore", case_sensitive=False
    )

    server: ServerSettings
    listen: ListenSettings
    tls: TlsSettings
    access: AccessSettings
    timeouts: TimeoutSettings
    log: LogSettings
    admin: AdminSettings
    web: WebSettings
    audit: AuditSettings
    addins: AddInSettings
    addin: dict[str, dict[str, Any]]


class Place(NamedTuple):
    """Where a field stands."""

    name: str
    restart: bool


def fields_of(model: type[Table]) -> Iterator[Place]:
    """The fields of a table, and whether each needs a restart."""
    for name, field in model.model_fields.items():
        yield Place(name, RESTART in field.metadata)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        expected = "a settings file; `dicomnet server create` makes one"
        problem = Problem(str(path), "", "", "there is no such file", expected)
        raise SettingsInvalid([problem]) from error
    except OSError as error:
        problem = Problem(str(path), "", "", f"cannot be read: {error.strerror}", "a readable file")
        raise SettingsInvalid([problem]) from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise SettingsInvalid([Problem(str(path), "", "", f"not TOML: {error}", "TOML 1.0")]) from error


def _environment() -> dict[str, Any]:
    """What the environment overrides, by table; only names of tables count, for other programs have variables too."""
    tables = {name for name, _ in fields_of(Settings)}
    mine = re.compile(rf"{ENVIRONMENT_PREFIX}({'|'.join(sorted(tables))})__", re.IGNORECASE)
    if not any(mine.match(name) for name in os.environ):
        return {}
    return {name: value for name, value in EnvSettingsSource(_Sources)().items() if value}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def _unfit(tables: Mapping[str, Any], file: str) -> list[Problem]:
    """What no single field can know."""
    listen, found = tables.get("listen"), []
    if not isinstance(listen, Mapping):
        return []
    if listen.get("tls_port") is not None and "tls" not in tables:
        found.append(Problem(file, "listen", "tls_port", "there is no table [tls]", "a [tls] table with cert and key"))
    if listen.get("plain") is False and listen.get("tls_port") is None:
        what = "there is neither a plain nor a TLS port"
        found.append(Problem(file, "listen", "plain", what, "tls_port, or plain = true"))
    return found


def kept(old: _AnyTable, new: _AnyTable, prefix: str) -> tuple[_AnyTable, tuple[str, ...]]:
    """What holds after a change: ``new`` but for what needs a restart, and the names of that which changed."""
    old_values: dict[str, Any] = {}
    waiting: list[str] = []
    for name, restart in fields_of(type(old)):
        before, after = getattr(old, name), getattr(new, name)
        if restart and before != after:
            old_values[name] = before
            waiting.append(f"{prefix}{name}")
        elif isinstance(before, Table) and isinstance(after, Table):
            old_values[name], inner = kept(before, after, f"{prefix}{name}.")
            waiting += inner
    return new.model_copy(update=old_values), tuple(waiting)


def _differences(old: Table, new: Table, prefix: str) -> Iterator[str]:
    for name, _ in fields_of(type(old)):
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(before, Table) and isinstance(after, Table):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif before != after:
            yield f"{prefix}{name}"
