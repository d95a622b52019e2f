"""The rooms of docs/architecture.md and the budgets of docs/style.md, held to the source."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from cases import every

from dicomnet.repository import migrations

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "dicomnet"
SOURCES = sorted(path for ending in ("py", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{ending}"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Sockets, clocks and threads: what the core is given as arguments, or leaves to its driver.
IMPURE = {
    "asyncio", "concurrent", "multiprocessing", "queue", "sched", "select", "selectors", "signal",
    "socket", "socketserver", "ssl", "subprocess", "threading", "time",
}  # fmt: skip
# What `import dicomnet` must not load; what needs them loads them when it is first used.
HEAVY = {"cryptography", "numpy", "obstore", "pydicom", "rich"}
# What takes long to load, and few programs need: of an extra; what loads `platform`; OpenSSL; Alembic.
SELDOM = {"httpx", "uuid", "dicomnet.net.tls_channel", "dicomnet.repository.migrations.steps"}
GENERATED = {"uids.py"}
# Public names that load when they are used.
LAZY = {PACKAGE / name for name in ("__init__.py", "client/__init__.py", "server/__init__.py", "server/discovery.py")}
# Modules at the package's root belong to a room, too.
ROOT_MODULES = {"errors", "config", "status", "uids", "log", "version"}
APPLICATIONS = ("archive", "router", "workstation", "site", "conform")
# SQL, HTTP and plug-ins begin with the server framework.
ABOVE_THE_CLIENT = {"sqlalchemy", "alembic", "starlette", "uvicorn", "pluggy", "jinja2", "psycopg", "obstore"}


def rooms() -> dict[str, int]:
    """Name of a room -> its place, by the import rule of docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rule = re.search(r"^vocabulary ← [\w ←\n]+", text, re.MULTILINE)
    assert rule, "docs/architecture.md has no import rule"
    order = re.findall(r"\w+", rule[0])
    places = {room: place for place, room in enumerate(order)}
    places.update(dict.fromkeys(ROOT_MODULES, places["vocabulary"]), _pdu=places["wire"])
    places.update(dict.fromkeys((*APPLICATIONS, "testing"), places["applications"]))
    return places


ROOMS = rooms()
CLI, NET, CLIENT = ROOMS["cli"], ROOMS["net"], ROOMS["client"]


class Import(NamedTuple):
    """One imported module, as seen from the file that imports it."""

    module: str  # absolute: "dicomnet.errors", "socket"
    line: int
    function: str  # the function around it, "" at module level


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def absolute(path: Path, module: str, level: int) -> str:
    """What a relative import means in this file."""
    if level == 0:
        return module
    package = path.relative_to(ROOT).parent.parts
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


@cache
def known_modules(_: Path, sources: tuple[Path, ...]) -> frozenset[str]:
    return frozenset(module_of(source) for source in sources)


def with_names(module: str, names: list[str]) -> list[str]:
    """`from dicomnet.services import scu` imports dicomnet.scu, and so does a name from it."""
    if module.split(".", maxsplit=1)[0] != "dicomnet":
        return [module]
    inner = [f"{module}.{name}" for name in names]
    modules = known_modules(ROOT, tuple(SOURCES))
    return sorted({name if name in modules else module for name in inner})


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)  # in which there may be others


def is_for_checkers(condition: ast.expr) -> bool:
    """Whether what follows loads nothing."""
    return isinstance(condition, ast.Name) and condition.id == "TYPE_CHECKING"


