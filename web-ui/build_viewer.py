"""Build the wheel ``dicomnet-viewer``: the prebuilt OHIF of npm, trimmed, independent of its path, small, and offline.

    npm ci --prefix web-ui && python web-ui/build_viewer.py

The package is taken by ``npm pack`` and held to the hash in ``package.json``; nothing of it is installed or run. Files
go to ``viewer-package/dicomnet_viewer/assets``, the wheel to ``dist``. What a new version of OHIF changes shows itself:
each patch says how many files it has to meet.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "viewer"
PACKAGE = HERE / "viewer-package"
ASSETS = PACKAGE / "dicomnet_viewer" / "assets"
WHEELS = HERE / "dist"
LICENCES = HERE / "licences.json"
ESBUILD = HERE / "node_modules" / ".bin" / "esbuild"
MAXIMUM_WHEEL = 9_000_000

# What our pages never load: models of segmentation, slide microscopy, maps, a service worker, start pictures of
# telephones, shims for old browsers, logins that the server does itself, and files that ours take the place of.
DROPPED = (
    "ort/*", "dicom-microscopy-viewer/*", "customizations/*", "*.map", "*.LICENSE.txt", "_*", "serve.json",
    "manifest.json",
    "sw.js", "init-service-worker.js", "google.js", "es6-shim.min.js", "polyfill.min.js", "oidc-client.min.js",
    "silent-refresh.html", "index.html", "app-config.js", "assets/apple*", "assets/android*", "assets/mstile*",
    "assets/yandex*", "assets/coast*", "assets/firefox*", "assets/browserconfig*", "assets/manifest*",
)  # fmt: skip
COMPRESSED = {".js", ".css", ".wasm", ".svg"}
TEMPLATES = {"boot.js", "app-config.js"}  # filled in by the server, which therefore reads them as they are
APPLICATION = re.compile(r"app\.bundle\.[0-9a-f]+\.js")

# A package below another one's node_modules is the inner one.
NODE_MODULE = re.compile(r"node_modules/((?:@[\w.-]++/)?[\w.-]++)(?!/node_modules/)")
LEGAL_COMMENT = re.compile(r"/\*(?:!|(?:(?!\*/).)*?@(?:license|preserve))(?:(?!\*/).)*\*/", re.DOTALL)
NOTICES = """What dicomnet-viewer is made of
===============================

The OHIF viewer, npm package {package} {version}, prebuilt by its authors, with these changes: files that are not used
are left out, the path of the application is found at run time, one remote address is replaced, and the text is
minified. The files in ext/ are dicomnet's own, under the MIT licence.

{licence}

Packages in it
--------------

OHIF's build contains code of these packages of npm, libraries that its WebAssembly modules are compiled from, and a
font. Of some only a few lines are in it, and of those that others need, perhaps none:

{packages}

Their licences
--------------

{texts}

Notices in the files
--------------------

