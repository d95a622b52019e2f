"""Fetch what the console's pages load besides our own: htmx, from npm, held to the hashes in ``package.json``.

    python web-ui/build_console.py [--tests]

Files go to ``dicomnet/web/console/static/vendor``, from where a wheel takes them. Without them all pages work as plain
forms. With --tests it also fetches what browser tests look for faults of accessibility with, to ``web-ui/axe``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from build_viewer import HERE, unpacked

VENDOR = HERE.parent / "dicomnet" / "web" / "console" / "static" / "vendor"
AXE = HERE / "axe"


def main(arguments: list[str]) -> None:
    """Fetch them."""
    pinned = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    fetch(pinned["console"], VENDOR)
    if "--tests" in arguments:
        fetch(pinned["console-tests"], AXE)


def fetch(packages: list[dict[str, str]], target: Path) -> None:
    """Take one file, and the licence, of each package."""
    target.mkdir(parents=True, exist_ok=True)
    for one in packages:
        with tempfile.TemporaryDirectory() as folder:
            package = unpacked(one["package"], one["version"], one["integrity"], Path(folder))
            file = package / one["file"]
            shutil.copy(file, target / file.name)
            shutil.copy(package / "LICENSE", target / f"{file.name}.LICENSE")
            print(target / file.name)


if __name__ == "__main__":
    main(sys.argv[1:])
