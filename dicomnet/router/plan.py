"""`Plan`: the rules and destinations of a router, read from TOML or JSON by one parser, and decided with.

Files, the command line, the database and editors all come through `Plan.read`, and get the same complaints: each with
its place, and what was probably meant.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from ..errors import InvalidArgument, escaped
from ..server.settings import Seconds, Table
from .actions import (
    Action,
    Ask,
    Call,
    Copy,
    Deidentify,
    Drop,
    Edit,
    Forward,
    Hold,
    Operation,
    Prefetch,
    Retrieve,
)
from .conditions import Condition
from .destinations import DimseDestination, FolderDestination, S3Destination, StowDestination
from .facts import ASKED, IDENTIFYING, INSTANCE, ITEM, RETRIEVE, SENT, Facts

__all__ = ["Decision", "Fired", "Plan", "PlanInvalid", "Problem", "Rule"]

Trigger = Literal[
    "instance", "procedure step", "availability", "query", "worklist query", "worklist item", "retrieve", "sent"
]
Unit = Literal["instance", "series", "study", "association"]
_KINDS = {"dimse": DimseDestination, "stow": StowDestination, "folder": FolderDestination, "s3": S3Destination}
AnyDestination = Annotated[
    DimseDestination | StowDestination | FolderDestination | S3Destination, Field(discriminator="kind")
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in rules or destinations: where it is, and what is wrong."""

    place: str
    what: str

    def __str__(self) -> str:
        return escaped(f"{self.place}: {self.what}" if self.place else self.what)


class PlanInvalid(InvalidArgument):
    """Rules or destinations that cannot be; the ones that hold stay.

    Attributes:
        problems: every mistake.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


class Rule(Table):
    """One rule: when, what, and whether others are asked after it."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    """What people call it; no two have the same."""
    when: Condition | None = None
    """The condition; left out, it holds for everything."""
    actions: Annotated[tuple[Action, ...], Field(min_length=1)]
    """What is done, in this order."""
    priority: int = 0
    """Rules are asked from the highest to the lowest; of equal ones in the order in which they are written."""
    active: bool = True
    """Whether it is asked at all."""
    on: Trigger = "instance"
    """What it is asked about: instances; what modalities tell, a "procedure step" (N-CREATE and N-SET of MPPS) or
    "availability" (N-CREATE of an IAN); what is asked for, a "query", "worklist query" (C-FIND) or "retrieve" (C-MOVE);
    each "worklist item" that is answered; or each instance that a destination has taken, as "sent"."""
    then: Literal["continue", "stop"] = "continue"
    """Whether rules behind it are asked, too, where it fires."""
    fallback: bool = False
    """It is asked only where no other rule has fired."""
    unit: Unit = "instance"
    """What is sent together: each instance at once, or a series, study or association once it is complete."""
    quiet: Seconds = 60.0
    """Of a series or study: complete after so many seconds without an instance of it."""
    cap: Seconds = 5400.0
    """Of a series or study: complete after so many seconds in any case."""
    count_from: str | None = None
    """Of a study: a destination that is asked how many instances there are; it is complete when as many are here."""
    late: Literal["new", "always", "never"] = "new"
    """What comes after that: it alone is sent ("new"), all is sent again ("always"), or it is held ("never")."""

    def holds(self, facts: Facts) -> bool:
        """Whether it is asked about this, and its condition holds."""
        return self.on == facts.trigger and (self.when is None or self.when.holds(facts))

    def destinations(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The destinations that it names, with the place of each in the rule."""
        if self.count_from is not None:
            yield ("count_from",), self.count_from
        for number, action in enumerate(self.actions):
            if isinstance(action, Copy):
                yield ("actions", number, "to"), action.to
            elif isinstance(action, Prefetch | Retrieve | Ask):
                yield ("actions", number, "source"), action.source
            elif isinstance(action, Forward | Hold):
                yield from ((("actions", number, "to", at), name) for at, name in enumerate(action.to))


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that has fired, and the number of it in the plan."""

    number: int
    rule: Rule


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an instance: the rules that have fired, in order."""

    fired: tuple[Fired, ...]

    @property
    def names(self) -> list[str]:
        """Of the rules."""
        return [one.rule.name for one in self.fired]