{comments}
"""


class Patch(NamedTuple):
    """One replacement of text in files, and in how many files it must be made."""

    files: str
    old: str
    new: str
    expected: int | None  # None: at least one


PATCHES = (
    # The path is where the running script came from, in the page and in workers, and not "/".
    Patch(
        "*.js",
        '__webpack_require__.p = "/"',
        '__webpack_require__.p = new URL("./", (typeof document !== "undefined" && document.currentScript)'
        " ? document.currentScript.src : self.location.href).pathname",
        8,
    ),
    Patch("*.css", "url(/", "url(", None),
    # Classes made from text need 'unsafe-eval'; in the page, ext/ndarray.js has them. Workers make their own.
    Patch(
        "*.js",
        "function compileConstructor(dtype, dimension) {",
        "function compileConstructor(dtype, dimension) {"
        " if (globalThis.dicomnetNdarrayView) return globalThis.dicomnetNdarrayView(dtype, dimension);",
        3,
    ),
    # The one address of another host that the kept files would ask: a module that interpolates between segmentations.
    Patch("*.js", "https://cdn.jsdelivr.net/npm/@itk-wasm/", "./itk-wasm/", 1),
)


class Cut(NamedTuple):
    """Text that is left out of one file, from where a pattern begins to match to where it ends."""

    files: str
    pattern: re.Pattern[str]
    new: str


# shepherd.js, which shows tours of the application, is under the AGPL, and `app-config.js` has no tours.
CUTS = (
    Cut(
        "app.bundle.*.js",
        re.compile(r"^;// CONCATENATED MODULE: \S*/node_modules/shepherd\.js/dist/js/.*?^//# sourceMappingURL.*?$",
                   re.DOTALL | re.MULTILINE),
        "const shepherd_fe = { Tour: class { addStep() {} start() {} } };",
    ),
    Cut("app.bundle.*.js", re.compile(r"^;// CONCATENATED MODULE: \S*/node_modules/shepherd\.js/dist/css/.*$",
                                      re.MULTILINE), ""),
    Cut("app.bundle.css", re.compile(r"[^{}]*\.shepherd-[^{}]*\{[^{}]*\}"), ""),
)  # fmt: skip


def main() -> None:
    """Build the assets and the wheel; the last line printed is the wheel's path."""
    pinned = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["viewer"]
    with tempfile.TemporaryDirectory() as folder:
        package = unpacked(pinned["package"], pinned["version"], pinned["integrity"], Path(folder))
        shutil.rmtree(ASSETS, ignore_errors=True)
        kept = trim(package / "dist", ASSETS)
        cut_out(ASSETS)
        notices = third_party(package, kept, pinned["package"], pinned["version"])
        application = APPLICATION.search((package / "dist" / "index.html").read_text(encoding="utf-8"))
    if application is None:
        sys.exit("index.html of the package names no app.bundle.*.js: look at how this version starts")
    for patch in PATCHES:
        apply(patch, ASSETS)
    minify(ASSETS)
    add_ours(SOURCES, ASSETS, application[0])
    (ASSETS / "THIRD-PARTY.txt").write_text(notices, encoding="utf-8")
    compress(ASSETS)
    print(wheel())


def unpacked(package: str, version: str, integrity: str, folder: Path) -> Path:
    """The folder of an npm package, fetched by npm and compared with its hash (Subresource Integrity)."""
    packed = run("npm", "pack", f"{package}@{version}", "--silent", "--pack-destination", str(folder))
    archive = folder / packed.strip().splitlines()[-1]
    check_integrity(archive, integrity)
    with tarfile.open(archive) as content:
        if hasattr(tarfile, "data_filter"):  # Python 3.11 has it from its fourth release on; the hash vouches, too
            content.extraction_filter = tarfile.data_filter
        content.extractall(folder)
    return folder / "package"


def check_integrity(archive: Path, integrity: str) -> None:
    """End the build if the file is not the one whose hash is pinned."""
    algorithm, _, expected = integrity.partition("-")
    with archive.open("rb") as content:
        digest = hashlib.file_digest(content, algorithm).digest()
    if base64.b64encode(digest).decode() != expected:
        sys.exit(
            f"{archive.name} is not the file that package.json pins: its {algorithm} is different. Nothing is built."
        )


def trim(source: Path, target: Path) -> list[Path]:
    """Copy what is served; the copies."""
    kept = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_dir() or any(fnmatch(name, pattern) for pattern in DROPPED):
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        kept.append(copy)
    return kept


def apply(patch: Patch, folder: Path) -> None:
    """Make a replacement; end the build if it does not meet the files that it is for."""
    changed = 0
    for path in folder.glob(patch.files):
        text = path.read_text(encoding="utf-8")
        if patch.old in text:
            path.write_text(text.replace(patch.old, patch.new), encoding="utf-8")
            changed += 1
    if changed != patch.expected and (patch.expected is not None or not changed):
        sys.exit(
            f"{patch.old!r} is in {changed} files, not in {patch.expected or 'any'}: look at what this version changed"
        )


