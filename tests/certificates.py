"""A certificate authority for tests, which also issues what no authority should."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import subprocess
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@functools.cache
def rsa_key(bits: int, number: int = 0) -> rsa.RSAPrivateKey:
    """Generating them is slow; tests share a few."""
    return rsa.generate_private_key(65537, bits)


class Issued(NamedTuple):
    cert: Path
    key: Path
    x509: x509.Certificate

    @property
    def fingerprint(self) -> str:
        return self.x509.fingerprint(hashes.SHA256()).hex()


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, directory: Path, name: str = "Test CA") -> None:
        self.directory = directory
        self.name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._build(name, self._key.public_key(), issuer=name, days=(-1, 30)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
        self.certificate = made.sign(self._key, hashes.SHA256())
        self.file = self._write(f"{name}.pem", self.certificate)

    def _build(self, subject: str, public, issuer: str, days: tuple[float, float]) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
        )

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        path = self.directory / name.replace(" ", "-")
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(
        self,
        name: str,
        *,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
        days: tuple[float, float] = (-1, 30),
        digest: hashes.HashAlgorithm | None = None,
    ) -> Issued:
        """A certificate and its key, as files; `days` from now are from when to when it is valid."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        alternatives = [
            x509.IPAddress(ipaddress.ip_address(one)) if one[:1].isdigit() else x509.DNSName(one) for one in names
        ]
        built = self._build(name, key.public_key(), self.name, days)
        if alternatives:
            built = built.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = built.sign(self._key, digest or hashes.SHA256())
        path = self.directory / f"{self.name}-{name}.key".replace(" ", "-")
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Issued(self._write(f"{self.name}-{name}.pem", certificate), path, certificate)

    def issue_with_sha1(self, name: str, openssl: str) -> Issued:
        """As `issue`; cryptography itself does not sign with SHA-1 any more."""
        issued = self.issue(name)
        key = self.directory / "authority.key"
        key.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        extensions = self.directory / "extensions"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        request = [openssl, "req", "-new", "-key", str(issued.key), "-subj", f"/CN={name}"]
        sign = [openssl, "x509", "-req", "-sha1", "-days", "30", "-CA", str(self.file), "-CAkey", str(key)]
        sign += ["-CAcreateserial", "-extfile", str(extensions), "-out", str(issued.cert)]
        made = subprocess.run(request, capture_output=True, check=True, timeout=30)
        subprocess.run(sign, input=made.stdout, capture_output=True, check=True, timeout=30)
        return issued._replace(x509=x509.load_pem_x509_certificate(issued.cert.read_bytes()))

    def revoke(self, *issued: Issued) -> Path:
        """The revocation list of these."""
        built = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        built = built.last_update(NOW - DAY).next_update(NOW + 30 * DAY)
        for one in issued:
            revoked = x509.RevokedCertificateBuilder().serial_number(one.x509.serial_number).revocation_date(NOW - DAY)
            built = built.add_revoked_certificate(revoked.build())
        path = self.directory / f"{self.name}-crl.pem".replace(" ", "-")
        path.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path
