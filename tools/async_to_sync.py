"""Write the blocking modules from the asyncio ones: ``python tools/async_to_sync.py [--check]``.

Of `SOURCES` only the asyncio modules are written by hand. Tokens are edited in place, so that comments, docstrings
and the layout of the source stay:

- ``async`` and ``await`` go, with parentheses that only an ``await`` needed;
- names go over to their blocking twins (`NAMES`), and so do a few phrases of docstrings and comments (`PHRASES`);
- ``async with aclosing(x) as it: async for one in it: yield one`` becomes ``yield from x``: it closes generators, so
  that x must be one.

What no such rule can bridge (events, threads and tasks) is written by hand in both faces, with the same names:
``requestor`` for associations, ``concurrency`` for clients. `tests/test_async_to_sync.py` fails where a generated
module is not what this program writes.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tokenize
from io import StringIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TOOL = "tools/async_to_sync.py"

#: asyncio module -> the blocking module that is generated from it.
SOURCES = {
    "dicomnet/aio/association.py": "dicomnet/sync/association.py",
    "dicomnet/server/admin/async_client.py": "dicomnet/server/admin/client.py",
    **{
        f"dicomnet/client/aio/{name}.py": f"dicomnet/client/sync/{name}.py"
        for name in (
            "__init__",
            "availability",
            "client",
            "component",
            "hooks",
            "media",
            "mpps",
            "patients",
            "pool",
            "print",
            "query",
            "query_base",
            "retrieve_receiver",
            "service",
            "services",
            "store",
            "ups",
            "web",
        )
    },
}

NAMES = {
    "AsyncClient": "Client",
    "AsyncGenerator": "Generator",
    "AsyncHTTPTransport": "HTTPTransport",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aclosing": "closing",
    "aconnect_sse": "connect_sse",
    "aio": "sync",
    "aiter_bytes": "iter_bytes",
    "aiter_sse": "iter_sse",
    "anext": "next",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
}

PHRASES = {
    "AsyncClient": "Client",
    "Asynchronous": "Blocking",
    "``async for``": "``for``",
    "``async with``": "``with``",
    "`aclose`": "`close`",
    "tasks": "threads",
    "task": "thread",
}
_phrases = re.compile("|".join(rf"(?<!\w){re.escape(phrase)}(?!\w)" for phrase in PHRASES))
_IGNORED = {tokenize.NL, tokenize.COMMENT}


class Edit(NamedTuple):
    """Replace the characters from ``start`` to ``end``."""

    start: int
    end: int
    text: str


class Source:
    """A module, its tokens, and where they begin and end as offsets into the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.tokens = [token for token in tokenize.generate_tokens(StringIO(text).readline) if token.string]

    def offset(self, line: int, column: int) -> int:
        """Where a line (from 1) and a column are."""
        return self._lines[line - 1] + column

    def start(self, index: int) -> int:
        """Where a token begins."""
        return self.offset(*self.tokens[index].start)

    def end(self, index: int) -> int:
        """Where a token ends."""
        return self.offset(*self.tokens[index].end)

    def node(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node begins and ends; `ast` counts columns in bytes."""
        lines = self.text.splitlines(keepends=True)

        def at(line: int, column: int) -> int:
            return self.offset(line, len(lines[line - 1].encode()[:column].decode()))

        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)


def convert(text: str, source: str) -> str:
    """The blocking twin of an asyncio module, which is called ``source`` in its first line."""
    module = Source(text)
    edits = [*_delegations(module), *_words(module)]
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if not kept or edit.start >= kept[-1].end:  # else it is part of what goes already
            kept.append(edit)
    for edit in reversed(kept):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return f"# Generated from {source} by {TOOL}: edit that, and run `make twins`.\n{text}"


def _delegations(module: Source) -> list[Edit]:
    """Results that are passed on as they come."""
    edits = []
    for node in ast.walk(ast.parse(module.text)):
        inner = _delegated(node)
        if inner is not None:
            assert isinstance(node, ast.AsyncWith)
            (start, end), (inner_start, inner_end) = module.node(node), module.node(inner)
            edits += [Edit(start, inner_start, "yield from "), Edit(inner_end, end, "")]
    return edits


def _delegated(node: ast.AST) -> ast.expr | None:
    """What ``async with aclosing(x) as it: async for one in it: yield one`` passes on: x."""
    match node:
        case ast.AsyncWith(
            items=[ast.withitem(ast.Call(ast.Name("aclosing"), [inner]), ast.Name(results))],
            body=[ast.AsyncFor(ast.Name(one), ast.Name(iterated), [ast.Expr(ast.Yield(ast.Name(given)))])],
        ) if results == iterated and one == given:
            return inner
    return None


def _words(module: Source) -> list[Edit]:
    edits: list[Edit] = []
    for index, token in enumerate(module.tokens):
        here = Edit(module.start(index), module.end(index), "")
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            edits.append(here._replace(text=_phrases.sub(lambda found: PHRASES[found[0]], token.string)))
        elif token.type == tokenize.NAME and token.string in ("async", "await"):
            edits.append(here._replace(end=module.start(index + 1)))
            edits += _parentheses(module, index) if token.string == "await" else ()
        elif token.type == tokenize.NAME and token.string in NAMES:
            edits.append(here._replace(text=NAMES[token.string]))
    return edits


def _parentheses(module: Source, index: int) -> list[Edit]:
    """The parentheses around an ``await``, where they hold one call or name only and are not a call's own."""
    before, opening = module.tokens[index - 2], module.tokens[index - 1]
    is_call = (before.type == tokenize.NAME and before.string not in _KEYWORDS) or before.string in ")]"
    if opening.string != "(" or is_call:
        return []
    depth = 0
    for place in range(index + 1, len(module.tokens)):
        token = module.tokens[place]
        if token.string == ")" and depth == 0:
            return [
                Edit(module.start(index - 1), module.start(index), ""),
                Edit(module.start(place), module.end(place), ""),
            ]
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        plain = (token.type in (tokenize.NAME, *_IGNORED) and token.string not in _KEYWORDS) or token.string == "."
        if depth == 0 and not plain and token.string not in ")]}":
            return []
    return []


_KEYWORDS = {"return", "not", "and", "or", "in", "is", "if", "else", "yield", "assert", "for", "while", "lambda"}


def _in_form(text: str, path: str) -> str:
    """Put imports in their order again, without those of what is gone: the twins' names begin with other letters."""
    for what in (("check", "-q", "--select", "I,F401", "--fix"), ("format", "-q")):
        command = [sys.executable, "-m", "ruff", *what, "--stdin-filename", path, "-"]
        text = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


def generated(source: str) -> str:
    """What belongs into the blocking module for this asyncio module."""
    return _in_form(convert((ROOT / source).read_text(encoding="utf-8"), source), SOURCES[source])


def main() -> int:
    """Write all modules, or say which are not as they should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail where something would change")
    check = parser.parse_args().check
    changed = 0
    for source, twin in SOURCES.items():
        path, text = ROOT / twin, generated(source)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed += 1
            print(f"{twin} {'is not what' if check else 'written from'} {source}{' makes' if check else ''}")
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    return int(check and changed > 0)


if __name__ == "__main__":
    sys.exit(main())
