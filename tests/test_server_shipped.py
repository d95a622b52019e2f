"""The add-ins that ship, with DCMTK and pynetdicom as their peers, plain and over TLS."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import peers
import pytest
from certificates import Authority
from lxml import etree
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification
from rig import until
from servers import Told, call, make_settings

import dicomnet as dn
from dicomnet import uids
from dicomnet.protocol.negotiation import ProposedContext
from dicomnet.server import Server, SettingsInvalid
from dicomnet.server.ae_entry import AEEntry
from dicomnet.server.audit_message import EVENTS, Participant, Subject, message
from dicomnet.server.shipped.exec import Exec
from dicomnet.server.shipped.webhook import signature
from dicomnet.server.storage import FolderStorage, check_template, safe_name


def storing(**settings):
    return make_settings(
        addins={"enable": ["verification", "storage-folder"]}, addin={"storage-folder": {"durable": False, **settings}}
    )


def stored(directory):
    return sorted(path for path in (directory / "data" / "storage-folder").rglob("*.dcm"))


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_storescu_stores_at_a_path_made_of_attributes(tmp_path, sample_files):
    template = "{PatientID}/{StudyDate}/{Modality}/{SOPInstanceUID}.dcm"
    with Server(storing(template=template), directory=tmp_path / "s") as server, Told(server) as told:
        host, port = server.address
        file = next(path for path in sample_files if path.name == "CT_small.dcm")
        command = [peers.peer_program("storescu"), "-aec", "SERVER", host, str(port), file]
        subprocess.run(command, check=True, timeout=60)
        event = told.wait_for("storage-folder.stored")[0]
    kept, sent = dcmread(stored(tmp_path / "s")[0]), dcmread(file)
    assert event.data["sop_instance_uid"] == sent.SOPInstanceUID
    assert (kept.PatientName, kept.PixelData) == (sent.PatientName, sent.PixelData)
    names = stored(tmp_path / "s")[0].relative_to(tmp_path / "s" / "data" / "storage-folder").parts
    assert names[0] == safe_name(str(sent.PatientID))
    assert names[-1] == f"{sent.SOPInstanceUID}.dcm"


@pytest.mark.parametrize(("duplicates", "statuses"), [("replace", [0, 0]), ("keep", [0, 0]), ("refuse", [0, 0x0111])])
def test_pynetdicom_stores_twice(tmp_path, sample_files, duplicates, statuses):
    dataset = next(one for one in map(dcmread, sample_files) if one.SOPClassUID == CTImageStorage)
    ae = AE()
    ae.add_requested_context(CTImageStorage, dataset.file_meta.TransferSyntaxUID)
    ae.add_requested_context(Verification)
    with Server(storing(duplicates=duplicates), directory=tmp_path) as server:
        # One request each: pynetdicom may take the answer to a second one, sent at once, for no answer.
        found = []
        for request in (lambda one: one.send_c_echo(), *[lambda one: one.send_c_store(dataset)] * 2):
            association = ae.associate(*server.address, ae_title="SERVER")
            assert association.is_established
            found.append(request(association).Status)
            association.release()
    assert found == [0, *statuses]
    assert len(stored(tmp_path)) == 1


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("../../etc/passwd", "etc_passwd"), ("/root", "_root"), ("", "_"), ("..", "_"), ("a/b\\c:d", "a_b_c_d"),
        ("CON", "_CON"), (".hidden", "hidden"), ("x" * 300, "x" * 128), ("Müller^A", "M_ller^A"), ("a\0b", "a_b"),
    ],
)  # fmt: skip
def test_no_value_leads_out_of_the_folder(tmp_path, value, name):
    path = FolderStorage(tmp_path).place("{PatientID}/x.dcm", {"PatientID": value})
    assert path.parent.parent == tmp_path
    assert safe_name(value).strip("_") == name.strip("_")
    assert ".." not in path.parts


@pytest.mark.parametrize("template", ["/{PatientID}", "../{PatientID}", "a/b", "{PatientID", "{0}", "{a.b}", "{a!r}"])
def test_templates_that_are_none_are_refused_with_the_settings(tmp_path, template):
    with pytest.raises(dn.InvalidArgument):
        check_template(template)
    with pytest.raises(dn.DicomNetError, match=r"\[addin.storage-folder\] template"):
        Server(storing(template=template), directory=tmp_path).start()


def tls_settings(authority, issued, **addins):
    return make_settings(
        listen={"tls_port": 0},
        tls={"cert": str(issued.cert), "key": str(issued.key), "ca": str(authority.file)},
        **addins,
    )


def test_a_certificate_is_rotated_without_a_restart(tmp_path, authority):
    issued, client = authority.issue("server"), authority.issue("client")
    first = issued.fingerprint
    tls = dn.TLS(ca=authority.file, cert=client.cert, key=client.key, check_name=False)
    contexts = dn.contexts.verification()
    with Server(tls_settings(authority, issued), directory=tmp_path / "s") as server:
        host, port = server.listeners["tls"].address
        address = f"dicoms://SERVER@{host}:{port}"
        with dn.connect(address, contexts=contexts, tls=tls) as before:
            assert before.tls.fingerprint == first
            renewed = authority.issue("server")
            assert renewed.cert == issued.cert
            with dn.connect(address, contexts=contexts, tls=tls) as after:
                assert after.tls.fingerprint == renewed.fingerprint
            assert before.echo().is_success
        echo = [
            peers.peer_program("echoscu"), "-aec", "SERVER", "+tls", client.key, client.cert, "+cf", authority.file,
            host, str(port),
        ]  # fmt: skip
        subprocess.run([str(one) for one in echo], check=True, timeout=60)
        context = ssl.create_default_context(cafile=str(authority.file))
        context.check_hostname = False
        context.load_cert_chain(client.cert, client.key)
        ae = AE()
        ae.add_requested_context(Verification)
        association = ae.associate(host, port, ae_title="SERVER", tls_args=(context, "localhost"))
        assert association.is_established
        assert association.send_c_echo().Status == 0
        association.release()


def test_a_title_is_bound_to_a_certificate(tmp_path, authority):
    issued, client, other = (authority.issue(name) for name in ("server", "client", "other"))
    with Server(tls_settings(authority, issued), directory=tmp_path / "s") as server:
        server.base.ae_titles.add(AEEntry(title="CT1", certificates=(client.fingerprint,)))
        host, port = server.listeners["tls"].address

        def connect(cert):
            tls = dn.TLS(ca=authority.file, cert=cert.cert, key=cert.key, check_name=False)
            address = f"dicoms://SERVER@{host}:{port}"
            return dn.connect(address, calling="CT1", contexts=dn.contexts.verification(), tls=tls)

        with connect(client) as association:
            assert association.echo().is_success
        with pytest.raises(dn.AssociationRejected):
            connect(other)


def test_the_dicom_log_names_no_patient(tmp_path, sample_files):
    settings = make_settings(
        addins={"enable": ["storage-folder", "dicom-log"]}, addin={"dicom-log": {"datasets": True}}
    )
    with Server(settings, directory=tmp_path) as server, dn.client.Client(server.peer) as client:
        sent = dcmread(sample_files[0])
        client.store(sample_files[0])
    text = (tmp_path / "data/dicom-log/messages.jsonl").read_text()
    assert "C-STORE-RQ" in text
    assert str(sent.PatientName) not in text


def test_the_dicom_log_has_what_was_seen_just_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("dicomnet.server.spies.GATHER", 60.0)  # a spy that has looked looks again at the end
    settings = make_settings(addins={"enable": ["verification", "dicom-log"]})
    with Server(settings, directory=tmp_path) as server, dn.client.Client(server.peer) as client:
        for _ in range(5):
            client.echo()
    lines = (tmp_path / "data/dicom-log/messages.jsonl").read_text().splitlines()
    assert sum("C-ECHO-RQ" in line for line in lines) == 5
    assert "the association is over" in lines[-1]


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, after it has refused a few."""

    def __init__(self, refuse):
        self.refuse, self.taken, self.arrived = refuse, [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.refuse:
            self.server.refuse -= 1
            self.send_error(503)
            return
        self.server.taken.append((self.headers["x-dicomnet-signature"], body))
        self.send_response(204)
        self.end_headers()
        if json.loads(body)["type"] == "client.disconnected":
            self.server.arrived.set()

    def log_message(self, *_):
        pass


def test_a_webhook_is_signed_and_tried_again_in_order(tmp_path):
    receiver = Receiver(refuse=2)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    table = {"url": f"http://127.0.0.1:{receiver.server_port}/", "secret": "s3cret", "first_pause": 0.01}
    settings = make_settings(addins={"enable": ["verification", "webhook"]}, addin={"webhook": table})
    try:
        with Server(settings, directory=tmp_path) as server:
            with call(server, uids.VERIFICATION) as association:
                association.echo()
            assert receiver.arrived.wait(20)
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert [json.loads(body)["type"] for _, body in receiver.taken] == ["client.associated", "client.disconnected"]
    assert all(signature("s3cret", body) == signed for signed, body in receiver.taken)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/nowhere/program"], "/nowhere/program did not run: FileNotFoundError"),
        ([sys.executable, "-c", "import sys; sys.exit('first\\nno paper')"], "ended with 1: no paper"),
        ([sys.executable, "-c", "import sys; sys.exit(3)"], "ended with 3: "),
        ([sys.executable, "-c", "import sys; sys.stdin.read(); input()"], "ended with 1: EOFError"),
        ([sys.executable, "-c", "import signal; signal.pause()"], "did not run: TimeoutExpired"),
        ([sys.executable, "-c", "", "{text}"], "did not run: ValueError"),
    ],
    ids=["no program", "its last line", "its code", "its input ends", "too long", "no argument"],
)
def test_a_program_that_fails_is_logged(tmp_path, command, said, caplog):
    seconds = 0.2 if "pause" in command[-1] else 30
    table = {"command": command, "types": ["test"], "timeout": seconds}
    settings = make_settings(addins={"enable": ["exec"]}, addin={"exec": table})
    with Server(settings, directory=tmp_path) as server:
        server.events.publish("test.one", {"text": "a\0b"})
        until(lambda: said in caplog.text, lambda: caplog.text)


