"""One real-time run of every timer, with small values, over sockets: the named error, in time (goal G10).

What the timers do is tested with a clock that is an argument (`test_upper.py`, `test_exchange.py`); here nothing stands
between them and the clock. Nobody sleeps: each test blocks on what is tested.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from certificates import Authority
from faces import (
    PATIENCE,
    SYNTAX,
    USERS,
    RawPeer,
    RawProvider,
    instance,
    message,
    provider,
    raw_provider,
    store_request,
)
from peers import full_backlog
from rig import until

import dicomnet as dn
from dicomnet import uids
from dicomnet._pdu import Abort, AssociateRQ, MaximumLength, PresentationContextRQ
from dicomnet.wire.command_set import Command, frame

pytestmark = pytest.mark.measures

SHORT = 0.2
LATE = 10.0 * float(os.environ.get("DICOMNET_PATIENCE", "1"))  # what a busy machine may add; the other timers have 30 s
FACES = ("sync", "aio")
LONG = dict.fromkeys(("connect", "tls", "associate", "response", "progress", "idle", "release", "artim", "write"), 30.0)


def only(timer: str) -> dn.Timeouts:
    """That one is short."""
    return dn.Timeouts(**LONG | {timer: SHORT})


@contextmanager
def in_time(since: float | None = None) -> Iterator[None]:
    """The block takes as long as the timer says.

    Args:
        since: a moment before the timer was started, where that may have been before the block.
    """
    begun = monotonic()
    yield
    now = monotonic()
    assert now - (begun if since is None else since) >= SHORT * 0.95
    assert now - begun < SHORT + LATE


@contextmanager
def holding() -> Iterator[Any]:
    """A provider that accepts, and then does nothing until the block ends."""
    over = threading.Event()
    with raw_provider(lambda raw: (raw.accept(), over.wait(PATIENCE))) as result:
        try:
            yield result
        finally:
            over.set()


def silence(raw: RawProvider) -> list[Any]:
    """Accepts, and answers nothing after that; what it heard."""
    raw.accept()
    return raw.read_to_the_end()


@contextmanager
def expires(timer: str) -> Iterator[None]:
    """The error that names the timer, in time."""
    with in_time(), pytest.raises(dn.DeadlineExceeded) as caught:
        yield
    assert (caught.value.timeout, caught.value.seconds) == (timer, SHORT)
    assert isinstance(caught.value, TimeoutError)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestUsers:
    def test_connect(self, face):
        with full_backlog() as port, expires("connect"):
            USERS[face](f"SCP@127.0.0.1:{port}", timeouts=only("connect"))

    def test_tls_handshake(self, face, tmp_path):
        tls = dn.TLS(ca=Authority(tmp_path).file)
        with socket.create_server(("127.0.0.1", 0)) as silent, expires("tls"):
            USERS[face](f"SCP@127.0.0.1:{silent.getsockname()[1]}", timeouts=only("tls"), tls=tls)

    def test_association(self, face):
        with raw_provider(lambda raw: raw.read_to_the_end()) as result, expires("associate"):
            USERS[face](result.peer, timeouts=only("associate"))
        assert result()[-1] == Abort(0, 0)

    def test_response(self, face):
        with raw_provider(silence) as result:
            user = USERS[face](result.peer, timeouts=only("response"))
            with expires("response"):
                user.echo()
            user.abort()
        assert result()[-1] == Abort(0, 0)

    def test_release(self, face):
        with raw_provider(silence) as result:
            user = USERS[face](result.peer, timeouts=only("release"))
            with expires("release"):
                user.release()
        assert result()[-1] == Abort(0, 0)

    def test_write(self, face):
        with holding() as result:
            user = USERS[face](result.peer, timeouts=only("write"))
            with expires("write"):
                user.store(instance(32 << 20))
            user.abort()

    def test_artim(self, face):
        """After our A-ABORT the peer has to close; where it does not, we do."""
        with holding() as result:
            user = USERS[face](result.peer, timeouts=only("artim"))
            with in_time():
                user.abort()


class TestProviders:
    """What a provider says to the peer, and about it."""

    @pytest.fixture(autouse=True)
    def _log(self, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        self.log, self.begun = caplog, monotonic()

    def ended(self, raw: RawPeer, timer: str, *said: Abort) -> None:
        """The end comes in time: an A-ABORT, after which ARTIM is the peer's to close, or that of the connection."""
        with in_time(self.begun):
            assert raw.read() == (said[0] if said else None)
        self.named = f"{timer} time-out after {SHORT:g} s"

    def serving(self, face, timer, **options):
        return provider(face, timeouts=only(timer), **options)

    def test_tls_handshake(self, face, tmp_path):
        authority = Authority(tmp_path)
        issued = authority.issue("server")
        tls = dn.TLS(cert=issued.cert, key=issued.key, client_certificate="ignored")
        with self.serving(face, "tls", tls=tls) as scp, scp.raw() as raw:
            self.ended(raw, "tls")
        assert self.named in self.log.text

    @pytest.mark.parametrize("begun", [b"", b"\x01\x00\x00\x00"], ids=["silent", "begun"])
    def test_artim_without_a_request(self, face, begun):
        with self.serving(face, "artim") as scp, scp.raw() as raw:
            raw.send(begun)
            self.ended(raw, "artim")

    def test_artim_after_a_rejection(self, face):
        with self.serving(face, "artim", ae_title="OTHER") as scp, scp.raw() as raw:
            assert raw.associate().reason == 7
            with in_time(self.begun):
                assert raw.read() is None  # the provider says no more, and gives the peer a moment to close
                until(lambda: not scp.listener.counters["open"])

    def test_idle(self, face):
        with self.serving(face, "idle") as scp, scp.raw() as raw:
            raw.associate()
            self.ended(raw, "idle", Abort(0, 0))
        assert self.named in self.log.text

    def test_progress_within_a_pdu(self, face):
        with self.serving(face, "progress") as scp, scp.raw() as raw:
            raw.associate()
            raw.send(store_request(bytes(1000))[:-500])
            self.ended(raw, "progress", Abort(0, 0))
        assert self.named in self.log.text

    def test_progress_between_the_pdus_of_a_message(self, face):
        with self.serving(face, "progress") as scp, scp.raw() as raw:
            raw.associate()
            raw.send(store_request(bytes(1000), last=False))
            self.ended(raw, "progress", Abort(0, 0))
        assert self.named in self.log.text

    def test_write(self, face):
        """Results for a peer that does not read them."""
        ended = threading.Event()

        def configure(listener):
            @listener.on_find("STUDY_ROOT")
            def find(request):
                try:
                    while True:
                        yield {"PatientComments": "x" * 10_000}
                finally:
                    ended.set()

        with self.serving(face, "write", configure=configure) as scp, scp.raw(receive_buffer=4096) as raw:
            ask_for_matches(raw)
            with in_time(self.begun):
                assert ended.wait(PATIENCE)
        assert f"write time-out after {SHORT:g} s" in self.log.text


def ask_for_matches(raw: RawPeer) -> None:
    """A C-FIND of studies."""
    model = uids.STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND
    raw.send(AssociateRQ("ANY-SCP", "RAW", (PresentationContextRQ(1, model, (SYNTAX,)),), (MaximumLength(0),)))
    raw.read()
    command = Command(
        affected_sop_class_uid=model, command_field=0x20, message_id=1, priority=0, command_data_set_type=1
    )
    level = struct.pack("<HH2sH", 8, 0x52, b"CS", 6) + b"STUDY "
    raw.send(message(1, command), *map(bytes, frame(1, level, 16000, False, True)))
