"""What a server's user cannot do to root, who starts the server: docs/server/operate.md."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import programs
import pytest
from servers import make_settings, write_settings

import dicomnet as dn
from dicomnet.errors import InvalidArgument
from dicomnet.server import Server, manager
from dicomnet.server.admin import Client
from dicomnet.server.directory import ServerDirectory
from dicomnet.server.privileges import become, check_owners

AS_ROOT = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root has privileges to drop")
ADD_IN = """\
import os
from pathlib import Path
Path(__file__).parent.parent.joinpath("data", "imported-by").write_text(str(os.geteuid()))
from dicomnet.server import hookimpl
class Addin:
    @hookimpl
    def start(self, context):
        pass
"""
BECOME = """\
import sys
from pathlib import Path
from dicomnet.server.runner import become
become("nobody", Path(sys.argv[1]))
"""


@pytest.fixture
def place():
    """A directory that other users get into, too."""
    path = Path(tempfile.mkdtemp(prefix="dicomnet-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def nobody():
    return pwd.getpwnam("nobody")


def of_nobody(path, tables=""):
    """A server of root's that becomes nobody."""
    write_settings(path, tables)
    text = (path / "server.toml").read_text().replace("[listen]", 'user = "nobody"\n[listen]', 1)
    (path / "server.toml").write_text(text)
    return path


@contextmanager
def running(path):
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            programs.command("server", "run", path), stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=programs.ROOT
        )
        try:
            yield programs.Provider(process, stderr)
        finally:
            programs.end(process)


def refusal(path, code=2):
    done = subprocess.run(
        programs.command("server", "run", path), capture_output=True, text=True, cwd=programs.ROOT, timeout=50
    )
    assert done.returncode == code
    return done.stderr.splitlines()[0]


@AS_ROOT
def test_add_ins_are_imported_and_files_opened_as_the_user(place):
    server, victim = of_nobody(place / "s", '[addins]\nenable = ["mine", "verification"]\n'), place / "victim"
    (server / "addins").mkdir(mode=0o700)
    (server / "addins/mine.py").write_text(ADD_IN)
    (server / "addins/mine.py").chmod(0o600)
    (server / "data").mkdir()
    (server / "logs").mkdir()
    os.chown(server / "logs", nobody().pw_uid, -1)
    with running(server) as provider:
        assert (server / "data/imported-by").read_text() == str(nobody().pw_uid)
        with dn.connect(f"SERVER@{provider.address}", contexts=dn.contexts.verification()) as association:
            assert association.echo().is_success
        ServerDirectory(server).edit({"server.description": "edited"})
        with Client(server) as admin:
            assert "server.description" in admin.request("POST", "/v1/reload")["changed"]
        provider.stop()
    victim.write_text("root's\n")
    victim.chmod(0o600)
    (server / "logs/server.log").unlink()
    (server / "logs/server.log").symlink_to(victim)
    assert "does not start: log:" in refusal(server, 61)
    assert victim.read_text() == "root's\n"


@AS_ROOT
def test_settings_and_add_ins_stay_roots_and_links_are_left_alone(place):
    server, victim = of_nobody(place / "s"), place / "victim"
    victim.write_text("root's")
    for folder in ("addins/deep", "data/deep"):
        (server / folder).mkdir(parents=True)
        (server / folder / "mine.py").write_text("")
        (server / folder / "mine.py").chmod(0o666)
    os.link(victim, server / "data/hard")
    (server / "data/soft").symlink_to(victim)
    (server / "data/away").symlink_to(place)
    subprocess.run([sys.executable, "-c", BECOME, server], check=True, cwd=programs.ROOT)

    def of(path):
        found = path.lstat()
        return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)

    user, group = nobody().pw_uid, nobody().pw_gid
    assert of(server) == (0, group, 0o1770)
    assert of(server / "server.toml") == (0, group, 0o640)
    assert of(server / "addins/deep/mine.py") == (0, group, 0o644)
    assert of(server / "data/deep")[:2] == of(server / "data/deep/mine.py")[:2] == (user, group)
    assert of(victim)[0] == of(place)[0] == of(server / "data/soft")[0] == 0

    def tried(script):
        who = {"user": "nobody", "group": group, "extra_groups": []}
        return subprocess.run(["sh", "-c", script], cwd=server, capture_output=True, check=False, **who).returncode == 0

    assert tried("touch here data/here && cat server.toml addins/deep/mine.py > here")
    for script in ("echo >> server.toml", "mv here server.toml", "mv server.toml gone", "mv addins gone",
                   "touch addins/x.py", "touch addins/deep/x.py", "echo >> addins/deep/mine.py"):  # fmt: skip
        assert not tried(script), script


