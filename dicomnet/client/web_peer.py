"""DICOMweb peers: an address, or a name from `peers.toml`, and what comes of storing at one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .. import uids
from ..dataset.types import Path
from ..errors import InvalidArgument, RemoteProtocolError, ServiceFailure
from ..net.tls import TLS
from ..status import Status
from . import peer_directory

__all__ = ["LEVELS", "WebFailure", "WebPeer", "WebStored", "json_of", "outcomes", "path_of"]

LEVELS = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}
_FAILED, _STORED, _CLASS, _UID, _REASON = "00081198", "00081199", "00081150", "00081155", "00081197"


class WebFailure(ServiceFailure):
    """The server answered that it cannot, or will not.

    Attributes:
        http_status: what it answered with.
        content: the body of its answer.
    """

    def __init__(self, http_status: int, message: str, content: bytes = b"") -> None:
        super().__init__(Status(Status.PROCESSING_FAILURE, comment=message[:64]), message)
        self.http_status: int = http_status
        self.content: bytes = content


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket without its other half, or a port that is none
        return False


@dataclass(frozen=True, slots=True)
class WebPeer:
    """Where DICOMweb is to be had.

    Attributes:
        url: of the services, ``https://pacs.local/dicomweb``.
        login: name and password, for HTTP Basic; the password never shows.
        tls: authorities and our certificate; None takes the system's authorities.
    """

    url: str
    login: tuple[str, str] | None = None
    tls: TLS | None = None

    def __post_init__(self) -> None:
        if not _is_address(self.url):
            raise InvalidArgument(
                f"{self.url!r} is no address of DICOMweb", hint="Write it like https://pacs.local/dicomweb."
            )

    def __repr__(self) -> str:
        return f"WebPeer({self.url!r}{', login=…' if self.login else ''})"

    @classmethod
    def of(cls, peer: str | WebPeer) -> WebPeer:
        """The peer itself, that of a URL, or that of a name.

        Raises:
            InvalidArgument: it is none of these.
        """
        if isinstance(peer, WebPeer):
            return peer
        if "://" in peer or not peer_directory.is_name(peer):
            return cls(peer)
        found = peer_directory.find_web(peer)
        return cls(found.url, found.login, found.tls)


@dataclass(frozen=True, slots=True)
class WebStored:
    """What became of one instance.

    Attributes:
        path: the file; None for what was none.
        sop_instance_uid: of the instance; empty where it could not be read.
        reason: why it was not stored (PS3.18 Table 10.5.3-1); 0: it was.
    """

    path: Path | None
    sop_instance_uid: str
    reason: int = 0

    @property
    def ok(self) -> bool:
        """Whether it is stored."""
        return not self.reason


def path_of(study: str, series: str = "", instance: str = "") -> str:
    """The path of a study, a series or an instance.

    Raises:
        InvalidArgument: a UID is none, or one between is missing.
    """
    if instance and not series:
        raise InvalidArgument("an instance is asked for with the UID of its series")
    for uid in filter(None, (study, series, instance)):
        if not uids.is_valid(uid):
            raise InvalidArgument(f"{uid[:64]!r} is no UID")
    path = f"/studies/{study}"
    path += f"/series/{series}" if series else ""
    return path + (f"/instances/{instance}" if instance else "")


def json_of(content: bytes) -> list[dict[str, Any]]:
    """An array of DICOM JSON.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        found = json.loads(content or b"[]")
    except ValueError as error:
        raise RemoteProtocolError("the server's answer is no JSON") from error
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RemoteProtocolError("the server's answer is no array of data sets")
    return found


def outcomes(answer: Mapping[str, Any], sent: Iterable[tuple[Path | None, str]]) -> Iterator[WebStored]:
    """The outcome of each instance that was sent, by the server's answer; what it does not name is not stored.

    Args:
        answer: of STOW-RS, in DICOM JSON.
        sent: path and SOP Instance UID of each.
    """
    try:
        failed = dict(_references(answer, _FAILED))
        stored = {uid for uid, _ in _references(answer, _STORED)}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RemoteProtocolError("the server tells what became of it in no DICOM JSON") from error
    for path, uid in sent:
        if uid in stored and uid not in failed:
            yield WebStored(path, uid)
        else:
            yield WebStored(path, uid, failed.get(uid) or 0x0110)


def _references(answer: Mapping[str, Any], tag: str) -> Iterator[tuple[str, int]]:
    for item in (answer.get(tag) or {}).get("Value") or []:
        values = [((item.get(one) or {}).get("Value") or [None])[0] for one in (_UID, _REASON)]
        yield str(values[0] or ""), int(values[1] or 0)
