"""TLS: what is let in, what is not, and what is said about it (PS3.15 Annex B.12)."""

# ruff: noqa: SIM117 - who listens comes before who connects

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import socket
import ssl
import subprocess
import threading
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from time import monotonic

import faces
import peers
import pytest
from certificates import Authority, rsa_key
from driving import STANDARD
from test_loop import query

import dicomnet as dn
from dicomnet.files.instance_source import BytesSource
from dicomnet.protocol.exchange import Exchange
from dicomnet.sync.secure import open_transport
from dicomnet.wire.command_set import Command

CT, EXPLICIT = dn.uids.CT_IMAGE_STORAGE, dn.uids.EXPLICIT_VR_LITTLE_ENDIAN
CONTEXTS = [*dn.contexts.verification(), *dn.contexts.storage([CT])]
QUICK = dn.Timeouts(tls=2, connect=5, associate=5, response=5, release=2, artim=2)
PATIENT = dn.Timeouts(tls=20, connect=20, associate=20, response=20, release=20, artim=20)  # where none is to run out


class Papers:
    """Two authorities, and what they issued."""

    def __init__(self, directory):
        self.directory = directory
        self.ours, self.theirs = Authority(directory), Authority(directory, "Other CA")
        self.server, self.client = self.ours.issue("server"), self.ours.issue("client")
        self.rsa = self.ours.issue("rsa", key=rsa_key(2048))
        self.expired = self.ours.issue("expired", days=(-30, -1))
        self.early = self.ours.issue("early", days=(1, 30))
        self.foreign = self.theirs.issue("foreign")
        self.misnamed = self.ours.issue("misnamed", names=("elsewhere.example",))
        self.nameless = self.ours.issue("nameless", names=())
        self.weak = self.ours.issue("weak", key=rsa_key(1024))
        self.revoked = self.ours.issue("revoked")
        self.crl = self.ours.revoke(self.revoked)

    def tls(self, issued=None, **options):
        """What a side with this certificate says."""
        given = {"ca": self.ours.file} | ({} if issued is None else {"cert": issued.cert, "key": issued.key})
        return dn.TLS(**given | options)

    @property
    def sha1(self):
        if not hasattr(self, "_sha1"):
            self._sha1 = self.ours.issue_with_sha1("sha1", peers.peer_program("openssl"))
        return self._sha1


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    return Papers(tmp_path_factory.mktemp("papers"))


@contextmanager
def provider(tls, face="sync", **options):
    """A listener, and the sizes and the links of what it stored."""
    stored, users = [], []

    def configure(listener):
        @listener.on_store()
        def keep(request):
            stored.append((request.size, request.tls))
            users.append(request.user)
            return dn.Status.SUCCESS

    with faces.provider(face, configure, "SCP", tls=tls, **{"timeouts": QUICK} | options) as serving:
        listener = serving.listener
        listener.stored, listener.users = stored, users
        yield listener


def connect(listener, tls, **options):
    return dn.connect(f"SCP@127.0.0.1:{listener.address[1]}", tls=tls, contexts=CONTEXTS, timeouts=QUICK, **options)


def user(face, port, tls, timeouts=QUICK):
    """The same over either face."""
    return faces.USERS[face](f"SCP@127.0.0.1:{port}", tls=tls, contexts=CONTEXTS, timeouts=timeouts)


def instance(size):
    return BytesSource(bytes(size), EXPLICIT, CT, "1.2.3", force=True)  # no data set, for all that TLS cares


@contextmanager
def raw_server(context):
    """A TLS server that is not ours; it takes one connection, and holds it until the peer leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        met = []

        def serve():
            sock, _ = listening.accept()
            sock.settimeout(5)
            with sock:
                try:
                    with context.wrap_socket(sock, server_side=True) as secured:
                        met.append(secured.version())
                        while secured.recv(1000):
                            met.append("data")
                except OSError as error:
                    met.append(error)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], met
        thread.join(5)


def raw_context(side, issued=None, ca=None, *, version=None, ciphers="DEFAULT:@SECLEVEL=0"):
    """TLS as people should not speak it."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if issued is not None:
        context.load_cert_chain(issued.cert, issued.key)
    if ca is not None:
        context.load_verify_locations(ca)
    return context


