"""A server of shipped add-ins with DCMTK, Orthanc and pynetdicom as its peers, plain and over TLS."""

from __future__ import annotations

import json
import ssl
import subprocess
from contextlib import contextmanager

import httpx
import peers
import programs
import pytest
from archives import part10
from certificates import Authority
from pydicom import dcmread
from servers import make_settings

import dicomnet as dn
from dicomnet.server import Server
from dicomnet.server.ae_entry import AEEntry

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture(params=["plain", "tls"])
def secured(request):
    return request.param == "tls"


@contextmanager
def serving(directory, authority, **tables):
    issued = authority.issue("server")
    settings = make_settings(
        listen={"tls_port": 0},
        tls={"cert": str(issued.cert), "key": str(issued.key), "ca": str(authority.file)},
        addins={"enable": ["verification", "storage-folder"]},
        addin={"storage-folder": {"durable": False}},
        **tables,
    )
    with Server(settings, directory=directory) as server:
        yield server


def stored(directory):
    return [dcmread(path).SOPInstanceUID for path in (directory / "data" / "storage-folder").rglob("*.dcm")]


def test_dcmtk_echoes_and_stores(tmp_path, authority, secured):
    client = authority.issue("client")
    (tmp_path / "1.dcm").write_bytes(part10(1))
    tls = ["+tls", client.key, client.cert, "+cf", authority.file] if secured else []
    with serving(tmp_path / "s", authority) as server:
        host, port = server.listeners["tls" if secured else "plain"].address
        for program, files in (("echoscu", []), ("storescu", [tmp_path / "1.dcm"])):
            command = [peers.peer_program(program), "-aec", "SERVER", *tls, host, port, *files]
            subprocess.run([str(one) for one in command], check=True, timeout=60)
        assert stored(tmp_path / "s") == ["1.2.1.1.1"]


def test_pynetdicom_echoes_and_stores(tmp_path, authority, secured):
    client = authority.issue("client")
    (tmp_path / "1.dcm").write_bytes(part10(1))
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(client.cert, client.key)
    entity = peers.peer_module("pynetdicom").AE()
    entity.add_requested_context(VERIFICATION)
    entity.add_requested_context(CT, "1.2.840.10008.1.2.1")
    with serving(tmp_path / "s", authority) as server:
        host, port = server.listeners["tls" if secured else "plain"].address
        tls_args = (context, "localhost") if secured else None
        association = entity.associate(host, port, ae_title="SERVER", tls_args=tls_args)
        assert association.is_established
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(tmp_path / "1.dcm").Status == 0
        association.release()
        assert stored(tmp_path / "s") == ["1.2.1.1.1"]


@contextmanager
def orthanc(directory, authority, modality):
    """An Orthanc that knows the server, and a client of its web interface."""
    issued, port, web = authority.issue("orthanc"), peers.free_port(), peers.free_port()
    settings = {
        "StorageDirectory": str(directory / "storage"), "IndexDirectory": str(directory / "storage"),
        "DicomAet": "ORTHANC", "DicomPort": port, "HttpPort": web, "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomModalities": {"server": modality}, "Plugins": [],
        "DicomTlsEnabled": bool(modality["UseDicomTls"]), "DicomTlsCertificate": str(issued.cert),
        "DicomTlsPrivateKey": str(issued.key), "DicomTlsTrustedCertificates": str(authority.file),
    }  # fmt: skip
    (directory / "orthanc.json").write_text(json.dumps(settings))
    with (
        programs.peer([peers.peer_program("Orthanc"), directory / "orthanc.json"], web),
        httpx.Client(base_url=f"http://127.0.0.1:{web}", timeout=60) as http,
    ):
        yield port, http


@pytest.mark.long
def test_orthanc_echoes_and_stores_and_is_echoed(tmp_path, authority, secured):
    with serving(tmp_path / "s", authority) as server:
        host, port = server.listeners["tls" if secured else "plain"].address
        modality = {"AET": "SERVER", "Host": host, "Port": port, "UseDicomTls": secured}
        with orthanc(tmp_path, authority, modality) as (theirs, http):
            assert http.post("/modalities/server/echo", content="{}").status_code == 200
            uploaded = http.post("/instances", content=part10(1, size=4096)).json()["ID"]
            sent = http.post("/modalities/server/store", content=uploaded).json()
            assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (1, 0)
            server.base.ae_titles.add(AEEntry(title="ORTHANC", host="localhost", port=theirs, tls=secured))
            assert server.base.requests.echo("ORTHANC").is_success
            server.base.requests.close()  # Orthanc does not end before its callers do
        assert stored(tmp_path / "s") == ["1.2.1.1.1"]


def test_a_certificate_of_a_peer_is_rotated_without_a_restart(tmp_path, authority):
    other = Authority(tmp_path, "Other CA")
    before, after = authority.issue("old"), other.issue("new")
    with serving(tmp_path / "s", authority) as server:
        titles = server.base.ae_titles
        titles.add(AEEntry(title="CT1", certificates=(before.fingerprint,)))
        host, port = server.listeners["tls"].address

        def echo(issued):
            tls = dn.TLS(ca=authority.file, cert=issued.cert, key=issued.key, check_name=False)
            with dn.client.Client(f"dicoms://SERVER@{host}:{port}", calling="CT1", tls=tls) as client:
                return client.echo().is_success

        assert echo(before)
        with pytest.raises(dn.DicomNetError):  # its authority is not known
            echo(after)
        authority.file.write_bytes(authority.file.read_bytes() + other.file.read_bytes())
        with pytest.raises(dn.AssociationRejected):  # its title is bound to the old one
            echo(after)
        titles.update("CT1", AEEntry(title="CT1", certificates=(before.fingerprint, after.fingerprint)))
        assert echo(after)
        assert echo(before)
        titles.update("CT1", AEEntry(title="CT1", certificates=(after.fingerprint,)))
        with pytest.raises(dn.AssociationRejected):
            echo(before)
