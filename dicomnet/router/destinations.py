"""Destinations of the router, as data: where each is, how it is spoken to, what it gets at a time."""

from __future__ import annotations

from datetime import time
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ..config import Entity
from ..errors import InvalidArgument
from ..net.tls import TLS
from ..server.settings import AETitle, Seconds, Table
from .conditions import Window

__all__ = ["Compression", "Destination", "DimseDestination", "FolderDestination", "S3Destination", "StowDestination"]

#: What an instance may be converted to on its way; "never" as it is, but between native syntaxes (PS3.5 Section 10.1).
Compression = str
MOST_WIDTH = 16


class _Common(Table):
    width: Annotated[int, Field(ge=1, le=MOST_WIDTH)] = 1
    """How many associations or requests it gets at a time; a series stays on one."""
    tries: Annotated[int, Field(ge=1, le=1000)] = 5
    """How often an instance is offered that it refuses, before it is parked."""
    between: Window | None = None
    """The time of the day when it gets anything, and is asked anything; left out, always."""
    active: bool = True
    """Whether it gets anything, and is asked anything; what is for it waits."""
    alarm: Seconds = 3600.0
    """The age of the oldest waiting instance, in seconds, from which on the state of this destination is an alarm."""

    def is_open(self, now: time) -> bool:
        """Whether it gets anything, and is asked anything, at a time of the day."""
        return self.active and (self.between is None or self.between.holds(now))


@lru_cache(1024)
def _entity(address: str) -> Entity:
    """Of a destination, whose title each instance is compared with."""
    return Entity.parse(address)


class DimseDestination(_Common):
    """A peer that takes C-STORE."""

    kind: Literal["dimse"] = "dimse"
    address: str
    """AET@host:port, or dicoms://AET@host:port for TLS."""
    calling: AETitle | None = None
    """The title that we call with; left out, the router's own."""
    pass_calling: bool = False
    """Call with the title of who sent each instance."""
    tls_ca: str | None = None
    """The authorities behind its certificate; a file, read again with each new connection after it has changed."""
    tls_cert: str | None = None
    """Our certificate."""
    tls_key: str | None = None
    """Its private key, if it is in a file of its own."""
    tls_name: str | None = None
    """The name that its certificate must have; left out, its host's. "any" takes any of these authorities."""
    convert: Literal["never", "if needed"] = "if needed"
    """Whether an instance is converted where the peer takes no transfer syntax that it has."""
    extended: tuple[Literal["relational", "combined", "fuzzy", "timezone"], ...] = ()
    """What it grants beyond the baseline (PS3.4 Tables C.5-1, C.5-3, K.5-1); who asks the router is granted it, too."""
    commit: bool = False
    """Ask for storage commitment (PS3.4 Annex J); an instance leaves the queue when the peer has committed itself."""

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return self.address

    @model_validator(mode="after")
    def _check(self) -> Self:
        entity = self.entity
        tls = any((self.tls_ca, self.tls_cert, self.tls_key, self.tls_name))
        if tls and not entity.tls:
            raise InvalidArgument(
                f'"{self.address}" is plain, and TLS files are named', hint=f"Write dicoms://{entity}."
            )
        if self.pass_calling and self.calling:
            raise InvalidArgument("calling and pass_calling exclude each other")
        return self

    @property
    def entity(self) -> Entity:
        """Title and address."""
        return _entity(self.address)

    def tls(self) -> TLS | None:
        """How connections to it are secured; None is plain."""
        if not self.entity.tls:
            return None
        any_name = self.tls_name == "any"
        return TLS(
            ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key,
            server_name=None if any_name else self.tls_name, check_name=not any_name,
        )  # fmt: skip


class StowDestination(_Common):
    """A server that takes STOW-RS (PS3.18 Section 10.5)."""

    kind: Literal["stow"]
    url: str
    """The address of its service, to which /studies is added: https://pacs.example/dicomweb."""
    token: str | None = None
    """A file whose first line is a bearer token."""
    user: str | None = None
    """For basic authentication; the password is the first line of the file ``password``."""
    password: str | None = None
    """A file."""
    tls_ca: str | None = None
    """The authorities behind its certificate; a file."""
    tls_cert: str | None = None
    """Our certificate."""
    tls_key: str | None = None
    """Its private key."""

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return self.url

    @model_validator(mode="after")
    def _check(self) -> Self:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise InvalidArgument(f'"{self.url}" is no address of a web server', hint="https://host/dicomweb")
        if self.url.startswith("http:") and (self.tls_ca or self.tls_cert):
            raise InvalidArgument(f'"{self.url}" is plain, and TLS files are named', hint="Write https://…")
        return self


class FolderDestination(_Common):
    """A folder of files."""

    kind: Literal["folder"]
    path: str
    """Where; it is made where it does not exist."""
    template: str = "{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
    """The path of a file in it, made of attributes."""

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return self.path

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not Path(self.path).is_absolute():
            raise InvalidArgument(f'the folder "{self.path}" has no absolute path')
        return self


class S3Destination(_Common):
    """A bucket of an object store that speaks S3."""

    kind: Literal["s3"]
    url: str
    """s3://bucket/prefix"""
    endpoint: str | None = None
    """The address of the service, where it is not Amazon's."""
    region: str = "us-east-1"
    """Its region."""
    template: str = "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm"
    """The key of an object below the prefix, made of attributes."""
    plain_http: bool = False
    """Whether the endpoint may be http, not https."""

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return self.url

    @model_validator(mode="after")
    def _check(self) -> Self:
        if urlsplit(self.url).scheme != "s3" or not urlsplit(self.url).netloc:
            raise InvalidArgument(f'"{self.url}" is no bucket', hint="s3://bucket/prefix")
        if self.endpoint and self.endpoint.startswith("http:") and not self.plain_http:
            raise InvalidArgument(f'"{self.endpoint}" is plain', hint="Say plain_http = true, or write https://…")
        return self


Destination = DimseDestination | StowDestination | FolderDestination | S3Destination
