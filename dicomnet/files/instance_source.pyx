# cython: auto_pickle=False
"""Where the bytes of a C-STORE come from: a file or memory, described first, then handed out in chunks.

A source knows its SOP class, SOP instance, transfer syntax and size before its first chunk, and has been looked over:
what was cut short, is no Part 10 file or does not say what it is, is an `InputFileError`, not an instance of which a
peer gets half. The bytes of a data set are never decoded, copied or changed. It is compiled because thousands of small
files are each looked over before the first is sent.
"""

cimport cython

import io
import os
import zlib

from dicomnet import uids
from dicomnet.files.part10 import FileMeta, Verdict, Walker, read_meta
from dicomnet.config import (
    DESCRIBE_BUFFER,
    INFLATE_LIMIT,
    INFLATE_STEP,
    LEAST_BUFFER,
    WALK_WINDOW,
    WALK_WINDOWS,
    Limits,
)
from dicomnet.errors import InputFileError, InputProblem, InvalidArgument

__all__ = ["BytesSource", "FileSource", "Source", "describe", "open_source"]

#: The data set as a whole is a deflated stream (PS3.5 Section A.5); so it is with the two JPIP syntaxes.
DEFLATED = frozenset(
    {
        uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        uids.JPIP_REFERENCED_DEFLATE,
        uids.JPIP_HTJ2K_REFERENCED_DEFLATE,
    }
)

_FILE_BUFFER = Limits().file_buffer
_MORE, _TRUNCATED, _STRANGE = Verdict.MORE, Verdict.TRUNCATED, Verdict.STRANGE
# O_NONBLOCK: to open a named pipe would wait for its writer; reading at an offset refuses it. Windows has O_BINARY.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_AGAIN = "Copy or export it again."


class Source:
    """What can be stored: any object with these methods and attributes.

    Attributes:
        name: its path, or what else tells people which one it is.
        sop_class_uid: what kind of object it is.
        sop_instance_uid: which one it is.
        transfer_syntax_uid: how its data set is encoded.
        size: all bytes of the data set as they go over the wire; even. -1 where that is not known before its end.
        over: of a source without a size: the piece that was given out last is the last one.
    """

    name = sop_class_uid = sop_instance_uid = transfer_syntax_uid = ""
    size = 0

    def chunks(self, unit):
        """The data set in pieces whose length is a multiple of `unit` but for the last.

        A piece is valid until the next one is asked for.

        Raises:
            InputFileError: the file cannot be read any more, or became shorter.
        """

    def close(self):
        """Let go of what it holds."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        self.close()


cdef class _Described:
    """What every source has."""

    cdef public object name
    cdef public object sop_class_uid
    cdef public object sop_instance_uid
    cdef public object transfer_syntax_uid
    cdef public long long size

    def close(self):
        """Let go of the file."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()

    def __repr__(self):
        return f"<{type(self).__name__} {self.name!r}: {uids.name_of(self.sop_class_uid)}, {self.size} bytes>"

    cdef object window_at(self, long long position):
        """Read some more of the file."""
        raise NotImplementedError

    cdef int examine(self, view, long long start, long long end, meta, bint force=False) except -1:
        """Look for a cut, and find out what this is.

        Args:
            view: the file, or its first bytes.
            start: where the data set begins.
            end: where the file ends.
            meta: its file meta information.
            force: take it even where it does not begin as its transfer syntax wants it.
        """
        cdef str syntax = meta.transfer_syntax_uid
        cdef long long size = end - start
        if size == 0:
            raise _truncated("it ends after its file meta information")
        if syntax in DEFLATED:
            walker = _inflated(view[start:], len(view) == end)
            size += size & 1        # PS3.5 Section A.5: padded with NUL to an even length
        else:
            walker = Walker(syntax, start, end)
            verdict = self.walk(walker, view)
            if verdict is _STRANGE and walker.position == start and not force:
                raise _flawed(
                    "misdeclared",
                    f"its data set is not in {uids.name_of(syntax)}, which its file meta information names",
                    InputProblem.NOT_PART10, "Export it again, or send it all the same by force (--force).",
                )
            if verdict is _TRUNCATED:
                raise _truncated(f"the element at byte {walker.position} goes on past the end of the file, {end}")
        self.transfer_syntax_uid = syntax
        # Where the two differ the data set is right: the file meta information is a copy that tools forget to change.
        self.sop_instance_uid = _first_uid(
            "SOP Instance UID (0008,0018)", walker.sop_instance_uid, meta.sop_instance_uid
        )
        self.sop_class_uid = _first_uid("SOP Class UID (0008,0016)", walker.sop_class_uid, meta.sop_class_uid)
        if size & 1:
            raise _flawed("odd", _odd(walker, size), InputProblem.TRUNCATED, _AGAIN)
        self.size = size
        return 0

    cdef object walk(self, walker, view):
        cdef object verdict = walker.walk(view, 0)
        cdef int windows = 0
        while verdict is _MORE and windows < WALK_WINDOWS:
            position = walker.position
            verdict = walker.walk(self.window_at(position), position)
            windows += 1
        return verdict


