"""TLS without a socket: a `Channel` takes bytes and gives bytes, by OpenSSL's contexts, which a `tls.TLS` describes.

So both faces drive the same one, and the handshake is theirs to time.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from time import time
from typing import Any

from ..errors import InvalidArgument, TLSFailed, escaped
from ..protocol.negotiation import SecureLink
from .tls import PROFILES, TLS

__all__ = ["Channel", "context_of"]

Buffer = bytes | bytearray | memoryview
Path = str | os.PathLike[str]

_PORTION = 128 << 10  # plaintext bytes encrypted in one go: several records for each system call
_MOST_PEM = 1 << 20  # bytes of a file with certificates that are looked at
_RECORD = 16384  # plaintext bytes of a record; what is left of a message and fits into one goes along

_ALERT = bytes.fromhex("15 0303 0002 02 46")  # fatal: protocol version (RFC 8446 Section 6)
_HOST_NAMES = ("DNS", "IP Address")  # of the kinds of alternative names; what stands in the others names no host


@lru_cache(32)
def context_of(tls: TLS, server: bool, _: tuple[tuple[int, int, int], ...]) -> ssl.SSLContext:
    """OpenSSL's context for one side of a `TLS`; another one where the last argument, its `TLS.stamps`, is another.

    Raises:
        InvalidArgument: a file cannot be read, or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # A resumed session would skip the look at the peer's certificate; early data could be replayed.
    context.options |= ssl.OP_NO_TICKET
    context.set_ciphers(PROFILES[tls.profile])
    if server:
        context.num_tickets = 0
        _ask_for_certificates(tls, context)
    else:
        context.check_hostname = tls.check_name
        context.hostname_checks_common_name = False  # RFC 9525 Section 6.3: a common name is no host's
        context.verify_mode = ssl.CERT_REQUIRED
    _load_certificates(tls, context, server)
    if tls.crl is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN  # an authority may be revoked, too
    return context


def _ask_for_certificates(tls: TLS, context: ssl.SSLContext) -> None:
    if tls.cert is None:
        raise InvalidArgument("a TLS listener needs a certificate", hint="`dicomnet cert make` makes one to try with.")
    if tls.client_certificate != "ignored" and tls.ca is None:
        raise InvalidArgument(
            f'client certificates are "{tls.client_certificate}", but nothing says which authority they come from',
            hint='Give ca=FILE, or client_certificate="ignored" to let in any caller.',
        )
    modes = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "ignored": ssl.CERT_NONE}
    context.verify_mode = modes[tls.client_certificate]


def _load_certificates(tls: TLS, context: ssl.SSLContext, server: bool) -> None:
    doing = "certificate authorities"
    path = tls.ca
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        elif not server:
            context.load_default_certs()
        doing, path = "revocation lists", tls.crl
        if tls.crl is not None:
            context.load_verify_locations(tls.crl)
        doing, path = "certificate and key", tls.cert
        if tls.cert is not None:
            # Without a function OpenSSL would ask for the password at the terminal.
            context.load_cert_chain(tls.cert, tls.key, lambda: tls.key_password or "")
    except OSError as error:  # an SSLError is one, too
        why = _words(getattr(error, "reason", None) or error.strerror or str(error))
        where = f"{tls.cert}, {tls.key}" if path is tls.cert and tls.key is not None else path
        encrypted = doing == "certificate and key" and _is_encrypted(tls.key or tls.cert)
        if encrypted and tls.key_password is None:
            why = "the private key is encrypted, and no password is given"
        elif encrypted:
            why = "the private key is encrypted, and not with the password that is given"
        hint = "Give key_password (--tls-password-file)." if encrypted and tls.key_password is None else None
        raise InvalidArgument(f"TLS: {where}: cannot be used as {doing}: {why}", hint=hint) from error


def _is_encrypted(path: Path | None) -> bool:
    """Whether a PEM file has a private key that takes a password."""
    try:
        with open(path or "", "rb") as file:
            return b"ENCRYPTED" in file.read(_MOST_PEM)
    except OSError:
        return False


