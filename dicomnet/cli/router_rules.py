"""``dicomnet router rules …``: what becomes of what arrives: listed, changed, checked, explained, tried."""

from __future__ import annotations

import json
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from ..errors import InputFileError, InvalidArgument
from ..router.editing import RulesFile, value_of
from ..router.facts import INSTANCE, SENT
from ..router.plan import Plan, PlanInvalid, Rule
from ..router.planning import explain_passing
from ..router.samples import (
    Coverage,
    Sample,
    Sender,
    coverage,
    outcome_of,
    sample_files,
    sample_message,
    spooled,
    spooled_series,
)
from ..router.settings import RULES_NAME, RouterSettings
from ..router.spool import Spool
from .exits import Exit
from .options import DIR, NAME, PATH, command_words, output_options, stacked
from .output import Output, counted

__all__ = ["command", "rules_file"]

_OPERATORS = ("equals", "in", "matches", "range", "exists", "empty")
_SHOWN = 20  # differences that are shown to people; --json has all


def rules_file(directory: str) -> RulesFile:
    """The rules of a router, which is there."""
    RouterSettings.load(Path(directory))
    return RulesFile(Path(directory) / RULES_NAME)


@click.group("rules")
def command() -> None:
    """Show and change the rules. A running router takes over what is saved within a second."""


def _line(rule: Rule) -> str:
    marks = "" if rule.active else ", not active"
    marks += f", on {rule.on}" if rule.on != INSTANCE else ""
    marks += ", fallback" if rule.fallback else ""
    marks += f", by {rule.unit}" if rule.unit != "instance" else ""
    does = "; ".join(_action(one.model_dump(exclude_defaults=True)) for one in rule.actions)
    return f"{rule.priority:>4}  {rule.name}: {does} ({rule.then}{marks})"


def _action(values: dict[str, Any]) -> str:
    to = values.get("to", ())
    names = f" {', '.join([to] if isinstance(to, str) else to)}" if to else ""
    source = f" {values['source']}" if values["do"] == "ask" else ""
    return f"{values['do']}{source}{names}"


@command.command("list")
@DIR
@output_options
def list_command(directory: str, output: Output) -> int:
    """List the rules of the router in DIR, in the order in which they are asked."""
    plan = rules_file(directory).read()
    for rule in sorted(plan.rules, key=lambda one: -one.priority):
        output.say(_line(rule))
        output.record(**rule.model_dump(mode="json", by_alias=True, exclude_none=True))
    output.summary(counted(len(plan.rules), "rule"), rules=len(plan.rules))
    return Exit.DONE


def _condition(text: str) -> dict[str, Any]:
    """``Modality equals CT`` as a condition; ``not`` may stand before it."""
    words = command_words(text)
    if words[:1] == ["not"]:
        return {"not": _condition(shlex.join(words[1:]))}
    if len(words) < 3 or words[1] not in _OPERATORS:
        raise InvalidArgument(
            f'"{text}" is no condition', hint=f"FIELD OPERATOR VALUE; an operator is one of {', '.join(_OPERATORS)}."
        )
    field, operator, *values = words
    if operator in ("in", "range"):
        return {"field": field, operator: values}
    return {"field": field, operator: value_of(values[0]) if operator in ("exists", "empty") else " ".join(values)}


def _rule(name: str, when: tuple[str, ...], to: tuple[str, ...], drop: bool, more: dict[str, Any]) -> dict[str, Any]:
    conditions = [_condition(one) for one in when]
    rule: dict[str, Any] = {"name": name}
    if conditions:
        rule["when"] = conditions[0] if len(conditions) == 1 else {"all": conditions}
    rule["actions"] = [{"do": "drop"}] if drop else [{"do": "forward", "to": list(to)}]
    return rule | more


def _text(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{file} cannot be read: {error}") from error


def _read(file: str) -> dict[str, Any]:
    text = _text(file)
    try:
        found = json.loads(text) if text.lstrip().startswith(("{", "[")) and not text.startswith("[[") else None
        values = tomllib.loads(text) if found is None else found
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"{file} is neither TOML nor JSON: {error}") from error
    return values if isinstance(values, dict) else {"rules": values}


@command.command("add")
@DIR
@click.argument("file", type=PATH, metavar="[FILE]", required=False)
@click.option("--name", metavar="NAME", help="The rule's name.")
@click.option("--when", multiple=True, metavar="TEXT", help='A condition: "Modality equals CT"; can be given again.')
@click.option("--to", multiple=True, metavar="DESTINATION", help="Where it sends; can be given again.")
@click.option("--drop", is_flag=True, help="It drops what it fires for.")
@click.option("--set", "values", multiple=True, metavar="FIELD=VALUE", help="Another field: priority=10.")
@output_options
def add_command(
    directory: str, output: Output, file: str | None, name: str | None, when: tuple[str, ...], to: tuple[str, ...],
    drop: bool, values: tuple[str, ...],
) -> int:  # fmt: skip
    """Add rules to the router in DIR: those in FILE (TOML or JSON; - is standard input), or one made of options."""
    if (file is None) is (name is None):
        raise click.UsageError("give a FILE, or a --name with --to or --drop")
    if name is not None and bool(to) is drop:
        raise click.UsageError("a rule has --to, or --drop")
    new = _read(file) if file is not None else _rule(name or "", when, to, drop, pairs(values))
    plan = rules_file(directory).add(new)
    output.summary(f"there {'are' if len(plan.rules) != 1 else 'is'} {counted(len(plan.rules), 'rule')} now",
                   rules=len(plan.rules))  # fmt: skip
    return Exit.DONE


