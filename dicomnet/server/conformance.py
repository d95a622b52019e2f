"""The conformance statement of a server as it runs, in the form of PS3.2: as data, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import uids
from ..protocol.messages import CommandField
from ..services.service_registry import ANY_CLASS, ServiceSnapshot
from .addins import AddIns
from .settings import Settings

__all__ = ["as_markdown", "statement"]

_SCU_SCP = {CommandField.C_GET_RQ}
# Of each byte of the application information, what it is about.
_OF_FIND = ("relational queries", "combined date-time matching", "fuzzy semantic matching of person names",
            "timezone query adjustment")  # fmt: skip
_OF_RETRIEVE = ("relational retrieval",)


def statement(settings: Settings, services: ServiceSnapshot, addins: AddIns) -> dict[str, Any]:
    """The statement as data.

    ``presentation_contexts`` are those that an association would be granted now, with the transfer syntaxes of each;
    none named is any that dicomnet knows.
    """
    found: dict[str, Any] = {
        "ae_title": settings.server.ae_title,
        "description": settings.server.description,
        "implementation_class_uid": settings.server.implementation_class_uid,
        "implementation_version_name": settings.server.implementation_version_name,
        "aliases": list(settings.server.aliases),
        "any_called_title": settings.server.any_called_title,
        "any_sop_class": any(one.sop_class == ANY_CLASS for one in services),
        "application_context": uids.APPLICATION_CONTEXT,
        "max_pdu": settings.access.max_pdu,
        "max_associations": settings.access.max_clients,
        "anonymous_callers": settings.access.anonymous,
        "tls": None if settings.tls is None else {
            "profile": settings.tls.profile,
            "minimum_version": settings.tls.minimum_version,
            "client_certificate": settings.tls.client_certificate,
        },
        "idle_timeout": settings.timeouts.client,
        "add_ins": [{"name": one.name, "description": one.found.description} for one in addins],
        "presentation_contexts": _granted(services),
        "initiated": _initiated(addins),
        "extended_negotiation": _extended(services),
        "c_get_storage": any(one.message in _SCU_SCP for one in services),
    }  # fmt: skip
    return {**found, "markdown": as_markdown(found)}


def _granted(services: ServiceSnapshot) -> list[dict[str, Any]]:
    """The presentation contexts that an association would be granted."""
    return [
        {
            "sop_class": uid,
            "name": uids.name_of(uid),
            "services": sorted({_service(one.message) for one in services if one.sop_class == uid}),
            "transfer_syntaxes": list(syntaxes),
            "role": "SCP",
            "add_in": ", ".join(sorted({one.owner for one in services if one.sop_class == uid})),
        }
        for uid, syntaxes in sorted(services.transfer_syntaxes().items())
    ]


def _extended(services: ServiceSnapshot) -> list[dict[str, Any]]:
    """What SOP class extended negotiation is granted (PS3.4 Tables C.5-1 to C.5-3)."""
    found = {(one.sop_class, one.message): one.registration.extended for one in services if one.registration.extended}
    return [
        {"sop_class": uid, "name": uids.name_of(uid), "grants": _fields(message, granted)}
        for (uid, message), granted in sorted(found.items())
    ]


def _fields(message: CommandField, granted: bytes) -> list[str]:
    names = _OF_FIND if message == CommandField.C_FIND_RQ else _OF_RETRIEVE
    return [name for name, flag in zip(names, granted, strict=False) if flag]


def _initiated(addins: AddIns) -> list[dict[str, Any]]:
    """What add-ins call others for, and in which roles."""
    return [
        {"sop_class": uid, "name": uids.name_of(uid), "roles": sorted(roles)}
        for uid, roles in sorted(addins.initiated().items())
    ]


def _service(message: int) -> str:
    return CommandField(message).name.removesuffix("_RQ").replace("_", "-")


def as_markdown(found: dict[str, Any]) -> str:
    """The statement for people; its sections are those of PS3.2 Annex N."""
    return "\n".join([*_overview(found), *_networking(found), *_contexts(found), *_security(found)]) + "\n"


def _overview(found: dict[str, Any]) -> Iterable[str]:
    yield f"# DICOM conformance statement: {found['ae_title']}"
    yield ""
    yield "## 1 Conformance statement overview"
    yield ""
    yield found["description"] or "A DICOM server; what it does, its add-ins do."
    yield ""
    yield "| SOP class | User of service (SCU) | Provider of service (SCP) |"
    yield "|---|---|---|"
    roles = {one["name"]: set(one["roles"]) for one in found["initiated"]}
    for one in found["presentation_contexts"]:
        roles.setdefault(one["name"], set()).add("SCP")
    for name, taken in roles.items():
        yield f"| {name} | {'Yes' if 'SCU' in taken else 'No'} | {'Yes' if 'SCP' in taken else 'No'} |"
    yield ""


def _networking(found: dict[str, Any]) -> Iterable[str]:
    yield "## 4 Networking"
    yield ""
    yield "### 4.1 Implementation model"
    yield ""
    yield "| Add-in | What it does |"
    yield "|---|---|"
    for one in found["add_ins"]:
        yield f"| {one['name']} | {one['description']} |"
    yield ""
    yield "### 4.2 AE specification"
    yield ""
    yield "| | |"
    yield "|---|---|"
    called = "any" if found["any_called_title"] else ", ".join([found["ae_title"], *found["aliases"]])
    for label, value in (
        ("AE title that is called", called),
        ("Application context name", found["application_context"]),
        ("Implementation class UID", found["implementation_class_uid"]),
        ("Implementation version name", found["implementation_version_name"]),
        ("Maximum PDU size, received", f"{found['max_pdu']} bytes"),
        ("Associations at a time", found["max_associations"]),
        ("Callers that are not configured", "accepted" if found["anonymous_callers"] else "rejected"),
        ("Association idle time-out", f"{found['idle_timeout']:g} s" if found["idle_timeout"] else "none"),
    ):
        yield f"| {label} | {value} |"
    yield ""


def _contexts(found: dict[str, Any]) -> Iterable[str]:
    if found["initiated"]:
        yield "#### 4.2.1.3 Association initiation policy: presentation contexts"
        yield ""
        yield "| Abstract syntax | UID | Role |"
        yield "|---|---|---|"
        for one in found["initiated"]:
            yield f"| {one['name']} | {one['sop_class']} | {', '.join(one['roles'])} |"
        yield ""
    yield "#### 4.2.1.4 Association acceptance policy: presentation contexts"
    yield ""
    yield "| Abstract syntax | UID | Transfer syntaxes | Services | Role |"
    yield "|---|---|---|---|---|"
    for one in found["presentation_contexts"]:
        syntaxes = ", ".join(uids.name_of(uid) for uid in one["transfer_syntaxes"]) or "any"
        yield f"| {one['name']} | {one['sop_class']} | {syntaxes} | {', '.join(one['services'])} | {one['role']} |"
    yield ""
    if found["any_sop_class"]:
        yield "SOP classes of storage that are not listed are accepted, too, private ones included."
        yield ""
    if found["extended_negotiation"]:
        yield "SOP class extended negotiation grants:"
        yield ""
        yield "| SOP class | Granted |"
        yield "|---|---|"
        for one in found["extended_negotiation"]:
            yield f"| {one['name']} | {', '.join(one['grants'])} |"
        yield ""
    if any("timezone query adjustment" in one["grants"] for one in found["extended_negotiation"]):
        yield (
            "With timezone query adjustment, Timezone Offset From UTC (0008,0201) of a request identifier says in "
            "which zone its dates and times are, and those of the responses, which have it, too. What is stored is "
            "adjusted by the offset of its study. Dates without a time, birth dates, and all of a study without an "
            "offset are matched and returned as they are; of such a study the response has no value of the attribute."
        )
        yield ""
    if found["c_get_storage"]:
        yield "For C-GET the requestor may be provider (SCP) of every storage SOP class, by role selection."
        yield ""


def _security(found: dict[str, Any]) -> Iterable[str]:
    yield "## 7 Security"
    yield ""
    tls = found["tls"]
    if tls is None:
        yield "No secure transport connection profile is configured."
    else:
        yield (
            f"Secure transport connection profile {tls['profile']} of PS3.15, TLS {tls['minimum_version']} or newer; "
            f"client certificates are {tls['client_certificate']}."
        )
