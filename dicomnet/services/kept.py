"""What of a retrieve has come and was kept here, and whether it was asked for: peers count only what they have sent."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from inspect import isawaitable
from typing import Any

from .provider import as_status
from .provider_requests import StoreRequest

__all__ = ["KEYS", "KeptCounter"]

_SOP_INSTANCE = "SOPInstanceUID"
_ABOVE = {0x0020000D: "StudyInstanceUID", 0x0020000E: "SeriesInstanceUID"}
#: What an instance has to be looked at for: Study and Series Instance UID.
KEYS = tuple(_ABOVE)


class KeptCounter:
    """Counts the instances that were kept, and names those that were not asked for.

    Args:
        keys: of the retrieve, by keyword.

    Attributes:
        kept: how many.
        unasked: SOP Instance UIDs of those that belong to none of the studies, series or instances that were named.
    """

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self.kept: int = 0
        self.unasked: list[str] = []
        self._keys = keys
        self._wanted = {name: _uids(keys.get(name)) for name in (*_ABOVE.values(), _SOP_INSTANCE)}

    def again(self) -> KeptCounter:
        """One that counts anew, for the same keys; what was not asked for stays named."""
        other = KeptCounter(self._keys)
        other.unasked = self.unasked
        return other

    def count(self, request: StoreRequest, answer: object) -> object:
        """An instance was answered so; the answer, which is awaited first where it has to be."""
        if isawaitable(answer):
            return self._awaited(request, answer)
        status = as_status(answer)
        if status.is_success or status.is_warning:
            self.kept += 1
            if not self._is_asked(request) and request.sop_instance_uid not in self.unasked:
                self.unasked.append(request.sop_instance_uid)
        return answer

    async def _awaited(self, request: StoreRequest, answer: Awaitable[object]) -> object:
        return self.count(request, await answer)

    def _is_asked(self, request: StoreRequest) -> bool:
        wanted = self._wanted[_SOP_INSTANCE]
        if wanted and request.sop_instance_uid not in wanted:
            return False
        found = request.elements or {}
        for tag, name in _ABOVE.items():
            element = found.get(tag)
            wanted = self._wanted[name]
            if wanted and element is not None and element.value.decode("latin-1").strip(" \0") not in wanted:
                return False
        return True


def _uids(value: Any) -> frozenset[str]:
    """The UIDs of a key; none where any will do."""
    texts = [value] if isinstance(value, str) else list(value or ())
    return frozenset(one.strip() for text in texts for one in str(text).split("\\") if one.strip())
