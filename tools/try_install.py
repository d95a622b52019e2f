"""Install wheel and sdist in empty environments, once for each extra: ``python tools/try_install.py``.

`make wheel` has made them in ``dist/``. Each environment imports what the extra is for, and runs the program outside of
the sources; a line for each says what came of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What each extra is for, as a line of Python; and a command line of the program, where the extra brings it.
CHECKS = {
    "": ("import dicomnet; dicomnet.Listener('A', port=0)", None),
    "cli": ("import dicomnet.cli.app", ["echo", "--help"]),
    "codecs": (
        "from pydicom.pixels.encoders.base import get_encoder as g; assert g('1.2.840.10008.1.2.4.90').is_available",
        None,
    ),
    "server": ("import dicomnet.server.server", None),
    "archive": ("import dicomnet.archive.archive", ["archive", "run", "--help"]),
    "router": ("import dicomnet.router.router", ["router", "run", "--help"]),
    "uvloop": ("import uvloop", None),
    "viewer": ("import dicomnet_viewer", None),
}

#: Where pip finds the package of the viewer, which is in no index.
VIEWER = ["--find-links", str(ROOT / "web-ui" / "dist")]
#: What developers want.
_LEFT_OUT = ("dev", "docs")


def main() -> int:
    """Try all of them; 1 where one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--extra", action="append", help="only this one, of which there may be several")
    parser.add_argument("--kind", choices=("wheel", "sdist"), help="only this kind of distribution")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where they are")
    chosen = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ["", *(one for one in project["optional-dependencies"] if one not in _LEFT_OUT)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="dicomnet-built-") as built:
        for kind, pattern in (("wheel", "*.whl"), ("sdist", "*.tar.gz")):
            if chosen.kind in (None, kind):
                (distribution,) = chosen.dist.glob(pattern)
                distribution = distribution if kind == "wheel" else _built(distribution, Path(built))
                failed += sum(not _works(distribution, kind, extra) for extra in chosen.extra or extras)
    return int(failed > 0)


def _built(sdist: Path, where: Path) -> Path:
    """The wheel that pip makes of a source distribution, once for all extras."""
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-cache-dir", "-w", str(where), str(sdist)]
    subprocess.run(pip, check=True, cwd=where)
    (wheel,) = where.glob("*.whl")
    return wheel


def _works(distribution: Path, kind: str, extra: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="dicomnet-install-") as directory:
        python = Path(directory, "venv", "bin", "python")
        wanted = f"{distribution}[{extra}]" if extra else str(distribution)
        line, command = CHECKS.get(extra, ("import dicomnet", None))
        steps = [[sys.executable, "-m", "venv", str(python.parent.parent)]]
        steps += [[str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *VIEWER, wanted]]
        steps += [[str(python), "-c", line]]
        if command is not None:
            steps += [[str(python.parent / "dicomnet"), *command]]
        for step in steps:
            done = subprocess.run(step, cwd=directory, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"FAILED {kind}[{extra}]: {' '.join(step[1:4])}: {done.stderr.strip()[-400:]}", flush=True)
                return False
    print(f"ok     {kind}[{extra}]", flush=True)
    return True


if __name__ == "__main__":
    raise SystemExit(main())
