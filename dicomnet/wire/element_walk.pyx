# cython: auto_pickle=False
"""Chosen elements of a data set, found without decoding it, and its header as it streams by (PS3.5 Section 7).

Only headers of elements are read; values are copied where they are chosen, and sequences are skipped. What is no
element ends a walk, and so does Pixel Data (group 7FE0): what was found by then is given. `elements.fault_of` says
what is wrong.
"""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dicomnet.wire.cursor cimport (
    Cursor, Py_buffer, cursor_over, read_bytes, read_u16, read_u16be, read_u32, remaining, skip,
)

from ..errors import InvalidArgument
from ..uids import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

__all__ = ["Element", "HeaderCollector", "Selection", "header_of", "select_elements"]

cdef enum:
    MAX_LEVELS = 128                    # 64 sequences within sequences, each with an item
    UNDEFINED_LENGTH = 0xFFFFFFFF
    DELIMITER = 8                       # bytes of a delimiter
    PIXELS = 0x7FE0                     # the group of Pixel Data, Float Pixel Data, Double Float Pixel Data
    TAG_ITEM = 0xFFFEE000
    TAG_ITEM_DELIMITATION = 0xFFFEE00D
    TAG_SEQUENCE_DELIMITATION = 0xFFFEE0DD

cdef enum:                              # value representations with a length of 16 bits (PS3.5 Table 7.1-2)
    VR_AE = 0x4145, VR_AS = 0x4153, VR_AT = 0x4154, VR_CS = 0x4353, VR_DA = 0x4441, VR_DS = 0x4453
    VR_DT = 0x4454, VR_FD = 0x4644, VR_FL = 0x464C, VR_IS = 0x4953, VR_LO = 0x4C4F, VR_LT = 0x4C54
    VR_PN = 0x504E, VR_SH = 0x5348, VR_SL = 0x534C, VR_SS = 0x5353, VR_ST = 0x5354, VR_TM = 0x544D
    VR_UI = 0x5549, VR_UL = 0x554C, VR_US = 0x5553, VR_UN = 0x554E

cdef enum Found:
    WRONG = -1                          # no element
    MORE = 0                            # the bytes end here
    WHOLE = 1

cdef enum:                              # how a level is encoded, and what it is
    IMPLICIT = 1, BIG = 2, SEQUENCE = 4

cdef struct Header:
    uint32_t tag
    uint16_t vr                         # 0 where there is none
    uint32_t length

cdef struct Nest:                       # the sequences and items of undefined length that are open
    int depth
    Py_ssize_t ahead                    # bytes of a value that were not there to be skipped
    uint8_t[MAX_LEVELS] levels


cdef inline bint _has_short_length(uint16_t vr) noexcept nogil:
    return vr in (VR_AE, VR_AS, VR_AT, VR_CS, VR_DA, VR_DS, VR_DT, VR_FD, VR_FL, VR_IS, VR_LO, VR_LT, VR_PN, VR_SH,
                  VR_SL, VR_SS, VR_ST, VR_TM, VR_UI, VR_UL, VR_US)


cdef Found read_header(Cursor* c, uint8_t level, Header* header) noexcept nogil:
    """Tag, VR and length of what comes next; the cursor stays where it is if there is no whole header."""
    cdef Py_ssize_t start = c.pos
    cdef bint big = level & BIG
    if remaining(c) < 8:
        return MORE
    header.tag = <uint32_t> read_u16(c, big) << 16
    header.tag |= read_u16(c, big)
    header.vr = 0
    if level & IMPLICIT or header.tag >> 16 == 0xFFFE:
        header.length = read_u32(c, big)
        return WHOLE
    header.vr = read_u16be(c)
    if not (0x41 <= header.vr >> 8 <= 0x5A and 0x41 <= header.vr & 0xFF <= 0x5A):
        c.pos = start
        return WRONG
    if _has_short_length(header.vr):
        header.length = read_u16(c, big)
        return WHOLE
    if remaining(c) < 6:
        c.pos = start
        return MORE
    skip(c, 2)
    header.length = read_u32(c, big)
    return WHOLE


