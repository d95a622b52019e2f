"""The blocking face, with users and providers of both faces on the other side."""

from __future__ import annotations

import errno
import socket
import threading

import faces
import pytest
from face_suite import ProviderSuite, UserSuite

import dicomnet as dn
from dicomnet._pdu import Abort, AssociateRQ, MaximumLength, UserIdentityRQ
from dicomnet.negotiation import AcceptancePolicy
from dicomnet.sync import association


class TestUser(UserSuite):
    face = "sync"


    def test_each_address_of_a_host_is_tried(self, addresses: list[tuple[str, int]]) -> None:
        with faces.provider("sync") as provider:
            addresses += [nobody(), ("127.0.0.1", provider.port)]
            with dn.connect("many.addresses:104", contexts=dn.contexts.verification()) as association:
                assert association.echo().is_success

    def test_where_no_address_answers_the_first_says_why(self, addresses: list[tuple[str, int]]) -> None:
        addresses += [nobody(), ("127.0.0.1.1", 104)]
        with pytest.raises(dn.ConnectionFailed) as caught:
            dn.connect("many.addresses:104", contexts=dn.contexts.verification())
        assert caught.value.errno == errno.ECONNREFUSED


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What "many.addresses" resolves to; a test fills it in."""
    found: list[tuple[str, int]] = []
    resolve = association.socket.getaddrinfo

    def getaddrinfo(host: object, *args: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host != b"many.addresses":
            return resolve(host, *args)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in found]

    monkeypatch.setattr(association.socket, "getaddrinfo", getaddrinfo)
    return found


def nobody() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return closed.getsockname()


class TestProvider(ProviderSuite):
    face = "sync"

    def test_serve_forever_ends_with_stop(self) -> None:
        listener = dn.Listener(port=0)
        listener.open()
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        with faces.SyncUser(f"127.0.0.1:{listener.address[1]}") as user:
            assert user.echo().is_success
        listener.stop()
        thread.join(faces.PATIENCE)
        assert not thread.is_alive()
        listener.stop()

    def test_a_connection_that_no_thread_can_be_had_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = threading.Thread.start

        def scarce(thread: threading.Thread) -> None:
            if thread.name == "dicomnet-association":
                raise RuntimeError("can't start new thread")
            start(thread)

        with faces.provider("sync") as provider:
            monkeypatch.setattr(threading.Thread, "start", scarce)
            with socket.create_connection(("127.0.0.1", provider.port), faces.PATIENCE) as refused:
                assert refused.recv(1) == b""
            assert not provider.listener.present()
            monkeypatch.undo()
            with provider.raw() as raw:
                raw.associate()
                assert raw.echo().status == 0
        assert not provider.listener.present()

    def test_an_association_that_cannot_be_answered_is_aborted(self) -> None:
        policy = AcceptancePolicy(identify=lambda *_: bytes(70000))  # too long for its sub-item
        with faces.provider("sync", acceptance=policy) as provider, provider.raw() as raw:
            contexts = raw.REQUEST.presentation_contexts
            identity = UserIdentityRQ(1, b"me", b"", True)
            raw.send(AssociateRQ("ANY-SCP", "RAW", contexts, (MaximumLength(16384), identity)))
            assert raw.read() == Abort(0, 0)
