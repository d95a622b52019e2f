"""What is counted of an add-in's handlers: `Guard` and `Calls`, without a server."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dicomnet.errors import ServiceFailure
from dicomnet.server.guard import Guard

NEVER = math.inf


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def guard(reasons: list[str]) -> Guard:
    return Guard(3, 2, lambda: pytest.fail("nothing here is asynchronous"), reasons.append)


def failing(request: object) -> None:
    raise ValueError(request)


@pytest.mark.parametrize("inline", [False, True])
def test_failures_in_a_row_suspend(guard: Guard, reasons: list[str], inline: bool) -> None:
    bad = guard.inline(failing) if inline else guard.in_thread(failing, 1.0)
    good = guard.inline(str) if inline else guard.in_thread(len, 1.0)
    for _ in range(2):
        with pytest.raises(ValueError, match="request"):
            bad("request")
    assert (guard.in_a_row, guard.failures) == (2, 2)
    good("request")
    assert (guard.in_a_row, guard.failures, guard.calls, reasons) == (0, 2, 3, [])
    for _ in range(3):
        with pytest.raises(ValueError, match="request"):
            bad("request")
    assert reasons == ["3 failures in a row, the last one ValueError"]


def test_a_status_that_a_handler_chose_is_no_failure(guard: Guard) -> None:
    def refuses(request: object) -> None:
        raise ServiceFailure(0xA700, "full")

    with pytest.raises(ServiceFailure):
        guard.in_thread(refuses, 1.0)("request")
    assert (guard.calls, guard.failures) == (1, 0)


def test_a_handler_that_is_late_counts_once(guard: Guard, reasons: list[str]) -> None:
    found: list[int] = []

    def looks(request: object) -> None:
        found.extend(guard.check(NEVER) for _ in range(2))

    with pytest.raises(TimeoutError):
        guard.in_thread(looks, 1.0)("request")
    assert (found, guard.failures, guard.in_a_row) == ([1, 1], 1, 1)
    assert (guard.check(NEVER), reasons) == (0, [])


def test_one_that_returns_too_late_before_any_look_counts(guard: Guard) -> None:
    with pytest.raises(TimeoutError):
        guard.in_thread(len, -1.0)("request")
    assert (guard.failures, guard.check(NEVER)) == (1, 0)


def test_handlers_that_do_not_return_suspend(guard: Guard, reasons: list[str]) -> None:
    def inner(request: object) -> None:
        assert guard.check(NEVER) == 2

    def outer(request: object) -> None:
        with pytest.raises(TimeoutError):
            guard.in_thread(inner, 1.0)(request)

    with pytest.raises(TimeoutError):
        guard.in_thread(outer, 1.0)("request")
    assert reasons == ["2 handlers did not return"]


def test_results_are_timed_one_by_one(guard: Guard) -> None:
    def results(request: object) -> Any:
        yield 1
        assert guard.check(NEVER) == 1
        yield 2

    given = guard.in_thread(results, 1.0)("request")
    guard.in_a_row = 1
    assert next(given) == 1
    assert guard.check(NEVER) == 0  # it waits for who takes them
    with pytest.raises(TimeoutError):
        next(given)
    assert guard.failures == 1


def test_the_end_of_results_is_a_success(guard: Guard) -> None:
    def results(request: object) -> Any:
        yield 1
        return 2

    given = guard.in_thread(results, 1.0)("request")
    guard.in_a_row = 1
    assert next(given) == 1
    with pytest.raises(StopIteration) as over:
        next(given)
    assert (over.value.value, guard.in_a_row, guard.failures) == (2, 0, 0)
