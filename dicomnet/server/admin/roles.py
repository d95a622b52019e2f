"""Who may do what: by the credentials of the process at the other end of the socket, or by a token."""

from __future__ import annotations

import grp
import hmac
import os
import pwd
from dataclasses import dataclass

from ..settings import AdminSettings, Role

__all__ = ["Caller", "allows", "role_of"]

_RANK = {"read": 1, "operate": 2, "administer": 3}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        uid, gid, pid: of the process, on the Unix socket; None over TCP.
        name: for the audit trail.
    """

    uid: int | None
    gid: int | None
    pid: int | None

    @property
    def name(self) -> str:
        """The user's name, or number."""
        if self.uid is None:
            return "tcp"
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def allows(role: Role | None, needed: Role) -> bool:
    """Whether a role includes another."""
    return role is not None and _RANK[role] >= _RANK[needed]


def role_of(caller: Caller, settings: AdminSettings, group: int | None, authorization: str, token: str) -> Role | None:
    """What a caller may do; None is nothing.

    Args:
        caller: who.
        settings: whose users and group have roles.
        group: of the socket.
        authorization: the header of that name.
        token: what it must hold over TCP.
    """
    if caller.uid is None:
        given = authorization.partition(" ")[2] if authorization.lower().startswith("bearer ") else ""
        return "administer" if token and hmac.compare_digest(given.encode(), token.encode()) else None
    if caller.uid in (0, os.geteuid()):
        return "administer"
    for key in (caller.name, str(caller.uid)):
        if key in settings.users:
            return settings.users[key]
    return settings.group_role if group is not None and _is_member(caller, group) else None


def _is_member(caller: Caller, group: int) -> bool:
    if caller.gid == group:
        return True
    try:
        return caller.name in grp.getgrgid(group).gr_mem
    except KeyError:
        return False
