"""DICOMweb servers, started for a benchmark, and the least of a client: bare HTTP over connections that stay open."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from rigs import HANDICAPS, HOST, PeerMissing, dicomnet_command, free_port, program

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PATIENCE = 60.0  # seconds for a server to start
MARK = "dicomnet-benchmark-boundary"
DICOM = 'multipart/related; type="application/dicom"'
FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'


@dataclass
class Server:
    """A server that runs: its process, its port, and the path of DICOMweb."""

    name: str
    pid: int
    port: int
    root: str
    connection: http.client.HTTPConnection = field(init=False)
    used: float = 0.0

    def __post_init__(self) -> None:
        self.connection = self.connect()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(HOST, self.port, timeout=600)

    def get(self, path: str, accept: str, connection: http.client.HTTPConnection | None = None) -> bytes:
        if connection is None:
            connection = self.connection
            if time.monotonic() - self.used > 0.5:  # a server may have closed one that rested
                connection.close()
            self.used = time.monotonic()
        connection.request("GET", self.root + path, headers={"Accept": accept, "Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (self.name, path, answer.status, body[:200])
        return body

    def post(self, body: bytes) -> None:
        headers = {"Content-Type": f"{DICOM}; boundary={MARK}", "Accept": "application/dicom+json"}
        self.connection.close()  # a server may have closed one that rested
        self.connection.request("POST", f"{self.root}/studies", body, headers)
        answer = self.connection.getresponse()
        told = answer.read()
        assert answer.status == 200, (self.name, answer.status, told[:300])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in HANDICAPS}


@contextmanager
def ours(directory: Path) -> Iterator[Server]:
    command = [*dicomnet_command(), "archive", "run", str(directory / "archive"), "--port=0", f"--web={free_port()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
            yield Server("ours", process.pid, port, "/dicomweb")
        finally:
            process.terminate()


@contextmanager
def orthanc(directory: Path) -> Iterator[Server]:
    if not PLUGIN.exists():
        raise PeerMissing("Orthanc's DICOMweb plug-in")
    port, storage = free_port(), str(directory / "storage")
    settings = {
        "StorageDirectory": storage, "IndexDirectory": storage, "DicomPort": free_port(), "HttpPort": port,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "SyncStorageArea": True, "KeepAlive": True,
        "HttpThreadsCount": 8, "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    path = directory / "orthanc.json"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings))
    log = (directory / "log").open("w")
    with log, subprocess.Popen([program("Orthanc"), str(path)], stdout=log, stderr=log) as process:
        try:
            server = Server("Orthanc", process.pid, port, "/dicom-web")
            _until_it_answers(server)
            yield server
        finally:
            process.terminate()


def _until_it_answers(server: Server) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            server.get("/studies", "application/dicom+json")
        except (OSError, http.client.HTTPException):
            server.connection.close()
            time.sleep(0.1)  # another program's start has no other sign
        else:
            return
    raise AssertionError(f"{server.name} does not answer")


def instances(study: str, count: int, side: int) -> Iterator[bytes]:
    """CTs with the attributes of a real one, as Part 10 streams."""
    template = pydicom.dcmread(pydicom.data.get_testdata_file("CT_small.dcm"), stop_before_pixels=True)
    noise = np.random.default_rng(1).integers(0, 4096, side * side * 2, dtype="<u2").tobytes()
    for number in range(1, count + 1):
        ds = Dataset()
        ds.update(template)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = study, f"{study}.1", f"{study}.1.{number}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID, ds.InstanceNumber, ds.Rows, ds.Columns = f"P{study}", number, side, side
        ds.ImagePositionPatient = [0, 0, number]
        at = number * 1024 % (len(noise) // 2) & ~1
        ds.add_new(0x7FE00010, "OW", noise[at : at + side * side * 2])
        yield _written(ds)


def _written(ds: Dataset) -> bytes:
    out = pydicom.filebase.DicomBytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def multipart(parts: list[bytes]) -> bytes:
    head = f"\r\n--{MARK}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(piece for part in parts for piece in (head, part)) + f"\r\n--{MARK}--\r\n".encode()


def frames_of(server: Server, study: str, count: int, at_once: int) -> float:
    """Seconds for the only frame of each of so many instances, over so many connections, as a viewer asks."""
    connections = [server.connect() for _ in range(at_once)]

    def work(first: int) -> int:
        size = 0
        for number in range(first + 1, count + 1, at_once):
            path = f"/studies/{study}/series/{study}.1/instances/{study}.1.{number}/frames/1"
            size += len(server.get(path, FRAMES, connections[first]))
        return size

    with ThreadPoolExecutor(at_once) as threads:
        start = time.perf_counter()
        sizes = list(threads.map(work, range(at_once)))
        taken = time.perf_counter() - start
    assert sum(sizes)
    for connection in connections:
        connection.close()
    return taken