def test_events_that_no_program_has_time_for_are_counted(tmp_path):
    pipe, first = tmp_path / "pipe", tmp_path / "first"
    os.mkfifo(pipe)
    first.touch()  # the first one waits, and those after it do not
    script = "import os, sys; os.path.exists(sys.argv[2]) and open(sys.argv[1]).read()"
    command = [sys.executable, "-c", script, str(pipe), str(first)]
    table = {"command": command, "types": ["test"], "most": 2}
    settings = make_settings(addins={"enable": ["exec"]}, addin={"exec": table})
    with Server(settings, directory=tmp_path) as server:
        server.events.publish("test.one", {})
        with open(pipe, "w"):  # it has begun to read
            first.unlink()
            for _ in range(5):
                server.events.publish("test", {})
            addin = server.addins.get("exec").found.plugin
            assert addin.dropped == 3


def test_names_alone_stand_in_braces():
    for part in ("{type!r}", "{type:>9}", "{0}", "{type.real}", "{"):
        with pytest.raises(ValueError, match=r"expected names alone|expected '}'|Single"):
            make_settings(addin={"exec": {"command": ["x", part], "types": []}}).table("exec", Exec.Settings)


def test_exec_runs_a_program_and_no_shell(tmp_path):
    out = tmp_path / "out"
    script = "import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]) + sys.stdin.read())"
    command = [sys.executable, "-c", script, str(out), "{type}", "{calling}", "{nothing}", "$(id)"]
    settings = make_settings(
        addins={"enable": ["verification", "exec"]},
        addin={"exec": {"command": command, "types": ["client.disconnected"]}},
    )
    with Server(settings, directory=tmp_path / "s") as server, Told(server) as told:
        with call(server, uids.VERIFICATION, calling="A; rm -rf /"):
            pass
        told.wait_for("client.disconnected")
    assert out.read_text().startswith("['client.disconnected', 'A; rm -rf /', '', '$(id)']")
    with pytest.raises(SettingsInvalid):
        make_settings(addin={"exec": {"command": ["{type}"], "types": []}}).table("exec", Exec.Settings)