def pairs(values: tuple[str, ...]) -> dict[str, Any]:
    """``FIELD=VALUE`` of the command line; nothing after the sign means None."""
    found: dict[str, Any] = {}
    for one in values:
        key, sign, value = one.partition("=")
        if not sign or not key:
            raise click.UsageError(f'"{one}" is no FIELD=VALUE')
        found[key] = value_of(value) if value else None
    return found


@command.command("edit")
@DIR
@NAME
@click.argument("values", nargs=-1, required=True, metavar="FIELD=VALUE...")
@output_options
def edit_command(directory: str, name: str, values: tuple[str, ...], output: Output) -> int:
    """Change the rule NAME of the router in DIR: active=false, priority=10, 'actions=[{do="drop"}]'."""
    rules_file(directory).edit(name, pairs(values))
    output.summary(f'the rule "{name}" is changed', rule=name)
    return Exit.DONE


@command.command("remove")
@DIR
@NAME
@output_options
def remove_command(directory: str, name: str, output: Output) -> int:
    """Remove the rule NAME from the router in DIR."""
    plan = rules_file(directory).remove(name)
    output.summary(f'the rule "{name}" is gone', rule=name, rules=len(plan.rules))
    return Exit.DONE


@command.command("replace")
@DIR
@click.argument("file", type=PATH, metavar="FILE")
@output_options
def replace_command(directory: str, file: str, output: Output) -> int:
    """Put the rules and destinations in FILE in the place of those of the router in DIR."""
    text = _text(file)
    plan = Plan.from_toml(text)
    rules_file(directory).save(plan, text)
    output.summary(f"{counted(len(plan.rules), 'rule')} and {counted(len(plan.destinations), 'destination')} now",
                   rules=len(plan.rules), destinations=len(plan.destinations))  # fmt: skip
    return Exit.DONE


def _plan_at(path: Path) -> Plan:
    return RulesFile(path / RULES_NAME if path.is_dir() else path).read()


@command.command("check")
@click.argument("path", type=PATH, metavar="DIR|FILE")
@output_options
def check_command(path: str, output: Output) -> int:
    """Read the rules of a router, or those in a file, and say all that is wrong. Ends with 2 if anything is."""
    try:
        plan = _plan_at(Path(path))
    except PlanInvalid as error:
        for one in error.problems:
            output.error(str(one))
            output.record(place=one.place, problem=one.what)
        output.summary(counted(len(error.problems), "mistake"), problems=len(error.problems))
        return Exit.USAGE
    rules, destinations = len(plan.rules), len(plan.destinations)
    output.summary(f"{counted(rules, 'rule')} and {counted(destinations, 'destination')}, no mistake",
                   problems=0, rules=rules, destinations=destinations)  # fmt: skip
    return Exit.DONE


@command.command("schema")
def schema_command() -> int:
    """Print the JSON schema of rules and destinations, for editors."""
    click.echo(json.dumps(Plan.model_json_schema(by_alias=True), indent=2))
    return Exit.DONE


_sending = stacked(
    click.option("--calling", default="", metavar="TITLE", help="Who sends it."),
    click.option("--called", default="", metavar="TITLE", help="Whom its sender calls."),
    click.option("--address", default="", metavar="ADDRESS", help="From where it comes."),
    click.option("--at", metavar="TIME", help="When it arrives: 2026-01-31T22:30.  [default: now]"),
)


def _sender(calling: str, called: str, address: str, at: str | None) -> Sender:
    try:
        return Sender(calling, called, address, None if at is None else datetime.fromisoformat(at))
    except ValueError as error:
        raise click.UsageError(f'"{at}" is no time: write it like 2026-01-31T22:30') from error


