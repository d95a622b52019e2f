"""Runs cases: several at once where the provider can stand it, and after each a look whether it still lives."""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

from . import wire
from .case import Case, Departure, Grade, NotApplicable, Unavailable
from .peer import Full
from .session import Facts, Session, Target, alive, has_room

_RECOVERY = 45.0  # seconds to wait for a provider that a case has put out of action: longer than ARTIM


class Outcome(enum.Enum):
    """How a case ended."""

    PASSED = "pass"
    FAILED = "FAIL"
    SKIPPED = "skip"  # it does not concern this provider
    NOT_RUN = "not run"  # it could not be tried


@dataclass(frozen=True, slots=True)
class Result:
    """A case and what came of it."""

    case: Case
    outcome: Outcome
    observed: str
    seconds: float = 0.0
    dead: bool = False  # afterwards the provider did not answer others
    full: bool = False  # afterwards it had no place for others

    @property
    def uncertain(self) -> bool:
        """Whether what else was going on can have spoiled the result."""
        return self.outcome in (Outcome.FAILED, Outcome.NOT_RUN)


def run_case(case: Case, target: Target, facts: Facts) -> Result:
    """Try one case, then see whether the provider still serves others."""
    start = monotonic()
    outcome, observed = _try(case, target, facts)
    trouble = None if outcome is Outcome.SKIPPED else alive(target)
    dead = trouble is not None and not trouble.full
    full = trouble is not None and trouble.full
    if trouble is not None:
        observed = f"{observed}; afterwards C-ECHO on a new association: {trouble.words}"
    # A provider that is full for now has more than this one case to thank for it; other cases are about that.
    if dead and outcome is Outcome.PASSED:
        outcome = Outcome.FAILED
    return Result(case, outcome, observed, monotonic() - start, dead, full)


def _try(case: Case, target: Target, facts: Facts) -> tuple[Outcome, str]:
    with Session(target, facts) as session:
        try:
            return Outcome.PASSED, case.script(session)
        except Departure as departure:
            return Outcome.FAILED, str(departure)
        except NotApplicable as reason:
            return Outcome.SKIPPED, str(reason)
        except (Unavailable, Full) as reason:
            return Outcome.NOT_RUN, str(reason)
        except wire.Unreadable as error:
            return Outcome.FAILED, f"unreadable: {error}"


class Runner:
    """Runs cases against one provider.

    Args:
        target, facts: of the provider.
        jobs: how many cases at once; one at a time where the provider serves one association at a time.
        report: called with each result as it becomes certain, in no order.
        recovery: seconds to wait for a provider that a case has put out of action.
    """

    def __init__(
        self,
        target: Target,
        facts: Facts,
        *,
        jobs: int = 4,
        report: Callable[[Result], None] | None = None,
        recovery: float = _RECOVERY,
    ) -> None:
        self._target = target
        self._facts = facts
        self._jobs = jobs if facts.concurrent else 1
        self._report = report or (lambda _: None)
        self._recovery = recovery
        self._gone = False
        self._never = threading.Event()

    def run(self, cases: Sequence[Case]) -> list[Result]:
        """The results, in the order of the cases."""
        found: dict[str, Result] = {}
        together = [case for case in cases if not case.alone] if self._jobs > 1 else []
        with ThreadPoolExecutor(self._jobs) as pool:
            for result in pool.map(self._run_beside_others, together):
                if not result.uncertain:
                    self._keep(found, result)
        # What failed beside others is tried again alone, and so is what may disturb others.
        for case in cases:
            if case.id not in found:
                self._keep(found, self._run_alone(case))
        return [found[case.id] for case in cases]

    def _keep(self, found: dict[str, Result], result: Result) -> None:
        found[result.case.id] = result
        self._report(result)

    def _run_beside_others(self, case: Case) -> Result:
        return run_case(case, self._target, self._facts)

    def _run_alone(self, case: Case) -> Result:
        if self._gone:
            return Result(case, Outcome.NOT_RUN, "the provider is gone")
        result = run_case(case, self._target, self._facts)
        # A provider that only was slow, or still busy with the case before, gets a second chance.
        if (result.outcome is Outcome.NOT_RUN or result.dead) and self._recovered():
            result = run_case(case, self._target, self._facts)
        if (result.uncertain or result.full) and not self._recovered():
            self._gone = True
            observed = f"{result.observed}; it does not recover within {self._recovery:g} s"
            return replace(result, outcome=Outcome.FAILED, observed=observed)
        return result

    def _recovered(self) -> bool:
        """Wait until the provider answers again, so that the next case finds it as it was."""
        deadline = monotonic() + self._recovery
        was_full = False
        while (trouble := alive(self._target)) is not None or (was_full and not has_room(self._target)):
            was_full = was_full or trouble is None or trouble.full
            if monotonic() >= deadline:
                return False
            self._never.wait(0.2)
        return True


@dataclass(frozen=True, slots=True)
class Summary:
    """How many cases of each grade ended how."""

    counts: dict[Grade, dict[Outcome, int]]
    seconds: float

    @property
    def total(self) -> int:
        """All cases."""
        return sum(sum(row.values()) for row in self.counts.values())

    def of(self, outcome: Outcome, grade: Grade | None = None) -> int:
        """The cases with an outcome, of one grade or of all."""
        return sum(row[outcome] for name, row in self.counts.items() if grade in (None, name))

    @property
    def conforms(self) -> bool:
        """Whether every must case passed (or does not concern the provider), and there was one."""
        row = self.counts[Grade.MUST]
        return not row[Outcome.FAILED] and not row[Outcome.NOT_RUN] and self.of(Outcome.PASSED) > 0


def summarize(results: Iterable[Result], seconds: float) -> Summary:
    """Count results."""
    counts = {grade: dict.fromkeys(Outcome, 0) for grade in Grade}
    for result in results:
        counts[result.case.grade][result.outcome] += 1
    return Summary(counts, seconds)
