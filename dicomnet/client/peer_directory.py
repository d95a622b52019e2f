"""Peers by name: `peers.toml`, of the system and of the user.

A table for each peer; all but its address may be left out, and that of one that has DICOMweb alone::

    [archive]
    address = "dicoms://ARCHIVE@pacs.local:2762"
    calling = "WS1"                                  # our AE title for it
    tls = {ca = "ca.pem", cert = "ws1.pem"}          # paths are relative to the file; see `TLS`
    identity = {name = "jane", passcode = "…"}       # our user; see `UserIdentity.named`
    relax = ["no priority"]                          # and the rest of its profile; see `Peer`
    character_set = "ISO_IR 100"
    transcode = "if needed"
    window = 4
    associations = 4                                 # and the rest of what a `Client` takes
    web = "https://pacs.local/dicomweb"              # its DICOMweb, which has the same tls and identity

The system's file is ``/etc/dicomnet/peers.toml``, the user's ``$XDG_CONFIG_HOME/dicomnet/peers.toml``, whose peers
replace those of the same name. ``DICOMNET_PEERS`` names one file instead of both.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..config import Entity, check_ae_title
from ..dataset.transcoding import check_policy
from ..errors import InvalidArgument, escaped
from ..log import log
from ..net.tls import TLS
from ..protocol.negotiation import UserIdentity
from ..protocol.peer_profile import Peer, Relaxation

__all__ = ["Known", "WebKnown", "find", "find_web", "is_name", "load", "load_web", "places"]

ENVIRONMENT = "DICOMNET_PEERS"
SYSTEM = "/etc/dicomnet/peers.toml"

#: What is an address rather than a name has one of these.
_OF_ADDRESSES = re.compile(r"[:@/\[\]]").search
#: The forms of the defined terms of Specific Character Set (PS3.3 Section C.12.1.1.2); empty is the default one.
_is_character_set = re.compile(r"(ISO_IR \d+|ISO 2022 IR \d+|GB18030|GBK)?").fullmatch
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Known:
    """A peer that a file knows by name.

    Attributes:
        name: as it is called.
        peer: its profile.
        options: what else a client of it takes: ``calling``, ``associations``, ``idle``, ``requests_per_association``.
        place: where it is written: the file, and the line.
    """

    name: str
    peer: Peer
    options: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class WebKnown:
    """A peer whose DICOMweb a file knows by name.

    Attributes:
        name: as it is called.
        url: of its DICOMweb.
        login: name and password for HTTP Basic, or None.
        tls: how its connections are secured, or None.
        place: where it is written: the file, and the line.
    """

    name: str
    url: str
    login: tuple[str, str] | None
    tls: TLS | None
    place: str


def is_name(text: str) -> bool:
    """Whether this is meant as the name of a peer, rather than as an address."""
    return bool(text) and not _OF_ADDRESSES(text)


def places() -> list[str]:
    """The files that are looked at, in this order; a later one has the last word."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return [named]
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return [SYSTEM, os.path.join(home, "dicomnet", "peers.toml")]


_has_password = re.compile(r"^[^#\n]*pass(code|word)\s*=", re.MULTILINE).search
_OTHERS = 0o077  # permissions of the group and of the others
_told: set[str] = set()


def load() -> dict[str, Known]:
    """All peers, by name.

    Raises:
        InvalidArgument: a file cannot be read, or says something that makes no sense: which line, which key.
    """
    return {name: one for name, (one, _) in _load().items() if one is not None}


def load_web() -> dict[str, WebKnown]:
    """All peers that have DICOMweb, by name; raises as `load` does."""
    return {name: one for name, (_, one) in _load().items() if one is not None}


def find_web(name: str) -> WebKnown:
    """The peer of this name that has DICOMweb.

    Raises:
        InvalidArgument: there is none; names like it are told. Or of `load`.
    """
    known = load_web()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3)
    raise InvalidArgument(
        f'"{escaped(name)}" is no peer with DICOMweb in {" or ".join(places())}',
        hint=f"Is it {' or '.join(near)}?" if near else "Write its address, as https://pacs.local/dicomweb.",
    )


def _load() -> dict[str, _Both]:
    known: dict[str, _Both] = {}
    for path in places():
        known |= _read(path, must_exist=path == os.environ.get(ENVIRONMENT))
    return known


def find(name: str) -> Known:
    """The peer of this name.

    Raises:
        InvalidArgument: there is none; names like it are told. Or of `load`.
    """
    known = load()
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=3)
    where = " or ".join(places())
    raise InvalidArgument(
        f'"{escaped(name)}" is neither the name of a peer in {where}, nor an address: the port is missing',
        hint=f"Is it {' or '.join(near)}?" if near else "Write AET@host:port, for example ARCHIVE@pacs.local:11112.",
    )


def _read(path: str, *, must_exist: bool) -> dict[str, _Both]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        if _has_password(text) and os.name == "posix" and os.stat(path).st_mode & _OTHERS and path not in _told:
            _told.add(path)
            log.warning("%s has passwords, and other users may read it: chmod 600 it", path)
        tables = tomllib.loads(text)
    except FileNotFoundError as error:
        if must_exist:
            raise InvalidArgument(f"{path}: there is no such file", hint=f"{ENVIRONMENT} names it.") from error
        return {}
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise InvalidArgument(f"{path}: {error}") from error
    return {name: _known(path, text, name, table) for name, table in tables.items()}