def test_the_conformance_statement_says_what_negotiation_grants(tmp_path):
    syntaxes = [uids.EXPLICIT_VR_LITTLE_ENDIAN, uids.JPEG2000_LOSSLESS]
    settings = storing(sop_classes=[uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE], transfer_syntaxes=syntaxes)
    asked = [uids.VERIFICATION, uids.CT_IMAGE_STORAGE, uids.MR_IMAGE_STORAGE, uids.ULTRASOUND_IMAGE_STORAGE]
    every = [uids.IMPLICIT_VR_LITTLE_ENDIAN, *syntaxes, uids.JPEG_BASELINE_8_BIT]
    with Server(settings, directory=tmp_path) as server:
        said = server.conformance()
        listed = {one["sop_class"]: one["transfer_syntaxes"] or every for one in said["presentation_contexts"]}
        contexts = [ProposedContext(uid, (syntax,)) for uid in asked for syntax in every]
        host, port = server.address
        with dn.connect(f"SERVER@{host}:{port}", contexts=contexts) as association:
            for one in association.contexts.values():
                (syntax,) = one.offered
                assert one.accepted is (syntax in listed.get(one.abstract_syntax, ())), one
        assert f"| Implementation class UID | {uids.IMPLEMENTATION_CLASS_UID} |" in said["markdown"]
        assert "CT Image Storage" in said["markdown"]


