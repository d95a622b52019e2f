# cython: auto_pickle=False
"""Where a received data set goes: to a file that appears whole or not at all, into memory, or nowhere.

A sink is written to as fragments arrive, closed when the last one has, and discarded when it is not wanted any more; a
file that was committed by then stays. What goes wrong is raised from `write` or `close` as an OSError, and the sink
leaves nothing behind. It is compiled because each small instance makes a sink of its own.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

import errno
import os
from itertools import count

from .. import uids
from ..errors import InvalidArgument, LocalProtocolError, OutputFileError, OutputProblem, escaped
from .placing import open_below

__all__ = [
    "CollectingSink",
    "DiscardSink",
    "FileSink",
    "MemoryBudget",
    "MemorySink",
    "Sink",
    "own_path",
    "uid_path",
]

# How many buffers one writev takes: at least 16 by POSIX, 1024 on the systems that we know.
_IOV_MAX = max(os.sysconf("SC_IOV_MAX"), 16) if hasattr(os, "sysconf") else 1024
# O_EXCL also refuses a symbolic link; O_NOFOLLOW says it twice. Python itself adds O_CLOEXEC.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

cdef extern from "Python.h":
    int PyUnicode_FSConverter(object path, PyObject **made) except 0

cdef extern from *:
    """
    #include <errno.h>
    #if defined(__linux__)
    #include <fcntl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #endif
    #if defined(SYS_renameat2)
    static int dicomnet_rename_to_free(const char *path, int directory, const char *target) {
        return (int)syscall(SYS_renameat2, AT_FDCWD, path, directory < 0 ? AT_FDCWD : directory, target, 1);
    }
    #else
    static int dicomnet_rename_to_free(const char *path, int directory, const char *target) {
        (void)path, (void)directory, (void)target;
        errno = ENOSYS;
        return -1;
    }
    #endif
    """
    int rename_to_free "dicomnet_rename_to_free"(const char *path, int directory, const char *target) nogil


class Sink:
    """What takes the bytes of a data set: any object with these methods, and a ``size``, its bytes so far."""

    size = 0

    def write(self, views):
        """Take the next bytes, a list of memoryviews that die with the call.

        Raises:
            OSError: they cannot be kept. The rest of the data set is not written then.
        """

    def close(self):
        """The data set is whole: there are no more writes."""

    def discard(self):
        """It is not wanted any more; the last call, whatever happened before."""


@cython.final
cdef class DiscardSink:
    """Counts the bytes and drops them."""

    cdef readonly long long size

    def write(self, list views not None):
        """Count."""
        self.size += total_of(views)

    def close(self):
        """Nothing is left to do."""

    def discard(self):
        """Nothing was kept."""


@cython.final
cdef class MemoryBudget:
    """What all sinks in memory that share it may hold together.

    Args:
        limit: bytes; None for any number.

    Attributes:
        held: bytes that they hold now.
    """

    cdef object _limit
    cdef readonly long long held

    def __init__(self, limit=None):
        self._limit = limit

    cdef bint take(self, long long size) except -1:
        """Whether there are so many bytes left; then they are taken."""
        if self._limit is not None and self.held + size > <long long> self._limit:
            return False
        self.held += size
        return True


@cython.final
cdef class MemorySink:
    """Holds the data set in memory, up to a limit.

    Args:
        limit: the most bytes that are taken; None takes them all.
        budget: what it shares with other sinks.
    """

    cdef bytearray _data
    cdef object _limit
    cdef MemoryBudget _budget
    cdef long long _held               # of the budget

    def __init__(self, limit=None, MemoryBudget budget=None):
        self._data = bytearray()
        self._limit = limit
        self._budget = budget

    @property
    def size(self):
        """Bytes so far."""
        return len(self._data)

    def write(self, list views not None):
        """Keep a copy."""
        cdef long long total = total_of(views)
        if self._limit is not None and len(self._data) + total > self._limit:
            raise OutputFileError(f"the data set is longer than the limit of {self._limit} bytes", errno=errno.EFBIG)
        if self._budget is not None and not self._budget.take(total):
            raise OutputFileError("no memory is left of what all associations may hold together", errno=errno.ENOMEM)
        self._held += total
        for view in views:
            self._data += view

    def getvalue(self):
        """The data set, copied."""
        return bytes(self._data)

    def getbuffer(self):
        """The data set, where it is."""
        return memoryview(self._data)

    def close(self):
        """Nothing is left to do."""

    def discard(self):
        """Let go of the memory."""
        self._give_back()
        self._data = bytearray()

    cdef int _give_back(self) except -1:
        if self._budget is not None:
            self._budget.held -= self._held
        self._held = 0
        return 0

    def __del__(self):
        self._give_back()


@cython.final
cdef class CollectingSink:
    """A sink with a collector beside it, which sees what is written and keeps the header of it.

    Attributes:
        inner: the sink.
        collector: see `element_walk.HeaderCollector`.
    """

    cdef readonly object inner, collector

    def __init__(self, inner, collector):
        self.inner = inner
        self.collector = collector

    @property
    def size(self):
        """Bytes so far."""
        return self.inner.size

    def write(self, list views not None):
        """Hand them on, then let the collector see them."""
        self.inner.write(views)
        self.collector.write(views)

    def close(self):
        """The data set is whole."""
        self.inner.close()
        self.collector.close()

    def discard(self):
        """It is not wanted any more."""
        self.inner.discard()


cdef long long total_of(list views) except -1:
    cdef long long total = 0
    for view in views:
        total += len(view)
    return total


class _Names:
    """Random names for files: no two of this process are equal, and other processes draw others."""

    def __init__(self):
        self.redraw()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.redraw)

    def redraw(self):
        self._prefix = os.urandom(8).hex()
        self._count = count(1).__next__

    def __call__(self):
        return f"{self._prefix}-{self._count():x}"


_next_name = _Names()


cdef enum Stage:
    OPEN
    CLOSED     # all of it is in the file, which still has its own hidden name
    COMMITTED
    GONE


@cython.final
cdef class FileSink:
    """A file in the making, hidden under a name of ours until `commit` gives it the one it is to have.

    It is created at once, while the data set is still on its way: the sender waits for the response, not for that.
    What is not committed is deleted: by `discard`, by an error, or when this object dies.

    Args:
        directory: where it is written; it has to be on the file system where the file is to stay.
        header: what stands before the data set, written together with its first bytes.
        durable: have the disk confirm the file, and its name, before `close` and `commit` return: a loss of power takes
            nothing then that was committed. Each file waits for the disk twice.

    Raises:
        OutputFileError: it cannot be created.

    Attributes:
        path: where the file is now, if anywhere.
        size: bytes of the data set so far, without the header.
    """

    cdef Stage _stage
    cdef bint _durable
    cdef int _fd
    cdef object _directory, _header
    cdef readonly object path
    cdef readonly long long size

    def __cinit__(self):
        self._stage, self._fd = GONE, -1

    def __init__(self, directory, header=b"", *, bint durable=False):
        self._durable = durable
        self._directory = os.fspath(directory) or os.curdir
        self._header = header
        try:
            self._create()
        except OSError as error:
            raise self._failed(error) from error

    def write(self, list views not None):
        """Append to the file.

        Raises:
            OutputFileError: an OSError with an errno, such as ENOSPC; the file is gone then.
        """
        cdef long long total = total_of(views)
        if self._stage != OPEN:
            raise LocalProtocolError("a write to a file sink that is closed")
        try:
            if self._header is None:
                _write_all(self._fd, views, total)
            else:
                _write_all(self._fd, [self._header, *views], total + len(self._header))
                self._header = None
        except OSError as error:
            raise self._failed(error) from error
        self.size += total

    cdef int _create(self) except -1:
        while self._fd < 0:
            path = f"{self._directory}/.{_next_name()}.part"
            try:
                self._fd = os.open(path, _FLAGS, 0o666)
            except FileExistsError:
                _next_name.redraw()
        self.path = path
        self._stage = OPEN
        return 0

    cpdef object close(self):
        """The data set is whole. The file waits for `commit`.

        Raises:
            OutputFileError: the system could not keep what it had taken; the file is gone then.
        """
        if self._stage != OPEN:
            return
        if self._header is not None:
            self.write([])
        fd, self._fd = self._fd, -1
        self._stage = CLOSED
        try:
            try:
                if self._durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed(error) from error

    def commit(self, path, *, root=None, bint replace=True):
        """Give the file its name, at once and whole; what is called so already is replaced, a symbolic link too.

        Args:
            path: the name; in a directory that exists, on the same file system.
            root: a directory that the name cannot leave: ``path`` is below it, what directories it needs are made, and
                no symbolic link among them is followed. For names of which any part comes from a peer.
            replace: False: what is there already stays, and this fails with EEXIST.

        Returns:
            Where the file is now: `path`, below `root` if there is one.

        Raises:
            OutputFileError: it cannot have this name. It may be committed under another one. A durable one may have the
                name, but not for sure.
            InvalidArgument: the name leaves the root, or climbs out of a directory that it entered, which no good name
                does.
            LocalProtocolError: it was discarded, or committed before.
        """
        target = os.fspath(path)
        if root is None and ".." in target and _climbs(target):
            raise InvalidArgument(
                f'"{escaped(target)}": a way out of a directory within a file name',
                hint="Use commit(name, root=...) for names that come from a peer.",
            )
        self.close()
        if self._stage != CLOSED or self.path is None:
            raise LocalProtocolError("a commit of a file sink that was discarded or committed")
        if root is None:
            self._place(target, target, None, replace)
        else:
            target = self._place_below(target, os.fspath(root), replace)
        self._stage = COMMITTED
        if self._durable:
            _sync_directory(target)
        return target

    def _place_below(self, name, root, replace):
        if is_plain(name) and root and not root.endswith("/"):  # no directory on the way could be a link
            target = f"{root}/{name}"
            self._place(target, target, None, replace)
            return target
        target = os.path.join(root, name)
        try:
            directory, last = open_below(root, name, durable=self._durable)
        except OSError as error:
            raise _cannot_write(target, error) from error
        try:
            self._place(target, last, directory, replace)
        finally:
            if directory is not None:
                os.close(directory)
        return target

    def _place(self, target, name, directory, replace):
        """Rename the file to a name, relative to the descriptor of a directory if there is one."""
        try:
            if replace:
                os.replace(self.path, name, dst_dir_fd=directory)
            else:
                _rename_to_free(self.path, name, directory)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise _cannot_write(target, error) from error
        self.path = target

    cpdef object discard(self):
        """Delete the file, unless it was committed. It may be called at any time, and more than once."""
        if self._stage == COMMITTED:
            return
        self._stage = GONE
        fd, self._fd = self._fd, -1
        path, self.path = self.path, None
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:
                pass
        if path is not None:
            try:
                os.unlink(path)
            except OSError:
                pass

    def __del__(self):
        if self._stage == OPEN or self._stage == CLOSED:
            self.discard()

    cdef object _failed(self, error):
        failure = _cannot_write(self.path or self._directory, error)
        self.discard()  # what is half there must not take the room that is missing
        return failure


cdef bint is_plain(str name) except -1:
    """Whether a name is that of a file in the root itself, and no other: most are. Windows has drives besides."""
    return os.name == "posix" and "/" not in name and "\0" not in name and name not in ("", ".", "..")


def _sync_directory(path):
    """Have the disk confirm the name of a file, which its directory holds. Windows has no way to ask for that."""
    if os.name == "nt":
        return
    try:
        fd = os.open(os.path.dirname(path) or os.curdir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path, error):
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    return OutputFileError(
        f"cannot be written: {getattr(error, 'strerror', None) or error}",
        problem=OutputProblem.NO_DIRECTORY if code in (errno.ENOENT, errno.ENOTDIR) else OutputProblem.CANNOT_WRITE,
        path=path,
        errno=code,
        hint=_HINTS.get(code or 0),
    )


_HINTS = {
    errno.ENOENT: "Does its directory exist?",
    errno.EXDEV: "Let the spool be on the file system where files are to stay.",
}


def _climbs(path):
    """Whether ".." follows upon a name."""
    cdef bint entered = False
    for component in path.replace(os.altsep or os.sep, os.sep).split(os.sep):
        if entered and component == os.pardir:
            return True
        entered = entered or component not in ("", os.curdir, os.pardir)
    return False


def _rename_to_free(path, target, directory):
    try:
        _rename_exclusively(path, target, directory)
    except OSError as error:
        if error.errno not in _NO_EXCLUSION:
            raise
        _link_to_free(path, target, directory)


cdef bytes system_path(path):
    """A path as the system has it; a NUL in it is a ValueError."""
    cdef PyObject *made = NULL
    PyUnicode_FSConverter(path, &made)
    cdef bytes encoded = <bytes>made
    Py_DECREF(encoded)  # `made` is a reference of its own
    return encoded


def _rename_exclusively(path, target, directory):
    """Rename by one call, which fails where the name is taken: Linux has it, and most of its file systems."""
    cdef bytes source = system_path(path), name = system_path(target)
    cdef const char *here = source
    cdef const char *there = name
    cdef int fd = -1 if directory is None else directory, failed
    with nogil:
        failed = rename_to_free(here, fd, there)
    if failed:
        PyErr_SetFromErrno(OSError)


def _link_to_free(path, target, directory):
    try:
        os.link(path, target, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without hard links: take the name first, then replace what took it.
        os.close(os.open(target, _FLAGS, 0o666, dir_fd=directory))
        os.replace(path, target, dst_dir_fd=directory)
    else:
        os.unlink(path)


_NO_EXCLUSION = {errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


cdef int _write_all(int fd, list buffers, long long total) except -1:
    cdef long long written
    while True:
        written = _write(fd, buffers if len(buffers) <= <Py_ssize_t>_IOV_MAX else buffers[:_IOV_MAX])
        if written >= total:
            return 0
        total -= written
        buffers = _rest(buffers, written)


def _rest(buffers, written):
    """What is left after a write that took less than all; a full disk shows by the next write."""
    first = 0
    while written >= len(buffers[first]):
        written -= len(buffers[first])
        first += 1
    return [memoryview(buffers[first])[written:], *buffers[first + 1 :]]


def _write_first(fd, buffers, /):
    return os.write(fd, next(filter(len, buffers), b""))


# Windows has no writev.
_write = getattr(os, "writev", _write_first)


def uid_path(directory, uid):
    """Where an instance is kept: "DIRECTORY/UID.dcm".

    Raises:
        InvalidArgument: `uid` is none (PS3.5 Section 9.1), and whatever else a peer sends is never part of a path.
    """
    if not uids.is_valid(uid):
        raise InvalidArgument(f'"{escaped(uid)}" is not a UID, hence no file name')
    return f"{os.fspath(directory)}/{uid}.dcm"


def own_path(directory):
    """Where an instance is kept whose UID is none: a name of ours that nothing else has."""
    return f"{os.fspath(directory)}/instance-{_next_name()}.dcm"
