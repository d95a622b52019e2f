from collections.abc import Iterable
from typing import final

from _typeshed import ReadableBuffer
from typing_extensions import disjoint_base

__all__ = [
    "AsynchronousOperationsWindow",
    "Fault",
    "ImplementationClassUID",
    "ImplementationVersionName",
    "MaximumLength",
    "RoleSelection",
    "SOPClassCommonExtendedNegotiation",
    "SOPClassExtendedNegotiation",
    "SubItem",
    "UnknownItem",
    "UserIdentityAC",
    "UserIdentityRQ",
    "Value",
]

class Fault(Exception): ...

@disjoint_base
class Value:
    __match_args__ = ()
    def encode(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

class SubItem(Value): ...

@final
class UnknownItem(SubItem):
    __match_args__ = ("type", "data")
    def __init__(self, type: int, data: ReadableBuffer) -> None: ...
    @property
    def type(self) -> int: ...
    @property
    def data(self) -> bytes: ...

@final
class MaximumLength(SubItem):
    __match_args__ = ("value",)
    def __init__(self, value: int) -> None: ...
    @property
    def value(self) -> int: ...

@final
class ImplementationClassUID(SubItem):
    __match_args__ = ("uid",)
    def __init__(self, uid: str) -> None: ...
    @property
    def uid(self) -> str: ...

@final
class AsynchronousOperationsWindow(SubItem):
    __match_args__ = ("invoked", "performed")
    def __init__(self, invoked: int, performed: int) -> None: ...
    @property
    def invoked(self) -> int: ...
    @property
    def performed(self) -> int: ...

@final
class RoleSelection(SubItem):
    __match_args__ = ("sop_class_uid", "scu", "scp")
    def __init__(self, sop_class_uid: str, scu: bool, scp: bool) -> None: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def scu(self) -> bool: ...
    @property
    def scp(self) -> bool: ...

@final
class ImplementationVersionName(SubItem):
    __match_args__ = ("name",)
    def __init__(self, name: str) -> None: ...
    @property
    def name(self) -> str: ...

@final
class SOPClassExtendedNegotiation(SubItem):
    __match_args__ = ("sop_class_uid", "application_information")
    def __init__(self, sop_class_uid: str, application_information: ReadableBuffer) -> None: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def application_information(self) -> bytes: ...

@final
class SOPClassCommonExtendedNegotiation(SubItem):
    __match_args__ = ("sop_class_uid", "service_class_uid", "related_general_sop_class_uids", "version")
    def __init__(
        self,
        sop_class_uid: str,
        service_class_uid: str,
        related_general_sop_class_uids: Iterable[str],
        version: int = 0,
    ) -> None: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def service_class_uid(self) -> str: ...
    @property
    def related_general_sop_class_uids(self) -> tuple[str, ...]: ...
    @property
    def version(self) -> int: ...

@final
class UserIdentityRQ(SubItem):
    __match_args__ = ("type", "primary", "secondary", "positive_response_requested")
    def __init__(
        self,
        type: int,
        primary: ReadableBuffer,
        secondary: ReadableBuffer = b"",
        positive_response_requested: bool = False,
    ) -> None: ...
    @property
    def type(self) -> int: ...
    @property
    def primary(self) -> bytes: ...
    @property
    def secondary(self) -> bytes: ...
    @property
    def positive_response_requested(self) -> bool: ...

@final
class UserIdentityAC(SubItem):
    __match_args__ = ("response",)
    def __init__(self, response: ReadableBuffer = b"") -> None: ...
    @property
    def response(self) -> bytes: ...
