"""``dicomnet recv``: a provider that stores what it is sent, or throws it away."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import click

from ..config import OPERATIONS_WINDOW, Entity
from ..errors import CannotListen, OutputFileError, OutputProblem
from ..net.tls import TLS
from ..protocol.negotiation import AcceptancePolicy
from .exits import Exit
from .layout import Layout
from .options import DRAIN, PATH, Parsed, Settings, command_words, common
from .receiver import Receiver

__all__ = ["command"]


def _address(text: str) -> tuple[str | None, Entity]:
    """The AE title, None where there is none, and the rest."""
    return (None if "@" not in text else Entity.parse(text).ae_title), Entity.parse(text)


@click.command("recv")
@click.argument("address", type=Parsed("address", _address), metavar="[AET@]HOST:PORT")
@click.option("-od", "--out", metavar="DIR", type=PATH, help="Keep each instance as DIR/<SOP Instance UID>.dcm.")
@click.option("--discard", is_flag=True, help="Keep nothing.")
@click.option("+B", "bit_preserving", is_flag=True, hidden=True, expose_value=False)  # DCMTK's; here every file is
@click.option(
    "--max-associations", type=click.IntRange(min=1), metavar="N",
    help="Associations at a time; more are rejected for the moment.  [default: 100]",
)  # fmt: skip
@click.option(
    "--workers", type=click.IntRange(min=1, max=255), default=1, metavar="N",
    help="Processes that serve; about one for each core.  [default: 1]",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(min=1), default=OPERATIONS_WINDOW, metavar="N",
    help=f"Instances that a caller which asks for it may have under way at a time.  [default: {OPERATIONS_WINDOW}]",
)  # fmt: skip
@click.option(
    "--durable", is_flag=True,
    help="Answer once the disk has confirmed an instance, which then survives a loss of power.",
)  # fmt: skip
@click.option(
    "--on-duplicate", type=click.Choice(["number", "replace", "refuse"]), default="number",
    help="Where other bytes of an instance are here: keep both, take its place, or tell the sender.  [default: number]",
)  # fmt: skip
@click.option(
    "--exec", "run", type=Parsed("command", command_words), default=(), metavar="COMMAND",
    help="Run COMMAND, without a shell, for each file, before the answer; {file}, {calling} and {uid} are put in.",
)  # fmt: skip
@click.option(
    "--layout", type=Parsed("template", Layout), metavar="TEMPLATE",
    help="Name files so below DIR: {patient}/{study}/{series}/{uid}.dcm; also {modality}, {date}, {calling}.",
)  # fmt: skip
@click.option("--any-class", is_flag=True, help="Also take SOP classes that dicomnet does not know.")
@click.option(
    "--drain", type=DRAIN, default=30.0, metavar="SECONDS",
    help="What associations in flight get when the program is stopped.  [default: 30]",
)  # fmt: skip
@click.option(
    "--tls-clients", type=click.Choice(["required", "optional", "ignored"]), default="required",
    help="TLS: whether callers need a certificate of the authorities in --tls-ca.  [default: required]",
)  # fmt: skip
@common
def command(
    address: tuple[str | None, Entity],
    out: str | None,
    discard: bool,
    max_associations: int | None,
    window: int,
    tls_clients: str,
    settings: Settings,
    **options: Any,
) -> int:
    """Receive what peers send, until SIGINT or SIGTERM.

    Prints "listening on HOST:PORT" once it accepts connections; port 0 picks a free one. With an AET, an association
    that calls another title is rejected; without one, any title will do. Verification and every storage class are
    accepted, in any transfer syntax.
    """
    if (out is None) is not discard:
        raise click.UsageError("one of --out DIR and --discard is needed, and only one")
    title, entity = address
    limits = settings.limits if max_associations is None else replace(settings.limits, associations=max_associations)
    receiver = Receiver(
        None if out is None else _directory(out),
        settings.output,
        acceptance=AcceptancePolicy(operations_window=(window, 1)),
        ae_title=_one_title(title, settings.ae_title),
        host=entity.host,
        port=entity.port,
        tls=_tls(entity, settings.tls, tls_clients),
        limits=limits,
        timeouts=settings.timeouts,
        tap=settings.tap,
        **options,
    )
    try:
        receiver.run()
    except CannotListen as error:
        settings.output.error(str(error))
        return Exit.CANNOT_LISTEN
    return Exit.DONE


def _one_title(addressed: str | None, chosen: str | None) -> str | None:
    if addressed and chosen and addressed != chosen:
        raise click.UsageError(f'two AE titles: "{addressed}" in the address, "{chosen}" by --aet')
    return addressed or chosen


def _tls(entity: Entity, given: TLS | None, clients: str) -> TLS | None:
    if given is None and not entity.tls:
        return None
    if given is None or given.cert is None:
        raise click.UsageError("TLS needs a certificate: --tls-cert. `dicomnet cert make` makes one to try with")
    if given.ca is None and clients != "ignored":
        raise click.UsageError(
            f"client certificates are {clients}, but --tls-ca does not say whose: give it, or --tls-clients ignored"
        )
    return replace(given, client_certificate=clients)


def _directory(path: str) -> str:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise OutputFileError(
            f"cannot be made: {error.strerror}", path=path, problem=OutputProblem.NO_DIRECTORY, errno=error.errno
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise OutputFileError("cannot be written to", path=path, problem=OutputProblem.NO_DIRECTORY)
    return path
