"""The program: finds the command, runs it, and makes of an error one line on standard error, and an exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

import click

from .. import __version__
from ..errors import DicomNetError, escaped
from .exits import Exit, exit_code
from .lazy_group import Lazy, LazyGroup
from .output import complain

__all__ = ["COMMANDS", "dicomnet", "run"]

#: In the order of `dicomnet --help`. CONTRIBUTING.md says how a command is added.
COMMANDS = {
    "echo": Lazy("dicomnet.cli.echo:command", "Verify that a peer answers (C-ECHO)."),
    "store": Lazy("dicomnet.cli.store:command", "Send files and directories of files (C-STORE)."),
    "find": Lazy("dicomnet.cli.find:command", "Query a peer (C-FIND)."),
    "get": Lazy("dicomnet.cli.get:command", "Fetch instances (C-GET)."),
    "move": Lazy("dicomnet.cli.move:command", "Have a peer send instances (C-MOVE)."),
    "retrieve": Lazy("dicomnet.cli.retrieve:command", "Fetch instances by C-GET, or by C-MOVE to here."),
    "recv": Lazy("dicomnet.cli.recv:command", "Receive instances (C-STORE provider)."),
    "plan": Lazy("dicomnet.cli.plan:command", "Show the associations and contexts that files need."),
    "peers": Lazy("dicomnet.cli.peers:command", "List the peers that are known by name."),
    "mpps": Lazy("dicomnet.cli.mpps:command", "Begin and end a performed procedure step (N-CREATE, N-SET)."),
    "commit": Lazy("dicomnet.cli.commit:command", "Ask for storage commitment (N-ACTION, N-EVENT-REPORT)."),
    "print": Lazy("dicomnet.cli.print:command", "Print images on film or paper (Print Management)."),
    "media": Lazy("dicomnet.cli.media:command", "Make and check media with a DICOMDIR, or have a peer make them."),
    "patient": Lazy("dicomnet.cli.patient:command", "Correct, merge and separate the patients of an archive (HL7)."),
    "ups": Lazy("dicomnet.cli.ups:command", "Make, find, perform and watch work items (UPS)."),
    "notify": Lazy("dicomnet.cli.notify:command", "Tell a peer where instances are available (N-CREATE)."),
    "dump": Lazy("dicomnet.cli.dump:command", "Show the headers of a file, captured PDUs, or a message log."),
    "archive": Lazy("dicomnet.cli.archive:command", "Run an archive, and look after what it holds."),
    "web": Lazy("dicomnet.cli.web:command", "Search, fetch and store by DICOMweb; manage an archive's users."),
    "router": Lazy("dicomnet.cli.router:command", "Run a router, and look after its rules and queues."),
    "workstation": Lazy("dicomnet.cli.workstation:command", "Run a workstation: receive, query, retrieve, store."),
    "site": Lazy("dicomnet.cli.site:command", "Set up, check and run archive, workstation and router together."),
    "worklist": Lazy("dicomnet.cli.worklist:command", "Look after the worklist of an archive."),
    "doctor": Lazy("dicomnet.cli.doctor:command", "Find out why a peer cannot be reached or does not answer."),
    "conform": Lazy("dicomnet.cli.conform:command", "Test how well a provider keeps to the standard."),
    "bench": Lazy("dicomnet.cli.bench:command", "Measure how fast a peer is."),
    "cert": Lazy("dicomnet.cli.cert:command", "Make, show and check certificates for TLS."),
    "server": Lazy("dicomnet.cli.server:command", "Make, run and administer DICOM servers."),
    "console": Lazy("dicomnet.cli.console:command", "Administer the servers of this machine from a browser."),
    "addin": Lazy("dicomnet.cli.addin:command", "Start a new add-in for a server."),
    "demo": Lazy("dicomnet.cli.demo:command", "Send real files to a provider started here, and compare."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def dicomnet() -> None:
    """DICOM over the network: verify, send, query, receive and inspect.

    PEER is AET@HOST:PORT, AET@[::1]:11112, HOST:PORT (called AE title ANY-SCP), or a name from peers.toml.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. Errors are reported here and nowhere else."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our standard output went away: end quietly, as programs in a pipe do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.INTERNAL
    except (KeyboardInterrupt, DicomNetError, OSError) as error:
        _report(error)
        return exit_code(error)


def _run(arguments: Sequence[str]) -> int:
    if "_DICOMNET_COMPLETE" in os.environ:
        dicomnet.main(arguments, prog_name="dicomnet")  # tells a shell how the line may go on, and ends the process
    try:
        # Not `main`, which prints what it catches in its own way.
        with dicomnet.make_context("dicomnet", list(arguments)) as context:
            return int(dicomnet.invoke(context) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return Exit.USAGE
    except click.exceptions.Exit as error:  # of --help and --version
        return error.exit_code
    except click.ClickException as error:
        complain(_sentence(error))
        return error.exit_code


def _sentence(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = escaped(error.format_message().replace("\n", " ")).rstrip(".")
    if context is None:
        return message
    return f"{message}{'' if message.endswith(('?', '?)')) else '.'} Try: {context.command_path} --help"


def _report(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        complain("interrupted")
        return
    complain(escaped(str(error)))
    if logging.getLogger("dicomnet").isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
