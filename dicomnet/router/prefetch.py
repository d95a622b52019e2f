"""Earlier studies of a patient, found at an archive and sent on from there (R3)."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from ..client import Client
from ..repository.text import clean_uid
from ..wire.element_walk import select_elements
from .actions import Prefetch

__all__ = ["prefetched"]

_PATIENT, _MODALITY = 0x00100020, 0x00080060
_READ = 1 << 20  # bytes of a data set in which its patient and modality stand


def prefetched(client: Client, load: Any, wanted: Prefetch) -> str:
    """Find them and have them sent; in a word what was.

    Args:
        client: of the archive.
        load: the instance that has arrived.
        wanted: which, and whereto.

    Raises:
        DicomNetError: the archive did not answer, or not all was sent.
    """
    with closing(load.source) as source:
        head = bytes(next(iter(source.chunks(_READ)), b""))
    found = select_elements(head, load.delivery.ts, (_PATIENT, _MODALITY))
    values = {tag: clean_uid(element.value) for tag, element in found.items()}
    patient, study = values.get(_PATIENT, ""), load.delivery.study
    if not patient:
        return "no earlier studies: the instance has no Patient ID"
    keys: dict[str, Any] = {"PatientID": patient, "StudyDate": f"{_first_day(wanted):%Y%m%d}-"}
    if wanted.same_modality and values.get(_MODALITY):
        keys["ModalitiesInStudy"] = values[_MODALITY]
    returning = ["StudyInstanceUID", "StudyDate"]
    studies = {
        str(match.StudyInstanceUID): str(match.get("StudyDate", ""))
        for match in client.find("STUDY", returning=returning, **keys)
    }
    studies.pop(study, None)
    chosen = sorted(studies, key=lambda uid: studies[uid], reverse=True)[: wanted.most]
    for uid in chosen:
        client.move("STUDY", destination=wanted.to, StudyInstanceUID=uid)
    return f"{len(chosen)} of {len(studies)} earlier studies sent to {wanted.to}"


def _first_day(wanted: Prefetch) -> datetime:
    return datetime.now() - timedelta(days=wanted.days)
