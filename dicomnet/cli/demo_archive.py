"""``dicomnet demo --archive``: an archive, a modality and a workstation, and what they say to each other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from time import monotonic

from ..archive.archive import Archive
from ..archive.checks import fsck
from ..archive.settings import ArchiveSettings
from ..archive.worklist_files import item_of_keywords
from ..client import Client, CommitmentScu, MppsScu, Outcome, QueryRetrieveScu, StoreScu, WorklistScu
from ..repository.worklist import Worklist
from .exits import Exit
from .output import Output, amount, counted

__all__ = ["tour"]

_STATION = "CT1"
_PROTOCOL = "Head routine"


def tour(samples: Path, directory: Path, output: Output) -> int:
    """Run an archive in a directory, and do with it what a hospital does in a day; each step is a line.

    Args:
        samples: Part 10 files; what is under ``dicomdirtests`` is stored.
        directory: empty; nothing stays open in it.
        output: where it says what it does.
    """
    failed = 0
    with Archive(directory / "archive", ArchiveSettings.make(directory / "archive", port=0)) as archive:
        host, port = archive.listener.address
        output.say(f"an archive listens at ARCHIVE@{host}:{port}, and keeps what it is given in a folder")
        with Client(f"ARCHIVE@{host}:{port}", calling=_STATION) as client:
            steps: tuple[tuple[str, Callable[[], tuple[str, bool]]], ...] = (
                ("C-STORE", lambda: _store(client, samples)),
                ("C-FIND", lambda: _find(client)),
                ("C-GET", lambda: _retrieve(client, directory / "workstation")),
                ("N-ACTION", lambda: _commit(client, archive)),
                ("MWL", lambda: _work(client, archive)),
                ("MPPS", lambda: _perform(client, archive)),
            )
            for name, step in steps:
                start = monotonic()
                said, good = step()
                failed += not good
                output.say(f"{name:9}{said}")
                output.record(step=name, said=said, good=good, seconds=round(monotonic() - start, 3))
        problems = len(list(fsck(archive.holdings)))
    output.summary(f"{counted(problems, 'problem')} found by fsck, {failed} of {len(steps)} steps failed",
                   problems=problems, failed=failed, steps=len(steps))  # fmt: skip
    return Exit.FAILURES if failed or problems else Exit.DONE


def _store(client: Client, samples: Path) -> tuple[str, bool]:
    with StoreScu(client) as scu:
        results = [one for one in scu.send(str(samples / "dicomdirtests")) if one.outcome is not Outcome.UNREADABLE]
    kept = sum(one.ok for one in results)
    size = amount(sum(one.size for one in results))
    said = (
        f"{kept} of {counted(len(results), 'instance')} stored, {size}; each was on the disk when it was acknowledged"
    )
    return said, 0 < kept == len(results)


def _find(client: Client) -> tuple[str, bool]:
    with QueryRetrieveScu(client) as scu:
        studies = list(scu.studies(PatientName="doe*"))
        series = sum(len(list(scu.series(study))) for study in studies)
    return f"{len(studies)} studies and {series} series of doe* found", bool(studies and series)


def _retrieve(client: Client, target: Path) -> tuple[str, bool]:
    target.mkdir()
    with QueryRetrieveScu(client) as scu:
        study = next(iter(scu.studies(PatientName="doe*")))
        got = scu.retrieve([study], to=target, by="get")
    files = sum(1 for _ in target.rglob("*.dcm"))
    return f"{counted(files, 'instance')} of the first study retrieved", got.ok and files > 0


def _commit(client: Client, archive: Archive) -> tuple[str, bool]:
    instances = [(place.cls, place.uid) for page in archive.holdings.places.pages() for place in page]
    with CommitmentScu(client) as scu:
        result = scu.commit(instances)
    return f"the archive has read {counted(len(instances), 'instance')} again, and is responsible for them", result.ok


def _work(client: Client, archive: Archive) -> tuple[str, bool]:
    Worklist(archive.holdings.database).put(item_of_keywords({
        "PatientName": "Doe^Jane", "PatientID": "DEMO1", "AccessionNumber": "A1", "RequestedProcedureID": "R1",
        "ScheduledProcedureStepSequence": [{
            "Modality": "CT", "ScheduledStationAETitle": _STATION, "ScheduledProcedureStepDescription": _PROTOCOL,
            "ScheduledProcedureStepStartDate": f"{date.today():%Y%m%d}", "ScheduledProcedureStepStartTime": "1015",
        }],
    }))  # fmt: skip
    with WorklistScu(client) as scu:
        items = list(scu.items(step={"ScheduledStationAETitle": _STATION}))
    return f"{counted(len(items), 'item')} booked for {_STATION}, and found by it", len(items) == 1


def _perform(client: Client, archive: Archive) -> tuple[str, bool]:
    with WorklistScu(client) as worklist, MppsScu(client) as scu:
        item = next(iter(worklist.items(step={"ScheduledStationAETitle": _STATION})))
        step = scu.begin(item)
        scu.complete(step, [{"SeriesInstanceUID": "2.25.1", "ProtocolName": _PROTOCOL}])
        left = list(worklist.items(step={"ScheduledStationAETitle": _STATION}))
    states = [one["00400020"]["Value"][0] for entry in Worklist(archive.holdings.database) for one in entry.steps]
    return f"the step was begun and completed; the worklist says {', '.join(states).lower()}", not left
