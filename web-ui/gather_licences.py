"""Write ``licences.json``: the licence texts of what OHIF's build is made of, for the notices of ``dicomnet-viewer``.

    npm ci --prefix web-ui/licences --ignore-scripts --legacy-peer-deps --omit=optional
    python web-ui/gather_licences.py

To be run when the pinned OHIF changes: half a gigabyte is installed to be read. A package is in the build if a path in
it says so, or if it has a line of code that the build has, too: of modules in CommonJS the build names no path. A text
is the package's own file, or where it ships none that of SPDX with its author's name.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from build_viewer import HERE, LICENCES, cut_out, named, trim, unpacked

INSTALLED = HERE / "licences"
MODULES = INSTALLED / "node_modules"
#: Of a line of code, so that it tells one package from another.
LEAST_LINE = 40
_is_licence = re.compile(r"(licen[cs]e|copying|notice|unlicense)([.-].*)?", re.IGNORECASE).fullmatch
_is_place = re.compile(r"<(?:year|copyright holders?|owner|name of [^>]*)>|\[(?:yyyy|name of copyright owner)\]").sub

#: What is compiled into the WebAssembly modules, and the font: their licences, and who has the copyright.
COMPILED = {
    "CharLS": ("BSD-3-Clause", "2007-2010 Jan de Vaan; 2014-2024 Team CharLS"),
    "OpenJPEG": (
        "BSD-2-Clause",
        (
            "2002-2014 Universite catholique de Louvain (UCL), Belgium; 2002-2014 Professor Benoit Macq; 2001-2003 "
            "David Janssens; 2002-2003 Yannick Verschueren; 2003-2014 Francois-Olivier Devaux and Antonin Descampe; "
            "2005 Herve Drolon, FreeImage Team; 2010-2014 Mathieu Malaterre; and its other contributors"
        ),
    ),
    "OpenJPH": (
        "BSD-2-Clause",
        "2019 Aous Naman; 2019 Kakadu Software Pty Ltd, Australia; 2019 The University of New South Wales, Australia",
    ),
    "libjpeg-turbo": (
        "IJG AND BSD-3-Clause AND Zlib",
        "1991-2020 Thomas G. Lane, Guido Vollbeding; 2009-2024 D. R. Commander and the libjpeg-turbo project",
    ),
    "VTK": ("BSD-3-Clause", "1993-2015 Ken Martin, Will Schroeder, Bill Lorensen"),
    "Inter (font)": ("OFL-1.1", "2016-2022 The Inter Project Authors, with no reserved font name"),
}


def main() -> None:
    """Write the file; end with what has no text."""
    spdx = json.loads((MODULES / "spdx-license-list" / "spdx-full.json").read_text(encoding="utf-8"))
    pinned = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["viewer"]
    with tempfile.TemporaryDirectory() as folder:
        package = unpacked(pinned["package"], pinned["version"], pinned["integrity"], Path(folder))
        kept = trim(package / "dist", Path(folder, "kept"))
        cut_out(Path(folder, "kept"))
        names, lines = named(kept), set(_lines(kept))
    packages: dict[str, dict[str, Any]] = {}
    for root in _installed():
        manifest = json.loads((root / "package.json").read_text(encoding="utf-8"))
        name = root.relative_to(MODULES).as_posix().rpartition("node_modules/")[2]
        if name in names or lines.intersection(_lines(_scripts(root))):
            found = packages.setdefault(name, {"versions": [], "licence": _expression(manifest), "texts": []})
            found["versions"].append(manifest["version"])
            found["texts"] += [text for text in _texts(root, manifest, spdx) if text not in found["texts"]]
    for name, (licence, owners) in COMPILED.items():
        packages[name] = {"versions": [], "licence": licence, "texts": _standard(licence, owners, spdx)}
    without = sorted(names - packages.keys()) + [name for name, one in packages.items() if not one["texts"]]
    if without:
        sys.exit(f"no text of a licence: {', '.join(without)}. Add what is missing to {INSTALLED / 'package.json'}")
    text = json.dumps(dict(sorted(packages.items())), indent=1, ensure_ascii=False)
    LICENCES.write_text(f"{text}\n", encoding="utf-8")
    print(f"{LICENCES}: {len(packages)} packages, {len(names)} of which the build names")


def _installed() -> Iterator[Path]:
    """The folders of all packages, with those that others have to themselves."""
    lock = json.loads((INSTALLED / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    yield from (root for place in lock if place and (root := INSTALLED / place).is_dir())


def _scripts(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.*js"):
        if "node_modules" not in path.relative_to(root).parts and path.is_file():
            yield path


def _lines(paths: Iterable[Path]) -> Iterator[str]:
    """Lines of code that tell something."""
    for path in paths:
        if path.suffix in {".js", ".mjs", ".cjs"}:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                code = line.strip()
                if len(code) >= LEAST_LINE and not code.startswith(("*", "//", "/*")):
                    yield code


def _expression(manifest: dict[str, Any]) -> str:
    found = manifest.get("license") or manifest.get("licenses") or ""
    if isinstance(found, list):
        return " OR ".join(one["type"] for one in found)
    return str(found["type"] if isinstance(found, dict) else found)


def _texts(root: Path, manifest: dict[str, Any], spdx: dict[str, Any]) -> list[str]:
    own = [
        path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n").strip()
        for path in sorted(root.iterdir())
        if path.is_file() and _is_licence(path.name) and path.suffix not in {".js", ".ts", ".json"}
    ]
    return [text for text in own if text] or _standard(_expression(manifest), _author(manifest), spdx)


def _author(manifest: dict[str, Any]) -> str:
    author = manifest.get("author") or (manifest.get("maintainers") or manifest.get("contributors") or [""])[0]
    name = author.get("name", "") if isinstance(author, dict) else str(author)
    return name or f"the authors of {manifest['name']}"


def _standard(expression: str, owners: str, spdx: dict[str, Any]) -> list[str]:
    """The texts of SPDX, with who has the copyright before them."""
    found = []
    for name in re.findall(r"[\w.+-]+", expression):
        if name in spdx:
            text = re.sub(r"^Copyright \(c\) <year>.*$\n*", "", spdx[name]["licenseText"], flags=re.MULTILINE)
            copyrights = "\n".join(f"Copyright (c) {owner.strip()}" for owner in owners.split(";"))
            found.append(f"{copyrights}\n\n{_is_place('', text).strip()}")
    return found


if __name__ == "__main__":
    main()
