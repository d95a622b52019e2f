"""Print jobs: a queue, one thread that draws, and what comes out: a PDF and PNGs in a folder, or a command's work.

A job is in a file until it has ended: what was accepted is printed, also after a restart. Where a process was killed
while it printed, the job is printed again, and its command is run again.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from ....services.film import film_millimetres
from ...kept_files import KeptFiles
from .drawing import FilmPlan, Press, draw
from .spool import packed, unpacked

__all__ = ["Job", "Jobs"]

_RANKS = {"HIGH": 0, "MED": 1, "LOW": 2}
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(eq=False)
class Job:
    """A print job (PS3.3 Section C.13.8): PENDING, PRINTING, DONE or FAILURE.

    Attributes:
        uid: its own.
        films: what is printed; gone when it has ended.
        copies: of each film.
        priority: HIGH, MED or LOW.
        originator: the AE title of who asked for it.
        status, info: how far it is.
        created: when it was asked for.
        files: what came out.
    """

    uid: str
    films: Sequence[FilmPlan]
    copies: int
    priority: str
    originator: str
    status: str = "PENDING"
    info: str = "QUEUED"
    created: datetime = field(default_factory=datetime.now)
    files: tuple[Path, ...] = ()


class Jobs:
    """The jobs of a printer, printed one after another by priority; the latest that have ended are remembered.

    Args:
        folder: where films go; each file appears whole, or not at all.
        waiting: where jobs are kept until they have ended.
        press: what is printed with.
        pdf, png: which files are made.
        command: run for each job, without a shell; ``{pdf}``, ``{folder}``, ``{uid}``, ``{copies}`` are filled in.
        patience: seconds that it gets; then it is killed.
        most: jobs that may wait.
        memory: bytes that all films which wait may hold together.
        kept: jobs that are remembered when they have ended.
        told: called when a job has ended.
        log: where failures are said.
    """

    def __init__(
        self, folder: Path, waiting: Path, press: Press, *, pdf: bool, png: bool, command: Sequence[str],
        patience: float, most: int, memory: int, kept: int, told: Callable[[Job], object], log: logging.Logger,
    ) -> None:  # fmt: skip
        self.folder: Path = folder
        self._kept: KeptFiles = KeptFiles(waiting, ".job", log)
        self.press: Press = press
        self.pdf: bool = pdf
        self.png: bool = png
        self.command: Sequence[str] = command
        self.patience: float = patience
        self.most: int = most
        self.memory: int = memory
        self.kept: int = kept
        self.trouble: str = ""
        self._told, self._log = told, log
        self._jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="dicomnet-printer", daemon=True)

    def start(self) -> None:
        """Begin to print; what an earlier process left half done goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".job-*"):
            shutil.rmtree(left, ignore_errors=True)
        self._resume()
        self._thread.start()

    def _resume(self) -> None:
        """Take up what an earlier process was told to print, and did not."""
        for uid, data in self._kept.read():
            try:
                values, films = unpacked(data)
                created = datetime.fromisoformat(values.pop("created"))
                job = Job(uid, films, **values, created=created)
            except (ValueError, KeyError, TypeError, OSError) as error:
                self._log.error("the print job %s that was kept cannot be read, and is left: %s", uid, error)
                continue
            self._waiting.append(job)
            self._jobs[uid] = job
        if self._waiting:
            self._log.info("%d print jobs of before are printed", len(self._waiting))

    def stop(self, patience: float) -> None:
        """End, once the job at hand is done; those that wait are printed after the next start."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(patience)

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def put(self, jobs: Sequence[Job]) -> bool:
        """Have jobs printed, all of them; or none, and False, where the queue, or the disk, has no place for them.

        Once this is true they are printed, whatever becomes of this process.
        """
        with self._changed:
            if len(self._waiting) + len(jobs) > self.most or self._stopped:
                return False
            if self._waiting and _held([*self._waiting, *jobs]) > self.memory:
                return False
            if not self._keep(jobs):
                return False
            self._waiting += jobs
            self._jobs |= {job.uid: job for job in jobs}
            ended = [uid for uid, one in self._jobs.items() if one.status in ("DONE", "FAILURE")]
            for uid in ended[: max(len(ended) - self.kept, 0)]:
                del self._jobs[uid]
            self._changed.notify_all()
        return True

    def _keep(self, jobs: Sequence[Job]) -> bool:
        try:
            for job in jobs:
                values = {
                    "copies": job.copies, "priority": job.priority, "originator": job.originator,
                    "created": job.created.isoformat(),
                }  # fmt: skip
                self._kept.put(job.uid, packed(values, job.films))
        except OSError as error:
            self._log.error("print jobs cannot be kept: %s", error.strerror)
            for job in jobs:
                self._kept.remove(job.uid)
            return False
        return True

    def get(self, uid: str) -> Job | None:
        """A job by its UID."""
        return self._jobs.get(uid)

    # ---- the printing ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
                if self._stopped:
                    return
                job = min(self._waiting, key=lambda one: _RANKS.get(one.priority, 1))
                self._waiting.remove(job)
                job.status, job.info = "PRINTING", "NORMAL"
            self._print(job)
            self._told(job)

    def _print(self, job: Job) -> None:
        status, info = "DONE", "NORMAL"
        try:
            job.files = self._written(job)
            self._hand_over(job)
            self.trouble = ""
        except (OSError, subprocess.SubprocessError) as error:
            status, info = "FAILURE", "SUPPLY EMPTY" if getattr(error, "errno", None) in _NO_ROOM else "UNKNOWN"
            self.trouble = info
            self._log.error("the print job %s has failed: %s", job.uid, error)
        except Exception:
            status, info = "FAILURE", "INVALID PAGE DES"
            self._log.exception("the print job %s has failed", job.uid)
        with self._changed:
            job.films = ()
            self._kept.remove(job.uid)
            job.status, job.info = status, info
            self._changed.notify_all()

    def _written(self, job: Job) -> tuple[Path, ...]:
        """Draw the films beside their place, and put them there when all are whole."""
        beside = self.folder / f".job-{job.uid}"
        beside.mkdir()
        try:
            canvas = Canvas(str(beside / f"{job.uid}.pdf"), pageCompression=1) if self.pdf else None
            for number, film in enumerate(job.films, 1):
                picture = draw(film, self.press)
                if self.png:
                    picture.save(beside / f"{job.uid}-{number}.png", dpi=(self.press.dots, self.press.dots))
                if canvas is not None:
                    _page(canvas, film, picture)
            if canvas is not None:
                canvas.save()
            return tuple(self._placed(path) for path in sorted(beside.iterdir()))
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _placed(self, path: Path) -> Path:
        place = self.folder / path.name
        os.replace(path, place)
        return place

    def _hand_over(self, job: Job) -> None:
        if not self.command:
            return
        values = {"pdf": self.folder / f"{job.uid}.pdf", "folder": self.folder, "uid": job.uid, "copies": job.copies}
        line = [part.format_map(values) for part in self.command]
        subprocess.run(line, check=True, timeout=self.patience, stdin=subprocess.DEVNULL, capture_output=True)


def _held(jobs: Sequence[Job]) -> int:
    """Bytes of the images and presentation LUTs of jobs; what several share is counted once."""
    films = [film for job in jobs for film in job.films]
    found = [content.pixels for film in films for content in film.contents.values()]
    found += [film.tone.table for film in films if film.tone.table is not None]
    return sum({id(one): int(one.nbytes) for one in found}.values())


def _page(canvas: Canvas, film: FilmPlan, picture: Any) -> None:
    """A page as large as the film, and on it the film as it was drawn, without loss."""
    width, height = (one * mm for one in film_millimetres(film.size, film.orientation))
    canvas.setPageSize((width, height))
    canvas.drawImage(ImageReader(picture), 0, 0, width, height)
    canvas.showPage()
