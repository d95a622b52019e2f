"""Faults of TLS that were found in the field: the row of the list is in each test's name."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, Issued
from cryptography import x509
from programs import run_here

import dicomnet as dn
from dicomnet.net import tls_channel as tls_module


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


def shake(client: Any, server: Any) -> None:
    """Both ends of a handshake, in memory."""
    done = [False, False]
    while not all(done):
        for number, (one, other) in enumerate(((client, server), (server, client))):
            if not done[number]:
                done[number] = one.handshake()
            data = one.outgoing()
            if data:
                other.receive(data)


# ---- N21 -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    issued = authority.issue("encrypted")
    key = tmp_path_factory.mktemp("key") / "key.pem"
    command = ["openssl", "pkcs8", "-topk8", "-in", issued.key, "-out", key, "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return issued.cert, key


@pytest.mark.parametrize(("password", "said"), [(None, "no password is given"), ("wrong", "not with the password")])
def test_n21_an_encrypted_key_says_so(
    authority: Authority, encrypted: tuple[Path, Path], password: str | None, said: str
) -> None:
    cert, key = encrypted
    with pytest.raises(dn.InvalidArgument, match=said):
        dn.TLS(ca=authority.file, cert=cert, key=key, key_password=password).server_context()
    dn.TLS(ca=authority.file, cert=cert, key=key, key_password="secret").server_context()


def test_n21_the_command_takes_the_password_from_a_file(
    authority: Authority, encrypted: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = encrypted
    (tmp_path / "password").write_text("secret\n")
    secured = ("--tls-ca", authority.file, "--tls-cert", cert, "--tls-key", key)
    with dn.Listener("A", port=0, tls=dn.TLS(ca=authority.file, cert=cert, key=key, key_password="secret")) as listener:
        peer = f"dicoms://A@localhost:{listener.address[1]}"
        done = run_here("echo", peer, *secured)
        assert (done.returncode, "--tls-password-file" in done.stderr) == (2, True)
        done = run_here("echo", peer, *secured, "--tls-password-file", tmp_path / "password")
        assert done.returncode == 0, done.stderr


# ---- S10, S11, S12 ---------------------------------------------------------------------------------------------------


def test_s10_revocation_lists_are_looked_at_for_the_whole_chain(authority: Authority) -> None:
    crl = authority.revoke(authority.issue("gone"))
    issued = authority.issue("server")
    context = dn.TLS(ca=authority.file, cert=issued.cert, key=issued.key, crl=crl).server_context()
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN == ssl.VERIFY_CRL_CHECK_CHAIN


def test_s11_a_session_is_not_resumed_past_its_certificates_end(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = authority.issue("peer")
    papers = dn.TLS(ca=authority.file, cert=issued.cert, key=issued.key)
    context = papers.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = tls_module.Channel(context, server_name="localhost")
    served = [papers.accept()]  # OpenSSL forgets the session of a connection that is let go without a good-bye
    shake(first, served[0])

    def resumed() -> tuple[Any, Any]:
        client = tls_module.Channel(context, server_name="localhost")
        client._object.session = first._object.session
        served.append(papers.accept())
        return client, served[-1]

    client, server = resumed()
    shake(client, server)
    assert server._object.session_reused
    monkeypatch.setattr(tls_module, "time", lambda: issued.x509.not_valid_after_utc.timestamp() + 1)
    with pytest.raises(dn.TLSFailed, match="certificate has expired"):
        shake(*resumed())


def test_s12_only_names_of_hosts_are_names(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    built = authority._build

    def with_more(*arguments: Any) -> Any:
        made = built(*arguments)
        return made.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.RFC822Name("archive.hospital")]), False
        )

    monkeypatch.setattr(authority, "_build", with_more)
    mailed: Issued = authority.issue("mailed", names=())
    monkeypatch.undo()
    issued = authority.issue("server")
    server = dn.TLS(ca=authority.file, cert=issued.cert, key=issued.key).accept()
    shake(dn.TLS(ca=authority.file, cert=mailed.cert, key=mailed.key).connect("localhost"), server)
    assert server.link is not None
    assert server.link.names == ("localhost",)


def test_s12_a_common_name_is_no_hosts(authority: Authority) -> None:
    nameless, ours = authority.issue("localhost", names=()), authority.issue("ours")
    client = dn.TLS(ca=authority.file, cert=ours.cert, key=ours.key).connect("localhost")
    server = dn.TLS(ca=authority.file, cert=nameless.cert, key=nameless.key).accept()
    with pytest.raises(dn.TLSFailed, match=r"[Hh]ostname mismatch"):
        shake(client, server)
