"""Connections that are over, or cannot be served, as they arrive: the listener of either face goes on."""

from __future__ import annotations

import logging
import threading

import pytest
from certificates import Authority
from faces import PATIENCE, provider
from rig import until

import dicomnet as dn


def test_one_that_is_reset_in_the_backlog_is_none(caplog):
    caplog.set_level(logging.INFO, "dicomnet")
    paused = threading.Event()
    with provider("sync") as scp:
        scp.listener.pause()
        scp.listener.call_soon_threadsafe(paused.set)
        assert paused.wait(PATIENCE)
        scp.raw().reset()
        scp.listener.resume()
        until(lambda: "a connection ended before it began" in caplog.text)
        until(lambda: scp.listener.counters["open"] == 0)
        with scp.raw() as raw:
            raw.associate()
            assert raw.echo().status == 0
        assert scp.listener.counters["connections"] == 2


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_one_that_comes_while_the_certificate_is_away_is_let_go(face, tmp_path, caplog):
    caplog.set_level(logging.ERROR, "dicomnet")
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("server")
    away = tmp_path / "away.pem"
    with provider(face, tls=dn.TLS(cert=cert, key=key, client_certificate="ignored")) as scp:
        peer = f"dicoms://ANY-SCP@127.0.0.1:{scp.port}"
        options = {
            "tls": dn.TLS(ca=authority.file), "contexts": dn.contexts.verification(),
        }  # fmt: skip
        cert.rename(away)
        with pytest.raises(dn.ConnectionFailed):
            dn.connect(peer, **options)
        until(lambda: "cannot serve a connection: TLS" in caplog.text)  # at a level that an operator sees
        away.rename(cert)
        with dn.connect(peer, **options) as association:
            assert association.echo().is_success
        until(lambda: scp.listener.counters["open"] == 0)