class TestWhatIsLetIn:
    @pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
    @pytest.mark.parametrize("certificate", ["server", "rsa"])
    @pytest.mark.parametrize("clients", ["required", "optional", "ignored"])
    def test_versions_keys_and_client_certificates(self, papers, version, certificate, clients, monkeypatch):
        client = papers.tls(papers.client)
        if version == "TLSv1.2":
            monkeypatch.setattr(client.client_context(), "maximum_version", ssl.TLSVersion.TLSv1_2)
        with provider(papers.tls(getattr(papers, certificate), client_certificate=clients)) as listener:
            with connect(listener, client) as association:
                assert association.echo().is_success
                assert association.store(instance(100)).ok
                assert association.tls.version == version
                assert "GCM" in association.tls.cipher or "CHACHA" in association.tls.cipher
                assert association.tls.fingerprint == getattr(papers, certificate).fingerprint
                assert "127.0.0.1" in association.tls.names
            ((size, link),) = listener.stored
        assert size == 100
        assert link.version == version
        assert link.fingerprint == ("" if clients == "ignored" else papers.client.fingerprint)
        assert ("CN" in link.subject or "commonName=client" in link.subject) == (clients != "ignored")

    @pytest.mark.parametrize("clients", ["optional", "ignored"])
    def test_callers_without_a_certificate_where_they_need_none(self, papers, clients):
        with (
            provider(papers.tls(papers.server, client_certificate=clients)) as listener,
            connect(listener, papers.tls()) as association,
        ):
            assert association.echo().is_success

    @pytest.mark.parametrize("profile", ["B.12", "B.10"])
    def test_profiles(self, papers, profile):
        with provider(papers.tls(papers.rsa, profile=profile)) as listener:
            client = papers.tls(papers.client, profile=profile)
            with connect(listener, client) as association:
                assert association.echo().is_success

    def test_the_cipher_suites_are_those_of_the_profile(self, papers):
        context = papers.tls(papers.server).server_context()
        offered = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
        listed = STANDARD["tls_profiles"]["B.12"]["ciphers"].partition("for TLS 1.2: ")[2].partition(";")[0]
        wanted = {
            name.strip().removeprefix("TLS_").replace("WITH_", "").replace("AES_", "AES").replace("_", "-")
            for name in listed.split(",")
        }
        assert offered == wanted
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize("size", [2, 16384, 16386, 1 << 20, (5 << 20) + 2])
    def test_sizes(self, papers, size):
        tls = papers.tls(papers.server)
        with provider(tls) as listener:
            with connect(listener, tls) as association:
                assert association.store(instance(size)).ok
            assert [stored for stored, _ in listener.stored] == [size]

    def test_a_name_of_ones_own(self, papers):
        with provider(papers.tls(papers.misnamed, client_certificate="ignored")) as listener:
            for options in ({"server_name": "elsewhere.example"}, {"check_name": False}):
                with connect(listener, papers.tls(**options)) as association:
                    assert association.echo().is_success

    def test_dicoms_is_never_plain(self, papers):
        with provider(papers.tls(papers.server, client_certificate="ignored")) as listener:
            peer = f"dicoms://SCP@127.0.0.1:{listener.address[1]}"
            with dn.connect(peer, tls=papers.tls(), contexts=CONTEXTS) as association:
                assert association.tls is not None
            with pytest.raises(dn.TLSFailed):  # the system's authorities have not heard of ours
                dn.connect(peer, contexts=CONTEXTS, timeouts=QUICK)

    def test_a_plain_association_says_so(self):
        with provider(None) as listener, connect(listener, None) as association:
            assert association.tls is None

    def test_a_renewed_certificate_is_taken_without_a_restart(self, papers, tmp_path):
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        seen = []
        tls = dn.TLS(cert=cert, key=key, client_certificate="ignored")
        for issued in (papers.server, papers.rsa):
            cert.write_bytes(issued.cert.read_bytes())
            key.write_bytes(issued.key.read_bytes())
            if not seen:
                listener = dn.Listener("SCP", port=0, tls=tls, timeouts=QUICK)
                listener.__enter__()
            with connect(listener, papers.tls()) as association:
                seen.append(association.tls.fingerprint)
        listener.__exit__(None, None, None)
        assert seen == [papers.server.fingerprint, papers.rsa.fingerprint]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("face", ["sync", "aio"])
