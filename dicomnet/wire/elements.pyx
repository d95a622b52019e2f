"""Elements of a data set in memory: whether they are one at all, how deep they nest, and text as elements (PS3.5)."""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint16_t, uint32_t

from dicomnet.wire.cursor cimport (
    Cursor, Py_buffer, Writer, cursor_over, read_u16, read_u16be, read_u32, remaining, write_raw, write_u8, write_u16le,
    write_u32le, writer_bytes, writer_close, writer_open,
)

__all__ = ["encode_text", "fault_of"]

cdef enum:
    MAX_DEPTH = 64                      # sequences within sequences; real ones stop below ten
    MAX_LEVELS = 2 * MAX_DEPTH + 1      # the data set itself, then a sequence and an item for each depth
    UNDEFINED_LENGTH = 0xFFFFFFFF
    TAG_PIXEL_DATA = 0x7FE00010
    TAG_ITEM = 0xFFFEE000
    TAG_ITEM_DELIMITATION = 0xFFFEE00D
    TAG_SEQUENCE_DELIMITATION = 0xFFFEE0DD

cdef enum:                              # value representations with a length of 16 bits (PS3.5 Table 7.1-2)
    VR_AE = 0x4145, VR_AS = 0x4153, VR_AT = 0x4154, VR_CS = 0x4353, VR_DA = 0x4441, VR_DS = 0x4453
    VR_DT = 0x4454, VR_FD = 0x4644, VR_FL = 0x464C, VR_IS = 0x4953, VR_LO = 0x4C4F, VR_LT = 0x4C54
    VR_PN = 0x504E, VR_SH = 0x5348, VR_SL = 0x534C, VR_SS = 0x5353, VR_ST = 0x5354, VR_TM = 0x544D
    VR_UI = 0x5549, VR_UL = 0x554C, VR_US = 0x5553, VR_SQ = 0x5351, VR_UN = 0x554E

cdef enum Kind:
    DATA_SET, SEQUENCE, FRAGMENTS

cdef struct Level:
    Kind kind
    bint undefined                      # it ends with a delimiter, not where a length says
    bint guessed                        # implicit VR does not tell a sequence from bytes that look like one
    bint implicit
    Py_ssize_t end                      # nothing in it goes past this


@cython.final
@cython.internal
cdef class _Checker:
    cdef Level[MAX_LEVELS + 1] levels
    cdef int depth
    cdef bint big
    cdef str fault

    cdef bint push(self, Kind kind, bint undefined, bint implicit, bint guessed, Py_ssize_t end):
        if kind == SEQUENCE and self.depth + 1 >= MAX_LEVELS:
            self.fault = f"sequences nest deeper than {MAX_DEPTH} levels"
            return False
        self.depth += 1
        self.levels[self.depth] = Level(kind, undefined, guessed, implicit, end)
        return True

    cdef bint wrong(self, Cursor* c, str what):
        """Something cannot be: unless it stands in what was only guessed to be a sequence, that is the verdict."""
        cdef int depth
        for depth in range(self.depth + 1):
            if self.levels[depth].guessed:
                c.pos = self.levels[depth].end
                self.depth = depth - 1
                return True
        self.fault = f"{what} at byte {c.pos}"
        return False

    cdef bint step(self, Cursor* c):
        """One header, or one end; False where there is a fault, or nothing left."""
        cdef Level* level = &self.levels[self.depth]
        cdef Py_ssize_t start = c.pos
        cdef uint32_t tag
        if c.pos == level.end and not (level.undefined and self.depth):
            self.depth -= 1
            return self.depth >= 0
        if level.end - c.pos < 8:
            return self.wrong(c, "the data set ends in the middle of an element")
        tag = <uint32_t> read_u16(c, self.big) << 16
        tag |= read_u16(c, self.big)
        if level.kind == DATA_SET:
            return self.element(c, level, tag)
        return self.item(c, level, tag, start)

    cdef bint item(self, Cursor* c, Level* level, uint32_t tag, Py_ssize_t start):
        cdef uint32_t length = read_u32(c, self.big)
        if tag == TAG_SEQUENCE_DELIMITATION and level.undefined:
            self.depth -= 1
            return True
        if tag != TAG_ITEM:
            c.pos = start
            return self.wrong(c, "no item where one has to be")
        if length == UNDEFINED_LENGTH and level.kind == SEQUENCE:
            return self.push(DATA_SET, True, level.implicit, False, level.end)
        if length > level.end - c.pos:
            return self.wrong(c, "an item goes on past the end")
        if level.kind == FRAGMENTS:
            c.pos += length
            return True
        return self.push(DATA_SET, False, level.implicit, False, c.pos + length)

    cdef bint element(self, Cursor* c, Level* level, uint32_t tag):
        cdef uint16_t vr = 0
        cdef uint32_t length
        if tag >> 16 == 0xFFFE:
            if tag == TAG_ITEM_DELIMITATION and level.undefined:
                read_u32(c, self.big)
                self.depth -= 1
                return True
            return self.wrong(c, "a delimiter of nothing")
        if level.implicit:
            length = read_u32(c, self.big)
        else:
            vr = read_u16be(c)
            if not _is_vr(vr):
                return self.wrong(c, "no value representation")
            if _has_short_length(vr):
                length = read_u16(c, self.big)
            elif level.end - c.pos < 6:
                return self.wrong(c, "the data set ends in the middle of an element")
            else:
                read_u16(c, self.big)
                length = read_u32(c, self.big)
        return self.value(c, level, tag, vr, length)

    cdef bint value(self, Cursor* c, Level* level, uint32_t tag, uint16_t vr, uint32_t length):
        cdef Cursor ahead = c[0]
        cdef bint sequence = vr == VR_SQ or level.implicit and tag != TAG_PIXEL_DATA
        if length == UNDEFINED_LENGTH:
            if sequence or vr == VR_UN:  # PS3.5 Section 6.2.2 Note 2: its items are in implicit VR little endian
                return self.push(SEQUENCE, True, level.implicit or vr == VR_UN, False, level.end)
            return self.push(FRAGMENTS, True, level.implicit, False, level.end)
        if length > level.end - c.pos:
            return self.wrong(c, f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) goes on past the end")
        if level.implicit and length >= 8 and tag >> 16 != 0x7FE0:
            if read_u16(&ahead, False) == 0xFFFE and read_u16(&ahead, False) == 0xE000:
                return self.push(SEQUENCE, False, True, True, c.pos + length)
        if vr == VR_SQ:
            return self.push(SEQUENCE, False, False, False, c.pos + length)
        c.pos += length
        return True