class Plan(Table):
    """Rules and destinations: a snapshot, which does not change."""

    rules: tuple[Rule, ...] = ()
    """The rules."""
    destinations: dict[str, AnyDestination] = {}
    """The destinations, by the names that rules know them by."""

    _order: tuple[int, ...] = PrivateAttr()
    _wanted: frozenset[int] = PrivateAttr()
    _passes_on: bool = PrivateAttr()

    @model_validator(mode="after")
    def _prepare(self) -> Self:
        self._order = tuple(sorted(range(len(self.rules)), key=lambda number: -self.rules[number].priority))
        tags = {tag for rule in self.rules if rule.when for path in rule.when.paths() for tag in path.steps[0].tags()}
        creators = {
            path.steps[0].tag & 0xFFFF0000 | block
            for rule in self.rules if rule.when for path in rule.when.paths() if path.steps[0].creator
            for block in range(0x10, 0x100)
        }  # fmt: skip
        self._wanted = frozenset(tags | creators | IDENTIFYING)
        self._passes_on = any(
            isinstance(action, Forward) and action.mode == "cut-through"
            for rule in self.rules if rule.active for action in rule.actions
        )  # fmt: skip
        return self

    @property
    def wanted(self) -> frozenset[int]:
        """The tags of the top level that its rules ask for."""
        return self._wanted

    def asks_about(self, trigger: str) -> bool:
        """Whether any rule is asked about what is of this kind; see `Rule.on`."""
        return any(rule.active and rule.on == trigger for rule in self.rules)

    @property
    def passes_on(self) -> bool:
        """Whether any rule has instances passed on while they arrive."""
        return self._passes_on

    # ---- reading -----------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Plan:
        """A plan from what TOML or JSON says.

        Raises:
            PlanInvalid: all that is wrong, each with its place.
        """
        values = dict(values)
        named = values.get("destinations")
        if isinstance(named, Mapping):  # most are peers, so that need not be said
            values["destinations"] = {
                name: {"kind": "dimse", **one} if isinstance(one, Mapping) else one for name, one in named.items()
            }
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            raise PlanInvalid(_problems(error, values)) from error
        problems = list(plan._inconsistencies())
        if problems:
            raise PlanInvalid(problems)
        return plan

    @classmethod
    def from_toml(cls, text: str) -> Plan:
        """A plan from TOML.

        Raises:
            PlanInvalid: it is no TOML, or of `read`.
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PlanInvalid([Problem("", f"this is no TOML: {error}")]) from error
        return cls.read(values)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """A plan from JSON.

        Raises:
            PlanInvalid: it is no JSON, or of `read`.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PlanInvalid([Problem("", f"this is no JSON: {error}")]) from error
        return cls.read(values if isinstance(values, dict) else {"rules": values})

    def to_json(self) -> str:
        """As JSON, which `from_json` reads."""
        return self.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)

    def _inconsistencies(self) -> Iterator[Problem]:
        seen: dict[str, int] = {}
        for number, rule in enumerate(self.rules):
            place = _rule_place(number, rule.name)
            if rule.name in seen:
                yield Problem(place, f'rule {seen[rule.name] + 1} is called "{rule.name}", too')
            seen.setdefault(rule.name, number)
            for path, name in rule.destinations():
                yield from self._unknown(_join(place, path), name)
            yield from self._not_passed_on(place, rule)
            yield from self._not_told(place, rule)
            yield from self._not_asked(place, rule)
            yield from self._not_sent(place, rule)
            for at, action in enumerate(rule.actions):
                if isinstance(action, Copy) and not isinstance(
                    self.destinations.get(action.to, None), FolderDestination | None
                ):
                    yield Problem(_join(place, ("actions", at, "to")), f'"{action.to}" is no folder')
                if isinstance(action, Prefetch | Retrieve | Ask) and not isinstance(
                    self.destinations.get(action.source, None), DimseDestination | None
                ):
                    yield Problem(_join(place, ("actions", at, "source")), f'"{action.source}" is no DICOM peer')
            if any(isinstance(one, Drop) for one in rule.actions) and len(rule.actions) > 1:
                yield Problem(f"{place} actions", "what is dropped has no other action")

    def _not_passed_on(self, place: str, rule: Rule) -> Iterator[Problem]:
        """Why what its rule wants passed on while it arrives cannot be."""
        changes = False
        for at, action in enumerate(rule.actions):
            changes = changes or isinstance(action, Edit | Deidentify | Call)
            if not isinstance(action, Forward) or action.mode != "cut-through":
                continue
            where = _join(place, ("actions", at, "mode"))
            if changes:
                yield Problem(where, "cut-through passes on what comes as it comes: the actions before it change it")
            if rule.unit != "instance":
                yield Problem(where, f"cut-through does not wait until a {rule.unit} is complete")
            destination = self.destinations.get(action.to[0])
            if destination is not None and not isinstance(destination, DimseDestination):
                yield Problem(where, f'cut-through goes to a DICOM peer, which "{action.to[0]}" is not')
            if isinstance(destination, DimseDestination) and destination.commit:
                yield Problem(where, f'"{action.to[0]}" is asked for commitment, which its queue waits for')

    def _not_told(self, place: str, rule: Rule) -> Iterator[Problem]:
        """What its rule wants done with a message, which only an instance can have."""
        if rule.on in (INSTANCE, SENT):
            return
        if rule.unit != "instance":
            yield Problem(f"{place} unit", f"a message belongs to no {rule.unit} that is waited for")
        for at, action in enumerate(rule.actions):
            if rule.on in (*ASKED, ITEM) and isinstance(action, Forward | Hold | Drop):
                yield Problem(_join(place, ("actions", at)), f"{action.do} is not for what is asked for and answered")
            if not isinstance(action, Forward | Hold | Drop | Prefetch | Retrieve | Ask):
                yield Problem(_join(place, ("actions", at)), f"{action.do} is for instances, and this rule is not")
            if isinstance(action, Forward) and (action.mode != "queue" or action.compress is not None):
                yield Problem(_join(place, ("actions", at)), "a message goes by the queue, and is not compressed")
        for path, name in rule.destinations():
            if not isinstance(self.destinations.get(name), DimseDestination | None):
                yield Problem(_join(place, path), f'a message goes to a DICOM peer, which "{name}" is not')

    def _not_asked(self, place: str, rule: Rule) -> Iterator[Problem]:
        """What only one who asks for something can have."""
        if rule.on not in (RETRIEVE, SENT) and rule.when is not None and "destination" in rule.when.fields():
            what = f"only a retrieve and what was sent have a destination, and this rule is about each {rule.on}"
            yield Problem(f"{place} when", what)
        for at, action in enumerate(rule.actions):
            where = _join(place, ("actions", at))
            if isinstance(action, Ask) and rule.on not in ASKED:
                yield Problem(where, f"ask is for what is asked for: {', '.join(ASKED)}")
            if isinstance(action, Retrieve) and rule.on in (INSTANCE, ITEM, SENT):
                yield Problem(where, f"retrieve is for messages that name a study which is there, no {rule.on} does")
            if isinstance(action, Prefetch | Retrieve) and action.to is None and rule.on not in ASKED:
                yield Problem(
                    _join(place, ("actions", at, "to")), "is missing: who asks is known of a query or retrieve"
                )

    def _not_sent(self, place: str, rule: Rule) -> Iterator[Problem]:
        """What is too late once a destination has an instance."""
        if rule.on != SENT:
            return
        if rule.unit != "instance":
            yield Problem(f"{place} unit", f"what was sent is not gathered to a {rule.unit}")
        for at, action in enumerate(rule.actions):
            if isinstance(action, Drop | Prefetch):
                yield Problem(_join(place, ("actions", at)), f"{action.do} is for instances that arrive")
            if isinstance(action, Forward) and action.mode == "cut-through":
                yield Problem(_join(place, ("actions", at, "mode")), "it has arrived: it goes by the queue")

    def _unknown(self, place: str, name: str) -> Iterator[Problem]:
        if name in self.destinations:
            return
        near = get_close_matches(name, self.destinations, n=1, cutoff=0.5)
        known = ", ".join(sorted(self.destinations)) or "none"
        hint = f"Is it {near[0]}?" if near else f"There are: {known}."
        yield Problem(place, f'there is no destination "{name}". {hint}')

    # ---- deciding ----------------------------------------------------------------------------------------------

    def decide(self, facts: Facts) -> Decision:
        """The rules that fire for an instance.

        Raises:
            EndlessExpression: a rule's expression takes too long for a value of it.
        """
        fired: list[Fired] = []
        for number in self._order:
            rule = self.rules[number]
            if not rule.active or rule.fallback or not rule.holds(facts):
                continue
            fired.append(Fired(number, rule))
            if rule.then == "stop":
                return Decision(tuple(fired))
        if not fired:
            fired += self._fallbacks(facts)
        return Decision(tuple(fired))

    def _fallbacks(self, facts: Facts) -> Iterator[Fired]:
        for number in self._order:
            rule = self.rules[number]
            if rule.active and rule.fallback and rule.holds(facts):
                yield Fired(number, rule)
                if rule.then == "stop":
                    return

    def explain(self, facts: Facts) -> Iterator[str]:
        """Rule by rule, in the order in which they are asked, whether it fires and why."""
        fired = {one.number for one in self.decide(facts).fired}
        over = False
        for number in self._order:
            rule = self.rules[number]
            word = "fires" if number in fired else "does not fire"
            why = ""
            if not rule.active:
                why = ": it is not active"
            elif rule.on != facts.trigger:
                why = f": it is about each {rule.on}"
            elif rule.fallback and number not in fired:
                why = ": it is a fallback, and another rule has fired or its condition does not hold"
            elif over and number not in fired:
                why = ": a rule before it says stop"
            yield f'rule "{rule.name}" {word}{why}'
            if rule.when is not None and rule.on == facts.trigger:
                yield from rule.when.explain(facts, 1)
            over = over or (number in fired and rule.then == "stop")


