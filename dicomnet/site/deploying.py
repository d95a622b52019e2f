"""What runs a site without a hand: units for systemd, and a file for those who run containers."""

from __future__ import annotations

from pathlib import Path

from ..server.directory import ServerDirectory
from ..server.manager import unit
from .plan import ROLES, Site

__all__ = ["deploy"]

_TARGET = """\
# All servers of the site: systemctl enable --now dicomnet-site.target
[Unit]
Description=The DICOM servers of {directory}
Wants={units}

[Install]
WantedBy=multi-user.target
"""
_COMPOSE = """\
# The servers of the site in containers: docker compose up, or podman-compose up.
# They share the machine's network, so that titles, ports and certificates are those of `dicomnet site init`.
services:
{services}"""
_SERVICE = """\
  {role}:
    build: .
    command: ["dicomnet", "server", "run", "{path}"]
    network_mode: host
    init: true
    restart: unless-stopped
    stop_grace_period: 40s
    volumes: ["{directory}:{directory}"]
"""
_CONTAINERFILE = """\
FROM python:3.12-slim
RUN pip install --no-cache-dir "dicomnet[cli,codecs,router,console]"
"""


def deploy(site: Site, part: Path) -> None:
    """Write the files; paths in them are those of the site once it is made.

    Args:
        site: as it is to be.
        part: where it is made at the moment.
    """
    final = str(site.directory)
    units = part / "systemd"
    units.mkdir()
    names = [f"dicomnet-{role}.service" for role in ROLES]
    for role, name in zip(ROLES, names, strict=True):
        text = unit(ServerDirectory(part / "servers" / role)).replace(str(part), final)
        if role == "router" and site.deidentified:
            text = text.replace("ReadWritePaths=", f"ReadWritePaths=-{final}/research ")
        (units / name).write_text(text, encoding="utf-8")
    (units / "dicomnet-site.target").write_text(
        _TARGET.format(directory=final, units=" ".join(names)), encoding="utf-8"
    )
    services = "".join(_SERVICE.format(role=role, path=f"{final}/servers/{role}", directory=final) for role in ROLES)
    (part / "compose.yaml").write_text(_COMPOSE.format(services=services), encoding="utf-8")
    (part / "Containerfile").write_text(_CONTAINERFILE, encoding="utf-8")
