"""Studies that an archive is to send: earlier ones of a patient, or the one that a message names (R3)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from ..client import Client
from .actions import Prefetch, Retrieve
from .facts import Facts
from .paths import Path, parse_path

__all__ = ["fetched"]

_CHARACTER_SET, _PATIENT = 0x00080005, 0x00100020
_READ = 1 << 20  # bytes of a data set in which its patient and modality stand
_MODALITIES = tuple(map(parse_path, ("Modality", "ScheduledProcedureStepSequence/Modality", "ModalitiesInStudy")))
_STUDIES = "StudyInstanceUID", "ScheduledStepAttributesSequence/StudyInstanceUID"
_WANTED = frozenset(
    {_CHARACTER_SET, _PATIENT, *(path.steps[0].tag for path in (*_MODALITIES, *map(parse_path, _STUDIES)))}
)


def fetched(client: Client, load: Any, wanted: Prefetch | Retrieve) -> str:
    """Have them sent; in a word what was.

    Args:
        client: of the archive.
        load: the instance or the message that has arrived.
        wanted: which, and whereto; by default to who sent it.

    Raises:
        DicomNetError: the archive did not answer, or not all was sent.
    """
    with closing(load.source) as source:
        head = bytes(next(iter(source.chunks(_READ)), b""))
    facts = Facts(head, load.delivery.ts, load.delivery.cls, wanted=_WANTED)
    to = wanted.to or load.delivery.calling
    if isinstance(wanted, Retrieve):
        return _retrieved(client, facts, to)
    return _prefetched(client, facts, to, wanted)


def _retrieved(client: Client, facts: Facts, to: str) -> str:
    studies = [one for one in facts.study.split("\\") if one]
    for uid in studies:
        client.move("STUDY", destination=to, StudyInstanceUID=uid)
    if studies:
        return f"{'the study' if len(studies) == 1 else f'{len(studies)} studies'} sent to {to}"
    patient = facts.text(_PATIENT)
    if not patient:
        return "nothing to retrieve: no study and no patient is named"
    client.move("PATIENT", model="PATIENT_ROOT", destination=to, PatientID=patient)
    return f"all studies of the patient sent to {to}"


def _prefetched(client: Client, facts: Facts, to: str, wanted: Prefetch) -> str:
    studies = facts.study.split("\\")
    patient, modality = facts.text(_PATIENT), _first(facts, _MODALITIES)
    if not patient and studies[0]:  # one who retrieves need not say whose it is
        returning = ["PatientID", "ModalitiesInStudy"]
        for match in client.find("STUDY", returning=returning, StudyInstanceUID=studies[0]):
            patient = str(match.get("PatientID", ""))
            modality = modality or next(iter(_texts(match.get("ModalitiesInStudy"))), "")
    if not patient:
        return "no earlier studies: no Patient ID is known"
    keys: dict[str, Any] = {"PatientID": patient, "StudyDate": f"{_first_day(wanted):%Y%m%d}-"}
    if wanted.same_modality and modality:
        keys["ModalitiesInStudy"] = modality
    found = {
        str(match.StudyInstanceUID): str(match.get("StudyDate", ""))
        for match in client.find("STUDY", returning=["StudyInstanceUID", "StudyDate"], **keys)
    }
    for uid in studies:
        found.pop(uid, None)
    chosen = sorted(found, key=lambda uid: found[uid], reverse=True)[: wanted.most]
    for uid in chosen:
        client.move("STUDY", destination=to, StudyInstanceUID=uid)
    return f"{len(chosen)} of {len(found)} earlier studies sent to {to}"


def _first(facts: Facts, paths: Sequence[Path]) -> str:
    """The first value that there is."""
    return next((value for path in paths for value in facts.values(path)), "")


def _texts(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(one) for one in value]


def _first_day(wanted: Prefetch) -> datetime:
    return datetime.now() - timedelta(days=wanted.days)
