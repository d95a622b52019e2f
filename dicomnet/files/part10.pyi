from enum import IntEnum
from typing import final

from _typeshed import ReadableBuffer

from dicomnet.wire.items import Value

__all__ = ["GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS", "FileMeta", "Verdict", "Walker", "meta_header", "read_meta"]

GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS: str

@final
class FileMeta(Value):
    __match_args__ = (
        "sop_class_uid",
        "sop_instance_uid",
        "transfer_syntax_uid",
        "implementation_class_uid",
        "implementation_version_name",
        "source_ae_title",
        "sending_ae_title",
        "receiving_ae_title",
        "private_information_creator_uid",
        "private_information",
    )
    def __init__(
        self,
        sop_class_uid: str | None,
        sop_instance_uid: str | None,
        transfer_syntax_uid: str,
        implementation_class_uid: str | None = ...,
        implementation_version_name: str | None = ...,
        source_ae_title: str | None = None,
        sending_ae_title: str | None = None,
        receiving_ae_title: str | None = None,
        private_information_creator_uid: str | None = None,
        private_information: ReadableBuffer | None = None,
    ) -> None: ...
    @property
    def sop_class_uid(self) -> str | None: ...
    @property
    def sop_instance_uid(self) -> str | None: ...
    @property
    def transfer_syntax_uid(self) -> str: ...
    @property
    def implementation_class_uid(self) -> str | None: ...
    @property
    def implementation_version_name(self) -> str | None: ...
    @property
    def source_ae_title(self) -> str | None: ...
    @property
    def sending_ae_title(self) -> str | None: ...
    @property
    def receiving_ae_title(self) -> str | None: ...
    @property
    def private_information_creator_uid(self) -> str | None: ...
    @property
    def private_information(self) -> bytes | None: ...

def meta_header(
    sop_class_uid: str | None,
    sop_instance_uid: str | None,
    transfer_syntax_uid: str,
    source_ae_title: str | None = None,
    *,
    sending_ae_title: str | None = None,
    receiving_ae_title: str | None = None,
) -> bytes: ...
def read_meta(buffer: ReadableBuffer) -> tuple[FileMeta, int]: ...

class Verdict(IntEnum):
    MORE = 0
    COMPLETE = 1
    TRUNCATED = 2
    STRANGE = 3

@final
class Walker:
    def __init__(self, transfer_syntax_uid: str, start: int, end: int) -> None: ...
    @property
    def sop_class_uid(self) -> str | None: ...
    @property
    def sop_instance_uid(self) -> str | None: ...
    @property
    def odd_tag(self) -> int: ...
    @property
    def odd_length(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def verdict(self) -> Verdict: ...
    def walk(self, window: ReadableBuffer, offset: int) -> Verdict: ...
