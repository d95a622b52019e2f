"""Add-ins that see PDUs and messages, and can neither change nor stall them."""

from __future__ import annotations

import pytest
from servers import call, write_settings

from dicomnet import uids
from dicomnet.server import Server
from dicomnet.server.directory import ServerDirectory

SEES = """
from dicomnet.protocol.seen import MessageSeen
from dicomnet.server import hookimpl

messages = []

@hookimpl
def spy(seen):
    if isinstance(seen, MessageSeen):
        messages.append(seen)
"""
FAILS = """
from dicomnet.server import hookimpl

@hookimpl
def spy(seen, context):
    raise RuntimeError(" ".join(["DOE", "JANE"]))
"""


@pytest.fixture
def directory(tmp_path):
    write_settings(tmp_path / "s", '[addins]\nenable = ["verification", "one", "other", "failing"]\n')
    (tmp_path / "s/addins").mkdir()
    for name, text in (("one", SEES), ("other", SEES), ("failing", FAILS)):
        (tmp_path / f"s/addins/{name}.py").write_text(text)
    return tmp_path / "s"


def seen_by(server, name):
    return server.addins.get(name).found.plugin.messages


def echoes(server, count=3):
    with call(server, uids.VERIFICATION) as association:
        for _ in range(count):
            assert association.echo().is_success


def test_each_of_several_sees_all_and_one_that_fails_is_logged_once(directory, caplog):
    with Server(directory) as server:
        one, other = seen_by(server, "one"), seen_by(server, "other")
        echoes(server)
        spies = {spy.name: spy for spy in server.spies.all()}
        assert 'dicomnet_spy_dropped_total{addin="one"} 0.0' in server.metrics.exposition().decode()
    assert len(one) == len(other) == 6  # requests and responses, once the spies have ended
    assert spies["failing"].failures > 6
    assert caplog.text.count("the spy of add-in failing failed") == 1
    assert "DOE JANE" not in caplog.text


@pytest.mark.parametrize("left", [["one"], []])
def test_one_that_is_not_enabled_any_more_sees_no_more(directory, left):
    with Server(directory) as server:
        one, other = seen_by(server, "one"), seen_by(server, "other")
        echoes(server)
        ServerDirectory(directory).edit({"addins.enable": ["verification", *left]})
        server.reload()
        assert server.spies.names() == set(left)
        assert len(other) == 6  # it has seen what there was
        echoes(server)
    assert len(other) == 6
    assert len(one) == (12 if left else 6)
