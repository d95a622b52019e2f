"""What a case is: an id, a rule, a grade, a script that tries it, and what may come of it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import wire
from .peer import Answer, Kind, Reply, Seen


class Grade(enum.Enum):
    """How binding a rule is."""

    MUST = "must"  # the text of PS3.7 or PS3.8 says "shall", or its state table does
    SHOULD = "should"  # the standard recommends it, or offers the code for just this
    ROBUST = "robust"  # the standard is silent; a server on a network needs it


class Departure(Exception):
    """The peer did something else than the case expects; the message is what it did."""


class Unavailable(Exception):
    """The case could not be tried: the peer did not give the connection or association that it starts with."""


class NotApplicable(Exception):
    """The peer does not provide what the case is about."""


Script = Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to try.

    Attributes:
        id: the section of the standard and a number, ``PS3.8/9.3.2-4``. Numbers stay when cases come and go.
        grade: how binding the rule is.
        rule: the rule, in one sentence.
        expected: what a peer that keeps the rule does.
        script: tries it; returns what the peer did, or raises `Departure` with it.
        slow: waits for a timer of the peer, so it is run only on demand.
        alone: loads the peer, so nothing else may run meanwhile.
        stores: leaves an object with the peer.
    """

    id: str
    grade: Grade
    rule: str
    expected: str
    script: Script
    slow: bool = False
    alone: bool = False
    stores: bool = False

    @property
    def section(self) -> str:
        """The section of the standard."""
        return self.id.rpartition("-")[0]


@dataclass(frozen=True, slots=True)
class Expect:
    """What may come: words for the report, and the test."""

    text: str
    test: Callable[[Seen], bool]

    def check(self, seen: Seen) -> str:
        """What was seen, in words. Raises `Departure` if it is not what may come."""
        try:
            good = self.test(seen)
        except wire.Unreadable as error:
            raise Departure(f"{seen}, unreadable: {error}") from None
        if not good:
            raise Departure(str(seen))
        return str(seen)


def one_of(*kinds: Kind) -> Callable[[Seen], bool]:
    """A test for answers of some kinds."""
    return lambda seen: isinstance(seen, Answer) and seen.kind in kinds


def _succeeded(seen: Seen) -> bool:
    return isinstance(seen, Reply) and (seen.status == 0 or seen.status >> 12 == 0xB)


def _failed(seen: Seen) -> bool:
    if isinstance(seen, Reply):
        return seen.status > 0 and seen.status >> 12 not in (0xB, 0xF)
    return seen.kind is Kind.ABORT


ABORTED = Expect("A-ABORT", one_of(Kind.ABORT))
REFUSED = Expect("A-ABORT or A-ASSOCIATE-RJ", one_of(Kind.ABORT, Kind.REJECT))
REJECTED = Expect("A-ASSOCIATE-RJ", one_of(Kind.REJECT))
CLOSED = Expect("the connection is closed, without an answer", one_of(Kind.CLOSED, Kind.RESET))
ENDED = Expect("A-ABORT, or the connection is closed", one_of(Kind.ABORT, Kind.CLOSED, Kind.RESET))
REFUSED_OR_ENDED = Expect(
    "A-ABORT or A-ASSOCIATE-RJ, or the connection is closed",
    one_of(Kind.ABORT, Kind.REJECT, Kind.CLOSED, Kind.RESET),
)
ANSWERED_OR_ENDED = Expect(
    "an answer, or the connection is closed",
    one_of(Kind.ACCEPT, Kind.REJECT, Kind.ABORT, Kind.CLOSED, Kind.RESET),
)
ANSWERED = Expect("an answer: accept, reject or abort", one_of(Kind.ACCEPT, Kind.REJECT, Kind.ABORT))
RELEASED = Expect("A-RELEASE-RP", one_of(Kind.RELEASE_RP))
RELEASED_OR_ABORTED = Expect("A-RELEASE-RP or A-ABORT", one_of(Kind.RELEASE_RP, Kind.ABORT))
SUCCESS = Expect("a response with status success", _succeeded)
FAILURE = Expect("a response with a failure status, or A-ABORT", _failed)
RESPONSE = Expect("a response, or A-ABORT", lambda seen: isinstance(seen, Reply) or seen.kind is Kind.ABORT)
