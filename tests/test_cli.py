"""What all commands share: arguments, errors and exit codes; and `dicomnet echo`."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import click
import programs
import pydicom
import pytest

import dicomnet as dn
from dicomnet import errors
from dicomnet.cli.app import COMMANDS, dicomnet
from dicomnet.cli.exits import Exit, exit_code
from dicomnet.cli.lazy_group import Lazy, LazyGroup
from dicomnet.errors import InputProblem, OutputProblem

CT = "1.2.840.10008.5.1.4.1.1.2"
SAMPLE = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"

# What only some commands need, each of which takes long to load.
UNNEEDED = {"pydicom", "numpy", "cryptography", "rich", "asyncio", "sqlite3", "http"}
# What all of `dicomnet echo` may take of the time of a bare interpreter: 200 ms where that takes 12.
ECHO_STARTS = 16


@pytest.fixture(scope="module")
def listener():
    scp = dn.Listener("ARCHIVE", port=0)
    scp.on_store()(lambda request: None)
    with scp:
        yield f"127.0.0.1:{scp.address[1]}"


@contextmanager
def silent():
    """Something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(programs.PATIENCE)
        yield server, f"127.0.0.1:{server.getsockname()[1]}"


def one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr
    return result.stderr.removeprefix("error: ").strip()


