"""Who may log in, in a file: names, roles, what each may see, and passwords as Argon2 hashes.

The file is JSON, of mode 0600, replaced whole with each change and read again when it has changed. It also holds the
key that session cookies are signed with, so that sessions outlast a restart, and end where the file is made anew.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from ..errors import InvalidArgument
from ..repository.scope import ALL, Scope
from ..server.ae_entry import Issuer, Modality

__all__ = ["LEAST_PASSWORD", "RIGHTS", "ROLES", "User", "Users", "allows", "scope_of"]

#: What a user may do; each role may do what those before it may.
ROLES = ("read", "operate", "administer")
#: What a user of a role may be held to at DICOMweb; `work` is worklists, performed steps and work items.
RIGHTS = ("search", "retrieve", "store", "delete", "work")
#: Characters of a password, and the most that is looked at.
LEAST_PASSWORD, MOST_PASSWORD = 8, 1024
_HINT = "`dicomnet web user add` makes one."
_modalities, _issuers = TypeAdapter(tuple[Modality, ...]), TypeAdapter(tuple[Issuer, ...])
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}").fullmatch


def allows(role: str, needed: str) -> bool:
    """Whether a role may do what another one is needed for."""
    return ROLES.index(role) >= ROLES.index(needed)


@dataclass(frozen=True, slots=True)
class User:
    """A user.

    Attributes:
        name: by which the user logs in.
        role: one of `ROLES`.
        hash: of the password, by Argon2id, with its parameters and salt.
        rights: those of `RIGHTS` that the user has, as far as the role allows.
        scope: the series and patients that the user may see, and whose instances the user may store.
    """

    name: str
    role: str
    hash: str
    rights: tuple[str, ...] = RIGHTS
    scope: Scope = ALL

    @property
    def stamp(self) -> str:
        """Changes with the password: a session of the old one ends."""
        return self.hash[-12:]


class Users:
    """The users of a file; one that is not there has none.

    Args:
        path: of the file.

    Raises:
        InvalidArgument: the file is none of users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hasher = PasswordHasher()  # Argon2id with the parameters of RFC 9106
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._users: dict[str, User] = {}
        self._key = secrets.token_urlsafe(32)
        self._refresh()

    @cached_property
    def _no_one(self) -> str:
        """What an unknown name is compared with: it takes as long as a wrong password."""
        return self._hasher.hash(secrets.token_urlsafe(16))

    @property
    def key(self) -> str:
        """What sessions are signed with."""
        self._refresh()
        return self._key

    def __iter__(self) -> Iterator[User]:
        """All of them, by name."""
        self._refresh()
        return iter(sorted(self._users.values(), key=lambda one: one.name))

    def __len__(self) -> int:
        self._refresh()
        return len(self._users)

    def get(self, name: str) -> User | None:
        """The user of this name."""
        self._refresh()
        return self._users.get(name)

    def verify(self, name: str, password: str) -> User | None:
        """The user, if the password is right; takes some 50 ms and 64 MiB either way."""
        user = self.get(name)
        try:
            self._hasher.verify(user.hash if user else self._no_one, password[:MOST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return None
        return user

    def put(
        self, name: str, password: str, role: str, rights: Iterable[str] = RIGHTS, *, modalities: Iterable[str] = (),
        issuers: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Add a user, or give one another password, role, rights and scope.

        Args:
            name: by which the user logs in.
            password: that the user gives.
            role: one of `ROLES`.
            rights: of `RIGHTS`.
            modalities: of the series that the user may see, and store; none is any.
            issuers: of the Patient IDs, "" for those without one; none is any.

        Raises:
            InvalidArgument: the name, the password, the role, a right, a modality or an issuer is none.
        """
        if not _is_name(name):
            raise InvalidArgument("a user's name is of letters, digits and _ . @ -, at most 64 of them")
        if role not in ROLES:
            raise InvalidArgument(f"{role!r} is no role", hint=f"Roles are {', '.join(ROLES)}.")
        chosen = set(rights)
        if not chosen or not chosen <= set(RIGHTS):
            raise InvalidArgument("a user has one right at least", hint=f"Rights are {', '.join(RIGHTS)}.")
        if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
            raise InvalidArgument(f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters")
        scope = _scope(list(modalities), list(issuers))
        self._refresh()
        self._write({**self._users, name: User(name, role, self._hasher.hash(password), _in_order(chosen), scope)})

    def remove(self, name: str) -> None:
        """Remove a user; sessions of that user end.

        Raises:
            InvalidArgument: there is no such user.
        """
        self._refresh()
        if name not in self._users:
            raise InvalidArgument(f"there is no user {name!r}", hint=f"Those that there are: {self.path}")
        self._write({key: one for key, one in self._users.items() if key != name})

    def _write(self, users: dict[str, User]) -> None:
        text = json.dumps(
            {"key": self._key, "users": {one.name: _document(one) for one in users.values()}},
            indent=1,
        )
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
        except OSError as error:
            raise InvalidArgument(f"{self.path} cannot be written: {error.strerror}") from error
        self._refresh()

    def _refresh(self) -> None:
        with self._lock:
            try:
                stat = self.path.stat()
                stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
                if stamp == self._stamp:
                    return
                values = json.loads(self.path.read_text(encoding="utf-8"))
                users = {name: _user(name, value) for name, value in values["users"].items()}
            except FileNotFoundError:
                self._users, self._stamp = {}, None
                return
            except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidArgument) as error:
                raise InvalidArgument(f"{self.path} is no file of users", hint=_HINT) from error
            self._users, self._stamp, self._key = users, stamp, str(values["key"])


def _user(name: str, value: Any) -> User:
    if value["role"] not in ROLES:
        raise ValueError(value["role"])
    rights = value.get("rights", RIGHTS)
    if not rights or not set(rights) <= set(RIGHTS):  # a right that is not understood is none that may be passed over
        raise ValueError(rights)
    scope = _scope(value.get("modalities", []), value.get("issuers", []))
    return User(str(name), value["role"], str(value["hash"]), _in_order(rights), scope)


def _scope(modalities: Any, issuers: Any) -> Scope:
    try:
        return Scope(frozenset(_modalities.validate_python(modalities)), frozenset(_issuers.validate_python(issuers)))
    except ValidationError as error:
        hint = "A modality has at most 16 capitals, digits, spaces and _; an issuer at most 64 characters."
        raise InvalidArgument("that is no modality, or no issuer of Patient IDs", hint=hint) from error


def _in_order(rights: Iterable[str]) -> tuple[str, ...]:
    return tuple(one for one in RIGHTS if one in set(rights))


def _document(user: User) -> dict[str, Any]:
    rights = {} if user.rights == RIGHTS else {"rights": list(user.rights)}
    scope = {"modalities": sorted(user.scope.modalities), "issuers": sorted(user.scope.issuers)}
    return {"role": user.role, "hash": user.hash, **rights, **{name: found for name, found in scope.items() if found}}


def scope_of(connection: HTTPConnection) -> Scope:
    """What the caller of a request may see: all, where no login is needed."""
    scope: Scope = connection.scope.get("dicomnet.scope", ALL)
    return scope
