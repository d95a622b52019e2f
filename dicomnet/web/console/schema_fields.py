"""Fields of a form from the JSON schema of a table of settings, and what was typed back as values of TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import tomlkit

from .forms import Field, Form

__all__ = ["fields_of", "values_of"]

Schema = Mapping[str, Any]


def fields_of(schema: Schema, table: str, values: Mapping[str, Any]) -> list[Field]:
    """The fields of a table; an empty one stands for its default.

    Args:
        schema: of the table, an object.
        table: its name, before the names of the fields.
        values: what the settings file says.
    """
    definitions = schema.get("$defs", {})
    required = schema.get("required", ())
    return [
        _field(name, f"{table}.{name}", _plain(one, definitions), values.get(name), name in required)
        for name, one in schema.get("properties", {}).items()
    ]


def _plain(schema: Schema, definitions: Schema) -> dict[str, Any]:
    """A schema without references, and without that it may be null."""
    found = dict(schema)
    if "$ref" in found:
        found = {**_plain(definitions[found.pop("$ref").rpartition("/")[2]], definitions), **found}
    kinds = [one for one in found.get("anyOf", ()) if one.get("type") != "null"]
    if kinds:
        found = {**_plain(kinds[0], definitions), **{key: one for key, one in found.items() if key != "anyOf"}}
    return found


def _field(name: str, full: str, schema: Schema, value: Any, required: bool) -> Field:
    label, about = name.replace("_", " ").capitalize(), str(schema.get("description", "")).replace("`", "")
    kind, default = schema.get("type"), schema.get("default")
    if kind == "boolean":
        usual = f"as usual: {'yes' if default else 'no'}"
        choices = [("", usual), ("true", "yes"), ("false", "no")]
        return Field(full, label, "select", _text(value), about, choices)
    if "enum" in schema:
        empty = [] if required else [("", f"as usual: {default}")]
        return Field(full, label, "select", _text(value), about, empty + [(one, one) for one in schema["enum"]])
    if kind == "array":
        about = f"{about} One on each line."
        return Field(full, label, "lines", "\n".join(map(str, value or ())), about, placeholder=_usual(default))
    if kind == "object":
        return Field(full, label, "lines", tomlkit.dumps(value or {}).strip(), f"{about} NAME = VALUE on each line.")
    if schema.get("format") == "password":
        return Field(full, label, "password", "", f"{about} Left empty it stays as it is.")
    shown = "number" if kind in ("integer", "number") else "text"
    return Field(full, label, shown, _text(value), about, required=required, placeholder=_usual(default))  # type: ignore[arg-type]


def _usual(default: Any) -> str:
    if default is None or default == "" or default == []:
        return ""
    return f"as usual: {', '.join(map(str, default)) if isinstance(default, list) else default}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def values_of(schema: Schema, fields: list[Field], form: Form) -> dict[str, Any]:
    """What was typed, by field; None where the default is to hold. What cannot be read is marked at its field."""
    definitions = schema.get("$defs", {})
    found: dict[str, Any] = {}
    for field in fields:
        if field.name not in form:
            continue
        one = _plain(schema["properties"][field.name.rpartition(".")[2]], definitions)
        try:
            value = _value(field, one, form)
        except ValueError as error:
            field.error = str(error)
            continue
        if value is None and field.kind == "password":
            continue
        found[field.name] = value
    return found


def _value(field: Field, schema: Schema, form: Form) -> Any:
    text = form.text(field.name)
    if not text:
        return None
    kind = schema.get("type")
    if kind == "boolean":
        return text == "true"
    if kind == "array":
        numbers = schema.get("items", {}).get("type") == "integer"
        return [_number(one) if numbers else one for one in form.lines(field.name)]
    if kind == "object":
        try:
            return tomllib.loads("\n".join(form.lines(field.name)))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"expected NAME = VALUE on each line, as in TOML: {error}") from error
    return _number(text) if kind in ("integer", "number") else text


def _number(text: str) -> int | float | str:
    """A number; what is none stays text, for there are fields that take "500ms" or "16k"."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
