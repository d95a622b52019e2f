"""Health: whether the server lives, and whether it is ready."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LEAST_DISK", "Check", "disk_check"]

#: Bytes that must be free where data sets arrive; below, the server is not ready.
LEAST_DISK = 256 << 20


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that readiness depends on.

    Attributes:
        name: what is looked at: "index", "disk", "queue".
        ok: whether it is well.
        detail: a figure, or what is wrong.
    """

    name: str
    ok: bool
    detail: str = ""


def disk_check(directory: Path, least: int = LEAST_DISK) -> Check:
    """Whether there is room for what arrives."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return Check("disk", False, f"{directory}: {error.strerror}")
    return Check("disk", free >= least, f"{free / (1 << 30):.1f} GiB free")
