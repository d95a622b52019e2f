"""An archive over HTTP, for the tests of its services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import archives
import httpx

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.web.serving import WebServing
from dicomnet.web.users import Users


@contextmanager
def served(
    directory: Path, *paths: Path, users: Users | None = None, **settings: object
) -> Iterator[tuple[Archive, str]]:
    """An archive that holds these files, and the address of its web server, without a slash at its end."""
    archive = Archive(directory, archives.make(directory, **settings))
    app = web_application(archive.holdings, archive.storage, steps=archive.steps, users=users)
    with archive, WebServing(app, "127.0.0.1", 0) as serving:
        if paths:
            with dn.client.StoreScu(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}") as scu:
                assert all(result.ok for result in scu.send(*paths))
        yield archive, serving.url.rstrip("/")


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=30)


def element(vr: str, *values: object) -> dict[str, object]:
    return {"vr": vr, "Value": list(values)}
