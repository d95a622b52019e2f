from _typeshed import ReadableBuffer

__all__ = ["fault_of"]

def fault_of(buffer: ReadableBuffer, implicit: bool, little_endian: bool = True) -> str | None: ...
