"""``dicomnet web search|get|store``: DICOMweb as a client."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

import click

from ..client.sync.web import WebClient
from ..client.web_peer import LEVELS, WebPeer
from ..net.tls import TLS
from .exits import Exit
from .keys import key_option, parse_keys
from .options import DIRECTORY, FILE, PATH, SECONDS, output_options, stacked
from .output import Output, counted, rate
from .progress import Progress

__all__ = ["get_command", "search_command", "store_command"]

_peer_options = stacked(
    click.argument("peer", metavar="URL"),
    click.option("--user", metavar="NAME", help="Log in; the password is in DICOMNET_WEB_PASSWORD, or asked for."),
    click.option("--cert", type=FILE, metavar="FILE", help="Our certificate and key, where it asks for one."),
    click.option("--ca", type=FILE, metavar="FILE", help="The authority of the server's certificate."),
    click.option("--timeout", type=SECONDS, default="60s", metavar="TIME", help="Without any progress.  [60s]"),
)


def _client(peer: str, user: str | None, ca: str | None, cert: str | None, timeout: float) -> WebClient:
    known = WebPeer.of(peer)
    if ca or cert:
        known = dataclasses.replace(known, tls=TLS(ca=ca, cert=cert))
    if user:
        password = os.environ.get("DICOMNET_WEB_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
        known = dataclasses.replace(known, login=(user, password))
    return WebClient(known, timeout=timeout)


@click.command("search")
@_peer_options
@click.argument("level", type=click.Choice(list(LEVELS), case_sensitive=False), default="STUDY")
@key_option
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The most matches.")
@output_options
def search_command(
    peer: str, level: str, output: Output, *, keys: tuple[str, ...], limit: int | None, **options: Any
) -> int:
    """Search at URL, or at a peer of peers.toml that has DICOMweb, for studies, series or instances.

    A line for each match: its UID, and what was asked for. With --json it is DICOM JSON.
    """
    given = {name: value or "" for name, value in _flat(parse_keys(keys))}
    found = 0
    with _client(peer, **options) as client:
        asked = {name: value for name, value in given.items() if value}
        fields = [name for name in given if not given[name]]
        for match in client.search(level.upper(), asked, fields=fields, limit=limit):
            found += 1
            output.record(match=match)
            output.say("  ".join(_shown(match, level.upper(), given)))
    output.summary(counted(found, "match", "matches"), matches=found)
    return Exit.DONE


def _flat(keys: dict[str, Any], before: str = "") -> Iterator[tuple[str, str | None]]:
    for name, value in keys.items():
        if isinstance(value, list):
            yield from _flat(value[0], f"{before}{name}.")
        else:
            yield before + name, value


def _shown(match: dict[str, Any], level: str, keys: Iterable[str]) -> Iterator[str]:
    """The UID of a match, and the values of keys that are not within a sequence."""
    from pydicom.datadict import tag_for_keyword

    unique = {"STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}[level]
    tags = [f"{tag_for_keyword(name) or 0:08X}" for name in keys if "." not in name]
    for tag in dict.fromkeys([unique, *(tags or ["00100020", "00100010", "00080020", "00081030"])]):
        values = (match.get(tag) or {}).get("Value") or []
        yield "\\".join(str(one.get("Alphabetic", "") if isinstance(one, dict) else one) for one in values)


@click.command("get")
@_peer_options
@click.argument("study", metavar="STUDY")
@click.argument("series", metavar="SERIES", default="")
@click.argument("instance", metavar="INSTANCE", default="")
@click.option("--out", type=DIRECTORY, default=".", metavar="DIR", help="Where files UID.dcm are put.  [default: .]")
@click.option("--syntax", default="*", metavar="UID", help="Of the instances.  [default: as they are stored]")
@output_options
def get_command(
    peer: str, study: str, series: str, instance: str, output: Output, *, out: str, syntax: str, **options: Any
) -> int:
    """Fetch a study, a series of it, or an instance of that, by their UIDs, from URL.

    Files come as they arrive, and appear whole; the bytes of each are those that are stored there.
    """
    start, count, size = monotonic(), 0, 0
    progress = Progress(lambda: size + 1, wanted=not output.silent)
    with _client(peer, **options) as client:
        for path in client.save(out, study, series, instance, transfer_syntax=syntax):
            count += 1
            size += os.path.getsize(path)
            progress.advance(os.path.getsize(path))
            output.record(path=path)
            if output.verbosity > 0:
                output.say(path)
    seconds = monotonic() - start
    line = f"{counted(count, 'instance')}, {rate(size, seconds)}"
    output.summary(line, instances=count, bytes=size, seconds=round(seconds, 3))
    return Exit.DONE


@click.command("store")
@_peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "--recurse", is_flag=True, help="Also what is in directories of directories.")
@output_options
def store_command(peer: str, paths: tuple[str, ...], output: Output, *, recurse: bool, **options: Any) -> int:
    """Store files and directories of files at URL; each instance has an outcome of its own."""
    files = [one for path in paths for one in _files(path, recurse)]
    total = sum(map(os.path.getsize, files))
    progress, start, stored, failed = Progress(lambda: total, wanted=not output.silent), monotonic(), 0, 0
    with _client(peer, **options) as client:
        for result in client.store(*files):
            stored, failed = stored + result.ok, failed + (not result.ok)
            assert result.path is not None
            progress.advance(os.path.getsize(result.path))
            fields = {"path": os.fspath(result.path), "uid": result.sop_instance_uid, "ok": result.ok}
            output.record(**fields, reason=f"{result.reason:04X}")
            if not result.ok:
                output.error(f"{os.fspath(result.path)}: not stored: {result.reason:04X}")
    seconds = monotonic() - start
    line = f"{counted(stored, 'instance')} stored, {failed} failed, {rate(total, seconds)}"
    output.summary(line, instances=stored, failed=failed, bytes=total, seconds=round(seconds, 3))
    return Exit.FAILURES if failed else Exit.DONE


def _files(path: str, recurse: bool) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(folders) if recurse else []
        yield from (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))
