"""What tests of printing share: a printer of ours, and DCMTK's print programs with a configuration of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peers
import programs
import pypdf
from PIL import Image
from servers import Told, make_settings

from dicomnet.server import Server

DCMTK = """\
[[GENERAL]]
[APPLICATION]
LogDirectory = log
LogFile = general.log
LogLevel = INFO
[PRINT]
Directory = spool
DeletePrintJobs = false
[DATABASE]
Directory = database
[NETWORK]
aetitle = DCMPSTATE
[GUI]
HighResolutionGraphics = false
[[COMMUNICATION]]
[PRINTER]
Type = {type}
Aetitle = {title}
Description = a printer
Hostname = 127.0.0.1
Port = {port}
Annotation = 1\\COMBINED
BorderDensity = 150\\20\\BLACK\\WHITE
DisplayFormat = 1,1\\1,2\\2,2\\2,3
EmptyImageDensity = 20\\BLACK\\WHITE
FilmDestination = MAGAZINE\\PROCESSOR
FilmSizeID = 8INX10IN\\14INX17IN
MagnificationType = REPLICATE\\BILINEAR\\CUBIC\\NONE
MaxDensity = 320
MinDensity = 20
MaxPDU = 32768
MediumType = PAPER\\CLEAR FILM\\BLUE FILM
PresentationLUTMatchRequired = false
Supports12Bit = true
SupportsDecimateCrop = true
SupportsImageSize = true
SupportsPresentationLUT = true
SupportsTrim = true
"""


def dcmtk_folder(folder: Path, kind: str, title: str, port: int) -> Path:
    """A directory for DCMTK's print programs: ``dcmpstat.cfg``, a database and a spool."""
    for name in ("database", "spool", "log"):
        (folder / name).mkdir(parents=True)
    (folder / "dcmpstat.cfg").write_text(DCMTK.format(type=kind, title=title, port=port))
    return folder


@contextmanager
def dcmprscp(folder: Path) -> Iterator[str]:
    """DCMTK's printer, which puts what it prints into ``database``; its address."""
    port = peers.free_port()
    dcmtk_folder(folder, "LOCALPRINTER", "DCMPRSCP", port)
    program = [peers.peer_program("dcmprscp"), "-c", "dcmpstat.cfg", "-p", "PRINTER"]
    with programs.peer(program, port, cwd=folder):
        yield f"DCMPRSCP@127.0.0.1:{port}"


def dcmtk(name: str, *arguments: object, cwd: Path) -> str:
    """Run one of DCMTK's programs that ends by itself; what it said."""
    done = subprocess.run(
        [peers.peer_program(name), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Printer:
    """A printer of ours in a server of its own; small dots, so that films are drawn at once."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.films = folder / "films"
        table = {"dots": 60, "folder": str(self.films), **settings}
        self._server = Server(
            make_settings(addins={"enable": ["printer"]}, addin={"printer": table}), directory=folder / "server"
        )

    def __enter__(self) -> Printer:
        self._server.__enter__()
        self._told = Told(self._server)
        self._told.__enter__()
        host, port = self._server.address
        self.host, self.port, self.address = host, port, f"SERVER@{host}:{port}"
        return self

    def __exit__(self, *why: Any) -> None:
        self._told.__exit__()
        self._server.__exit__(*why)

    def printed(self, count: int = 1, kind: str = "printed") -> list[dict[str, Any]]:
        """The events of so many jobs, once they have ended."""
        return [event.data for event in self._told.wait_for(f"printer.{kind}", count)]

    def pictures(self, job: str) -> list[np.ndarray]:
        """The films of a job, from its PNGs; those of its PDF are the same."""
        films = [np.asarray(Image.open(path)) for path in sorted(self.films.glob(f"{job}-*.png"))]
        for film, page in zip(films, pypdf.PdfReader(self.films / f"{job}.pdf").pages, strict=True):
            assert np.array_equal(np.asarray(page.images[0].image), film)
        return films
