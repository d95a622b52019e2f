from collections.abc import Iterable
from typing import Final, final

from _typeshed import ReadableBuffer
from typing_extensions import disjoint_base

from dicomnet.wire.items import (
    AsynchronousOperationsWindow,
    ImplementationClassUID,
    ImplementationVersionName,
    MaximumLength,
    RoleSelection,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    SubItem,
    UnknownItem,
    UserIdentityAC,
    UserIdentityRQ,
    Value,
)

__all__ = [
    "PDU",
    "PDU_ABORT",
    "PDU_ASSOCIATE_AC",
    "PDU_ASSOCIATE_RJ",
    "PDU_ASSOCIATE_RQ",
    "PDU_DATA_TF",
    "PDU_RELEASE_RP",
    "PDU_RELEASE_RQ",
    "PDV",
    "Abort",
    "AssociateAC",
    "AssociateRJ",
    "AssociateRQ",
    "AsynchronousOperationsWindow",
    "ImplementationClassUID",
    "ImplementationVersionName",
    "MaximumLength",
    "PDataTF",
    "PresentationContextAC",
    "PresentationContextRQ",
    "ReleaseRP",
    "ReleaseRQ",
    "RoleSelection",
    "SOPClassCommonExtendedNegotiation",
    "SOPClassExtendedNegotiation",
    "SubItem",
    "UnknownItem",
    "UserIdentityAC",
    "UserIdentityRQ",
    "decode",
    "decode_body",
    "decode_first",
]

PDU_ASSOCIATE_RQ: Final[int]
PDU_ASSOCIATE_AC: Final[int]
PDU_ASSOCIATE_RJ: Final[int]
PDU_DATA_TF: Final[int]
PDU_RELEASE_RQ: Final[int]
PDU_RELEASE_RP: Final[int]
PDU_ABORT: Final[int]

@disjoint_base
class PresentationContext(Value):
    @property
    def id(self) -> int: ...

@final
class PresentationContextRQ(PresentationContext):
    __match_args__ = ("id", "abstract_syntax", "transfer_syntaxes", "unknown")
    def __init__(
        self,
        id: int,
        abstract_syntax: str,
        transfer_syntaxes: Iterable[str],
        unknown: Iterable[UnknownItem] = (),
    ) -> None: ...
    @property
    def abstract_syntax(self) -> str: ...
    @property
    def transfer_syntaxes(self) -> tuple[str, ...]: ...
    @property
    def unknown(self) -> tuple[UnknownItem, ...]: ...

@final
class PresentationContextAC(PresentationContext):
    __match_args__ = ("id", "result", "transfer_syntax", "unknown")
    def __init__(
        self,
        id: int,
        result: int,
        transfer_syntax: str | None = None,
        unknown: Iterable[UnknownItem] = (),
    ) -> None: ...
    @property
    def result(self) -> int: ...
    @property
    def transfer_syntax(self) -> str | None: ...
    @property
    def unknown(self) -> tuple[UnknownItem, ...]: ...

@final
class PDV(Value):
    __match_args__ = ("context_id", "data", "is_command", "is_last")
    def __init__(self, context_id: int, data: ReadableBuffer, is_command: bool, is_last: bool) -> None: ...
    @property
    def context_id(self) -> int: ...
    @property
    def data(self) -> bytes: ...
    @property
    def is_command(self) -> bool: ...
    @property
    def is_last(self) -> bool: ...

class PDU(Value): ...

@disjoint_base
class Associate(PDU):
    __match_args__ = (
        "called_ae_title",
        "calling_ae_title",
        "presentation_contexts",
        "user_information",
        "application_context_name",
        "protocol_version",
        "unknown",
    )
    def __init__(
        self,
        called_ae_title: str,
        calling_ae_title: str,
        presentation_contexts: Iterable[PresentationContext],
        user_information: Iterable[SubItem],
        application_context_name: str = "1.2.840.10008.3.1.1.1",
        protocol_version: int = 1,
        unknown: Iterable[UnknownItem] = (),
    ) -> None: ...
    @property
    def presentation_contexts(self) -> tuple[PresentationContext, ...]: ...
    @property
    def called_ae_title(self) -> str: ...
    @property
    def calling_ae_title(self) -> str: ...
    @property
    def user_information(self) -> tuple[SubItem, ...]: ...
    @property
    def application_context_name(self) -> str: ...
    @property
    def protocol_version(self) -> int: ...
    @property
    def unknown(self) -> tuple[UnknownItem, ...]: ...
    def maximum_length(self) -> int | None: ...

@final
class AssociateRQ(Associate):
    def __init__(
        self,
        called_ae_title: str,
        calling_ae_title: str,
        presentation_contexts: Iterable[PresentationContextRQ],
        user_information: Iterable[SubItem],
        application_context_name: str = "1.2.840.10008.3.1.1.1",
        protocol_version: int = 1,
        unknown: Iterable[UnknownItem] = (),
    ) -> None: ...
    @property
    def presentation_contexts(self) -> tuple[PresentationContextRQ, ...]: ...

@final
class AssociateAC(Associate):
    def __init__(
        self,
        called_ae_title: str,
        calling_ae_title: str,
        presentation_contexts: Iterable[PresentationContextAC],
        user_information: Iterable[SubItem],
        application_context_name: str = "1.2.840.10008.3.1.1.1",
        protocol_version: int = 1,
        unknown: Iterable[UnknownItem] = (),
    ) -> None: ...
    @property
    def presentation_contexts(self) -> tuple[PresentationContextAC, ...]: ...

@final
class AssociateRJ(PDU):
    __match_args__ = ("result", "source", "reason")
    def __init__(self, result: int, source: int, reason: int) -> None: ...
    @property
    def result(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def reason(self) -> int: ...

@final
class PDataTF(PDU):
    __match_args__ = ("pdvs",)
    def __init__(self, pdvs: Iterable[PDV]) -> None: ...
    @property
    def pdvs(self) -> tuple[PDV, ...]: ...

@final
class ReleaseRQ(PDU): ...

@final
class ReleaseRP(PDU): ...

@final
class Abort(PDU):
    __match_args__ = ("source", "reason")
    def __init__(self, source: int, reason: int) -> None: ...
    @property
    def source(self) -> int: ...
    @property
    def reason(self) -> int: ...

def decode_body(pdu_type: int, body: ReadableBuffer) -> PDU: ...
def decode(buffer: ReadableBuffer) -> PDU: ...
def decode_first(
    buffer: ReadableBuffer, offset: int = 0, max_length: int = 0, max_associate: int = 1048576
) -> tuple[PDU, int] | None: ...
