"""The program: what to run in, a report out, and a verdict."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from ..errors import AssociationError, ConnectionFailed, InvalidArgument, cannot_listen
from . import report
from .case import Case, Unavailable
from .catalog import PROVIDER_CASES, ordered, selected
from .listening import USER_CASES, Program, UserRunner
from .runner import Outcome, Result, Runner, summarize
from .session import Target, probe

__all__ = ["Options", "Stage", "list_cases", "test_provider", "test_user"]


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and how to report it.

    Attributes:
        pattern: which cases, see `catalog.selected`; None for all.
        slow: also those that wait for the provider's timers.
        jobs: how many at once.
        json, junit: report as JSON lines; as JUnit XML into this file.
        verbose: list what passed, too.
        quiet: no progress.
        strict: should and robust cases count like must cases.
    """

    pattern: str | None = None
    slow: bool = False
    jobs: int = 4
    json: bool = False
    junit: str | None = None
    verbose: bool = False
    quiet: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the suite plays the provider.

    Attributes:
        host, port: to listen on; port 0 picks a free one.
        timeout: seconds that each answer of the user may take.
        wait: seconds to wait for each connection.
        command: makes the user connect once, see `listening.Program`; None where the caller does.
    """

    host: str
    port: int
    timeout: float = 2.0
    wait: float = 60.0
    command: str | None = None


def list_cases(pattern: str | None, *, users: bool = False) -> None:
    """Print the cases that there are, for providers or for users."""
    report.print_list(_cases(USER_CASES if users else PROVIDER_CASES, pattern, slow=True))


def _cases(cases: Sequence[Case], pattern: str | None, *, slow: bool) -> list[Case]:
    found = [case for case in ordered(selected(cases, pattern)) if slow or not case.slow]
    if not found:
        raise InvalidArgument(f'no case matches "{pattern}"', hint="See --list.")
    return found


def test_provider(target: Target, options: Options) -> bool:
    """Run the cases against a provider and report; whether it conforms.

    Raises:
        InvalidArgument: no case is selected.
        ConnectionFailed, AssociationError: the provider gives no association with verification to begin with.
    """
    cases = _cases(PROVIDER_CASES, options.pattern, slow=options.slow)
    start = monotonic()
    peer = f"{'dicoms://' if target.secure else ''}{target.called}@{target.host}:{target.port}"
    try:
        facts = probe(target)
    except Unavailable as reason:
        raise _no_provider(str(reason), peer) from None
    progress = _Progress(len(cases), quiet=options.quiet)
    results = Runner(target, facts, jobs=options.jobs, report=progress.step).run(cases)
    progress.end()
    return _report(results, monotonic() - start, peer, options)


def test_user(stage: Stage, options: Options) -> bool:
    """Listen, answer users that connect, a connection for each case, and report; whether the user conforms.

    Raises:
        InvalidArgument: no case is selected.
        CannotListen: the address is taken, or not ours.
    """
    cases = _cases(USER_CASES, options.pattern, slow=options.slow)
    start = monotonic()
    with _listen(stage) as listening:
        host, port = listening.getsockname()[:2]
        if not options.quiet:
            print(f"listening on {host}:{port}, for a connection per case", file=sys.stderr, flush=True)
        program = Program(stage.command, (host, port), stage.wait) if stage.command else None
        progress = _Progress(len(cases), quiet=options.quiet)
        runner = UserRunner(listening, timeout=stage.timeout, wait=stage.wait, program=program, report=progress.step)
        results = runner.run(cases)
        progress.end()
    return _report(results, monotonic() - start, stage.command or "user", options)


def _listen(stage: Stage) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(stage.host, stage.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise cannot_listen(error, stage.host, stage.port) from error


def _no_provider(reason: str, peer: str) -> Exception:
    if reason.startswith("no connection"):
        return ConnectionFailed(reason, peer=peer)
    return AssociationError(reason, peer=peer, hint="The suite begins with C-ECHO: check the AE titles.")


def _report(results: Sequence[Result], seconds: float, peer: str, options: Options) -> bool:
    summary = summarize(results, seconds)
    if options.junit:
        report.write_junit(results, summary, peer, options.junit)
    if options.json:
        report.print_json(results, summary, peer)
    else:
        report.print_table([result for result in results if options.verbose or result.outcome is not Outcome.PASSED])
        report.print_summary(summary)
    if options.strict and (summary.of(Outcome.FAILED) or summary.of(Outcome.NOT_RUN)):
        return False
    return summary.conforms


class _Progress:
    """A counter on standard error, on a terminal only."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._done = self._failed = 0
        self._on = not quiet and sys.stderr.isatty()

    def step(self, result: Result) -> None:
        """One more result is there."""
        self._done += 1
        self._failed += result.outcome is Outcome.FAILED
        if self._on:
            print(f"\r{self._done}/{self._total}, {self._failed} failed ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Make room for the report."""
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