def _known(path: str, text: str, name: str, table: Any) -> _Both:
    place = f"{path}, line {_line_of(text, name)}"
    where = f"{place}: peer {escaped(name)}"
    if not _is_name(name):
        raise InvalidArgument(f"{where}: a name is made of letters, digits, and _ . -")
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where}: it is no table", hint=f"Write [{name}], and its keys below.")
    for key in table:
        if key not in _PROFILE and key not in _OPTIONS and key not in ("address", "web"):
            near = get_close_matches(key, [*_PROFILE, *_OPTIONS, "address", "web"], n=1)
            hint = f"Is it {near[0]}?" if near else None
            raise InvalidArgument(f"{where}: there is no key {escaped(key)}", hint=hint)
    if "address" not in table and "web" not in table:
        raise InvalidArgument(f"{where}: it has no address", hint='Write address = "AET@host:port".')
    folder = os.path.dirname(os.path.abspath(path))

    def value(key: str, convert: Callable[[Any, str], Any]) -> Any:
        try:
            return convert(table[key], folder)
        except (InvalidArgument, TypeError, ValueError) as error:
            raise InvalidArgument(f"{where}: {key}: {error}") from error

    web = _web(name, place, table, value) if "web" in table else None
    if "address" not in table:
        return None, web
    entity = value("address", lambda given, _: Entity.parse(_text(given)))
    profile = {key: value(key, convert) for key, convert in _PROFILE.items() if key in table}
    options = {key: value(key, convert) for key, convert in _OPTIONS.items() if key in table}
    try:
        return Known(name, Peer(entity, **profile), options, place), web
    except (InvalidArgument, TypeError, ValueError) as error:
        raise InvalidArgument(f"{where}: {error}") from error


def _web(name: str, place: str, table: dict[str, Any], value: Callable[..., Any]) -> WebKnown:
    """Its DICOMweb."""

    def login(given: Any, folder: str) -> tuple[str, str]:
        _identity(given, folder)
        return _text(given["name"]), _text(given.get("passcode", ""))

    known = value("identity", login) if "identity" in table else None
    tls = value("tls", _tls) if "tls" in table else None
    return WebKnown(name, value("web", lambda given, _: _text(given)), known, tls, place)


def _line_of(text: str, name: str) -> int:
    """The line of a peer's table, as far as that can be told by its looks."""
    header = re.compile(rf"""\s*\[\s*["']?{re.escape(name)}["']?\s*[\].]|\s*["']?{re.escape(name)}["']?\s*[=.]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if header.match(line)), 1)


# ---- values, each from what TOML makes of it, and the folder of the file ---------------------------------------


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{given!r} is no text")
    return given


def _texts(given: Any) -> list[str]:
    if not isinstance(given, list):
        raise TypeError(f"{given!r} is no list")
    return [_text(one) for one in given]


def _table(given: Any, keys: set[str]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TypeError(f"{given!r} is no table")
    unknown = sorted(set(given) - keys)
    if unknown:
        raise ValueError(f"there is no {escaped(unknown[0])}: it has {', '.join(sorted(keys))}")
    return given


def _tls(given: Any, folder: str) -> TLS:
    table = dict(_table(given, {one.name for one in fields(TLS)} - {"client_certificate"}))
    for key in ("ca", "cert", "key", "crl"):
        if key in table:
            table[key] = os.path.join(folder, os.path.expanduser(_text(table[key])))
    return TLS(**table)


def _identity(given: Any, _: str) -> UserIdentity:
    table = _table(given, {"name", "passcode", "confirm"})
    if "name" not in table:
        raise ValueError("it has no name")
    passcode = None if "passcode" not in table else _text(table["passcode"])
    return UserIdentity.named(_text(table["name"]), passcode, confirm=bool(table.get("confirm", False)))


def _relax(given: Any, _: str) -> frozenset[Relaxation]:
    names = {rule.value for rule in Relaxation}
    for one in _texts(given):
        if one not in names:
            near = get_close_matches(one, names, n=1)
            raise ValueError(f'there is no rule "{escaped(one)}"' + (f"; is it {near[0]}?" if near else ""))
    return frozenset(rule for rule in Relaxation if rule.value in given)


def _character_set(given: Any, _: str) -> str:
    terms = _text(given).split("\\")
    if not all(_is_character_set(term) for term in terms):
        raise ValueError(f'"{escaped(given)}" is no Specific Character Set; ISO_IR 192 is one')
    return _text(given)


def _window(given: Any, _: str) -> tuple[int, int]:
    if isinstance(given, int) and not isinstance(given, bool):
        return _whole(given, ""), 1
    if not isinstance(given, list) or len(given) != 2 or not all(isinstance(one, int) for one in given):
        raise TypeError(f"{given!r} is neither a whole number nor a pair of them")
    return given[0], given[1]


def _whole(given: Any, _: str) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise TypeError(f"{given!r} is no whole number above 0")
    return given


def _seconds(given: Any, _: str) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or given < 0:
        raise TypeError(f"{given!r} is no number of seconds")
    return given


_Both = tuple[Known | None, WebKnown | None]
_Convert = Callable[[Any, str], Any]
_PROFILE: dict[str, _Convert] = {
    "tls": _tls,
    "identity": _identity,
    "relax": _relax,
    "character_set": _character_set,
    "transcode": lambda given, _: check_policy(given if isinstance(given, str) else _texts(given)),
    "window": _window,
    "implementation_class_uid": lambda given, _: _text(given),
}
_OPTIONS: dict[str, _Convert] = {
    "calling": lambda given, _: check_ae_title(_text(given)),
    "associations": _whole,
    "idle": _seconds,
    "requests_per_association": _whole,
}
