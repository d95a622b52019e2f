"""What a hospital has: nginx at a path of its own with TLS, a login by the form, and behind both a CT in a browser."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import peers
import pytest
from pages import PATIENCE, Viewer
from proxied import PASSWORD, USER, proxied

import dicomnet as dn
from dicomnet.web.viewer import viewer_files

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]


@pytest.fixture
def served(tmp_path, chest):
    """The address below which an archive that holds a CT is, behind nginx."""
    if viewer_files() is None:
        peers.absent("the viewer (make viewer)")
    with proxied(tmp_path) as (archive, url, _):
        paths = [tmp_path / f"{number}.dcm" for number in range(len(chest.volume))]
        for path, content in zip(paths, chest.files(), strict=True):
            path.write_bytes(content)
        with dn.client.StoreScu(f"ARCHIVE@127.0.0.1:{archive.listener.address[1]}") as scu:
            assert all(result.ok for result in scu.send(*paths))
        yield url


def test_a_ct_is_seen_after_the_login(chromium, served, chest):
    errors, asked = [], []
    # The certificate's authority is the test's own, which Chromium takes from no file.
    with chromium.new_context(ignore_https_errors=True) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served + "/")
        assert urlsplit(page.url).path == "/pacs/login"
        assert asked == [f"{served}/", page.url]  # nothing of the viewer comes before the login
        page.fill("input[name=name]", USER)
        page.fill("input[name=password]", PASSWORD)
        page.click("button")
        page.get_by_text(re.compile(r"Phantom.+Chest")).first.wait_for()
        viewer = Viewer(page, f"{served}/")
        viewer.open(chest)
        viewer.expect(chest, viewer.scroll_to(14, chest))
        assert page.url == f"{served}/viewer/viewer?StudyInstanceUIDs={chest.study}"
    assert errors == []
    assert {urlsplit(url)[:2] for url in asked if url.startswith("http")} == {urlsplit(served)[:2]}