cdef inline uint8_t inside(uint8_t level, uint16_t vr) noexcept nogil:
    """How the items of an element are encoded: those of an UN in implicit VR little endian (PS3.5 Section 6.2.2)."""
    return IMPLICIT if vr == VR_UN else level & (IMPLICIT | BIG)


cdef bint push(Nest* nest, uint8_t level) noexcept nogil:
    if nest.depth == MAX_LEVELS:
        return False
    nest.levels[nest.depth] = level
    nest.depth += 1
    return True


cdef bint advance(Cursor* c, Nest* nest, uint32_t length) noexcept nogil:
    """Skip a value; False where it is not all there."""
    cdef Py_ssize_t there = remaining(c)
    if length <= there:
        return skip(c, length)
    nest.ahead = length - there
    skip(c, there)
    return False


cdef Found leave(Cursor* c, Nest* nest) noexcept nogil:
    """Go on to the end of what is open."""
    cdef Header header
    cdef uint8_t level
    cdef Found found
    while nest.depth:
        level = nest.levels[nest.depth - 1]
        found = read_header(c, level, &header)
        if found != WHOLE:
            return found
        if header.tag == <uint32_t> (TAG_SEQUENCE_DELIMITATION if level & SEQUENCE else TAG_ITEM_DELIMITATION):
            nest.depth -= 1
        elif (header.tag == <uint32_t> TAG_ITEM) != ((level & SEQUENCE) != 0):
            return WRONG
        elif header.tag == <uint32_t> TAG_SEQUENCE_DELIMITATION:
            return WRONG
        elif header.length == UNDEFINED_LENGTH:
            if not push(nest, level & ~SEQUENCE if level & SEQUENCE else inside(level, header.vr) | SEQUENCE):
                return WRONG
        elif not advance(c, nest, header.length):
            return MORE
    return WHOLE


cdef Found pass_by(Cursor* c, Nest* nest, uint8_t level, const Header* header) noexcept nogil:
    """Go past the value of an element."""
    if header.length != UNDEFINED_LENGTH:
        return WHOLE if advance(c, nest, header.length) else MORE
    push(nest, inside(level, header.vr) | SEQUENCE)
    return leave(c, nest)


cdef uint8_t level_of(str transfer_syntax) except 0xFF:
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        raise InvalidArgument("a deflated data set shows no elements before it is inflated")
    if transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN:
        return IMPLICIT
    return BIG if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else 0


@cython.final
cdef class Element:
    """An element as it is encoded.

    Attributes:
        tag: group and element, as 0x00100020.
        vr: its value representation; empty in implicit VR.
        value: its bytes, padding included; those of a sequence are its items.
        others: for an element within a sequence, its values in the items behind the first that has it.
    """

    cdef readonly uint32_t tag
    cdef readonly str vr
    cdef readonly bytes value
    cdef readonly tuple others

    def __init__(self, uint32_t tag, str vr not None, bytes value not None, tuple others=()):
        self.tag = tag
        self.vr = vr
        self.value = value
        self.others = others

    @property
    def values(self):
        """All its values, of an element within a sequence."""
        return (self.value, *self.others)

    def __eq__(self, other):
        if not isinstance(other, Element):
            return NotImplemented
        return (self.tag, self.vr, self.values) == (other.tag, other.vr, other.values)

    def __hash__(self):
        return hash((self.tag, self.value))

    def __repr__(self):
        return f"Element({self.tag >> 16:04X},{self.tag & 0xFFFF:04X} {self.vr or '--'}, {len(self.value)} bytes)"


