"""What commands that ask a peer for something share: whom they call, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from ..config import Entity
from ..protocol.negotiation import Extras, ProposedContext
from ..sync import Association, connect
from .options import AE_TITLE, PEER, Settings, profile_of

__all__ = ["call", "client_options", "listen_option", "peer_options"]


def peer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PEER, and the option that changes its AE title."""
    option = click.option(
        "-aec", "--aec", type=AE_TITLE, metavar="AET", help="The called AE title, instead of the one in PEER."
    )
    return click.argument("peer", type=PEER)(option(function))


def call(
    peer: Entity,
    aec: str | None,
    contexts: Sequence[ProposedContext],
    settings: Settings,
    extras: Extras | None = None,
) -> Association:
    """Connect to a peer, under another AE title if one was given."""
    return connect(
        profile_of(peer.replace(ae_title=aec) if aec else peer),
        calling=settings.calling(peer),
        contexts=contexts,
        tls=settings.tls,
        extras=extras,
        limits=settings.limits,
        timeouts=settings.timeouts,
    )


def client_options(settings: Settings, peer: Entity) -> dict[str, Any]:
    """What a client is given of the common options."""
    return {
        "calling": settings.calling(peer),
        "tls": settings.tls,
        "limits": settings.limits,
        "timeouts": settings.timeouts,
    }


def listen_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --listen: where the peer is to call back."""
    return click.option("--listen", "where", type=PEER, metavar="HOST:PORT", help=what)
