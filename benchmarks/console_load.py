"""400 browsers that follow a server's clients, 50 people who search its studies, and instances that are stored.

    python benchmarks/console_load.py

Goals: 95 of 100 pages within 200 ms, and DICOM at 0.95 of its speed without them. Each person searches every five
seconds.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from pydicom import dcmread

FOLLOWERS, SEARCHERS, THINK, SECONDS, INSTANCES, ROWS = 400, 50, 5.0, 15.0, 200, 512
EACH = 4  # transfers before, and as many after; twice as many while browsers look
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
PLACE = Path(tempfile.mkdtemp(prefix="dicomnet-console-load-"))
os.environ["DICOMNET_SERVERS"] = str(PLACE)

from archives import CT, part10  # noqa: E402

import dicomnet as dn  # noqa: E402
from dicomnet.server import manager  # noqa: E402
from dicomnet.server.admin import Client  # noqa: E402
from dicomnet.server.directory import at  # noqa: E402

STORE = """
import pickle, sys, time
import dicomnet as dn
instances = pickle.load(open(sys.argv[2], "rb"))
with dn.connect(sys.argv[1], calling="CT1", contexts=dn.contexts.storage([sys.argv[3]])) as association:
    begin = time.perf_counter()
    for one in instances:
        assert association.store(one).status.is_success
    print(time.perf_counter() - begin)
"""


def series(number: int) -> list[bytes]:
    """Instances of half a megabyte each."""
    ds = dcmread(io.BytesIO(part10(1)), force=True)
    ds.Rows = ds.Columns = ROWS
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 15, 0, 1, "MONOCHROME2"
    ds.add_new("PixelData", "OW", bytes(ROWS * ROWS * 2))
    found = []
    for instance in range(INSTANCES):
        ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.{900 + number}", f"1.2.{900 + number}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.{900 + number}.1.{instance}"
        written = io.BytesIO()
        ds.save_as(written, enforce_file_format=True)
        found.append(written.getvalue())
    return found


def stored(peer: str, number: int) -> float:
    """Seconds to store a series, by a process of its own."""
    file = PLACE / f"series{number}"
    command = [sys.executable, "-c", STORE, peer, str(file), CT]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


async def follow(client: httpx.AsyncClient, begun: asyncio.Semaphore) -> None:
    async with client.stream("GET", "/live?topic=clients&server=arch") as response:
        assert response.status_code == 200
        begun.release()
        async for _ in response.aiter_bytes():
            pass


async def search(client: httpx.AsyncClient, number: int, stop: asyncio.Event, times: list[float]) -> None:
    await asyncio.sleep(THINK * number / SEARCHERS)
    while not stop.is_set():
        begin = time.perf_counter()
        query = f"/servers/arch/studies?patient_name=Doe{number + 1}&modality=CT"
        response = await client.get(query, headers={"HX-Request": "true"})
        times.append(time.perf_counter() - begin)
        assert response.status_code == 200
        try:
            await asyncio.wait_for(stop.wait(), THINK)
        except TimeoutError:
            continue


async def measure(url: str, peer: str) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
        alone = [await asyncio.to_thread(stored, peer, number) for number in range(1, EACH + 1)]
        times = list[float]()
        stop, begun = asyncio.Event(), asyncio.Semaphore(0)
        followers = [asyncio.create_task(follow(client, begun)) for _ in range(FOLLOWERS)]
        for _ in followers:
            await begun.acquire()
        people = [asyncio.create_task(search(client, number, stop, times)) for number in range(SEARCHERS)]
        begin = time.monotonic()
        together = [await asyncio.to_thread(stored, peer, number) for number in range(EACH + 1, 3 * EACH + 1)]
        await asyncio.sleep(max(0.0, begin + SECONDS - time.monotonic()))
        stop.set()
        await asyncio.gather(*people)
        for one in followers:
            one.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        alone += [await asyncio.to_thread(stored, peer, number) for number in range(3 * EACH + 1, 4 * EACH + 1)]
    times.sort()
    print(f"{len(times)} searches: median {statistics.median(times) * 1000:.0f} ms, "
          f"p95 {times[int(len(times) * 0.95)] * 1000:.0f} ms")  # fmt: skip
    before, meanwhile = statistics.median(alone), statistics.median(together)
    print(f"{2 * EACH} times {INSTANCES} instances alone in {before:.3f} s, together in {meanwhile:.3f} s: "
          f"{before / meanwhile:.3f} of the speed")  # fmt: skip


def main() -> None:
    server = at("arch")
    server.create({"server.ae_title": "ARCH", "listen.port": 0, "addins.enable": ["archive"]})
    manager.start(server)
    command = [sys.executable, "-m", "dicomnet", "console", "run", "--listen", "127.0.0.1:0"]
    console = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert console.stdout is not None
        url = console.stdout.readline().split()[-1].rstrip("/")
        with Client(server.path) as admin:
            peer = f"ARCH@{admin.status()['listening']['plain']}"
        with dn.connect(peer, calling="CT1", contexts=dn.contexts.storage([CT])) as association:
            for study in range(1, 101):
                association.store(part10(1, study=study, PatientName=f"Doe{study}^Jane"))
        for number in range(4 * EACH + 1):
            (PLACE / f"series{number}").write_bytes(pickle.dumps(series(number)))
        stored(peer, 0)
        asyncio.run(measure(url, peer))
    finally:
        console.send_signal(signal.SIGTERM)
        console.wait()
        manager.stop(server, 0)
        shutil.rmtree(PLACE)


if __name__ == "__main__":
    main()
