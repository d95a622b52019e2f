"""A retrieve of 1,000 instances from Orthanc: cancelled, killed, complete in the end, and opened in the viewer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peers
import programs
import pytest
from pages import Viewer, telling_points
from phantoms import Phantom, windowed
from test_interop_services import orthanc

import dicomnet as dn
from dicomnet.repository.blob_source import data_set_of
from dicomnet.repository.holdings import Holdings
from dicomnet.server.admin import Client
from dicomnet.server.directory import ServerDirectory
from dicomnet.web.viewer import viewer_files
from dicomnet.workstation.settings import place_of

pytestmark = [pytest.mark.long, pytest.mark.deadline(300)]

COUNT, SIZE = 1000, 64


def thousand() -> Phantom:
    """A thousand slices with an L that is nowhere the same: its corner wanders, and its grey grows."""
    volume = np.full((COUNT, SIZE, SIZE), -200.0)
    for number, plane in enumerate(volume):
        row, column = 8 + number % 24, 6 + number % 30
        plane[row : row + 28, column : column + 6] = plane[row + 22 : row + 28, column : column + 22] = 20 + number / 10
    return Phantom(9, "Thousand", volume, 3.0, 1.0)


class Drama(NamedTuple):
    """What happened, and where the workstation is."""

    cancelled: dict[str, Any]
    killed: dict[str, Any]
    done: dict[str, Any]
    received: int
    directory: Path
    url: str
    held: dict[str, bytes]


@contextmanager
def running(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A workstation in a process of its own, and the address of its web port."""
    command = programs.command("workstation", "run", str(directory))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=programs.ROOT)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("listening on "), lines
        yield process, lines[1].removeprefix("viewer on ").strip().removesuffix("viewer/")
    finally:
        programs.end(process)


def until(client: Client, last: int, number: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The job, when it is as wanted."""
    for event in client.events(last, "workstation.job"):
        job: dict[str, Any] = event["data"]["job"]
        if job["id"] == number and wanted(job):
            return job
    raise AssertionError("the workstation has ended")


@pytest.fixture(scope="module")
def drama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drama]:
    folder, phantom = tmp_path_factory.mktemp("ws"), thousand()
    directory = folder / "ws"
    options = ("--port", "0", "--web", "0", "-q")
    assert programs.run("workstation", "create", str(directory), *options).returncode == 0
    with orthanc(folder) as archive:
        contexts = dn.contexts.storage([dn.uids.CT_IMAGE_STORAGE])
        with dn.connect(archive.peer, contexts=contexts) as association:
            assert all(one.ok for one in association.store_many(list(phantom.files())))
        with running(directory) as (process, _), Client(directory) as client:
            client.add_ae("ORTHANC", host="127.0.0.1", port=int(archive.peer.rpartition(":")[2]))
            last = client.snapshot()["last_event"]
            job = client.send("WorkstationRetrieve", {"peer": "ORTHANC", "study": phantom.study})["job"]
            until(client, last, job["id"], lambda one: one["present"] >= 100)
            client.send("WorkstationCancel", {"id": job["id"]})
            cancelled = client.send("WorkstationJob", {"id": job["id"]})["job"]
            last = client.snapshot()["last_event"]
            client.send("WorkstationRetry", {"id": job["id"]})
            killed = until(client, last, job["id"], lambda one: one["state"] == "running" and one["present"] >= 500)
            process.kill()
            process.wait(30)
        with running(directory) as (process, url), Client(directory) as client:
            last = client.snapshot()["last_event"]
            done = client.send("WorkstationJob", {"id": job["id"]})["job"]
            if done["state"] != "done":
                done = until(client, last, job["id"], lambda one: one["state"] == "done")
            received = client.send("WorkstationStatus")["received"]
            yield Drama(cancelled, killed, done, received, directory, url, archive.held())


def test_it_is_complete_in_spite_of_all(drama: Drama) -> None:
    assert drama.cancelled["state"] == "cancelled"
    assert 100 <= drama.cancelled["present"] < COUNT
    assert 500 <= drama.killed["present"] < COUNT
    assert (drama.done["expected"], drama.done["present"]) == (COUNT, COUNT)
    # What was there when the process was killed was not fetched again, and nothing that was told to be there was lost.
    assert drama.done["found"] >= drama.killed["present"]
    assert drama.received == COUNT - drama.done["found"]
    with Holdings(*place_of(ServerDirectory(drama.directory))) as holdings:
        here = {place.uid: data_set_of(holdings.blobs, place.ref) for page in holdings.places.pages() for place in page}
    assert here == drama.held


def test_it_opens_in_the_viewer(drama: Drama, browser: Any) -> None:
    if viewer_files() is None:
        peers.absent("the viewer (make viewer)")
    phantom = thousand()
    viewer = Viewer(browser.new_page(), drama.url)
    try:
        viewer.open(phantom)
        for image in (3, 517, 998):
            number = viewer.scroll_to(image, phantom)
            indices = np.insert(telling_points(phantom.volume[number], 90), 0, number, axis=1)
            wanted = windowed(phantom.volume[tuple(indices.T)])
            assert np.abs(viewer.grey(phantom.world(indices)) - wanted).mean() < 6
    finally:
        viewer.page.close()
