"""What a site consists of: titles, addresses and ports, checked before anything is made, and kept in ``site.toml``."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import tomlkit

from ..config import Entity, check_ae_title
from ..errors import InvalidArgument
from ..server.admin.serving import LONGEST_PATH
from .ports import free_port, is_free, owner_of

__all__ = [
    "FILE_NAME", "ROLES", "USUAL_TITLES", "Fault", "Node", "Site", "SiteInvalid", "check_ports", "planned", "wanted",
]  # fmt: skip

FILE_NAME = "site.toml"
#: The servers, in the order in which they start.
ROLES = ("archive", "workstation", "router")
#: AE titles by who has them, where none are named.
USUAL_TITLES: Mapping[str, str] = {**{role: role.upper() for role in ROLES}, "client": "CLIENT", "modality": "CT1"}
#: Where the servers listen, where that is not named.
USUAL_HOST = "127.0.0.1"
#: The first port where none is named, and how far those over TLS and for the web are from it.
FIRST_PORT, TLS_STEP, WEB_STEP = 11112, 100, 200
_MOST_PORT = 65535
SOCKET = Path("run", "admin.sock")


class Fault(NamedTuple):
    """One thing that is wrong with a site.

    Attributes:
        what: in a sentence.
        options: of `dicomnet site init`, which say what is wrong: "directory", "host", "port", or whose title.
    """

    what: str
    options: tuple[str, ...]


class SiteInvalid(InvalidArgument):
    """A site cannot be made, or run.

    Attributes:
        faults: why.
        problems: the same, each in a sentence.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        self.problems: tuple[str, ...] = tuple(one.what for one in faults)
        super().__init__("; ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Node:
    """A server of the site.

    Attributes:
        role: "archive", "workstation" or "router".
        title: its AE title.
        host: where it listens.
        port, tls_port, web_port: for plain associations, for those over TLS, for HTTP on this machine.
    """

    role: str
    title: str
    host: str
    port: int
    tls_port: int
    web_port: int

    @property
    def plain(self) -> Entity:
        """Where it takes plain associations."""
        return Entity(self.title, self.host, self.port)

    @property
    def secure(self) -> Entity:
        """Where it takes associations over TLS."""
        return Entity(self.title, self.host, self.tls_port, tls=True)

    @property
    def web(self) -> str:
        """The address of its web port."""
        return f"http://127.0.0.1:{self.web_port}"


@dataclass(frozen=True, slots=True)
class Site:
    """A site.

    Attributes:
        directory: where all of it is.
        nodes: its servers, by role.
        client: the AE title of the programs that peers.toml is for.
        modality: the AE title that the sample worklist is for.
        deidentified: whether the router also writes a de-identified copy of what it gets, to the folder `research`.
    """

    directory: Path
    nodes: Mapping[str, Node]
    client: str = USUAL_TITLES["client"]
    modality: str = USUAL_TITLES["modality"]
    deidentified: bool = False

    def __post_init__(self) -> None:
        # Its servers run in processes whose working directory is another.
        object.__setattr__(self, "directory", self.directory.absolute())

    def server(self, role: str) -> Path:
        """The directory of a server."""
        return self.directory / "servers" / role

    @property
    def pages(self) -> Iterator[tuple[str, str]]:
        """What people open in a browser: a name and an address."""
        yield "viewer", f"{self.nodes['workstation'].web}/workstation/viewer/"
        yield "archive's viewer", f"{self.nodes['archive'].web}/archive/viewer/"
        yield "console", f"{self.nodes['archive'].web}/console/"

    @property
    def titles(self) -> Iterator[tuple[str, str]]:
        """Whose title is what."""
        yield from ((role, node.title) for role, node in self.nodes.items())
        yield "client", self.client
        yield "modality", self.modality

    def as_toml(self) -> str:
        """As ``site.toml`` has it."""
        document = tomlkit.document()
        document.add(tomlkit.comment("Made by `dicomnet site init`; `dicomnet site check` checks it."))
        document.update({"client": self.client, "modality": self.modality, "deidentified": self.deidentified})
        for role, node in self.nodes.items():
            values = {one.name: getattr(node, one.name) for one in fields(node) if one.name != "role"}
            document[role] = values
        return tomlkit.dumps(document)

    @classmethod
    def found(cls, directory: Path) -> Site | None:
        """The site of a directory, if there is one.

        Raises:
            InvalidArgument: that cannot be seen, or its file makes no sense.
        """
        try:
            there = (directory / FILE_NAME).is_file()
        except OSError as error:
            raise InvalidArgument(f"{directory} cannot be looked into: {error.strerror}") from error
        return cls.load(directory) if there else None

    @classmethod
    def load(cls, directory: Path) -> Site:
        """The site of a directory.

        Raises:
            InvalidArgument: there is none, or its file makes no sense.
        """
        path = directory / FILE_NAME
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            hint = f"Make one: dicomnet site init {directory}"
            raise InvalidArgument(f"{directory} is no site: it has no {FILE_NAME}", hint=hint) from error
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{path}: {error}") from error
        try:
            nodes = {role: Node(role=role, **values.pop(role)) for role in ROLES}
            return cls(directory, nodes, **values)
        except (KeyError, TypeError) as error:
            raise InvalidArgument(f"{path}: there is something missing, or too much: {error}") from error


def planned(
    directory: Path,
    *,
    host: str = USUAL_HOST,
    port: int = FIRST_PORT,
    titles: Mapping[str, str] | None = None,
    deidentified: bool = False,
) -> Site:
    """A site as it is to be, checked.

    Args:
        directory: where it is to be.
        host: the address where its servers listen.
        port: of the archive; workstation and router have the next two, TLS is `TLS_STEP` behind, the web `WEB_STEP`;
            0 takes free ones.
        titles: AE titles by role ("archive", "client" and so on); left out, the usual ones.
        deidentified: see `Site`.

    Raises:
        SiteInvalid: all that is wrong with it.
    """
    usable = port != 0 or is_free(host, 0)
    taken: set[int] = set()
    nodes = {}
    for number, role in enumerate(ROLES):
        steps = (number, TLS_STEP + number, WEB_STEP + number)
        ports = [free_port(host, taken) if port == 0 and usable else port + step for step in steps]
        nodes[role] = Node(role, USUAL_TITLES[role], host, *ports)
    site = Site(directory, nodes, deidentified=deidentified)
    for role, title in (titles or {}).items():
        if role in nodes:
            nodes[role] = replace(nodes[role], title=title)
        else:
            changed: dict[str, Any] = {role: title}
            site = replace(site, **changed)
    faults = [*_wrong_titles(site), *_wrong_addresses(site), *([] if usable else [_no_address(host)])]
    if faults:
        raise SiteInvalid(faults)
    return site


def wanted(
    directory: Path,
    known: Site | None,
    *,
    host: str | None = None,
    port: int | None = None,
    titles: Mapping[str, str] | None = None,
    deidentified: bool = False,
) -> Site:
    """What a caller of `init` wants: `planned`, but of a site that is there, what is left out is as it is.

    Args:
        directory: see `planned`; so are the others.
        known: the site that is there.

    Raises:
        SiteInvalid: all that is wrong with it.
    """
    titles = dict(titles or {})
    if known is not None:
        first = known.nodes["archive"]
        host, port = host or first.host, first.port if port in (None, 0) else port
        titles = dict(known.titles) | titles
        deidentified = deidentified or known.deidentified
        if (host, port, titles, deidentified) == (first.host, first.port, dict(known.titles), known.deidentified):
            return known
    return planned(
        directory, host=host or USUAL_HOST, port=FIRST_PORT if port is None else port, titles=titles,
        deidentified=deidentified,
    )  # fmt: skip


def _wrong_titles(site: Site) -> Iterator[Fault]:
    for role, title in site.titles:
        try:
            check_ae_title(title)
        except InvalidArgument as error:
            yield Fault(f"the AE title of the {role}: {error}", (role,))
        else:
            if " " in title:
                what = f'the AE title of the {role}, "{title}", has a space: it is copied wrongly sooner or later'
                yield Fault(what, (role,))
    counts = Counter(title.upper() for _, title in site.titles)
    for title, count in counts.items():
        if count > 1:
            named = tuple(role for role, one in site.titles if one.upper() == title)
            yield Fault(f'the AE title "{title}" is that of {" and ".join(named)}: each needs its own', named)


def _no_address(host: str) -> Fault:
    return Fault(f"no server can listen on {host}: it is no address of this machine", ("host",))


def _wrong_addresses(site: Site) -> Iterator[Fault]:
    first = site.nodes[ROLES[0]]  # all have its address; titles and ports are looked at apart
    try:
        _ = Entity("ANY", first.host, FIRST_PORT)
    except InvalidArgument as error:
        yield Fault(f"the address of the {first.role}: {error}", ("host",))
    sockets = [len(os.fsencode(site.server(role) / SOCKET)) for role in site.nodes]
    if max(sockets) > LONGEST_PATH:
        what = f"{site.directory} has too long a path, by {max(sockets) - LONGEST_PATH} bytes, for sockets in it"
        yield Fault(what, ("directory",))
    if max(port for _, port in _ports(site)) > _MOST_PORT:
        most = _MOST_PORT - WEB_STEP - len(ROLES) + 1
        yield Fault(f"the ports go beyond {_MOST_PORT}: begin at {most} at most", ("port",))


def _ports(site: Site) -> Iterator[tuple[str, int]]:
    for role, node in site.nodes.items():
        yield role, node.port
        yield f"{role} over TLS", node.tls_port
        yield f"{role}'s web", node.web_port


def check_ports(site: Site, roles: tuple[str, ...] = ROLES) -> list[Fault]:
    """The ports that something else has, each with the process that has it; or the address that is not ours."""
    foreign = {host for host in {site.nodes[role].host for role in roles} if not is_free(host, 0)}
    if foreign:
        return [_no_address(host) for host in sorted(foreign)]
    found = []
    for role, node in site.nodes.items():
        if role not in roles:
            continue
        for what, host, port in (
            ("", node.host, node.port), (" over TLS", node.host, node.tls_port), ("'s web", "127.0.0.1", node.web_port)
        ):  # fmt: skip
            if not is_free(host, port):
                owner = owner_of(port)
                why = f"is taken: {owner} listens there" if owner else "cannot be had: this user may not listen there"
                found.append(Fault(f"port {port} of the {role}{what} {why}", ("port",)))
    return found
