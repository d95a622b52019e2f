# cython: auto_pickle=False
"""Part 10 files without pydicom: the file meta information, read and written, and a walk over a data set's headers.

Reading is lenient where real files are odd (a wrong group length, elements out of order, a meta group in implicit VR)
and never guesses: what cannot be read is an InputFileError that says why.

The `Walker` steps from header to header of a data set, without looking into values, to tell a file that was cut short
from a whole one before any of it is sent. It is fed windows of the file, so that the cost does not grow with the size
of the pixel data, and it calls a file truncated only when it understood everything up to the cut.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_FromObject
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from dicomnet.wire.cursor cimport (
    Cursor, Py_buffer, Writer, child, cursor_over, patch_u32le, read_bytes, read_text, read_u16, read_u16be,
    read_u16le, read_u32, read_u32le, remaining, skip, trim_padding, write_raw, write_u8, write_u16be, write_u16le,
    write_u32le, write_zeros,
)
from dicomnet.wire.items cimport Value

from enum import IntEnum

from dicomnet.errors import InputFileError, InputProblem, InvalidArgument
from dicomnet.uids import (
    EXPLICIT_VR_BIG_ENDIAN, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, IMPLICIT_VR_LITTLE_ENDIAN,
)

__all__ = ["GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS", "FileMeta", "Verdict", "Walker", "meta_header", "read_meta"]

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    PREAMBLE_SIZE = 128
    UID_SIZE = 64
    MAX_DEPTH = 64                      # sequences within sequences; real ones stop below ten
    MAX_LEVELS = 2 * MAX_DEPTH + 1      # the data set itself, then a sequence and an item for each depth
    IMPLICIT = 1                        # flags of a level
    BIG_ENDIAN = 2

cdef enum:
    TAG_GROUP_LENGTH = 0x00020000
    TAG_SOP_CLASS_UID = 0x00080016
    TAG_SOP_INSTANCE_UID = 0x00080018
    TAG_ITEM = 0xFFFEE000
    TAG_ITEM_DELIMITATION = 0xFFFEE00D
    TAG_SEQUENCE_DELIMITATION = 0xFFFEE0DD
    UNDEFINED_LENGTH = 0xFFFFFFFF

cdef enum:                              # value representations, their two letters read big-endian
    VR_AE = 0x4145, VR_AS = 0x4153, VR_AT = 0x4154, VR_CS = 0x4353, VR_DA = 0x4441, VR_DS = 0x4453
    VR_DT = 0x4454, VR_FD = 0x4644, VR_FL = 0x464C, VR_IS = 0x4953, VR_LO = 0x4C4F, VR_LT = 0x4C54
    VR_OB = 0x4F42, VR_OD = 0x4F44, VR_OF = 0x4F46, VR_OL = 0x4F4C, VR_OV = 0x4F56, VR_OW = 0x4F57
    VR_PN = 0x504E, VR_SH = 0x5348, VR_SL = 0x534C, VR_SQ = 0x5351, VR_SS = 0x5353, VR_ST = 0x5354
    VR_SV = 0x5356, VR_TM = 0x544D, VR_UC = 0x5543, VR_UI = 0x5549, VR_UL = 0x554C, VR_UN = 0x554E
    VR_UR = 0x5552, VR_US = 0x5553, VR_UT = 0x5554, VR_UV = 0x5556


# Headers of elements

cdef struct Element:
    uint32_t tag
    uint16_t vr             # 0: none, in implicit VR and in items and delimiters
    uint32_t length
    bint odd                # no writer that knows the standard writes it so


cdef inline bint _has_short_length(uint16_t vr) noexcept nogil:
    return vr in (VR_AE, VR_AS, VR_AT, VR_CS, VR_DA, VR_DS, VR_DT, VR_FD, VR_FL, VR_IS, VR_LO, VR_LT, VR_PN, VR_SH,
                  VR_SL, VR_SS, VR_ST, VR_TM, VR_UI, VR_UL, VR_US)


cdef inline bint _has_long_length(uint16_t vr) noexcept nogil:
    return vr in (VR_OB, VR_OD, VR_OF, VR_OL, VR_OV, VR_OW, VR_SQ, VR_SV, VR_UC, VR_UN, VR_UR, VR_UT, VR_UV)


cdef bint _read_header(Cursor* c, Element* e, int flags) noexcept nogil:
    """Read tag, VR and length (PS3.5 Section 7.1). False: the VR is none; a cut header shows in the cursor."""
    cdef bint big = flags & BIG_ENDIAN
    cdef uint32_t group = read_u16(c, big)
    e.tag = group << 16 | read_u16(c, big)
    e.vr = 0
    e.odd = False
    if flags & IMPLICIT or group == 0xFFFE:
        e.length = read_u32(c, big)
        return True
    e.vr = read_u16be(c)
    if _has_short_length(e.vr):
        e.length = read_u16(c, big)
    elif _has_long_length(e.vr):
        e.odd = read_u16(c, big) != 0       # some wrote the length into these reserved bytes
        e.length = read_u32(c, big)
    else:
        return c.overrun >= 0
    return True


# File meta information

cdef str _text(object value, str name):
    """A value as it can stand in the header, without its padding; None for one that is absent or empty."""
    if value is None:
        return None
    cdef str text = PyUnicode_FromObject(value)   # also turns pydicom's UID into a plain str
    if text and text[len(text) - 1] in " \0":
        text = text.rstrip(" \0")
    if not text.isascii() and max(text) > "\xff":
        raise InvalidArgument(f"{name} {value!r}: its characters do not fit one byte each")
    if len(text) > 0xFFFE:
        raise InvalidArgument(f"{name}: {len(text)} characters do not fit its length field")
    return text or None


@cython.final
cdef class FileMeta(Value):
    """File meta information: group 0002H of a Part 10 file (PS3.10 Section 7.1). What is absent or empty is None.

    Text is kept as the file has it, without trailing padding; whether a UID is one is for others to judge. `encode`
    gives the start of a file: an empty preamble, "DICM" and this group; the data set follows.
    """

    cdef readonly str sop_class_uid
    cdef readonly str sop_instance_uid
    cdef readonly str transfer_syntax_uid
    cdef readonly str implementation_class_uid
    cdef readonly str implementation_version_name
    cdef readonly str source_ae_title
    cdef readonly str sending_ae_title
    cdef readonly str receiving_ae_title
    cdef readonly str private_information_creator_uid
    cdef readonly bytes private_information

    __match_args__ = (
        "sop_class_uid", "sop_instance_uid", "transfer_syntax_uid", "implementation_class_uid",
        "implementation_version_name", "source_ae_title", "sending_ae_title", "receiving_ae_title",
        "private_information_creator_uid", "private_information",
    )

    def __init__(
        self,
        sop_class_uid,
        sop_instance_uid,
        transfer_syntax_uid,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        source_ae_title=None,
        sending_ae_title=None,
        receiving_ae_title=None,
        private_information_creator_uid=None,
        private_information=None,
    ):
        self.sop_class_uid = _text(sop_class_uid, "SOP Class UID")
        self.sop_instance_uid = _text(sop_instance_uid, "SOP Instance UID")
        self.transfer_syntax_uid = _text(transfer_syntax_uid, "Transfer Syntax UID")
        self.implementation_class_uid = _text(implementation_class_uid, "Implementation Class UID")
        self.implementation_version_name = _text(implementation_version_name, "Implementation Version Name")
        self.source_ae_title = _text(source_ae_title, "Source Application Entity Title")
        self.sending_ae_title = _text(sending_ae_title, "Sending Application Entity Title")
        self.receiving_ae_title = _text(receiving_ae_title, "Receiving Application Entity Title")
        self.private_information_creator_uid = _text(private_information_creator_uid, "Private Information Creator UID")
        self.private_information = None if private_information is None else bytes(private_information)

    cdef int write(self, Writer* w) except -1:
        cdef Py_ssize_t at
        if self.transfer_syntax_uid is None:
            raise InvalidArgument("file meta information without a Transfer Syntax UID", hint="It cannot be decoded.")
        write_zeros(w, PREAMBLE_SIZE)       # never the sender's: a preamble can make a file executable
        write_raw(w, b"DICM", 4)
        _write_meta_header(w, 0x0000, VR_UL, 4)
        at = w.size
        write_u32le(w, 0)
        _write_meta_elements(w, self)
        patch_u32le(w, at)
        return 0


def meta_header(
    sop_class_uid,
    sop_instance_uid,
    transfer_syntax_uid,
    source_ae_title=None,
    *,
    sending_ae_title=None,
    receiving_ae_title=None,
):
    """The start of a Part 10 file of ours, up to the data set: `FileMeta(…).encode()` in one call.

    The preamble is all zero and the implementation is dicomnet (PS3.10 Section 7.1).
    """
    cdef FileMeta meta = FileMeta.__new__(FileMeta)    # as its __init__ does, for there is one for each file received
    meta.sop_class_uid = _text(sop_class_uid, "SOP Class UID")
    meta.sop_instance_uid = _text(sop_instance_uid, "SOP Instance UID")
    meta.transfer_syntax_uid = _text(transfer_syntax_uid, "Transfer Syntax UID")
    meta.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    meta.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    meta.source_ae_title = _text(source_ae_title, "Source Application Entity Title")
    meta.sending_ae_title = _text(sending_ae_title, "Sending Application Entity Title")
    meta.receiving_ae_title = _text(receiving_ae_title, "Receiving Application Entity Title")
    return meta.encode()


cdef int _write_meta_elements(Writer* w, FileMeta meta) except -1:
    _write_long_meta(w, 0x0001, b"\x00\x01")        # File Meta Information Version
    _write_meta_text(w, 0x0002, VR_UI, meta.sop_class_uid)
    _write_meta_text(w, 0x0003, VR_UI, meta.sop_instance_uid)
    _write_meta_text(w, 0x0010, VR_UI, meta.transfer_syntax_uid)
    _write_meta_text(w, 0x0012, VR_UI, meta.implementation_class_uid)
    _write_meta_text(w, 0x0013, VR_SH, meta.implementation_version_name)
    _write_meta_text(w, 0x0016, VR_AE, meta.source_ae_title)
    _write_meta_text(w, 0x0017, VR_AE, meta.sending_ae_title)
    _write_meta_text(w, 0x0018, VR_AE, meta.receiving_ae_title)
    _write_meta_text(w, 0x0100, VR_UI, meta.private_information_creator_uid)
    if meta.private_information is not None:
        _write_long_meta(w, 0x0102, meta.private_information)
    return 0


cdef int _write_meta_header(Writer* w, uint16_t element, uint16_t vr, uint16_t length) except -1:
    write_u16le(w, 0x0002)
    write_u16le(w, element)
    write_u16be(w, vr)
    write_u16le(w, length)
    return 0


cdef int _write_meta_text(Writer* w, uint16_t element, uint16_t vr, str text) except -1:
    cdef Py_ssize_t size
    cdef const char* data
    if text is None:
        return 0
    if text.isascii():
        data = PyUnicode_AsUTF8AndSize(text, &size)
        _write_meta_header(w, element, vr, <uint16_t> (size + (size & 1)))
        write_raw(w, data, size)
    else:
        encoded = text.encode("latin-1")
        size = len(encoded)
        _write_meta_header(w, element, vr, <uint16_t> (size + (size & 1)))
        write_raw(w, <const char*> <bytes> encoded, size)
    if size & 1:
        write_u8(w, 0 if vr == VR_UI else 0x20)     # PS3.5 Section 6.2: UIDs are padded with NUL, text with a space
    return 0


cdef int _write_long_meta(Writer* w, uint16_t element, bytes value) except -1:
    cdef Py_ssize_t size = len(value)
    _write_meta_header(w, element, VR_OB, 0)        # the reserved bytes of OB stand where others have their length
    write_u32le(w, <uint32_t> (size + (size & 1)))
    write_raw(w, <const char*> value, size)
    if size & 1:
        write_u8(w, 0)
    return 0


def read_meta(buffer):
    """Read the file meta information at the start of a Part 10 file.

    The group length is not trusted, and elements may stand in any order: the group ends where another begins. Where it
    ends by its length, and the group begins anew there, what follows is data: some writers write it twice.

    Args:
        buffer: the file, or as much of its start as holds the whole group.

    Returns:
        The file meta information, and the offset of the data set.

    Raises:
        InputFileError: NOT_PART10, TRUNCATED (the group goes on past the buffer), or MISSING_UID: there is no
            transfer syntax, hence no reader can tell what the data set is.
    """
    cdef Py_buffer view
    cdef Cursor c
    cdef FileMeta meta = FileMeta.__new__(FileMeta)
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(&view)
        if not _skip_preamble(&c):
            raise InputFileError(
                "not a DICOM file: no DICM after a preamble of 128 bytes (PS3.10 Section 7.1)",
                problem=InputProblem.NOT_PART10,
            )
        _read_group(&c, meta)
    finally:
        PyBuffer_Release(&view)
    if meta.transfer_syntax_uid is None:
        raise InputFileError(
            "its file meta information has no Transfer Syntax UID (0002,0010)", problem=InputProblem.MISSING_UID
        )
    return meta, c.pos


cdef bint _skip_preamble(Cursor* c) noexcept:
    skip(c, PREAMBLE_SIZE)
    return read_u32le(c) == 0x4D434944      # "DICM"; zero where there are not so many bytes


cdef int _read_group(Cursor* c, FileMeta meta) except -1:
    cdef Element e
    cdef int flags = _meta_flags(c[0])
    cdef Py_ssize_t declared_end = -1
    cdef uint32_t last = 0
    cdef Cursor ahead
    while _group_ahead(c[0]) == 0x0002:
        ahead = c[0]
        if not _read_header(&ahead, &e, flags) or e.length == UNDEFINED_LENGTH:
            if c.pos == declared_end:       # a deflated data set may begin with any bytes
                break
            raise InputFileError(
                f"its file meta information cannot be read at byte {c.pos}", problem=InputProblem.NOT_PART10
            )
        if ahead.overrun >= 0 or e.length > remaining(&ahead):
            raise InputFileError(
                f"truncated: its file meta information ends at byte {c.end}, within an element",
                problem=InputProblem.TRUNCATED,
            )
        if c.pos == declared_end and e.tag <= last:
            break
        c[0] = ahead
        last = e.tag
        if e.tag == TAG_GROUP_LENGTH and e.length == 4:
            declared_end = c.pos + 4 + read_u32le(&ahead)
        _keep(meta, e.tag & 0xFFFF, child(c, e.length))
    return 0


cdef int _group_ahead(Cursor c) noexcept:
    return read_u16le(&c)


cdef int _meta_flags(Cursor c) noexcept:
    # Always explicit by the standard; some writers knew only implicit VR.
    cdef Element e
    return 0 if _read_header(&c, &e, 0) else IMPLICIT


cdef int _keep(FileMeta meta, int element, Cursor value) except -1:
    if element == 0x0102:
        meta.private_information = read_bytes(&value, remaining(&value))
        return 0
    trim_padding(&value)
    if remaining(&value) == 0:
        return 0
    if element == 0x0002:
        meta.sop_class_uid = read_text(&value, remaining(&value))
    elif element == 0x0003:
        meta.sop_instance_uid = read_text(&value, remaining(&value))
    elif element == 0x0010:
        meta.transfer_syntax_uid = read_text(&value, remaining(&value))
    elif element == 0x0012:
        meta.implementation_class_uid = read_text(&value, remaining(&value))
    elif element == 0x0013:
        meta.implementation_version_name = read_text(&value, remaining(&value))
    elif element == 0x0016:
        meta.source_ae_title = read_text(&value, remaining(&value))
    elif element == 0x0017:
        meta.sending_ae_title = read_text(&value, remaining(&value))
    elif element == 0x0018:
        meta.receiving_ae_title = read_text(&value, remaining(&value))
    elif element == 0x0100:
        meta.private_information_creator_uid = read_text(&value, remaining(&value))
    return 0


# Walking over a data set

class Verdict(IntEnum):
    """What a `Walker` knows."""

    MORE = 0            # nothing yet: it needs a window of the file that begins at `position`
    COMPLETE = 1        # the data set ends where the file ends
    TRUNCATED = 2       # everything is sound up to an element that goes on past the end of the file
    STRANGE = 3         # something that the walker does not understand: it cannot tell


GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"    # private, and in many an old archive

cdef tuple VERDICTS = tuple(Verdict)

cdef enum:
    MORE = 0
    COMPLETE = 1
    TRUNCATED = 2
    STRANGE = 3


cdef struct Level:
    uint8_t flags           # IMPLICIT, BIG_ENDIAN
    uint32_t last_tag       # of a data set or an item


@cython.final
cdef class Walker:
    """Steps over the elements of a data set, and over the items of what has no defined length (PS3.5 Section 7.5).

    Offsets count from the start of the file. Call `walk` with windows of it until the verdict is not MORE. A deflated
    data set is walked as what it is once inflated.

    Args:
        transfer_syntax_uid: decides byte order and whether VRs are explicit.
        start: where the data set begins.
        end: where the file ends.
    """

    cdef readonly str sop_class_uid         # (0008,0016) and (0008,0018) of the data set itself, once seen
    cdef readonly str sop_instance_uid
    cdef readonly uint32_t odd_tag          # of the first value with an odd length, and that length
    cdef readonly uint32_t odd_length
    cdef int64_t _position
    cdef int64_t _end
    cdef int64_t _start
    cdef int _state
    cdef bint _doubt                        # something was odd: an overrun may then be no truncation
    cdef int _depth                         # even: a data set or an item; odd: a sequence or encapsulated fragments
    cdef Level[MAX_LEVELS] _levels

    def __init__(self, transfer_syntax_uid, start, end):
        self._start = self._position = start
        self._end = end
        if not 0 <= self._start <= self._end:
            raise InvalidArgument(f"a data set from byte {start} to byte {end}")
        self._levels[0] = Level(_syntax_flags(transfer_syntax_uid), 0)

    @property
    def position(self):
        """Where the next window has to begin. It has 128 bytes or more, or reaches to the end of the file."""
        return self._position

    @property
    def verdict(self):
        return VERDICTS[self._state]

    def walk(self, window, offset):
        """Walk as far as a window of the file allows.

        Args:
            window: bytes of the file, `position` among them.
            offset: where in the file they begin.
        """
        cdef Py_buffer view
        cdef int64_t base = offset
        cdef Cursor whole, c
        PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
        try:
            whole = cursor_over(&view)
            c = child(&whole, <Py_ssize_t> min(max(self._end - base, 0), <int64_t> remaining(&whole)))
            if base <= self._position <= base + remaining(&c):
                skip(&c, <Py_ssize_t> (self._position - base))
                while self._state == MORE and self._step(&c, base):
                    pass
        finally:
            PyBuffer_Release(&view)
        return VERDICTS[self._state]

    cdef bint _step(self, Cursor* c, int64_t base) except -1:
        """One header and, where its length is defined, its value. False: the window ends first."""
        cdef Element e
        cdef Cursor ahead = c[0]
        cdef bint known
        self._position = base + c.pos
        if self._position == self._end:
            self._state = COMPLETE if self._depth == 0 else self._cut()
            return False
        known = _read_header(&ahead, &e, self._levels[self._depth].flags)
        if ahead.overrun >= 0:
            if base + c.end == self._end:
                self._state = self._judge_cut_header(c[0])
            return False
        if not known:
            self._state = STRANGE
        elif self._depth & 1:
            self._state = self._item(&e)
        else:
            self._state = self._element(&e)
        return self._state == MORE and self._value(c, &ahead, &e, base)

    cdef int _item(self, Element* e) noexcept:
        """In a sequence or in fragments only items and their end may stand."""
        if e.tag == TAG_SEQUENCE_DELIMITATION:
            self._depth -= 1
            e.length = 0
        elif e.tag != TAG_ITEM:
            return STRANGE
        elif e.length == UNDEFINED_LENGTH:
            self._push(self._levels[self._depth].flags)
            e.length = 0
        return MORE

    cdef int _element(self, Element* e) noexcept:
        cdef Level* level = &self._levels[self._depth]
        if e.tag == TAG_ITEM_DELIMITATION and self._depth > 0:
            self._depth -= 1
            e.length = 0
            return MORE
        if e.tag >> 16 == 0xFFFE:
            return STRANGE
        if level.last_tag == 0 and (self._is_swapped(e) or level.flags & IMPLICIT and _is_explicit(e)):
            return STRANGE
        if e.odd or e.tag <= level.last_tag or e.tag >> 16 == 0:
            self._doubt = True
        level.last_tag = e.tag
        if e.length == UNDEFINED_LENGTH:
            return self._enter(e, level.flags)
        if e.length & 1:
            self._doubt = True
            if self.odd_length == 0:
                self.odd_tag, self.odd_length = e.tag, e.length
        return MORE

    cdef bint _is_swapped(self, Element* e) noexcept:
        """The data set begins with 0800H, for instance: the byte order is not the one that the file tells."""
        return self._position == self._start and e.tag >> 16 != 0 and (e.tag >> 16) & 0xFF == 0

    cdef int _enter(self, Element* e, int flags) noexcept:
        """A value of undefined length: a sequence, or encapsulated pixel data, whose fragments are items too."""
        if flags & IMPLICIT == 0 and e.vr not in (VR_SQ, VR_UN, VR_OB, VR_OW):
            return STRANGE
        if self._depth == 2 * MAX_DEPTH:
            return STRANGE
        # PS3.5 Section 6.2.2 Note 2: the items of UN with undefined length are in implicit VR little endian.
        self._push(IMPLICIT if e.vr == VR_UN else flags)
        e.length = 0
        return MORE

    cdef void _push(self, int flags) noexcept:
        self._depth += 1
        self._levels[self._depth] = Level(<uint8_t> flags, 0)

    cdef bint _value(self, Cursor* c, Cursor* ahead, Element* e, int64_t base) except -1:
        """Move past a value; `c` is at its header, `ahead` at the value."""
        cdef int64_t start = base + ahead.pos
        if e.length > self._end - start:
            self._state = self._cut()
            return False
        if self._depth == 0 and e.length <= UID_SIZE and e.tag in (TAG_SOP_CLASS_UID, TAG_SOP_INSTANCE_UID):
            if e.length > remaining(ahead):
                self._levels[0].last_tag = 0        # seen again in the next window
                return False
            self._keep_uid(e, ahead[0])
        self._position = start + e.length
        if self._position == self._end:     # most files end in pixel data: no window past them is needed to say so
            self._state = COMPLETE if self._depth == 0 else self._cut()
            return False
        c[0] = ahead[0]
        return skip(c, e.length)

    cdef int _keep_uid(self, Element* e, Cursor value) except -1:
        value.end = value.pos + e.length
        trim_padding(&value)
        text = read_text(&value, remaining(&value)) or None
        if e.tag == TAG_SOP_CLASS_UID:
            self.sop_class_uid = text
        else:
            self.sop_instance_uid = text
        return 0

    cdef int _cut(self) noexcept:
        return STRANGE if self._doubt else TRUNCATED

    cdef int _judge_cut_header(self, Cursor rest) noexcept:
        """The file ends within a header, unless these last bytes are padding that another program appended."""
        cdef Level* level = &self._levels[self._depth]
        cdef uint32_t group
        if remaining(&rest) > 1:
            group = read_u16(&rest, level.flags & BIG_ENDIAN)
            if group == 0 or group < level.last_tag >> 16:
                return STRANGE
        return self._cut()


cdef int _syntax_flags(str transfer_syntax_uid) except -1:
    if transfer_syntax_uid in (IMPLICIT_VR_LITTLE_ENDIAN, GE_IMPLICIT_WITH_BIG_ENDIAN_PIXELS):
        return IMPLICIT
    return BIG_ENDIAN if transfer_syntax_uid == EXPLICIT_VR_BIG_ENDIAN else 0


cdef bint _is_explicit(Element* e) noexcept:
    """Whether the first element has a VR where implicit VR has a length: some files, and the items of some UN."""
    cdef uint16_t vr = <uint16_t> ((e.length & 0xFF) << 8 | (e.length >> 8) & 0xFF)
    return _has_short_length(vr) or _has_long_length(vr)
