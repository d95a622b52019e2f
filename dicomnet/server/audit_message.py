"""Audit messages in the form of PS3.15 Annex A.5: what happened, who took part, and what it was about."""

from __future__ import annotations

import os
import socket
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as Xml

from ..errors import InvalidArgument

__all__ = ["EVENTS", "EventKind", "Participant", "Subject", "configuration_event", "is_alert", "message"]


@dataclass(frozen=True, slots=True)
class EventKind:
    """A kind of event (PS3.15 Section A.5.3).

    Attributes:
        code, meaning: of its EventID, in the coding scheme DCM.
        action: C, R, U, D or E.
        type_code, type_meaning: of its EventTypeCode, where it has one.
    """

    code: str
    meaning: str
    action: str
    type_code: str = ""
    type_meaning: str = ""


#: The events by the names that `AuditTrail.record` takes.
EVENTS: dict[str, EventKind] = {
    "application-started": EventKind("110100", "Application Activity", "E", "110120", "Application Start"),
    "application-stopped": EventKind("110100", "Application Activity", "E", "110121", "Application Stop"),
    "audit-log-used": EventKind("110101", "Audit Log Used", "R"),
    "begin-transferring": EventKind("110102", "Begin Transferring DICOM Instances", "E"),
    "instances-accessed": EventKind("110103", "DICOM Instances Accessed", "R"),
    "instances-transferred": EventKind("110104", "DICOM Instances Transferred", "C"),
    "study-deleted": EventKind("110105", "DICOM Study Deleted", "D"),
    "export": EventKind("110106", "Export", "R"),
    "import": EventKind("110107", "Import", "C"),
    "network-entry": EventKind("110108", "Network Entry", "E"),
    "patient-record": EventKind("110110", "Patient Record", "U"),
    "procedure-record": EventKind("110111", "Procedure Record", "U"),
    "query": EventKind("110112", "Query", "E"),
    "security-alert": EventKind("110113", "Security Alert", "E", "110132", "Use of Restricted Function"),
    "node-authentication": EventKind("110113", "Security Alert", "E", "110126", "Node Authentication"),
    "network-configuration": EventKind("110113", "Security Alert", "E", "110128", "Network Configuration"),
    "security-configuration": EventKind("110113", "Security Alert", "E", "110129", "Security Configuration"),
    "software-configuration": EventKind("110113", "Security Alert", "E", "110131", "Software Configuration"),
    "login": EventKind("110114", "User Authentication", "E", "110122", "Login"),
    "logout": EventKind("110114", "User Authentication", "E", "110123", "Logout"),
}


_ADMITTING = ("access.", "admin.", "server.", "tls.")  # keys of settings that say who is let in


def configuration_event(changed: Iterable[str]) -> str:
    """The event for some settings, by their keys: of security where they say who is let in."""
    return "security-configuration" if any(key.startswith(_ADMITTING) for key in changed) else "software-configuration"


def is_alert(event: str) -> bool:
    """Whether it is a Security Alert (PS3.15 Section A.5.3.11), of which a user that takes part is no requestor."""
    return event in EVENTS and EVENTS[event].code == "110113"