class TestProgram:
    def test_version(self):
        assert programs.run("--version").stdout == f"dicomnet {dn.__version__}\n"

    def test_help_lists_the_commands(self):
        result = programs.run("--help")
        assert result.returncode == 0
        assert all(f"\n  {name} " in result.stdout for name in ("echo", "store", "recv", "dump", "demo"))

    @pytest.mark.parametrize("name", ["echo", "store", "recv", "dump", "demo"])
    def test_help_of_a_command(self, name):
        result = programs.run_here(name, "-h")
        assert result.returncode == 0
        assert f"dicomnet {name} [OPTIONS]" in result.stdout
        assert all(option in result.stdout for option in ("--json", "--verbose", "--debug", "--quiet"))

    def test_without_a_command(self):
        result = programs.run()
        assert result.returncode == 2
        assert "Usage: dicomnet" in result.stderr

    def test_without_click(self):
        code = "import sys; sys.modules['click'] = None; from dicomnet.cli import main; main()"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=programs.ROOT)
        assert result.returncode == 1
        assert "pip install 'dicomnet[cli]'" in one_line_error(result)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["ecko"], "No such command 'ecko'"),
            (["echo"], "Missing argument 'PEER'"),
            (["echo", "pacs"], "the port is missing"),
            (["echo", "A_TITLE_THAT_IS_TOO_LONG@pacs:104"], "16 is the most"),
            (["echo", "pacs:104", "--aet", "back\\slash"], "backslash"),
            (["echo", "pacs:104", "--timeout", "soon"], "is not a duration"),
            (["echo", "pacs:104", "--max-pdu", "huge"], "is not a size"),
            (["echo", "pacs:104", "--max-pdu", "5"], "limit max_pdu"),
            (["echo", "pacs:104", "--count", "0"], "--count"),
            (["conform", "--as-provider", "dicoms://A@127.0.0.1:0"], "users are tested without TLS"),
            (["store", "pacs:104"], "Missing argument 'PATH...'"),
            (["recv", "0"], "the port is missing"),
            (["recv", "127.0.0.1:0"], "one of --out DIR and --discard"),
            (["recv", "127.0.0.1:0", "--discard", "--out", "x"], "only one"),
            (["recv", "A@127.0.0.1:0", "--aet", "B", "--discard"], "two AE titles"),
            (["recv", "A@127.0.0.1:0", "--discard", "--exec", 'cp "{file}'], "no closing quotation"),
            (["conform", "--as-provider", "A@127.0.0.1:0", "--run", 'echoscu "'], "no closing quotation"),
            (["echo", "\x1b[31mpacs"], "\\x1b[31mpacs"),
        ],
    )
    def test_usage_errors_are_one_line_and_2(self, arguments, words):
        result = programs.run_here(*arguments)
        assert result.returncode == 2
        assert words in one_line_error(result)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["storr", "pacs:104"], "Did you mean 'store'?"),
            (["echo", "pacs:104", "--cuont", "3"], "'--count'"),
            (["bench", "compair", "a", "b"], "compair"),
            (["cert", "mkae", "."], "Did you mean 'make'?"),
        ],
    )
    def test_what_is_mistyped_gets_a_suggestion(self, arguments, words):
        result = programs.run_here(*arguments)
        assert result.returncode == 2
        assert words in one_line_error(result)

    @pytest.mark.parametrize(
        ("words", "found"), [("dicomnet st", "store"), ("dicomnet echo --cou", "--count"), ("dicomnet cert m", "make")]
    )
    def test_completes_for_a_shell(self, words, found):
        environment = {
            **os.environ,
            "_DICOMNET_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
        }
        result = programs.run(env=environment)
        assert result.returncode == 0
        assert f"plain,{found}\n" in result.stdout

    def test_every_command_of_the_list_is_there(self):
        context = click.Context(dicomnet)
        for name in COMMANDS:
            command = dicomnet.get_command(context, name)
            assert command is not None
            assert command.name == name
            assert command.help

    def test_what_is_not_installed_is_said(self, monkeypatch):
        lazy = {"gone": Lazy("a_package_that_is_not_there.cli:command", "Nothing.", extra="archive")}
        group = LazyGroup("dicomnet", lazy=lazy)
        with pytest.raises(click.UsageError, match=r"pip install 'dicomnet\[archive\]'"):
            group.get_command(click.Context(group), "gone")

    @pytest.mark.measures
    @pytest.mark.parametrize(
        ("command", "options", "code"),
        [
            ("echo", ["-aec", "ARCHIVE", "--timeout", "20s"], 0),
            ("recv", ["--discard", "-pdu", "16k"], 64),  # where a listener is already
        ],
    )
    def test_loads_nothing_that_it_does_not_need(self, command, options, code, listener):
        result = programs.run(command, listener, *options, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
        loaded = [line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.count("|") == 2]
        assert result.returncode == code
        # What the environment loads at its own start is not ours: `site` ends it.
        packages = {name.partition(".")[0] for name in loaded[loaded.index("site") + 1 :]}
        assert "dicomnet" in packages
        assert packages & UNNEEDED == set()

    @pytest.mark.measures
    def test_a_short_command_is_short(self, listener, tmp_path):
        """Beside the bare interpreter, by turns, in processor time: what else the machine does, slows both alike."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
        bare, echo = [sys.executable, "-c", "pass"], programs.command("echo", listener, "-aec", "ARCHIVE")

        def seconds(command: list[str]) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, capture_output=True, cwd=programs.ROOT, env=environment)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        seconds(echo)  # compiles what is installed compiled
        taken = [(seconds(echo), seconds(bare)) for _ in range(5)]
        assert min(one for one, _ in taken) <= ECHO_STARTS * min(one for _, one in taken)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "established", "code"),
        [
            (errors.ConnectionFailed("refused"), False, 60),
            (errors.ConnectionFailed("broken"), True, 62),
            (errors.AssociationRejected(1, 1, 1), False, 61),
            (errors.AssociationAborted(0, 0), False, 61),
            (errors.AssociationAborted(0, 0), True, 62),
            (errors.RemoteProtocolError("nonsense"), True, 62),
            (errors.NoAcceptedContext(CT), True, 66),
            (errors.ServiceFailure(dn.Status(0xA700)), True, 69),
            (errors.DeadlineExceeded("response", 60), True, 124),
            (errors.InvalidArgument("no"), False, 2),
            *((errors.InputFileError("no", problem=problem), False, int(problem)) for problem in InputProblem),
            *((errors.OutputFileError("no", problem=problem), False, int(problem)) for problem in OutputProblem),
            (KeyboardInterrupt(), True, 130),
            (OSError("what"), True, 1),
        ],
    )
    def test_of_errors(self, error, established, code):
        assert exit_code(error, established=established) == code

    def test_input_and_output_codes_are_dcmtks(self):
        assert {*InputProblem} <= {20, 21, 22, 23}
        assert {*OutputProblem} <= {*range(40, 46)}
        assert Exit.CANNOT_LISTEN == 64


class TestEcho:
    def test_answers(self, listener):
        result = programs.run("echo", f"ARCHIVE@{listener}")
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith(f"ARCHIVE@{listener} answered 0x0000 (success) in ")

    def test_count(self, listener):
        result = programs.run("echo", f"ARCHIVE@{listener}", "--count", 3)
        assert result.stdout.count("answered 0x0000") == 3
        assert "3 of 3 answered" in result.stdout

    def test_json(self, listener):
        result = programs.run("echo", f"ARCHIVE@{listener}", "--count", 2, "--json")
        *answers, _ = map(json.loads, result.stdout.splitlines())
        assert [answer["status"] for answer in answers] == [0, 0]
        assert programs.summary(result.stdout).items() >= {"echoes": 2, "failed": 0}.items()

    def test_quiet(self, listener):
        result = programs.run("echo", f"ARCHIVE@{listener}", "-q")
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    def test_spellings_of_dcmtk(self):
        seen = []
        scp = dn.Listener("CALLED", port=0)
        scp.on_echo(lambda request: seen.append((request.calling, request.called)))
        with scp:
            result = programs.run(
                "echo", f"127.0.0.1:{scp.address[1]}", "-aet", "ME", "-aec", "CALLED", "-pdu", "16k", "-to", "20s", "-v"
            )
        assert result.returncode == 0
        assert seen == [("ME", "CALLED")]

    def test_verbose_shows_messages_and_debug_each_pdu(self, listener):
        verbose = programs.run("echo", f"ARCHIVE@{listener}", "-v").stderr
        assert "-> A-ASSOCIATE-RQ: DICOMNET calls ARCHIVE, 1 context" in verbose
        assert "<- C-ECHO-RSP 1, 0x0000 (success)" in verbose
        assert "P-DATA-TF" not in verbose
        assert "-> P-DATA-TF, " in programs.run("echo", f"ARCHIVE@{listener}", "-d").stderr

    def test_a_log_that_dump_shows(self, listener, tmp_path):
        assert programs.run("echo", f"ARCHIVE@{listener}", "--log", tmp_path / "log").stderr == ""
        shown = programs.run("dump", tmp_path / "log")
        assert shown.returncode == 0
        assert "C-ECHO-RQ" in shown.stdout

    def test_names_of_peers_are_completed(self, tmp_path):
        (tmp_path / "peers.toml").write_text('[archive]\naddress = "A@host:104"\n')
        environment = {
            **os.environ,
            "DICOMNET_PEERS": str(tmp_path / "peers.toml"),
            "_DICOMNET_COMPLETE": "bash_complete",
            "COMP_WORDS": "dicomnet echo arch",
            "COMP_CWORD": "2",
        }
        assert programs.run(env=environment).stdout == "plain,archive\n"

    def test_another_title_is_rejected(self, listener):
        result = programs.run("echo", f"WRONG@{listener}")
        assert result.returncode == 61
        assert one_line_error(result) == (
            f"WRONG@{listener} rejected the association (permanent, by the acceptor): called AE title not recognised. "
            'Is "WRONG" the peer\'s AE title?'
        )

    @pytest.mark.parametrize("redirection", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
    def test_standard_streams_may_be_closed(self, redirection, listener, free_port):
        for peer, code in ((f"ARCHIVE@{listener}", 0), (f"127.0.0.1:{free_port}", 60)):
            command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *programs.command("echo", peer)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=programs.PATIENCE)
            assert (result.returncode, result.stdout) == (code, "")
            assert "Traceback" not in result.stderr

    def test_a_peer_that_closes_instead_of_releasing(self, listener):
        with programs.closing_at_release(int(listener.rpartition(":")[2])) as port:
            result = programs.run("echo", f"ARCHIVE@127.0.0.1:{port}")
        assert result.returncode == 0
        assert "0x0000 (success)" in result.stdout
        assert result.stderr.startswith("warning: the peer did not release the association: ")
        assert result.stderr.count("\n") == 1

    def test_nobody_is_there(self, free_port):
        result = programs.run("echo", f"127.0.0.1:{free_port}")
        assert result.returncode == 60
        assert "Connection refused" in one_line_error(result)

    def test_debug_adds_the_traceback(self, free_port):
        result = programs.run("echo", f"127.0.0.1:{free_port}", "-d")
        assert result.returncode == 60
        assert "\nTraceback (most recent call last):" in result.stderr
        assert "ConnectionFailed" in result.stderr

    def test_silence_is_a_time_out(self):
        with silent() as (_, address):
            result = programs.run("echo", address, "--timeout", "300ms")
        assert result.returncode == 124
        assert "associate time-out after 0.3 s" in one_line_error(result)

    def test_a_stream_that_is_not_dicom(self):
        def answer(server: socket.socket) -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1 << 16)

        with silent() as (server, address):
            thread = threading.Thread(target=answer, args=(server,))
            thread.start()
            result = programs.run("echo", address)
            thread.join()
        assert result.returncode == 61
        one_line_error(result)

    @pytest.mark.parametrize(("status", "code"), [(0x0122, 69), (0xB000, 68)])
    def test_a_status_that_is_no_success(self, status, code):
        scp = dn.Listener(port=0)
        scp.on_echo(lambda request: dn.Status(status))
        with scp:
            result = programs.run("echo", f"127.0.0.1:{scp.address[1]}")
        assert result.returncode == code
        assert f"answered 0x{status:04X}" in one_line_error(result)

    def test_interrupted_before_there_is_an_association(self):
        with silent() as (server, address):
            process = subprocess.Popen(
                programs.command("echo", address), cwd=programs.ROOT, stderr=subprocess.PIPE, text=True
            )
            connection, _ = server.accept()
            with connection:
                connection.recv(1)  # it waits for the answer to its request now
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=programs.PATIENCE)
        assert process.returncode == 130
        assert stderr == "error: interrupted\n"