@AS_ROOT
def test_there_is_no_such_user_to_become(place):
    write_settings(place / "s")
    with pytest.raises(InvalidArgument, match='there is no user "no-such-user" to become'):
        become("no-such-user", place / "s")
    become("", place / "s")
    assert os.geteuid() == 0
    assert sorted(path.name for path in (place / "s").iterdir()) == ["server.toml"]
    text = (place / "s/server.toml").read_text().replace("[listen]", 'user = "no-such-user"\n[listen]', 1)
    (place / "s/server.toml").write_text(text)
    assert "no-such-user" in refusal(place / "s")


@AS_ROOT
def test_what_else_an_add_in_leads_to_is_looked_at_too(place):
    server = of_nobody(place / "s")
    check_owners(server)
    (server / "addins/deep").mkdir(parents=True)
    check_owners(server)
    (server / "addins/deep/link.py").symlink_to(place)
    os.chown(server / "addins/deep/link.py", nobody().pw_uid, -1, follow_symlinks=False)
    with pytest.raises(InvalidArgument, match=r"deep/link\.py belongs to user") as told:
        check_owners(server)
    assert f"cd {server} && chown -hR root ." in told.value.hint


@AS_ROOT
@pytest.mark.parametrize("user", ["nobody", ""])
@pytest.mark.parametrize("name", ["server.toml", "addins", "addins/mine.py"])
@pytest.mark.long
def test_root_trusts_no_settings_and_no_add_in_of_another_user(place, user, name):
    server = of_nobody(place / "s") if user else place / "s"
    if not user:
        write_settings(server)
    (server / "addins").mkdir()
    (server / "addins/mine.py").write_text(ADD_IN)
    os.chown(server / name, nobody().pw_uid, -1)
    line = refusal(server)
    assert line.startswith(f"error: {server / name} belongs to user {nobody().pw_uid}")
    assert not (server / "run").exists()


@AS_ROOT
@pytest.mark.long
def test_workers_are_the_users_too(place):
    # Where the interpreter is out of nobody's reach, no worker of nobody's starts: the way there is the same for root.
    tried = ["sh", "-c", '"$0" -c ""', sys.executable]
    reach = subprocess.run(tried, user="nobody", capture_output=True, check=False)
    user = "nobody" if reach.returncode == 0 else "root"
    server = of_nobody(place / "s")
    text = (server / "server.toml").read_text().replace('"nobody"\n', f'"{user}"\nworkers = 2\n', 1)
    (server / "server.toml").write_text(text)
    with running(server) as provider:
        with dn.connect(f"SERVER@{provider.address}", contexts=dn.contexts.verification()) as association:
            assert association.echo().is_success
        with Client(server / "run/worker-2/admin.sock") as admin:
            assert admin.status()["state"] == "running"
        assert (server / "run/worker-2/admin.sock").stat().st_uid == pwd.getpwnam(user).pw_uid
        provider.stop()


@AS_ROOT
def test_what_a_start_says_follows_no_link(place):
    server, victim = of_nobody(place / "s"), place / "victim"
    victim.write_text("root's")
    (server / "logs").mkdir()
    (server / "logs/run.log").symlink_to(victim)
    try:
        with pytest.raises(InvalidArgument, match=r"run\.log cannot be opened"):
            manager.start(ServerDirectory(server))
    finally:
        if ServerDirectory(server).process() is not None:
            manager.stop(ServerDirectory(server))
    assert victim.read_text() == "root's"


def test_an_edit_follows_no_link_and_keeps_who_may_read(tmp_path):
    server, victim = tmp_path / "s", tmp_path / "victim"
    write_settings(server)
    (server / "server.toml").chmod(0o640)
    victim.write_text("theirs")
    (server / "server.new").symlink_to(victim)
    ServerDirectory(server).edit({"server.description": "edited"})
    assert victim.read_text() == "theirs"
    assert stat.S_IMODE((server / "server.toml").stat().st_mode) == 0o640
    assert ServerDirectory(server).settings().server.description == "edited"
    assert sorted(path.name for path in server.iterdir()) == ["server.new", "server.toml"]


def test_the_token_is_written_through_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    (tmp_path / "s/run").mkdir(parents=True)
    (tmp_path / "s/run/admin.token").symlink_to(victim)
    with Server(make_settings(admin={"tcp_port": 0}), directory=tmp_path / "s"):
        assert (tmp_path / "s/run/admin.token").lstat().st_mode == stat.S_IFREG | 0o600
    assert victim.read_text() == "theirs"


@AS_ROOT
def test_a_start_hears_that_the_users_server_is_ready(place):
    server = ServerDirectory(of_nobody(place / "s"))
    pid = manager.start(server)
    try:
        assert f"Uid:\t{nobody().pw_uid}\t" in Path(f"/proc/{pid}/status").read_text()
    finally:
        manager.stop(server)
    assert server.process() is None