class Channel:
    """TLS on one connection, over any transport: give it what arrives, send what `outgoing` gives.

    Its calls may come from several threads, one of which only wants to say good-bye.

    Attributes:
        link: what was negotiated, once it is.
    """

    def __init__(self, context: ssl.SSLContext, *, server_name: str | None = None) -> None:
        self.link: SecureLink | None = None
        self._server = server_name is None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(self._incoming, self._outgoing, self._server, server_name)
        except (ValueError, OSError) as error:  # UnicodeError is a ValueError, SSLError an OSError
            raise InvalidArgument(f'"{escaped(server_name or "")}" is no name that a certificate has') from error
        self._greeted = False
        self._lock = Lock()

    def receive(self, data: Buffer) -> None:
        """Take bytes of the transport, cut anywhere; an empty one is the end.

        Raises:
            TLSFailed: the peer does not speak TLS at all.
        """
        with self._lock:
            if not data:
                self._incoming.write_eof()
                return
            if not self._greeted:
                self._greet(data[0])
            self._incoming.write(data)

    def _greet(self, first: int) -> None:
        """The first byte of a TLS stream is that of a handshake, or of an alert; what else is there has a name, too."""
        self._greeted = True
        if first in (0x15, 0x16):
            return
        self._outgoing.write(_ALERT)  # by which it may know TLS; ``ssl`` itself would leave without a word
        what = "DICOM without TLS" if 1 <= first <= 7 else "no TLS"
        where = "to this TLS port" if self._server else "on this port"
        hint = "Connect with TLS." if self._server else "Connect without TLS, or to the port where the peer speaks it."
        raise TLSFailed(f"the peer speaks {what} {where}", hint=hint)

    def handshake(self) -> bool:
        """Go on with the handshake; True once it is done. Send what `outgoing` gives, whatever comes of it.

        Raises:
            TLSFailed: it failed; an alert for the peer is in `outgoing`.
        """
        with self._lock:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return False
            except OSError as error:
                raise self._failure(error, "TLS handshake failed") from error
            self.link = self._negotiated()
            if self._server and self._object.session_reused:
                self._check_date()
            return True

    def _check_date(self) -> None:
        """A session of TLS 1.2 that is resumed brings its certificate along, whose time may be over by now."""
        facts: dict[str, Any] = self._object.getpeercert() or {}
        end = facts.get("notAfter")
        if end is not None and ssl.cert_time_to_seconds(end) < time():
            raise TLSFailed("TLS handshake failed: the peer's certificate is not taken: certificate has expired")

    def read_into(self, buffer: memoryview) -> int | None:
        """Decrypt into ``buffer``; how many bytes, 0 at the end of the stream, None where more has to arrive first.

        Raises:
            TLSFailed: the peer ended the connection with an alert, or its bytes were changed on the way.
        """
        size = 0
        with self._lock:
            try:
                while size < len(buffer):
                    got = self._object.read(len(buffer) - size, buffer[size:])
                    if not got:
                        break
                    size += got  # type: ignore[operator]  # with a buffer it is a number of bytes
            except ssl.SSLWantReadError:
                return size or None
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                pass  # with or without its close_notify: whether an association was cut is known above
            except OSError as error:
                if not size:
                    raise self._failure(error, "the TLS connection broke") from error
        return size

    def write(self, buffers: Sequence[Buffer]) -> int:
        """Encrypt some of ``buffers``, in order; how many of their bytes. The rest is for later calls.

        Raises:
            TLSFailed: the connection is not fit for it any more.
        """
        taken: list[Buffer] = []
        size, most = 0, _PORTION + _RECORD
        for buffer in buffers:
            taken.append(memoryview(buffer)[: most - size])
            size += len(taken[-1])
            if size >= most:
                size = _PORTION  # this was not the last of it
                break
        data = memoryview(taken[0] if len(taken) == 1 else b"".join(taken))[:size]  # small buffers share a record
        with self._lock:
            try:
                while data:
                    data = data[self._object.write(data) :]
            except OSError as error:
                raise self._failure(error, "the TLS connection broke") from error
        return size

    def outgoing(self) -> bytes:
        """Bytes to send to the peer; empty where there are none."""
        with self._lock:
            return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> None:
        """Say that nothing more will be sent: a close_notify is in `outgoing`."""
        with self._lock:
            try:
                self._object.unwrap()
            except OSError:
                pass  # the peer is to answer it, which no call waits for; or there is no session

    def _failure(self, error: OSError, what: str) -> TLSFailed:
        reason = getattr(error, "reason", None) or ""
        detail = getattr(error, "verify_message", "")
        if "ALERT" in reason:
            why = f'the peer answered with the alert "{_words(reason.partition("ALERT")[2])}"'
        elif detail:
            why = f"the peer's certificate is not taken: {detail.rstrip('.')}"
        elif isinstance(error, ssl.SSLEOFError):
            why = "the peer closed the connection"
        else:
            why = _words(reason or str(error))
        return TLSFailed(f"{what}: {why}", hint=_hint(reason, detail, self._server))

    def _negotiated(self) -> SecureLink:
        certificate = self._object.getpeercert(True) or b""
        facts: dict[str, Any] = (self._object.getpeercert() or {}) if certificate else {}
        cipher = self._object.cipher()
        return SecureLink(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            certificate=certificate,
            fingerprint=hashlib.sha256(certificate).hexdigest() if certificate else "",
            subject=", ".join(f"{name}={value}" for part in facts.get("subject", ()) for name, value in part),
            names=tuple(value for kind, value in facts.get("subjectAltName", ()) if kind in _HOST_NAMES),
        )


def _words(reason: str) -> str:
    return reason.replace("_", " ").strip().lower() if reason.isupper() else reason


def _hint(reason: str, detail: str, server: bool) -> str | None:
    """What to try."""
    if "unable to get" in detail or "self-signed" in detail or "self signed" in detail:
        return "Is it from an authority that we trust (ca, --tls-ca)?"
    if "mismatch" in detail or "not valid for" in detail:
        return "server_name (--tls-name) tells which name to expect."
    for word, hint in _HINTS:
        if word in reason:
            return hint
    return "The caller needs a client certificate (cert, key)." if server and "DID_NOT_RETURN" in reason else None


_HINTS = (
    ("CERTIFICATE_REQUIRED", "The peer wants a client certificate (cert and key, --tls-cert and --tls-key)."),
    ("UNKNOWN_CA", "Does the peer trust the authority of our certificate?"),
    ("ALERT_BAD_CERTIFICATE", "The peer does not take our certificate."),
    ("CERTIFICATE_EXPIRED", "Our certificate has expired: `dicomnet cert check` shows when."),
    ("PROTOCOL", "TLS 1.2 and 1.3 are spoken; older versions are broken."),
    ("NO_SHARED_CIPHER", "The two sides have no cipher suite in common."),
    ("HANDSHAKE_FAILURE", "The two sides may have no cipher suite or version in common."),
)