@command.command("explain")
@DIR
@click.argument("what", metavar="[FILE|STUDY]", required=False)
@click.option("--on", metavar="KIND", help='Explain a message instead: "query", "worklist item", "retrieve" and so on.')
@click.option("--key", "keys", multiple=True, metavar="KEYWORD=VALUE", help="An element of it; can be given again.")
@click.option("--to", default="", metavar="TITLE", help="Of a retrieve: whereto. Of --on=sent: the destination's name.")
@_sending
@output_options
def explain_command(
    directory: str, what: str | None, on: str | None, keys: tuple[str, ...], to: str, output: Output, **sending: Any
) -> int:
    """Say rule by rule what the router in DIR does with FILE, or with what it has of the study STUDY, and why.

    With --on it is a message: --on=query --key=PatientID=P1 --calling=VIEWER. --on=sent is about FILE or STUDY once the
    destination --to has it.
    """
    plan = rules_file(directory).read()
    sent = on == SENT
    if (what is None) is (on is None or sent):
        raise click.UsageError("give a FILE, a STUDY, or --on with the kind of a message")
    if what is None:
        return _explain(plan, [sample_message(str(on), _elements(keys), _sender(**sending), to)], output)
    if keys or bool(to) is not sent:
        raise click.UsageError("--key is of a message, which --on says the kind of; --to is of a retrieve or --on=sent")
    if Path(what).exists():
        return _explain(plan, _as_sent(sample_files([Path(what)], _sender(**sending)), to), output)
    with Spool(Path(directory)) as spool:
        samples = list(spooled_series(spool, what))
        if not samples:
            raise InvalidArgument(f'there is no file "{what}", and no study of that UID in the spool')
        return _explain(plan, _as_sent(samples, to), output)


def _as_sent(samples: Iterable[Sample | InputFileError], to: str) -> Iterator[Sample | InputFileError]:
    """The same, once a destination has it, where one is named."""
    for one in samples:
        yield Sample(one.name, one.facts.as_sent(to)) if to and isinstance(one, Sample) else one


def _elements(keys: tuple[str, ...]) -> dict[str, Any]:
    """``KEYWORD=VALUE`` of the command line; a sequence as [{Modality="CT"}], all else as it is written."""
    found = {}
    for one in keys:
        keyword, sign, text = one.partition("=")
        if not sign or not keyword:
            raise click.UsageError(f'"{one}" is no KEYWORD=VALUE')
        value = value_of(text)
        found[keyword] = value if isinstance(value, list) else text
    return found


def _explain(plan: Plan, samples: Any, output: Output) -> int:
    code = Exit.DONE
    for sample in samples:
        if isinstance(sample, InputFileError):
            output.error(str(sample))
            code = Exit.FAILURES
            continue
        lines = [*plan.explain(sample.facts), *explain_passing(plan, sample.facts)]
        output.say(f"{sample.name}:")
        for line in lines:
            output.say(f"  {line}")
        names = plan.decide(sample.facts).names
        end = f"{', '.join(names)}: fired" if names else "no rule fires: it is held"
        if sample.facts.trigger != INSTANCE:
            end = "; ".join(outcome_of(plan, sample.facts))
        output.say(f"  {end}")
        output.record(instance=sample.name, fired=names, explanation=lines)
    return code


@command.command("coverage")
@DIR
@click.argument("paths", type=PATH, nargs=-1, metavar="[PATH...]")
@click.option("--rules", "other", type=PATH, metavar="FILE", help="Try these rules, and say what differs from DIR's.")
@_sending
@output_options
def coverage_command(directory: str, paths: tuple[str, ...], other: str | None, output: Output, **sending: Any) -> int:
    """Try the rules of the router in DIR on the files in PATHs, or on what is in its spool; nothing is sent.

    Says how often each rule fires and which never does. With --rules it is a dry run of other rules.
    """
    running = rules_file(directory).read()
    plan = running if other is None else _plan_at(Path(other))
    if paths:
        samples = list(sample_files(map(Path, paths), _sender(**sending)))
        found = _covered(plan, running, samples, other, output)
    else:
        with Spool(Path(directory)) as spool:
            found = coverage(plan, spooled(spool), running if other else None)
    _tell(plan, found, output)
    return Exit.DONE


def _covered(plan: Plan, running: Plan, samples: list[Any], other: str | None, output: Output) -> Coverage:
    for one in samples:
        if isinstance(one, InputFileError):
            output.warn(str(one))
    readable = [one for one in samples if isinstance(one, Sample)]
    return coverage(plan, readable, running if other else None)


def _tell(plan: Plan, found: Coverage, output: Output) -> None:
    for rule in plan.rules:
        count = found.fired[rule.name]
        output.say(f"{count:>7}  {rule.name}{'' if count else '  (never)'}")
        output.record(rule=rule.name, fired=count)
    for name, before, after in found.differs[:_SHOWN]:
        output.say(f"{name}: {', '.join(before)} now; then {', '.join(after)}")
    if len(found.differs) > _SHOWN:
        output.say(f"and {len(found.differs) - _SHOWN} more; --json lists all")
    for name, before, after in found.differs:
        output.record(instance=name, now=before, then=after)
    output.summary(
        f"{counted(found.instances, 'instance')}: no rule fires for {found.unmatched}, {len(found.differs)} differ",
        instances=found.instances, unmatched=found.unmatched, differ=len(found.differs), never=found.never,
    )  # fmt: skip
