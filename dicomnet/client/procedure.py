"""What a client procedure is: a script, written once, that both faces run.

A script is a generator. It yields a `Call` where something has to be done that takes time (its result is sent back,
awaited first in asyncio), anything else as a result for the user; and returns its final answer. A method that is a
script becomes an ordinary one by a decorator: `operation` for one answer, `streaming` for results as they come. In
asyncio the same methods are awaited, and iterated with ``async for``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator
from enum import Enum
from types import MethodType, TracebackType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from ..protocol.exchange import Call

__all__ = [
    "AHEAD",
    "END",
    "Asyncio",
    "Blocking",
    "Call",
    "End",
    "Face",
    "Gate",
    "Left",
    "Results",
    "Script",
    "operation",
    "step",
    "streaming",
]

T = TypeVar("T")
P = ParamSpec("P")

#: A script that ends with a T.
Script = Generator[Any, Any, T]
#: A script that yields Ts to its user.
Results = Generator[T | Call, Any, None]


class End(Enum):
    """What `Face.next` gives where there are no more results."""

    END = "end"


END = End.END


class Left(BaseException):
    """Thrown into a script whose user wants no more results; unlike GeneratorExit it leaves time for last calls."""


#: Results of each script that runs beside others that may wait for whoever asked for them.
AHEAD = 4


def step(advance: Callable[[Any], Any], value: Any) -> tuple[bool, Any]:
    """Let a script go on: (False, what it asks for or gives), or (True, what it returns)."""
    try:
        return False, advance(value)
    except StopIteration as stop:
        return True, stop.value


class Gate(Protocol):
    """Something to wait for: an Event of `threading` or `asyncio`."""

    def set(self) -> None:
        """Let everybody through, from now on."""

    def clear(self) -> None:
        """Let nobody through."""

    def is_set(self) -> bool:
        """Whether it is open."""


class Face(Protocol):
    """What a script cannot do by itself: run, wait, connect. Each method's answer may want to be awaited: `Call` it.

    Attributes:
        connect, Listener: of `sync`, or of `aio`.
    """

    connect: Callable[..., Any]
    Listener: type[Any]

    def operation(self, script: Callable[..., Script[Any]]) -> Callable[..., Any]:
        """A function that runs such a script to its end."""

    def streaming(self, script: Callable[..., Results[Any]]) -> Callable[..., Any]:
        """A function that gives the results of such a script as they come."""

    def complete(self, script: Script[Any]) -> Any:
        """Run a script to its end; what it returns."""

    def next(self, results: Any) -> Any:
        """The next one of some results, or `END`."""

    def close(self, results: Any) -> Any:
        """Want no more of some results."""

    def gate(self) -> Gate:
        """A closed gate."""

    def wait(self, gate: Gate, seconds: float | None) -> Any:
        """Wait for a gate, so long at most; whether it is open."""

    def now(self) -> float:
        """Monotonic seconds."""

    def start(self, script: Script[None], name: str) -> Any:
        """Run a script beside everything else; what `join` takes."""

    def join(self, started: Any) -> Any:
        """Wait for the end of what was started."""

    def together(self, scripts: Iterable[Results[Any]]) -> Any:
        """Run scripts beside each other; their results as they come, for `next` and `close`.

        Results that nobody has asked for hold the scripts up. The first exception of a script ends the others, each
        where it yields its next result, and is raised.
        """


class Blocking:
    """The methods of these classes block; `face` is that of `threads`."""

    face: ClassVar[Face]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self: Any, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.face.complete(self._leave(error))


class Asyncio:
    """The methods of these classes are awaited; `face` is that of `tasks`."""

    face: ClassVar[Face]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self: Any, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.face.complete(self._leave(error))


class _Scripted(Generic[P, T]):
    """A method that is a script."""

    def __init__(self, script: Callable[Concatenate[Any, P], Generator[Any, Any, Any]]) -> None:
        self.script = script
        self.__doc__ = script.__doc__
        self._made: dict[int, Callable[..., Any]] = {}

    def _bound(self, instance: Any, owner: Any) -> Any:
        face = owner.face
        method = self._made.get(id(face))
        if method is None:
            method = self._made[id(face)] = self._make(face)
        return method if instance is None else MethodType(method, instance)

    def _make(self, face: Face) -> Callable[..., Any]:
        raise NotImplementedError


class operation(_Scripted[P, T]):  # noqa: N801 -- a decorator
    """A method that gives one answer, written as a script that returns it."""

    def __init__(self, script: Callable[Concatenate[Any, P], Script[T]]) -> None:
        super().__init__(script)
        # Whoever reads the signature wants to know what is returned, not how.
        written = str(script.__annotations__.get("return", ""))
        script.__annotations__["return"] = written.removeprefix("Script[").removesuffix("]")

    def _make(self, face: Face) -> Callable[..., Any]:
        return face.operation(self.script)

    @overload
    def __get__(self, instance: Blocking, owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Asyncio, owner: Any) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, instance: None, owner: Any) -> Callable[..., Any]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        return self._bound(instance, owner)


class streaming(_Scripted[P, T]):  # noqa: N801 -- a decorator
    """A method that gives results as they come, written as a script that yields them."""

    def __init__(self, script: Callable[Concatenate[Any, P], Results[T]]) -> None:
        super().__init__(script)

    def _make(self, face: Face) -> Callable[..., Any]:
        return face.streaming(self.script)

    @overload
    def __get__(self, instance: Blocking, owner: Any) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Asyncio, owner: Any) -> Callable[P, AsyncIterator[T]]: ...
    @overload
    def __get__(self, instance: None, owner: Any) -> Callable[..., Any]: ...
    def __get__(self, instance: Any, owner: Any) -> Any:
        return self._bound(instance, owner)
