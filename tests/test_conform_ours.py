"""Our own providers and users pass every case of the conformance suite, over both faces."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from certificates import Authority

import dicomnet as dn
from dicomnet import aio, sync
from dicomnet.cli.app import run
from dicomnet.cli.exits import Exit
from dicomnet.conform import wire
from dicomnet.conform.catalog import PROVIDER_CASES
from dicomnet.conform.listening import USER_CASES, UserRunner
from dicomnet.conform.runner import Outcome
from dicomnet.protocol.negotiation import ProposedContext

FACES = ("sync", "aio")
CONTEXTS = [ProposedContext(uid, (wire.IMPLICIT,)) for uid in (wire.VERIFICATION, "1.2.3")]


def conform(*arguments: str) -> int:
    """The command, in this process; its exit code."""
    return run(["conform", *arguments])


def keep_nothing(request: dn.StoreRequest) -> None:
    request.file.discard()


@contextmanager
def provider(face: str, spool: str | None = None, tls: dn.TLS | None = None, **timeouts: float) -> Iterator[str]:
    """A provider of ours, with its address."""
    kind = sync.Listener if face == "sync" else aio.Listener
    listener = kind(port=0, tls=tls, timeouts=dn.Timeouts(**timeouts))
    if spool is not None:
        listener.on_store(spool=spool)(keep_nothing)
    with blocking(listener):
        yield f"127.0.0.1:{listener.address[1]}"


@contextmanager
def blocking(listener: sync.Listener | aio.Listener) -> Iterator[None]:
    """Serve in a thread, whichever face it is."""
    if isinstance(listener, sync.Listener):
        with listener:
            yield
        return
    started, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with listener:
            started.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert started.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
        loop.close()


@pytest.mark.long
@pytest.mark.deadline(300)
@pytest.mark.parametrize("face", FACES)
def test_our_provider_passes_every_case(face, tmp_path, capsys):
    with provider(face, str(tmp_path), artim=3) as peer:
        code = conform(peer, "--strict", "--json", "--timeout", "5")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    summary = lines.pop()["summary"]
    assert [line for line in lines if line["outcome"] != "passed"] == []
    assert code == Exit.DONE
    assert summary["conforms"]
    assert summary["cases"] == len(PROVIDER_CASES) - sum(found.slow for found in PROVIDER_CASES) >= 150
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority, and what it issued to a provider and a user."""
    authority = Authority(tmp_path_factory.mktemp("papers"))
    return authority, authority.issue("server"), authority.issue("client")


@pytest.mark.long
@pytest.mark.deadline(300)
@pytest.mark.parametrize("face", FACES)
def test_our_provider_passes_every_case_over_tls(face, tmp_path, capsys, papers):
    authority, server, client = papers
    options = ("--tls-ca", str(authority.file), "--tls-cert", str(client.cert), "--tls-key", str(client.key))
    with provider(face, str(tmp_path), dn.TLS(ca=authority.file, cert=server.cert, key=server.key), artim=3) as peer:
        code = conform(f"dicoms://{peer}", "--strict", "--json", "--timeout", "5", *options)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    summary = lines.pop()["summary"]
    assert [line for line in lines if line["outcome"] != "passed"] == []
    assert code == Exit.DONE
    assert summary["cases"] >= 150
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_tls_is_said(capsys, papers):
    authority, server, _ = papers
    ca = ("--tls-ca", str(authority.file))
    with provider("sync", tls=dn.TLS(ca=authority.file, cert=server.cert, key=server.key)) as peer:
        assert conform(f"dicoms://{peer}") == Exit.TLS
        assert "not taken" in capsys.readouterr().err
        assert conform(f"dicoms://{peer}", *ca) == Exit.TLS
        assert "certificate required" in capsys.readouterr().err
        assert conform(peer) == Exit.NEGOTIATION
    with provider("sync") as peer:
        assert conform(f"dicoms://{peer}", *ca) == Exit.TLS
        assert "DICOM without TLS" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.deadline(300)
@pytest.mark.parametrize("face", FACES)
def test_our_provider_keeps_its_timers(face, capsys):
    with provider(face, artim=1) as peer:
        code = conform(peer, "-k", "ARTIM ends", "--slow", "--artim", "5", "--strict")
    assert (code, "4 cases" in capsys.readouterr().out) == (Exit.DONE, True)


class OwnUser:
    """Our user, in a thread: it connects, sends a C-ECHO and releases, as far as it is let."""

    def __init__(self, face: str, address: tuple[str, int]) -> None:
        self.face = face
        self.peer = f"{address[0]}:{address[1]}"
        self.timeouts = dn.Timeouts(**dict.fromkeys(("associate", "response", "release", "artim", "progress"), 2.0))
        self.thread = threading.Thread()

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with suppress(dn.DicomNetError):
            if self.face == "aio":
                asyncio.run(self.run_aio())
                return
            with sync.connect(self.peer, contexts=CONTEXTS, timeouts=self.timeouts) as association:
                association.echo()

    async def run_aio(self) -> None:
        async with await aio.connect(self.peer, contexts=CONTEXTS, timeouts=self.timeouts) as association:
            await association.echo()

    def end(self) -> str:
        self.thread.join(10)
        return "it does not end" if self.thread.is_alive() else ""


@pytest.mark.long
@pytest.mark.deadline(300)
@pytest.mark.parametrize("face", FACES)
def test_our_user_passes_every_case(face):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        own = OwnUser(face, listening.getsockname())
        results = UserRunner(listening, timeout=5, wait=5, program=own).run(USER_CASES)
    assert [(result.case.id, result.observed) for result in results if result.outcome is not Outcome.PASSED] == []
