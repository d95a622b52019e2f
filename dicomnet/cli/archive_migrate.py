"""``dicomnet archive migrate``: an archive that has outgrown SQLite or its disk goes on in PostgreSQL and a bucket."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import click
from sqlalchemy import func, select

from ..archive.holdings import Holdings
from ..archive.settings import FILE_NAME, ArchiveSettings
from ..errors import InvalidArgument
from ..files.own_files import replace_file
from ..repository import schema
from ..repository.database import Database
from ..repository.holdings import INDEX_NAME
from ..repository.index_copy import IndexCopy
from ..repository.moving import move_instances
from ..repository.nodes import Node, Nodes
from .archive_care import held
from .exits import Exit
from .instance_files import progressing
from .options import DIR, output_options
from .output import Output, amount, counted

__all__ = ["migrate_command"]

_FOLLOWING = 0.5  # seconds after which the copy follows what was written


@click.command("migrate")
@DIR
@click.option("--database", metavar="URL", help="Copy the index to PostgreSQL: postgresql://user@host/name.")
@click.option("--storage", metavar="URL", help="Move instances to a bucket: s3://BUCKET?endpoint=URL.")
@output_options
def migrate_command(directory: str, output: Output, database: str | None, storage: str | None) -> int:
    """Move the archive in DIR to PostgreSQL, to an object store, or go on with what was begun.

    The index is copied while the archive serves, and the copy follows what is stored, until you stop what serves it;
    started again it has the new index. Instances are moved while it serves, once what serves it was started with the
    new setting: each is read back and compared with its hash. Stop this command and begin again as you like.
    Ends with 69 if some instances could not be moved.
    """
    folder = Path(directory)
    if database:
        _index(folder, database, output)
    if storage:
        _begin(folder, storage)
    if not ArchiveSettings.load(folder).storage_before:
        if not database:
            raise InvalidArgument("there is nothing to migrate", hint="Name a --database or a --storage.")
        return Exit.DONE
    return _instances(folder, output)


def _index(folder: Path, url: str, output: Output) -> None:
    settings = ArchiveSettings.load(folder)
    if settings.database == url:
        output.say("the index is there already")
        return
    with Database.opened(settings.database or folder / INDEX_NAME) as source, Database.opened(url) as target:
        copy = IndexCopy(source, target)
        count = 0
        if copy.begun:
            output.say("the copy goes on where it ended")
        else:
            with source.read() as connection:
                total = connection.execute(select(func.count()).select_from(schema.instance)).scalar_one()
            with progressing(total, output) as progress:
                count = copy.copy(progress)
        count += _following(copy, source, output) + copy.finish()
        _set(folder, {"database": url})
        copy.tidy()
    output.say(f"{counted(count, 'row')} copied, and the same there; archive.toml names the new index")
    output.record(rows=count)


def _following(copy: IndexCopy, source: Database, output: Output) -> int:
    """Follow what is written, for as long as anything serves the archive; how many rows that were."""
    count = copy.follow()
    told = False
    while alive := _alive(source):
        if not told:
            told = True
            output.say(f"the copy follows what {alive[0].address} stores (process {alive[0].name}): stop that now")
        count += copy.follow()
        threading.Event().wait(_FOLLOWING)
    return count


def _begin(folder: Path, storage: str) -> None:
    settings = ArchiveSettings.load(folder)
    if settings.storage != storage:
        if settings.storage_before:
            raise InvalidArgument(f"instances are moved to {settings.storage} already", hint="End that first.")
        _set(folder, {"storage": storage, "storage_before": settings.storage})


def _instances(folder: Path, output: Output) -> int:
    with Holdings(folder) as holdings:
        late = [one for one in _alive(holdings.database) if one.facts.get("storage") != holdings.settings.storage]
        if late:
            raise InvalidArgument(
                f"{late[0].address} serves the archive as it was (process {late[0].name})",
                hint="Restart it, which reads archive.toml anew; then say `dicomnet archive migrate` again.",
            )
        with progressing(held(holdings)[0], output) as progress:
            moved = move_instances(holdings, progress=progress)
    output.summary(
        f"{counted(moved.instances, 'instance')} moved, {amount(moved.bytes)}, {moved.failed} failed",
        instances=moved.instances, bytes=moved.bytes, failed=moved.failed,
    )  # fmt: skip
    if moved.failed:
        return Exit.FAILURES
    _set(folder, {"storage_before": ""})
    return Exit.DONE


def _alive(database: Database) -> list[Node]:
    return [one for one in Nodes(database).all() if one.is_alive]


def _set(folder: Path, values: dict[str, str]) -> None:
    """Change settings in archive.toml, and leave all else as it is."""
    path = folder / FILE_NAME
    text = path.read_text(encoding="utf-8")
    for name, value in values.items():
        line = f"{name} = {json.dumps(value)}\n"
        there = re.search(rf"(?m)^{name} *=.*\n", text)
        if there is None:  # before the first table
            at = re.search(r"(?m)^\[", text)
            begin = end = at.start() if at else len(text)
        else:
            begin, end = there.span()
        text = text[:begin] + line + text[end:]
    replace_file(path, text.encode())
