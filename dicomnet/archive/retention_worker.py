"""Retention and quota by themselves: every hour one node deletes the studies that the settings do not keep."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..log import log
from ..repository.deletion import compact, delete_blobs_due
from ..repository.trouble import log_trouble
from .holdings import Holdings
from .retention import Policy, prune

__all__ = ["EVERY", "RETENTION", "RetentionWorker"]

RETENTION = "retention"  # the duty

#: Seconds between two looks; the first is one after the start, or a change of what is kept, so that a wrong setting can
#: still be mended.
EVERY = 3600.0


class RetentionWorker:
    """Deletes what the settings do not keep, as `dicomnet archive prune` does.

    Args:
        holdings: of the archive.
        clock: seconds since 1970; the database's by default.
    """

    def __init__(self, holdings: Holdings, *, clock: Callable[[], float] | None = None) -> None:
        self._holdings = holdings
        self._clock: Callable[[], float] = clock or holdings.database.clock
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._known: Policy | None = None
        self._thread: threading.Thread | None = None

    @property
    def _policy(self) -> Policy | None:
        chosen = self._holdings.settings
        return Policy.of(
            chosen.retention_days, chosen.retention_size, chosen.protected_patients, chosen.protected_studies
        )

    def start(self) -> None:
        """Look every hour, in a thread of its own, where the settings have a bound; it follows them."""
        self._known = self._policy
        self._thread = threading.Thread(target=self._run, name="dicomnet-retention", daemon=True)
        self._thread.start()
        self._holdings.follow(self._follow)

    def _follow(self) -> None:
        """What is to be kept may have changed: the hour begins again."""
        if self._policy != self._known:
            self._known = self._policy
            self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._wake.wait(EVERY if self._known is not None else None):
                self._wake.clear()
                continue
            try:
                self.look()
            except Exception as error:
                log_trouble("retention cannot be looked after", error, f"it is tried again in {EVERY:g} s")

    def look(self) -> int:
        """Delete what is due now, unless another node does; how many studies went."""
        policy = self._policy
        if policy is None or self._is_behind() or not self._is_mine():
            return 0
        gone = 0
        for study in prune(self._holdings, policy, self._clock()):
            gone += not study.kept
            if study.kept:
                log.info("study %s is due to go, and stays: %s", study.uid, study.kept)
            if self._stop.is_set() or self._policy != policy or self._is_behind() or not self._is_mine():
                break
        if gone:
            delete_blobs_due(self._holdings)
            compact(self._holdings)
        return gone

    def _is_behind(self) -> bool:
        """Whether newer settings may protect what these do not: another node that can use them is to delete."""
        refused = self._holdings.refused
        if refused is not None:
            log.warning("this node deletes nothing that is past its time: it cannot use snapshot %d of the settings of "
                        "all nodes", refused.number)  # fmt: skip
        return refused is not None

    def _is_mine(self) -> bool:
        """Whether this node has the duty, and keeps it: two at once would delete more than the bound asks."""
        return self._holdings.nodes.take(RETENTION, EVERY)

    def close(self) -> None:
        """Delete no more; the study that is being deleted goes whole."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