cdef inline bint _is_vr(uint16_t vr) noexcept nogil:
    return 0x41 <= vr >> 8 <= 0x5A and 0x41 <= vr & 0xFF <= 0x5A


cdef inline bint _has_short_length(uint16_t vr) noexcept nogil:
    return vr in (VR_AE, VR_AS, VR_AT, VR_CS, VR_DA, VR_DS, VR_DT, VR_FD, VR_FL, VR_IS, VR_LO, VR_LT, VR_PN, VR_SH,
                  VR_SL, VR_SS, VR_ST, VR_TM, VR_UI, VR_UL, VR_US)


def fault_of(buffer, bint implicit, bint little_endian=True):
    """Say why these bytes are no data set, or None where they are one: headers only, values are not looked at.

    Sequences may nest 64 deep. Implicit VR does not tell which elements are sequences: a value that reads as items is
    taken for one as far as its depth goes, and never called wrong.

    Args:
        buffer: the data set, inflated.
        implicit: whether its elements have no VR.
        little_endian: its byte order.
    """
    cdef Py_buffer view
    cdef Cursor c
    cdef _Checker checker = _Checker()
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(&view)
        checker.big = not little_endian
        checker.depth = -1
        checker.push(DATA_SET, False, implicit, False, remaining(&c))
        while checker.step(&c):
            pass
        return checker.fault
    finally:
        PyBuffer_Release(&view)


# Encoding: elements of text, which is nearly all that queries and their answers hold

cdef frozenset _TEXT = frozenset(
    ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
)
cdef frozenset _LONG = frozenset(("UC", "UR", "UT"))
cdef frozenset _NUMBERS = frozenset(("DS", "IS"))


def encode_text(elements, bint implicit, bint utf_8=False):
    """Encode elements of text, little endian; None where one of them is something else, for a slower way to try.

    Args:
        elements: (tag, VR, value) in ascending order of tags; a value is None, a str, a number where the VR is one of
            decimals, or a list of these.
        implicit: whether elements go without VR.
        utf_8: text may be more than ASCII, and goes out in UTF-8.
    """
    cdef Writer out
    cdef Py_ssize_t size
    cdef bytes data
    writer_open(&out, 512)
    try:
        for number, vr, value in elements:
            if vr not in _TEXT:
                return None
            data = _text(vr, value, utf_8)
            if data is None:
                return None
            size = len(data)
            if not _put_header(&out, number, vr, size + (size & 1), implicit):
                return None
            write_raw(&out, <const char*> data, size)
            if size & 1:
                write_u8(&out, 0 if vr == "UI" else 0x20)
        return writer_bytes(&out)
    finally:
        writer_close(&out)


cdef bint _put_header(Writer* out, uint32_t tag, str vr, Py_ssize_t size, bint implicit) except -1:
    """Tag, VR and length; False where the length does not fit."""
    write_u16le(out, <uint16_t> (tag >> 16))
    write_u16le(out, <uint16_t> (tag & 0xFFFF))
    if not implicit:
        write_u8(out, <unsigned char> ord(vr[0]))
        write_u8(out, <unsigned char> ord(vr[1]))
        if vr not in _LONG:
            write_u16le(out, <uint16_t> size)
            return size <= 0xFFFE
        write_u16le(out, 0)
    write_u32le(out, <uint32_t> size)
    return True


cdef bytes _text(str vr, object value, bint utf_8):
    """A value as bytes; None where it is not plain text."""
    cdef str text
    if value is None:
        return b""
    if isinstance(value, str):
        text = str(value)
    elif isinstance(value, (list, tuple)) or hasattr(value, "append"):     # pydicom has a list of its own
        parts = [_text(vr, part, utf_8) for part in value]
        return None if None in parts else b"\\".join(parts)
    elif vr in _NUMBERS and isinstance(value, (int, float)):
        text = str(value)
        if len(text) > 16 or isinstance(value, bool):
            return None
    elif vr == "PN" and type(value).__name__ == "PersonName":
        text = str(value)
    else:
        return None
    if text.isascii():
        return text.encode("ascii")
    return text.encode("utf-8") if utf_8 else None
