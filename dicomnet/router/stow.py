"""The sender of STOW-RS destinations: a request for each instance, over kept connections (PS3.18 Section 10.5)."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from ..client.multipart import Part, boundary, written
from ..client.open_sockets import OpenSockets
from ..errors import DicomNetError, InvalidArgument
from ..files.part10 import meta_header
from .destinations import StowDestination
from .folder import pieces_of
from .senders import Load, Result, Verdict

__all__ = ["StowSender"]

_DICOM, _JSON = "application/dicom", "application/dicom+json"
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_TOO_MANY, _UNAVAILABLE = 429, 503
#: What says something of the server, or of who we are, and nothing of the instance.
_OF_THE_SERVER = frozenset({401, 403, 404, 405, 407, _TOO_MANY, 502, _UNAVAILABLE, 504, 507})
_DUPLICATE, _BUSY = 0x0111, range(0xA700, 0xA800)
_FAILED, _REASON = "00081198", "00081197"
#: Failure Reason in the native model's XML (PS3.19 Annex A), which some servers answer with whatever is asked for.
_XML_REASON = re.compile(rf'tag="{_REASON}"[^>]*>\s*<Value[^>]*>\s*(\d{{1,5}})\s*<')


class StowSender:
    """Stores at a web server.

    Args:
        destination: the server.
        title: our own title, for the file meta information.

    Raises:
        InvalidArgument: files of the destination cannot be read.
    """

    def __init__(self, destination: StowDestination, title: str) -> None:
        self._destination, self._title = destination, title
        self._url = f"{destination.url.rstrip('/')}/studies"
        self._stamps = _stamps(destination)
        self._client, self._sockets = _client(destination), OpenSockets()

    def send(self, loads: Sequence[Load]) -> Iterator[Result]:
        """See `Sender.send`."""
        stamps = _stamps(self._destination)
        if stamps != self._stamps:  # a certificate, or a token, was renewed
            self._client.close()
            self._client, self._stamps = _client(self._destination), stamps
        for load in loads:
            try:
                verdict, why = self._store(load)
            except (httpx.HTTPError, ssl.SSLError) as error:
                verdict, why = Verdict.UNREACHABLE, f"{self._url}: {str(error) or type(error).__name__}"
            except (DicomNetError, OSError) as error:
                verdict, why = Verdict.UNREADABLE, str(error)
            finally:
                load.source.close()
            yield Result(load.delivery, verdict, why)
            if verdict is Verdict.UNREACHABLE:  # neither is it for the rest
                return

    def _store(self, load: Load) -> tuple[Verdict, str]:
        source, mark = load.source, boundary()
        uids = source.sop_class_uid, source.sop_instance_uid, source.transfer_syntax_uid
        # Without its transfer syntax: Orthanc passes over parts of which more is said, and answers 200.
        part = Part(_DICOM, pieces_of(source, self._title))
        around = sum(map(len, written([Part(_DICOM, ())], mark)))
        size = around + len(meta_header(*uids, self._title)) + source.size
        kind = f'multipart/related; type="{_DICOM}"; boundary={mark}'
        headers = {"Content-Type": kind, "Content-Length": str(size)}
        content, extensions = written([part], mark), {"trace": self._sockets.trace}
        answer = self._client.post(self._url, content=content, headers=headers, extensions=extensions)
        return verdict_on(answer, source.sop_instance_uid)

    def abort(self) -> None:
        """See `Sender.abort`; a server that says nothing would hold the sender until the time is up."""
        self._sockets.end()

    def close(self) -> None:
        """See `Sender.close`."""
        self._client.close()


def _client(destination: StowDestination) -> httpx.Client:
    headers = {"Accept": _JSON}
    if destination.token:
        headers["Authorization"] = f"Bearer {_first_line(destination.token)}"
    auth = None
    if destination.user:
        password = _first_line(destination.password) if destination.password else ""
        auth = httpx.BasicAuth(destination.user, password)
    return httpx.Client(
        headers=headers, auth=auth, timeout=_TIMEOUT, verify=_verifying(destination), follow_redirects=False
    )


def _stamps(destination: StowDestination) -> tuple[float, ...]:
    """When the files of a destination were changed."""
    one = destination
    files = (one.tls_ca, one.tls_cert, one.tls_key, one.token, one.password)
    return tuple(os.stat(path).st_mtime if path and os.path.exists(path) else 0.0 for path in files)


def verdict_on(response: httpx.Response, uid: str) -> tuple[Verdict, str]:
    """What a server's answer to one instance means.

    A server that takes a part for none of its own answers 200, too: what it has stored it names, and what it has not.
    409 says that none was stored (PS3.18 Section 10.5.3): that it is there already only a failure reason says.
    """
    code = response.status_code
    said = f"HTTP {code} {response.reason_phrase}".strip()
    reasons = _reasons(response)
    if _DUPLICATE in reasons:
        return Verdict.DELIVERED, f"{said}: it is there already"
    if any(reason in _BUSY for reason in reasons):
        return Verdict.BUSY, f"{said}: failure reason {reasons[0]:04X}"
    if reasons:
        return Verdict.REFUSED, f"{said}: failure reason {reasons[0]:04X}"
    if response.is_success and uid in response.text:
        return Verdict.DELIVERED, ""
    if response.is_success:
        return Verdict.REFUSED, f"{said}, but the instance is not among those that it has stored"
    return (Verdict.UNREACHABLE if code in _OF_THE_SERVER or response.is_redirect else Verdict.REFUSED), said


def _reasons(response: httpx.Response) -> list[int]:
    """Failure Reason (0008,1197) of each item of Failed SOP Sequence; 0 where an item gives none."""
    try:
        answer: Any = response.json() if response.content else {}
    except ValueError:
        failed = _FAILED in response.text or "FailedSOPSequence" in response.text
        return [int(one) for one in _XML_REASON.findall(response.text)] or [0] if failed else []
    answers = answer if isinstance(answer, list) else [answer]
    sequences = (_values(one, _FAILED) for one in answers)
    return [_reason(item) for items in sequences for item in items]


def _values(item: Any, tag: str) -> list[Any]:
    """The values of an element in DICOM JSON, as far as there are any."""
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _reason(item: Any) -> int:
    values = _values(item, _REASON)
    return values[0] if values and isinstance(values[0], int) else 0


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error


def _verifying(destination: StowDestination) -> ssl.SSLContext | bool:
    if not destination.url.startswith("https:"):
        return True
    try:
        context = ssl.create_default_context(cafile=destination.tls_ca)
        if destination.tls_cert:
            context.load_cert_chain(destination.tls_cert, destination.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(f"the TLS files of {destination.url} cannot be used: {error}") from error
    return context
