"""The console in a real browser: contexts by width, colours and scripts, and what every page is held to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import consoles
import peers

AXE = Path(__file__).parents[2] / "web-ui" / "axe" / "axe.min.js"
#: For which a page is waited for.
SECONDS = 45
WIDTHS = {"wide": 1100, "narrow": 420}
RUNS = "() => matchMedia('(scripting: enabled)').matches"
FOUND = """async () => (await axe.run()).violations
    .filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 120)).join(" | ")}`)"""
#: Elements whose text is cut, or that stand outside the page; what is hidden from sight on purpose is neither.
OUTSIDE = """() => [...document.querySelectorAll("main *, nav *, header *")]
    .filter(one => { const box = one.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1 && !one.closest(".scroll") && !one.closest(".skip"); })
    .map(one => one.outerHTML.slice(0, 120))"""


def axe() -> str:
    """The source of axe-core."""
    if not AXE.is_file():
        peers.absent("axe-core (make console)")
    return AXE.read_text(encoding="utf-8")


@contextmanager
def context(
    chromium: Any, url: str, *, width: str = "wide", scripts: bool = True, dark: bool = False, role: str = ""
) -> Iterator[Any]:
    """A page in a new context. It must ask no other host for anything, and tell of no error."""
    viewport = {"width": WIDTHS[width], "height": 760}
    made = chromium.new_context(
        base_url=url, viewport=viewport, java_script_enabled=scripts, color_scheme="dark" if dark else "light"
    )
    made.set_default_timeout(SECONDS * 1000)
    page = made.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" and not _told(said.text) else None)
    page.on("request", lambda asked: None if asked.url.startswith(url) else wrong.append(asked.url))
    try:
        if role:
            log_in(page, role)
        yield page
    finally:
        made.close()
    assert not wrong, wrong


def _told(text: str) -> bool:
    """A browser notes answers such as 422 and 404 by itself, also those that are pages for people."""
    return "the server responded with a status of 4" in text


def log_in(page: Any, role: str) -> None:
    """By the form."""
    page.goto("/login")
    page.get_by_label("Name").fill(role)
    page.get_by_label("Password").fill(consoles.PASSWORD)
    page.get_by_role("button", name="Log in").click()


def reload_until(page: Any, condition: Callable[[], bool]) -> None:
    """For what a page shows when it is loaded anew, with an end."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, page.content()
        page.reload()


def check(page: Any) -> None:
    """No serious fault of accessibility, nothing outside the page, one heading, and a title."""
    if page.evaluate(RUNS):  # axe-core is a script, too
        page.evaluate(axe())
        assert page.evaluate(FOUND) == [], page.url
    assert page.evaluate(OUTSIDE) == [], page.url
    assert page.locator("h1").count() == 1
    assert page.title()