cdef object _inflated(data, bint is_whole):
    """Walk over the start of a deflated data set, and look for its end if `data` is all of it."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        piece = prefix = inflater.decompress(data, INFLATE_STEP)
        steps = INFLATE_LIMIT // INFLATE_STEP if is_whole else 0
        while steps and len(piece) == INFLATE_STEP and not inflater.eof:
            piece = inflater.decompress(inflater.unconsumed_tail, INFLATE_STEP)
            steps -= 1
    except zlib.error as error:
        raise InputFileError(
            f"its data set is not a deflated stream: {error}", problem=InputProblem.TRUNCATED, hint=_AGAIN
        ) from error
    if is_whole and len(piece) < INFLATE_STEP and not inflater.eof:
        raise _truncated("its deflated data set has no end")
    # The end is far past what is at hand: the walk is after the UIDs only.
    walker = Walker(uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, 0, 1 << 62)
    walker.walk(prefix, 0)
    return walker


def _odd(walker, size):
    if not walker.odd_length:
        return f"its data set has an odd number of bytes, {size} (PS3.5 Section 7.1.1)"
    tag = walker.odd_tag
    where = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
    return f"the value of {where} has an odd number of bytes, {walker.odd_length} (PS3.5 Section 7.1.1)"


def _flawed(flaw, what, problem, hint):
    error = InputFileError(what, problem=problem, hint=hint)
    error.flaw = flaw
    return error


cdef str _first_uid(str what, str first, str second):
    """The first that can be one."""
    if _is_usable(first):
        return first
    if _is_usable(second):
        return second
    given = first or second
    found = f": {given!r} is none (PS3.5 Section 9.1: digits and dots, 64 at most)" if given else ""
    raise InputFileError(f"it has no {what}{found}", problem=InputProblem.MISSING_UID)


cdef bint _is_usable(str uid):
    # Components with leading zeros are wrong, but stand in real files, and peers take them; what else is no UID at all.
    cdef Py_UCS4 character
    if uid is None or not 0 < len(uid) <= 64:
        return False
    for character in uid:
        if not (u"0" <= character <= u"9" or character == u"."):
            return False
    return True


def _truncated(what, path=None):
    return InputFileError(f"truncated: {what}", problem=InputProblem.TRUNCATED, path=path, hint=_AGAIN)


cdef class FileSource(_Described):
    """A Part 10 file. A small one is read at once, whole, and closed; a larger one is read as it goes out.

    Files are read, not mapped: one that is cut meanwhile must be an error, not a signal.

    Args:
        path: the file, or one that is open for reading in binary; of that the part from its position on counts, and
            it is left open where it is.
        buffer: what to read into, reused from file to file; it is this source's until that is closed.

    Raises:
        InputFileError: it cannot be read, is no Part 10 file, is truncated or has no UIDs.
    """

    cdef int _fd
    cdef bint _is_ours
    cdef bint _is_whole
    cdef long long _base
    cdef long long _end
    cdef long long _start
    cdef long long _in_buffer
    cdef object _view

    def __cinit__(self):
        self._fd = -1

    def __init__(self, path, buffer=None):
        try:
            self._open(path)
            self._load(buffer)
        except InputFileError as error:
            self.close()
            error.path = self.name
            raise
        except (OSError, ValueError) as error:      # ValueError: a NUL in the path, a file that was closed
            self.close()
            raise _unreadable(self.name, error) from error

    cdef int _open(self, path) except -1:
        self._is_ours = isinstance(path, str) or not hasattr(path, "fileno")
        if self._is_ours:
            self.name = path if isinstance(path, str) else os.fsdecode(path)
            self._base = 0
            self._fd = os.open(path, _FLAGS)
            self._end = os.lseek(self._fd, 0, os.SEEK_END)
        else:
            self.name = str(getattr(path, "name", path))
            self._base = path.tell()
            self._fd = path.fileno()
            self._end = max(os.fstat(self._fd).st_size - self._base, 0)
        return 0

    cdef int _load(self, buffer) except -1:
        """Read as much as fits, and look it over. Offsets count from `_base`."""
        cdef long long end = self._end
        cdef long long room
        # One byte more than the file has, for the padding of a deflated data set.
        if buffer is None or len(buffer) < LEAST_BUFFER:
            buffer = bytearray(min(end, _FILE_BUFFER - 1) + 1)
        view = self._view = memoryview(buffer)
        room = len(view)
        self._is_whole = end < room
        self._in_buffer = min(end, room)
        head = view[: self._in_buffer]
        self._fill(head, 0)
        try:
            meta, start = read_meta(head)
        except InputFileError as error:
            if error.problem is not InputProblem.TRUNCATED or self._is_whole:
                raise
            if room < _FILE_BUFFER:
                return self._load(None)
            raise InputFileError(
                f"its file meta information is longer than {room} bytes", problem=InputProblem.NOT_PART10
            ) from error
        self._start = start
        self.examine(head, start, end, meta)
        if self._is_whole:
            view[end] = 0
            self.close()
        return 0

    cdef object window_at(self, long long position):
        window = bytearray(min(WALK_WINDOW, self._end - position))
        self._fill(memoryview(window), position)
        return window

    cdef int _fill(self, view, long long position) except -1:
        """Read what `view` has room for; past the end of the file there is at most the one byte of padding."""
        cdef long long count
        if len(view) > self._end - position:
            view[len(view) - 1] = 0
            view = view[: len(view) - 1]
        try:
            while len(view) > 0:
                count = _read_at(self._fd, view, self._base + position)
                if count == len(view):
                    break
                if count == 0:
                    raise _truncated("it became shorter while it was read", self.name)
                view = view[count:]
                position += count
        except InputFileError:
            raise
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return 0

    def chunks(self, unit):
        """The data set in pieces whose length is a multiple of `unit` but for the last; see `Source.chunks`."""
        if self._is_whole:
            return iter((self._view[self._start : self._start + self.size],))
        return self._read_on(unit)

    @cython.cdivision(False)  # 0 for a unit is to raise, not to end the process
    def _read_on(self, long long unit):
        cdef long long step, ready
        cdef long long position = self._start
        cdef long long end = self._start + self.size
        view = self._view if len(self._view) >= unit else memoryview(bytearray(unit))
        step = len(view) // unit * unit
        ready = max(self._in_buffer - position, 0) // unit * unit
        self._in_buffer = 0     # a second round has to read it again
        if ready > 0:
            yield self._view[position : position + ready]
            position += ready
        while position < end:
            piece = view[: min(step, end - position)]
            self._fill(piece, position)
            yield piece
            position += len(piece)

    def close(self):
        """Close the file, if it was opened here."""
        fd, self._fd = self._fd, -1
        if fd >= 0 and self._is_ours:
            os.close(fd)

    def __del__(self):
        if self._fd >= 0:
            self.close()


def _read_positioned(fd, view, position):
    return os.preadv(fd, (view,), position)


def _seek_and_read(fd, view, position):
    with io.FileIO(fd, closefd=False) as file:
        file.seek(position)
        return file.readinto(view)


# Windows has no preadv.
_read_at = _read_positioned if hasattr(os, "preadv") else _seek_and_read


def _unreadable(path, error):
    return InputFileError(
        f"cannot be read: {getattr(error, 'strerror', None) or error}",
        problem=InputProblem.CANNOT_READ,
        path=path,
        errno=getattr(error, "errno", None),
    )


cdef class BytesSource(_Described):
    """A data set in memory, sent from where it is.

    Args:
        data: the encoded data set, or a whole Part 10 file if there is no transfer syntax. It must not change until
            this source is closed.
        transfer_syntax_uid: how the data set is encoded.
        sop_class_uid, sop_instance_uid: what it is; by default as the data set says.
        name: what to call it in an error.
        force: take what does not begin as its transfer syntax wants it.

    Raises:
        InputFileError: as of `FileSource`.
    """

    cdef object _data

    def __init__(
        self, data, transfer_syntax_uid=None, sop_class_uid=None, sop_instance_uid=None, *, name="data set in memory",
        force=False,
    ):
        self.name = name
        view = memoryview(data).cast("B")
        start = 0
        try:
            if transfer_syntax_uid is None:
                meta, start = read_meta(view)
            else:
                meta = FileMeta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
            self._data = view
            self.examine(view, start, len(view), meta, force)
        except InputFileError as error:
            error.path = name
            raise
        self.sop_class_uid = sop_class_uid or self.sop_class_uid
        self.sop_instance_uid = sop_instance_uid or self.sop_instance_uid
        self._data = view[start:]

    cdef object window_at(self, long long position):
        return self._data[position:]

    def chunks(self, unit):
        """The data set in pieces whose length is a multiple of `unit` but for the last: slices of the caller's data."""
        if self.size <= _FILE_BUFFER and self.size == len(self._data):
            return iter((self._data,))
        return self._slices(max(_FILE_BUFFER // unit, 1) * unit)

    def _slices(self, step):
        for start in range(0, len(self._data), step):
            piece = self._data[start : start + step]
            if len(self._data) < start + step and self.size > len(self._data):
                piece = memoryview(bytes(piece) + b"\0")
            yield piece


def open_source(item, transfer_syntax=None, *, buffer=None):
    """Open what can be stored: a path, an open binary file, Part 10 bytes, a data set's bytes, or a `Source`.

    Args:
        item: what to store.
        transfer_syntax: of bytes that are a data set without file meta information; others know theirs.
        buffer: what to read files into; see `FileSource`.

    Raises:
        InputFileError: it cannot be sent.
        InvalidArgument: it is nothing of the kind.
    """
    if isinstance(item, _Described):
        return item
    if isinstance(item, (str, os.PathLike)):
        return FileSource(item, buffer)
    if isinstance(item, (bytes, bytearray, memoryview)):
        is_part10 = bytes(memoryview(item).cast("B")[128:132]) == b"DICM"
        return BytesSource(item, None if is_part10 else transfer_syntax)
    if isinstance(item, io.FileIO) or (
        isinstance(item, (io.BufferedReader, io.BufferedRandom)) and isinstance(item.raw, io.FileIO)
    ):
        return FileSource(item, buffer)
    if hasattr(item, "chunks"):
        return item
    if hasattr(item, "read") and not isinstance(item, io.TextIOBase):
        return BytesSource(_content(item), transfer_syntax, name=str(getattr(item, "name", item)))
    raise InvalidArgument(
        f"nothing to store: {type(item).__name__}",
        hint="It wants a path, bytes, an open binary file, a pydicom Dataset or a Source.",
    )


def _content(file):
    """The rest of a file without a descriptor, such as BytesIO; its position stays, so that it can be sent again."""
    try:
        position = file.tell() if file.seekable() else None
        content = file.read()
        if position is not None:
            file.seek(position)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(str(getattr(file, "name", file)), error) from error
    return content


def describe(item):
    """SOP class and transfer syntax of what `open_source` takes, or of a pydicom Dataset; None: it cannot be sent."""
    meta = getattr(item, "file_meta", None)
    if meta is not None:
        pair = getattr(item, "SOPClassUID", None), getattr(meta, "TransferSyntaxUID", None)
        return (str(pair[0]), str(pair[1])) if all(pair) else None
    try:
        source = open_source(item, buffer=bytearray(DESCRIBE_BUFFER))
    except (InputFileError, InvalidArgument):
        return None
    if source is not item:
        source.close()
    return source.sop_class_uid, source.transfer_syntax_uid
