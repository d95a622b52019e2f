"""Tells subscribers of work items by N-EVENT-REPORT, over associations to the addresses of their AE titles.

Each subscriber has a queue and a thread of its own while there is something to tell, so that one which does not answer
holds up no other. What cannot be told is logged and not tried again: a subscriber that was away asks (PS3.4 Section
CC.2.4.3).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from .. import uids
from ..config import Entity
from ..errors import DicomNetError, ServiceFailure
from ..log import log, log_failure
from ..protocol.negotiation import ProposedContext
from ..repository.workitems import Notice
from ..sync import Association, connect
from .dicom_json import dataset_of_json
from .holdings import Holdings

__all__ = ["MOST_WAITING", "WorkitemReporter"]

#: Notices that may wait for one subscriber; the oldest go.
MOST_WAITING = 1000
#: Seconds for which an association is kept for what else there will be to tell.
LINGER = 0.5
PATIENCE = 5.0
_EVENT, _CLASS = uids.UNIFIED_PROCEDURE_STEP_EVENT, uids.UNIFIED_PROCEDURE_STEP_PUSH
_SYNTAXES = (uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.IMPLICIT_VR_LITTLE_ENDIAN)


class WorkitemReporter:
    """Reports to those of the subscribers that have an address.

    Args:
        holdings: whose work items they are, and whose destinations have the addresses.
        linger: seconds for which an association is kept.

    Attributes:
        patience: seconds that `close` waits for subscribers that are being told.
    """

    def __init__(self, holdings: Holdings, *, linger: float = LINGER) -> None:
        self._holdings, self._linger = holdings, linger
        self.patience: float = PATIENCE
        self._calling = holdings.settings.ae_title
        self._destinations: Mapping[str, Entity] = holdings.settings.destinations
        self._news = threading.Condition()
        self._waiting: dict[str, deque[Notice]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def knows(self, title: str) -> bool:
        """Whether a subscriber of this title can be told."""
        return title in self._destinations

    def start(self) -> None:
        """Report from now on; first that the server has begun again."""
        self._holdings.workitems.listen(self.report)
        self._holdings.workitems.restarted(self._holdings.settings.workitems_to)

    def report(self, notices: Sequence[Notice]) -> None:
        """Have these reported to those that are to be told; does not wait."""
        with self._news:
            for notice in notices if not self._closed else ():
                for title in notice.to:
                    if self.knows(title):
                        self._put(title, notice)
            self._news.notify_all()

    def _put(self, title: str, notice: Notice) -> None:
        waiting = self._waiting.setdefault(title, deque())
        if len(waiting) == MOST_WAITING:
            waiting.popleft()
            log.warning("%s does not keep up with work items: the oldest of %d notices is dropped", title, MOST_WAITING)
        waiting.append(notice)
        if title not in self._threads:
            thread = threading.Thread(target=self._run, args=(title,), name=f"dicomnet-ups-{title}", daemon=True)
            self._threads[title] = thread
            thread.start()

    def _run(self, title: str) -> None:
        while (notice := self._next(title)) is not None:
            try:
                self._tell(title, notice)
            except (DicomNetError, OSError) as error:
                with self._news:
                    lost = 1 + len(self._waiting[title])
                    self._waiting[title].clear()
                log.warning("%s cannot be told of work items, %d notices are dropped: %s", title, lost, error)
            except Exception as error:  # what one item says that has no encoding is no reason to tell of no other
                log_failure(f"{title} cannot be told of the work item {notice.uid}", error)

    def _tell(self, title: str, notice: Notice | None) -> None:
        """Report a notice, and what comes while the association is there."""
        proposed = [ProposedContext(_EVENT, _SYNTAXES, scu=False, scp=True)]
        with connect(self._destinations[title], calling=self._calling, contexts=proposed) as association:
            while notice is not None:
                _send(association, title, notice)
                notice = self._next(title, wait=True)

    def _next(self, title: str, *, wait: bool = False) -> Notice | None:
        """What is to be told next; None where there is nothing, and without waiting the thread is over then."""
        with self._news:
            waiting = self._waiting[title]
            if wait:
                self._news.wait_for(lambda: waiting or self._closed, self._linger)
            if waiting:
                return waiting.popleft()
            if not wait:
                del self._threads[title]
            return None

    def close(self) -> None:
        """Tell what waits, as far as that is done within the patience, and end."""
        with self._news:
            self._closed = True
            threads = list(self._threads.values())
            self._news.notify_all()
        end = time.monotonic() + self.patience
        for thread in threads:
            thread.join(max(end - time.monotonic(), 0.0))


def _send(association: Association, title: str, notice: Notice) -> None:
    dataset = dataset_of_json(notice.item)
    try:
        association.n_event_report(_CLASS, notice.uid, notice.event, dataset, context=_EVENT)
    except ServiceFailure as error:  # this one was told: those that follow are told as well
        log.warning("%s answered a report of a work item with %s", title, error.status)
