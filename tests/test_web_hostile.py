"""Clients that lie, stall, leave or send without end: each is cut at a bound, and frees what it held."""

from __future__ import annotations

import itertools
import os
import socket
import tracemalloc
from contextlib import suppress

import archives
import pytest
from rig import until
from web_archives import client, served
from websockets.sync.client import connect

from dicomnet.web import bodies, serving, store

MARK = "b0undary"
HEAD = f"POST /dicomweb/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/related; boundary={MARK}\r\n"
PART = f"\r\n--{MARK}\r\nContent-Type: application/dicom\r\n\r\n".encode()


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    with served(tmp_path_factory.mktemp("hostile") / "archive") as (archive, url):
        yield archive, url


def raw(url: str, *pieces: bytes) -> socket.socket:
    host, _, port = url.removeprefix("http://").rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=30)
    for piece in pieces:
        sock.sendall(piece)
    return sock


def answered(sock: socket.socket) -> bytes:
    """All that comes until the server closes, or has answered."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = sock.recv(65536)
        if not piece:
            break
        got += piece
    return got


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_body_without_a_length_in_chunks_and_line_feeds(web):
    _, url = web
    body = b"a preamble\n--" + MARK.encode() + b"\nContent-Type: application/dicom\n\n" + archives.part10(1)
    body += f"\n--{MARK}--".encode()
    pieces = [chunk(body[at : at + 7]) for at in range(0, len(body), 7)]
    with raw(url, f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), *pieces, b"0\r\n\r\n") as sock:
        assert answered(sock).startswith(b"HTTP/1.1 200")


def test_what_comes_of_one_request_is_committed_together(web, monkeypatch):
    monkeypatch.setattr(store, "GROUP_SECONDS", 3600.0)
    archive, url = web
    with client(f"{url}/dicomweb") as http:
        before = archive.storage.committer.groups
        body = b"".join(PART + archives.part10(number, study=7) for number in range(1, 31)) + f"\r\n--{MARK}--".encode()
        answer = http.post("/studies", content=body, headers={"Content-Type": f"multipart/related; boundary={MARK}"})
        assert len(answer.json()["00081199"]["Value"]) == 30
        assert archive.storage.committer.groups - before == 1


def test_what_came_is_stored_while_the_rest_stands_still(web, monkeypatch):
    monkeypatch.setattr(store, "GROUP_SECONDS", 0.05)
    body = chunk(PART + archives.part10(1, study=9) + PART + archives.part10(2, study=9)[:100])
    with raw(web[1], f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), body), client(f"{web[1]}/dicomweb") as http:
        until(lambda: http.get("/studies?StudyInstanceUID=1.2.9").status_code == 200)


def test_what_came_before_a_body_breaks_off_is_stored(web):
    _, url = web
    with client(f"{url}/dicomweb") as http:
        body = PART + archives.part10(1, study=8) + PART + archives.part10(2, study=8)[:100]
        answer = http.post("/studies", content=body, headers={"Content-Type": f"multipart/related; boundary={MARK}"})
        assert answer.status_code == 400
        until(lambda: http.get("/studies?StudyInstanceUID=1.2.8").status_code == 200)


def test_a_body_that_stands_still_is_given_up(web, monkeypatch):
    monkeypatch.setattr(bodies, "STALL", 0.2)
    with raw(web[1], f"{HEAD}Content-Length: 1000000\r\n\r\n".encode(), PART) as sock:
        assert answered(sock).startswith(b"HTTP/1.1 408")


def test_a_body_that_does_not_end_is_cut(web, monkeypatch):
    monkeypatch.setattr(store, "MOST_BODY", 100_000)
    with raw(web[1], f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), chunk(PART)) as sock:
        for _ in range(20):
            sock.sendall(chunk(b"x" * 10_000))
        assert answered(sock).startswith(b"HTTP/1.1 413")


def test_more_parts_than_there_may_be(web, monkeypatch):
    monkeypatch.setattr(store, "MOST_PARTS", 3)
    body = PART * 5 + f"\r\n--{MARK}--\r\n".encode()
    headers = {"content-type": f"multipart/related; boundary={MARK}"}
    with client(web[1]) as http:
        assert http.post("/dicomweb/studies", content=body, headers=headers).status_code == 413


@pytest.mark.parametrize("body", [
    PART + b"\0" * 500, PART + b"x" * 20, b"--" + MARK.encode(), b"", PART * 2, PART[:-2],
    f"\r\n--{MARK}\r\n".encode() + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
])  # fmt: skip
def test_a_body_that_is_none(web, body):
    headers = {"content-type": f"multipart/related; boundary={MARK}"}
    with client(web[1]) as http:
        for end in (b"", f"\r\n--{MARK}--\r\n".encode()):
            answer = http.post("/dicomweb/studies", content=body + end, headers=headers)
            assert answer.status_code in (400, 409)


def test_a_client_that_leaves_while_it_stores_frees_its_place(web):
    archive, url = web
    before = _open_files()
    for _ in range(20):
        raw(url, f"{HEAD}Content-Length: 99000000\r\n\r\n".encode(), PART, b"x" * 8_000_000).close()
    until(lambda: _open_files() <= before + 1)
    with client(url) as http:
        assert http.get("/health").status_code == 200
    assert archive.storage.failed == 0


def test_a_client_that_leaves_while_it_reads_frees_what_was_open(tmp_path):
    with served(tmp_path / "archive") as (archive, url):
        parts = b"".join(PART + archives.part10(number, size=1 << 20) for number in range(8))
        headers = {"content-type": f"multipart/related; boundary={MARK}"}
        with client(url) as http:
            stored = http.post("/dicomweb/studies", content=parts + f"\r\n--{MARK}--\r\n".encode(), headers=headers)
            assert stored.status_code == 200
        accept = b'Accept: multipart/related; type="application/dicom"\r\n\r\n'
        request = b"GET /dicomweb/studies/1.2.1 HTTP/1.1\r\nHost: localhost\r\n" + accept
        for _ in range(10):
            sock = raw(url, request)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
            sock.close()
        until(lambda: not _open_large_files())
        assert archive.holdings.index


def test_a_client_that_does_not_read_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "WRITE_STALL", 0.2)
    size, lost, connection_lost = 32 << 20, set[int](), serving._Protocol.connection_lost

    def remembered(protocol, error):
        connection_lost(protocol, error)
        lost.add(protocol.client[1])

    monkeypatch.setattr(serving._Protocol, "connection_lost", remembered)
    with served(tmp_path / "archive") as (_, url):
        with client(url) as http:
            headers = {"content-type": "application/dicom"}
            stored = http.post("/dicomweb/studies", content=archives.part10(1, size=size), headers=headers)
            assert stored.status_code == 200
        accept = b'Accept: multipart/related; type="application/dicom"\r\n\r\n'
        with raw(url, b"GET /dicomweb/studies/1.2.1 HTTP/1.1\r\nHost: localhost\r\n" + accept) as sock:
            until(lambda: sock.getsockname()[1] in lost)
            until(lambda: not _open_large_files())
            received = 0
            while piece := sock.recv(1 << 20):
                received += len(piece)
        assert 0 < received < size


def test_a_connection_without_a_request_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "FIRST_REQUEST", 0.2)
    half = b"GET / HTTP/1.1\r\nHost: x\r\nX-"
    with served(tmp_path / "archive") as (_, url), raw(url) as silent, raw(url, half) as slow:
        assert silent.recv(100) == b""
        assert slow.recv(100) == b""


def test_a_connection_is_not_held_by_a_byte_after_a_request(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "FIRST_REQUEST", 2.0)  # more than the request takes
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(tmp_path / "archive") as (_, url), raw(url, whole) as sock:
        got = b""
        while not got.endswith(b"ok\n"):
            got += sock.recv(1000)
        sock.sendall(b"G")
        assert sock.recv(100) == b""


def test_a_channel_outlives_the_wait_for_a_request(tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "FIRST_REQUEST", 2.0)  # more than the request takes
    with served(tmp_path / "archive") as (_, url):
        address = f"ws{url.removeprefix('http')}/dicomweb/subscribers/ONE"
        with connect(address, open_timeout=30) as channel, raw(url) as later:
            assert later.recv(100) == b""
            assert channel.ping().wait(30)


@pytest.mark.parametrize("more", [b"X-" + b"y" * (1 << 20) + b": z\r\n", b"x:y\r\n" * 300, b"x:y\r\n" * 300_000])
def test_a_head_without_end_is_cut(web, more):
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + more + b"\r\n"
    try:
        with raw(web[1], whole) as sock:
            got = answered(sock)
    except OSError:  # it is closed while this still sends
        got = b""
    assert got == b"" or got.startswith(b"HTTP/1.1 400")


def test_a_large_body_is_no_head(web):
    body = PART + b"x" * (3 * serving.MOST_HEAD) + f"\r\n--{MARK}--\r\n".encode()
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    with raw(web[1], f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode(), *pieces) as sock:
        assert answered(sock).startswith(b"HTTP/1.1 409")


def test_a_data_set_that_does_not_come_is_given_up(web, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    head = b"POST /dicomweb/workitems HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with raw(web[1], head) as sock:
        assert answered(sock).startswith(b"HTTP/1.1 408")


def _open_large_files() -> list[str]:
    """Of an archive, by this process."""
    paths = []
    for one in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            paths.append(os.readlink(f"/proc/self/fd/{one}"))
    return [path for path in paths if "/blobs/large/" in path]


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_large_instance_is_never_whole_in_memory(tmp_path):
    size, piece = 64 << 20, b"\1\2" * (1 << 19)
    start = archives.part10(1, size=64)[: -64 - 4] + size.to_bytes(4, "little")
    pixels = "/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/bulkdata/7FE00010"
    with served(tmp_path / "archive") as (_, url), client(url) as http:
        tracemalloc.start()
        try:
            body = itertools.chain([start], itertools.repeat(piece, size // len(piece)))
            stored = http.post("/dicomweb/studies", content=body, headers={"content-type": "application/dicom"})
            assert stored.status_code == 200
            one = http.get(pixels, headers={"range": "bytes=1-2"})
            assert (one.status_code, one.content, one.headers["content-length"]) == (206, b"\2\1", "2")
            assert tracemalloc.get_traced_memory()[1] < size // 2
        finally:
            tracemalloc.stop()
        whole = http.get(pixels)
        assert (whole.content, whole.headers["content-length"]) == (piece * (size // len(piece)), str(size))