class TestWhatIsNotLetIn:
    """No wrong success, on either side."""

    @pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
    @pytest.mark.parametrize("bad", ["expired", "early", "foreign", "weak", "sha1", "revoked", None])
    def test_callers(self, papers, face, bad, version, caplog):
        context = raw_context(
            ssl.PROTOCOL_TLS_CLIENT,
            bad and getattr(papers, bad),
            version=getattr(ssl.TLSVersion, version.replace(".", "_")),
        )
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(papers.tls(papers.server, crl=papers.crl), face) as listener:
            assert ask(context, listener.address) == b""
        assert "certificate" in caplog.text or "ca md too weak" in caplog.text

    @pytest.mark.parametrize("bad", ["expired", "early", "foreign", "misnamed", "nameless", "weak", "sha1", "revoked"])
    def test_providers(self, papers, face, bad):
        with raw_server(raw_context(ssl.PROTOCOL_TLS_SERVER, getattr(papers, bad))) as (port, met):
            with pytest.raises(dn.TLSFailed) as caught:
                user(face, port, papers.tls(crl=papers.crl))
        assert "data" not in met
        assert caught.value.peer == f"SCP@127.0.0.1:{port}"

    @pytest.mark.parametrize("bad", ["weak", "sha1"])
    def test_weak_certificates_of_our_own(self, papers, face, bad):
        tls = papers.tls(getattr(papers, bad))
        with pytest.raises(dn.InvalidArgument, match=r"too (small|weak)"), provider(tls, face):
            pass
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(dn.InvalidArgument, match=r"too (small|weak)"):
                user(face, silent.getsockname()[1], tls)

    OLD = ["SSLv3", "TLSv1", "TLSv1_1"]
    BAD_CIPHERS = [
        "AES128-SHA", "AES128-GCM-SHA256", "AES256-SHA256", "DES-CBC3-SHA", "RC4-SHA", "RC4-MD5", "NULL-SHA",
        "NULL-SHA256", "ECDHE-RSA-NULL-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384",
        "ECDHE-RSA-DES-CBC3-SHA", "AECDH-AES128-SHA", "ADH-AES128-GCM-SHA256", "DHE-RSA-AES128-SHA",
        "PSK-AES128-GCM-SHA256", "CAMELLIA128-SHA",
    ]  # fmt: skip

    @pytest.mark.parametrize("version", OLD)
    def test_old_versions(self, papers, face, version):
        number = getattr(ssl.TLSVersion, version)
        self.refused(papers, face, {"version": number})

    @pytest.mark.parametrize("cipher", BAD_CIPHERS)
    def test_bad_ciphers(self, papers, face, cipher):
        self.refused(papers, face, {"version": ssl.TLSVersion.TLSv1_2, "ciphers": f"{cipher}:@SECLEVEL=0"})

    def refused(self, papers, face, options):
        """By our listener, and by our requestor."""
        try:
            client = raw_context(ssl.PROTOCOL_TLS_CLIENT, papers.client, **options)
            server = raw_context(ssl.PROTOCOL_TLS_SERVER, papers.rsa, **options)
        except (ssl.SSLError, ValueError) as error:
            pytest.skip(f"this OpenSSL cannot even speak it: {error}")
        with provider(papers.tls(papers.rsa), face) as listener, socket.create_connection(listener.address) as sock:
            sock.settimeout(5)
            with pytest.raises(OSError):  # noqa: PT011 how depends on who refuses first
                client.wrap_socket(sock)
        with raw_server(server) as (port, met), pytest.raises(dn.TLSFailed):
            user(face, port, papers.tls(papers.rsa))
        assert all(isinstance(one, OSError) for one in met)

    def test_minimum_version(self, papers, face):
        with provider(papers.tls(papers.server, minimum_version="1.3"), face) as listener:
            with connect(listener, papers.tls(papers.client)) as association:
                assert association.tls.version == "TLSv1.3"
            old = raw_context(ssl.PROTOCOL_TLS_CLIENT, papers.client, version=ssl.TLSVersion.TLSv1_2)
            with socket.create_connection(listener.address) as sock, pytest.raises(ssl.SSLError):
                old.wrap_socket(sock)

    def test_renegotiation_is_refused(self, papers, face):
        with provider(papers.tls(papers.server, client_certificate="ignored"), face) as listener:
            host, port = listener.address
            command = [peers.peer_program("openssl"), "s_client", "-connect", f"{host}:{port}", "-tls1_2"]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                assert process.stdin is not None
                said = ""
                while "---\n" not in said[-8:] or "Verify return code" not in said:
                    said += process.stdout.readline()
                process.stdin.write("R\n")
                process.stdin.flush()
                rest = process.stdout.read()
        assert "RENEGOTIATING" in rest
        assert "no renegotiation" in rest


