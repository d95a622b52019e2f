"""The viewer, OHIF, as a web application: the files of the package ``dicomnet-viewer``, at any path.

The package has data only; ``web-ui/build_viewer.py`` makes it. Its texts name two places that the server alone knows,
where the viewer and where DICOMweb are reached, so they are filled in for each request: a reverse proxy may put the
whole application under a path of its own (ASGI's ``root_path``).
"""

from __future__ import annotations

import gzip
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import NotModifiedResponse, PathLike, StaticFiles
from starlette.types import Scope

from .addresses import base_path

try:
    import dicomnet_viewer as package
except ModuleNotFoundError:  # the server works without it
    package = None

__all__ = ["viewer_app", "viewer_files"]

INDEX = "index.html"
TEMPLATES = (INDEX, "boot.js", "app-config.js")
CHUNK = 1 << 16

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    # A browser compiles WebAssembly while it arrives under this type only.
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
# Also for names with OHIF's hash of the content: our own build changes some of these files, too, and a browser that
# kept one of an earlier version beside others of a later one would show an empty page.
REVALIDATED = "no-cache"

# OHIF sets styles from scripts, decodes pixels by WebAssembly in workers, and shows documents in an <object>.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; font-src 'self' data:; "
    "connect-src 'self' blob: data:{remote}; worker-src 'self' blob:; object-src 'self' blob:; frame-src 'self' blob:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
# Code that workers run makes functions from text. A worker has the policy of its own script, and no document to harm.
WORKER_POLICY = "default-src 'self'; script-src 'self' 'unsafe-eval'; connect-src 'self' blob: data:{remote}"
WORKERS = frozenset({"136", "2299", "8097", "compute", "histogram-worker", "interpolation", "polySeg"})

MISSING = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The viewer is not installed</title></head>
<body><h1>The viewer is not installed</h1>
<p>The archive works without it. The viewer is a package of its own, <code>dicomnet-viewer</code>, which no package
index has. In a checkout of dicomnet, <code>make viewer</code> builds it, into <code>web-ui/dist</code>. Install that
wheel here, and restart this server:</p>
<pre>pip install web-ui/dist/dicomnet_viewer-*.whl</pre>
</body></html>
"""


def viewer_files() -> Path | None:
    """The folder with the viewer's files, or None without the package ``dicomnet-viewer``."""
    if package is None:
        return None
    files = Path(package.__path__[0]) / "assets"
    return files if (files / INDEX).is_file() else None


def viewer_app(dicomweb: str, files: Path | None = None) -> Starlette:
    """Make the application of the viewer, to be mounted anywhere: ``Mount("/viewer", ...)``.

    Args:
        dicomweb: where the DICOMweb services are, seen from the viewer's own address: ``../dicomweb``, or a whole URL.
        files: the viewer's files, if not those of the package ``dicomnet-viewer``.

    Returns:
        An application. Without the package it answers every request with 404 and a page that says how to get it.
    """
    files = files or viewer_files()
    if files is None:
        return Starlette(routes=[Route("/{path:path}", _missing)])
    return Starlette(routes=[Mount("/", _ViewerFiles(files, dicomweb))])


async def _missing(request: Request) -> Response:
    return HTMLResponse(MISSING, status_code=404, headers={"Cache-Control": "no-store"})


class _ViewerFiles(StaticFiles):
    """Static files with templates, precompressed content, and addresses that the viewer's own script understands."""

    def __init__(self, files: Path, dicomweb: str) -> None:
        super().__init__(directory=files)
        self._root = files.resolve()
        self._dicomweb = dicomweb
        remote = urlsplit(dicomweb)
        origin = f" {remote.scheme}://{remote.netloc}" if remote.netloc else ""
        self._policy, self._worker_policy = POLICY.format(remote=origin), WORKER_POLICY.format(remote=origin)
        self._templates = {name: (files / name).read_text(encoding="utf-8") for name in TEMPLATES}

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """The file for a path: itself, compressed, or the page if the path is one of the viewer's addresses."""
        if path.startswith("..") or path.endswith(".gz"):
            return "", None
        for name in (path, path + ".gz"):
            full_path, found = super().lookup_path(name)
            if found and stat.S_ISREG(found.st_mode):
                return full_path, found
        if path == "." or "." not in os.path.basename(path):
            return super().lookup_path(INDEX)
        return "", None

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file as it is, a compressed one for clients that take it so, or a template, filled in."""
        file = Path(full_path)
        name = file.relative_to(self._root).as_posix().removesuffix(".gz")
        headers = self._headers(name)
        media_type = MEDIA_TYPES.get(os.path.splitext(name)[1], "application/octet-stream")
        if name in self._templates:
            return Response(self._filled(name, scope), media_type=media_type, headers=headers)
        if file.suffix == ".gz":
            headers["Vary"] = "Accept-Encoding"
            if not _takes_gzip(Headers(scope=scope)):
                return StreamingResponse(_decompressed(file), media_type=media_type, headers=headers)
            headers["Content-Encoding"] = "gzip"
        response = FileResponse(file, status_code, headers, media_type, stat_result=stat_result)
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response

    def _headers(self, name: str) -> dict[str, str]:
        base = name.rpartition("/")[2]
        return {
            "Cache-Control": REVALIDATED,
            "Content-Security-Policy": self._worker_policy if base.partition(".")[0] in WORKERS else self._policy,
            # An address of the viewer holds study UIDs.
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        }

    def _filled(self, name: str, scope: Scope) -> str:
        # One leading slash: two would make the browser take the first part for a host.
        base = f"/{base_path(Request(scope)).strip('/')}/".replace("//", "/")
        text = self._templates[name].replace("@BASE@", _quoted(base))
        return text.replace("@DICOMWEB@", _quoted(urljoin(base, self._dicomweb)))


def _quoted(address: str) -> str:
    """Without a character that would end an attribute or a JavaScript string: a proxy's header may say anything."""
    return quote(address, safe=":/?#[]@!$&()*+,;=%~")


def _takes_gzip(headers: Headers) -> bool:
    """Whether Accept-Encoding has gzip, or anything, and does not refuse it by q=0 (RFC 9110 Section 12.5.3)."""
    accepted = {}
    for item in headers.get("accept-encoding", "").lower().split(","):
        coding, _, parameter = item.partition(";")
        accepted[coding.strip()] = not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameter)
    return accepted.get("gzip", accepted.get("*", False))


def _decompressed(file: Path) -> Iterator[bytes]:
    with gzip.open(file) as content:
        while chunk := content.read(CHUNK):
            yield chunk
