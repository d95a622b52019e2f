"""``dicomnet media``: file-sets with a DICOMDIR as folders, zip files and ISO images; and a peer that makes media."""

from __future__ import annotations

from pathlib import Path

import click

from ..client import MediaCreationScu, MediaRequest, media_set
from ..client.inputs import gather
from ..config import parse_size
from ..errors import DicomNetError
from ..protocol.peer_profile import Peer
from .connect import client_options, peer_options
from .exits import Exit
from .options import DIRECTORY, PATH, SECONDS, Parsed, Settings, common, output_options
from .output import Output, amount, counted

__all__ = ["command"]


@click.group("media")
def command() -> None:
    """Make media with a DICOMDIR, check them, or have a peer make them."""


def _capacity(text: str) -> int:
    return media_set.CAPACITIES.get(text.upper()) or parse_size(text)


@command.command("make")
@click.argument("target", type=PATH)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--format", "form", type=click.Choice(media_set.FORMS), default="folder", show_default=True)
@click.option("--capacity", type=Parsed("size", _capacity), metavar="SIZE",
              help=f"Of a medium: {', '.join(media_set.CAPACITIES)}, or 650m; the rest goes on TARGET-2 …")  # fmt: skip
@click.option("--name", default="DICOM", show_default=True, help="File-set ID: A-Z, 0-9 and _.")
@click.option("--profile", type=click.Choice(tuple(media_set.PROFILES)), help="Whose transfer syntaxes they must have.")
@click.option("--beside", type=DIRECTORY, metavar="FOLDER", help="Its files too, such as a viewer's.")
@output_options
def make(
    target: str, paths: tuple[str, ...], form: str, capacity: int | None, name: str, profile: str | None,
    beside: str | None, output: Output,
) -> int:  # fmt: skip
    """Put the instances of PATHs on media at TARGET: files, folders, zip files, other media."""
    how = {"form": form, "capacity": capacity, "name": name, "beside": None if beside is None else Path(beside)}
    made = media_set.make(paths, Path(target), profile=profile or "", **how)
    for medium in made:
        output.say(f"{medium.path}: {medium.file_set_id}, {counted(len(medium.instances), 'instance')}, "
                   f"{amount(medium.size)}")  # fmt: skip
        output.record(
            path=str(medium.path), file_set_id=medium.file_set_id, instances=len(medium.instances), bytes=medium.size
        )
    count, size = sum(len(one.instances) for one in made), sum(one.size for one in made)
    summary = f"{counted(count, 'instance')} on {counted(len(made), 'medium').replace('mediums', 'media')}"
    output.summary(summary, media=len(made), instances=count, bytes=size)
    return Exit.DONE


@command.command("check")
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@output_options
def check(paths: tuple[str, ...], output: Output) -> int:
    """Say what is on media, what their directories list and is not there, and what they do not list."""
    whole, count = True, 0
    for path in paths:
        found = media_set.check(Path(path))
        whole, count = whole and found.is_whole, count + len(found.listed)
        for line in found.missing:
            output.error(line)
        for name in found.unlisted:
            output.warn(f"{path}: {name} is not listed")
        output.say(f"{path}: {found.file_set_id}, {counted(len(found.listed), 'instance')}")
        output.record(
            path=path, file_set_id=found.file_set_id, instances=len(found.listed), missing=list(found.missing),
            unlisted=list(found.unlisted),
        )  # fmt: skip
    output.summary(f"{counted(count, 'instance')} listed", instances=count, whole=whole)
    return Exit.DONE if whole else Exit.WARNINGS


@command.command("ask")
@peer_options
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="PATH...")
@click.option("--name", default="", help="File-set ID of the media.")
@click.option("--profile", default="", type=click.Choice(("", *media_set.PROFILES)), help="Application profile.")
@click.option("--label", default="", help="Text of the label.")
@click.option("--copies", type=click.IntRange(1, 99), default=1, help="Of each medium.")
@click.option("--one", is_flag=True, help="On one medium, or not at all.")
@click.option("--display", is_flag=True, help="With a program that shows the images.")
@click.option("--wait", type=SECONDS, default=0.0, metavar="SECONDS", help="For the media.")
@common
def ask(
    peer: Peer, paths: tuple[str, ...], name: str, profile: str, label: str, copies: int, one: bool,
    display: bool, wait: float, settings: Settings,
) -> int:  # fmt: skip
    """Have PEER make media of the instances of PATHs, which it was sent before."""
    request = MediaRequest(
        profile=profile, file_set_id=name, label=label, split=not one, display="REQUIRED" if display else "",
        copies=copies,
    )  # fmt: skip

    def refuse(_: object, __: str, error: DicomNetError) -> None:
        raise error

    instances = [(item.pair[0], item.sop_instance_uid) for item in gather(paths, refuse, recurse=True)]
    with MediaCreationScu(peer, **client_options(settings, peer)) as scu:
        made = scu.create(instances, request=request, patience=wait)
    for title, uid in made.media:
        settings.output.say(f"{title}: {uid}")
    settings.output.summary(
        f"{made.uid}: {made.status} {made.info}", uid=made.uid, status=made.status, info=made.info,
        media=[title for title, _ in made.media],
    )  # fmt: skip
    return Exit.DONE
