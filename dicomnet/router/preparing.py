"""From a delivery to what is sent: the bytes in the spool, or those that the rule makes of them."""

from __future__ import annotations

from ..repository.blob_source import BlobSource
from ..repository.places import Place
from .actions import Forward
from .plan import Plan
from .queue import Delivery
from .senders import Load
from .spool import Spool

__all__ = ["load_of", "source_of"]


def source_of(spool: Spool, item: Delivery) -> BlobSource:
    """An instance as it is in the spool."""
    ref = item.ref
    place = Place(item.received_id, item.uid, item.cls, item.ts, "", ref.key, ref.offset, ref.length, item.sha)
    return BlobSource(spool.blobs, place)


def load_of(spool: Spool, item: Delivery, plan: Plan) -> Load:
    """What is sent for a delivery, by the version of the rules that it was decided with."""
    source = source_of(spool, item)
    rule = next((one for one in plan.rules if one.name == item.rule), None)
    action = rule.actions[item.step] if rule is not None and item.step < len(rule.actions) else None
    convert = (action.compress,) if isinstance(action, Forward) and action.compress else ()
    return Load(item, source, convert)
