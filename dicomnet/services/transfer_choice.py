"""In which presentation context and transfer syntax an instance is sent (PS3.5 Section 10)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import uids
from ..dataset.codec import NATIVE
from ..dataset.transcoding import IF_NEEDED, LOSSLESS, NEVER, Lossy, Transcoding, check_policy, converted
from ..errors import InvalidArgument, NoAcceptedContext
from ..files.instance_source import Source
from ..protocol.negotiation import PresentationContext

__all__ = ["fitting"]


def fitting(
    source: Source, contexts: Iterable[PresentationContext], policy: Transcoding = NEVER, *, scp: bool = False
) -> tuple[PresentationContext, Source]:
    """The presentation context in which to send an instance, and the instance as it can be sent there.

    Args:
        source: the instance.
        contexts: those of the association.
        policy: "never" sends it as it is, or, if it is not compressed, in another uncompressed transfer syntax where
            the peer takes only that (PS3.5 Section 10.1); "if needed" converts it where no context takes it so; a list
            of transfer syntaxes is gone through in its order, before it is sent as it is. A `Lossy` in it, or alone,
            compresses with loss; the name of a lossy transfer syntax only lets through what is compressed so already.
        scp: the association's requestor is the provider, as in a C-GET.

    Raises:
        NoAcceptedContext: there is no context for it, or only such as would need what the policy does not want.
        InvalidArgument: it could not be converted, and cannot be sent as it is.
    """
    own, proposed = source.transfer_syntax_uid, list(contexts)
    fit = {
        context.transfer_syntax: context
        for context in proposed
        if context.accepted and context.abstract_syntax == source.sop_class_uid
        if (context.scp if scp else context.scu)
    }
    failure: InvalidArgument | None = None
    for wanted in _wanted(check_policy(policy), own, fit):
        syntax = wanted.transfer_syntax if isinstance(wanted, Lossy) else wanted
        if syntax == own and own in fit:
            return fit[own], source
        if syntax not in fit or (wanted is syntax and syntax not in NATIVE | LOSSLESS):
            continue
        try:
            return fit[syntax], converted(source, wanted)
        except InvalidArgument as error:  # a report has no pixels to compress, some plug-ins are not everywhere
            failure = failure or error
    raise failure or _without_context(source, proposed)


def _without_context(source: Source, proposed: Iterable[PresentationContext]) -> NoAcceptedContext:
    """Why there is no context: the peer declined, or none was proposed."""
    message = None
    if all(one.abstract_syntax != source.sop_class_uid for one in proposed):
        name = uids.name_of(source.sop_class_uid)
        message = f"{name} was not proposed on this association: dicomnet.contexts.for_files makes what files need"
    return NoAcceptedContext(source.sop_class_uid, (source.transfer_syntax_uid,), message=message)


def _wanted(policy: Transcoding, own: str, fit: Mapping[str, PresentationContext]) -> list[str | Lossy]:
    """What to try, in this order."""
    if policy == IF_NEEDED:
        return [own, *(one for one in fit if one in NATIVE), *(one for one in fit if one in LOSSLESS)]
    if isinstance(policy, str):
        return [own, *(one for one in fit if own in NATIVE and one in NATIVE)]
    rules = (policy,) if isinstance(policy, Lossy) else policy
    native = (one for one in fit if own in NATIVE and one in NATIVE)
    return [*(rule if isinstance(rule, Lossy) else str(rule) for rule in rules), own, *native]
