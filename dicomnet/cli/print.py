"""``dicomnet print``: pictures on film or paper."""

from __future__ import annotations

from typing import Any

import click

from ..client import Film, Printed, PrintScu, PrintSession
from ..client import events as client_events
from ..errors import InvalidArgument
from ..protocol.peer_profile import Peer
from ..services.film import FILM_SIZES
from .connect import client_options, peer_options
from .exits import Exit
from .options import PATH, SECONDS, Parsed, Settings, common, stacked
from .output import counted

__all__ = ["command"]

_FUNCTIONS = ("linear", "linear-exact", "sigmoid")


def _window(text: str) -> tuple[float, float, str]:
    parts = text.split(",")
    function = parts[2] if len(parts) == 3 else "linear"
    try:
        centre, width = (float(one) for one in parts[:2])
        if width < 1 or function not in _FUNCTIONS or len(parts) > 3:
            raise ValueError
    except ValueError as error:
        raise InvalidArgument(f'"{text}" is no window', hint="Write CENTRE,WIDTH as in 40,400.") from error
    return centre, width, function


#: How films look.
_layout = stacked(
    click.option("--layout", default="1x1", show_default=True, metavar="CxR",
                 help=r"COLUMNSxROWS, or as the standard has it: ROW\1,2 or COL\2,1."),
    click.option("--film", "size", default="", metavar="SIZE", help=f"{', '.join(FILM_SIZES)}."),
    click.option("--orientation", type=click.Choice(["PORTRAIT", "LANDSCAPE"], case_sensitive=False),
                 default="PORTRAIT", help="Of the film."),
    click.option("--magnification", type=click.Choice(["REPLICATE", "BILINEAR", "CUBIC", "NONE"]),
                 help="How images are enlarged."),
    click.option("--border", default="", metavar="DENSITY", help="Between images: BLACK, WHITE, or 150."),
    click.option("--empty", default="", metavar="DENSITY", help="Where there is no image."),
    click.option("--trim", is_flag=True, help="A line around each image."),
    click.option("--lut", type=click.Choice(["IDENTITY", "LIN OD"]), help="The presentation LUT."),
    click.option("--annotation", "annotations", multiple=True, metavar="TEXT", help="Repeat it for more boxes."),
    click.option("--annotation-format", default="", metavar="ID", help="The printer's name of their layout."),
)  # fmt: skip
#: What is to be done with the films.
_session = stacked(
    click.option("--copies", type=click.IntRange(1, 999), default=1, help="Of each film."),
    click.option("--medium", default="", metavar="TYPE", help='"BLUE FILM", "CLEAR FILM", "PAPER".'),
    click.option("--destination", default="", metavar="BIN", help="MAGAZINE, PROCESSOR, BIN_1."),
    click.option("--priority", type=click.Choice(["HIGH", "MED", "LOW"]), help="Of the job."),
    click.option("--label", default="", metavar="TEXT", help="Of the job."),
)


@click.command("print")
@peer_options
@click.argument("files", type=PATH, nargs=-1, metavar="FILE...")
@_layout
@_session
@click.option("--color", is_flag=True, help="Print in colour.")
@click.option("--bits", type=click.Choice(["8", "12"]), default="8", help="Of grey values.")
@click.option("--window", type=Parsed("window", _window), metavar="C,W", help="In place of those of the images.")
@click.option("--polarity", type=click.Choice(["NORMAL", "REVERSE"]), help="REVERSE swaps black and white.")
@click.option("--true-size", is_flag=True, help="As large as they are, where images tell.")
@click.option("--large", type=click.Choice(["DECIMATE", "CROP", "FAIL"]), help="What becomes of them.")
@click.option("--wait", type=SECONDS, default=0.0, metavar="SECONDS", help="For the end of the job.")
@common
def command(
    peer: Peer, files: tuple[str, ...], settings: Settings, size: str, large: str | None,
    wait: float, bits: str, **chosen: Any,
) -> int:  # fmt: skip
    """Print the images of FILEs at PEER; without any, say how the printer is."""
    chosen |= {name: chosen[name] or "" for name in ("magnification", "lut", "priority", "polarity")}
    session = PrintSession(**{name: chosen.pop(name) for name in
                              ("copies", "medium", "destination", "priority", "label")})  # fmt: skip
    looks = ("layout", "orientation", "magnification", "border", "empty", "lut", "annotations", "annotation_format")
    film = Film(size=size, trim=True if chosen.pop("trim") else None, **{name: chosen.pop(name) for name in looks})
    with PrintScu(peer, **client_options(settings, peer)) as scu:

        @scu.on(client_events.Reported)
        def reported(event: client_events.Reported) -> None:
            names = "PrinterStatusInfo", "ExecutionStatusInfo"
            said = [str(event.dataset.get(name)) for name in names if event.dataset and event.dataset.get(name)]
            settings.output.warn(f"the printer reports event {event.event_type_id}: {' '.join(said) or 'no reason'}")

        if not files:
            return _state(scu, settings)
        done = scu.print(
            *files, film=film, session=session, bits=int(bits), behaviour=large or "", patience=wait, **chosen
        )
    return _tell(done, settings)


def _state(scu: PrintScu, settings: Settings) -> int:
    state = scu.printer()
    settings.output.say(f"{state.name or scu.peer}: {state.status} {state.info}".rstrip())
    settings.output.record(name=state.name, status=state.status, info=state.info)
    return Exit.DONE if state.status == "NORMAL" else Exit.WARNINGS


def _tell(done: Printed, settings: Settings) -> int:
    for warning in done.warnings:
        settings.output.warn(str(warning))
    for job in done.jobs:
        settings.output.say(f"job {job.uid}{': ' if job.status else ''}{job.status}")
        settings.output.record(job=job.uid, status=job.status, info=job.info)
    settings.output.summary(
        f"{counted(done.images, 'image')} on {counted(done.films, 'film')}",
        images=done.images, films=done.films, jobs=len(done.jobs), warnings=[int(one) for one in done.warnings],
    )  # fmt: skip
    return Exit.WARNINGS if done.warnings else Exit.DONE
