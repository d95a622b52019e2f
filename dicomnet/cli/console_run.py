"""``dicomnet console run``: the console, until it is told to stop."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from starlette.routing import Route

from ..errors import CannotListen
from ..server.directory import home
from ..web.console.application import console_app
from ..web.console.desk import Desk
from ..web.console.pages import Console
from ..web.serving import WebServing
from ..web.settings import WebSettings
from ..web.users import Users
from .exits import Exit
from .options import DIRECTORY, FILE, output_options
from .output import Output

__all__ = ["USERS_NAME", "command"]

USERS_NAME = "users.json"
#: Requests and connections at a time: each page that is open holds one.
CONCURRENT = 2048


@click.command("run")
@click.option("--listen", default="127.0.0.1:8043", metavar="[HOST:]PORT", help="Where.  [default: 127.0.0.1:8043]")
@click.option("--servers", "more", type=DIRECTORY, multiple=True, metavar="DIR", help="Also the servers below DIR.")
@click.option("--site", type=DIRECTORY, metavar="DIR", help="Check the site in DIR, and serve its servers.")
@click.option("--users", metavar="FILE", help="Who may log in.  [default: users.json beside the servers]")
@click.option("--cert", type=FILE, metavar="FILE", help="Serve over TLS, by this certificate.")
@click.option("--key", type=FILE, metavar="FILE", help="The key of the certificate, if it is not with it.")
@click.option("--ca", type=FILE, metavar="FILE", help="Ask callers for certificates of this authority.")
@click.option("--proxy", "proxies", metavar="ADDRESS", multiple=True, help="Believe this reverse proxy's headers.")
@output_options
def command(output: Output, more: tuple[str, ...], site: str | None, users: str | None, **options: Any) -> int:
    """Serve the console for the servers of this machine, those in DICOMNET_SERVERS, until SIGINT or SIGTERM.

    Prints "console on http://HOST:PORT/" once it listens. Beyond this machine it wants users who log in
    (`dicomnet console user add`), or client certificates.
    """
    given = {name: value for name, value in options.items() if value is not None}
    settings = dataclasses.replace(WebSettings(concurrent=CONCURRENT), **given)
    known = Users(Path(users) if users else home() / USERS_NAME)
    login = known if len(known) else None
    host, port = settings.check_open(login=login is not None)
    places, check = list(map(Path, more)), None
    if site is not None:
        from ..site.checking import check as check_site
        from ..site.plan import Site

        places.insert(0, Path(site) / "servers")
        check = partial(check_site, Site.load(Path(site)))
    app = console_app(Desk(places), settings=settings, users=login, site=check, site_pages=_site_pages())
    told = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, told)  # the thread that serves inherits it
    try:
        with WebServing(app, host, port, tls=settings.tls(), concurrent=settings.concurrent) as serving:
            print(f"console on {serving.url}", flush=True)
            signal.sigwait(told)
    except CannotListen as error:
        output.error(str(error))
        return Exit.CANNOT_LISTEN
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Exit.DONE


def _site_pages() -> Callable[[Console], list[Route]] | None:
    """The pages that make sites; None where what a site needs, `dicomnet[router]`, is not installed."""
    try:
        from ..site.console import routes
        from .site_init import certify
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "dicomnet":
            raise
        return None
    return partial(routes, certify=certify)
