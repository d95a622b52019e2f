"""Results of a handler: taken in groups where they are made fast, one by one where not, and never too many ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faces import PATIENCE

from dicomnet.protocol.flow import Flow
from dicomnet.protocol.message_exchange import Call
from dicomnet.services.handler_results import HandlerResults


def never(_: object) -> bool:
    return False


class Driver:
    """Answers flows: calls run here, or in a thread where they may go on in the background."""

    def __init__(self, pool: ThreadPoolExecutor | None = None) -> None:
        self.pool = pool
        self.hops = 0

    def run(self, flow: Flow[Any]) -> Any:
        value: Any = None
        try:
            while True:
                call = flow.send(value)
                assert type(call) is Call
                self.hops += not call.inline
                value = None
                if call.background and self.pool is not None:
                    self.pool.submit(call.function, *call.arguments)
                else:
                    value = call.function(*call.arguments)
                    if call.inline:
                        given = threading.Event()
                        value.add_done_callback(lambda _, given=given: given.set())
                        assert given.wait(PATIENCE)
                        value = value.result()
        except StopIteration as stop:
            return stop.value


def results(answer: Any, **options: Any) -> HandlerResults:
    return HandlerResults(answer, Call, options.pop("clock", float), **options)


@pytest.mark.parametrize("threads", [True, False])
def test_fast_results_come_in_groups_and_in_order(threads: bool) -> None:
    def numbers() -> Iterator[int]:
        yield from range(1000)
        return "the end"

    with ThreadPoolExecutor(1) as pool:
        driver, found, taken = Driver(pool if threads else None), results(numbers(), encode=str), []
        while not found.over:
            taken += driver.run(found.take(never))
        driver.run(found.close())
    assert taken == [str(number) for number in range(1000)]
    assert found.final == "the end"
    assert driver.hops <= 1000 / 32 + 1


def test_a_result_does_not_wait_for_the_next() -> None:
    release = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        assert release.wait(PATIENCE)
        yield 2

    with ThreadPoolExecutor(1) as pool:
        driver, found = Driver(pool), results(slow())
        assert driver.run(found.take(never)) == [1]
        release.set()
        assert driver.run(found.take(never)) == [2]
        assert driver.run(found.take(never)) == []
    assert found.over


@pytest.mark.parametrize(("seconds", "made"), [(0.0, 32), (0.001, 2), (1.0, 1)])
def test_so_much_is_made_ahead_and_no_more(seconds: float, made: int) -> None:
    """By number, and by the time that it takes."""
    ticks = iter(range(1_000_000))
    stepped = []

    def endless() -> Iterator[int]:
        while True:
            stepped.append(True)
            yield 1

    found = results(endless(), clock=lambda: next(ticks) * seconds)
    assert Driver().run(found.take(never)) == [1] * made
    assert len(stepped) == made


def test_what_was_made_before_a_failure_comes_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        yield 2
        raise ZeroDivisionError

    driver, found = Driver(), results(failing())
    assert driver.run(found.take(never)) == [1, 2]
    assert not found.over
    with pytest.raises(ZeroDivisionError):
        driver.run(found.take(never))


def test_a_generator_is_closed_by_the_step_that_still_runs() -> None:
    entered, release, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        try:
            entered.set()
            assert release.wait(PATIENCE)
            yield 1
        finally:
            closed.set()

    with ThreadPoolExecutor(1) as pool:
        found = results(slow())
        flow = found.take(never)
        pool.submit(next(flow).function)
        assert entered.wait(PATIENCE)
        waiting = flow.send(None)
        assert waiting.inline
        with pytest.raises(StopIteration) as given_up:
            flow.send(None)  # as the driver does where a C-CANCEL came
        assert given_up.value.value is None
        Driver().run(found.close())
        assert not closed.is_set()
        release.set()
        assert closed.wait(PATIENCE)


def test_what_is_closed_before_its_first_step_is_never_stepped() -> None:
    stepped = []

    def numbers() -> Iterator[int]:
        stepped.append(True)
        yield 1

    found = results(numbers())
    step = next(found.take(never)).function
    Driver().run(found.close())
    step()
    assert not stepped


def stubborn() -> Iterator[int]:
    try:
        yield 1
        yield 2
    finally:
        raise ValueError("it will not end")


@pytest.mark.parametrize("answer", [[1, 2], stubborn()], ids=["a list", "a generator that fails as it is closed"])
def test_what_is_given_up_while_a_step_runs_raises_nothing_there(answer: Any) -> None:
    """A peer that leaves meanwhile; what runs the step would take an exception for a failure of the handler."""
    driver = Driver()
    given_up = False

    def give_up(result: int) -> int:
        nonlocal given_up
        if not given_up:
            given_up = True
            driver.run(found.close())
        return result

    found = results(answer, encode=give_up)
    assert driver.run(found.take(never)) == [1]
    assert given_up
