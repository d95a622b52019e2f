"""Peers by name: `peers.toml`, in Python and on the command line."""

from __future__ import annotations

import json

import clients
import faces
import programs
import pytest
from test_cli_store import instance

import dicomnet as dn
from dicomnet.client import Client, peer_directory

WHOLE = """\
# whom we know

[archive]
address = "ARCHIVE@pacs.local:11112"
calling = "WS1"
associations = 2
idle = 5
requests_per_association = 100

[ct1]
address = "dicoms://CT1@ct1.local:2762"
tls = {ca = "ca.pem", cert = "/abs/ws1.pem", server_name = "ct1"}
identity = {name = "jane", passcode = "secret"}
relax = ["no priority", "title case"]
character_set = "ISO_IR 100"
transcode = ["1.2.840.10008.1.2"]
window = [4, 1]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    path = tmp_path / "dicomnet" / "peers.toml"
    path.parent.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DICOMNET_PEERS", raising=False)
    monkeypatch.setattr(peer_directory, "SYSTEM", str(tmp_path / "system.toml"))
    return path


def test_all_that_can_be_said_of_a_peer(place):
    place.write_text(WHOLE)
    known = peer_directory.load()
    assert list(known) == ["archive", "ct1"]
    archive, ct1 = known.values()
    assert archive.place == f"{place}, line 3"
    assert archive.peer.entity == dn.Entity("ARCHIVE", "pacs.local", 11112)
    assert archive.options == {"calling": "WS1", "associations": 2, "idle": 5, "requests_per_association": 100}
    assert ct1.peer == dn.Peer(
        dn.Entity("CT1", "ct1.local", 2762, tls=True),
        tls=dn.TLS(ca=str(place.parent / "ca.pem"), cert="/abs/ws1.pem", server_name="ct1"),
        identity=dn.UserIdentity.named("jane", "secret"),
        relax=frozenset({dn.Relaxation.NO_PRIORITY, dn.Relaxation.TITLE_CASE}),
        character_set="ISO_IR 100",
        transcode=["1.2.840.10008.1.2"],
        window=(4, 1),
    )


def test_the_user_has_the_last_word_and_the_environment_beyond(place, tmp_path, monkeypatch):
    (tmp_path / "system.toml").write_text('[a]\naddress = "A@x:1"\n[b]\naddress = "B@x:2"\n')
    place.write_text('[b]\naddress = "MINE@y:3"\n')
    assert {name: str(one.peer.entity) for name, one in peer_directory.load().items()} == {
        "a": "A@x:1",
        "b": "MINE@y:3",
    }
    (tmp_path / "other.toml").write_text('[c]\naddress = "C@z:4"\n')
    monkeypatch.setenv("DICOMNET_PEERS", str(tmp_path / "other.toml"))
    assert list(peer_directory.load()) == ["c"]
    monkeypatch.setenv("DICOMNET_PEERS", str(tmp_path / "gone.toml"))
    with pytest.raises(dn.InvalidArgument, match=r"gone\.toml: there is no such file"):
        peer_directory.load()


def test_no_file_is_no_peer(place):
    assert peer_directory.load() == {}


PEER = '\n[pacs]\naddress = "A@h:1"\n'


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[pacs\n", "Expected ']'"),
        ("\n\nx = [1\ny = 2\n", "(at line 4, column 1)"),
        ("[pacs]\n", "line 1: peer pacs: it has no address"),
        ("\npacs = 7\n", "line 2: peer pacs: it is no table"),
        ('["p a c s"]\naddress = "A@h:1"\n', "a name is made of letters"),
        ('\n[pacs]\naddress = "A@h"\n', 'line 2: peer pacs: address: "A@h": the port is missing'),
        ("\n[pacs]\naddress = 7\n", "line 2: peer pacs: address: 7 is no text"),
        (PEER + "adress = 1\n", "line 2: peer pacs: there is no key adress. Is it address?"),
        (PEER + 'calling = "' + "A" * 17 + '"', "line 2: peer pacs: calling: AE title"),
        (PEER + "calling = 'A\\B'", "a backslash"),
        (PEER + 'calling = "A\\u0007"', "printable"),
        (PEER + 'calling = "  "', "at least one character"),
        (PEER + 'relax = ["no prioriti"]', 'relax: there is no rule "no prioriti"; is it no priority?'),
        (PEER + 'relax = "no priority"', "relax: 'no priority' is no list"),
        (PEER + "tls = true", "tls: True is no table"),
        (PEER + "tls = {certificate = 1}", "tls: there is no certificate: it has ca, cert"),
        (PEER + 'tls = {minimum_version = "1.0"}', "tls: "),
        (PEER + 'identity = {passcode = "x"}', "identity: it has no name"),
        (PEER + "window = [1]", "window: [1] is neither"),
        (PEER + "window = 0", "window: 0 is no whole number above 0"),
        (PEER + "window = true", "window: True is neither"),
        (PEER + "associations = 0", "associations: 0 is no whole number above 0"),
        (PEER + "idle = -1", "idle: -1 is no number of seconds"),
        (PEER + 'transcode = "always"', "peer pacs: "),
        (PEER + 'character_set = "KLINGON"', "peer pacs: "),
    ],
)
def test_what_makes_no_sense_is_one_line_that_names_the_place(place, text, what):
    place.write_text(text)
    with pytest.raises(dn.InvalidArgument) as caught:
        peer_directory.find("pacs")
    message = str(caught.value)
    assert message.startswith(f"{place}")
    assert what in message
    assert "\n" not in message


def test_a_file_that_is_no_text(place):
    place.write_bytes(b'[pacs]\naddress = "\xff"')
    with pytest.raises(dn.InvalidArgument, match=r"peers\.toml: .*utf-8"):
        peer_directory.load()


def test_an_unknown_name_is_told_those_like_it(place):
    place.write_text(WHOLE)
    with pytest.raises(dn.InvalidArgument) as caught:
        Client("archiv")
    assert str(caught.value).endswith("nor an address: the port is missing. Is it archive?")
    assert str(place) in str(caught.value)


@pytest.mark.parametrize("face", clients.FACES)
def test_a_client_by_name(place, face):
    titles = []

    def listen(listener):
        listener.on_echo(lambda request: titles.append((request.calling, request.called)))

    with faces.provider("sync", listen) as provider:
        place.write_text(f'[pacs]\naddress = "PACS@127.0.0.1:{provider.port}"\ncalling = "ME"\nassociations = 2\n')
        made = clients.Clients(face)
        with made.client("pacs") as client:
            assert client.echo().is_success
            assert client.pool.most == 2
        with made.client("pacs", calling="OTHER", associations=1) as client:
            assert client.echo().is_success
            assert client.pool.most == 1
        with made.make("StoreScu", "pacs") as scu:
            assert scu.client.calling == "ME"
        made.close()
    assert titles == [("ME", "PACS"), ("OTHER", "PACS")]


class TestCommandLine:
    @pytest.fixture
    def run(self, tmp_path, monkeypatch):
        path = tmp_path / "peers.toml"
        monkeypatch.setenv("DICOMNET_PEERS", str(path))

        def run(text, *arguments):
            path.write_text(text)
            path.chmod(0o600)
            return programs.run_here(*arguments)

        run.path = path
        return run

    def test_peers_are_listed(self, run):
        table = run(WHOLE, "peers").stdout
        assert "archive  ARCHIVE@pacs.local:11112" in table
        assert table.endswith("2 peers\n")
        first, _, last = map(json.loads, run(WHOLE, "peers", "--json").stdout.splitlines())
        assert first == {
            "name": "archive",
            "address": "ARCHIVE@pacs.local:11112",
            "calling": "WS1",
            "tls": False,
            "place": f"{run.path}, line 3",
        }
        assert last == {"summary": {"peers": 2}}

    def test_a_name_stands_wherever_a_peer_does(self, run, tmp_path):
        titles = []

        def listen(listener):
            listener.on_echo(lambda request: titles.append((request.calling, request.called)))
            listener.on_store()(lambda request: titles.append((request.calling, request.called)))
            listener.on_find("STUDY_ROOT")(lambda request: titles.append((request.calling, request.called)))

        with faces.provider("sync", listen) as provider:
            text = f'[pacs]\naddress = "PACS@127.0.0.1:{provider.port}"\ncalling = "ME"\n'
            path = instance(tmp_path / "1.dcm", 1)
            assert run(text, "echo", "pacs").returncode == 0
            assert run(text, "echo", "pacs", "-aec", "OTHER", "-aet", "I").returncode == 0
            assert run(text, "store", "pacs", path).returncode == 0
            assert run(text, "store", "pacs", path, "--report", tmp_path / "r").returncode == 0
            assert run(text, "find", "pacs", "STUDY").returncode == 0
        usual = ("ME", "PACS")
        assert titles == [usual, ("I", "OTHER"), usual, usual, usual]

    def test_what_is_wrong_is_one_line(self, run):
        for text, name, what in (
            (WHOLE, "archve", "Is it archive?"),
            ("[pacs]\n", "pacs", f"{run.path}, line 1: peer pacs: it has no address"),
            ("x = [", "pacs", str(run.path)),
        ):
            result = run(text, "echo", name)
            assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
            assert what in result.stderr
        assert run("x = [", "peers").returncode == 2

    def test_an_address_does_not_look_into_the_file(self, run):
        result = run("x = [", "echo", "A@127.0.0.1:1")
        assert result.returncode == 60
