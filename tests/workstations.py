"""Workstations for the tests: in a server of this process, with an Orthanc that knows it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import make_settings
from test_interop_services import SELF, Server

import dicomnet as dn
from dicomnet import server as framework
from dicomnet.server.admin import Client
from dicomnet.server.ae_entry import AEEntry
from dicomnet.workstation.add_in import WorkstationAddIn
from dicomnet.workstation.station import Workstation


@contextmanager
def serving(
    directory: Path, archive: Server | None = None, *, web: bool = False, **settings: Any
) -> Iterator[tuple[framework.Server, Workstation, Client]]:
    """A workstation that SELF stands for at an archive, its server, and a client of its administration."""
    directory.mkdir(exist_ok=True)
    addin = WorkstationAddIn()
    chosen = {"durability": "os", **settings}
    tables = make_settings(
        server={"ae_title": SELF}, listen={"port": archive.our_port if archive else 0}, addin={"workstation": chosen},
        web={"port": 0} if web else {}, timeouts={"reconnect": 0.1},
    )  # fmt: skip
    with (
        framework.Server(tables, directory=directory, addins={"workstation": addin}) as server,
        Client(directory / "run/admin.sock") as admin,
    ):
        if archive is not None and server.base.ae_titles.find("ORTHANC") is None:
            port = int(archive.peer.rpartition(":")[2])
            server.base.ae_titles.add(AEEntry(title="ORTHANC", host="127.0.0.1", port=port))
        yield server, addin.station, admin


def stored(peer: Any, *instances: bytes, classes: tuple[str, ...] = (dn.uids.CT_IMAGE_STORAGE,)) -> None:
    """Store instances at a peer."""
    with dn.connect(peer, contexts=dn.contexts.storage(list(classes))) as association:
        for one in instances:
            assert association.store(one).status.is_success
