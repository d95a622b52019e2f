"""A site: made once and whole or not at all, checked to the title, port and certificate, started and stopped."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import programs
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

import dicomnet as dn
from dicomnet.cli import app, site_run
from dicomnet.cli.site_init import certify
from dicomnet.errors import InvalidArgument
from dicomnet.server import Server
from dicomnet.server.admin import Client
from dicomnet.server.directory import ServerDirectory
from dicomnet.site.checking import check
from dicomnet.site.making import init
from dicomnet.site.plan import Site, SiteInvalid, planned

TODAY = datetime.date(2026, 1, 2)


def made(directory: Path, **options: object) -> Site:
    site = planned(directory, port=0, **options)  # type: ignore[arg-type]
    assert init(site, certify, day=TODAY)
    return site


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path: sockets are in it."""
    with TemporaryDirectory(prefix="site-") as folder:
        yield Path(folder)


def tree(directory: Path) -> str:
    """A hash of all that is in a folder: names, kinds, modes and bytes."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        digest.update(f"{path.relative_to(directory)} {path.stat().st_mode:o} {path.stat().st_mtime_ns}".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@contextmanager
def running(site: Site) -> Iterator[None]:
    """The servers of a site, in this process."""
    with ExitStack() as stack:
        for role in site.nodes:
            ServerDirectory(site.server(role)).edit({"log.file": ""})
            stack.enter_context(Server(site.server(role)))
        yield


# ---- making ----------------------------------------------------------------------------------------------------


def test_a_second_init_changes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "site"
    assert app.run(["site", "init", str(target), "--port", "0", "--workstation", "WS7", "-q"]) == 0
    before = tree(target)
    assert app.run(["site", "init", str(target), "--port", "0", "--workstation", "WS7"]) == 0
    assert app.run(["site", "init", str(target)]) == 0
    assert tree(target) == before
    assert [one.name for one in tmp_path.iterdir()] == ["site"]
    site = Site.load(target)
    assert site.nodes["workstation"].title == "WS7"
    assert len({one for node in site.nodes.values() for one in (node.port, node.tls_port, node.web_port)}) == 9


@pytest.mark.parametrize("missing", [None, "jinja2", "python_multipart"])
def test_the_console_has_an_address_where_it_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    found = site_run.find_spec
    monkeypatch.setattr(site_run, "find_spec", lambda name: None if name == missing else found(name))
    assert app.run(["site", "init", str(tmp_path / "site"), "--port", "0"]) == 0
    said = capsys.readouterr().out
    assert ("/console/" in said) == (missing is None)
    assert ("pip install 'dicomnet[console]'" in said) == (missing is not None)


def test_another_site_in_its_place_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "site"
    made(target)
    before = tree(target)
    assert app.run(["site", "init", str(target), "--archive", "PACS"]) == 2
    assert "is another site already: the archive is ARCHIVE@" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("all of it")
    assert app.run(["site", "init", str(tmp_path / "other")]) == 2
    assert "is there already, and no site" in capsys.readouterr().err
    assert tree(target) == before
    assert (tmp_path / "other" / "thesis.txt").read_text() == "all of it"


def test_a_taken_port_is_named_with_its_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert app.run(["site", "init", str(tmp_path / "site"), "--yes", "--port", str(port - 101)]) == 2
    said = capsys.readouterr().err
    name = Path("/proc/self/comm").read_text().strip()
    assert f"port {port} of the workstation over TLS is taken: process {os.getpid()} ({name}) listens there" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--archive", "MY PACS"], 'the AE title of the archive, "MY PACS", has a space'),
        (["--router", "A" * 17], "the AE title of the router"),
        (["--client", "archive"], 'the AE title "ARCHIVE" is that of archive and client'),
        (["--host", "a b"], "the address of the archive"),
        (["--host", "192.0.2.1"], "no server can listen on 192.0.2.1: it is no address of this machine"),
        (["--host", "192.0.2.1", "--port", "0"], "no server can listen on 192.0.2.1: it is no address of this machine"),
        (["--client", "C2", "--port", "65400"], "the ports go beyond 65535: begin at 65333 at most"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert app.run(["site", "init", str(tmp_path / "site"), "--yes", *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    """What cannot be is said, and asked again; what an option says is not asked."""
    ours, theirs = os.openpty()
    answers = ["", "0", "MY PACS", "MYPACS", "", "WS9", ""]  # host, port, archive twice, workstation, client, modality
    command = programs.command("site", "init", str(tmp_path / "site"), "--router", "GATE")
    pipes = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        process = subprocess.Popen(command, text=True, cwd=programs.ROOT, **pipes)
        try:
            os.write(ours, "".join(f"{one}\n" for one in answers).encode())
            _, said = process.communicate(timeout=60)
        finally:
            programs.end(process)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0, said
    assert 'the AE title of the archive, "MY PACS", has a space' in said
    assert "router" not in said
    titles = dict(Site.load(tmp_path / "site").titles)
    wanted = {"archive": "MYPACS", "workstation": "WORKSTATION", "router": "GATE", "client": "WS9", "modality": "CT1"}
    assert titles == wanted


def test_an_init_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path, names: object) -> None:
        folder.mkdir()
        raise OSError(28, "No space left on device")

    site = planned(tmp_path / "deep" / "site", port=0)
    with pytest.raises(InvalidArgument, match="No space left on device"):
        init(site, broken, day=TODAY)
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep"]


@pytest.mark.long
def test_an_init_that_is_killed_is_swept_away_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "site"
    code = (
        "import os, signal, sys, datetime; from pathlib import Path\n"
        "from dicomnet.site.making import init; from dicomnet.site.plan import planned\n"
        "from dicomnet.cli.site_init import certify\n"
        "def killed(folder, names):\n    certify(folder, names)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "init(planned(Path(sys.argv[1]), port=0), killed, day=datetime.date(2026, 1, 2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=programs.ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(tmp_path.iterdir())) == 1
    made(target)
    assert list(tmp_path.iterdir()) == [target]


def test_units_and_containers_name_the_final_place(tmp_path: Path) -> None:
    site = made(tmp_path / "site", deidentified=True)
    unit = (site.directory / "systemd" / "dicomnet-router.service").read_text()
    assert f"server run {site.directory}/servers/router\n" in unit
    assert f"ReadWritePaths=-{site.directory}/research {site.directory}/servers/router" in unit
    services = yaml.safe_load((site.directory / "compose.yaml").read_text())["services"]
    assert list(services) == ["archive", "workstation", "router"]
    assert services["archive"]["command"][-1] == f"{site.directory}/servers/archive"


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteInvalid, match=r"has too long a path, by [0-9]+ bytes, for sockets in it"):
        planned(tmp_path / ("a" * 60), port=0)


# ---- checking --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_good_site_echoes_both_ways_and_does_its_work(tmp_path: Path) -> None:
    site = made(tmp_path / "site")
    with running(site):
        report = check(site)
        assert (report.problems, report.warnings) == ((), ())
        assert len(report.cells) == 18
        assert all(one.ok for one in report.cells)
        with Client(site.server("archive")) as client:
            told = client.send("SiteCheck")
            assert (told["problems"], sum(one["ok"] for one in told["echoes"])) == ([], 18)
            servers = client.send("SiteStatus")["servers"]
            assert [(one["role"], one["problems"]) for one in servers] == [(role, []) for role in site.nodes]
        # The worklist knows the modality's work.
        with dn.client.WorklistScu(site.nodes["archive"].plain, calling="CT1") as scu:
            [item] = list(scu.items(step={"ScheduledStationAETitle": "CT1"}))
            assert item.PatientID == "SAMPLE1"


@pytest.mark.long
def test_what_is_broken_is_named(tmp_path: Path) -> None:
    """A wrong title, a closed port and an expired certificate, each by who, what and where."""
    site = made(tmp_path / "site")
    workstation, router = ServerDirectory(site.server("workstation")), ServerDirectory(site.server("router"))
    workstation.edit({"server.ae_title": "PACS2"})
    router.edit({"listen.port": 0})
    expire(site.directory / "certs", "archive")
    with running(site):
        report = check(site)
    said = "\n".join(report.problems)
    nodes = site.nodes
    assert "[server] ae_title is PACS2, and the others know the workstation by WORKSTATION" in said
    assert f"ARCHIVE cannot echo {nodes['workstation'].plain}: wrong title: nothing at port" in said
    assert f"port {nodes['router'].port} is closed: nothing listens there" in said
    assert f"the certificate {site.directory}/certs/archive.pem has expired, 2020-01-02 00:00 UTC" in said
    assert f"CLIENT cannot echo dicoms://ARCHIVE@127.0.0.1:{nodes['archive'].tls_port} over TLS" in said
    assert "certificate has expired" in said
    good = {(one.caller, one.called, one.secure) for one in report.cells if one.ok}
    assert ("client", "archive", False) in good
    assert ("client", "router", True) in good
    assert {one.called for one in report.cells if not one.ok} == {"archive", "workstation", "router"}


def test_a_site_that_is_down_says_so(tmp_path: Path) -> None:
    site = made(tmp_path / "site")
    problems = check(site).problems
    assert f"the archive does not run: dicomnet site up {site.directory}" in problems
    later = check(site, now=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=800))
    assert any("expires in 24 days" in one for one in later.warnings)


def test_certificates_and_keys_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    site = made(tmp_path / "site")
    certs = site.directory / "certs"
    early = check(site, now=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)).problems
    assert any(f"the certificate {certs}/archive.pem is not valid before" in one for one in early)
    (certs / "archive.key").write_bytes((certs / "router.key").read_bytes())
    (certs / "router.key").write_text("no key")
    (certs / "workstation.key").unlink()
    (certs / "client.pem").write_text("no certificate")
    (site.server("router") / "server.toml").write_text("[server]\n")
    said = "\n".join(check(site).problems)
    assert f"the key {certs}/archive.key is not that of the certificate {certs}/archive.pem" in said
    assert f"the key {certs}/router.key cannot be read" in said
    assert f"the key {certs}/workstation.key cannot be read" in said
    assert f"{certs}/client.pem cannot be read" in said
    assert "the router has settings that make no sense" in said
    done = programs.run_here("site", "check", site.directory)
    assert (done.returncode, f"error: {certs}/client.pem cannot be read" in done.stderr) == (69, True)


def expire(folder: Path, name: str) -> None:
    """Put a certificate in place of another that ended years ago, of the same key."""
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    old = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(authority.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2019, 1, 2))
        .not_valid_after(datetime.datetime(2020, 1, 2))
    )
    for one in old.extensions:
        builder = builder.add_extension(one.value, one.critical)
    new = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    (folder / f"{name}.pem").write_bytes(new.public_bytes(serialization.Encoding.PEM))


# ---- running ---------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.deadline(180)
def test_up_status_down(tmp_path: Path) -> None:
    """As processes of their own, named as people do, from where they are; where one does not start, none is left."""
    site = made(tmp_path / "site")
    directory = os.path.relpath(site.directory, programs.ROOT)
    try:
        assert programs.run("site", "up", directory).returncode == 0
        checked = programs.run("site", "check", directory, "--json")
        assert checked.returncode == 0, checked.stderr
        assert programs.summary(checked.stdout)["answered"] == 18
        found = [json.loads(line) for line in programs.run("site", "status", directory, "--json").stdout.splitlines()]
        assert [one["role"] for one in found if one.get("process")] == ["archive", "workstation", "router"]
        again = programs.run("site", "up", directory)
        assert "0 servers started" in again.stdout
    finally:
        assert programs.run("site", "down", directory).returncode == 0
    with socket.create_server(("127.0.0.1", site.nodes["router"].port)):
        refused = programs.run("site", "up", directory)
    assert f"process {os.getpid()} (" in refused.stderr
    (site.server("router") / "data/router/rules.toml").write_text("rules = 7")
    (site.server("workstation") / "server.toml").write_text("[server]\n")
    broken = programs.run("site", "up", directory)
    assert broken.returncode != 0
    assert "ae_title" in broken.stderr
    assert all(ServerDirectory(site.server(role)).process() is None for role in site.nodes)


def test_its_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers run elsewhere, and its files name it."""
    monkeypatch.chdir(tmp_path)
    assert made(Path("site")).directory == Path.cwd() / "site"
    assert Site.load(Path("site")).server("router") == Path.cwd() / "site" / "servers" / "router"
    assert f"{Path.cwd()}/site/servers/router" in Path("site/systemd/dicomnet-router.service").read_text()


def test_no_site_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is no site: it has no site"):
        Site.load(tmp_path)
    (tmp_path / "site.toml").write_text("client = 'X'")
    with pytest.raises(InvalidArgument, match="there is something missing"):
        Site.load(tmp_path)
    assert issubclass(SiteInvalid, InvalidArgument)
    (tmp_path / "site.toml").write_text("no TOML")
    with pytest.raises(InvalidArgument, match=r"site\.toml: "):
        Site.load(tmp_path)
    long = tmp_path / ("x" * 300)
    with pytest.raises(InvalidArgument, match="cannot be looked into: File name too long"):
        Site.found(long)
