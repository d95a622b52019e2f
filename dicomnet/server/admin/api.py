"""The operations of the admin interface: one table, from which both its routes and its OpenAPI description are made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..ae_entry import AEEntry
from ..ae_titles import NotKnown
from ..base import MOST_WHO, SharedSettings
from ..settings import Role
from .face import Administered

__all__ = ["OPERATIONS", "Given", "Message", "Operation"]


class _Body(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Stop(_Body):
    """How to stop."""

    drain: Annotated[float, Field(ge=0, le=86400)] | None = None


class LogLevel(_Body):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"]


_Who = Annotated[str, Field(max_length=MOST_WHO, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Number = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Reverting(_Body):
    """How an earlier snapshot of the settings of all nodes is to hold again."""

    after: _Number | None = None
    """The number that the latest snapshot has to have."""
    on_behalf_of: _Who = ""
    """Who wants it, where the caller is a program of several people."""


class Changing(Reverting):
    """What of the settings of all nodes is to be another."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Values by key, as ``retention_days`` or ``access.per_title``."""
    unset: tuple[str, ...] = ()
    """Keys for which a node's own settings, or defaults, are to hold."""


class Message(_Body):
    """A message of the classic interface."""

    message: Annotated[str, Field(min_length=1, max_length=256)]
    service: Annotated[str, Field(max_length=256)] = ""
    data: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Given:
    """A request, as an operation takes it.

    Attributes:
        server: the server.
        role: what its caller may do.
        path: the parameters in its path.
        body: an instance of the operation's model, where it has one.
        caller: the name of its caller.
    """

    server: Administered
    role: Role
    path: Mapping[str, str]
    body: Any = None
    caller: str = ""


