"""Works on a peer over several associations at once, and keeps what each piece of work took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil

from ..errors import DicomNetError
from ..protocol.negotiation import ProposedContext
from ..protocol.peer_profile import Peer
from ..services import presentation_contexts
from ..status import Status
from ..sync import Association
from .bench_objects import SOP_CLASS, TRANSFER_SYNTAX, Generator
from .connect import associate
from .exits import Exit, exit_code
from .interrupts import Interrupts
from .options import Settings

__all__ = ["Echoes", "Measurement", "Stores", "percentile"]

Answer = tuple[Status, float]


class Echoes:
    """C-ECHO, as the work of a measurement."""

    size = 0

    def contexts(self) -> list[ProposedContext]:
        """What it takes."""
        return presentation_contexts.verification()

    def answers(self, association: Association, wanted: Iterator[int]) -> Iterator[Answer]:
        """The peer's answer to each that is wanted, and the seconds that it took."""
        for _ in wanted:
            start = time.perf_counter()
            status = association.echo()
            yield status, time.perf_counter() - start


class Stores:
    """C-STORE of generated objects, as the work of a measurement.

    Args:
        generators: one for each association: their objects share its memory.
    """

    def __init__(self, generators: list[Generator]) -> None:
        self.size: int = generators[0].size
        self._generators = generators

    def contexts(self) -> list[ProposedContext]:
        """What it takes."""
        return presentation_contexts.storage([SOP_CLASS], [TRANSFER_SYNTAX])

    def answers(self, association: Association, wanted: Iterator[int]) -> Iterator[Answer]:
        """As of `Echoes`."""
        generator = self._generators.pop()
        for result in association.store_many(generator.object() for _ in wanted):
            if result.error is not None:
                raise result.error
            assert result.status is not None
            yield result.status, result.seconds


class Measurement:
    """A number of pieces of work, shared by associations as they get on.

    Args:
        work: what is done.
        count: how often in all.
        interrupts: end it early.

    Attributes:
        times: seconds of each piece that was answered with success or a warning.
        failed: how many were answered with something else.
        codes: the exit codes of what went wrong.
        seconds: from the first piece begun to the last answer.
        cpu: seconds of processor that this process took meanwhile, user and system, over all its threads.
    """

    def __init__(self, work: Echoes | Stores, count: int, interrupts: Interrupts) -> None:
        self._work = work
        self._left = count
        self._interrupts = interrupts
        self._lock = threading.Lock()
        self.times: list[float] = []
        self.failed: int = 0
        self.codes: set[int] = set()
        self.cpu: float
        self.seconds: float
        self.seconds = self.cpu = 0.0

    def run(self, peer: Peer, settings: Settings, associations: int) -> None:
        """Associate, so often, and only then begin.

        Raises:
            DicomNetError: there is no association, or one less than wanted; nothing was measured.
            KeyboardInterrupt: the second Ctrl-C.
        """
        contexts = self._work.contexts()
        opened: list[Association] = []
        try:
            # One by one: where one of them fails, the others are there to be aborted.
            opened.extend(associate(peer, contexts, settings) for _ in range(associations))
            self._interrupts.releasable = True
            self._together(opened, settings.output.error)
        except BaseException:
            for association in opened:
                with suppress(Exception):  # its thread may be anywhere: what counts is that it ends
                    association.abort()
            raise
        for association in opened:
            with suppress(DicomNetError):  # one that broke has said so
                association.release()

    def _together(self, opened: list[Association], complain: Callable[[str], None]) -> None:
        threads = [threading.Thread(target=self._use, args=(one, complain), daemon=True) for one in opened]
        cpu, start = time.process_time(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds, self.cpu = time.perf_counter() - start, time.process_time() - cpu

    def _use(self, association: Association, complain: Callable[[str], None]) -> None:
        times: list[float] = []
        try:
            for status, seconds in self._work.answers(association, self._wanted()):
                if status.is_success or status.is_warning:
                    times.append(seconds)
                else:
                    self._fail(Exit.FAILURES, f"the peer answered {status}", complain)
        except DicomNetError as error:
            self._fail(exit_code(error, established=True), str(error), complain)
        except BaseException:
            self.codes.add(Exit.INTERNAL)
            raise
        finally:
            with self._lock:
                self.times += times

    def _fail(self, code: int, message: str, complain: Callable[[str], None]) -> None:
        with self._lock:
            self.failed += 1
            if code not in self.codes:  # once of a kind: a peer that is full says so a thousand times
                complain(message)
            self.codes.add(code)

    def _wanted(self) -> Iterator[int]:
        while not self._interrupts.requested:
            with self._lock:
                if not self._left:
                    return
                self._left -= 1
                number = self._left
            yield number


def percentile(times: list[float], share: float) -> float:
    """The time within which this share of them lies, by the nearest rank; 0 where there is none."""
    return sorted(times)[max(ceil(share * len(times)) - 1, 0)] if times else 0.0
