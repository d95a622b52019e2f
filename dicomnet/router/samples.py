"""What rules are tried on without sending anything: files, folders, and what is in the spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select

from .. import uids
from ..dataset import codec
from ..errors import DicomNetError, InputFileError, InputProblem, InvalidArgument, escaped
from ..files.instance_source import open_source
from ..repository.blob_source import BlobSource
from ..repository.incoming import HEAD_BYTES
from ..repository.places import Place
from .facts import ASKED, INSTANCE, ITEM, TRIGGERS, WORKLIST, Facts
from .plan import Plan
from .planning import deliveries_of, who_answers
from .queue import New
from .schema import received
from .spool import Spool

__all__ = [
    "Coverage", "Sample", "Sender", "coverage", "outcome", "outcome_of", "sample_files", "sample_message", "spooled",
    "spooled_series",
]  # fmt: skip

_T = received.c


@dataclass(frozen=True, slots=True)
class Sender:
    """Who a sample is taken to come from, and when."""

    calling: str = ""
    called: str = ""
    address: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An instance that rules are tried on: what people call it, and its facts."""

    name: str
    facts: Facts


def _facts(source: Any, sender: Sender) -> Facts:
    size = source.size
    pieces: list[bytes] = []
    with closing(source):
        for chunk in source.chunks(2):
            pieces.append(bytes(chunk))
            if sum(map(len, pieces)) >= HEAD_BYTES:
                break
    head = b"".join(pieces)
    return Facts(
        head, source.transfer_syntax_uid, source.sop_class_uid,
        calling=sender.calling, called=sender.called, address=sender.address, at=sender.at, whole=len(head) >= size,
    )  # fmt: skip


def sample_files(paths: Iterable[Path], sender: Sender) -> Iterator[Sample | InputFileError]:
    """The instances in files and folders; an error for each file that is none."""
    for path in paths:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        for file in files:
            try:
                yield Sample(str(file), _facts(open_source(file), sender))
            except InputFileError as error:
                yield error
            except (DicomNetError, OSError) as error:
                yield InputFileError(str(error), problem=InputProblem.CANNOT_READ, path=str(file))


def sample_message(on: str, keys: Mapping[str, Any], sender: Sender, destination: str = "") -> Sample:
    """A message of a kind (`plan.Rule.on`) with these elements, by keyword; of a retrieve also whereto.

    Raises:
        InvalidArgument: there is no such kind or keyword, or it cannot have such a value.
    """
    syntax = uids.EXPLICIT_VR_LITTLE_ENDIAN
    cls = next((uid for uid, trigger in TRIGGERS.items() if trigger == (WORKLIST if on == ITEM else on)), None)
    if cls is None:
        known = ", ".join(dict.fromkeys((*TRIGGERS.values(), ITEM)))
        raise InvalidArgument(f'there are no messages of the kind "{escaped(on)}"', hint=f"One of {known}.")
    head = codec.encode(codec.from_keywords(keys), syntax)
    facts = Facts(
        head, syntax, cls, calling=sender.calling, called=sender.called, address=sender.address, at=sender.at,
        whole=True, destination=destination, trigger=on,
    )  # fmt: skip
    return Sample(on, facts)


def spooled(spool: Spool, most: int = 10_000) -> Iterator[Sample]:
    """The instances in the spool, the newest first, as they came."""
    return _read(
        spool, select(received).where(_T.kept == 1, _T.message == "C-STORE").order_by(_T.id.desc()).limit(most)
    )


def spooled_series(spool: Spool, study: str, most: int = 10_000) -> Iterator[Sample]:
    """The newest instance in the spool of each series of a study, the newest first, as they came."""
    mine = _T.kept == 1, _T.study == study, _T.message == "C-STORE"
    newest = select(func.max(_T.id)).where(*mine).group_by(_T.series)
    return _read(spool, select(received).where(_T.id.in_(newest)).order_by(_T.id.desc()).limit(most))


def _read(spool: Spool, query: Select[Any]) -> Iterator[Sample]:
    with spool.database.read() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        place = Place(row.id, row.uid, row.cls, row.ts, "", row.key, row.off, row.bytes, bytes(row.sha))
        sender = Sender(row.calling, row.called, row.address, datetime.fromtimestamp(row.at))
        yield Sample(row.uid, _facts(BlobSource(spool.blobs, place), sender))


@dataclass
class Coverage:
    """How often each rule fires for some instances, and where what another plan does differs.

    Attributes:
        instances: how many there were.
        fired: by the names of rules.
        never: rules that did not fire once.
        unmatched: for how many no rule fires.
        differs: instances for which the other plan does something else: their name, then what is done now and then.
    """

    instances: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    never: list[str] = field(default_factory=list)
    unmatched: int = 0
    differs: list[tuple[str, list[str], list[str]]] = field(default_factory=list)


def coverage(plan: Plan, samples: Iterable[Sample], running: Plan | None = None) -> Coverage:
    """Try rules on instances, and compare with the rules that run; nothing is sent."""
    found = Coverage()
    for sample in samples:
        found.instances += 1
        mine = deliveries_of(plan, 0, sample.facts)
        rules = dict.fromkeys(new.rule for new in mine if new.rule)
        found.fired.update(list(rules))
        found.unmatched += not rules
        if running is not None:
            theirs = deliveries_of(running, 0, sample.facts)
            if outcome(mine) != outcome(theirs):
                found.differs.append((sample.name, outcome(theirs), outcome(mine)))
    found.never = [rule.name for rule in plan.rules if rule.on == "instance" and not found.fired[rule.name]]
    return found


def outcome_of(plan: Plan, facts: Facts) -> list[str]:
    """What becomes of an instance or a message, in words that can be compared.

    Raises:
        Unreadable, EndlessExpression: of a message that rules cannot read; such an instance is parked.
    """
    if facts.trigger == INSTANCE:
        return outcome(deliveries_of(plan, 0, facts))
    fired = plan.decide(facts).fired
    words = []
    if facts.trigger in ASKED:
        source, name, why = who_answers(plan, fired, facts)
        words = [f'answered by {source} by "{name}"' if source else f"refused: {why}"]
    done = outcome(deliveries_of(plan, 0, facts)) if fired and facts.sets_going else []
    return [*words, *done] or ["nothing is done about it"]


def outcome(deliveries: Iterable[New]) -> list[str]:
    """What deliveries come to, in words that can be compared."""
    words = {"waiting": "sent to", "held": "held for", "dropped": "dropped", "parked": "parked"}
    found = []
    for new in deliveries:
        what = f"{words[new.state]} {new.destination}" if new.destination else str(new.state)
        found.append(what + (f' by "{new.rule}"' if new.rule else ""))
    return sorted(found)
