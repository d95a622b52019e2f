"""The two faces are one interface: the same names, and the same signatures but for what awaiting makes of them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest
from cases import every

from dicomnet import aio, sync
from dicomnet.services.scp import Provider

# What an asynchronous function returns is what its twin returns; what it iterates and manages has its own types.
TWINS = [
    (r"\bAsync(Iterator|Iterable|Generator|ContextManager)\b", r"\1"),
    (r"\bAwaitable\[(.*)\]", r"\1"),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
]


def blocking(text: str) -> str:
    """What the blocking face would say."""
    for pattern, twin in TWINS:
        text = re.sub(pattern, twin, text)
    return text


def members(face: object) -> Iterator[tuple[str, object]]:
    """All that is public, as (name, function, property or class)."""
    for name in face.__all__:  # type: ignore[attr-defined]
        value = getattr(face, name)
        yield name, value
        if inspect.isclass(value):
            for cls in reversed(value.__mro__[:-1]):
                for attribute, member in vars(cls).items():
                    if not attribute.startswith("_") or attribute in ("__init__", "__iter__") or "enter__" in attribute:
                        yield f"{name}.{blocking(attribute)}", member
                    if "exit__" in attribute:
                        yield f"{name}.{blocking(attribute)}", member


#: What a listener with a loop of its own needs; an asyncio program has its event loop for it.
BLOCKING_ONLY = {
    "Listener.abort",
    "Listener.bound",
    "Listener.call_soon_threadsafe",
    "Listener.cut",
    "Listener.hurry",
    "Listener.is_full",
    "Listener.on_turn",
    "Listener.pause",
    "Listener.listening",
    "Listener.resume",
    "Listener.stopping",
}
SYNC = {name: member for name, member in members(sync) if name not in BLOCKING_ONLY}
AIO = dict(members(aio))


def test_the_names_are_the_same() -> None:
    assert sync.__all__ == aio.__all__
    assert sorted(SYNC) == sorted(AIO)
    assert "Association.store_many" in SYNC
    assert "Listener.__exit__" in SYNC


@every("name", [name for name, member in SYNC.items() if callable(member)])
def test_the_signatures_are_the_same(name: str) -> None:
    ours, theirs = inspect.signature(SYNC[name]), inspect.signature(AIO[name])  # type: ignore[arg-type]
    parameters = {key: value for key, value in ours.parameters.items() if key != "counting"}  # for several workers
    assert list(parameters) == list(theirs.parameters)
    for parameter, twin in zip(parameters.values(), theirs.parameters.values(), strict=True):
        assert (twin.kind, twin.default) == (parameter.kind, parameter.default)
        assert blocking(str(twin.annotation)) == str(parameter.annotation)
    assert blocking(str(theirs.return_annotation)) == str(ours.return_annotation)


@pytest.mark.parametrize("name", [name for name, member in AIO.items() if isinstance(member, property)])
def test_the_properties_are_the_same(name: str) -> None:
    ours, theirs = SYNC[name], AIO[name]
    assert isinstance(ours, property)
    assert isinstance(theirs, property)
    assert ours.fget.__annotations__ == theirs.fget.__annotations__
    assert ours.__doc__ == theirs.__doc__


#: What gives an iterator, or only says something; everything else of these classes talks to the peer, and is awaited.
NOT_AWAITED = {
    "Association.__init__",
    "Association.cancel",
    "Association.check",
    "Association.find",
    "Association.heard",
    "Association.interrupt",
    "Association.move_steps",
    "Association.on_event_report",
    "Association.store_many",
    "Association.worklist",
    "Listener.__init__",
    "Listener.stop",
}


def test_what_talks_to_the_peer_is_awaited() -> None:
    inherited = {f"Listener.{name}" for name in dir(Provider)} - {"Listener.__init__"}
    functions = {name for name, member in AIO.items() if inspect.isfunction(member)} - inherited
    awaited = {name for name in functions if inspect.iscoroutinefunction(AIO[name])}
    assert functions - awaited == NOT_AWAITED
    assert "connect" in awaited
    assert not any(inspect.iscoroutinefunction(member) for member in SYNC.values())
