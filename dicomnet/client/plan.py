"""Which presentation contexts instances need, and which of them fit one association (PS3.8 Section 9.3.2.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..dataset.transcoding import IF_NEEDED, Transcoding, preferred
from ..protocol.negotiation import MAX_CONTEXTS, ProposedContext
from ..services.presentation_contexts import UNCOMPRESSED
from ..values import Value

__all__ = ["Lot", "lots", "storing"]

Pair = tuple[str, str]


class Lot(Value):
    """What one association can carry: its presentation contexts, and the instances that use them."""

    contexts: list[ProposedContext]
    items: list[Any]


def storing(pair: Pair, transcode: Transcoding) -> list[ProposedContext]:
    """The contexts for instances of this SOP class and transfer syntax, converted or not.

    Each transfer syntax gets a context of its own, since the acceptor chooses one for each context.
    """
    sop_class, own = pair
    contexts = [ProposedContext(sop_class, (syntax,)) for syntax in dict.fromkeys([*preferred(transcode), own])]
    if transcode == IF_NEEDED:
        contexts.append(ProposedContext(sop_class, UNCOMPRESSED))
    return contexts


def lots(items: Iterable[tuple[Any, Pair]], transcode: Transcoding) -> list[Lot]:
    """Distribute items over as few lots as possible, in the order in which they come within each pair.

    Args:
        items: each with its SOP class and transfer syntax.
        transcode: see `datasets.fitting`.
    """
    by_pair: dict[Pair, list[Any]] = {}
    for item, pair in items:
        by_pair.setdefault(pair, []).append(item)
    planned: list[tuple[dict[ProposedContext, None], list[Any]]] = []
    for pair, members in by_pair.items():
        needed = storing(pair, transcode)
        room = (one for one in planned if len(one[0].keys() | set(needed)) <= MAX_CONTEXTS)
        contexts, held = next(room, None) or ({}, [])
        if not held:
            planned.append((contexts, held))
        contexts.update(dict.fromkeys(needed))
        held.extend(members)
    return [Lot(list(contexts), held) for contexts, held in planned]
