"""The key by which identifiers are replaced: the same for all who are to get the same replacements."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import date, timedelta
from pathlib import Path

from ...errors import InvalidArgument
from ...uids import is_valid

__all__ = ["FILE_NAME", "Replacements", "key_in"]

FILE_NAME = "deidentification.key"
_BYTES = 32
_MOST_DAYS = 3650  # ten years back at most, and a month at least
_LEAST_DAYS = 30
_FIRST = date(1, 1, 1)


def key_in(directory: Path) -> bytes:
    """The key of a directory, made the first time; only its owner may read the file.

    Raises:
        InvalidArgument: the file is no key.
        OSError: it cannot be read, or made.
    """
    path = directory / FILE_NAME
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_hex(_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return _read(path)


def _read(path: Path) -> bytes:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if len(text) != 2 * _BYTES or not set(text) <= set("0123456789abcdef"):
        raise InvalidArgument(
            f"{path.name} is no key of {2 * _BYTES} hexadecimal digits", hint="Restore it, or delete it for a new one."
        )
    return bytes.fromhex(text)


class Replacements:
    """What stands for what.

    Args:
        key: any bytes; those of `key_in` by rights.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise InvalidArgument("a key of less than 16 bytes can be guessed")
        self._key = key

    def _digest(self, kind: str, value: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()

    def uid(self, uid: str) -> str:
        """The UID that stands for one: of the form that is made from UUIDs (PS3.5 Section B.2)."""
        value = int.from_bytes(self._digest("uid", uid)[:16], "big")
        value = value & ~(0xF << 76) | 0x8 << 76  # version 8: made by an application's own rule (RFC 9562)
        made = f"2.25.{value & ~(0x3 << 62) | 0x2 << 62}"
        assert is_valid(made)
        return made

    def patient(self, patient_id: str, issuer: str = "") -> str:
        """The Patient ID, and name, that stand for a patient."""
        return "ANON" + self._digest("patient", f"{issuer}\0{patient_id}").hex()[:12].upper()

    def word(self, kind: str, value: str) -> str:
        """What stands for another identifier: the same for the same."""
        return self._digest(kind, value).hex()[:8].upper()

    def days(self, patient_id: str, issuer: str = "") -> int:
        """By how many days the dates of a patient go back."""
        number = int.from_bytes(self._digest("dates", f"{issuer}\0{patient_id}")[:8], "big")
        return _LEAST_DAYS + number % (_MOST_DAYS - _LEAST_DAYS)

    def shifted(self, text: str, days: int) -> str:
        """A date, or a date with time, so many days earlier; empty where it is none."""
        digits = text[:8]
        if not (len(digits) == 8 and digits.isdecimal()):
            return ""
        try:
            moved = date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) - timedelta(days)
        except (ValueError, OverflowError):
            return ""
        return f"{max(moved, _FIRST):%Y%m%d}".rjust(8, "0") + text[8:]
