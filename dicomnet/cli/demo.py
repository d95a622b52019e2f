"""``dicomnet demo``: a provider and a user exchange real files, and every byte is compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import click

from .. import uids
from ..client import Client, Outcome, Stored, StoreScu
from ..config import Entity
from ..errors import ConnectionFailed, InputFileError, InputProblem
from ..files.file_sink import uid_path
from ..files.instance_source import Source, open_source
from .exits import Exit
from .options import output_options
from .output import Output, amount, rate

__all__ = ["command"]

_TITLE = "DEMO"
_PATIENCE = 10.0  # seconds for the provider to end by itself
_UNIT = 1 << 20  # bytes at a time for the hashes


@click.command("demo")
@click.option("--archive", is_flag=True, help="An archive instead: store, find, retrieve, commit, worklist, MPPS.")
@click.option("--site", is_flag=True, help="A whole site instead: archive, workstation, router, and a modality's day.")
@output_options
def command(output: Output, *, archive: bool, site: bool) -> int:
    """Start a provider on a free loopback port, verify it, send it the sample files of pydicom, and compare every byte.

    It takes seconds, leaves nothing behind, and needs no network.
    """
    if site:
        return _site(output)
    root = _samples()
    if archive:
        return _tour(root, output)
    with TemporaryDirectory(prefix="dicomnet-demo-") as directory, _provider(directory) as peer:
        with Client(peer, calling="DEMO-USER") as client:
            start = monotonic()
            status = client.echo()
            output.say(f"{peer} answered C-ECHO with {status} in {(monotonic() - start) * 1000:.2f} ms")
        # One at a time: some samples are the same instance in another encoding, and replace each other.
        with StoreScu(peer, calling="DEMO-USER", window=1) as scu:
            results = [(result, _is_kept(result, directory)) for result in scu.send(root)]
    sent = [one for one in results if one[0].outcome is not Outcome.UNREADABLE]
    _print_table(sent, root, output)
    return _conclude(sent, len(results) - len(sent), output)


def _tour(root: str, output: Output) -> int:
    try:
        from .demo_archive import tour
    except ImportError as error:
        raise click.UsageError("an archive needs more packages: pip install dicomnet[archive]") from error
    with TemporaryDirectory(prefix="dicomnet-demo-") as directory:
        return tour(Path(root), Path(directory), output)


def _site(output: Output) -> int:
    try:
        from .demo_site import tour
    except ImportError as error:
        raise click.UsageError("a site needs more packages: pip install dicomnet[router]") from error
    with TemporaryDirectory(prefix="dicomnet-") as directory:
        return tour(Path(directory), output)


def _samples() -> str:
    """Where the installed pydicom has its test files; it is looked up, not imported, and never asked to download."""
    spec = find_spec("pydicom")
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = os.path.join(places[0], "data", "test_files") if places else ""
    if not os.path.isdir(path):
        raise InputFileError("the demo wants the test files of pydicom", problem=InputProblem.CANNOT_READ)
    return path


@contextmanager
def _provider(directory: str) -> Iterator[Entity]:
    """A `dicomnet recv` in a process of its own, as long as the block lasts."""
    command = [sys.executable, "-m", "dicomnet", "recv", f"{_TITLE}@127.0.0.1:0", "--out", directory, "-q"]
    command += ["--on-duplicate", "replace"]  # some of the samples share a UID, and each is compared once it is stored
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise ConnectionFailed("the demo's provider did not start")
            yield Entity.parse(f"{_TITLE}@{line.removeprefix('listening on ').strip()}")
        finally:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_kept(result: Stored, directory: str) -> bool:
    """Whether the data set that was stored hashes equal to the one that was sent."""
    if not result.ok:
        return False
    with open_source(result.source) as sent, open_source(uid_path(directory, result.sent_as)) as kept:
        return _hash(sent) == _hash(kept)


def _hash(source: Source) -> bytes:
    """Of the bytes that go over the wire: a deflated data set of odd length with its NUL (PS3.5 Section A.5)."""
    digest = sha256()
    for chunk in source.chunks(_UNIT):
        digest.update(chunk)
    return digest.digest()


def _print_table(results: list[tuple[Stored, bool]], root: str, output: Output) -> None:
    rows = []
    for result, kept in results:
        row = {
            "file": os.path.relpath(result.name, root),
            "sop_class": uids.name_of(result.sop_class_uid),
            "transfer_syntax": uids.name_of(result.transfer_syntax_uid),
            "size": result.size,
            "milliseconds": round(result.seconds * 1000, 3),
            "status": str(result.status) if result.error is None else result.reason,
            "identical": kept,
        }
        output.record(**row)
        rows.append(row)
    if not output.json and output.verbosity >= 0:
        _draw(rows)


def _draw(rows: list[dict[str, Any]]) -> None:
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError as error:  # the extra brings both, and a table is most of what a demo is
        raise click.UsageError("the table needs the package rich: pip install dicomnet[cli]") from error
    table = Table()
    for name in ("File", "SOP class", "Transfer syntax"):
        table.add_column(name, overflow="fold")
    for name in ("Size", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Status", overflow="fold")
    for row in rows:
        table.add_row(
            row["file"],
            row["sop_class"],
            row["transfer_syntax"],
            amount(row["size"]),
            f"{row['milliseconds']:.2f}",
            row["status"] if row["identical"] else f"{row['status']}, but not what was sent",
        )
    # Where no terminal says how wide it is, nothing needs to be folded.
    Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False).print(table)


def _conclude(results: list[tuple[Stored, bool]], skipped: int, output: Output) -> int:
    size = sum(result.size for result, _ in results)
    seconds = sum(result.seconds for result, _ in results)
    kept = sum(kept for _, kept in results)
    failed = len(results) - kept
    speed = f"{len(results) / seconds:.0f} objects/s" if seconds else "nothing to measure"
    output.say(f"{skipped} other files are no instances, or broken: they were not sent.")
    output.summary(
        f"{kept} of {len(results)} data sets arrived bit for bit: {rate(size, seconds)}, {speed}.",
        instances=kept,
        bytes=size,
        seconds=seconds,
        failed=failed,
    )
    return Exit.DONE if results and not failed else Exit.FAILURES
