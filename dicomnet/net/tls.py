"""TLS under DICOM: the secure transport connection profiles of PS3.15 Annex B, as a value.

OpenSSL is loaded with the first connection that wants it: that takes a tenth of what `import dicomnet` may, and most
programs never secure a connection. What speaks TLS is in `tls_channel`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..errors import InvalidArgument

if TYPE_CHECKING:
    import ssl

    from .tls_channel import Channel

__all__ = ["PROFILES", "TLS"]

Path = str | os.PathLike[str]

# TLS 1.2 cipher suites by profile; those of TLS 1.3 are all of them authenticated and forward secret already.
# At level 2 OpenSSL refuses certificates below 112 bits: RSA under 2048, signatures with SHA-1 or MD5.
PROFILES = {
    "B.12": (
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=2"
    ),
    "B.10": (
        "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384:"
        "ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=2"
    ),
}
_CLIENT_CERTIFICATES = ("required", "optional", "ignored")


@dataclass(frozen=True, slots=True)
class TLS:
    """How a connection is secured; the same value serves either side.

    Files are in PEM form. They are read again when they have changed, so that certificates can be renewed while a
    listener runs.

    Attributes:
        ca: the authorities that the peer's certificate must come from; None, for a requestor only, takes the system's.
        cert, key: our certificate (with its intermediates) and private key; without ``key`` both are in ``cert``.
        key_password: of the private key; it never shows.
        client_certificate: what a listener asks of its callers: "required", "optional" or "ignored".
        server_name: the name to ask for (SNI) and to find in the peer's certificate; None takes the host connected to.
        check_name: False takes any name that the authorities vouch for, as old peers need that have none.
        crl: revocation lists of the authorities; with one, a certificate without a list is not taken.
        minimum_version: "1.2" or "1.3".
        profile: of PS3.15 Annex B: "B.12" (BCP 195 as of RFC 8996 and 9325), or "B.10", retired, which adds DHE.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    key_password: str | None = None
    client_certificate: str = "required"
    server_name: str | None = None
    check_name: bool = True
    crl: Path | None = None
    minimum_version: str = "1.2"
    profile: str = "B.12"

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise InvalidArgument(f"TLS profile {self.profile!r} is none of {', '.join(PROFILES)}")
        if self.minimum_version not in ("1.2", "1.3"):
            raise InvalidArgument(f"minimum TLS version {self.minimum_version!r}: 1.2 and 1.3 are what DICOM allows")
        if self.client_certificate not in _CLIENT_CERTIFICATES:
            raise InvalidArgument(
                f"client_certificate {self.client_certificate!r} is none of {', '.join(_CLIENT_CERTIFICATES)}"
            )
        if self.key is not None and self.cert is None:
            raise InvalidArgument("a private key without its certificate")

    def __repr__(self) -> str:
        given = ((one, getattr(self, one.name)) for one in fields(self) if one.name != "key_password")
        return f"TLS({', '.join(f'{one.name}={value!r}' for one, value in given if value != one.default)})"

    def client_context(self) -> ssl.SSLContext:
        """The context of the side that connects.

        Raises:
            InvalidArgument: a file that cannot be read, or is not what it should be; a key that does not fit.
        """
        return _context(self, server=False)

    def server_context(self) -> ssl.SSLContext:
        """The context of the side that is connected to; raises as `client_context` does."""
        return _context(self, server=True)

    def connect(self, host: str) -> Channel:
        """The channel of a connection that was made to ``host``."""
        return _channel(self.client_context(), self.server_name or host)

    def accept(self) -> Channel:
        """The channel of a connection that arrived."""
        return _channel(self.server_context())

    def stamps(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when one of the files does.

        Raises:
            InvalidArgument: there is no such file.
        """
        try:
            stats = [os.stat(path) for path in (self.ca, self.cert, self.key, self.crl) if path is not None]
        except OSError as error:
            raise InvalidArgument(f"TLS: {error.filename}: {error.strerror}") from error
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def _context(tls: TLS, *, server: bool) -> ssl.SSLContext:
    from .tls_channel import context_of  # noqa: PLC0415 late on purpose

    return context_of(tls, server, tls.stamps())


def _channel(context: ssl.SSLContext, server_name: str | None = None) -> Channel:
    from .tls_channel import Channel  # noqa: PLC0415 late on purpose

    return Channel(context, server_name=server_name)
