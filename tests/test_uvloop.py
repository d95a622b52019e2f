"""The asyncio face on uvloop's event loop: all that holds on asyncio's own holds there, too."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path

import faces
import peers
import pytest
from certificates import Authority
from face_suite import ProviderSuite, UserSuite

import dicomnet as dn


@pytest.fixture(autouse=True)
def on_uvloop() -> Iterator[None]:
    """Every loop that is made during a test is uvloop's."""
    uvloop = peers.peer_module("uvloop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of policies, from Python 3.14 on
        before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        yield
        asyncio.set_event_loop_policy(before)


def test_the_loops_are_uvloops() -> None:
    with asyncio.Runner() as runner:
        assert type(runner.get_loop()).__module__.startswith("uvloop")


@pytest.mark.parametrize("pairing", [("aio", "sync"), ("sync", "aio"), ("aio", "aio")], ids="-".join)
def test_tls(pairing: tuple[str, str], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server", names=("127.0.0.1",)), authority.issue("client")
    user_face, provider_face = pairing
    sent = faces.instance(3_000_000)
    ours = dn.TLS(ca=authority.file, cert=client.cert, key=client.key)
    theirs = dn.TLS(ca=authority.file, cert=server.cert, key=server.key)
    with (
        faces.provider(provider_face, tls=theirs) as provider,
        faces.USERS[user_face](provider.peer(), tls=ours) as user,
    ):
        assert user.association.tls.version == "TLSv1.3"
        assert user.store(sent).ok
    assert provider.stored == [("2.25.1", faces.data_of(sent))]


class TestUser(UserSuite):
    face = "aio"


class TestProvider(ProviderSuite):
    face = "aio"
