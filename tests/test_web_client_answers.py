"""`WebClient` and servers that answer what they should not, or not in time; both faces, over real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import archives
import pytest
import rig
from rig import PATIENCE

from dicomnet.client import WebClient
from dicomnet.client.aio import WebClient as AsyncWebClient
from dicomnet.client.multipart import BadMultipart
from dicomnet.client.web_peer import WebFailure
from dicomnet.errors import ConnectionFailed, DeadlineExceeded, OutputFileError, RemoteProtocolError

STUDY = "1.2.1"
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'


@pytest.fixture(params=["sync", "aio"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def client(face: str, url: str, **options: Any) -> Iterator[Any]:
    """A client of either face with blocking manners; what gives results gives them in a list."""
    if face == "sync":
        with WebClient(url, **options) as one:
            yield one
        return
    loop = rig.Loop()
    one = AsyncWebClient(url, **options)
    try:
        yield rig.Blocking(loop, one)
    finally:
        loop.run(one.close())
        loop.close()


def http(body: bytes, kind: str = "application/dicom+json", status: str = "200 OK", size: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body) if size is None else size}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@contextmanager
def answering(*answers: bytes, left: Callable[[], object] = bool) -> Iterator[str]:
    """A server that gives each request the next answer, and hangs up after ``left``; its address."""

    def serve() -> None:
        for answer in answers:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(PATIENCE)
                received = b""
                while not ends(received):
                    received += connection.recv(1 << 16)
                connection.sendall(answer)
                left()

    def ends(received: bytes) -> bool:
        head, _, body = received.partition(b"\r\n\r\n")
        chunked = b"chunked" in head
        return body.endswith(b"0\r\n\r\n") if chunked else b"\r\n\r\n" in received

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            thread.join(PATIENCE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "given.dcm"
    path.write_bytes(archives.part10(1))
    return path


# ---- in time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", http(PART, MULTIPART, size=999_999)])
def test_a_server_that_falls_silent_is_left_in_time(face: str, begun: bytes) -> None:
    done = threading.Event()
    with answering(begun, left=lambda: done.wait(PATIENCE)) as url, client(face, url, timeout=0.05) as one:
        with pytest.raises(DeadlineExceeded, match="does not answer in time") as caught:
            list(one.retrieve(STUDY))
        done.set()
    assert (caught.value.timeout, caught.value.seconds) == ("web", 0.05)


def test_a_silent_server_is_left_at_once(face: str) -> None:
    """From another thread, in both faces."""
    told: list[Exception] = []

    def search() -> None:
        try:
            list(one.search())
        except Exception as error:
            told.append(error)

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        client(face, f"http://127.0.0.1:{server.getsockname()[1]}") as one,
    ):
        waiting = threading.Thread(target=search)
        waiting.start()
        with server.accept()[0] as connection:
            assert connection.recv(4)
            one.interrupt()
            waiting.join(PATIENCE)  # long before the server's time is up
            assert [type(error) for error in told] == [ConnectionFailed]
        with pytest.raises(ConnectionFailed):
            list(one.search())  # and so does what comes later


# ---- what is fetched -------------------------------------------------------------------------------------------------


def test_an_answer_that_is_cut_leaves_nothing(face: str, tmp_path: Path) -> None:
    cut = http(PART + archives.part10(1), MULTIPART, size=999_999)
    with answering(cut) as url, client(face, url) as one, pytest.raises(ConnectionFailed, match="within an answer"):
        list(one.save(tmp_path, STUDY))
    assert list(tmp_path.iterdir()) == []


def test_a_last_boundary_that_is_missing_leaves_nothing(face: str, tmp_path: Path) -> None:
    endless = http(PART + archives.part10(1), MULTIPART)
    with answering(endless) as url, client(face, url) as one, pytest.raises(BadMultipart, match="last boundary"):
        list(one.save(tmp_path, STUDY))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_multipart_is_named(face: str) -> None:
    kinds = ["text/html", "multipart/related; type=x"]
    with answering(*[http(b"<html>", kind) for kind in kinds]) as url, client(face, url) as one:
        for kind in kinds:
            with pytest.raises(BadMultipart, match=f"answered with {kind}, which is no multipart"):
                list(one.retrieve(STUDY))


def test_an_instance_without_a_uid_gets_no_file(face: str, tmp_path: Path) -> None:
    nameless = archives.part10(1).replace(b"1.2.1.1.1", b"not a UID", 1)
    whole = http(PART + nameless + b"\r\n--b--", MULTIPART)
    with answering(whole) as url, client(face, url) as one, pytest.raises(RemoteProtocolError, match="without a UID"):
        list(one.save(tmp_path, STUDY))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_gone_is_the_callers_problem(face: str, tmp_path: Path) -> None:
    """It goes between two instances: the first was there."""
    directory = tmp_path / "to"
    several = b"".join(PART + archives.part10(number) + b"\r\n" for number in (1, 2)) + b"--b--"
    with answering(http(several, MULTIPART)) as url, client(face, url) as one:
        results = one.save(directory, STUDY)
        Path(next(results)).unlink()
        for other in directory.iterdir():
            other.unlink()
        directory.rmdir()
        with pytest.raises(OutputFileError):
            list(results)


# ---- what is stored, and refused -------------------------------------------------------------------------------------


def test_an_answer_that_does_not_say_what_became_of_it(face: str, path: Path) -> None:
    bodies = [
        b"<html>", b'"stored"', b"5", b"[1]", b'{"00081199": {"Value": [7]}}',
        b'{"00081198": {"Value": [{"00081155": {"Value": ["1.2"]}, "00081197": {"Value": ["x"]}}]}}',
    ]  # fmt: skip
    with answering(*map(http, bodies)) as url, client(face, url) as one:
        for _ in bodies:
            with pytest.raises(RemoteProtocolError, match="became of"):
                list(one.store(path))


def test_what_the_server_does_not_name_is_not_stored(face: str, path: Path) -> None:
    bodies = [b"{}", b"[]", b"null", b"[{}]", b'{"00081199": []}']
    with answering(*map(http, bodies)) as url, client(face, url) as one:
        for _ in bodies:
            (result,) = one.store(path)
            assert (result.ok, result.reason, result.path) == (False, 0x0110, path)


def test_a_refusal_is_told_in_the_servers_words_where_it_has_any(face: str, path: Path) -> None:
    bodies = {b'{"detail": "too many"}': ": too many"}
    bodies |= dict.fromkeys((b'{"detail": 5}', b"<html>", b"[]", b"", b"\xff"), "")
    refusals = [http(body, status="503 Too Busy") for body in bodies]
    with answering(*refusals) as url, client(face, url) as one:
        for body, words in bodies.items():
            with pytest.raises(WebFailure) as caught:
                list(one.store(path))
            assert str(caught.value).endswith(f"the server answers 503 Too Busy{words}")
            assert (caught.value.http_status, caught.value.content) == (503, body)


def test_what_is_found_is_an_array_of_data_sets_or_an_error(face: str) -> None:
    bodies = [b"<html>", b"{}", b"[1]"]
    with answering(*map(http, bodies)) as url, client(face, url) as one:
        for _ in bodies:
            with pytest.raises(RemoteProtocolError, match="answer is no"):
                list(one.search())
