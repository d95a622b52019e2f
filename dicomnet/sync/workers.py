"""Worker processes that serve one port: `WorkerPool` in the process that started them, and what runs in the others.

One process, the supervisor, forks the workers, takes the connections and hands each to the worker that has the fewest.
With a socket that workers share, or one for each (SO_REUSEPORT), chance decides, and of eight senders six may well end
up with one of two. The supervisor has a single thread, always, so that a worker which dies can be forked anew without
fear of locks that another thread held. Handed connections also mean that a stop loses none that was taken.

Everything else goes through what the processes share: commands through a socket pair each, log records and the word of
the end through one pipe, counters and slots through a `Board` and `AssociationSlots`.
"""

from __future__ import annotations

import logging
import marshal
import os
import select
import selectors
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, NoReturn

from ..config import ACCEPT_PAUSE, SAY_AGAIN
from ..errors import ConnectionFailed
from ..log import log
from .acceptor import Acceptor
from .board import Board
from .shared_state import AssociationSlots

__all__ = ["Job", "WorkerPool", "serve_handed"]

_RESTART_PAUSE = 1.0  # seconds from one start of a worker to the next: who dies at once is not forked as fast as we can
_GRACE = 5.0  # seconds beyond twice the drain until a worker that does not end is killed
_CONNECTION, _TURN_AWAY, _STOP, _HURRY, _PAUSE, _RESUME = b"c", b"t", b"s", b"h", b"p", b"r"
_SUPERVISOR = 0  # workers are numbered from 1
_HEADER = struct.Struct("<HBB")  # of a part of a log record: its length, the sender, whether it is the first or last
_FIRST, _LAST = 1, 2
# What a pipe takes as one, so that the parts of several processes do not mix (POSIX).
_PART = getattr(select, "PIPE_BUF", 512) - _HEADER.size


class Job(NamedTuple):
    """What the workers are to do: a listener, as they see it.

    Attributes:
        work: in a worker, serve connections that come by this socket until a stop does, and let those in flight end.
        drain: seconds that they get.
        last_call: seconds for which new associations are rejected before that.
    """

    work: Callable[[socket.socket], None]
    drain: float
    last_call: float = 0.0


class WorkerPool:
    """The workers of a listener, as the process sees them that called for them.

    Args:
        job: what they do.
        size: how many there are.
        listening: the socket that the supervisor takes connections from.
        board, slots: what they share.
    """

    def __init__(self, job: Job, size: int, listening: socket.socket, board: Board, slots: AssociationSlots) -> None:
        if threading.active_count() > 1:
            log.warning("workers are forked while other threads run: locks that those hold stay locked in the workers")
        self._stopped = False
        self._exit: int | None = None
        self._commands, theirs = socket.socketpair()
        self._reports, reports = os.pipe()
        self._pid = _fork()
        if not self._pid:
            self._commands.close()
            os.close(self._reports)
            supervisor = _Supervisor(job, size, listening, theirs, reports, board, slots)
            _become(_SUPERVISOR, reports, supervisor.run)
        theirs.close()
        os.close(reports)

    def stop(self) -> None:
        """Have the supervisor take no more connections, and the workers end when theirs are over. From any thread."""
        self._stopped = True
        self._say(_STOP)

    def hurry(self) -> None:
        """End all associations now."""
        self._say(_HURRY)

    def pause(self) -> None:
        """Have the supervisor take no connections for now."""
        self._say(_PAUSE)

    def resume(self) -> None:
        """Have it take them again."""
        self._say(_RESUME)

    def _say(self, command: bytes) -> None:
        with suppress(OSError):  # it has ended
            self._commands.send(command)

    def run(self) -> None:
        """Pass on what the workers log, until the last of them has ended.

        Raises:
            ConnectionFailed: the supervisor did not end by itself.
        """
        try:
            self._listen()
        except BaseException:
            if not self._stopped:
                self.stop()
                self._listen()
            raise
        if self._exit:
            raise ConnectionFailed(f"the process that takes connections {_manner(self._exit)}")

    def _listen(self) -> None:
        for number, record in _records(self._reports):
            _handle(number, record)
        if self._exit is None:
            _, status = os.waitpid(self._pid, 0)
            self._exit = os.waitstatus_to_exitcode(status)
            self._commands.close()
            os.close(self._reports)


# ---- the supervisor ------------------------------------------------------------------------------------------------


