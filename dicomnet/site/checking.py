"""Checks a site: its files, and an echo between all pairs, both ways, plain and over TLS, as a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ..client import Client, Retry
from ..config import Timeouts
from ..errors import DicomNetError
from ..net.tls import TLS
from ..server import SettingsInvalid
from ..server import admin as administration
from ..server.directory import ServerDirectory
from .plan import Node, Site
from .ports import owner_of

__all__ = ["SOON", "Cell", "Report", "check"]

#: Days before its end from which on a certificate is told of.
SOON = 30
_PATIENCE = 10.0  # seconds for each echo
_AT_ONCE = 8
_CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Cell:
    """An echo.

    Attributes:
        caller, called: the roles.
        secure: over TLS, or plain.
        problem: why it failed; empty where it did not.
        tried: whether it could be tried: a server that does not run calls no one.
    """

    caller: str
    called: str
    secure: bool
    problem: str = ""
    tried: bool = True

    @property
    def ok(self) -> bool:
        """Whether it was answered."""
        return self.tried and not self.problem


@dataclass(frozen=True, slots=True)
class Report:
    """What was found.

    Attributes:
        cells: each pair, both ways, plain and over TLS.
        problems: what is wrong, each in a sentence with who, what and where.
        warnings: what will be wrong.
    """

    cells: tuple[Cell, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def check(site: Site, *, now: datetime | None = None) -> Report:
    """Check a site, which should be up.

    Args:
        site: which.
        now: by which certificates are judged.
    """
    now = now or datetime.now(UTC)
    problems, warnings = _files(site, now)
    running = {role: ServerDirectory(site.server(role)).process() is not None for role in site.nodes}
    rest = [role for role, runs in running.items() if not runs]
    problems += [f"the {role} does not run: dicomnet site up {site.directory}" for role in rest]
    pairs = [(caller, called) for caller in (*site.nodes, _CLIENT) for called in site.nodes if caller != called]
    wanted = [(caller, called, secure) for caller, called in pairs for secure in (False, True)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        cells = tuple(pool.map(lambda one: _echo(site, running, *one), wanted))
    return Report(cells, (*problems, *_told(site, cells)), tuple(warnings))


def _told(site: Site, cells: tuple[Cell, ...]) -> Iterator[str]:
    for one in cells:
        if one.problem:
            node = site.nodes[one.called]
            where = node.secure if one.secure else node.plain
            yield f"{_title(site, one.caller)} cannot echo {where}{' over TLS' if one.secure else ''}: {one.problem}"


def _title(site: Site, role: str) -> str:
    return site.client if role == _CLIENT else site.nodes[role].title


# ---- echoes --------------------------------------------------------------------------------------------------------


def _echo(site: Site, running: Mapping[str, bool], caller: str, called: str, secure: bool) -> Cell:
    node = site.nodes[called]
    if not running.get(caller, True):
        return Cell(caller, called, secure, tried=False)
    try:
        if caller == _CLIENT or secure:
            _ask(site, caller, node, secure=secure)
        else:
            _have_asked(site, caller, node)
    except (DicomNetError, OSError) as error:
        return Cell(caller, called, secure, _why(error, node.tls_port if secure else node.port, node))
    return Cell(caller, called, secure)


def _ask(site: Site, caller: str, node: Node, *, secure: bool) -> None:
    """Call by the caller's title, and over TLS with its certificate."""
    certs = site.directory / "certs"
    tls = TLS(ca=certs / "ca.pem", cert=certs / f"{caller}.pem", key=certs / f"{caller}.key") if secure else None
    peer, once = node.secure if secure else node.plain, Retry(attempts=1)
    timeouts = Timeouts(connect=_PATIENCE, response=_PATIENCE)
    with Client(peer, calling=_title(site, caller), tls=tls, timeouts=timeouts, retry=once) as client:
        client.echo()


def _have_asked(site: Site, caller: str, node: Node) -> None:
    """Have the server itself call, by what it knows of the other."""
    with administration.Client(site.server(caller)) as client:
        client.echo(node.title)


def _why(error: Exception, port: int, node: Node) -> str:
    text = str(error)
    if "refused" in text.lower() and "rejected" not in text.lower() and not owner_of(port):
        return f"port {port} is closed: nothing listens there"
    if "called AE title" in text:
        return f"wrong title: nothing at port {port} is called {node.title} ({text})"
    return text


# ---- files ---------------------------------------------------------------------------------------------------------


def _files(site: Site, now: datetime) -> tuple[list[str], list[str]]:
    problems, warnings = list[str](), list[str]()
    for node in site.nodes.values():
        problems += _settings(site, node)
    for path in sorted((site.directory / "certs").glob("*.pem")):
        wrong, soon = _certificate(path, now)
        problems += wrong
        warnings += soon
    return problems, warnings


def _settings(site: Site, node: Node) -> Iterator[str]:
    """Where a server says other than the site."""
    server = ServerDirectory(site.server(node.role))
    try:
        settings = server.settings()
    except SettingsInvalid as error:
        yield f"the {node.role} has settings that make no sense: {error}"
        return
    for name, has, wanted in (
        ("[server] ae_title", settings.server.ae_title, node.title),
        ("[listen] host", settings.listen.host, node.host),
        ("[listen] port", settings.listen.port, node.port),
        ("[listen] tls_port", settings.listen.tls_port, node.tls_port),
        ("[web] port", settings.web.port, node.web_port),
    ):
        if has != wanted:
            yield f"{server.file}: {name} is {has}, and the others know the {node.role} by {wanted}"


def _certificate(path: Path, now: datetime) -> tuple[list[str], list[str]]:
    """What is wrong with a certificate, and what will be."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        return [f"{path} cannot be read: {error}"], []
    ends, begins = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    problems = []
    if now >= ends:
        problems.append(f"the certificate {path} has expired, {ends:%Y-%m-%d %H:%M} UTC")
    if now < begins:
        problems.append(f"the certificate {path} is not valid before {begins:%Y-%m-%d %H:%M} UTC")
    key = path.with_suffix(".key")
    if path.stem != "ca" or key.exists():
        problems += _key(path, key, certificate)
    left = (ends - now).days
    soon = [f"the certificate {path} expires in {left} days"] if not problems and left < SOON else []
    return problems, soon


def _key(path: Path, key: Path, certificate: x509.Certificate) -> Iterator[str]:
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        yield f"the key {key} cannot be read: {error}"
        return
    encoded = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    with suppress(AttributeError):
        if private.public_key().public_bytes(*encoded) != certificate.public_key().public_bytes(*encoded):
            yield f"the key {key} is not that of the certificate {path}"