def test_the_settings_name_the_implementation(tmp_path):
    settings = make_settings(server={"implementation_class_uid": "1.2.3.4", "implementation_version_name": "MINE_1"})
    with Server(settings, directory=tmp_path) as server, call(server, uids.VERIFICATION) as association:
        accepted = association._exchange.accept_pdu.user_information
        assert {"1.2.3.4", "MINE_1"} <= {getattr(one, "uid", None) or getattr(one, "name", None) for one in accepted}


def syslog_receiver(authority, issued):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.cert, issued.key)
    return context, socket.create_server(("127.0.0.1", 0))


def test_audit_messages_go_to_a_file_and_by_syslog_in_order(tmp_path, authority):
    issued = authority.issue("repository")
    context, listening = syslog_receiver(authority, issued)
    port = listening.getsockname()[1]
    listening.close()  # not there yet: what it is to get waits on disk
    settings = make_settings(
        audit={"file": str(tmp_path / "audit.log"), "syslog": f"127.0.0.1:{port}", "ca": str(authority.file)}
    )
    with Server(settings, directory=tmp_path / "s") as server:
        server.base.audit.record("security-alert", user="joe", what="tried the door")
        assert server.base.audit._sender.waiting >= 2
    with socket.create_server(("127.0.0.1", port)) as listening, Server(settings, directory=tmp_path / "s"):
        raw, _ = listening.accept()
        with context.wrap_socket(raw, server_side=True) as sock:
            got = b""
            while got.count(b"</AuditMessage>") < 4:
                got += sock.recv(65536)
    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert len(lines) == 5
    assert [line.encode() in got for line in lines[:4]] == [True, True, True, True]
    assert got.split(b" ", 1)[1].startswith(b"<85>1 ")
    length = int(got.split(b" ", 1)[0])
    assert got[len(str(length)) + 1 :][:length].decode().endswith("</AuditMessage>")


def test_audit_messages_keep_their_schema(tmp_path):
    schema = etree.RelaxNG(etree.parse(str(Path(__file__).parent / "data" / "audit-message.rng")))
    jane = Participant("jane", ("WS1",), True, "source", "192.0.2.1", "Jane")
    people = [jane, Participant("host", address="pacs.local")]
    about = [
        Subject("study", "1.2.3", detail={"DescriptiveNote": b"\0<x>"}, instances={uids.CT_IMAGE_STORAGE: 3}),
        Subject("patient", "4711", "DOE^JANE"),
        Subject("sop-class", "1.2.840", query=b"\x08\x00"),
    ]
    for event in EVENTS:
        text = message(event, "SERVER", people, about, outcome="serious", description="a\x01<b>")
        schema.assertValid(etree.fromstring(text.encode()))
    assert not schema.validate(etree.fromstring(b"<AuditMessage/>"))


@pytest.mark.parametrize(("add_in", "names"), [
    ("printer", ["Basic Grayscale Print Management Meta", "Basic Color Print Management Meta", "Print Job"]),
    ("media", ["Media Creation Management"]),
    ("availability", ["Instance Availability Notification"]),
])  # fmt: skip
def test_the_conformance_statement_lists_print_media_and_availability(tmp_path, add_in, names):
    with Server(make_settings(addins={"enable": [add_in]}), directory=tmp_path) as server:
        said = server.conformance()["markdown"]
    for name in names:
        assert re.search(rf"^\| {name}.* \| No \| Yes \|$", said, re.MULTILINE), name
