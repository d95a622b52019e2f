# cython: auto_pickle=False
"""`FileSink`: a received data set goes to a file that appears whole or not at all.

What arrives into memory of a `ReceiveBuffer` may be written in the background: see `receive_buffer`.
"""

cimport cython
from cpython.exc cimport PyErr_SetFromErrno
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from .dataset_sink cimport total_of
from .receive_buffer cimport ReceiveBuffer, Write, lendable

import errno
import os
from itertools import count

from .. import uids
from ..errors import InvalidArgument, LocalProtocolError, OutputFileError, OutputProblem, escaped
from .placing import open_below

__all__ = ["FileSink", "own_path", "uid_path"]

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


cdef enum:
    LARGE = 1 << 16      # bytes that are worth to be written in another thread


@cython.final
cdef class Part(Write):
    """A part of a file that is written in the background; the last one closes the file, or deletes it."""

    cdef FileSink _sink
    cdef ReceiveBuffer _buffer
    cdef list _views
    cdef long long _total

    cdef int run(self) except -1:
        cdef FileSink sink = self._sink
        try:
            if sink.failure is None and sink._stage != GONE:  # else a part is missing already, or none is wanted
                _write_all(sink._fd, self._views, self._total)
                if sink.pending == 1 and sink._stage == CLOSED:
                    sink._close_file()
        except Exception as error:
            sink.failure = error
        if sink.pending == 1 and sink._stage == GONE:
            sink._delete()
        # The interpreter's lock is held from here on: who finds a part pending can still leave the rest to this one.
        self._views = None
        self._buffer.lent -= 1
        sink.pending -= 1
        if not sink.pending and sink.settled is not None:
            settled, sink.settled = sink.settled, None
            settled()
        return 0


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
        awaited: whether parts of it may be written in the background, for who receives it looks at the file only when
            none is pending any more. A provider does so with what ``on_store`` has from a spool or a sink; not with one
            that a sink of its user's own writes to: that is whole after `close`.
        pending: how many parts of it are still to be written in the background. `commit` waits for them; after
            `discard` the last of them deletes the file.
        failure: what went wrong with such a part; the next call raises it.
        settled: called, in another thread, when none is pending any more.
    """

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
        cdef long long size = total_of(views), total = size
        if self._stage != OPEN:
            raise LocalProtocolError("a write to a file sink that is closed")
        if self._header is not None:
            views, total = [self._header, *views], size + len(self._header)
            self._header = None
        try:
            if self.failure is not None or not self._leave(views, total):
                self._settle()
                _write_all(self._fd, views, total)
        except OSError as error:
            raise self._failed(error) from error
        self.size += size

    cdef bint _leave(self, list views, long long total) except -1:
        """Leave these views to be written in the background, where they may be and it is worth while."""
        cdef ReceiveBuffer buffer
        if not self.awaited or not views or (total < LARGE and not self.pending):
            return False
        buffer = lendable(views[len(views) - 1])
        if buffer is None:
            return False
        if not (buffer.lent or buffer.writer.has_room() if self.pending else buffer.writer.takes()):
            return False
        cdef Part part = Part.__new__(Part)
        part._sink, part._buffer, part._views, part._total = self, buffer, views, total
        self._writer = buffer.writer
        self.pending += 1
        buffer.lent += 1
        self._writer.submit(part)
        return True

    cdef int _settle(self) except -1:
        """Wait until nothing is pending; raise what went wrong with it, as soon as something has."""
        if self.pending and self.failure is None:
            self._writer.wait()
        if self.failure is not None:
            raise self.failure
        return 0

    cdef int _finish(self) except -1:
        """Have all of it written, and the file closed."""
        try:
            self._settle()
            if self._fd >= 0:
                self._close_file()
        except OSError as error:
            raise self._failed(error) from error
        return 0

    cdef object background_failure(self):
        """None, or why a part could not be written, as an OutputFileError; the file is gone then."""
        return None if self.failure is None else self._failed(self.failure)

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
            OutputFileError: the system could not keep what it had taken; the file is gone then. Where parts are pending
                it is `commit` that raises this.
        """
        if self._stage != OPEN:
            return
        if self._header is not None:
            self.write([])
        self._stage = CLOSED
        try:
            if not self.pending:  # else the last part does it, or `commit`
                self._close_file()
        except OSError as error:
            raise self._failed(error) from error

    cdef int _close_file(self) except -1:
        fd, self._fd = self._fd, -1
        try:
            if self._durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        return 0

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
        self._finish()
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
        if not self.pending:  # else the last part deletes it
            self._delete()

    cdef int _delete(self) except -1:
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
        return 0

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
