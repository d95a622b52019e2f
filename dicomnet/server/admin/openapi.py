"""The OpenAPI description of the admin interface, made from the table of its operations."""

from __future__ import annotations

import re
from typing import Any

from .api import OPERATIONS, Message, Operation
from .problems import PROBLEM, problem_schema

__all__ = ["description"]

_MESSAGE_ANSWER = {
    "type": "object",
    "required": ["success"],
    "properties": {"success": {"type": "boolean"}, "error": {"type": ["string", "null"]}, "data": {}},
}


def description(version: str) -> dict[str, Any]:
    """The document, for OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {"Problem": problem_schema("hint")}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    paths.setdefault("/v1/messages", {})["post"] = _message_operation(schemas)
    paths["/v1/events"] = {"get": _events_operation()}
    paths["/v1/health/live"] = {"get": _plain("Whether the server lives", (200,))}
    paths["/v1/health/ready"] = {"get": _plain("Whether the server is ready", (200, 503))}
    paths["/metrics"] = {"get": _metrics_operation()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "dicomnet server administration", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _problem(detail: str) -> dict[str, Any]:
    return {"description": detail, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _problems(statuses: tuple[int, ...]) -> dict[str, Any]:
    return {str(status): _problem("a problem document") for status in sorted({*statuses, 400, 403, 405})}


def _parameters(path: str) -> list[dict[str, Any]]:
    text = {"type": "string", "minLength": 1}
    return [{"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", path)]


def _body(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    return {"required": True, "content": content}


def _operation(one: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "done"}
    if one.status != 204:
        answer["content"] = {"application/json": {"schema": {"type": "object", "required": list(one.required)}}}
    errors = (*one.errors, *((413, 415, 422) if one.body is not None else ()))
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method.lower()}{re.sub(r'[^a-z]+', '_', one.path)}",
        "parameters": _parameters(one.path),
        "responses": {str(one.status): answer, **_problems(errors)},
        "x-role": one.role,
    }
    if one.body is not None:
        found["requestBody"] = _body(one.body, schemas)
    return found


def _message_operation(schemas: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": _MESSAGE_ANSWER}}
    return {
        "summary": "Send a message of the classic interface, or of an add-in",
        "operationId": "post_message",
        "requestBody": _body(Message, schemas),
        "responses": {"200": {"description": "answered", "content": content}, **_problems((413, 415, 422))},
        "x-role": "read",
    }


def _events_operation() -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    return {
        "summary": "Follow the events, as server-sent events",
        "operationId": "get_events",
        "parameters": [
            {"name": "after", "in": "query", "required": False, "schema": number},
            {"name": "types", "in": "query", "required": False, "schema": {"type": "string"}},
        ],
        "responses": {
            "200": {"description": "a stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            **_problems(()),
        },
    }


def _plain(summary: str, statuses: tuple[int, ...]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object", "required": ["ok"]}}}
    answers = {str(status): {"description": summary, "content": content} for status in statuses}
    return {"summary": summary, "responses": {**answers, **_problems(())}}


def _metrics_operation() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "summary": "Metrics for Prometheus",
        "responses": {"200": {"description": "metrics", "content": content}, **_problems(())},
    }
