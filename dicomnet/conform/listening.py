"""The other way round: play the provider, and see what the users make of it that connect."""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
from collections.abc import Callable, Sequence
from time import monotonic

from . import wire
from .caller import Caller
from .case import Case, Departure, NotApplicable, Unavailable
from .cases import user
from .peer import Connection, Full
from .runner import Outcome, Result

USER_CASES: tuple[Case, ...] = (*user.LOOKS, *user.CASES)

_LOOKS = frozenset(case.id for case in user.LOOKS)


class Program:
    """A command that makes the user under test connect once; it is run for each case.

    Args:
        command: with ``{host}`` and ``{port}`` for where to connect to. No shell is involved.
        address: where to connect to.
        seconds: it may go on after its case.
    """

    def __init__(self, command: str, address: tuple[str, int], seconds: float) -> None:
        host, port = address[0], str(address[1])
        self._words = [word.replace("{host}", host).replace("{port}", port) for word in shlex.split(command)]
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._words, stdin=quiet, stdout=quiet, stderr=quiet)

    def end(self) -> str:
        """Wait until it ends; what is wrong with how it does, or nothing."""
        assert self._process is not None
        try:
            code = self._process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"the program does not end within {self._seconds:g} s"
        return f"the program was killed by signal {-code}" if code < 0 else ""


class UserRunner:
    """Answers connections, one for each case.

    Args:
        listening: a listening socket.
        timeout: seconds that each answer of the user may take.
        wait: seconds to wait for a connection.
        program: makes the user connect; None where the caller does.
        report: called with each result.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        timeout: float,
        wait: float,
        program: Program | None = None,
        report: Callable[[Result], None] | None = None,
    ) -> None:
        self._listening = listening
        self._timeout = timeout
        self._wait = wait
        self._program = program
        self._report = report or (lambda _: None)
        self._gone = False

    def run(self, cases: Sequence[Case]) -> list[Result]:
        """The results, in the order of the cases. Those that only look at a request share the connection of others."""
        looks = [case for case in cases if case.id in _LOOKS]
        others = [case for case in cases if case.id not in _LOOKS] or ([user.ACCEPTED[0]] if looks else [])
        found: dict[str, Result] = {}
        for case in others:
            for result in self._connection(case, looks):
                found[result.case.id] = result
            looks = [case for case in looks if case.id not in found]
        return [found.get(case.id) or Result(case, Outcome.NOT_RUN, "no request was seen") for case in cases]

    def _connection(self, case: Case, looks: Sequence[Case]) -> list[Result]:
        """One connection: the cases that look, while there are any, and the one that acts."""
        start = monotonic()
        if self._gone:
            return [Result(case, Outcome.NOT_RUN, "no user connects")]
        if self._program is not None:
            self._program.start()
        results, outcome, observed = self._act(case, looks)
        trouble = self._program.end() if self._program is not None else ""
        if trouble:
            observed = f"{observed}; then {trouble}"
            outcome = Outcome.FAILED if outcome is Outcome.PASSED else outcome
        results.append(Result(case, outcome, observed, monotonic() - start))
        for result in results:
            self._report(result)
        return results

    def _act(self, case: Case, looks: Sequence[Case]) -> tuple[list[Result], Outcome, str]:
        sock = self._accept()
        if sock is None:
            self._gone = True
            return [], Outcome.NOT_RUN, f"no user connects within {self._wait:g} s"
        with contextlib.closing(Connection(sock, self._timeout, min(0.25, self._timeout / 4))) as connection:
            try:
                caller = Caller(connection)
            except Unavailable as reason:
                return [], Outcome.NOT_RUN, str(reason)
            results = [Result(look, *_judge(look, caller)) for look in looks]
            return results, *_judge(case, caller)

    def _accept(self) -> socket.socket | None:
        self._listening.settimeout(self._wait)
        try:
            sock, _ = self._listening.accept()
        except TimeoutError:
            return None
        return sock


def _judge(case: Case, caller: Caller) -> tuple[Outcome, str]:
    try:
        return Outcome.PASSED, case.script(caller)
    except Departure as departure:
        return Outcome.FAILED, str(departure)
    except NotApplicable as reason:
        return Outcome.SKIPPED, str(reason)
    except (wire.Unreadable, Full) as error:
        return Outcome.FAILED, f"unreadable: {error}"
