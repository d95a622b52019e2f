"""The blocking modules are what `tools/async_to_sync.py` makes of the asyncio ones."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.async_to_sync import ROOT, SOURCES, convert, generated

HEADER = "# Generated from x.py by tools/async_to_sync.py: edit that, and run `make twins`.\n"


@pytest.mark.parametrize("source", SOURCES)
def test_what_it_writes_is_what_is_there(source: str) -> None:
    assert (ROOT / SOURCES[source]).read_text(encoding="utf-8") == generated(source), "run `make twins`"


@pytest.mark.parametrize("twin", SOURCES.values())
def test_nothing_is_awaited_in_a_generated_module(twin: str) -> None:
    tree = ast.parse((ROOT / twin).read_text(encoding="utf-8"))
    awaiting = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.AsyncFunctionDef)
    assert not [node for node in ast.walk(tree) if isinstance(node, awaiting)]


def test_each_module_beside_a_generated_one_is_generated_or_has_a_twin() -> None:
    folder = Path(ROOT / "dicomnet" / "client")
    assert sorted(one.name for one in (folder / "aio").glob("*.py")) == sorted(
        one.name for one in (folder / "sync").glob("*.py")
    )


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("async def f():\n    await g(await h())  # a task\n", "def f():\n    g(h())  # a thread\n"),
        ("async def f():\n    return (await g()).x\n", "def f():\n    return g().x\n"),
        ("async def f():\n    return not (await g() or 1)\n", "def f():\n    return not (g() or 1)\n"),
        ("async def f():\n    print(await g())\n", "def f():\n    print(g())\n"),
        ("x: AsyncGenerator[int, None]\n", "x: Generator[int, None]\n"),
        ("from ..aio import connect\n", "from ..sync import connect\n"),
        ("async def f():\n    return [x async for x in g()]\n", "def f():\n    return [x for x in g()]\n"),
        ("async def f():\n    async with g() as x:\n        pass\n", "def f():\n    with g() as x:\n        pass\n"),
        (
            (
                "async def f():\n    async with aclosing(g(await h())) as ones:\n        async for one in ones:\n"
                "            yield one\n    return\n"
            ),
            "def f():\n    yield from g(h())\n    return\n",
        ),
        (
            (
                "async def f():\n    async with aclosing(g()) as ones:\n        async for one in ones:\n"
                "            yield one + 1\n"
            ),
            "def f():\n    with closing(g()) as ones:\n        for one in ones:\n            yield one + 1\n",
        ),
        ('"""Awaits ``async for`` in a task: ä."""\nawait x\n', '"""Awaits ``for`` in a thread: ä."""\nx\n'),
    ],
)
def test_one_rule_at_a_time(written: str, made: str) -> None:
    assert convert(written, "x.py") == HEADER + made