class TestWhatIsSaid:
    def test_plain_spoken_to_tls(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(papers.tls(papers.server)) as listener:
            with pytest.raises(dn.RemoteProtocolError, match="the peer speaks TLS, and this connection does not"):
                connect(listener, None)
        assert "the peer speaks DICOM without TLS to this TLS port" in caplog.text

    def test_tls_spoken_to_plain(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(None) as listener:
            with pytest.raises(dn.TLSFailed, match="the peer speaks DICOM without TLS on this port"):
                connect(listener, papers.tls())
        assert "the peer speaks TLS, and this port does not" in caplog.text

    def test_something_else_spoken_to_tls(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(papers.tls(papers.server)) as listener, socket.create_connection(listener.address) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            sock.settimeout(5)
            assert sock.recv(100) == bytes.fromhex("15030300020246")
            assert sock.recv(100) == b""
        assert "the peer speaks no TLS" in caplog.text

    def test_a_missing_client_certificate_on_both_sides(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")
        with provider(papers.tls(papers.server)) as listener, pytest.raises(dn.TLSFailed) as caught:
            connect(listener, papers.tls())
        assert "certificate required" in str(caught.value)
        assert caught.value.peer in str(caught.value)
        assert "peer did not return a certificate" in caplog.text

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"ca": "nowhere.pem"}, "nowhere.pem: No such file"),
            ({"profile": "B.1"}, "B.12"),
            ({"minimum_version": "1.1"}, r"1\.2 and 1\.3"),
            ({"client_certificate": "sometimes"}, "required"),
            ({"key": "key.pem"}, "without its certificate"),
            ({}, "needs a certificate"),
        ],
    )
    def test_what_cannot_be(self, options, said):
        with pytest.raises(dn.InvalidArgument, match=said):
            dn.TLS(**options).server_context()

    def test_required_certificates_need_an_authority(self, papers):
        with pytest.raises(dn.InvalidArgument, match="which authority"):
            dn.Listener(port=0, tls=papers.tls(papers.server, ca=None)).open()

    def test_keys_that_do_not_fit(self, papers):
        with pytest.raises(dn.InvalidArgument, match="certificate and key"):
            papers.tls(papers.server, key=papers.client.key).client_context()
        with pytest.raises(dn.InvalidArgument, match="certificate and key"):
            papers.tls(papers.server, cert=__file__).client_context()

    def test_a_password_does_not_show(self, papers):
        tls = papers.tls(papers.server, key_password="hunter2")
        assert "hunter2" not in repr(tls)
        assert "server" in repr(tls)

    def test_the_error_is_one_of_the_network(self):
        error = pickle.loads(pickle.dumps(dn.TLSFailed("no", peer="A@b:1", hint="Try.")))
        assert isinstance(error, dn.ConnectionFailed)
        assert str(error) == "A@b:1: no. Try."

    def test_a_context_that_its_owner_has_seen_is_the_one_that_is_used(self, papers):
        tls = papers.tls(papers.client)
        tls.client_context().set_alpn_protocols(["acr-nema"])
        client, server = tls.connect("127.0.0.1"), papers.tls(papers.server)
        server.server_context().set_alpn_protocols(["acr-nema"])
        accepted = server.accept()
        shake(client, accepted)
        assert client._object.selected_alpn_protocol() == "acr-nema"

    @pytest.mark.parametrize("name", ["dicom.example", "127.0.0.1", "röntgen.example"])
    def test_names_are_asked_for_as_certificates_have_them(self, papers, name):
        client = papers.tls(papers.client).connect(name)
        client.handshake()
        hello = client.outgoing()
        assert (name.encode("idna") in hello) == (not name[0].isdigit())  # an address is no server name (RFC 6066)

    @pytest.mark.parametrize("name", ["a" * 300, ".a", "ö" * 100], ids=["long", "empty", "not ASCII"])
    def test_a_name_that_no_certificate_has_is_a_wrong_argument(self, papers, name):
        with pytest.raises(dn.InvalidArgument, match="no name that a certificate has"):
            papers.tls(papers.client).connect(name)


