"""From a delivery to what is sent: the bytes in the spool, or those that the rule makes of them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ..dataset import codec
from ..files.instance_source import BytesSource
from ..repository.blob_source import BlobSource
from ..repository.deidentify import Deidentifier, key_in
from ..repository.places import Place
from .actions import Action, Call, Change, Deidentify, Edit, Forward, Prefetch, Retrieve
from .facts import Facts
from .plan import Plan
from .queue import Delivery
from .senders import Load
from .spool import Spool
from .transform import Editor

__all__ = ["changes_of", "load_of", "source_of"]

_NAMED = {"PatientID": 0x00100020, "StudyInstanceUID": 0x0020000D, "SeriesInstanceUID": 0x0020000E}
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018


def source_of(spool: Spool, item: Delivery) -> BlobSource:
    """An instance as it is in the spool."""
    ref = item.ref
    place = Place(item.received_id, item.uid, item.cls, item.ts, "", ref.key, ref.offset, ref.length, item.sha)
    return BlobSource(spool.blobs, place)


def action_of(item: Delivery, plan: Plan) -> tuple[Action | None, list[Change]]:
    """The action that a delivery is of, and what its rule changes before it."""
    rule = next((one for one in plan.rules if one.name == item.rule), None)
    if rule is None or item.step >= len(rule.actions):
        return None, []
    return rule.actions[item.step], changes_of(rule.actions[: item.step])


def changes_of(actions: tuple[Action, ...]) -> list[Change]:
    """Those of a rule's actions that change what is sent."""
    return [one for one in actions if isinstance(one, Edit | Deidentify | Call)]


def changed(change: Change, data: bytes, syntax: str, spool: Spool) -> tuple[bytes, str]:
    """A data set as an action changes it, and a word on what was done, which tells no values.

    Raises:
        InvalidArgument: it cannot be changed so.
    """
    if isinstance(change, Edit):
        return Editor(change, spool.settings.ae_title, now=spool.now).edited(data, syntax), ""
    if isinstance(change, Call):
        dataset = codec.decode(data, syntax)
        change.load()(dataset)
        return codec.encode(dataset, syntax), f"changed by {change.function}"
    key = key_in(Path(change.key) if change.key else spool.directory)
    result, report = Deidentifier(key, change.options, burned_in=change.burned_in).data_set(data, syntax)
    words = [f"{count} {what}" for what, count in report.counts().items()]
    return result, "; ".join(["de-identified: " + ", ".join(words), *report.warnings])


def load_of(spool: Spool, item: Delivery, plan: Plan) -> Load:
    """What is sent for a delivery, by the version of the rules that it was decided with.

    Raises:
        InvalidArgument: it cannot be changed as its rule says.
        InputFileError: it cannot be read.
    """
    action, changes = action_of(item, plan)
    convert = (action.compress,) if isinstance(action, Forward) and action.compress else ()
    source = source_of(spool, item)
    if isinstance(action, Prefetch | Retrieve):
        return Load(item, source, fetch=action)
    if not changes:
        return Load(item, source, convert)
    with closing(source):
        data = b"".join(map(bytes, source.chunks(2)))
    notes = []
    for change in changes:
        data, note = changed(change, data, item.ts, spool)
        notes.append(note)
    return _as_changed(item, data, convert, "; ".join(filter(None, notes)))


def _as_changed(item: Delivery, data: bytes, convert: tuple[str, ...], note: str) -> Load:
    """An instance that is another one now: its UIDs, and what files are named by, are its own."""
    facts = Facts(data, item.ts, item.cls, wanted=frozenset((_SOP_CLASS, _SOP_INSTANCE, 0x00080005, *_NAMED.values())))
    uid, cls = facts.uid(_SOP_INSTANCE) or item.uid, facts.uid(_SOP_CLASS) or item.cls
    names = {name: facts.text(tag) for name, tag in _NAMED.items()}
    return Load(item, BytesSource(data, item.ts, cls, uid, name=uid, force=True), convert, names, note)