@cython.final
cdef class Selection:
    """Which elements to look for, made once for many data sets.

    Args:
        tags: a tag, or a path of them: sequences, then the element in their items, as ``(0x00081140, 0x00081155)``.

    Raises:
        InvalidArgument: something that is no tag, or lies within Pixel Data, which is not looked at.
    """

    cdef readonly tuple tags
    cdef list _order                    # of (tag, key or None, Selection or None), ascending

    def __init__(self, tags):
        self.tags = tuple([_path(tag) for tag in tags])
        self._order = _tree_of(self.tags, 0)

    def find(self, buffer, str transfer_syntax not None):
        """The chosen elements of a data set that are there: by tag, or by path.

        Raises:
            InvalidArgument: the data set is deflated.
        """
        cdef Py_buffer view
        cdef Cursor c
        cdef dict found = {}
        cdef uint8_t level = level_of(transfer_syntax)
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
        try:
            c = cursor_over(&view)
            collect(self._order, &c, level, found)
        finally:
            PyBuffer_Release(&view)
        return found


def _path(tag):
    if isinstance(tag, int):
        tag = (tag,)
    path = tuple(tag)
    if not path or not all([isinstance(one, int) and 0 <= one < 0xFFFE0000 for one in path]):
        raise InvalidArgument(f"{tag!r} is no tag, and no path of tags")
    if path[0] >> 16 >= PIXELS:
        what = f"({path[0] >> 16:04X},{path[0] & 0xFFFF:04X})"
        raise InvalidArgument(f"{what} is not looked for: the walk ends at Pixel Data")
    return path


def _tree_of(paths, depth):
    """What to look for at a depth, ascending: (tag, its key if it is chosen itself, what to look for in its items)."""
    branches = {}
    for path in paths:
        branches.setdefault(path[depth], []).append(path)
    rows = []
    for tag, under in sorted(branches.items()):
        deeper = [path for path in under if len(path) > depth + 1]
        key = None
        if len(deeper) < len(under):
            key = next(path for path in under if len(path) == depth + 1)
            key = key if depth else key[0]
        rows.append((tag, key, _tree_of(deeper, depth + 1) if deeper else None))
    return rows


cdef int collect(list order, Cursor* c, uint8_t level, dict found) except -1:
    """Walk over the elements of a data set, or of an item, and keep those that are looked for."""
    cdef Header header
    cdef Nest nest
    cdef Cursor value
    cdef uint32_t before = 0, wanted
    cdef Py_ssize_t at = 0, count = len(order)
    while True:
        if read_header(c, level, &header) != WHOLE or header.tag >> 16 == 0xFFFE or header.tag >> 16 == PIXELS:
            return 0
        if header.tag < before:
            at = 0  # not in the order of tags
        before = header.tag
        while at < count and <uint32_t> (<tuple> order[at])[0] < header.tag:
            at += 1
        if at == count:
            return 0
        wanted = (<tuple> order[at])[0]
        nest.depth, nest.ahead = 0, 0
        value = c[0]
        if pass_by(c, &nest, level, &header) != WHOLE:
            return 0
        if wanted == header.tag:
            value.end = c.pos - DELIMITER if header.length == UNDEFINED_LENGTH else c.pos
            keep(<tuple> order[at], &value, level, &header, found)


cdef int keep(tuple row, Cursor* value, uint8_t level, const Header* header, dict found) except -1:
    cdef Element known
    cdef Cursor items = value[0]
    key, deeper = row[1], row[2]
    if key is not None:
        data = read_bytes(value, remaining(value))
        known = found.get(key)
        if known is not None:
            known.others = (*known.others, data)
        else:
            vr = chr(header.vr >> 8) + chr(header.vr & 0xFF) if header.vr else ""
            found[key] = Element(header.tag, vr, data)
    if deeper is not None:
        collect_items(<list> deeper, &items, inside(level, header.vr), found)
    return 0


cdef int collect_items(list order, Cursor* c, uint8_t level, dict found) except -1:
    cdef Header header
    cdef Nest nest
    cdef Cursor item
    while read_header(c, level, &header) == WHOLE and header.tag == TAG_ITEM:
        nest.depth, nest.ahead = 0, 0
        item = c[0]
        if header.length != UNDEFINED_LENGTH:
            if not advance(c, &nest, header.length):
                return 0
        elif not push(&nest, level) or leave(c, &nest) != WHOLE:
            return 0
        item.end = c.pos
        collect(order, &item, level, found)
    return 0