def cut_out(folder: Path) -> None:
    """Leave out what may not be in the package; end the build if it is not where it was."""
    for cut in CUTS:
        changed = 0
        for path in folder.glob(cut.files):
            text, count = cut.pattern.subn(cut.new, path.read_text(encoding="utf-8"))
            if count:
                path.write_text(text, encoding="utf-8")
            changed += count
        if not changed:
            sys.exit(f"{cut.pattern.pattern!r} is in no {cut.files}: look at what this version changed")


def minify(folder: Path) -> None:
    """Shorten the scripts; licences stay, at the end of each."""
    scripts = [str(path) for path in sorted(folder.glob("*.js"))]
    run(
        str(ESBUILD), *scripts, "--minify", "--target=es2022", "--legal-comments=eof", "--allow-overwrite",
        f"--outdir={folder}", "--log-level=error",
    )  # fmt: skip


def add_ours(source: Path, target: Path, application: str) -> None:
    """The page, the configuration and the extension; the page gets the name of OHIF's main script."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    page = target / "index.html"
    page.write_text(page.read_text(encoding="utf-8").replace("app.bundle.js", application), encoding="utf-8")


def compress(folder: Path) -> None:
    """Keep text and WebAssembly compressed only: the server sends them so. The same input gives the same bytes."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in COMPRESSED and path.name not in TEMPLATES:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
            path.unlink()


def third_party(package: Path, kept: list[Path], name: str, version: str) -> str:
    """The notices: OHIF's licence, the packages in it with the texts of theirs, and every licence comment."""
    comments: set[str] = set()
    for path in kept:
        if path.suffix in {".js", ".css"}:
            # Some modules are kept as string literals.
            found = LEGAL_COMMENT.findall(path.read_text(encoding="utf-8"))
            comments.update(comment.replace("\\n", "\n").strip() for comment in found)
    packages, texts = licences(named(kept))
    return NOTICES.format(
        package=name,
        version=version,
        licence=(package / "LICENSE").read_text(encoding="utf-8").strip(),
        packages=packages,
        texts=texts,
        comments="\n\n".join(sorted(comments)),
    )


def named(kept: list[Path]) -> set[str]:
    """The packages that paths in files name."""
    scripts = (path for path in kept if path.suffix in {".js", ".css"})
    return {name for path in scripts for name in NODE_MODULE.findall(path.read_text(encoding="utf-8"))}


def licences(names: set[str]) -> tuple[str, str]:
    """What `gather_licences.py` found: the packages, a line for each, and their texts, each once.

    Args:
        names: of packages that have to be there; the build ends if one is not.
    """
    known = json.loads(LICENCES.read_text(encoding="utf-8"))
    without = sorted(name for name in names if not any(known.get(name, {}).get("texts", ())))
    if without:
        sys.exit(f"{LICENCES.name} has no licence of {', '.join(without)}: see gather_licences.py")
    of: dict[str, list[str]] = {}
    for name, one in known.items():
        for text in one["texts"]:
            of.setdefault(text, []).append(name)
    lines = [f"- {' '.join((name, *one['versions']))}: {one['licence']}" for name, one in known.items()]
    texts = [f"{', '.join(users)}:\n\n{text}\n" for text, users in of.items()]
    return "\n".join(lines), f"\n{'-' * 40}\n\n".join(texts)


def wheel() -> Path:
    """The wheel, within its limit."""
    shutil.rmtree(WHEELS, ignore_errors=True)
    shutil.rmtree(
        PACKAGE / "build", ignore_errors=True
    )  # setuptools would put files of an earlier build into the wheel
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(WHEELS), str(PACKAGE))
    built = next(WHEELS.glob("*.whl"))
    if built.stat().st_size > MAXIMUM_WHEEL:
        sys.exit(f"{built.name} has {built.stat().st_size} bytes, more than {MAXIMUM_WHEEL}: look at what is in it")
    return built


def run(*command: str) -> str:
    """The output of a program, which must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ... failed with exit code {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
