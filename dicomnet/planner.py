"""From what is to be done to the presentation contexts it needs; users know it as ``dn.contexts`` (PS3.4)."""

from __future__ import annotations

from collections.abc import Iterable

from . import uids
from .negotiation import MAX_CONTEXTS, ProposedContext
from .sources import describe

__all__ = ["UNCOMPRESSED", "for_files", "for_instances", "storage", "verification"]

#: Every application must take implicit VR little endian (PS3.5 Section 10.1); explicit loses less on the way.
UNCOMPRESSED = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)


def verification() -> list[ProposedContext]:
    """The context for C-ECHO (PS3.4 Annex A)."""
    return [ProposedContext(uids.VERIFICATION, UNCOMPRESSED)]


def storage(
    sop_classes: Iterable[str], transfer_syntaxes: Iterable[str] = UNCOMPRESSED
) -> list[ProposedContext]:
    """One context for each storage class, each with all of the transfer syntaxes."""
    syntaxes = tuple(transfer_syntaxes)
    return [ProposedContext(sop_class, syntaxes) for sop_class in dict.fromkeys(sop_classes)]


def for_instances(instances: Iterable[tuple[str, str]]) -> list[ProposedContext]:
    """Contexts in which instances of these (SOP class, transfer syntax) can be sent as they are.

    Each pair gets a context of its own, since the acceptor chooses one transfer syntax per context.
    """
    return [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in dict.fromkeys(instances)]


def for_files(paths: Iterable[object]) -> list[ProposedContext]:
    """Contexts in which these Part 10 files can be sent as they are; unreadable files ask for nothing.

    Only the file meta information is read. Verification is added where there is room.
    """
    contexts = for_instances(pair for pair in map(describe, paths) if pair is not None)
    return contexts + verification() if len(contexts) < MAX_CONTEXTS else contexts
