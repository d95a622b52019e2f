"""Which settings the nodes of an archive may have in common, and what they may be.

Keys are the names of ``archive.toml`` and ``[addin.archive]``; those of the server have their table before them, as
``access.per_title``. The models are those of the settings' files, and so are the errors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any

from pydantic import Field, ValidationError, create_model
from pydantic_core import to_jsonable_python

from ..errors import InvalidArgument, escaped
from ..log import log
from ..repository.setting_snapshots import SettingSnapshots, Snapshot
from ..server.setting_errors import Problem, SettingsInvalid, model_in, problems_of
from ..server.settings import RESTART, SHARED, AccessSettings, ServerSettings, Settings, Table, TimeoutSettings
from .settings import TOLD, ArchiveSettings
from .table import ArchiveTable

__all__ = [
    "KEYS",
    "LOOK_BACK",
    "Key",
    "Refused",
    "checked",
    "described",
    "differences",
    "fitted",
    "require_keys",
    "tables_of",
    "usable",
]

#: How many snapshots back a node looks for one that it can use.
LOOK_BACK = 100
_PLACE = "settings of all nodes"
_TABLES: dict[str, type[Table]] = {"server": ServerSettings, "access": AccessSettings, "timeouts": TimeoutSettings}


@dataclass(frozen=True, slots=True)
class Key:
    """A setting that nodes may have in common.

    Attributes:
        name: as it is written.
        default: what holds where it is not set.
        restart: whether a change waits for the next start.
        what: it is for.
    """

    name: str
    default: Any
    restart: bool
    what: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A snapshot that a node cannot use, and why."""

    number: int
    why: str


def _part(name: str, model: type[Table], **more: Any) -> type[Table]:
    """A table of those fields of a model that nodes may have in common."""
    fields: dict[str, Any] = {
        key: (field.rebuild_annotation(), Field(field.default, description=field.description))
        for key, field in model.model_fields.items() if SHARED in field.metadata
    }  # fmt: skip
    return create_model(name, __base__=Table, **fields, **more)


_PARTS = {name: _part(f"Shared{model.__name__}", model) for name, model in _TABLES.items()}
_MODEL = _part("SharedSettings", ArchiveTable, **{name: (part, Field({})) for name, part in _PARTS.items()})


def _keys() -> Iterator[Key]:
    models: dict[str, type[Table]] = {"": ArchiveTable, **_TABLES}
    for table, model in models.items():
        for name, field in model.model_fields.items():
            if SHARED in field.metadata:
                default = to_jsonable_python(field.default)
                about = " ".join((field.description or "").split())
                yield Key(f"{table}.{name}" if table else name, default, RESTART in field.metadata, about)


#: All of them, by name.
KEYS: dict[str, Key] = {key.name: key for key in _keys()}


def _own() -> frozenset[str]:
    """What only a node's own file may say, not the settings of all nodes."""
    of_server: set[str] = set()
    for table, field in Settings.model_fields.items():
        model = model_in(field.annotation)
        of_server |= {f"{table}.{name}" for name in (model.model_fields if model is not None else ())}
    of_archive = {*ArchiveTable.model_fields, *(one.name for one in dataclasses.fields(ArchiveSettings))}
    return frozenset({*of_server, *of_archive, *Settings.model_fields} - KEYS.keys())


_OWN = _own()


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return nested


def _parsed(values: Mapping[str, Any]) -> Table:
    """Values by the models.

    Raises:
        SettingsInvalid: every one that does not fit.
    """
    try:
        return _MODEL.model_validate(_nested(values))
    except ValidationError as error:
        raise SettingsInvalid(problems_of(error, _MODEL, _PLACE, {}, "")) from error