Answer = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        method, path: of HTTP; parameters of the path in braces.
        summary: what it does.
        function: does it; blocking, hence called in a thread.
        role: what its caller must be allowed to do.
        body: the model of its body.
        status: of its answer.
        errors: the statuses of the problems that it may have, beside those that any may have.
        required: the members that its answer has.
    """

    method: str
    path: str
    summary: str
    function: Callable[[Given], Answer]
    role: Role = "read"
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    required: tuple[str, ...] = field(default=())


def _status(given: Given) -> Answer:
    return given.server.status()


def _snapshot(given: Given) -> Answer:
    """State and the id of the latest event that it includes, under the lock of both."""
    server, now = given.server, time.monotonic()
    with server.events.lock:
        return {
            "last_event": server.events.last_id,
            "clients": [one.as_json(now) for one in server.clients if one.associated],
            "ae_titles": [one.model_dump(mode="json") for one in server.base.ae_titles],
        }


def _nodes(given: Given) -> Answer:
    return {"nodes": given.server.nodes()}


def _clients(given: Given) -> Answer:
    now = time.monotonic()
    return {"clients": [one.as_json(now) for one in given.server.clients]}


def _disconnect(given: Given) -> Answer:
    given.server.disconnect(given.path["id"])
    return None


def _ae_titles(given: Given) -> Answer:
    return {"ae_titles": [one.model_dump(mode="json") for one in given.server.base.ae_titles]}


def _found(given: Given) -> AEEntry:
    title = given.path["title"]
    entry = given.server.base.ae_titles.find(title)
    if entry is None:
        raise NotKnown(f'there is no AE title "{title[:32]}"')
    return entry


def _ae_title(given: Given) -> Answer:
    return _found(given).model_dump(mode="json")


def _audit(given: Given, event: str, what: str) -> None:
    given.server.base.audit.record(event, user=given.caller, what=what)


def _add(given: Given) -> Answer:
    entry = given.server.base.ae_titles.add(given.body)
    _audit(given, "network-configuration", f"the AE title {entry.title} was added")
    return entry.model_dump(mode="json")


def _update(given: Given) -> Answer:
    entry = given.server.base.ae_titles.update(_found(given).title, given.body)
    _audit(given, "network-configuration", f"the AE title {entry.title} was changed")
    return entry.model_dump(mode="json")


def _remove(given: Given) -> Answer:
    title = _found(given).title
    given.server.base.ae_titles.remove(title)
    _audit(given, "network-configuration", f"the AE title {title} was removed")
    return None


def _echo(given: Given) -> Answer:
    status = given.server.base.requests.echo(_found(given).title)
    return {"status": f"{int(status):04X}", "meaning": str(status)}


def _pause(given: Given) -> Answer:
    given.server.pause()
    return {"state": given.server.status()["state"]}


def _resume(given: Given) -> Answer:
    given.server.resume()
    return {"state": given.server.status()["state"]}


def _reload(given: Given) -> Answer:
    report = given.server.reload(user=given.caller)
    return {"changed": list(report.changed), "pending_restart": list(report.pending_restart)}


def _stop(given: Given) -> Answer:
    given.server.request_stop(given.body.drain)
    return {"state": "stopping"}


def _addins(given: Given) -> Answer:
    addins = given.server.addins
    return {"addins": [one.as_json() for one in addins], "broken": dict(addins.broken)}


def _resume_addin(given: Given) -> Answer:
    addin = given.server.addins.get(given.path["name"])
    if addin is None:
        raise NotKnown(f'there is no add-in "{given.path["name"][:64]}"')
    given.server.addins.resume(addin)
    answer: dict[str, Any] = addin.as_json()
    return answer


def _settings(given: Given) -> Answer:
    return given.server.settings.model_dump(mode="json", exclude={"addin"})


def _shared(given: Given) -> SharedSettings:
    shared = given.server.base.shared
    if shared is None:
        raise NotKnown("this server has no settings in common with others", hint="An archive's database keeps them.")
    return shared


def _number(given: Given) -> int:
    text = given.path["number"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotKnown(f'there is no snapshot "{text[:32]}" of the settings')
    return int(text)


def _who(given: Given) -> str:
    wanted = given.body.on_behalf_of
    return f"{wanted} by way of {given.caller}" if wanted else given.caller


def _shared_settings(given: Given) -> Answer:
    return _shared(given).show()


def _shared_snapshot(given: Given) -> Answer:
    return _shared(given).show(_number(given))


def _shared_history(given: Given) -> Answer:
    return {"snapshots": _shared(given).history(MOST_SNAPSHOTS)}


def _change_shared(given: Given) -> Answer:
    body = given.body
    return _shared(given).change(body.set, body.unset, _who(given), after=body.after)


def _revert_shared(given: Given) -> Answer:
    return _shared(given).revert(_number(given), _who(given), after=given.body.after)


def _schema(given: Given) -> Answer:
    server = given.server
    return {
        "settings": type(server.settings).model_json_schema(),
        "addins": {one.name: one.found.settings_model.model_json_schema() for one in server.addins},
    }


def _log_level(given: Given) -> Answer:
    given.server.log.level(given.body.level)
    return {"level": given.body.level}


def _conformance(given: Given) -> Answer:
    return given.server.conformance()


def _messages(given: Given) -> Answer:
    return {
        "messages": [
            {
                "name": one.name,
                "role": one.role,
                "service": one.owner,
                "schema": None if one.model is None else one.model.model_json_schema(),
            }
            for one in given.server.messages
        ]
    }


_TITLE = "/v1/ae-titles/{title}"
_SHARED = "/v1/shared-settings"
#: Of a history that is asked for.
MOST_SNAPSHOTS = 1000
_CHANGE = (404, 409, 422, 503)

OPERATIONS = (
    Operation("GET", "/v1/status", "The server at a glance", _status, required=("ae_title", "state", "clients")),
    Operation("GET", "/v1/snapshot", "State, and the latest event in it", _snapshot, required=("last_event",)),
    Operation(
        "GET", "/v1/nodes", "All nodes of one archive, and how each is", _nodes, errors=(503,), required=("nodes",)
    ),
    Operation("GET", "/v1/clients", "Who is connected", _clients, required=("clients",)),
    Operation("DELETE", "/v1/clients/{id}", "Abort an association", _disconnect, "operate", status=204, errors=(404,)),
    Operation("GET", "/v1/ae-titles", "The AE titles that are known", _ae_titles, required=("ae_titles",)),
    Operation(
        "POST", "/v1/ae-titles", "Add an AE title", _add, "administer", AEEntry, 201, (409, 422, 503), ("title", "id")
    ),
    Operation("GET", _TITLE, "One AE title", _ae_title, errors=(404,), required=("title", "id")),
    Operation("PUT", _TITLE, "Change an AE title, its name too", _update, "administer", AEEntry, 200, _CHANGE, ("id",)),
    Operation("DELETE", _TITLE, "Remove an AE title", _remove, "administer", status=204, errors=(404, 409, 503)),
    Operation(
        "POST", f"{_TITLE}/echo", "C-ECHO to an AE", _echo, "operate", errors=(404, 422, 502), required=("status",)
    ),
    Operation("POST", "/v1/pause", "Take no new association", _pause, "operate", required=("state",)),
    Operation("POST", "/v1/resume", "Take associations again", _resume, "operate", required=("state",)),
    Operation("POST", "/v1/reload", "Read the settings again", _reload, "administer", errors=(422,)),
    Operation("POST", "/v1/stop", "Stop the server", _stop, "administer", Stop, 202, (422,), ("state",)),
    Operation("GET", "/v1/addins", "The add-ins, and what each implements", _addins, required=("addins",)),
    Operation(
        "POST", "/v1/addins/{name}/resume", "Let a suspended add-in serve", _resume_addin, "operate", errors=(404,)
    ),
    Operation("GET", "/v1/settings", "The settings that hold now", _settings, "operate"),
    Operation(
        "GET",
        _SHARED,
        "The settings of all nodes",
        _shared_settings,
        "operate",
        errors=(404, 503),
        required=("snapshot", "settings"),
    ),
    Operation(
        "PATCH",
        _SHARED,
        "Change settings of all nodes",
        _change_shared,
        "administer",
        Changing,
        200,
        _CHANGE,
        ("snapshot", "changed", "pending_restart"),
    ),
    Operation(
        "GET",
        f"{_SHARED}/history",
        "Who changed them, and when",
        _shared_history,
        "operate",
        errors=(404, 503),
        required=("snapshots",),
    ),
    Operation(
        "GET",
        f"{_SHARED}/{{number}}",
        "The settings of all nodes, as a change left them",
        _shared_snapshot,
        "operate",
        errors=(404, 503),
        required=("snapshot", "settings"),
    ),
    Operation(
        "POST",
        f"{_SHARED}/{{number}}/revert",
        "Have an earlier snapshot again",
        _revert_shared,
        "administer",
        Reverting,
        200,
        _CHANGE,
        ("snapshot", "changed", "pending_restart"),
    ),
    Operation("GET", "/v1/schema", "JSON schemas of the settings", _schema),
    Operation("PUT", "/v1/log-level", "What is logged", _log_level, "operate", LogLevel, errors=(422,)),
    Operation("GET", "/v1/conformance", "The conformance statement", _conformance),
    Operation("GET", "/v1/messages", "The messages that are known", _messages, required=("messages",)),
)