class TestTime:
    def test_a_silent_client_delays_nobody_and_is_closed(self, papers):
        tls = papers.tls(papers.server)
        with provider(tls, timeouts=dn.Timeouts(tls=5, artim=60)) as listener:
            begun = monotonic()
            silent = [socket.create_connection(listener.address) for _ in range(20)]
            with connect(listener, tls) as association:
                assert association.echo().is_success
            assert monotonic() - begun < 5, "none of them was waited for"
            for sock in silent:
                sock.settimeout(30)
                assert sock.recv(1) == b""
                sock.close()
            assert 4.9 < monotonic() - begun < 30

    @pytest.mark.parametrize("hello", [b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
    def test_a_client_that_stops_half_way(self, papers, hello):
        with provider(papers.tls(papers.server), timeouts=dn.Timeouts(tls=0.5, artim=60)) as listener:
            with socket.create_connection(listener.address) as sock:
                sock.settimeout(30)  # half of what ARTIM would take
                sock.sendall(hello)
                assert sock.recv(1) == b""

    def test_a_silent_server(self, papers):
        with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(dn.DeadlineExceeded) as caught:
            dn.connect(
                f"SCP@127.0.0.1:{listening.getsockname()[1]}",
                tls=papers.tls(),
                contexts=CONTEXTS,
                timeouts=dn.Timeouts(tls=0.2),
            )
        assert (caught.value.timeout, caught.value.seconds) == ("tls", 0.2)

    def test_a_server_that_hangs_up(self, papers):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=hang_up, args=(listening,), daemon=True).start()
            with pytest.raises(dn.TLSFailed, match="closed the connection during the TLS handshake"):
                dn.connect(
                    f"SCP@127.0.0.1:{listening.getsockname()[1]}", tls=papers.tls(), contexts=CONTEXTS, timeouts=QUICK
                )


def ask(context, address) -> bytes:
    """What a request for an association is answered, if it comes to that."""
    with socket.create_connection(address) as sock:
        sock.settimeout(5)
        try:
            with context.wrap_socket(sock) as secured:
                secured.sendall(associate_request())
                return secured.recv(100)
        except (ssl.SSLError, ConnectionError):
            return b""


def hang_up(listening):
    listening.accept()[0].close()


def associate_request() -> bytes:
    from dicomnet.protocol.negotiation import propose

    return propose(CONTEXTS, calling="CALLER", called="SCP", max_pdu=16384).encode()


class Cutter:
    """Between a requestor and a listener: hands on so many bytes of the requestor's, then cuts both connections."""

    def __init__(self, target, budget):
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._target, self._left = target, budget
        self.port = self._listening.getsockname()[1]
        self.passed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        with self._listening, self._listening.accept()[0] as near, socket.create_connection(self._target) as far:
            back = threading.Thread(target=self._back, args=(far, near), daemon=True)
            back.start()
            try:
                while self._left > 0 and (data := near.recv(min(self._left, 65536))):
                    far.sendall(data)
                    self._left -= len(data)
                    self.passed += len(data)
            except OSError:
                pass
            for end in (near, far):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            back.join()

    def _back(self, far, near):
        try:
            while data := far.recv(65536):
                near.sendall(data)
        except OSError:
            pass

    def join(self):
        self._thread.join(10)


@pytest.mark.parametrize("face", faces.FACES)
def test_what_waits_to_be_sent_is_whole_though_the_peer_speaks_meanwhile(papers, face):
    """It speaks a byte at a time, which is no request yet: so it is heard all the time, also when nothing goes out."""
    size, matches = 3_000_000, 2

    def configure(listener):
        @listener.on_find("STUDY_ROOT")
        def found(_):
            for _ in range(matches):
                yield {"TextValue": "x" * size}

    context = raw_context(ssl.PROTOCOL_TLS_CLIENT, papers.client)
    tls = papers.tls(papers.server)
    with faces.provider(face, configure, tls=tls) as serving, serving.raw(receive_buffer=4096) as plain:
        with context.wrap_socket(plain.sock) as secured:
            raw = faces.RawUser(secured)
            query(raw)
            request = faces.message(3, echo_request(2))
            for place, byte in enumerate(request, 1):
                raw.send(bytes([byte]))
                raw.fill(place * matches * size // len(request))  # it has more to send than anything takes
            pdus = [raw.read()]
            while not is_echo(pdus[-1], 2):
                pdus.append(raw.read())
    pdvs = [pdv for pdu in pdus for pdv in pdu.pdvs if not pdv.is_command]
    assert b"".join(pdv.data for pdv in pdvs).count(b"x") == matches * size


def echo_request(message_id):
    return Command(
        affected_sop_class_uid=dn.uids.VERIFICATION, command_field=0x30, message_id=message_id,
        command_data_set_type=0x101,
    )  # fmt: skip


def is_echo(pdu, message_id):
    """Whether it is the response to this C-ECHO."""
    (pdv,) = pdu.pdvs
    if not pdv.is_command:
        return False
    command = faces.decode(pdv.data)
    return command.command_field == 0x8030 and command.message_id_being_responded_to == message_id


class TestCuts:
    def session(self, papers, face, address, budget):
        cutter = Cutter(address, budget)
        error = None
        try:
            with user(face, cutter.port, papers.tls(papers.client), PATIENT) as association:
                association.store(instance(3000))
        except dn.DicomNetError as failure:
            error = failure
        cutter.join()
        return cutter.passed, error

    @pytest.mark.deadline(120)
    @pytest.mark.parametrize("face", ["sync", "aio"])
    def test_a_cut_at_any_byte_is_a_lost_connection_and_leaves_nothing(self, papers, face, tmp_path, caplog):
        """Without its close_notify a connection that ends is an association aborted, wherever it is cut."""
        spool = tmp_path / "spool"
        spool.mkdir()
        whole = []

        def configure(listener):
            @listener.on_store(spool=str(spool))
            def keep(request):
                whole.append(request.size)
                return dn.Status.SUCCESS

        with faces.provider(face, configure, "SCP", tls=papers.tls(papers.server), timeouts=PATIENT) as scp:
            address = scp.listener.address
            length, error = self.session(papers, face, address, 1 << 30)
            assert (error, whole) == (None, [3000])
            cut_early = 0
            for budget in range(1, length, max(length // 60, 1)):
                _, error = self.session(papers, face, address, budget)
                cut_early += error is not None
                if error is not None:
                    assert isinstance(error, dn.ConnectionFailed), f"cut at {budget}: {error!r}"
            with connect(scp.listener, papers.tls(papers.client)) as association:
                assert association.echo().is_success
        assert cut_early > 50
        assert set(whole) == {3000}
        assert not list(spool.iterdir())
        assert "Traceback" not in caplog.text

    @pytest.mark.parametrize("face", ["sync", "aio"])
    @pytest.mark.parametrize("notified", [False, True])
    def test_the_end_of_the_stream_amid_an_association_is_its_end(self, papers, face, notified, caplog):
        """With a close_notify or without: to DICOM it is an abort (PS3.15 Section B.1)."""
        caplog.set_level(logging.INFO, "dicomnet")
        context = raw_context(ssl.PROTOCOL_TLS_CLIENT, papers.client)
        with provider(papers.tls(papers.server), face) as listener:
            with socket.create_connection(listener.address) as sock, context.wrap_socket(sock) as secured:
                secured.settimeout(5)
                secured.sendall(associate_request())
                assert secured.recv(1000)[:1] == b"\x02"
                secured.sendall(b"\x04\0\0\0\x10\0")  # a PDU begins
                if notified:
                    with suppress(OSError):
                        secured.unwrap()
                else:
                    secured.shutdown(socket.SHUT_WR)
                with suppress(OSError):
                    assert sock.recv(1000) == b""
        assert "the peer closed the connection before the association was over" in caplog.text

    @pytest.mark.parametrize("face", ["sync", "aio"])
    @pytest.mark.parametrize("notified", [False, True])
    def test_a_provider_that_ends_the_stream_is_a_failure(self, papers, face, notified):
        context = raw_context(ssl.PROTOCOL_TLS_SERVER, papers.server)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=accept_and_leave, args=(listening, context, notified))
            thread.start()
            with user(face, listening.getsockname()[1], papers.tls()) as association:
                with pytest.raises(dn.ConnectionFailed):
                    association.echo()
            thread.join(5)

    @pytest.mark.parametrize("size", [0, 1, 1 << 17, (1 << 17) + 16383, (1 << 17) + 16384, 1 << 18])
    @pytest.mark.parametrize("cut", [0, 12, 140_000])
    def test_the_end_of_a_message_is_not_left_for_a_portion_of_its_own(self, papers, size, cut):
        tls = papers.tls(papers.server)
        client, server = tls.connect("127.0.0.1"), tls.accept()
        shake(client, server)
        data = random.Random(size).randbytes(size)
        written = client.write([data[:cut], data[cut:]])
        assert written == (size if size < (1 << 17) + 16384 else 1 << 17)
        server.receive(client.outgoing())
        received = memoryview(bytearray(size + 1))
        assert (server.read_into(received) or 0) == written
        assert received[:written] == data[:written]

    def test_bytes_changed_on_the_way(self, papers):
        """A record that does not verify is the end: nothing of it is handed on."""
        tls = papers.tls(papers.server)
        client, server = tls.connect("127.0.0.1"), tls.accept()
        shake(client, server)
        client.write([b"DICOM" * 10])
        sent = bytearray(client.outgoing())
        sent[-1] ^= 1
        server.receive(sent)
        with pytest.raises(dn.TLSFailed, match="the TLS connection broke"):
            server.read_into(memoryview(bytearray(100)))
        client.receive(server.outgoing())
        with pytest.raises(dn.TLSFailed, match="bad record mac"):
            client.read_into(memoryview(bytearray(100)))


@contextmanager
def transports(papers):
    """Both ends of a connection, after the handshake."""
    tls = papers.tls(papers.server)
    ours, theirs = socket.socketpair()
    client = open_transport(ours, dn.Limits(), QUICK, tls, "127.0.0.1")
    server = open_transport(theirs, dn.Limits(), QUICK, tls)
    with closing(client), closing(server):
        thread = threading.Thread(target=server.handshake, args=(5,))
        thread.start()
        client.handshake(5)
        thread.join()
        yield client, server


def test_what_the_socket_has_room_for_is_sent_in_one_call(papers, monkeypatch):
    """However little is encrypted at a time: who is told of less waits for room."""
    monkeypatch.setattr("dicomnet.net.tls_channel._PORTION", 1000)
    monkeypatch.setattr("dicomnet.net.tls_channel._RECORD", 10)
    with transports(papers) as (client, server):
        data = [bytes(range(256)) * 10, b"DICOM", bytes(7000)]
        assert client.send(data) == 9565
        received = b""
        while len(received) < 9565:
            received += server.receive() or b""
        assert received == b"".join(data)


def test_a_last_word_is_whole_though_other_bytes_were_still_owed(papers, monkeypatch):
    """What the socket had no room for is given again by whoever goes on; an A-ABORT comes from whoever does not."""
    monkeypatch.setattr("dicomnet.net.tls_channel._PORTION", 1000)
    with transports(papers) as (client, server):
        sent, data = 0, bytes(1 << 24)
        while some := client.send([data[sent:]]):
            sent += some
        received = bytearray()
        while (arrived := server.receive()) is not None:
            received += arrived
        client.send_last([b"the last word"])
        while not received.endswith(b"the last word"):
            assert server.wait(faces.PATIENCE)
            received += server.receive() or b""
        assert sent <= len(received) - 13 <= sent + 1000
        assert not any(received[:-13])


def accept_and_leave(listening, context, notified):
    """A provider that accepts the association, waits for a request, and goes."""
    sock, _ = listening.accept()
    sock.settimeout(5)
    with sock, context.wrap_socket(sock, server_side=True) as secured:
        exchange = Exchange.acceptor()
        while not exchange.requested:
            exchange.receive(secured.recv(65536))
            exchange.events()
        exchange.evaluate(dn.AcceptancePolicy(abstract_syntaxes={context.abstract_syntax: () for context in CONTEXTS}))
        secured.sendall(b"".join(exchange.outgoing()))
        secured.recv(65536)
        if notified:
            with suppress(OSError):
                secured.unwrap()


def shake(client, server):
    """Hand what each says to the other until both are done."""
    for _ in range(3):
        client.handshake()
        server.receive(client.outgoing())
        if server.handshake():
            return
        client.receive(server.outgoing())


class TestMoves:
    def test_a_destination_with_tls_is_served_with_our_own(self, papers):
        tls = papers.tls(papers.server)
        with provider(tls) as destination:
            entity = dn.Entity("SCP", *destination.address, tls=True)
            archive = dn.Listener("ARCHIVE", port=0, tls=tls, timeouts=QUICK)
            with archive.connect(entity, CONTEXTS, "ARCHIVE") as association:
                assert association.store(instance(64)).ok
            assert [link.fingerprint for _, link in destination.stored] == [papers.server.fingerprint]


class TestWhoIsCalling:
    """Rules of acceptance over real connections."""

    def test_titles_bound_to_certificates(self, papers):
        rules = dn.AcceptancePolicy(certificates={"WS1": frozenset({papers.client.fingerprint}), "WS2": frozenset()})
        with provider(papers.tls(papers.server), acceptance=rules) as listener:
            with connect(listener, papers.tls(papers.client), calling="WS1") as association:
                assert association.echo().is_success
            for calling, issued in (("WS1", papers.rsa), ("WS2", papers.client), ("WS3", papers.client)):
                with pytest.raises(dn.AssociationRejected) as caught:
                    connect(listener, papers.tls(issued), calling=calling)
                assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 3)

    def test_identities_are_judged_with_what_is_known_of_the_caller(self, papers, caplog):
        caplog.set_level(logging.DEBUG)
        asked = []

        def identify(identity, caller):
            asked.append((identity.name, caller.tls.fingerprint, caller.address.rpartition(":")[0]))
            if identity.name == "error":
                raise OSError("the directory is down")
            return b"ticket" if identity.passcode == "secret-word" else False

        rules = dn.AcceptancePolicy(identify=identify, identity_required=True, operations_window=(4, 1))
        with provider(papers.tls(papers.server), acceptance=rules) as listener:
            good = dn.NegotiationOptions(
                identity=dn.UserIdentity.named("jane", "secret-word", confirm=True), operations_window=(8, 1)
            )
            with connect(listener, papers.tls(papers.client), extras=good) as association:
                assert association.identity_response == b"ticket"
                assert association.store(instance(64)).ok
                assert association.operations_window == (4, 1)
                assert association.extended == {}
            wrong, error = dn.UserIdentity.named("jane", "wrong"), dn.UserIdentity.named("error", "secret-word")
            for identity in (wrong, error, None):
                with pytest.raises(dn.AssociationRejected) as caught:
                    connect(listener, papers.tls(papers.client), extras=dn.NegotiationOptions(identity=identity))
                assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 2, 1)
        assert [user.name for user in listener.users] == ["jane"]
        assert asked[0] == ("jane", papers.client.fingerprint, "127.0.0.1")
        assert len(asked) == 3
        assert "secret-word" not in caplog.text

    @pytest.mark.parametrize("field", ["associations_per_title", "associations_per_host"])
    def test_limits_per_caller(self, field):
        with provider(None, acceptance=dn.AcceptancePolicy(**{field: 2})) as listener:
            with connect(listener, None), connect(listener, None) as second:
                with pytest.raises(dn.AssociationRejected) as caught:
                    connect(listener, None)
                assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
                if field == "associations_per_title":
                    connect(listener, None, calling="OTHER").release()
                second.release()
                connect(listener, None).release()

    def test_the_same_in_asyncio(self):
        async def identify(identity, caller):
            await asyncio.to_thread(int)
            return identity.passcode == "secret-word"

        async def main():
            rules = dn.AcceptancePolicy(identify=identify, identity_required=True, associations_per_title=1)
            async with dn.aio.Listener("SCP", port=0, acceptance=rules, timeouts=QUICK) as listener:
                peer = f"SCP@127.0.0.1:{listener.address[1]}"
                answers = []
                for passcode in ("wrong", "secret-word", "secret-word"):
                    extras = dn.NegotiationOptions(identity=dn.UserIdentity.named("jane", passcode, confirm=True))
                    try:
                        association = await dn.aio.connect(peer, contexts=CONTEXTS, extras=extras)
                        answers.append(association.identity_response)
                    except dn.AssociationRejected as error:
                        answers.append((error.result, error.source, error.reason))
                await association.release()
            return answers

        assert asyncio.run(main()) == [(1, 2, 1), b"", (2, 3, 2)]


class TestAsyncio:
    """The same of the asyncio face, whose transport is another, with either face at the other end."""

    @asynccontextmanager
    async def provider(self, tls, **options):
        listener = dn.aio.Listener("SCP", port=0, tls=tls, timeouts=options.pop("timeouts", QUICK), drain=5, **options)
        listener.stored = []

        @listener.on_store()
        async def keep(request):
            listener.stored.append((request.size, request.tls))
            return dn.Status.SUCCESS

        async with listener:
            yield listener

    async def connect(self, address, tls):
        return await dn.aio.connect(f"SCP@127.0.0.1:{address[1]}", tls=tls, contexts=CONTEXTS, timeouts=QUICK)

    @pytest.mark.parametrize("clients", ["required", "optional", "ignored"])
    def test_both_ends(self, papers, clients):
        async def main():
            async with self.provider(papers.tls(papers.server, client_certificate=clients)) as listener:
                async with await self.connect(listener.address, papers.tls(papers.client)) as association:
                    assert (await association.echo()).is_success
                    for size in (2, 16384, 16386, 1 << 20, (5 << 20) + 2):
                        assert (await association.store(instance(size))).ok
                    assert association.tls.fingerprint == papers.server.fingerprint
                return listener.stored

        stored = asyncio.run(main())
        assert [size for size, _ in stored] == [2, 16384, 16386, 1 << 20, (5 << 20) + 2]
        assert stored[0][1].fingerprint == ("" if clients == "ignored" else papers.client.fingerprint)

    def test_with_the_blocking_user(self, papers):
        def use(address):
            tls = papers.tls(papers.client)
            with dn.connect(f"SCP@127.0.0.1:{address[1]}", tls=tls, contexts=CONTEXTS) as association:
                assert association.store(instance(3 << 20)).ok

        async def main():
            async with self.provider(papers.tls(papers.server)) as listener:
                await asyncio.to_thread(use, listener.address)
                return listener.stored

        assert [size for size, _ in asyncio.run(main())] == [3 << 20]

    def test_with_the_blocking_provider(self, papers):
        async def use(address):
            async with await self.connect(address, papers.tls(papers.client)) as association:
                assert (await association.store(instance(3 << 20))).ok

        with provider(papers.tls(papers.server)) as listener:
            asyncio.run(use(listener.address))
        assert [size for size, _ in listener.stored] == [3 << 20]

    def test_a_caller_without_a_certificate_is_told_why(self, papers):
        async def main():
            async with self.provider(papers.tls(papers.server)) as listener:
                with pytest.raises(dn.TLSFailed, match="certificate required"):
                    await self.connect(listener.address, papers.tls())

        asyncio.run(main())

    def test_plain_spoken_to_tls(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")

        async def main():
            async with self.provider(papers.tls(papers.server)) as listener:
                with pytest.raises(dn.RemoteProtocolError, match="the peer speaks TLS, and this connection does not"):
                    await self.connect(listener.address, None)

        asyncio.run(main())
        assert "the peer speaks DICOM without TLS to this TLS port" in caplog.text

    def test_tls_spoken_to_plain(self, papers, caplog):
        caplog.set_level(logging.INFO, "dicomnet")

        async def main():
            async with self.provider(None) as listener:
                with pytest.raises(dn.TLSFailed, match="the peer speaks DICOM without TLS on this port"):
                    await self.connect(listener.address, papers.tls())

        asyncio.run(main())
        assert "the peer speaks TLS, and this port does not" in caplog.text

    def test_silent_clients_delay_nobody_and_are_closed(self, papers):
        tls = papers.tls(papers.server)

        async def main():
            begun = monotonic()
            async with self.provider(tls, timeouts=dn.Timeouts(tls=5, artim=60)) as listener:
                silent = [await asyncio.open_connection(*listener.address) for _ in range(20)]
                async with await self.connect(listener.address, tls) as association:
                    assert (await association.echo()).is_success
                assert monotonic() - begun < 5, "none of them was waited for"
                for reader, writer in silent:
                    assert await asyncio.wait_for(reader.read(), 30) == b""
                    writer.close()
                assert 4.9 < monotonic() - begun < 30

        asyncio.run(main())

    def test_a_silent_server(self, papers):
        async def main():
            with socket.create_server(("127.0.0.1", 0)) as listening:
                peer = f"SCP@127.0.0.1:{listening.getsockname()[1]}"
                with pytest.raises(dn.DeadlineExceeded) as caught:
                    await dn.aio.connect(peer, tls=papers.tls(), contexts=CONTEXTS, timeouts=dn.Timeouts(tls=0.2))
            return caught.value

        assert asyncio.run(main()).timeout == "tls"

    def test_a_listener_that_stops_does_not_wait_for_strangers(self, papers):
        async def main():
            begun = monotonic()
            async with self.provider(papers.tls(papers.server), timeouts=dn.Timeouts(tls=90)) as listener:
                reader, writer = await asyncio.open_connection(*listener.address)
                async with await self.connect(listener.address, papers.tls(papers.client)):
                    pass
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
            assert monotonic() - begun < 45, "half of what it could have waited"

        asyncio.run(main())
