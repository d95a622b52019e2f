"""Changes of ``rules.toml`` by programs: comments and order stay, and what the parser refuses is not written."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError

from ..errors import InvalidArgument
from ..files.own_files import replace_file
from .plan import Plan

__all__ = ["RulesFile", "value_of"]


def value_of(text: str) -> Any:
    """A value as people write it after a ``=``: TOML where it is some, else text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


class RulesFile:
    """A file of rules and destinations, to be changed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Plan:
        """What it says.

        Raises:
            PlanInvalid: all that is wrong with it.
        """
        return Plan.from_toml(self.text())

    def save(self, plan: Plan, toml: str | None = None) -> None:
        """Put a whole plan in its place: as this TOML, which it was read from, or as it is.

        Raises:
            InvalidArgument: it cannot be written.
        """
        self._write(tomlkit.dumps(json.loads(plan.to_json())) if toml is None else toml)

    def text(self) -> str:
        """What is written.

        Raises:
            InvalidArgument: it cannot be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{self.path} cannot be read: {error}") from error

    def _change(self, work: Callable[[TOMLDocument], None]) -> Plan:
        try:
            document = tomlkit.parse(self.text())
        except TOMLKitError as error:
            raise InvalidArgument(f"{self.path}: {error}") from error
        work(document)
        text = tomlkit.dumps(document)
        plan = Plan.from_toml(text)
        self._write(text)
        return plan

    def _write(self, text: str) -> None:
        """Whole or not at all: a router may read it at any moment."""
        try:
            replace_file(self.path, text.encode())
        except OSError as error:
            raise InvalidArgument(f"{self.path} cannot be written: {error.strerror}") from error

    # ---- rules -------------------------------------------------------------------------------------------------

    def add(self, values: Mapping[str, Any]) -> Plan:
        """Add rules and destinations: ``{"rules": [...], "destinations": {...}}``, or one rule.

        Raises:
            PlanInvalid: what there would be then cannot be; nothing is changed.
        """
        whole: Mapping[str, Any] = values if "rules" in values or "destinations" in values else {"rules": [values]}

        def work(document: TOMLDocument) -> None:
            for name, one in dict(whole.get("destinations", {})).items():
                self._add_destination(document, name, one)
            rules = document.setdefault("rules", tomlkit.aot())
            for one in whole.get("rules", ()):
                rules.append(tomlkit.item(dict(one)))

        return self._change(work)

    def edit(self, name: str, values: Mapping[str, Any]) -> Plan:
        """Change fields of a rule; None removes one.

        Raises:
            InvalidArgument: there is no such rule.
            PlanInvalid: what there would be then cannot be; nothing is changed.
        """
        return self._change(lambda document: _update(self._rule(document, name), values))

    def remove(self, name: str) -> Plan:
        """Remove a rule.

        Raises:
            InvalidArgument: there is no such rule.
        """

        def work(document: TOMLDocument) -> None:
            rule = self._rule(document, name)
            document["rules"].remove(rule)
            if not document["rules"]:
                del document["rules"]

        return self._change(work)

    def _rule(self, document: TOMLDocument, name: str) -> Any:
        rules = list(document.get("rules", ()))
        for one in rules:
            if one.get("name") == name:
                return one
        raise _unknown("rule", name, [str(one.get("name")) for one in rules])

    # ---- destinations ------------------------------------------------------------------------------------------

    def add_destination(self, name: str, values: Mapping[str, Any]) -> Plan:
        """Add a destination.

        Raises:
            InvalidArgument: there is one of this name.
            PlanInvalid: it cannot be; nothing is changed.
        """
        return self._change(lambda document: self._add_destination(document, name, values))

    def _add_destination(self, document: TOMLDocument, name: str, values: Mapping[str, Any]) -> None:
        destinations = document.setdefault("destinations", tomlkit.table(is_super_table=True))
        if name in destinations:
            raise InvalidArgument(f'there is a destination "{name}"')
        table = tomlkit.table()
        table.update(dict(values))
        destinations.append(name, table)

    def edit_destination(self, name: str, values: Mapping[str, Any]) -> Plan:
        """Change fields of a destination; None removes one.

        Raises:
            InvalidArgument: there is no such destination.
            PlanInvalid: what there would be then cannot be; nothing is changed.
        """
        return self._change(lambda document: _update(self._destination(document, name), values))

    def remove_destination(self, name: str) -> Plan:
        """Remove a destination; what waits for it is parked.

        Raises:
            InvalidArgument: there is no such destination.
            PlanInvalid: a rule names it.
        """

        def work(document: TOMLDocument) -> None:
            self._destination(document, name)
            del document["destinations"][name]

        return self._change(work)

    def _destination(self, document: TOMLDocument, name: str) -> Any:
        destinations: Mapping[str, Any] = document.get("destinations", {})
        if name not in destinations:
            raise _unknown("destination", name, list(destinations))
        return destinations[name]


def _update(table: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _unknown(what: str, name: str, known: list[str]) -> InvalidArgument:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    there = ", ".join(sorted(known)) or "none"
    return InvalidArgument(f'there is no {what} "{name}"', hint=f"Is it {near[0]}?" if near else f"There are: {there}.")
