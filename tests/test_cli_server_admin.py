"""`dicomnet server` with a server that runs: what its administrator types, and reads."""

from __future__ import annotations

import json
import logging

import consoles
import programs
import pytest
from servers import Told, call

import dicomnet as dn
from dicomnet import uids
from dicomnet.server.admin import Client
from dicomnet.server.directory import ServerDirectory
from dicomnet.services.query_models import model_uid

WORKLIST = model_uid("WORKLIST", "find")
FAILING = """
from dicomnet.server import hookimpl

@hookimpl
def services(registry):
    @registry.on_find("WORKLIST")
    def find(request):
        raise RuntimeError("no database")
"""


@pytest.fixture
def place(tmp_path):
    with consoles.place(tmp_path) as path:
        yield path


@pytest.fixture
def server(place):
    with consoles.running(place, "pacs", title="PACS", log__file="logs/server.log") as server:
        yield server


def run(*arguments, code=0):
    """A command; what it told."""
    done = programs.run_here("server", *arguments)
    assert done.returncode == code, done
    return done.stdout if code == 0 else done.stdout + done.stderr


def records(*arguments, code=0):
    return [json.loads(line) for line in run(*arguments, "--json", code=code).splitlines()]


def echo_on(association):
    """The first may be answered in the turn of the loop that ends the association."""
    for _ in range(100):
        association.echo()


def peer_of(server):
    return f"PACS@127.0.0.1:{server.address[1]}"


def test_status_shows_the_state_the_ports_and_what_waits(server):
    shown = dict(line.split(maxsplit=1) for line in run("status", "pacs").splitlines() if " " in line.strip())
    assert (shown["state"], shown["listening"]) == ("running", f"plain {server.listening['plain']}")
    assert shown["addins"] == "verification"
    assert shown["uptime"].endswith(" s")
    [found] = records("status", "pacs")
    assert (found["ae_title"], found["clients"], found["broken"]) == ("PACS", 0, {})


def test_status_of_a_server_with_workers_has_a_line_for_all_of_them():
    from dicomnet.cli.server_admin import _shown

    assert _shown({"worker": 1, "process": 17}) == "worker 1 process 17"


def test_a_pause_and_its_end(server):
    assert run("pause", "pacs") == "pacs is paused\n"
    with pytest.raises(dn.AssociationRejected):
        call(server, uids.VERIFICATION, called="PACS")
    assert records("resume", "pacs") == [{"summary": {"state": "running"}}]
    with call(server, uids.VERIFICATION, called="PACS") as association:
        assert association.echo().is_success


def test_a_reload_says_what_changed_and_what_waits(server):
    assert run("reload", "pacs") == "changed: nothing\n"
    ServerDirectory(server.directory).edit({"log.level": "debug", "listen.port": 104})
    done = programs.run_here("server", "reload", "pacs")
    assert (done.returncode, done.stdout) == (0, "changed: log.level\n")
    assert done.stderr.endswith("warning: these wait for a restart: listen.port\n")
    (server.directory / "server.toml").write_text("broken")
    assert "server.toml" in run("reload", "pacs", code=2)
    assert server.settings.log.level == "debug"


def test_clients_are_listed_and_disconnected(server):
    with call(server, uids.VERIFICATION, called="PACS") as association:
        association.echo()
        header, _, row, total = run("clients", "pacs").splitlines()
        assert header.split()[:3] == ["id", "calling", "address"]
        number, calling, address, *rest = row.split()
        assert (calling, address.rpartition(":")[0], rest[-2:]) == ("TESTER", "127.0.0.1", ["C-ECHO-RQ", "0000"])
        assert total == "1 client"
        assert run("disconnect", "pacs", number) == f"{number} is disconnected\n"
        with pytest.raises(dn.DicomNetError):
            echo_on(association)
    assert f'there is no association "{number}"' in run("disconnect", "pacs", number, code=61)


def test_add_ins_are_listed_with_what_is_wrong_and_one_serves_again(place):
    (place / "pacs/addins").mkdir(parents=True)
    (place / "pacs/addins/failing.py").write_text(FAILING)
    (place / "pacs/addins/gone.py").write_text("import nothing_of_this_name")
    enabled = {"addins__enable": ["failing", "gone"], "addins__optional": ["gone"]}
    with consoles.running(place, "pacs", title="PACS", **enabled) as server, Told(server) as told:
        with call(server, WORKLIST, called="PACS") as association:
            for _ in range(5):
                with pytest.raises(dn.ServiceFailure):
                    list(association.find(model="WORKLIST"))
        told.wait_for("addin.suspended")
        done = programs.run_here("server", "addins", "pacs")
        row = next(line for line in done.stdout.splitlines() if line.startswith("failing"))
        assert "suspended: " in row
        assert "no database" not in row  # what a handler raises may name a patient
        assert "nothing_of_this_name" in done.stderr
        assert "1 add-in" in done.stdout
        suspended, broken, total = records("addins", "pacs")
        assert (suspended["name"], suspended["failures"], broken["name"]) == ("failing", 5, "gone")
        assert total["summary"] == {"addins": 1, "broken": 1}
        assert " serves " in run("addins", "pacs", "--resume", "failing")
        assert 'there is no add-in "nix"' in run("addins", "pacs", "--resume", "nix", code=61)


