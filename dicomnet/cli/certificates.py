"""Small certificate authorities for trying TLS out, by ``cryptography``; and what a certificate says."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import InputFileError, InputProblem, InvalidArgument, cannot_read, cannot_write
from .output import Output

__all__ = ["Facts", "facts_of", "issue", "make", "read_certificates"]

_CURVE = ec.SECP256R1
_A_DAY = datetime.timedelta(days=1)
_CLOCKS = datetime.timedelta(hours=1)  # by which a peer's clock may be behind
_LONGEST = 825  # days of a certificate; some peers take no longer ones
_AUTHORITY = "dicomnet CA"


class Facts(NamedTuple):
    """What people want to know of a certificate."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime
    fingerprint: str
    key: str
    authority: bool

    def days_left(self, now: datetime.datetime) -> int:
        """Whole days until it expires; negative once it has."""
        return (self.ends - now) // _A_DAY


class _Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


# ---- making ----------------------------------------------------------------------------------------------------


def make(directory: str, hosts: tuple[str, ...], client: str, days: int, output: Output) -> None:
    """Write an authority, unless there is one in the directory, and a server's and a client's certificate with keys.

    Raises:
        InvalidArgument: a certificate of that name is there already.
        OutputFileError: the directory cannot be written to.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        authority = _authority(directory, days, output)
        _issue(directory, "server", hosts[0], authority, min(days, _LONGEST), output, hosts)
        _issue(directory, "client", client, authority, min(days, _LONGEST), output, is_server=False)
    except FileExistsError as error:
        raise InvalidArgument(f"{error.filename} is there already", hint="Move it away, or name another DIR.") from None
    except OSError as error:
        raise cannot_write(error, error.filename) from error


def issue(directory: str, names: Mapping[str, tuple[str, ...]], days: int, output: Output) -> None:
    """Write an authority, unless there is one, and for each name a certificate ``NAME.pem`` with ``NAME.key``.

    Args:
        directory: where; it is made.
        names: the hosts of each.
        days: how long they are valid.
        output: told what is made.

    Raises:
        OSError: it cannot be written, or is there.
    """
    os.makedirs(directory, exist_ok=True)
    authority = _authority(directory, days, output)
    for name, hosts in names.items():
        _issue(directory, name, name, authority, min(days, _LONGEST), output, hosts)


def _authority(directory: str, days: int, output: Output) -> _Authority:
    cert, key = os.path.join(directory, "ca.pem"), os.path.join(directory, "ca.key")
    if os.path.exists(cert):
        with open(key, "rb") as file:
            loaded = serialization.load_pem_private_key(file.read(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        return _Authority(read_certificates(cert)[0], loaded)
    made = ec.generate_private_key(_CURVE())
    builder = _builder(_AUTHORITY, _AUTHORITY, made, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    certificate = builder.sign(made, hashes.SHA256())
    _write(key, _pem(made), secret=True)
    _write(cert, certificate.public_bytes(serialization.Encoding.PEM))
    output.say(f"{cert}: the authority; give it to peers (ca)")
    return _Authority(certificate, made)


def _issue(
    directory: str, role: str, name: str, authority: _Authority, days: int, output: Output, hosts: tuple[str, ...] = (),
    *, is_server: bool = True,
) -> None:  # fmt: skip
    key = ec.generate_private_key(_CURVE())
    issuer = authority.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = _builder(name, str(issuer), key, days)
    names = [_general_name(host) for host in hosts or (name,)]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]  # a server is a client, too: it sends what a C-MOVE asks for
    if is_server:
        purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
    )
    certificate = builder.sign(authority.key, hashes.SHA256())
    path = os.path.join(directory, role)
    _write(f"{path}.key", _pem(key), secret=True)
    _write(f"{path}.pem", certificate.public_bytes(serialization.Encoding.PEM))
    output.say(f"{path}.pem, {path}.key: a {role}, {', '.join(hosts or (name,))}; {days} days")
    output.record(path=f"{path}.pem", key=f"{path}.key", names=list(hosts or (name,)), days=days)


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + days * _A_DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: str, data: bytes, *, secret: bool = False) -> None:
    """Never over a file that is there; a private key is for its owner alone to read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with open(descriptor, "wb") as file:
        file.write(data)


# ---- reading ---------------------------------------------------------------------------------------------------


def read_certificates(path: str) -> list[x509.Certificate]:
    """The certificates of a PEM or DER file.

    Raises:
        InputFileError: it cannot be read, or there is none in it.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except OSError as error:
        raise cannot_read(error, path) from error
    except ValueError as error:
        raise InputFileError("holds no certificate", path=path, problem=InputProblem.CANNOT_READ) from error


def facts_of(certificate: x509.Certificate) -> Facts:
    """What is worth showing."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = tuple(str(name.value) for name in extension.value)
    except x509.ExtensionNotFound:
        names = ()
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    key = certificate.public_key()
    return Facts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=names,
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        key=f"{type(key).__name__.strip('_').removesuffix('PublicKey')} {getattr(key, 'key_size', '')}".strip(),
        authority=authority,
    )
