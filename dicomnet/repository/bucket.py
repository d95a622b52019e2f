"""A bucket of an S3 object store, through obstore: requests are repeated for a while, and what fails is an `OSError`.

The URL says all but the keys, which come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, or
what AWS gives a machine) or from a TOML file with these names in lower case::

    s3://BUCKET/PREFIX?endpoint=https://store.example:9000&region=eu-1&keys=/etc/dicomnet/s3.toml&cache_mib=4096
"""

from __future__ import annotations

import errno
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ..errors import InvalidArgument

__all__ = ["Bucket", "StoreUnavailable", "Uploading", "is_bucket"]

CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 30.0  # of one try, body included
RETRY_SECONDS = 30.0  # after which a request is not begun again; a sender's own patience is a minute as a rule
RETRIES = 300  # the seconds above end them before
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between tries
PART_BYTES = 8 << 20  # of a multipart upload; S3 takes 5 MiB or more, and 10,000 parts
PARTS_AT_ONCE = 2  # of one upload, in memory
_PAGE = 1000
_PARAMETERS = ("endpoint", "region", "keys", "cache_mib")
_KEYS = ("access_key_id", "secret_access_key", "session_token")
_NEEDS = "pip install 'dicomnet[s3]'"
_EXAMPLE = "s3://BUCKET/PREFIX?endpoint=https://…"


def is_bucket(storage: str) -> bool:
    """Whether a setting names a bucket, and no directory."""
    return storage.startswith("s3://")


class StoreUnavailable(OSError):
    """The object store did not confirm, however often it was asked; who asked it is told once, in the log."""


class Uploading(Protocol):
    """An object on its way, in parts."""

    def write(self, buffer: bytes, /) -> int:
        """Take bytes; waits while `PARTS_AT_ONCE` parts are under way."""

    def close(self) -> None:
        """All of it is written: the store has it whole when this returns."""


class Bucket:
    """A bucket, or a prefix of one.

    Args:
        url: see above.

    Raises:
        InvalidArgument: it is no URL of a bucket, or obstore is not installed.

    Attributes:
        name: for messages: the URL without its parameters.
        parameters: of the URL.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore  # noqa: PLC0415 an extra of its own
            from obstore.exceptions import BaseError  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise InvalidArgument("an object store needs the package obstore", hint=_NEEDS) from error
        place = _place(url)
        self.name: str = f"s3://{place.netloc}{place.path}"
        self.parameters: dict[str, str] = _parameters(url, place)
        pauses: Any = {"init_backoff": timedelta(seconds=FIRST_PAUSE), "max_backoff": timedelta(seconds=LONGEST_PAUSE)}
        try:
            self._store = S3Store(
                place.netloc,
                prefix=place.path.strip("/") or None,
                client_options={
                    "allow_http": self.parameters.get("endpoint", "").startswith("http://"),
                    "timeout": timedelta(seconds=REQUEST_SECONDS),
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                },
                retry_config={
                    "max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS), "backoff": pauses,
                },
                **_config(self.parameters),
            )  # fmt: skip
        except (BaseError, ValueError) as error:
            raise InvalidArgument(f"{self.name}: {_brief(error)}") from error
        self._api, self._base = obstore, BaseError

    @contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        """Say what fails as the operating system would."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise StoreUnavailable(errno.EIO, f"there is no bucket {self.name}: make it first") from error
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.name}/{key}") from error
        except StoreUnavailable:
            raise
        except (self._base, OSError) as error:  # an upload's errors are of the operating system's kind
            remedy = "see that it runs, and that the keys are right"
            raise StoreUnavailable(errno.EIO, f"{self.name} does not confirm: {_brief(error)}; {remedy}") from error

    def put(self, key: str, data: bytes) -> None:
        """Make an object; the store has it when this returns.

        Raises:
            StoreUnavailable: it may be there nevertheless.
        """
        with self._asking(key):
            self._api.put(self._store, key, data, use_multipart=False)

    def upload(self, key: str) -> Uploading:
        """Make an object of unknown size."""
        return self._api.open_writer(self._store, key, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

    def uploaded(self, work: Any, *arguments: Any) -> None:
        """Call a method of an upload.

        Raises:
            StoreUnavailable: parts of it did not arrive.
        """
        with self._asking(""):
            work(*arguments)

    def get(self, key: str, start: int, length: int) -> bytes:
        """Bytes of an object: fewer where it ends.

        Raises:
            FileNotFoundError: there is none.
            StoreUnavailable: it cannot be read now.
        """
        with self._asking(key):
            return bytes(self._api.get_range(self._store, key, start=start, length=length))

    def tail(self, key: str, length: int) -> tuple[bytes, int]:
        """The last bytes of an object, and the size of it; see `get`."""
        with self._asking(key):
            result = self._api.get(self._store, key, options={"range": {"suffix": length}})
            return bytes(result.bytes()), int(result.meta["size"])

    def size(self, key: str) -> int:
        """Bytes of an object; see `get`."""
        with self._asking(key):
            return int(self._api.head(self._store, key)["size"])

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[list[tuple[str, int]]]:
        """Keys and sizes below a prefix, in pages.

        Args:
            prefix: ends in a slash.
            after: only those that come after this one.
        """
        end = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                with self._asking(prefix):
                    for page in self._api.list(self._store, prefix, offset=after, chunk_size=_PAGE):
                        found = [(str(one["path"]), int(one["size"])) for one in page]
                        after = found[-1][0] if found else after
                        yield found
                        end = time.monotonic() + RETRY_SECONDS  # from what came last: a long list takes its time
                return
            except StoreUnavailable:  # in the midst of a list, which obstore does not begin again
                if time.monotonic() > end:
                    raise
            threading.Event().wait(FIRST_PAUSE)

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; what there is not is no error."""
        with self._asking(keys[0] if keys else ""):
            for start in range(0, len(keys), _PAGE):
                self._api.delete(self._store, list(keys[start : start + _PAGE]))


def _place(url: str) -> SplitResult:
    try:
        place = urlsplit(url)
    except ValueError as error:  # a bracket without its other half
        raise InvalidArgument(f"{url} names no bucket: {error}", hint=_EXAMPLE) from error
    if not place.netloc:
        raise InvalidArgument(f"{url} names no bucket", hint=_EXAMPLE)
    return place


def _parameters(url: str, place: SplitResult) -> dict[str, str]:
    given = dict(parse_qsl(place.query))
    for name in given:
        if name not in _PARAMETERS:
            raise InvalidArgument(f'{url}: "{name}" is no parameter of a bucket', hint=f"{', '.join(_PARAMETERS)} are.")
    return given


def _config(parameters: dict[str, str]) -> dict[str, Any]:
    """What obstore is told; what is left out it takes from the environment."""
    config: dict[str, Any] = {name: parameters[name] for name in ("endpoint", "region") if name in parameters}
    if "endpoint" in config:
        config.setdefault("region", "us-east-1")  # what stores that have no regions are asked for
    if "keys" in parameters:
        path = Path(parameters["keys"])
        try:
            keys = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidArgument(f"{path}: {error}", hint=f"A TOML file with {' and '.join(_KEYS[:2])}.") from error
        config |= {name: str(keys[name]) for name in _KEYS if name in keys}
    return config


def _brief(error: BaseException) -> str:
    """The first line, which says of no patient and no key."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]
