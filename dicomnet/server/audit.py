"""The base service `audit`: the audit trail of PS3.15 Annex A.5, to a file, and to a repository by syslog over TLS.

A message is on disk before `record` returns. What the repository has not taken yet waits in a queue on disk, and is
sent in order when it can be reached again.
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import DicomNetError, InvalidArgument
from ..net.tls import TLS
from .audit_message import Participant, Subject, is_alert, message, process_id
from .base import AuditTrail
from .settings import Settings

__all__ = ["AuditFile", "NoTrail", "SyslogSender", "open_trail"]

log: logging.Logger = logging.getLogger("dicomnet.server")

# RFC 5424: facility 10 (security), severity 5 (notice).
_PRIORITY = 10 * 8 + 5
_BOM = "\ufeff"
#: Seconds to reach the repository, and between two attempts at first and at last.
CONNECT = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
_DEFAULT_PORT = 6514


class NoTrail:
    """Keeps no trail, where the settings want none."""

    def record(self, event: str, **facts: Any) -> None:
        """Record nothing."""

    def close(self) -> None:
        """There is nothing to write."""


class AuditFile:
    """The audit trail of one server.

    Args:
        source: its AE title.
        file: where messages go, one a line; None for none.
        sender: who passes them on; None for none.
    """

    def __init__(self, source: str, file: Path | None, sender: SyslogSender | None = None) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._sender = sender
        self._descriptor = -1
        self.lost: int = 0
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def record(self, event: str, **facts: Any) -> None:
        """Record one event.

        Args:
            event: a name of `audit_message.EVENTS`.
            facts: ``participants`` and ``subjects`` as in `audit_message.message`, ``outcome``, ``what`` in words,
                and ``user`` and ``address`` of who did it, where that is all there is to say; ``role`` of this server,
                by default "application".
        """
        mine = Participant(process_id(), (self._source,), role=facts.get("role", "application"))
        others: Iterable[Participant] = facts.get("participants", ())
        user = facts.get("user")
        if user is not None:
            address: str = facts.get("address", "")
            others = (*others, Participant(str(user), requestor=not is_alert(event), address=address))
        subjects: Iterable[Subject] = facts.get("subjects", ())
        text = message(
            event, self._source, (mine, *others), subjects,
            outcome=facts.get("outcome", "minor" if event.endswith("alert") else "success"),
            description=facts.get("what", ""),
        )  # fmt: skip
        with self._lock:
            self._write(text)

    def _write(self, text: str) -> None:
        try:
            if self._descriptor >= 0:
                os.write(self._descriptor, f"{text}\n".encode())
            if self._sender is not None:
                self._sender.put(text)
        except (OSError, sqlite3.Error) as error:
            self.lost += 1
            log.error("an audit message cannot be kept: %s", getattr(error, "strerror", None) or type(error).__name__)

    def close(self) -> None:
        """Let the sender send what it can, and close the file."""
        if self._sender is not None:
            self._sender.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SyslogSender:
    """Sends messages to an audit record repository (RFC 5424 over TLS, RFC 5425), from a queue on disk.

    Args:
        address: ``host:port``.
        tls: how it is secured.
        queue: the file of the queue.
        most: messages that may wait; past it the newest is refused.
        source: whom they are from.
    """

    def __init__(self, address: str, tls: TLS, queue: Path, most: int, source: str) -> None:
        host, colon, port = address.rpartition(":")
        self._address = (host, int(port)) if colon and port.isdigit() else (address, _DEFAULT_PORT)
        self._tls = tls
        self._most = most
        self._source = source
        queue.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(queue, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("CREATE TABLE IF NOT EXISTS waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT)")
        self._changed = threading.Condition()
        self._stopped = False
        self._connection: ssl.SSLSocket | None = None
        self._thread = threading.Thread(target=self._run, name="dicomnet-audit", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many messages are still to be sent."""
        with self._changed:
            return int(self._database.execute("SELECT count(*) FROM waiting").fetchone()[0])

    def put(self, text: str) -> None:
        """Keep a message until it is sent.

        Raises:
            OSError: too many wait.
        """
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head = f"<{_PRIORITY}>1 {stamp} {socket.gethostname()} dicomnet {process_id()} IHE+RFC-3881 - "
        with self._changed:
            count = self._database.execute("SELECT count(*) FROM waiting").fetchone()[0]
            if count >= self._most:
                raise OSError(None, f"{count} messages wait for the audit repository")
            self._database.execute("INSERT INTO waiting (line) VALUES (?)", (head + _BOM + text,))
            self._changed.notify()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next() is not None)
                if self._stopped and (self._next() is None or self._connection is None):
                    return
            try:
                self._send_all()
                pause = FIRST_PAUSE
            except (OSError, DicomNetError) as error:
                self._hang_up()
                log.warning("the audit repository cannot be reached: %s", error)
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped, pause)
                    if self._stopped:
                        return
                pause = min(pause * 2, LONGEST_PAUSE)

    def _next(self) -> tuple[int, str] | None:
        row: tuple[int, str] | None = self._database.execute(
            "SELECT id, line FROM waiting ORDER BY id LIMIT 1"
        ).fetchone()
        return row

    def _send_all(self) -> None:
        while True:
            with self._changed:
                row = self._next()
            if row is None:
                return
            data = row[1].encode()
            self._connect().sendall(b"%d %s" % (len(data), data))
            with self._changed:
                self._database.execute("DELETE FROM waiting WHERE id = ?", (row[0],))

    def _connect(self) -> ssl.SSLSocket:
        if self._connection is None:
            sock = socket.create_connection(self._address, CONNECT)
            context: ssl.SSLContext = self._tls.client_context()
            self._connection = context.wrap_socket(sock, server_hostname=self._address[0])
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        """Send what waits, if the repository is there; the rest is sent after the next start."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(CONNECT)
        self._hang_up()
        self._database.close()


def open_trail(settings: Settings, directory: Path) -> AuditTrail:
    """The trail that the settings want.

    Raises:
        InvalidArgument: it cannot be kept where they say.
    """
    rules, title = settings.audit, settings.server.ae_title
    if not rules.enabled:
        return NoTrail()
    sender = None
    try:
        if rules.syslog:
            own = settings.tls.tls() if settings.tls is not None else TLS()
            tls = TLS(ca=rules.ca, cert=own.cert, key=own.key, key_password=own.key_password)
            sender = SyslogSender(rules.syslog, tls, directory / "data" / "audit.sqlite", rules.buffer, title)
        return AuditFile(title, rules.file, sender)
    except (OSError, sqlite3.Error) as error:
        raise InvalidArgument(f"the audit trail cannot be kept in {rules.file}: {error}") from error