def select_elements(data, transfer_syntax, tags):
    """The elements of a data set with these tags that are there.

    Args:
        data: the data set, without file meta information; a part of it will do.
        transfer_syntax: its UID.
        tags: tags, and paths of them; see `Selection`.

    Raises:
        InvalidArgument: the data set is deflated, or a tag is none.
    """
    return Selection(tags).find(data, transfer_syntax)


@cython.final
cdef class HeaderCollector:
    """Collects what comes before Pixel Data while a data set streams by.

    Args:
        transfer_syntax: of the data set.
        limit: the most bytes that are kept.

    Raises:
        InvalidArgument: the data set is deflated.
    """

    cdef bytearray _data
    cdef Py_ssize_t _limit, _at
    cdef uint8_t _level
    cdef bint _done, _whole
    cdef Nest _nest

    def __init__(self, str transfer_syntax not None, Py_ssize_t limit):
        self._level = level_of(transfer_syntax)
        self._data = bytearray()
        self._limit = limit
        self._nest.depth, self._nest.ahead = 0, 0

    cpdef object write(self, list views):
        """Take the next bytes of the data set."""
        cdef Py_ssize_t room
        for view in views:
            if self._done:
                return
            room = self._limit - len(self._data)
            self._data += view if len(view) <= room else view[:room]
            self._walk()
            if len(view) > room:
                self._done = True

    cpdef object close(self):
        """There are no more bytes."""
        if not self._done:
            self._whole = self._at == len(self._data) and not self._nest.depth
            self._done = True

    cdef int _walk(self) except -1:
        cdef Py_buffer view
        cdef Cursor c
        cdef Found found
        if self._at >= len(self._data):
            return 0
        PyObject_GetBuffer(self._data, &view, PyBUF_SIMPLE)
        try:
            c = cursor_over(&view)
            skip(&c, self._at)
            found = to_pixels(&c, self._level, &self._nest)
            self._at = c.pos + self._nest.ahead
            self._nest.ahead = 0
        finally:
            PyBuffer_Release(&view)
        if found != MORE:
            self._done, self._whole = True, found == WHOLE
            if self._whole:
                del self._data[self._at:]
        return 0

    @property
    def whole(self):
        """Whether `header` is all that comes before Pixel Data: it fits the limit, and is elements."""
        return self._whole

    @property
    def header(self):
        """What was collected, copied; all that comes before Pixel Data if `whole`."""
        return bytes(self._data)

    def elements(self, Selection selection not None, str transfer_syntax not None):
        """Those of the chosen elements that were collected."""
        return selection.find(self._data, transfer_syntax)


cdef Found to_pixels(Cursor* c, uint8_t level, Nest* nest) noexcept nogil:
    """Go on to Pixel Data, and stop before it; MORE where the bytes end first."""
    cdef Header header
    cdef Py_ssize_t start
    cdef Found found = leave(c, nest)
    while found == WHOLE:
        start = c.pos
        found = read_header(c, level, &header)
        if found != WHOLE:
            return found
        if header.tag >> 16 == PIXELS:
            c.pos = start
            return WHOLE
        if header.tag >> 16 == 0xFFFE:
            return WRONG
        found = pass_by(c, nest, level, &header)
    return found


def header_of(buffer, str transfer_syntax not None):
    """What comes before Pixel Data in a data set, copied; None where it is deflated, or not elements throughout."""
    cdef Py_buffer view
    cdef Cursor c
    cdef Nest nest
    cdef Found found
    if transfer_syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return None
    nest.depth, nest.ahead = 0, 0
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        c = cursor_over(&view)
        found = to_pixels(&c, level_of(transfer_syntax), &nest)
        if found == WHOLE or (found == MORE and not nest.ahead and not nest.depth and not remaining(&c)):
            return PyBytes_FromStringAndSize(<const char*> view.buf, c.pos)
        return None
    finally:
        PyBuffer_Release(&view)