def require_keys(names: Iterable[str]) -> None:
    """Refuse what is no setting of all nodes.

    Raises:
        SettingsInvalid: every one that is none, with what is near it.
    """
    problems = []
    for name in names:
        table, _, field = name.rpartition(".")
        if name in _OWN and name not in KEYS:
            expected = "it in the node's own file, archive.toml or server.toml"
            problems.append(Problem(_PLACE, table, field, "each node has its own", expected))
        elif name not in KEYS:
            near = [key for key in KEYS if key.endswith(f".{name}")] or get_close_matches(name, [*KEYS, *_OWN], n=1)
            expected = f"{near[0]}?" if near else "one of those that are listed"
            problems.append(Problem(_PLACE, table[:64], field[:64], "there is no such setting", expected))
    if problems:
        raise SettingsInvalid(problems)


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are kept, in JSON.

    Raises:
        SettingsInvalid: every key that is none, or every value that does not fit.
    """
    require_keys(values)
    _require_text(values)
    dumped = _parsed(values).model_dump(mode="json", exclude_unset=True)
    return {key: _at(dumped, key) for key in values}


def _require_text(values: Mapping[str, Any]) -> None:
    """Refuse what a command line has of bytes that are no UTF-8: no database and no answer takes it."""
    problems = []
    for key, value in values.items():
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            table, _, field = key.rpartition(".")
            problems.append(Problem(_PLACE, table, field, "the value is no text", "UTF-8"))
    if problems:
        raise SettingsInvalid(problems)


def _at(values: Mapping[str, Any], key: str) -> Any:
    table, _, name = key.rpartition(".")
    return (values[table] if table else values)[name]


def _known(values: Mapping[str, Any]) -> Table:
    """Values by the models; a key that only a later version knows is left out."""
    return _parsed({key: value for key, value in values.items() if key in KEYS})


def tables_of(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a snapshot says of the server, by table and field.

    Raises:
        SettingsInvalid: see `fitted`.
    """
    model = _known(values)
    tables = {name: getattr(model, name) for name in _TABLES}
    return {name: {key: getattr(one, key) for key in one.model_fields_set} for name, one in tables.items()}


def fitted(given: ArchiveSettings, values: Mapping[str, Any], *, told: bool = True) -> ArchiveSettings:
    """A node's settings with what all have in common, where its own do not say otherwise.

    Args:
        given: its own.
        values: of a snapshot.
        told: False leaves out who is told what: its address need not be known yet.

    Raises:
        InvalidArgument: a value does not fit, or not to this node's own.
    """
    model = _known(values)
    names = model.model_fields_set - given.given - _TABLES.keys() - (set() if told else set(TOLD))
    return dataclasses.replace(given, **{name: getattr(model, name) for name in names})


def usable(
    given: ArchiveSettings, snapshots: SettingSnapshots, *, told: bool = True
) -> tuple[ArchiveSettings, Snapshot, Refused | None]:
    """The newest snapshot that a node can use, whole; the settings with it, and the newest, if it is another.

    Raises:
        SettingsUnavailable: the database cannot be asked.
    """
    refused: Refused | None = None
    for snapshot in chain(snapshots.newest(LOOK_BACK), [Snapshot()]):
        try:
            tables_of(snapshot.require())
            return fitted(given, snapshot.values, told=told), snapshot, refused
        except InvalidArgument as error:
            refused = refused or Refused(snapshot.number, error.message)
    raise InvalidArgument("this node can use no settings")  # its own are settings: they were read


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The keys that are not as they were."""
    return [
        key for key in sorted({*before, *after}) if key not in before or key not in after or before[key] != after[key]
    ]


def described(snapshot: Snapshot, own: Mapping[str, Any]) -> dict[str, Any]:
    """A snapshot for people: each setting, what it is for all nodes, and what holds here.

    Args:
        snapshot: which.
        own: what the node's own file or environment says, by key.
    """
    settings = []
    for key in KEYS.values():
        is_set = key.name in snapshot.values
        for_all = snapshot.values.get(key.name, key.default)
        here = own.get(key.name, for_all)
        source = "node" if key.name in own else "all" if is_set else "default"
        settings.append({"key": key.name, "value": to_jsonable_python(here), "from": source, "for_all": for_all,
                         "set": is_set, "default": key.default, "restart": key.restart, "what": key.what})  # fmt: skip
    unknown = {key: value for key, value in snapshot.values.items() if key not in KEYS}
    return {**snapshot.as_json(), "settings": settings, "unknown": unknown}


def say_unknown(snapshot: Snapshot) -> None:
    """One line in the log for what a later version says."""
    unknown: Sequence[str] = sorted(snapshot.values.keys() - KEYS.keys())
    if unknown:
        log.warning("snapshot %d of the settings of all nodes has what this version does not know: %s", snapshot.number,
                    escaped(", ".join(unknown)[:200]))  # fmt: skip
