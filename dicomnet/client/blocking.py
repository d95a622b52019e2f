"""The blocking face of scripts: calls block, scripts beside each other are threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from time import monotonic
from typing import Any, TypeVar

from ..sync import Listener, connect
from .procedure import AHEAD, END, Call, Face, Gate, Left, Results, Script, step

__all__ = ["FACE", "complete", "results"]

T = TypeVar("T")


def results(script: Generator[Any, Any, Any]) -> Generator[Any, None, None]:
    """Run a script and pass on its results; leaving the loop lets it say its last words first."""
    over, item = _to_result(script, step(script.send, None))
    while not over:
        try:
            yield item
        except GeneratorExit:
            _leave(script)
            raise
        over, item = _to_result(script, step(script.send, None))


def complete(script: Script[T]) -> T:
    """Run a script to its end; what it returns."""
    over, item = _to_result(script, step(script.send, None))
    while not over:
        over, item = _to_result(script, step(script.send, None))
    value: T = item
    return value


def _to_result(script: Generator[Any, Any, Any], taken: tuple[bool, Any]) -> tuple[bool, Any]:
    """Do what the script asks for, until it has a result, (False, result), or ends, (True, return value)."""
    over, item = taken
    while not over and type(item) is Call:
        try:
            answer = item.function(*item.arguments)
        except BaseException as error:  # also Ctrl-C: the script tidies up, and lets it pass
            over, item = step(script.throw, error)
        else:
            over, item = step(script.send, answer)
    return over, item


def _leave(script: Generator[Any, Any, Any]) -> None:
    with suppress(Left):
        over, _ = _to_result(script, step(script.throw, Left()))
        while not over:  # what it still yields, nobody wants
            over, _ = _to_result(script, step(script.send, None))


class Together(Iterator[Any]):
    """The results of several scripts, each in a thread of its own; see `Face.together`."""

    def __init__(self, scripts: Iterable[Results[Any]]) -> None:
        self._scripts = list(scripts)
        self._changed = threading.Condition()
        self._waiting: deque[Any] = deque()
        self._most = AHEAD * len(self._scripts)
        self._running = len(self._scripts)
        self._failure: BaseException | None = None
        self._left = False
        self._threads = [
            threading.Thread(target=self._run, args=(script,), name="dicomnet-client", daemon=True)
            for script in self._scripts
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, script: Results[Any]) -> None:
        try:
            for result in (running := results(script)):
                if not self._put(result):
                    running.close()
                    break
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._left = True
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _put(self, result: Any) -> bool:
        """Hand over a result; whether more are wanted."""
        with self._changed:
            self._waiting.append(result)
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._waiting) < self._most or self._left)
            return not self._left

    def __next__(self) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._running)
            if self._waiting:
                result = self._waiting.popleft()
                self._changed.notify_all()
                return result
        self._join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        raise StopIteration

    def close(self) -> None:
        """Want no more results: each script ends where it yields its next one."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()


class _Threads:
    """See `Face`."""

    connect = staticmethod(connect)
    Listener = Listener
    now = staticmethod(monotonic)
    complete = staticmethod(complete)
    together = staticmethod(Together)

    def operation(self, script: Callable[..., Script[Any]]) -> Callable[..., Any]:
        @wraps(script)
        def method(*arguments: Any, **named: Any) -> Any:
            return complete(script(*arguments, **named))

        return method

    def streaming(self, script: Callable[..., Results[Any]]) -> Callable[..., Any]:
        @wraps(script)
        def method(*arguments: Any, **named: Any) -> Any:
            return results(script(*arguments, **named))

        return method

    def next(self, results: Any) -> Any:
        return next(results, END)

    def close(self, results: Any) -> Any:
        results.close()

    def gate(self) -> Gate:
        return threading.Event()

    def wait(self, gate: Any, seconds: float | None) -> bool:
        return bool(gate.wait(seconds))

    def start(self, script: Script[None], name: str) -> threading.Thread:
        thread = threading.Thread(target=complete, args=(script,), name=name, daemon=True)
        thread.start()
        return thread

    def join(self, started: threading.Thread) -> None:
        started.join()


#: What the blocking classes run on.
FACE: Face = _Threads()
