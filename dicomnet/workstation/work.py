"""The work of a job: what is missing is retrieved, what is not sent yet is sent, and why it failed if it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from ..client import Client, Stored, StoreScu
from ..client.sync.web import WebClient
from ..errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectionFailed,
    DeadlineExceeded,
    DicomNetError,
    ServiceFailure,
    TLSFailed,
)
from ..repository.blob_source import BlobSource
from ..repository.exporting import export, selected
from ..repository.holdings import Holdings
from ..repository.places import Place
from ..status import Status
from .jobs import Job, JobQueue
from .remote import Fetching, Remote, Wanted

__all__ = ["Incomplete", "Report", "retrieve", "retry_class_of", "send_dimse", "send_web"]

_NOTED = 50  # instances after which it is noted which ones were sent

#: Told how far a job is: expected, present, found.
Report = Callable[[int, int, int], object]


class Incomplete(DicomNetError):
    """The peer did a part only."""


def retry_class_of(error: DicomNetError) -> str:
    """The name of the back-off by which a job is tried again that failed so."""
    if isinstance(error, Incomplete):
        return "partial"
    if isinstance(error, AssociationRejected):
        return "network" if error.is_transient else "once"
    if isinstance(error, ServiceFailure):
        return "busy" if error.status.is_out_of_resources else "partial"
    if isinstance(error, TLSFailed):
        return "once"
    return "network" if isinstance(error, ConnectionFailed | DeadlineExceeded | AssociationAborted) else "once"


def retrieve(job: Job, remote: Remote, holdings: Holdings, fetching: Fetching, report: Report) -> None:
    """Retrieve what is not here: series that are missing whole, of others the instances by their UIDs.

    Raises:
        Stopped: it was cancelled.
        Incomplete: the peer does not have it, or did not send all of it.
        DicomNetError: the peer could not be asked.
    """
    wanted = remote.instances(job.study, job.series, fetching)
    if job.instances:
        wanted = [one for one in wanted if one.uid in job.instances]
    if not wanted:
        raise Incomplete(f"{job.peer} has nothing of it")
    wanted = sorted(dict.fromkeys(wanted), key=lambda one: one.series)
    expected = len(wanted)
    here = found = expected - len(_missing(holdings, wanted))
    report(expected, here, found)

    def arrived(count: int) -> None:
        nonlocal here
        here = min(here + count, expected)
        report(expected, here, found)

    fetching.arrived = arrived
    for _, group in groupby(wanted, key=lambda one: one.series):
        series = list(group)
        _fetch_series(job, remote, holdings, series, fetching)
        fetching.check()
    missing = len(_missing(holdings, wanted))
    report(expected, expected - missing, found)
    if missing:
        raise Incomplete(f"{job.peer} did not send {missing} of {expected} instances")


def _fetch_series(job: Job, remote: Remote, holdings: Holdings, series: list[Wanted], fetching: Fetching) -> None:
    missing = _missing(holdings, series)
    if not missing:
        return
    is_whole = len(missing) == len(series) and not job.instances
    remote.fetch(job.study, missing, job.by, whole=is_whole, fetching=fetching)
    left = _missing(holdings, series)
    if left and len(left) == len(missing) and not is_whole and not job.instances:
        # Some peers know no list of UIDs: the whole series brings what is missing, too.
        remote.fetch(job.study, series, job.by, whole=True, fetching=fetching)


def _missing(holdings: Holdings, wanted: Sequence[Wanted]) -> list[Wanted]:
    there = holdings.places.of([one.uid for one in wanted])
    return [one for one in wanted if one.uid not in there]


# ---- sending ---------------------------------------------------------------------------------------------------------


class _Sending:
    """What a job has to send, and which of it was: told, and noted in the queue, from time to time.

    Attributes:
        places: all that it is about; ``missing``: the UIDs of those that the peer does not have yet.
    """

    def __init__(self, job: Job, holdings: Holdings, queue: JobQueue, report: Report) -> None:
        self._job, self._queue, self._report = job.id, queue, report
        self.places: list[Place] = selected(holdings, studies=[job.study], series=job.series, instances=job.instances)
        if not self.places:
            raise Incomplete("nothing of it is here")
        self.missing: set[str] = {one.uid for one in self.places} - queue.sent(job.id)
        self._found = len(self.places) - len(self.missing)
        self._fresh: list[str] = []
        self._tell()

    def left(self) -> list[Place]:
        """What is still to be sent."""
        return [one for one in self.places if one.uid in self.missing]

    def sent(self, uid: str) -> None:
        """The peer has an instance."""
        if uid in self.missing:
            self.missing.remove(uid)
            self._fresh.append(uid)

    def note(self) -> None:
        """Note what was sent since the last time."""
        self._queue.note_sent(self._job, self._fresh)
        self._fresh.clear()
        self._tell()

    def _tell(self) -> None:
        self._report(len(self.places), len(self.places) - len(self.missing), self._found)


def send_dimse(
    job: Job, client: Client, holdings: Holdings, queue: JobQueue, fetching: Fetching, report: Report
) -> None:
    """Store at a peer what it was not sent yet.

    Args:
        job: what.
        client: the peer.
        holdings: where it is.
        queue: knows which instances have been sent.
        fetching: may be cancelled.
        report: told how far it is.

    Raises:
        Stopped: it was cancelled.
        Incomplete: nothing of it is here, or the peer did not take all of it.
        DicomNetError: the peer could not be asked.
    """
    sending = _Sending(job, holdings, queue, report)
    failed = list[Stored]()
    sources = [BlobSource(holdings.blobs, one) for one in sending.left()]
    with StoreScu(client) as scu, fetching.ended_by(scu.stop, scu.interrupt), closing(scu.send(sources)) as results:
        for count, stored in enumerate(results, 1):
            if stored.ok or stored.status == Status.DUPLICATE_SOP_INSTANCE:
                sending.sent(stored.sop_instance_uid)
            else:
                failed.append(stored)
            if count % _NOTED == 0:
                sending.note()
            if fetching.stopped:
                break
    sending.note()
    fetching.check()
    if failed:
        raise _why(job, failed, len(sending.places))


def _why(job: Job, failed: Sequence[Stored], count: int) -> DicomNetError:
    """What failed with the peer as a whole, or how much of it."""
    for one in failed:
        if isinstance(one.error, DicomNetError) and not isinstance(one.error, ServiceFailure):
            return one.error
    return Incomplete(f"{job.peer} did not take {len(failed)} of {count} instances: {failed[0].reason}")


def send_web(
    job: Job, client: WebClient, holdings: Holdings, queue: JobQueue, fetching: Fetching, report: Report
) -> None:
    """Store at a DICOMweb server what it was not sent yet; see `send_dimse`."""
    sending = _Sending(job, holdings, queue, report)
    why = ""
    for group in _batches(sending.left()):
        fetching.check()
        with TemporaryDirectory(prefix="dicomnet-") as folder:
            export(holdings, group, Path(folder), "folder", progress=lambda _: None)
            for one in client.store(*sorted(Path(folder).rglob("*.dcm"))):
                if one.ok or one.reason == Status.DUPLICATE_SOP_INSTANCE:
                    sending.sent(one.sop_instance_uid)
                else:
                    why = why or str(one.reason)
        sending.note()
    if left := len(sending.missing):
        raise Incomplete(f"{job.peer} did not take {left} of {len(sending.places)} instances: {why}")


def _batches(places: Sequence[Place]) -> Iterator[list[Place]]:
    for start in range(0, len(places), _NOTED):
        yield list(places[start : start + _NOTED])
