"""Write docs/modules.md from the first sentence of each module: ``python tools/module_map.py [--check]``.

`docs/architecture.md` is the map; this is its index. `tests/test_architecture.py` fails where it is not what this
program writes.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "dicomnet"
TARGET = ROOT / "docs" / "modules.md"
#: The order of the import rule; what stands beside the applications comes last.
ROOMS = (
    "", "wire", "files", "dataset", "protocol", "services", "net", "sync", "aio", "client", "server", "repository",
    "web", "archive", "router", "workstation", "site", "conform", "cli", "testing",
)  # fmt: skip
HEAD = """# All modules

What each module is for, in its own words: the first sentence of its docstring. [architecture.md](architecture.md) is
the map that leads here. `python tools/module_map.py` writes this page.
"""


def first_sentence(path: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".pyx":  # no Python that `ast` could read
        found = re.search(r'^(?:#[^\n]*\n)*"""(.*?)"""', text, re.DOTALL)
        said = found[1] if found else ""
    else:
        said = ast.get_docstring(ast.parse(text)) or ""
    return " ".join(said.split("\n\n")[0].split()).rstrip(":").replace("|", "\\|")


def modules(room: str) -> Iterator[Path]:
    """The modules of a room, those of its packages after its own."""
    directory = PACKAGE / room
    found = directory.glob("*") if not room else directory.rglob("*")
    chosen = (path for path in found if path.suffix in (".py", ".pyx") and "versions" not in path.parts)
    return iter(sorted(chosen, key=lambda path: (len(path.parts), path)))


def page() -> str:
    """The page."""
    lines = [HEAD]
    for room in ROOMS:
        lines += [f"## {room or 'The vocabulary, at the root of the package'}", ""]
        lines += ["| module | what it is for |", "|---|---|"]
        for path in modules(room):
            name = path.relative_to(PACKAGE).as_posix()
            if path.name == "__init__.py":
                name = f"{name.removesuffix('__init__.py')}" or "__init__.py"
            lines.append(f"| `{name}` | {first_sentence(path)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Write the page, or say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is not current")
    if parser.parse_args().check:
        return int(TARGET.read_text(encoding="utf-8") != page())
    TARGET.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
