"""`WebClient`, both faces, and `dicomnet web`: against our archive, and against Orthanc's plug-in."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
from contextlib import contextmanager

import archives
import httpx
import peers
import programs
import pydicom
import pytest
from web_archives import served

import dicomnet as dn
from dicomnet.client import WebClient, WebPeer, peer_directory
from dicomnet.client.aio import WebClient as AsyncWebClient
from dicomnet.client.web_peer import WebFailure
from dicomnet.errors import ConnectionFailed, InputFileError, InvalidArgument

NAMES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm")
FILES = sorted(path for path in peers.sample_files() if path.name in NAMES)
CT = pydicom.dcmread(next(path for path in FILES if path.name == "CT_small.dcm"))


@pytest.mark.parametrize(
    "address", ["https://[bad", "https://", "ftp://pacs.local", "https://pacs.local:99999", "https://pacs.local:x/"]
)
def test_what_is_no_address_is_named(address):
    with pytest.raises(InvalidArgument, match="is no address of DICOMweb"):
        WebPeer(address)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with served(tmp_path_factory.mktemp("client") / "archive", *FILES) as (_, url):
        yield f"{url}/dicomweb"


@pytest.fixture
def client(url):
    with WebClient(url) as client:
        yield client


class TestBlocking:
    def test_search(self, client):
        found = list(client.search("STUDY", {"PatientName": "CompressedSamples^CT1"}, fields=["StudyDescription"]))
        assert [one["0020000D"]["Value"] for one in found] == [[CT.StudyInstanceUID]]
        assert len(list(client.search("IMAGE"))) == 3
        assert len(list(client.search("IMAGE", limit=2))) == 2
        assert len(list(client.search("SERIES", study=CT.StudyInstanceUID))) == 1
        assert list(client.search("STUDY", {"PatientID": "nothing"})) == []

    def test_pages(self, client, monkeypatch):
        monkeypatch.setattr("dicomnet.client.sync.web._PAGE", 1)
        uids = [one["00080018"]["Value"][0] for one in client.search("IMAGE")]
        assert len(set(uids)) == 3

    def test_retrieve(self, client):
        (got,) = client.retrieve(CT.StudyInstanceUID)
        assert pydicom.dcmread(io.BytesIO(got)) == CT
        wanted = dn.uids.IMPLICIT_VR_LITTLE_ENDIAN
        (got,) = client.retrieve(CT.StudyInstanceUID, CT.SeriesInstanceUID, CT.SOPInstanceUID, transfer_syntax=wanted)
        assert pydicom.dcmread(io.BytesIO(got)).file_meta.TransferSyntaxUID == wanted
        assert client.metadata(CT.StudyInstanceUID)[0]["00280010"]["Value"] == [CT.Rows]

    def test_files_appear_whole_and_are_not_replaced(self, client, tmp_path):
        (first,) = client.save(tmp_path, CT.StudyInstanceUID)
        assert first == str(tmp_path / f"{CT.SOPInstanceUID}.dcm")
        (second,) = client.save(tmp_path, CT.StudyInstanceUID)
        assert second == str(tmp_path / f"{CT.SOPInstanceUID}-1.dcm")
        assert sorted(map(str, tmp_path.iterdir())) == sorted([first, second])

    def test_store_and_delete(self, client, tmp_path):
        path = tmp_path / "a.dcm"
        path.write_bytes(archives.part10(5, study=9))
        (result,) = client.store(path)
        assert result.ok
        assert result.sop_instance_uid == "1.2.9.1.5"
        (refused,) = client.store(path, study="1.2.10")
        assert (refused.ok, refused.path) == (False, path)
        client.delete("1.2.9")
        with pytest.raises(WebFailure) as gone:
            client.delete("1.2.9")
        assert gone.value.http_status == 404
        assert "no such study" in str(gone.value)

    def test_many_requests(self, client, tmp_path, monkeypatch):
        monkeypatch.setattr("dicomnet.client.sync.web.MOST_PARTS", 2)
        paths = []
        for number in range(5):
            paths.append(tmp_path / f"{number}.dcm")
            paths[-1].write_bytes(archives.part10(number + 1, study=11))
        assert [one.path for one in client.store(*paths) if one.ok] == paths
        assert len(list(client.retrieve("1.2.11"))) == 5

    def test_what_goes_wrong(self, client, tmp_path):
        with pytest.raises(WebFailure) as refused:
            list(client.search("STUDY", {"StudyDate": "yesterday"}))
        assert refused.value.http_status == 400
        for wrong in (
            lambda: list(client.search("PATIENT")),
            lambda: client.metadata("x"),
            lambda: WebClient("ftp://x"),
        ):
            with pytest.raises(InvalidArgument):
                wrong()
        with pytest.raises(InputFileError):
            list(client.store(tmp_path / "nothing.dcm"))
        with WebClient(f"http://127.0.0.1:{peers.free_port()}") as nowhere, pytest.raises(ConnectionFailed):
            list(nowhere.search())


def test_asynchronously(url, tmp_path):
    async def work():
        async with AsyncWebClient(url) as client:
            found = [one async for one in client.search("IMAGE", study=CT.StudyInstanceUID)]
            paths = [path async for path in client.save(tmp_path, CT.StudyInstanceUID)]
            results = [one async for one in client.store(*paths)]
            return found, paths, results

    found, paths, results = asyncio.run(work())
    assert len(found) == len(paths) == len(results) == 1
    assert results[0].ok
    assert pydicom.dcmread(paths[0]) == CT


def test_asynchronously_what_is_stored_is_fetched_and_deleted(url, tmp_path, monkeypatch):
    monkeypatch.setattr("dicomnet.client.aio.web.MOST_PARTS", 2)
    monkeypatch.setattr("dicomnet.client.aio.web._PAGE", 1)
    paths = []
    for number in range(1, 4):
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(archives.part10(number, study=12))

    async def work():
        async with AsyncWebClient(url) as client:
            stored = [one.path async for one in client.store(*paths) if one.ok]
            found = [one async for one in client.search("IMAGE", study="1.2.12", limit=2)]
            described = await client.metadata("1.2.12")
            whole = [one async for one in client.retrieve("1.2.12")]
            twice = {path for _ in range(2) for path in [one async for one in client.save(tmp_path, "1.2.12")]}
            refused = [one.ok async for one in client.store(paths[0], study="1.2.13")]
            await client.delete("1.2.12")
            with pytest.raises(WebFailure, match="no such study"):
                await client.delete("1.2.12")
            return stored, *map(len, (found, described, whole, twice)), refused

    assert asyncio.run(work()) == (paths, 2, 3, 3, 6, [False])


def test_asynchronously_what_goes_wrong(url, tmp_path):
    async def work():
        async with AsyncWebClient(url) as client:
            with pytest.raises(InvalidArgument):
                await anext(client.search("PATIENT"))
            with pytest.raises(InputFileError):
                await anext(client.store(tmp_path / "nothing.dcm"))
        async with AsyncWebClient(f"http://127.0.0.1:{peers.free_port()}") as nowhere:
            with pytest.raises(ConnectionFailed):
                await anext(nowhere.search())

    asyncio.run(work())


class TestByName:
    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        path = tmp_path / "peers.toml"
        monkeypatch.setenv("DICOMNET_PEERS", str(path))
        return path

    def test_a_peer_has_dicomweb_too_or_alone(self, place):
        place.write_text(
            '[pacs]\naddress = "PACS@pacs.local:104"\nweb = "https://pacs.local/dicomweb"\n'
            'identity = {name = "jane", passcode = "secret"}\n[web]\nweb = "http://localhost:1/dicomweb"\n'
        )
        pacs = WebPeer.of("pacs")
        assert (pacs.url, pacs.login) == ("https://pacs.local/dicomweb", ("jane", "secret"))
        assert "secret" not in repr(pacs)
        assert list(peer_directory.load()) == ["pacs"]
        assert list(peer_directory.load_web()) == ["pacs", "web"]
        with pytest.raises(InvalidArgument, match="Is it web"):
            WebPeer.of("webb")
        with pytest.raises(InvalidArgument):
            peer_directory.find("web")

    @pytest.mark.parametrize("text", ["[a]\n", "[a]\nweb = 1\n", '[a]\nwebb = "http://x"\n'])
    def test_what_makes_no_sense(self, place, text):
        place.write_text(text)
        with pytest.raises(InvalidArgument):
            WebPeer.of("a")


@pytest.mark.long
def test_the_programs(url, tmp_path):
    found = programs.run_here("web", "search", url, "STUDY", "-k", "PatientName=*CT1", "--json")
    first = json.loads(found.stdout.splitlines()[0])["match"]
    assert first["0020000D"]["Value"] == [CT.StudyInstanceUID]
    assert programs.summary(found.stdout) == {"matches": 1}
    got = programs.run_here("web", "get", url, CT.StudyInstanceUID, "--out", tmp_path / "got")
    assert got.stdout.startswith("1 instance, ")
    stored = programs.run_here("web", "store", url, tmp_path / "got", "--json")
    assert programs.summary(stored.stdout)["instances"] == 1
    (tmp_path / "got" / "x.dcm").write_bytes(b"\0" * 200)
    assert programs.run_here("web", "store", url, tmp_path / "got").returncode != 0
    wrong = programs.run_here("web", "search", url, "-k", "StudyDate=x")
    assert wrong.stderr.count("\n") == 1
    assert "400" in wrong.stderr


@contextmanager
def orthanc(directory):
    plugin = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
    port, storage = peers.free_port(), str(directory / "storage")
    settings = {
        "StorageDirectory": storage, "IndexDirectory": storage, "DicomPort": peers.free_port(), "HttpPort": port,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "Plugins": [plugin], "DicomWeb": {"Enable": True},
    }  # fmt: skip
    (directory / "orthanc.json").write_text(json.dumps(settings))
    command = [peers.peer_program("Orthanc"), str(directory / "orthanc.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=9)) as patient:  # until it listens
                patient.get(f"http://127.0.0.1:{port}/dicom-web/studies")
            yield f"http://127.0.0.1:{port}/dicom-web"
        finally:
            process.terminate()


@pytest.mark.long
def test_orthancs_dicomweb(tmp_path):
    with orthanc(tmp_path) as url, WebClient(url) as client:
        assert all(result.ok for result in client.store(*FILES))
        assert len(list(client.search("IMAGE"))) == len(FILES)
        (got,) = client.retrieve(CT.StudyInstanceUID, CT.SeriesInstanceUID, CT.SOPInstanceUID)
        assert pydicom.dcmread(io.BytesIO(got)).PixelData == CT.PixelData
        assert client.metadata(CT.StudyInstanceUID)[0]["00280010"]["Value"] == [CT.Rows]
