"""A real browser on a real archive. Playwright comes from PyPI, Chromium from the system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import archives
import peers
import phantoms
import pytest
from pages import PATIENCE, Viewer
from starlette.applications import Starlette
from starlette.routing import Mount

import dicomnet as dn
from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.web.serving import WebServing
from dicomnet.web.viewer import viewer_app, viewer_files

# Software draws, and the browser itself asks nobody on the network anything.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--force-device-scale-factor=1", "--hide-scrollbars",
]  # fmt: skip
SIZE = {"width": 700, "height": 440}
OURS = re.compile(r"http://127\.0\.0\.1:|blob:|data:")


@pytest.fixture(scope="session")
def chest() -> phantoms.Phantom:
    return phantoms.chest()


@pytest.fixture(scope="session")
def block() -> phantoms.Phantom:
    return phantoms.block()


@pytest.fixture(scope="session")
def planes() -> list[phantoms.Phantom]:
    return phantoms.planes()


@pytest.fixture(scope="session")
def fused() -> list[phantoms.Phantom]:
    return phantoms.fused()


@pytest.fixture(scope="session")
def web(
    tmp_path_factory: pytest.TempPathFactory,
    chest: phantoms.Phantom,
    block: phantoms.Phantom,
    planes: list[phantoms.Phantom],
    fused: list[phantoms.Phantom],
) -> Iterator[str]:
    """The address of an archive that holds the phantoms."""
    if viewer_files() is None:
        peers.absent("the viewer (make viewer)")
    directory: Path = tmp_path_factory.mktemp("browser")
    paths = []
    for phantom in (chest, block, *planes, *fused):
        for number, content in enumerate(phantom.files()):
            path = directory / f"{phantom.name}{phantom.series}-{number}.dcm"
            path.write_bytes(content)
            paths.append(path)
    archive = Archive(directory / "archive", archives.make(directory / "archive"))
    archived = web_application(archive.holdings, archive.storage, viewer=viewer_app("../dicomweb"))
    # Below a path, as behind a reverse proxy; at the root, too.
    app = Starlette(routes=[Mount("/hospital/pacs", archived), Mount("/", archived)])
    with archive, WebServing(app, "127.0.0.1", 0) as serving:
        with dn.client.StoreScu(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}") as scu:
            assert all(result.ok for result in scu.send(*paths))
        yield serving.url


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    with peers.peer_module("playwright.sync_api").sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    executable = peers.peer_program("chromium")
    profile = tmp_path_factory.mktemp("profile")
    context = playwright.chromium.launch_persistent_context(
        profile, executable_path=executable, headless=True, args=FLAGS, viewport=SIZE
    )
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="session")
def chromium(playwright: Any) -> Iterator[Any]:
    """A browser of which tests make contexts of their own: of another width, without scripts."""
    executable = peers.peer_program("chromium")
    launched = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
    yield launched
    launched.close()


@pytest.fixture
def viewer(browser: Any, web: str) -> Iterator[Viewer]:
    """A new page. It must ask no other host for anything, and tell of no error."""
    page = browser.new_page()
    errors: list[str] = []
    remote: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if OURS.match(request.url) else remote.append(request.url))
    yield Viewer(page, web)
    page.close()
    assert remote == []
    assert errors == []
