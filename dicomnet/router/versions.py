"""The rules that hold, and those that held: read from ``rules.toml``, kept in the database by version.

A file that is wrong changes nothing: the rules that hold stay, and the mistake is told. What was decided with one
version is sent by that version, even when another holds by then.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, insert, select

from ..errors import InvalidArgument
from ..log import log
from ..repository.database import Database
from . import schema
from .plan import Plan, PlanInvalid, Problem
from .settings import RULES_NAME

__all__ = ["PlanVersions", "read_file"]


def read_file(path: Path) -> tuple[Plan, str]:
    """The plan in a file, and the digest of its bytes.

    Raises:
        PlanInvalid: all that is wrong with it.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanInvalid([Problem(str(path), f"it cannot be read: {error}")]) from error
    return Plan.from_toml(text), hashlib.sha256(data).hexdigest()


class PlanVersions:
    """The versions of a router's rules.

    Args:
        directory: of the router.
        database: with its tables.

    Attributes:
        problem: what is wrong with the file; empty where it holds.
    """

    def __init__(self, directory: Path, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.path: Path = directory / RULES_NAME
        self._database, self._clock = database, clock
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self.problem: str = ""
        self._version, self._plan, self._digest = 0, Plan(), ""
        self._of = lru_cache(64)(self._load)
        self._latest()

    @property
    def current(self) -> tuple[int, Plan]:
        """The version that holds, and its plan."""
        with self._lock:
            return self._version, self._plan

    def of(self, version: int) -> Plan:
        """The plan of a version.

        Raises:
            InvalidArgument: it is no longer known.
        """
        return self._of(version)

    def _latest(self) -> None:
        table = schema.plan
        with self._database.read() as connection:
            row = connection.execute(select(table).order_by(table.c.version.desc()).limit(1)).first()
        if row is not None:
            self._version, self._digest, self._plan = row.version, row.digest, Plan.from_json(row.data)

    def _load(self, version: int) -> Plan:
        table = schema.plan
        with self._database.read() as connection:
            data = connection.execute(select(table.c.data).where(table.c.version == version)).scalar()
        if data is None:
            raise InvalidArgument(f"the version {version} of the rules is not known any more")
        return Plan.from_json(data)

    def refresh(self) -> bool:
        """Look whether the file has changed, and go over to what it says; whether another version holds now."""
        try:
            found = os.stat(self.path)
            stamp = found.st_mtime_ns, found.st_size, found.st_ino
        except OSError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            plan, digest = read_file(self.path)
        except PlanInvalid as error:
            self.problem = str(error)
            log.error("%s is not taken, and the rules of version %d hold: %s", self.path, self._version, error)
            return False
        self.problem = ""
        if digest == self._digest:
            return False
        self._keep(plan, digest)
        log.info("rules of version %d: %d rules, %d destinations", self._version, len(plan.rules),
                 len(plan.destinations))  # fmt: skip
        return True

    def _keep(self, plan: Plan, digest: str) -> None:
        values = {"at": self._clock(), "digest": digest, "data": plan.to_json()}

        def work(connection: Connection) -> int:
            adding = insert(schema.plan).values(values).returning(schema.plan.c.version)
            return int(connection.execute(adding).scalar_one())

        version = self._database.transaction(work)
        with self._lock:
            self._version, self._plan, self._digest = version, plan, digest
