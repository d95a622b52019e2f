"""The sender of S3 destinations: an object for each instance (`pip install dicomnet[s3]`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..errors import DicomNetError, InvalidArgument
from ..repository.single_files import FileTemplate
from .destinations import S3Destination
from .folder import names_of, pieces_of
from .senders import Load, Result, Verdict

__all__ = ["S3Sender"]

_NEEDS = "pip install 'dicomnet[s3]'"


class S3Sender:
    """Puts instances into a bucket; one that is there with the same key is replaced.

    Keys come from the environment: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``, or what AWS gives a machine.

    Args:
        destination: the bucket.
        title: our own title, for the file meta information.

    Raises:
        InvalidArgument: obstore is not installed, or refuses these settings.
    """

    def __init__(self, destination: S3Destination, title: str) -> None:
        try:
            import obstore  # noqa: PLC0415 an extra of its own
            from obstore.store import S3Store  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise InvalidArgument("S3 destinations need the package obstore", hint=_NEEDS) from error
        place = urlsplit(destination.url)
        config: dict[str, Any] = {"region": destination.region}
        if destination.endpoint:
            config["endpoint"] = destination.endpoint
        options: Any = {"allow_http": destination.plain_http, "timeout": "60s", "connect_timeout": "10s"}
        try:
            self._store = S3Store(
                place.netloc, prefix=place.path.strip("/") or None, client_options=options,
                retry_config={"max_retries": 1}, **config,
            )  # fmt: skip
        except Exception as error:  # obstore's errors have no common base
            raise InvalidArgument(f"{destination.url}: {error}") from error
        self._put, self._url, self._title = obstore.put, destination.url, title
        self._template = FileTemplate(destination.template)

    def send(self, loads: Sequence[Load]) -> Iterator[Result]:
        """See `Sender.send`."""
        for load in loads:
            verdict, why = self._stored(load)
            yield Result(load.delivery, verdict, why)
            if verdict is Verdict.UNREACHABLE:
                return

    def _stored(self, load: Load) -> tuple[Verdict, str]:
        try:
            data = b"".join(map(bytes, pieces_of(load.source, self._title)))
        except (DicomNetError, OSError) as error:
            return Verdict.UNREADABLE, str(error)
        finally:
            load.source.close()
        try:
            self._put(self._store, self._template.path(names_of(load)), data)
        except Exception as error:  # whatever obstore raises: it says nothing of the instance
            return Verdict.UNREACHABLE, f"{self._url}: {' '.join(str(error).split())[:200]}"
        return Verdict.DELIVERED, ""

    def abort(self) -> None:
        """See `Sender.abort`."""

    def close(self) -> None:
        """See `Sender.close`."""
