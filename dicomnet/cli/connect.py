"""What commands that ask a peer for something share: whom they call, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from ..config import Entity
from ..errors import DicomNetError
from ..protocol.negotiation import NegotiationOptions, ProposedContext
from ..sync import Association, connect
from .options import AE_TITLE, PEER, Settings, profile_of

__all__ = ["associate", "call", "client_options", "listen_option", "peer_options"]


def peer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument PEER, and the option that changes its AE title."""
    option = click.option(
        "-aec", "--aec", type=AE_TITLE, metavar="AET", help="The called AE title, instead of the one in PEER."
    )
    return click.argument("peer", type=PEER)(option(function))


def associate(
    peer: Entity,
    aec: str | None,
    contexts: Sequence[ProposedContext],
    settings: Settings,
    extras: NegotiationOptions | None = None,
) -> Association:
    """Connect to a peer, under another AE title if one was given."""
    return connect(
        profile_of(replace(peer, ae_title=aec) if aec else peer),
        calling=settings.calling(peer),
        contexts=contexts,
        tls=settings.tls,
        extras=extras,
        limits=settings.limits,
        timeouts=settings.timeouts,
        tap=settings.tap,
    )


@contextmanager
def call(
    peer: Entity, aec: str | None, contexts: Sequence[ProposedContext], settings: Settings
) -> Iterator[Association]:
    """An association with a peer, released in the end, or aborted where the block ends in an exception.

    A peer that closes the connection instead of releasing is no more than a warning: the work is done.
    """
    association = associate(peer, aec, contexts, settings)
    try:
        yield association
    except BaseException:
        association.abort()
        raise
    try:
        association.release()
    except DicomNetError as error:
        settings.output.warn(f"the peer did not release the association: {error}")


def client_options(settings: Settings, peer: Entity) -> dict[str, Any]:
    """What a client is given of the common options."""
    return {
        "calling": settings.calling(peer),
        "tls": settings.tls,
        "limits": settings.limits,
        "timeouts": settings.timeouts,
        "tap": settings.tap,
    }


def listen_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --listen: where the peer is to call back."""
    return click.option("--listen", "where", type=PEER, metavar="HOST:PORT", help=what)
