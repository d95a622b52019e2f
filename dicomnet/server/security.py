"""The base service `security`: how listeners and destinations are secured; changed certificates are read anew."""

from __future__ import annotations

from collections.abc import Callable

from ..net.tls import TLS
from .ae_entry import AEEntry
from .settings import Settings

__all__ = ["SettingsSecurity"]


class SettingsSecurity:
    """TLS by the table [tls] of the settings that hold now.

    `net.tls.TLS` looks at its files with each connection: a renewed certificate is used from the next one on.
    """

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    def listener(self) -> TLS | None:
        """How the TLS port is secured."""
        tls = self._settings().tls
        return None if tls is None else tls.tls()

    def destination(self, entry: AEEntry) -> TLS | None:
        """How connections to an AE are secured: with our own certificate, where it speaks TLS."""
        if not entry.tls:
            return None
        tls = self._settings().tls
        return TLS() if tls is None else tls.tls()
