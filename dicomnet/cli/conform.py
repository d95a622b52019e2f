"""``dicomnet conform``: how well does a provider keep the standard, and what does it withstand?"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from ..config import Entity
from ..conform import program
from ..conform.session import Target
from ..errors import AssociationError, CannotListen, ConnectionFailed, DicomNetError, TLSFailed
from ..net.tls import TLS
from ..protocol.peer_profile import Peer
from .exits import Exit
from .options import AE_TITLE, PATH, PEER, SECONDS, Parsed, command_words, output_options, tls_options
from .output import Output, complain

__all__ = ["command"]


def _as_written(text: str) -> str:
    """A command that can be split into words, as the suite does once it has put host and port in."""
    command_words(text)
    return text


@click.command("conform")
@click.argument("peer", type=PEER, required=False)
@click.option("-aet", "--aet", type=AE_TITLE, default="CONFORM", metavar="ME", help="Our own AE title.")
@click.option(
    "-to", "--timeout", type=SECONDS, default=2.0, metavar="SECONDS", help="What an answer may take.  [default: 2]"
)
@click.option("-k", "pattern", metavar="PATTERN", help="Only cases with an id, or else words, like PATTERN.")
@click.option("--list", "listing", is_flag=True, help="List the cases, run none.")
@click.option(
    "--as-provider",
    "address",
    type=Parsed("address", Entity.parse),
    metavar="HOST:PORT",
    help="Listen, and test the users that connect, a connection for each case.",
)
@click.option(
    "--run",
    "run",
    type=Parsed("command", _as_written),
    metavar="COMMAND",
    help="With --as-provider: run it for each connection; {host} and {port} are put in.",
)
@click.option(
    "--wait",
    type=SECONDS,
    default=60.0,
    metavar="SECONDS",
    help="With --as-provider: what a connection may take.  [default: 60]",
)
@click.option("--slow", is_flag=True, help="Also wait for the provider's timers.")
@click.option(
    "--artim", type=SECONDS, default=35.0, metavar="SECONDS", help="What ARTIM may be, for --slow.  [default: 35]"
)
@click.option("--no-store", is_flag=True, help="Leave no objects with the provider.")
@click.option("--jobs", type=click.IntRange(min=1), default=4, metavar="N", help="Cases at a time.  [default: 4]")
@click.option("--junit", type=PATH, metavar="FILE", help="Write JUnit XML, too.")
@click.option("--strict", is_flag=True, help="Fail for should and robust cases as well.")
@tls_options
@output_options
def command(
    peer: Peer | None, address: Entity | None, listing: bool, tls: TLS | None, output: Output, **chosen: Any
) -> int:
    """Test how the provider PEER keeps PS3.7 and PS3.8, and what it withstands.

    Each case names its section, and how binding its rule is: "must" by the text, "should" where the text recommends,
    "robust" where it is silent and a hostile network is not. Exits with 0 if every must case passes, else with 69.
    A provider of CT images gets some tiny ones, of patient CONFORM^TEST, unless --no-store is given.
    """
    options = program.Options(
        **{field.name: chosen[field.name] for field in fields(program.Options) if field.name in chosen},
        json=output.json,
        verbose=output.verbosity > 0,
        quiet=output.verbosity < 0,
    )
    if listing:
        program.list_cases(options.pattern, users=address is not None)
        return Exit.DONE
    if address is not None and (tls is not None or address.tls):
        raise click.UsageError("users are tested without TLS: --as-provider goes with none of its options")
    if address is not None and peer is None:
        return _test_user(address, options, chosen)
    if peer is None or address is not None:
        raise click.UsageError("one of PEER and --as-provider HOST:PORT is needed, and only one")
    return _test_provider(peer.address(), tls or (TLS() if peer.address().tls else None), options, chosen)


def _test_provider(peer: Entity, tls: TLS | None, options: program.Options, chosen: dict[str, Any]) -> int:
    secure = None if tls is None else _securing(tls, peer.host)
    how = {"timeout": chosen["timeout"], "artim": chosen["artim"], "stores": not chosen["no_store"], "secure": secure}
    target = Target(peer.host, peer.port, peer.ae_title, chosen["aet"], **how)
    try:
        return Exit.DONE if program.test_provider(target, options) else Exit.FAILURES
    except (ConnectionFailed, AssociationError):
        if tls is not None:
            _blame(peer, tls, chosen["aet"])
        raise


def _securing(tls: TLS, host: str) -> Callable[[socket.socket], socket.socket]:
    context = tls.client_context()

    def secure(sock: socket.socket) -> socket.socket:
        secured: socket.socket = context.wrap_socket(sock, server_hostname=tls.server_name or host)
        return secured

    return secure


def _blame(peer: Entity, tls: TLS, calling: str) -> None:
    """Raise what is wrong with TLS, if that is what is wrong: our own user has the words for it."""
    from ..services.presentation_contexts import verification
    from ..sync import connect

    try:
        connect(peer, contexts=verification(), calling=calling, tls=tls).release()
    except TLSFailed:
        raise
    except DicomNetError:
        return


def _test_user(address: Entity, options: program.Options, chosen: dict[str, Any]) -> int:
    stage = program.Stage(address.host, address.port, chosen["timeout"], chosen["wait"], chosen["run"])
    try:
        return Exit.DONE if program.test_user(stage, options) else Exit.FAILURES
    except CannotListen as error:
        complain(str(error))
        return Exit.CANNOT_LISTEN
