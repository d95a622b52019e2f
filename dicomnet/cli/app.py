"""The group of commands, and what becomes of an error: one line on standard error, and an exit code."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from .. import __version__
from ..errors import DicomNetError, escaped
from .exits import Exit, exit_code
from .output import complain

__all__ = ["run"]

# Listed by `dicomnet --help` in this order; each is the `command` of the module of this name.
_COMMANDS = (
    "echo", "store", "find", "get", "move", "recv", "plan", "mpps", "commit", "dump", "conform", "cert", "demo",
)


class _Commands(click.Group):
    """Loads a command when it is asked for: start-up time is a feature."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Of the module of this name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f".{cmd_name}", __package__).command
        gc.freeze()
        gc.enable()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def dicomnet() -> None:
    """DICOM over the network: verify, send, receive, look into.

    PEER is AET@HOST:PORT, AET@[::1]:11112, or HOST:PORT (called AE title ANY-SCP).
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Errors are reported here and nowhere else."""
    if "_DICOMNET_COMPLETE" in os.environ:  # a shell asks for completions, by click's protocol
        dicomnet.main(arguments, prog_name="dicomnet")
    try:
        with dicomnet.make_context("dicomnet", list(arguments)) as context:
            result = dicomnet.invoke(context)
            sys.stdout.flush()
            return int(result or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        complain(_sentence(error))
        return error.exit_code
    except BrokenPipeError:
        return _nobody_reads()
    except (KeyboardInterrupt, DicomNetError, OSError) as error:
        _report(error)
        return exit_code(error)


def _sentence(error: click.ClickException) -> str:
    usage = getattr(error, "ctx", None)
    message = escaped(error.format_message().replace("\n", " "))
    return f"{message.rstrip('.')}. Try: {usage.command_path} --help" if usage else message


def _report(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return
    complain(escaped(str(error)))
    if logging.getLogger("dicomnet").isEnabledFor(logging.DEBUG):
        import traceback

        traceback.print_exception(error)


def _nobody_reads() -> int:
    """Whoever read our standard output went away: end quietly, as programs in a pipe do."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.INTERNAL
