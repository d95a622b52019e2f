"""Destinations without DIMSE: STOW-RS to our archive and to Orthanc, an object store, and what their answers mean."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import archives
import certificates
import httpx
import peers
import pytest
import routers
from programs import peer
from rig import PATIENCE
from routers import everything_to, part10, routing, send, settled

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import web_application
from dicomnet.dataset.codec import open_source
from dicomnet.repository.blob_source import data_set_of
from dicomnet.router.destinations import StowDestination
from dicomnet.router.senders import Load, Verdict
from dicomnet.router.stow import StowSender, verdict_on
from dicomnet.web.serving import WebServing

INSTANCES = tuple(part10(number, size=4096) for number in range(5))


def stow(url, *more):
    return "\n".join(['kind = "stow"', f'url = "{url}"', *more])


def test_our_archive_by_stow_rs(tmp_path):
    archives.make(tmp_path / "archive")
    with Archive(tmp_path / "archive") as archive:
        app = web_application(archive.holdings, archive.storage)
        with WebServing(app, "127.0.0.1", 0) as serving:
            rules = everything_to(A=stow(f"{serving.url}dicomweb"))
            with routing(tmp_path / "router", rules) as router:
                send(router, *INSTANCES, part10(9, size=3 << 20))
                assert settled(router) == {"A": {"sent": 6}}
            places = archive.holdings.places.of([f"1.2.1.1.{number}" for number in (*range(5), 9)])
            assert len(places) == 6
            held = data_set_of(archive.holdings.blobs, places["1.2.1.1.9"].ref)
            assert held == routers.data_set(9, size=3 << 20)


@pytest.mark.long
def test_orthanc_by_stow_rs(tmp_path):
    """Goal 7: one that exists, with its plug-in for DICOMweb."""
    port = peers.free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "storage"), "IndexDirectory": str(tmp_path / "storage"), "HttpPort": port,
        "DicomPort": peers.free_port(), "AuthenticationEnabled": False, "DicomWeb": {"Enable": True},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with peer([peers.peer_program("Orthanc"), tmp_path / "orthanc.json"], port):
        rules = everything_to(A=stow(f"http://127.0.0.1:{port}/dicom-web"))
        with routing(tmp_path / "router", rules) as router:
            send(router, *INSTANCES)
            assert settled(router) == {"A": {"sent": 5}}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/instances", timeout=30) as answer:
            assert len(json.load(answer)) == 5


@contextmanager
def serving(answer, tls=None):
    """A web server that gives everything to a function: the path, the headers, the body; it says what is answered."""
    taken = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def take(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            taken.append((self.path, dict(self.headers), body))
            code, said = answer(self.path)
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("ETag", '"x"')
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_PUT = take  # noqa: N815 its names

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_is_away_gets_it_later_and_one_that_refuses_parks_it(tmp_path):
    answers = iter([(503, b""), (401, b""), (400, b"odd"), (400, b"odd")])
    with serving(lambda path: next(answers)) as (port, taken):
        rules = everything_to(A=stow(f"http://127.0.0.1:{port}/x", "tries = 2"))
        with routing(tmp_path, rules) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"parked": 1}}
            [item] = router.spool.queue.items()
        assert (item.attempts, item.why) == (2, "HTTP 400 Bad Request")
        assert [one[0] for one in taken] == ["/x/studies"] * 4


def test_a_server_that_says_nothing_holds_no_stop(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        sender = StowSender(StowDestination(kind="stow", url=f"http://127.0.0.1:{server.getsockname()[1]}/x"), "ROUTER")
        sending = threads.submit(lambda: list(sender.send([Load(None, open_source(part10(1)))])))
        with server.accept()[0] as connection:
            assert connection.recv(4)
            sender.abort()
            [result] = sending.result(PATIENCE)  # long before the server's time is up
        assert result.verdict is Verdict.UNREACHABLE
        sender.close()


def test_tls_and_tokens(tmp_path):
    import ssl

    authority = certificates.Authority(tmp_path)
    issued = authority.issue("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    (tmp_path / "token").write_text("secret\n")
    with serving(lambda path: (200, b"1.2.1.1.1"), context) as (port, taken):
        more = (f'tls_ca = "{authority.file}"', f'token = "{tmp_path}/token"')
        with routing(tmp_path / "r", everything_to(A=stow(f"https://localhost:{port}", *more))) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 1}}
            (tmp_path / "token").write_text("another\n")
            os.utime(tmp_path / "token", (1, 1))
            send(router, part10(1, StudyDate="20200101"))
            assert settled(router) == {"A": {"sent": 2}}
        assert [one[1]["Authorization"] for one in taken] == ["Bearer secret", "Bearer another"]
        with routing(tmp_path / "s", everything_to(A=stow(f"https://localhost:{port}"))) as router:
            send(router, part10(1))
            routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 0)
            assert "certificate" in router.forwarder.health["A"].why.lower()


def answer(code, *reasons, stored=False):
    items = [{"00081197": {"vr": "US", "Value": [one]}} for one in reasons]
    body = {"00081198": {"vr": "SQ", "Value": items}} if items else {}
    if stored:
        body["00081199"] = {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]}
    return httpx.Response(code, json=body)


def xml(code, *reasons):
    """An answer in the native model, in which the instance has failed."""
    item = '<DicomAttribute tag="00081155" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>'
    for one in reasons:
        item += f'<DicomAttribute tag="00081197" vr="US"><Value number="1">{one}</Value></DicomAttribute>'
    failed = f'<DicomAttribute tag="00081198" vr="SQ"><Item number="1">{item}</Item></DicomAttribute>'
    return httpx.Response(code, text=f"<NativeDicomModel>{failed}</NativeDicomModel>")


NO_REASON = {"00081198": {"Value": [{"00081155": {"Value": ["1.2.3"]}, "00081197": {"vr": "US"}}]}}
NULL = {"00081198": {"vr": "SQ", "Value": [{"00081155": {"Value": ["1.2.3"]}, "00081197": {"Value": [None]}}]}}


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        (answer(200, stored=True), Verdict.DELIVERED),
        (answer(200), Verdict.REFUSED),
        (httpx.Response(200, text="<Value>1.2.3</Value>"), Verdict.DELIVERED),
        (httpx.Response(200, text="<xml/>"), Verdict.REFUSED),
        (answer(202, 0x0111), Verdict.DELIVERED),
        (answer(409), Verdict.REFUSED),
        (httpx.Response(409), Verdict.REFUSED),
        (httpx.Response(409, text="<html>Conflict</html>"), Verdict.REFUSED),
        (xml(200), Verdict.REFUSED),
        (xml(202, 0xC000), Verdict.REFUSED),
        (xml(409, 0xA700), Verdict.BUSY),
        (xml(409, 0x0111), Verdict.DELIVERED),
        (httpx.Response(202, json=NO_REASON), Verdict.REFUSED),
        (httpx.Response(202, json=[NO_REASON]), Verdict.REFUSED),
        (httpx.Response(202, json=[{}, NO_REASON]), Verdict.REFUSED),
        (httpx.Response(202, json=NULL), Verdict.REFUSED),
        (answer(409, 0x0111), Verdict.DELIVERED),
        (answer(409, 0xA900), Verdict.REFUSED),
        (answer(409, 0xA700), Verdict.BUSY),
        (answer(202, 0xC000), Verdict.REFUSED),
        (answer(400), Verdict.REFUSED),
        (answer(500), Verdict.REFUSED),
        (answer(503), Verdict.UNREACHABLE),
        (answer(429), Verdict.UNREACHABLE),
        (answer(401), Verdict.UNREACHABLE),
        (answer(301), Verdict.UNREACHABLE),
        (httpx.Response(200, json=["nonsense"]), Verdict.REFUSED),
    ],
)
def test_what_an_answer_means(response, verdict):
    assert verdict_on(response, "1.2.3")[0] is verdict


def test_an_object_store(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with serving(lambda path: (200, b"")) as (port, taken):
        endpoint = f'endpoint = "http://127.0.0.1:{port}"\nplain_http = true'
        rules = everything_to(A=f'kind = "s3"\nurl = "s3://bucket/in"\n{endpoint}')
        with routing(tmp_path, rules) as router:
            send(router, INSTANCES[1])
            assert settled(router) == {"A": {"sent": 1}}
        assert taken[0][0].partition("?")[0] == "/bucket/in/1.2.1/1.2.1.1/1.2.1.1.1.dcm"
        assert taken[0][2].endswith(routers.data_set(1, size=4096))


def test_an_object_store_that_is_away_costs_no_try(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    endpoint = f'endpoint = "http://127.0.0.1:{peers.free_port()}"\nplain_http = true'
    with routing(tmp_path, everything_to(A=f'kind = "s3"\nurl = "s3://bucket"\n{endpoint}')) as router:
        send(router, part10(1))
        routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 0)
        assert router.spool.queue.items()[0].why.startswith("s3://bucket: ")


def test_a_user_and_a_password_and_a_certificate(tmp_path):
    import base64
    import ssl

    authority = certificates.Authority(tmp_path)
    issued, ours = authority.issue("localhost"), authority.issue("router")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    (tmp_path / "password").write_text("s3cret\n")
    with serving(lambda path: (200, b"1.2.1.1.1"), context) as (port, taken):
        named = [f'tls_ca = "{authority.file}"', 'user = "me"', f'password = "{tmp_path}/password"']
        known = (*named, f'tls_cert = "{ours.cert}"', f'tls_key = "{ours.key}"')
        with routing(tmp_path / "r", everything_to(A=stow(f"https://localhost:{port}", *known))) as router:
            send(router, part10(1))
            assert settled(router) == {"A": {"sent": 1}}
    assert taken[0][1]["Authorization"] == "Basic " + base64.b64encode(b"me:s3cret").decode()


@pytest.mark.parametrize(("more", "says"), [
    ('token = "{}/none"', "none cannot be read"), ('user = "me"\npassword = "{}/bytes"', "bytes cannot be read"),
    ('tls_ca = "{}/bytes"', "the TLS files of https://localhost:1 cannot be used"),
    ('tls_cert = "{}/none"', "the TLS files of https://localhost:1 cannot be used"),
])  # fmt: skip
def test_files_that_cannot_be_used_are_named_and_the_instance_waits(tmp_path, more, says):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with routing(tmp_path / "r", everything_to(A=stow("https://localhost:1", more.format(tmp_path)))) as router:
        send(router, part10(1))
        routers.wait_for(router, lambda: router.forwarder.health["A"].failures > 0)
        assert says in router.forwarder.health["A"].why
        assert routers.states(router.spool) == {"A": {"waiting": 1}}
