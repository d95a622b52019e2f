"""What click does for the program: help, completion, abbreviations, and what is wrong with a command line, in words."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from .. import __version__
from .._typing import Any
from ..errors import InvalidArgument, escaped
from . import commands
from .declare import Choice, Command, Group, Kind, Parameter, Path, Whole
from .exits import Exit
from .output import complain

__all__ = ["complete", "run"]


class _Read(click.ParamType[Any]):
    """A parameter of a kind that click does not know."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.name
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What click calls with the text from the command line, or with a default."""
        if not isinstance(value, str):
            return value
        try:
            return self._kind.read(value)
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


def _type(kind: Kind | None) -> click.ParamType[Any] | None:
    match kind:
        case None:
            return None
        case Whole():
            return click.IntRange(kind.least, kind.most)
        case Choice():
            return click.Choice(kind.words, kind.case_sensitive)
        case Path():
            return click.Path(kind.exists, kind.file_okay, kind.dir_okay, readable=False)
    return _Read(kind)


def _parameter(own: Parameter) -> click.Parameter:
    make = click.Option if own.is_option else click.Argument
    return make(own.words, type=_type(own.kind), **own.settings)


class _Group(click.Group):
    def __init__(self, own: Group) -> None:
        subcommands = list(map(_command, own.commands.values()))
        super().__init__(own.name, subcommands, help=own.help, short_help=own.short_help)
        self._own = own

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, but the name of the usual command may be left out."""
        return super().parse_args(ctx, list(self._own.named(args)))


def _command(own: Command | Group) -> click.Command:
    if isinstance(own, Group):
        return _Group(own)
    return click.Command(
        own.name,
        callback=own.body,
        params=list(map(_parameter, own.parameters)),
        help=own.body.__doc__,
        short_help=own.short_help,
    )


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help."""
        return list(commands.NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, loaded now."""
        own = commands.load(cmd_name)
        return _command(own) if own else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def dicomnet() -> None:
    """DICOM over the network: verify, send, receive, look into.

    PEER is AET@HOST:PORT, AET@[::1]:11112, or HOST:PORT (called AE title ANY-SCP).
    """


def complete(arguments: Sequence[str]) -> None:
    """Tell a shell how the line may go on, and end the process."""
    dicomnet.main(arguments, prog_name="dicomnet")


def run(arguments: Sequence[str]) -> int:
    """Run what click makes of these arguments, or say what is wrong with them; the exit code."""
    try:
        with dicomnet.make_context("dicomnet", list(arguments)) as context:
            return int(dicomnet.invoke(context) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return Exit.USAGE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        complain(_sentence(error))
        return error.exit_code


def _sentence(error: click.ClickException) -> str:
    usage = getattr(error, "ctx", None)
    message = escaped(error.format_message().replace("\n", " "))
    message = message.rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} Try: {usage.command_path} --help" if usage else message
