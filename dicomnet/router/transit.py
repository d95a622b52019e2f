"""`Transit`: an instance that goes on to its destination while it is still arriving.

The loop of the listener writes what comes, a thread that sends reads it as the source of a C-STORE. What is not sent
yet is bounded: of an instance that is large enough to be written to a file, the rest is read from there.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Self

from ..errors import InputFileError, InputProblem
from ..repository.deferred import Deferred
from ..status import Status
from .facts import Facts
from .queue import New

__all__ = ["AHEAD", "LEAST", "Answer", "Transit"]

#: Bytes that may be held for a destination that takes them more slowly than they come.
AHEAD = 4 << 20
#: So many bytes are not kept back until they fill a PDU.
LEAST = 32 << 10
_PIECE = 1 << 20  # bytes that are sent at a time, about


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an instance on its way.

    Attributes:
        status: of the destination; None where there is none, and the queue is to take the instance.
        why: there is none.
    """

    status: Status | None
    why: str = ""


class Transit:
    """The source of an instance that is still arriving: a `Source` whose size is not known before its end.

    Args:
        uids: its SOP class, SOP instance and transfer syntax.
        facts: what its rules have asked about, of who sends it and of its header.
        new: the delivery that its rule wants.
        patience: seconds after its last byte in which the destination has to answer.

    Attributes:
        answer: set once, by who is first: the destination, or the clock that gives it up.
        due: when it is given up, by the monotonic clock; never while it arrives.
        is_left: its sender has left in the middle of it.
    """

    def __init__(self, uids: tuple[str, str, str], facts: Facts, new: New, patience: float) -> None:
        self.sop_class_uid: str
        self.sop_instance_uid: str
        self.transfer_syntax_uid: str
        self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid = uids
        self.name: str = self.sop_instance_uid
        self.size: int = -1
        self.over: bool = False
        self.facts: Facts = facts
        self.new: New = new
        self.answer: Deferred[Answer] = Deferred()
        self.due: float = math.inf
        self.is_left: bool = False
        self._patience = patience
        self._changed = threading.Condition()
        self._pieces: deque[bytes | memoryview] = deque()
        self._held = self._arrived = self._given = 0
        self._whole = self._stopped = self._from_file = False
        self._file: BinaryIO | None = None
        self._base = 0

    # ---- the thread that receives ------------------------------------------------------------------------------

    def write(self, pieces: Sequence[bytes]) -> None:
        """The next bytes have come; where they are also in a file, they are in it by now."""
        with self._changed:
            if self._stopped:
                return
            length = sum(map(len, pieces))
            self._arrived += length
            if not self._from_file:
                self._pieces.extend(pieces)
                self._held += length
                if self._file is not None and self._held > AHEAD:
                    self._pieces.clear()
                    self._held = 0
                    self._from_file = True
            self._changed.notify()

    def follow(self, file: BinaryIO, base: int) -> None:
        """All that has come, and all that comes, is in a file, from that byte on; it is closed with this."""
        with self._changed:
            if self._stopped:
                file.close()
                return
            self._file, self._base = file, base

    def end(self) -> None:
        """All of it has come: from now on the destination is waited for."""
        with self._changed:
            self._whole = True
            self.due = time.monotonic() + self._patience
            self._changed.notify()

    @property
    def is_whole(self) -> bool:
        """All of it has come."""
        return self._whole

    def comes_whole(self, seconds: float) -> bool:
        """Whether all of it has come by then, for another thread."""
        with self._changed:
            self._changed.wait_for(lambda: self._whole or self._stopped, seconds)
            return self._whole and not self._stopped

    def leave(self) -> None:
        """Its sender has left in the middle of it: the destination is not to keep half of it."""
        self.is_left = True
        self.give_up("its sender has left")

    # ---- the thread that sends ---------------------------------------------------------------------------------

    def chunks(self, unit: int) -> Iterator[memoryview]:
        """See `Source.chunks`. It waits for what comes, as long as its sender is given time for that.

        Raises:
            InputFileError: it was given up, or cannot be sent.
        """
        while not self.over:
            yield memoryview(self._next(unit))

    def _next(self, unit: int) -> bytes | memoryview:
        with self._changed:
            # One byte is kept back until more come: whether a fragment is the last one is said with it.
            least = min(unit, LEAST)
            while not (self._stopped or self._whole or self._arrived - self._given > least):
                self._changed.wait()
            if self._stopped:
                raise self._flaw("it is not passed on to its end")
            if self._whole and self._arrived & 1:
                raise self._flaw(f"its data set has an odd number of bytes, {self._arrived} (PS3.5 Section 7.1.1)")
            left = self._arrived - self._given
            size = left if self._whole else (left - 1) // unit * unit or (left - 1) & ~1
            size = min(size, max(_PIECE // unit, 1) * unit)
            piece = self._read(size) if self._from_file else self._joined(size)
            self._given += size
            self.over = self._whole and size == left
            return piece

    def _flaw(self, what: str) -> InputFileError:
        return InputFileError(what, problem=InputProblem.CANNOT_READ)

    def _joined(self, size: int) -> bytes | memoryview:
        """So many bytes of what is held; those of one piece as they are, for most of an instance comes in one."""
        taken: list[bytes | memoryview] = []
        while size > 0:
            piece = self._pieces.popleft()
            if len(piece) > size:
                view = memoryview(piece)
                self._pieces.appendleft(view[size:])
                piece = view[:size]
            taken.append(piece)
            size -= len(piece)
            self._held -= len(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _read(self, size: int) -> bytes:
        assert self._file is not None
        try:
            piece = os.pread(self._file.fileno(), size, self._base + self._given)
        except OSError as error:
            raise self._flaw(f"it cannot be read: {error.strerror}") from error
        if len(piece) != size:
            raise self._flaw("it became shorter while it was read")
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `Source.close`: nothing of it is read any more."""
        with self._changed:
            self._stopped = True
            self._pieces.clear()
            file, self._file = self._file, None
            self._changed.notify()
        if file is not None:
            file.close()

    # ---- its end -----------------------------------------------------------------------------------------------

    def give_up(self, why: str) -> None:
        """It goes by the queue, unless it is answered already; what is sent of it stops."""
        self.answer.set_result(Answer(None, why))
        self.close()