class _Worker:
    """A worker as the supervisor sees it."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.pid = 0
        self.channel: socket.socket | None = None
        self.started = -_RESTART_PAUSE
        self.handed = 0.0  # connections, like the counter "ended" since the provider started


class _Supervisor:
    """Takes connections, hands them out, and replaces workers that died; in a process of its own."""

    def __init__(
        self, job: Job, size: int, listening: socket.socket, commands: socket.socket, reports: int,
        board: Board, slots: AssociationSlots,
    ) -> None:  # fmt: skip
        self._job = job
        self._listening = listening
        self._commands = commands
        self._reports = reports
        self._board = board
        self._slots = slots
        self._workers = [_Worker(row) for row in range(size)]
        self._stopping = self._hurried = False
        self._complained = float("-inf")
        self._end = float("inf")  # when workers that have not ended are killed
        self._resume = 0.0  # when the backlog may be looked at
        self._paused = False
        self._selector = selectors.DefaultSelector()
        self._signals = socket.socketpair()

    def run(self) -> None:
        """Until a stop: from the parent, by a signal, or because the parent is gone."""
        for end in self._signals:
            end.setblocking(False)
        signal.set_wakeup_fd(self._signals[1].fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        self._selector.register(self._commands, selectors.EVENT_READ, self._obey)
        self._selector.register(self._signals[0], selectors.EVENT_READ, self._heed)
        while not self._stopping:
            self._spawn_missing()
            self._wait(self._pause())
        self._dismiss()

    def _wait(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _pause(self) -> float | None:
        """Seconds until there is something to do that no event tells."""
        times = [worker.started + _RESTART_PAUSE for worker in self._workers if worker.channel is None]
        if self._resume:
            times.append(self._resume)
        return max(min(times) - monotonic(), 0.0) if times else None

    def _spawn_missing(self) -> None:
        """Have as many workers as there are to be, and take connections if there is one."""
        now = monotonic()
        for worker in self._workers:
            if worker.channel is None and now >= worker.started + _RESTART_PAUSE:
                self._spawn(worker)
        if now >= self._resume:
            self._resume = 0.0
        wanted = not self._resume and not self._paused and any(worker.channel for worker in self._workers)
        if wanted and self._listening not in self._watched():
            self._selector.register(self._listening, selectors.EVENT_READ, self._accept)
        elif not wanted and self._listening in self._watched():
            self._selector.unregister(self._listening)

    def _watched(self) -> list[Any]:
        return [key.fileobj for key in self._selector.get_map().values()]

    def _spawn(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair()
        worker.started = monotonic()
        worker.handed = self._board.of("ended", worker.row)
        try:
            worker.pid = _fork()
        except OSError as error:
            log.error("worker %d cannot be started: %s", worker.row + 1, error)
            ours.close()
            theirs.close()
            return
        if not worker.pid:
            ours.close()
            self._leave_behind()
            _become(worker.row + 1, self._reports, lambda: self._work(worker.row, theirs))
        theirs.close()
        ours.setblocking(False)  # a worker that does not take its connections must not hold up the others'
        worker.channel = ours

    def _leave_behind(self) -> None:
        """In a worker: close what is the supervisor's. Another's channel has to end with it, not with us."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for one in (self._listening, self._commands, *self._signals, *(other.channel for other in self._workers)):
            if one is not None:
                one.close()

    def _work(self, row: int, channel: socket.socket) -> None:
        self._board.use_row(row)
        self._slots.own(row)
        self._job.work(channel)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._resume = monotonic() + ACCEPT_PAUSE
            if monotonic() >= self._complained + SAY_AGAIN:
                self._complained = monotonic()
                log.error("cannot accept a connection: %s", error)
            return
        with sock:
            for worker in sorted(self._workers, key=self._load):
                if self._hand(worker, sock):
                    return
        log.error("cannot serve a connection: no worker takes it")

    def _load(self, worker: _Worker) -> tuple[float, float]:
        """Connections now; of two with as many, who had fewer before comes first."""
        return worker.handed - self._board.of("ended", worker.row), worker.handed

    def _hand(self, worker: _Worker, sock: socket.socket) -> bool:
        if worker.channel is None:
            return False
        try:
            socket.send_fds(worker.channel, [_CONNECTION], [sock.fileno()])
        except OSError:  # it is full, or its worker is dead
            return False
        worker.handed += 1
        return True

    def _obey(self) -> None:
        """A command of the parent's; its end is one, too."""
        command = self._commands.recv(1)
        if command in (_PAUSE, _RESUME):
            self._paused = command == _PAUSE
            return
        self._stopping = True
        if command == _HURRY:
            self._hurried = True
            self._tell(_HURRY)
            self._end = min(self._end, monotonic() + _GRACE)
        elif not command:
            self._selector.unregister(self._commands)

    def _heed(self) -> None:
        """Signals came."""
        with suppress(BlockingIOError):
            numbers = self._signals[0].recv(1024)
            if signal.SIGCHLD in numbers:
                self._reap()
            if signal.SIGTERM in numbers:
                self._stopping = True

    def _reap(self) -> None:
        """Let go of the workers that are dead, with their slots."""
        for worker in self._workers:
            if worker.channel is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            worker.channel.close()
            worker.channel = None
            self._slots.clear(worker.row)
            self._board.note("ended", worker.handed, worker.row)  # its connections ended with it
            code = os.waitstatus_to_exitcode(status)
            if code or not self._stopping:
                log.error("worker %d (process %d) %s", worker.row + 1, pid, _manner(code))

    def _dismiss(self) -> None:
        """Let the workers end, and kill those that do not."""
        self._call_last()
        if self._listening in self._watched():
            self._selector.unregister(self._listening)
        self._listening.close()
        self._tell(_STOP)
        self._end = min(self._end, monotonic() + 2 * self._job.drain + _GRACE)
        while any(worker.channel for worker in self._workers) and monotonic() < self._end:
            self._wait(max(self._end - monotonic(), 0.0))
        for worker in self._workers:
            if worker.channel is not None:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
                log.error("worker %d (process %d) did not end, and was killed", worker.row + 1, worker.pid)

    def _call_last(self) -> None:
        """For a moment the workers reject what is handed to them; a dead one is not replaced any more."""
        end = monotonic() + self._job.last_call
        self._tell(_TURN_AWAY)
        while not self._hurried and (left := end - monotonic()) > 0:
            self._wait(left)

    def _tell(self, command: bytes) -> None:
        for worker in self._workers:
            if worker.channel is not None:
                with suppress(OSError):
                    worker.channel.send(command)