def python_imports(path: Path) -> Iterator[Import]:
    def walk(node: ast.AST, function: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                module = absolute(path, child.module or "", child.level)
                for name in with_names(module, [alias.name for alias in child.names]):
                    yield Import(name, child.lineno, function)
            elif isinstance(child, STATEMENTS) and not (isinstance(child, ast.If) and is_for_checkers(child.test)):
                inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
                yield from walk(child, inner)

    yield from walk(parsed(path), "")


NAMES = r"(?:\(([^)]*)\)|((?:[^\n\\]|\\\n)*))"
FROM = re.compile(r"^([ \t]*)from[ \t]+(\.*)([\w.]*)[ \t]+c?import[ \t]+" + NAMES, re.MULTILINE)
PLAIN = re.compile(r"^([ \t]*)c?import[ \t]+([^\n#]+)", re.MULTILINE)


def cython_imports(path: Path) -> Iterator[Import]:
    """By regular expression: an indented import counts as one inside a function."""
    text = path.read_text(encoding="utf-8")
    for match in FROM.finditer(text):
        indent, dots, module, *lists = match.groups()
        names = re.findall(r"\w+", re.sub(r"\bas\s+\w+|#[^\n]*", "", "".join(filter(None, lists))))
        for name in with_names(absolute(path, module, len(dots)), names):
            yield Import(name, text.count("\n", 0, match.start()) + 1, "an indented block" if indent else "")
    for match in PLAIN.finditer(text):
        for name in match[2].split(","):
            line = text.count("\n", 0, match.start()) + 1
            yield Import(name.split()[0], line, "an indented block" if match[1] else "")


@cache
def imports(path: Path) -> list[Import]:
    return list(python_imports(path) if path.suffix == ".py" else cython_imports(path))


def unit(module: str) -> str | None:
    """The root module or folder that a dotted name belongs to; None for the package itself and for others."""
    parts = module.split(".")
    return parts[1] if parts[0] == "dicomnet" and len(parts) > 1 else None


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def place_of(path: Path) -> int:
    """The place of a source's room; above all stand __init__ and __main__ of the package itself."""
    return ROOMS.get(unit(module_of(path)) or "", len(ROOMS))


every_source = every("path", SOURCES)


def test_the_import_rule_is_read_whole():
    known = ["errors", "_pdu", "files", "dataset", "protocol", "services", "net", "sync", "aio", "client", "server"]
    places = [ROOMS[room] for room in [*known, "repository", "web", "archive", "cli"]]
    assert places == sorted(set(places))
    assert len(places) == 15


@every_source
def test_every_module_has_its_room(path):
    assert unit(module_of(path)) in {None, "__main__", *ROOMS}, f"which room is {name(path)} in?"


@every_source
def test_imports_go_down_the_rooms(path):
    here, own = place_of(path), unit(module_of(path))
    for imported in imports(path):
        if imported.module == "dicomnet":  # programs are users of the public face; all else is behind it
            assert here >= CLI, f"{name(path)}:{imported.line} imports the package that imports it"
            continue
        there = unit(imported.module)
        allowed = there in {None, own} or ROOMS[there] < here or ROOMS[there] == here < ROOMS["applications"]
        assert allowed, f"{name(path)}:{imported.line} imports {imported.module}"


def test_the_conformance_suite_knows_the_vocabulary_alone():
    for path in (PACKAGE / "conform").rglob("*.py"):
        for imported in imports(path):
            there = unit(imported.module)
            assert there in {None, "conform"} or ROOMS[there] == 0, f"{name(path)}:{imported.line}"


@every_source
def test_frameworks_of_servers_stay_above_the_client(path):
    if place_of(path) <= CLIENT:
        for imported in imports(path):
            assert imported.module.split(".")[0] not in ABOVE_THE_CLIENT, f"{name(path)}:{imported.line}"


def test_what_the_map_names_is_there():
    """The last part of a path is enough where the same row or sentence has said the room."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    there = [path.relative_to(ROOT).as_posix() for path in SOURCES] + ["tools/uids.py", "tools/async_to_sync.py"]
    named = [name for name in re.findall(r"`([\w/]+\.(?:pyx?|pxd))`", text) if not name.startswith("tests/")]
    assert len(named) > 80
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)] == []


def test_the_steps_of_the_index_are_named():
    """In ``migrations/__init__.py``, so that a program whose tables are current need not load them, nor Alembic."""
    texts = [path.read_text(encoding="utf-8") for path in (PACKAGE / "repository/migrations/versions").glob("v*.py")]
    steps = {re.search(r'^revision = "(\w+)"', text, re.MULTILINE)[1] for text in texts}
    followed = {name for text in texts for name in re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)}
    assert steps == migrations.STEPS
    assert steps - followed == migrations.LAST


def test_the_list_of_modules_is_current():
    done = subprocess.run([sys.executable, "tools/module_map.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run tools/module_map.py"
    assert "|  |" not in (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")


def test_there_are_no_cycles():
    edges: dict[str, set[str]] = {}
    for path in SOURCES:
        targets = {i.module for i in imports(path) if unit(i.module) and not i.function}
        edges.setdefault(module_of(path), set()).update(targets - {module_of(path)})
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a cycle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def may_import_late(path: Path, imported: Import) -> bool:
    return imported.module in SELDOM or imported.module.split(".")[0] in HEAVY or place_of(path) == CLI


@every_source
def test_no_import_hides_in_a_function(path):
    for imported in imports(path):
        if imported.function:
            assert may_import_late(path, imported), f"{name(path)}:{imported.line}: import in {imported.function}"


@every_source
def test_the_standard_library_is_used_by_its_public_names(path):
    for imported in imports(path):
        assert not re.match(r"_[a-z]", imported.module), f"{name(path)}:{imported.line} imports {imported.module}"


@every_source
def test_no_import_hides_otherwise(path):
    text = path.read_text(encoding="utf-8")
    for_checkers = ("__init__.py", "dataset/types.py", "net/tls.py", "server/__init__.py", "server/hookspecs.py")
    assert "TYPE_CHECKING" not in text or name(path) in for_checkers
    if path not in LAZY and place_of(path) != CLI:
        assert not re.search(r"\b(importlib|__import__)\b", text)


@every_source
def test_below_net_there_is_no_socket_clock_or_thread(path):
    if place_of(path) >= NET:
        return
    for imported in imports(path):
        assert imported.module.split(".")[0] not in IMPURE, f"{name(path)}:{imported.line} imports {imported.module}"


@pytest.mark.parametrize("room", ["wire", "files", "dataset", "protocol", "services", "net"])
def test_the_init_of_a_room_below_sync_is_a_docstring(room):
    body = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")).body
    assert [type(node) for node in body] == [ast.Expr]


@every_source
def test_heavy_packages_are_not_loaded_on_import(path):
    if place_of(path) > CLIENT:
        return
    for imported in imports(path):
        if not imported.function:
            heavy = imported.module.split(".")[0] in HEAVY
            assert not heavy, f"{name(path)}:{imported.line} imports {imported.module}"


def test_importing_loads_no_heavy_package():
    below_the_server = [module_of(path) for path in SOURCES if path.suffix == ".py" and place_of(path) <= CLIENT]
    modules = ", ".join(module for module in below_the_server if not module.endswith("__main__"))
    code = f"import sys, {modules}; print(*sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (result.stdout.strip(), result.stderr) == ("", "")


@every("path", [path for path in SOURCES if path.name not in GENERATED])
def test_a_file_has_at_most_600_lines(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 600


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{node.name}, line {node.lineno}", (node.end_lineno or 0) - node.lineno + 1


def cython_functions(path: Path) -> Iterator[tuple[str, int]]:
    """By indentation: from a `def`, or a `cdef` whose parameter list ends in a colon, to the next line as far out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for start, line in enumerate(lines):
        head = re.match(r"(\s*)(?:def|cdef|cpdef)\b[^=]*?\b(\w+)\(", line)
        if not head or re.match(r"\s*cdef\s+(class|struct|enum|extern)\b", line):
            continue
        indent = len(head[1])
        end = start
        while end < len(lines) and not lines[end].split("#")[0].rstrip().endswith(":"):
            end += 1  # a signature over several lines
        if line.split("#")[0].rstrip()[-1] not in ":(,\\":
            continue  # a variable with an initial value, a declaration in a .pxd
        last = end
        for number in range(end + 1, len(lines)):
            if lines[number].strip() and len(lines[number]) - len(lines[number].lstrip()) <= indent:
                break
            if lines[number].strip():
                last = number
        yield f"{head[2]}, line {start + 1}", last - start + 1


@cache
def functions(path: Path) -> list[tuple[str, int]]:
    return list(python_functions(path) if path.suffix == ".py" else cython_functions(path))


@every_source
def test_a_function_has_at_most_40_lines(path):
    too_long = {(name(path), function.split(",")[0]) for function, lines in functions(path) if lines > 40}
    assert not too_long


def test_half_of_all_functions_have_at_most_10_lines():
    assert statistics.median(lines for path in SOURCES for _, lines in functions(path)) <= 10


@every("path", [*SOURCES, *TESTS])
def test_nothing_sleeps(path):
    assert not re.search(r"\bsleep\(", path.read_text(encoding="utf-8"))


@every("path", [path for path in SOURCES if path.suffix == ".pyx"])
def test_every_extension_has_its_stub(path):
    assert path.with_suffix(".pyi").exists()


class TestThisTestSees:
    """What the checks above rest on, tried on sources that break each rule."""

    @pytest.fixture
    def imports_in(self, tmp_path, monkeypatch):
        def run(text, file="dicomnet/sync/thing.py"):
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return {(i.module, i.function) for i in imports(path)}

        monkeypatch.setitem(globals(), "ROOT", tmp_path)
        monkeypatch.setitem(globals(), "SOURCES", [tmp_path / "dicomnet" / name for name in ("scu.py", "_bytes.pxd")])
        return run

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("import os, socket", {("os", ""), ("socket", "")}),
            ("from ..scu import echo", {("dicomnet.scu", "")}),
            ("from .. import scu", {("dicomnet.scu", "")}),
            ("from dicomnet import scu", {("dicomnet.scu", "")}),
            ("from . import driver", {("dicomnet.sync", "")}),
            ("def f():\n    import time", {("time", "f")}),
            ("class C:\n    async def f(self):\n        from ..scu import echo", {("dicomnet.scu", "f")}),
            ("try:\n    import ssl\nexcept ImportError:\n    pass", {("ssl", "")}),
            ("if TYPE_CHECKING:\n    import ssl", set()),
        ],
    )
    def test_python_imports(self, imports_in, text, found):
        assert imports_in(text) == found

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("from ._bytes cimport Cursor, child", {("dicomnet._bytes", "")}),
            ("from dicomnet._bytes cimport (\n    Cursor,\n    child,\n)", {("dicomnet._bytes", "")}),
            ("from . cimport _bytes", {("dicomnet._bytes", "")}),
            ("from ._bytes cimport Cursor, \\\n    child", {("dicomnet._bytes", "")}),
            ("cimport cython\nimport time as t, os", {("cython", ""), ("time", ""), ("os", "")}),
            ("def f():\n    from .scu import echo", {("dicomnet.scu", "an indented block")}),
        ],
    )
    def test_cython_imports(self, imports_in, text, found):
        assert imports_in(text, "dicomnet/_thing.pyx") == found

    def test_lengths_of_cython_functions(self, tmp_path):
        path = tmp_path / "x.pyx"
        path.write_text(
            "cdef int one(int a) except -1:\n    return a\n\n\n"
            "cdef class C:\n    cdef int x\n\n"
            "    def two(\n        self,\n    ) -> None:\n        pass\n\n        pass\n\n"
            "cdef int declared(int a) noexcept\n\n"
            "cdef object value = call(1)\n"
            "cdef inline int three() noexcept nogil:  # why\n    return 1\n"
        )
        assert functions(path) == [("one, line 1", 2), ("two, line 8", 6), ("three, line 18", 2)]
