"""`dicomnet store` with a report: over the client framework, which knows how to go on with a batch."""

from __future__ import annotations

import errno
from typing import Any

from ..client import Outcome, Stored, StoreScu
from ..client.batch import STORED_BEFORE
from ..config import Entity
from ..errors import AssociationRejected, DicomNetError, InputFileError
from ..services.scu import StoreResult
from .exits import Exit, exit_code
from .interrupts import Interrupts
from .options import Settings, profile_of
from .tally import Tally

__all__ = ["send"]


def send(
    peer: Entity, paths: tuple[str, ...], settings: Settings, tally: Tally, interrupts: Interrupts, **chosen: Any
) -> int:
    """Send the batch, or what is left of it; the exit code. What is ``chosen`` is as of `StoreScu`."""
    scu = StoreScu(
        profile_of(peer),
        calling=settings.calling(peer),
        tls=settings.tls,
        limits=settings.limits,
        timeouts=settings.timeouts,
        **chosen,
    )
    interrupts.tell, interrupts.releasable = scu.stop, True
    tally.begin()
    with scu:
        before = sum(_tell(tally, result, interrupts.requested) for result in scu.send(*paths))
    if interrupts.requested:
        tally.codes.add(Exit.INTERRUPTED)
    if before:
        tally.output.say(f"{before} stored before, says {chosen['report']}")
    return tally.finish(peer)


def _tell(tally: Tally, result: Stored, interrupted: bool) -> bool:
    """Count a result, and print it; whether it was stored before."""
    error = result.error
    if result.status is not None:
        tally.add(
            StoreResult(
                result.name,
                result.status,
                None,
                result.sop_class_uid,
                result.sop_instance_uid,
                result.transfer_syntax_uid,
                result.size,
                result.seconds,
            )
        )
    elif isinstance(error, InputFileError):
        tally.refuse(error)
    elif result.outcome is Outcome.REFUSED and error is not None:
        tally.add(StoreResult(result.name, error=error))
    elif result.reason == STORED_BEFORE:
        tally.output.record(file=result.name, skipped=result.reason)
        return True
    elif interrupted and error is None:
        tally.not_sent([result.name], "interrupted", listed=False)
    else:
        tally.not_sent([result.name], result.reason)
        if error is not None:
            tally.codes.add(_code(error))
    return False


def _code(error: Exception) -> int:
    """Most ends of an association come after its beginning."""
    refused = getattr(error, "errno", None) == errno.ECONNREFUSED or isinstance(error, AssociationRejected)
    return exit_code(error, established=isinstance(error, DicomNetError) and not refused)
