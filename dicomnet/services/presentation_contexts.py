"""From what is to be done to the presentation contexts it needs; users know it as ``dn.contexts`` (PS3.4, PS3.8)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .. import uids
from ..config import listed
from ..dataset.codec import NATIVE
from ..dataset.transcoding import IF_NEEDED, NEVER, Transcoding, preferred
from ..files.instance_source import describe
from ..protocol.negotiation import MAX_CONTEXTS, ProposedContext
from . import query_models

__all__ = [
    "UNCOMPRESSED",
    "StoreBatch",
    "batches",
    "commitment",
    "for_files",
    "for_instances",
    "procedure_step",
    "query_retrieve",
    "retrieving",
    "sop_classes",
    "split",
    "storage",
    "store_batches",
    "storing",
    "verification",
    "worklist",
]

#: Every application must take implicit VR little endian (PS3.5 Section 10.1); explicit loses less on the way.
UNCOMPRESSED = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)


_ROOT = "1.2.840.10008.5.1."
# Storage classes that hospitals hardly send, by the beginning of what follows the root: print, standalone overlays and
# curves, implants, protocols, security and material testing, second-generation radiotherapy, eye measurements,
# surfaces, volumetric presentation states, sleep laboratories. They do not fit one association with all the others.
_RARE = tuple(
    _ROOT + rest
    for rest in (
        "1.", "4.34.", "4.38.", "4.39.", "4.43.", "4.44.", "4.45.", "4.1.1.129", "4.1.1.200.", "4.1.1.201.",
        "4.1.1.481.1", "4.1.1.481.2", "4.1.1.501.", "4.1.1.601.", "4.1.1.66.6", "4.1.1.68.", "4.1.1.78.", "4.1.1.79.",
        "4.1.1.80.", "4.1.1.82.", "4.1.1.9.7.", "4.1.1.9.8.", "4.1.1.11.6", "4.1.1.11.7", "4.1.1.11.9", "4.1.1.11.1",
    )
)  # fmt: skip
_USUAL = frozenset(
    _ROOT + rest
    for rest in ("4.1.1.481.1", "4.1.1.481.2", "4.1.1.11.1")  # RT image, RT dose, grayscale presentation
)
_STANDALONE = frozenset(_ROOT + rest for rest in ("4.1.1.8", "4.1.1.9", "4.1.1.10", "4.1.1.11"))


def _rank(uid: str) -> tuple[bool, bool, int, str]:
    rare = (uid.startswith(_RARE) and uid not in _USUAL) or uid in _STANDALONE
    return "Trial" in uids.name_of(uid), rare, len(uid), uid


@lru_cache(1)
def _common_storage() -> tuple[str, ...]:
    """The storage classes in the order in which a C-GET should ask for them: rare ones late, trial ones last."""
    return tuple(sorted(uids.STORAGE_CLASSES, key=_rank))


def verification() -> list[ProposedContext]:
    """The context for C-ECHO (PS3.4 Annex A)."""
    return [ProposedContext(uids.VERIFICATION, UNCOMPRESSED)]


def storage(sop_classes: Iterable[str], transfer_syntaxes: Iterable[str] = UNCOMPRESSED) -> list[ProposedContext]:
    """One context for each storage class, each with all of the transfer syntaxes."""
    syntaxes = listed(transfer_syntaxes)
    return [ProposedContext(sop_class, syntaxes) for sop_class in dict.fromkeys(listed(sop_classes))]


def for_instances(instances: Iterable[tuple[str, str]]) -> list[ProposedContext]:
    """Contexts in which instances of these (SOP class, transfer syntax) can be sent as they are.

    Each pair gets a context of its own, since the acceptor chooses one transfer syntax per context.
    """
    return [ProposedContext(sop_class, (syntax,)) for sop_class, syntax in dict.fromkeys(instances)]


def storing(pair: tuple[str, str], transcode: Transcoding) -> list[ProposedContext]:
    """The contexts for instances of this SOP class and transfer syntax, converted or not.

    Each transfer syntax gets a context of its own, since the acceptor chooses one for each context. What is not
    compressed is proposed in the other uncompressed syntaxes, too: every acceptor has to take implicit VR little
    endian, and some take nothing else (PS3.5 Section 10.1).
    """
    sop_class, own = pair
    contexts = [ProposedContext(sop_class, (syntax,)) for syntax in dict.fromkeys([*preferred(transcode), own])]
    if transcode == IF_NEEDED or own in NATIVE:
        others = UNCOMPRESSED if own not in NATIVE else tuple(one for one in UNCOMPRESSED if one != own)
        contexts.append(ProposedContext(sop_class, others))
    return contexts


class StoreBatch(NamedTuple):
    """What fits one association: its presentation contexts, and the instances that use them."""

    contexts: list[ProposedContext]
    instances: list[Any]


def store_batches(items: Iterable[tuple[Any, tuple[str, str]]], transcode: Transcoding) -> list[StoreBatch]:
    """Distribute items over as few associations as possible, in the order in which they come within each pair.

    Args:
        items: each with its SOP class and transfer syntax.
        transcode: see `transfer_choice.fitting`.
    """
    by_pair: dict[tuple[str, str], list[Any]] = {}
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
    return [StoreBatch(list(contexts), held) for contexts, held in planned]


def batches(instances: Iterable[Any], *, also: Sequence[str] = (), fallback: bool = False) -> list[StoreBatch]:
    """Distribute instances over as few associations as possible, each within 128 presentation contexts (PS3.8 9.3.2.2).

    Each pair of SOP class and transfer syntax needs a context of its own. Instances keep their order within a pair.
    What cannot be read goes into the first batch, so that the caller who sends it finds out why.

    Args:
        instances: whatever can be stored.
        also: where there is room, transfer syntaxes that each SOP class is proposed in, too.
        fallback: where there is room, also propose each SOP class uncompressed, for what has to be converted.
    """
    by_pair: dict[tuple[str, str], list[Any]] = {}
    unreadable: list[Any] = []
    for instance in instances:
        pair = describe(instance)
        (unreadable if pair is None else by_pair.setdefault(pair, [])).append(instance)
    planned = [
        StoreBatch(contexts, [instance for context in contexts for instance in by_pair[_pair(context)]])
        for contexts in split(for_instances(by_pair))
    ]
    for batch in planned:
        classes = sorted({context.abstract_syntax for context in batch.contexts})
        spare = for_instances((sop_class, str(syntax)) for syntax in also for sop_class in classes)
        spare = [context for context in spare if context not in batch.contexts]
        spare += storage(classes) if fallback else ()
        batch.contexts.extend(spare[: MAX_CONTEXTS - len(batch.contexts)])
    if unreadable and planned:
        planned[0].instances.extend(unreadable)
    return planned


def split(contexts: Sequence[ProposedContext]) -> list[list[ProposedContext]]:
    """Contexts in lots of at most 128, as many as one association can propose (PS3.8 Section 9.3.2.2)."""
    return [list(contexts[start : start + MAX_CONTEXTS]) for start in range(0, len(contexts), MAX_CONTEXTS)]


def _pair(context: ProposedContext) -> tuple[str, str]:
    return context.abstract_syntax, context.transfer_syntaxes[0]


def query_retrieve(
    storage_classes: Iterable[str] | None = None, transfer_syntaxes: Iterable[str] = UNCOMPRESSED
) -> list[ProposedContext]:
    """Contexts for C-FIND, C-GET and C-MOVE in the patient and study root models, and for what C-GET brings.

    Args:
        storage_classes: what C-GET may bring; by default the storage classes in use, as many as fit.
        transfer_syntaxes: in which it may come.
    """
    models = (query_models.MODELS["STUDY_ROOT"], query_models.MODELS["PATIENT_ROOT"])
    asked = [ProposedContext(uid, UNCOMPRESSED) for model in models for uid in (model.find, model.get, model.move)]
    classes = _common_storage() if storage_classes is None else tuple(storage_classes)
    syntaxes = tuple(transfer_syntaxes)
    brought = [ProposedContext(sop_class, syntaxes, scu=False, scp=True) for sop_class in classes]
    return (asked + brought)[:MAX_CONTEXTS] if storage_classes is None else asked + brought


def retrieving(
    model: str, *, transfer_syntaxes: Iterable[str] = UNCOMPRESSED, rest: bool = False
) -> list[ProposedContext]:
    """Contexts for a C-GET by the SOP class of its model, and for as many storage classes as fit beside it.

    Args:
        model: its SOP class.
        transfer_syntaxes: in which the instances may come.
        rest: the storage classes that did not fit, for a second association.
    """
    syntaxes, most = tuple(transfer_syntaxes), MAX_CONTEXTS - 1
    own = query_models.NONPATIENT.get(query_models.model_of(model).name, ())
    classes = own or (_common_storage()[most:] if rest else _common_storage())
    brought = [ProposedContext(sop_class, syntaxes, scu=False, scp=True) for sop_class in classes]
    return sop_classes(model) + brought[:most]


def worklist() -> list[ProposedContext]:
    """The context for modality worklist queries (PS3.4 Annex K)."""
    return [ProposedContext(uids.MODALITY_WORKLIST_INFORMATION_MODEL_FIND, UNCOMPRESSED)]


def commitment() -> list[ProposedContext]:
    """The context for storage commitment (PS3.4 Annex J)."""
    return [ProposedContext(uids.STORAGE_COMMITMENT_PUSH_MODEL, UNCOMPRESSED)]


def procedure_step() -> list[ProposedContext]:
    """The context for modality performed procedure steps (PS3.4 Annex F)."""
    return [ProposedContext(uids.MODALITY_PERFORMED_PROCEDURE_STEP, UNCOMPRESSED)]


def sop_classes(*abstract_syntaxes: str) -> list[ProposedContext]:
    """One context for each SOP class, or meta SOP class, in the uncompressed transfer syntaxes."""
    return [ProposedContext(uid, UNCOMPRESSED) for uid in abstract_syntaxes]


def for_files(paths: Iterable[object], also: Iterable[str] = ()) -> list[ProposedContext]:
    """Contexts in which these Part 10 files can be sent; unreadable files ask for nothing.

    Each file can be sent as it is; what is not compressed also in the other uncompressed transfer syntaxes, one of
    which every acceptor has to take. Only the file meta information is read. Verification is added where there is room.

    Args:
        paths: the files.
        also: transfer syntaxes that each of their SOP classes is proposed in, too, for what is to be converted.
    """
    given = [paths] if isinstance(paths, str | bytes | os.PathLike) else paths
    pairs = [pair for pair in map(describe, given) if pair is not None]
    converted = [(sop_class, str(syntax)) for syntax in also for sop_class, _ in pairs]
    contexts = for_instances(pairs + converted)
    for pair in dict.fromkeys(pairs):
        contexts += [one for one in storing(pair, NEVER) if one not in contexts]
    return contexts + verification() if len(contexts) < MAX_CONTEXTS else contexts