@dataclass(frozen=True, slots=True)
class Participant:
    """Someone, or something, that took part.

    Attributes:
        user_id: the user, or the process.
        ae_titles: of an application, which become its AlternativeUserID.
        requestor: whether it began the event.
        role: "application", "launcher", "source" or "destination"; empty for none.
        address: of its host, where it has one.
        name: of a user, for people.
    """

    user_id: str
    ae_titles: tuple[str, ...] = ()
    requestor: bool = False
    role: str = ""
    address: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about.

    Attributes:
        kind: "study", "patient", "sop-class" or "node".
        id: its UID, number or title.
        name: of a patient.
        query: the identifier of a query, which takes the place of a name.
        detail: more, by name.
        instances: by SOP class, how many instances.
    """

    kind: str
    id: str
    name: str = ""
    query: bytes = b""
    detail: Mapping[str, bytes] | None = None
    instances: Mapping[str, int] | None = None


_ROLES = {
    "application": ("110150", "Application"),
    "launcher": ("110151", "Application Launcher"),
    "source": ("110153", "Source Role ID"),
    "destination": ("110152", "Destination Role ID"),
}
# ParticipantObjectIDTypeCode with its scheme and meaning; then the codes of the object's type and its role.
_SUBJECTS = {
    "study": ("110180", "DCM", "Study Instance UID", "2", "3"),
    "patient": ("2", "RFC-3881", "Patient Number", "1", "1"),
    "sop-class": ("110181", "DCM", "SOP Class UID", "2", "3"),
    "node": ("110182", "DCM", "Node ID", "2", "13"),
}
_OUTCOMES = {"success": "0", "minor": "4", "serious": "8", "major": "12"}
_APPLICATION_SERVER = "4"


def message(
    event: str,
    source: str,
    participants: Iterable[Participant],
    subjects: Iterable[Subject] = (),
    *,
    outcome: str = "success",
    description: str = "",
    at: datetime | None = None,
) -> str:
    """The XML of one audit message, in one line.

    Args:
        event: a name of `EVENTS`.
        source: who reports it: the AE title of the server.
        participants: at least one.
        subjects: what it is about.
        outcome: "success", "minor", "serious" or "major" failure.
        description: of the outcome, in words.
        at: when; by default now.

    Raises:
        InvalidArgument: there is no such event.
    """
    kind = EVENTS.get(event)
    if kind is None:
        raise InvalidArgument(f'there is no audit event "{event}"', hint=f"There are {', '.join(EVENTS)}.")
    root = Xml.Element("AuditMessage")
    _identification(root, kind, _OUTCOMES[outcome], description, at or datetime.now(UTC))
    for one in participants:
        _participant(root, one)
    reporter = Xml.SubElement(root, "AuditSourceIdentification", AuditSourceID=_clean(source))
    Xml.SubElement(reporter, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
    for subject in subjects:
        _subject(root, subject)
    return Xml.tostring(root, encoding="unicode")


def _identification(root: Xml.Element, kind: EventKind, outcome: str, description: str, at: datetime) -> None:
    element = Xml.SubElement(
        root,
        "EventIdentification",
        EventActionCode=kind.action,
        EventDateTime=at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=outcome,
    )
    _code(element, "EventID", kind.code, "DCM", kind.meaning)
    if kind.type_code:
        _code(element, "EventTypeCode", kind.type_code, "DCM", kind.type_meaning)
    if description:
        Xml.SubElement(element, "EventOutcomeDescription").text = _clean(description)


def _code(parent: Xml.Element, name: str, code: str, scheme: str, meaning: str) -> None:
    Xml.SubElement(parent, name, {"csd-code": code, "codeSystemName": scheme, "originalText": meaning})


def _clean(text: str) -> str:
    """What XML can hold, on one line."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _participant(root: Xml.Element, one: Participant) -> None:
    fields = {"UserID": _clean(one.user_id), "UserIsRequestor": "true" if one.requestor else "false"}
    if one.ae_titles:
        fields["AlternativeUserID"] = _clean(f"AETITLES={';'.join(one.ae_titles)}")
    if one.name:
        fields["UserName"] = _clean(one.name)
    if one.address:
        fields |= {"NetworkAccessPointID": _clean(one.address), "NetworkAccessPointTypeCode": _kind_of(one.address)}
    element = Xml.SubElement(root, "ActiveParticipant", fields)
    if one.role:
        code, meaning = _ROLES[one.role]
        _code(element, "RoleIDCode", code, "DCM", meaning)


def _kind_of(address: str) -> str:
    """2 for an IP address, 1 for a name."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        return "1"
    return "2"


def _subject(root: Xml.Element, one: Subject) -> None:
    code, scheme, meaning, kind, role = _SUBJECTS[one.kind]
    element = Xml.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_clean(one.id),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(element, "ParticipantObjectIDTypeCode", code, scheme, meaning)
    if one.query:
        Xml.SubElement(element, "ParticipantObjectQuery").text = b64encode(one.query).decode()
    else:
        Xml.SubElement(element, "ParticipantObjectName").text = _clean(one.name)
    for name, value in (one.detail or {}).items():
        Xml.SubElement(element, "ParticipantObjectDetail", type=name, value=b64encode(value).decode())
    if one.instances:
        described = Xml.SubElement(element, "ParticipantObjectDescription")
        for uid, count in one.instances.items():
            Xml.SubElement(described, "SOPClass", UID=uid, NumberOfInstances=str(count))


def process_id() -> str:
    """This process, as a participant."""
    return str(os.getpid())
