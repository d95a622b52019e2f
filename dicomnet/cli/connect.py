"""What commands that ask a peer for something share: whom they call, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from .. import uids
from ..errors import DicomNetError, InvalidArgument, escaped
from ..protocol.negotiation import NegotiationOptions, ProposedContext
from ..protocol.peer_profile import Peer
from ..services.presentation_contexts import UNCOMPRESSED
from ..sync import Association, connect
from .options import ADDRESS, AE_TITLE, PEER, Decorator, Parsed, Settings

__all__ = ["associate", "call", "client_options", "listen_option", "peer_options", "syntax_option"]


def peer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PEER, and the option that changes its AE title: a command gets both as ``peer``."""
    option = click.option(
        "-aec", "--aec", type=AE_TITLE, metavar="AET", help="The called AE title, instead of the one in PEER."
    )

    @wraps(function)
    def command(*args: Any, peer: Peer, aec: str | None, **own: Any) -> Any:
        return function(*args, peer=peer.titled(aec), **own)

    return click.argument("peer", type=PEER)(option(command))


def associate(
    peer: Peer,
    contexts: Sequence[ProposedContext],
    settings: Settings,
    extras: NegotiationOptions | None = None,
) -> Association:
    """Connect to a peer."""
    return connect(
        peer,
        calling=settings.calling(peer),
        contexts=contexts,
        tls=settings.tls,
        extras=extras,
        limits=settings.limits,
        timeouts=settings.timeouts,
        tap=settings.tap,
    )


@contextmanager
def call(peer: Peer, contexts: Sequence[ProposedContext], settings: Settings) -> Iterator[Association]:
    """An association with a peer, released in the end, or aborted where the block ends in an exception.

    A peer that closes the connection instead of releasing is no more than a warning: the work is done.
    """
    association = associate(peer, contexts, settings)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    try:
        association.release()
    except DicomNetError as error:
        settings.output.warn(f"the peer did not release the association: {error}")


def client_options(settings: Settings, peer: Peer) -> dict[str, Any]:
    """What a client is given of the common options."""
    return {
        "calling": settings.calling(peer),
        "tls": settings.tls,
        "limits": settings.limits,
        "timeouts": settings.timeouts,
        "tap": settings.tap,
    }


def _syntax(text: str) -> str:
    """A transfer syntax: its UID, or its name among `uids`, in any spelling."""
    uid = getattr(uids, text.upper().replace("-", "_"), text)
    if not isinstance(uid, str) or not uids.is_valid(uid):
        raise InvalidArgument(
            f'"{escaped(text)}" is no transfer syntax', hint="Give its UID, or a name such as jpeg2000-lossless."
        )
    return uid


def _with_uncompressed(_: click.Context, __: click.Parameter, wanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*wanted, *UNCOMPRESSED)))


#: The option --syntax: in which transfer syntaxes instances may come, these before uncompressed ones.
syntax_option: Decorator = click.option(
    "--syntax", "syntaxes", type=Parsed("syntax", _syntax), multiple=True, metavar="SYNTAX",
    callback=_with_uncompressed,
    help="By C-GET, also let instances come so: a UID or a name such as jpeg2000-lossless. Repeat it.",
)  # fmt: skip


#: The option --from: under which other titles the peer may call back.
from_option: Decorator = click.option(
    "--from", "senders", type=AE_TITLE, multiple=True, metavar="AET",
    help="Another AE title by which PEER calls back. Repeat it.",
)  # fmt: skip


def listen_option(what: str) -> Decorator:
    """The option --listen: where the peer is to call back."""
    return click.option("--listen", "where", type=ADDRESS, metavar="HOST:PORT", help=what)
