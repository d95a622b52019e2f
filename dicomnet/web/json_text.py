"""JSON as answers carry it: compact, UTF-8."""

from __future__ import annotations

import json

__all__ = ["json_bytes"]


def json_bytes(value: object) -> bytes:
    """A value in JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
