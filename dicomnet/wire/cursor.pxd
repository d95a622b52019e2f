# cython: language_level=3
"""A bounded read cursor and a growable writer: the only place where dicomnet computes with pointers.

A read that does not fit gives zero (or an empty string), marks the cursor as overrun and moves it to its end, so that
every loop over a cursor terminates; the reader asks `complete` or `overrun` once, at the end, and raises its own
error. A child cursor is cut out of its parent and never reaches past it. Nothing is allocated by a declared length
before that length is known to fit.
"""
from cpython.buffer cimport Py_buffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset


# Reading

cdef struct Cursor:
    const uint8_t* data     # start of the whole buffer: pos and end count from here in parent and child alike
    Py_ssize_t pos
    Py_ssize_t end
    Py_ssize_t overrun      # where the first read stood that did not fit; -1: none yet


cdef inline Cursor cursor_over(const Py_buffer* view) noexcept nogil:
    """A cursor over a whole buffer, which the caller keeps alive."""
    return Cursor(<const uint8_t*> view.buf, 0, view.len, -1)


cdef inline Py_ssize_t remaining(const Cursor* c) noexcept nogil:
    return c.end - c.pos


cdef inline bint complete(const Cursor* c) noexcept nogil:
    """True if everything was read and nothing beyond it was asked for."""
    return c.overrun < 0 and c.pos == c.end


cdef inline bint _fits(Cursor* c, Py_ssize_t n) noexcept nogil:
    # n is compared with what is left, never added to a position: a length near 2^32 or 2^63 cannot wrap round.
    if 0 <= n <= c.end - c.pos:
        return True
    if c.overrun < 0:
        c.overrun = c.pos
    c.pos = c.end
    return False


cdef inline Cursor child(Cursor* c, Py_ssize_t n) noexcept nogil:
    """The next `n` bytes as a cursor of their own; the parent moves past them. An overrun marks both."""
    cdef Cursor part = Cursor(c.data, c.pos, c.pos, -1)
    if _fits(c, n):
        c.pos += n
        part.end = c.pos
    else:
        part.overrun = c.overrun
    return part


cdef inline bint skip(Cursor* c, Py_ssize_t n) noexcept nogil:
    if not _fits(c, n):
        return False
    c.pos += n
    return True


cdef inline uint8_t read_u8(Cursor* c) noexcept nogil:
    if not _fits(c, 1):
        return 0
    c.pos += 1
    return c.data[c.pos - 1]


cdef inline uint16_t read_u16be(Cursor* c) noexcept nogil:
    if not _fits(c, 2):
        return 0
    cdef const uint8_t* p = c.data + c.pos
    c.pos += 2
    return <uint16_t> (p[0] << 8 | p[1])


cdef inline uint16_t read_u16le(Cursor* c) noexcept nogil:
    if not _fits(c, 2):
        return 0
    cdef const uint8_t* p = c.data + c.pos
    c.pos += 2
    return <uint16_t> (p[1] << 8 | p[0])


cdef inline uint32_t read_u32be(Cursor* c) noexcept nogil:
    if not _fits(c, 4):
        return 0
    cdef const uint8_t* p = c.data + c.pos
    c.pos += 4
    return <uint32_t> p[0] << 24 | <uint32_t> p[1] << 16 | <uint32_t> p[2] << 8 | p[3]


cdef inline uint32_t peek_u32be(const uint8_t* p, int at) noexcept nogil:
    """Four bytes of an array that is known to hold them."""
    return <uint32_t> p[at] << 24 | <uint32_t> p[at + 1] << 16 | <uint32_t> p[at + 2] << 8 | p[at + 3]


cdef inline uint32_t read_u32le(Cursor* c) noexcept nogil:
    if not _fits(c, 4):
        return 0
    cdef const uint8_t* p = c.data + c.pos
    c.pos += 4
    return <uint32_t> p[3] << 24 | <uint32_t> p[2] << 16 | <uint32_t> p[1] << 8 | p[0]


cdef inline uint16_t read_u16(Cursor* c, bint big) noexcept nogil:
    return read_u16be(c) if big else read_u16le(c)


cdef inline uint32_t read_u32(Cursor* c, bint big) noexcept nogil:
    return read_u32be(c) if big else read_u32le(c)


cdef inline bytes read_bytes(Cursor* c, Py_ssize_t n):
    """The next `n` bytes, copied; empty on overrun."""
    if not _fits(c, n):
        return b""
    c.pos += n
    return PyBytes_FromStringAndSize(<const char*> c.data + c.pos - n, n)


cdef inline str read_text(Cursor* c, Py_ssize_t n):
    """The next `n` bytes as Latin-1 text, so that every byte is a character; empty on overrun."""
    if not _fits(c, n):
        return ""
    c.pos += n
    return PyUnicode_DecodeLatin1(<const char*> c.data + c.pos - n, n, NULL)


