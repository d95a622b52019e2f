"""An archive behind nginx, at a path of its own, with TLS there and a login here, as docs/how-to/web.md has it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import archives
import peers
import pytest
from argon2 import PasswordHasher
from certificates import Authority

from dicomnet.archive.archive import Archive
from dicomnet.archive.web import serve_web
from dicomnet.web.users import Users

USER, PASSWORD = "jane", "correct horse"
# What a test needs around what the page says.
_CONFIG = """
daemon off; pid {directory}/pid; error_log {directory}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port} ssl; server_name localhost;
        ssl_certificate {cert}; ssl_certificate_key {key};
        {location}
    }}
}}
"""


def _location(upstream: int) -> str:
    """What the page on the subject says, for this port."""
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "web.md").read_text(encoding="utf-8")
    found = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1].replace("8042", str(upstream))


@contextmanager
def proxied(directory: Path) -> Iterator[tuple[Archive, str, Path]]:
    """The archive, the address that a browser uses, and the authority of its certificate."""
    nginx = peers.peer_program("nginx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dicomnet.web.users.PasswordHasher", lambda: PasswordHasher(1, 64, 1))
        settings = archives.make(directory / "archive")
        Users(directory / "archive" / "users.json").put(USER, PASSWORD, "administer")
        web = dataclasses.replace(settings.web, listen="127.0.0.1:0", proxies=("127.0.0.1",))
        archive = Archive(directory / "archive", dataclasses.replace(settings, web=web))
        authority, port = Authority(directory), peers.free_port()
        issued = authority.issue("localhost")
        with archive, serve_web(archive) as serving:
            values = {"directory": directory, "port": port, "cert": issued.cert, "key": issued.key}
            path = directory / "nginx.conf"
            path.write_text(_CONFIG.format(location=_location(serving.address[1]), **values))
            with subprocess.Popen([nginx, "-c", str(path), "-e", str(directory / "error.log")]) as process:
                try:
                    yield archive, f"https://localhost:{port}/pacs", authority.file
                finally:
                    process.terminate()