# ---- what is wrong, in words -----------------------------------------------------------------------------------------


def _rule_place(number: int, name: object) -> str:
    return f'rule {number + 1} ("{name}")'


def _join(place: str, path: Iterable[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{place} {text}".strip()


def _problems(error: ValidationError, values: Mapping[str, Any]) -> Iterator[Problem]:
    found = error.errors(include_url=False, include_input=False)
    for one in found:
        path: list[str | int] = list(one["loc"])
        if one["type"] == "too_short" and any(other is not one and _is_in(other["loc"], path) for other in found):
            continue  # pydantic does not count the items that are wrong, and those were named
        place = ""
        if path[:1] == ["rules"] and len(path) > 1 and isinstance(path[1], int):
            given = values["rules"][path[1]]
            place = _rule_place(path[1], given.get("name", "?") if isinstance(given, Mapping) else "?")
            path = _without_kinds(path[2:])
        elif path[:1] == ["destinations"] and len(path) > 1:
            place = f'destination "{path[1]}"'
            path = [part for part in path[2:] if part not in _KINDS]
        yield Problem(_join(place, path), _words(one["type"], one["msg"], dict(one.get("ctx", {})), path, place))


def _is_in(place: Sequence[str | int], path: Sequence[str | int]) -> bool:
    return list(place[: len(path)]) == list(path)


def _without_kinds(path: list[str | int]) -> list[str | int]:
    """Without what pydantic adds: the kind of an action behind its number."""
    return [part for at, part in enumerate(path) if not (at == 2 and path[0] == "actions")]


def _words(kind: str, message: str, context: dict[str, Any], path: list[str | int], place: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty"
    if kind == "extra_forbidden":
        near = get_close_matches(str(path[-1]), _known_fields(place, path), n=1)
        return "there is no such field" + (f". Is it {near[0]}?" if near else "")
    if kind == "value_error":
        return str(context.get("error", message))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"{context.get('tag', 'nothing')} is none of {context.get('expected_tags', 'the kinds')}"
    return message[:1].lower() + message[1:]


def _known_fields(place: str, path: list[str | int]) -> list[str]:
    models: list[type[BaseModel]] = [Plan]
    if place.startswith("rule"):
        inner = [part for part in path[:-1] if isinstance(part, str)]
        models = [Rule] if not inner else [Condition] if inner[0] == "when" else [
            Forward, Hold, Copy, Edit, Deidentify, Call, Prefetch, Retrieve, Ask, Operation
        ]  # fmt: skip
    elif place.startswith("destination"):
        models = [DimseDestination, StowDestination, FolderDestination, S3Destination]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]