def test_events_are_followed_until_the_server_stops(place):
    with consoles.running(place, "pacs", title="PACS") as server, Client(server.directory) as admin:
        asked = ("--after", admin.snapshot()["last_event"], "--type", "client", "--type", "server")
        with programs.Piped("server", "events", "pacs", *asked) as shown:
            with call(server, uids.VERIFICATION, called="PACS") as association:
                at, kind, data = shown.line().split(maxsplit=2)
                assert (len(at), kind) == (len("12:34:56.789"), "client.connected")
                assert json.loads(data)["address"].startswith("127.0.0.1:")
                association.echo()
            server.stop()
            kinds = {line.split()[1] for line in shown.output}
            assert kinds >= {"client.associated", "server.stopping"}  # a client may be gone a little later
            assert {one.partition(".")[0] for one in kinds} == {"client", "server"}
            assert shown.join() == 0
    assert "no server answers" in run("events", "pacs", code=60)


def test_the_last_lines_of_a_log_and_what_comes_after(server):
    path = server.directory / "logs/server.log"
    log = logging.getLogger("dicomnet.server")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it went wrong")
    with path.open("a") as file:
        file.write("no JSON\n")
    *_, said, why, plain = run("logs", "pacs", "-n", 2).splitlines()
    assert said.split()[1:] == ["error", "dicomnet.server", "it", "went", "wrong"]
    assert why.endswith("ValueError: two | lines")
    assert plain == "no JSON"
    [first, last] = records("logs", "pacs", "-n", 2)
    assert (first["level"], last) == ("error", {"event": "no JSON"})
    assert run("logs", "pacs", "-n", 0) == ""
    with programs.Piped("server", "logs", "pacs", "-n", 1, "-f") as shown:
        assert shown.line() == "no JSON\n"
        log.error("this comes later")
        assert shown.line().endswith(" error dicomnet.server this comes later\n")
        shown.output.close()  # as `| head` does
        log.error("nobody reads this")
        assert shown.join() == 1


def test_a_log_that_is_no_file_or_not_there_yet(place):
    directory = ServerDirectory(place / "pacs")
    directory.create({"server.ae_title": "PACS"})
    assert "server.log: there is no log yet" in run("logs", "pacs", code=2)
    directory.edit({"log.file": ""})
    assert "pacs logs to standard error" in run("logs", "pacs", code=2)


def test_the_conformance_statement_goes_to_a_file_or_is_printed(server, tmp_path):
    text = run("conformance", "pacs")
    assert text.startswith("# ")
    assert "Verification" in text
    assert run("conformance", "pacs", "-o", tmp_path / "pacs.md") == ""
    assert (tmp_path / "pacs.md").read_text() + "\n" == text
    [data] = records("conformance", "pacs")
    assert data["markdown"] + "\n" == text


class TestTitles:
    """`dicomnet server ae`."""

    def test_from_its_adding_to_its_removal(self, server):
        assert run("ae", "list", "pacs") == "0 AE titles\n"
        where = "CT1@192.0.2.1:104"
        options = ("--right", "echo", "--right", "store", "--address", "192.0.2.1", "--description", "in the cellar")
        assert run("ae", "add", "pacs", where, *options) == "CT1 is known\n"
        run("ae", "add", "pacs", "MR1")
        ct, mr = (line.split("  ") for line in run("ae", "list", "pacs").splitlines()[2:4])
        assert [one for one in ct if one] == ["CT1", "192.0.2.1:104", "192.0.2.1", "echo store", "in the cellar"]
        assert [one for one in mr if one][1:] == ["all"]
        assert run("ae", "update", "pacs", "CT1", "--title", "CT2", "--tls", "--alias", "OLD") == "CT2 is changed\n"
        [found] = [one for one in records("ae", "list", "pacs") if one.get("title") == "CT2"]
        assert (found["tls"], found["aliases"], found["rights"]) == (True, ["OLD"], ["echo", "store"])
        assert "192.0.2.1:104 (TLS)" in run("ae", "list", "pacs")
        assert run("ae", "remove", "pacs", "OLD") == "OLD is not known any more\n"
        assert 'there is no AE title "CT2"' in run("ae", "remove", "pacs", "CT2", code=61)
        assert "port" in run("ae", "add", "pacs", "CT1@localhost", code=2)

    def test_one_is_asked_whether_it_answers(self, server):
        run("ae", "add", "pacs", peer_of(server))
        assert run("ae", "echo", "pacs", "PACS") == "PACS answered 0x0000 (success)\n"

    @pytest.mark.parametrize("title", ["CT/1", "CT/echo", "CT?1", "CT#1", "CT%31", "CT 1"])
    def test_any_character_of_a_title_does(self, server, title):
        run("ae", "add", "pacs", title)
        assert run("ae", "update", "pacs", title, "--description", "new") == f"{title} is changed\n"
        assert server.base.ae_titles.find(title).description == "new"
        run("ae", "remove", "pacs", title)
        assert server.base.ae_titles.find(title) is None