# ---- a worker ------------------------------------------------------------------------------------------------------


def serve_handed(acceptor: Acceptor, channel: socket.socket) -> None:
    """In a worker: serve the connections that the supervisor hands over, until it says to stop.

    The channel is heard until the worker ends: another word, or the supervisor's end, ends every association at once.
    """

    def heed() -> None:
        command, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if command == _CONNECTION and not descriptors:
            acceptor.lose()
        for descriptor in descriptors:
            acceptor.take(socket.socket(fileno=descriptor))
        if command == _CONNECTION:
            return
        if command == _TURN_AWAY:
            acceptor.turn_away()
            return
        acceptor.stop()
        if command != _STOP:
            acceptor.loop.unwatch(channel)
            acceptor.hurry()

    acceptor.loop.watch(channel, heed)
    acceptor.run()


# ---- processes and their log ---------------------------------------------------------------------------------------


def _fork() -> int:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()  # or both processes would write what is in it
    return os.fork()


def _become(number: int, reports: int, work: Callable[[], None]) -> NoReturn:
    """In a new process: do ``work``, and end with it, whatever it is that the parent would go on with."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        # Who started us tells us what a signal means; Ctrl-C and a service manager's SIGTERM reach every process.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, _nothing)
        _log_to(_Reporter(number, reports))
        work()
        code = 0
    except Exception:
        log.exception("process %d failed", os.getpid())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _nothing(*_: object) -> None:
    pass


def _manner(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    return f"was killed by {signal.Signals(-code).name}"


class _Reporter(logging.Handler):
    """Sends log records to the process that started the workers, whose handlers they are for."""

    def __init__(self, number: int, pipe: int) -> None:
        super().__init__()
        self._number = number
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, in as many parts as it takes; there may be no reader any more."""
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        fields = vars(record) | {"msg": record.getMessage(), "args": None, "exc_info": None}
        data = marshal.dumps({name: value for name, value in fields.items() if type(value) in _PLAIN})
        with suppress(OSError):
            for start in range(0, len(data), _PART):
                part = data[start : start + _PART]
                place = _FIRST * (start == 0) | _LAST * (start + _PART >= len(data))
                os.write(self._pipe, _HEADER.pack(len(part), self._number, place) + part)


_PLAIN = (str, int, float, bool, type(None))


def _log_to(handler: logging.Handler) -> None:
    """Have all that is logged go there, and nowhere else."""
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.getLogger().handlers[:] = [handler]


def _records(pipe: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the processes log, each with its number, until the last of them has ended."""
    unread = bytearray()
    records: dict[int, bytearray] = {}
    while data := os.read(pipe, 1 << 16):
        unread += data
        while len(unread) >= _HEADER.size:
            size, number, place = _HEADER.unpack_from(unread)
            if len(unread) < _HEADER.size + size:
                break
            if place & _FIRST:
                records[number] = bytearray()  # what is there is of a worker that died over it
            records[number] += unread[_HEADER.size : _HEADER.size + size]
            del unread[: _HEADER.size + size]
            if place & _LAST:
                yield number, marshal.loads(bytes(records.pop(number)))


def _handle(number: int, fields: dict[str, Any]) -> None:
    """Log a record of another process as if it were ours."""
    record = logging.makeLogRecord(fields)
    record.processName = "supervisor" if number == _SUPERVISOR else f"worker-{number}"
    record.worker = number or None
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
