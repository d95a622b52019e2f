"""Earlier studies of a patient, fetched before someone asks for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from ..repository.dicom_json import text_at
from .jobs import Job, JobKind, Order
from .remote import Remote

__all__ = ["prefetch"]

_MOST = 500  # studies of a patient that are looked through
_STUDY, _DATE = 0x0020000D, 0x00080020


def prefetch(
    peer: str,
    remote: Remote,
    patient: str,
    *,
    most: int,
    here: Collection[str],
    order: Callable[[Order], Job],
    note: str = "an earlier study of the patient",
) -> list[Job]:
    """Order the latest studies of a patient that are not here.

    Args:
        peer, remote: the archive that is asked.
        patient: Patient ID.
        most: how many studies.
        here: Study Instance UIDs that need not be fetched.
        order: puts a job.
        note: why, for people.

    Raises:
        DicomNetError: the archive could not be asked.
    """
    keys = {"PatientID": patient, "StudyInstanceUID": "", "StudyDate": ""}
    found = {uid: text_at(one, _DATE) for one in remote.query("STUDY", keys, _MOST) if (uid := text_at(one, _STUDY))}
    wanted = sorted((uid for uid in found if uid not in here), key=lambda uid: found[uid], reverse=True)
    return list(_ordered(wanted[:most], peer, order, note))


def _ordered(studies: list[str], peer: str, order: Callable[[Order], Job], note: str) -> Iterator[Job]:
    for uid in studies:
        yield order(Order(JobKind.RETRIEVE, peer, uid, note=note))
