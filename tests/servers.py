"""Servers for the tests of the server framework."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from lxml import etree

import dicomnet as dn
from dicomnet.server import Server, Settings
from dicomnet.server.events import Event
from dicomnet.services import presentation_contexts

TITLE = "SERVER"


def make_settings(**tables: Any) -> Settings:
    """Settings of a server on a free port that logs to standard error."""
    tables["server"] = {"ae_title": TITLE, **tables.get("server", {})}
    tables["listen"] = {"port": 0, **tables.get("listen", {})}
    tables["log"] = {"file": "", **tables.get("log", {})}
    return Settings.parse(tables)


def write_settings(directory: Any, text: str = "") -> None:
    """A settings file in a server's directory."""
    directory.mkdir(exist_ok=True)
    (directory / "server.toml").write_text(f'[server]\nae_title = "{TITLE}"\n[listen]\nport = 0\n{text}')


def call(server: Server, *sop_classes: str, calling: str = "TESTER", called: str = TITLE, **options: Any) -> Any:
    """An association with a server."""
    host, port = server.address
    contexts = presentation_contexts.sop_classes(*sop_classes)
    return dn.connect(f"{called}@{host}:{port}", calling=calling, contexts=contexts, **options)


def alerts(trail: Path) -> list[tuple[str, ...]]:
    """Of each security alert in an audit trail the code of its type, the outcome, who did it, and the description."""
    found: list[tuple[str, ...]] = []
    for line in trail.read_text().splitlines():
        event, *rest = Xml.fromstring(line)
        if event.find("EventID").get("csd-code") == "110113":
            users = [one for one in rest if one.tag == "ActiveParticipant" and one.find("RoleIDCode") is None]
            assert all(one.get("UserIsRequestor") == "false" for one in users)  # PS3.15 Table A.5.3.11-1
            about = event.find("EventTypeCode").get("csd-code"), event.get("EventOutcomeIndicator")
            found.append((*about, *(one.get("UserID") for one in users), event.findtext("EventOutcomeDescription")))
    return found


_SCHEMA = Path(__file__).parent / "data" / "audit-message.rng"


def recorded(trail: Path, *codes: str) -> list[Any]:
    """The messages of an audit trail whose event, or its type, has one of some codes; each line keeps the schema."""
    schema = etree.RelaxNG(etree.parse(str(_SCHEMA)))
    found = []
    for line in trail.read_bytes().splitlines():
        message = etree.fromstring(line)
        schema.assertValid(message)
        event = message.find("EventIdentification")
        if {event.find("EventID").get("csd-code"), *event.xpath("EventTypeCode/@csd-code")} & {*codes}:
            found.append(message)
    return found


class Told:
    """The events of a server while a block runs."""

    def __init__(self, server: Server) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._server = server

    def __enter__(self) -> Told:
        self._end = self._server.events.listen(self._put)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _put(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, kind: str, count: int = 1) -> list[Event]:
        """The events of a type, once there are so many."""

        def found() -> list[Event]:
            return [one for one in self.events if one.type == kind]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, 60), f"{len(found())} of {count} {kind}"
            return found()
