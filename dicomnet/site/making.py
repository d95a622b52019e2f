"""Makes a site: everything in a folder beside, which takes its name only once it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import tomlkit

from .. import uids
from ..dataset import codec
from ..errors import InvalidArgument
from ..repository.database import Database as Index
from ..repository.holdings import INDEX_NAME
from ..repository.worklist import Worklist
from ..server.ae_entry import AEEntry
from ..server.ae_titles import AETitles
from ..server.database import Database
from ..server.directory import ServerDirectory
from ..server.events import EventLog
from .deploying import deploy
from .plan import FILE_NAME, Fault, Node, Site, SiteInvalid, check_ports
from .samples import worklist_item, write_series

__all__ = ["Certify", "init"]

#: Writes an authority ``ca.pem`` into a folder, and for each name a certificate ``NAME.pem`` with ``NAME.key``, for
#: these hosts.
Certify = Callable[[Path, Mapping[str, tuple[str, ...]]], object]

_TABLES: dict[str, dict[str, Any]] = {
    "archive": {"addins.enable": ["archive", "site", "console"], "addins.optional": ["console"]},
    "workstation": {"addins.enable": ["workstation"]},
    "router": {"addins.enable": ["verification", "router"]},
}


def init(site: Site, certify: Certify, *, day: date) -> bool:
    """Make a site; one that is there, and the same, stays as it is.

    Args:
        site: as it is to be.
        certify: makes its certificates.
        day: of which its sample worklist is.

    Returns:
        Whether it was made; False: it was there.

    Raises:
        SiteInvalid: a port is taken, or there is another site; nothing was changed.
        InvalidArgument: the folder holds something else, or cannot be written.
    """
    known = Site.found(site.directory)
    if known is not None:
        _check_same(known, site)
        return False
    _check_place(site.directory)
    taken = check_ports(site)
    if taken:
        raise SiteInvalid(taken)
    _put(site, certify, day)
    return True


def _check_place(target: Path) -> None:
    try:
        held = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be looked into: {error.strerror}") from error
    if held:
        raise InvalidArgument(f"{target} is there already, and no site", hint="Name a new or empty folder.")


def _put(site: Site, certify: Certify, day: date) -> None:
    """Make it beside its place, and put it there."""
    target = site.directory
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _tidy(target)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be made: {error.strerror}") from error
    try:
        _make(site, part, certify, day)
        part.chmod(0o755)
        if target.exists():
            target.rmdir()
        part.rename(target)
    except OSError as error:
        raise InvalidArgument(f"{target} cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_same(known: Site, wanted: Site) -> None:
    pairs = [("client", known.client, wanted.client), ("modality", known.modality, wanted.modality),
             ("deidentified", known.deidentified, wanted.deidentified)]  # fmt: skip
    pairs += [(f"the {role}", known.nodes[role], wanted.nodes[role]) for role in known.nodes]
    other = [f"{name} is {_said(one)}, not {_said(two)}" for name, one, two in pairs if one != two]
    if other:
        said = f"{known.directory} is another site already"
        raise SiteInvalid([Fault(f"{said}: {what}", ("directory",)) for what in other])


def _said(value: object) -> str:
    return f"{value.plain}, {value.tls_port}, {value.web_port}" if isinstance(value, Node) else str(value)


def _tidy(target: Path) -> None:
    """Remove what a process that was killed left of an attempt."""
    for left in target.parent.glob(f".{target.name}.*.*"):
        process = left.name[len(target.name) + 2 :].partition(".")[0]
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(left, ignore_errors=True)


def _make(site: Site, part: Path, certify: Certify, day: date) -> None:
    names = {role: tuple({node.host: 0, "localhost": 0, "127.0.0.1": 0}) for role, node in site.nodes.items()}
    certify(part / "certs", {**names, "client": ("localhost",)})
    for node in site.nodes.values():
        _make_server(site, node, part)
    _write_rules(site, part)
    _write_worklist(site, part, day)
    write_series(part / "samples", study=uids.new(), day=day)
    _write_peers(site, part)
    deploy(site, part)
    (part / FILE_NAME).write_text(site.as_toml(), encoding="utf-8")  # last: with it, it is a site


def _make_server(site: Site, node: Node, part: Path) -> None:
    server = ServerDirectory(part / "servers" / node.role)
    server.create({
        "server.ae_title": node.title, "server.description": f"the {node.role} of the site",
        "listen.host": node.host, "listen.port": node.port, "listen.tls_port": node.tls_port,
        "tls.cert": f"../../certs/{node.role}.pem", "tls.key": f"../../certs/{node.role}.key",
        "tls.ca": "../../certs/ca.pem", "web.port": node.web_port, "timeouts.reconnect": 2, **_TABLES[node.role],
    })  # fmt: skip
    database = Database(server.path / "server.sqlite")
    try:
        titles = AETitles(database, EventLog())
        for other in site.nodes.values():
            if other is not node:
                words = f"the {other.role} of the site"
                titles.add(AEEntry(title=other.title, host=other.host, port=other.port, description=words))
        titles.add(AEEntry(title=site.client, description="programs, by peers.toml"))
        if node.role != "workstation":
            titles.add(AEEntry(title=site.modality, description="the modality of the samples"))
    finally:
        database.close()


def _write_rules(site: Site, part: Path) -> None:
    """What the router receives goes to the workstation, and on to the archive."""
    tables = tomlkit.document()
    tables.add(tomlkit.comment("What becomes of what the router receives: to the workstation, and on to the archive."))
    destinations = {
        site.nodes[role].title: {"address": str(site.nodes[role].plain)} for role in ("workstation", "archive")
    }
    rules = [{"name": "to the workstation and the archive",
              "actions": [{"do": "forward", "to": list(destinations)}]}]  # fmt: skip
    if site.deidentified:
        destinations["RESEARCH"] = {"kind": "folder", "path": str(site.directory / "research")}
        copy = [{"do": "deidentify"}, {"do": "copy", "to": "RESEARCH"}]
        rules.append({"name": "a de-identified copy", "actions": copy})
    tables["destinations"], tables["rules"] = destinations, rules
    folder = part / "servers" / "router" / "data" / "router"
    folder.mkdir(parents=True)
    (folder / "rules.toml").write_text(tomlkit.dumps(tables), encoding="utf-8")


def _write_worklist(site: Site, part: Path, day: date) -> None:
    folder = part / "servers" / "archive" / "data" / "archive"
    folder.mkdir(parents=True)
    with Index.opened(folder / INDEX_NAME, durable=True) as index:
        item = codec.from_keywords(worklist_item(day, site.modality)).to_json_dict()
        Worklist(index).put(item)


def _write_peers(site: Site, part: Path) -> None:
    """``peers.toml``: each server plain and over TLS, and the DICOMweb of those that have it."""
    peers = tomlkit.document()
    peers.add(tomlkit.comment(f"export DICOMNET_PEERS={site.directory / 'peers.toml'}"))
    files = {"ca": "certs/ca.pem", "cert": "certs/client.pem", "key": "certs/client.key"}
    for role, node in site.nodes.items():
        peers[role] = {"address": str(node.plain), "calling": site.client}
        if role != "router":
            peers[role].update({"web": f"{node.web}/{role}/dicomweb"})
        peers[f"{role}-tls"] = {"address": str(node.secure), "calling": site.client, "tls": files}
    (part / "peers.toml").write_text(tomlkit.dumps(peers), encoding="utf-8")