cdef inline bint is_ascii(const Cursor* c) noexcept nogil:
    """True if what is left holds only bytes below 80H."""
    cdef Py_ssize_t i
    for i in range(c.pos, c.end):
        if c.data[i] & 0x80:
            return False
    return True


cdef inline void trim_padding(Cursor* c) noexcept nogil:
    """Drop trailing NULs and spaces from what is left."""
    while c.end > c.pos and (c.data[c.end - 1] == 0 or c.data[c.end - 1] == 0x20):
        c.end -= 1


# Writing

cdef struct Writer:
    uint8_t* data
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline int writer_open(Writer* w, Py_ssize_t capacity) except -1:
    """Get memory for `capacity` bytes (it grows); pair it with `writer_close` in a `finally`."""
    w.size = 0
    w.capacity = capacity
    w.data = <uint8_t*> PyMem_Malloc(capacity)
    if w.data == NULL:
        raise MemoryError
    return 0


cdef inline void writer_close(Writer* w) noexcept:
    PyMem_Free(w.data)
    w.data = NULL


cdef inline bytes writer_bytes(const Writer* w):
    """What was written, copied."""
    return PyBytes_FromStringAndSize(<const char*> w.data, w.size)


cdef inline int _grow(Writer* w, Py_ssize_t n) except -1:
    if n < 0 or w.size > <Py_ssize_t> (<size_t> -1 >> 2) - n:
        raise MemoryError
    cdef Py_ssize_t capacity = (w.size + n) * 2
    cdef uint8_t* data = <uint8_t*> PyMem_Realloc(w.data, capacity)
    if data == NULL:
        raise MemoryError
    w.data = data
    w.capacity = capacity
    return 0


cdef inline uint8_t* _room(Writer* w, Py_ssize_t n) except NULL:
    if <size_t> n > <size_t> (w.capacity - w.size):     # a negative n is huge here, and refused by _grow
        _grow(w, n)
    w.size += n
    return w.data + w.size - n


cdef inline int write_u8(Writer* w, uint8_t value) except -1:
    _room(w, 1)[0] = value
    return 0


cdef inline void _store_u16be(uint8_t* p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t> (value >> 8)
    p[1] = <uint8_t> value


cdef inline void _store_u16le(uint8_t* p, uint16_t value) noexcept nogil:
    p[0] = <uint8_t> value
    p[1] = <uint8_t> (value >> 8)


cdef inline void _store_u32be(uint8_t* p, uint32_t value) noexcept nogil:
    _store_u16be(p, <uint16_t> (value >> 16))
    _store_u16be(p + 2, <uint16_t> value)


cdef inline void _store_u32le(uint8_t* p, uint32_t value) noexcept nogil:
    _store_u16le(p, <uint16_t> value)
    _store_u16le(p + 2, <uint16_t> (value >> 16))


cdef inline int write_u16be(Writer* w, uint16_t value) except -1:
    _store_u16be(_room(w, 2), value)
    return 0


cdef inline int write_u16le(Writer* w, uint16_t value) except -1:
    _store_u16le(_room(w, 2), value)
    return 0


cdef inline int write_u32be(Writer* w, uint32_t value) except -1:
    _store_u32be(_room(w, 4), value)
    return 0


cdef inline int write_u32le(Writer* w, uint32_t value) except -1:
    _store_u32le(_room(w, 4), value)
    return 0


cdef inline int write_zeros(Writer* w, Py_ssize_t n) except -1:
    memset(_room(w, n), 0, n)
    return 0


cdef inline int write_raw(Writer* w, const void* data, Py_ssize_t n) except -1:
    memcpy(_room(w, n), data, n)
    return 0


# Back-patching: remember `w.size`, write a zero of the length's width, write the content, then patch. The content's
# length is what was written after the field. A patch returns False where the length does not fit its field.

cdef inline bint patch_u16be(Writer* w, Py_ssize_t at) noexcept nogil:
    cdef Py_ssize_t n = w.size - at - 2
    if n < 0 or n > 0xFFFF:
        return False
    _store_u16be(w.data + at, <uint16_t> n)
    return True


cdef inline bint patch_u32be(Writer* w, Py_ssize_t at) noexcept nogil:
    cdef Py_ssize_t n = w.size - at - 4
    if n < 0 or <size_t> n > <size_t> 0xFFFFFFFF:
        return False
    _store_u32be(w.data + at, <uint32_t> n)
    return True


cdef inline bint patch_u32le(Writer* w, Py_ssize_t at) noexcept nogil:
    cdef Py_ssize_t n = w.size - at - 4
    if n < 0 or <size_t> n > <size_t> 0xFFFFFFFF:
        return False
    _store_u32le(w.data + at, <uint32_t> n)
    return True
