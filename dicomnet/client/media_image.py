"""ISO 9660 images of media, level 1 with Joliet beside it for names of other files (PS3.12 Annexes F and J)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ..errors import InvalidArgument

try:
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException
except ImportError:
    pycdlib = None  # type: ignore[assignment]
    PyCdlibException = OSError  # type: ignore[assignment,misc]

__all__ = ["is_image", "unpack_image", "write_image"]

_DESCRIPTOR, _MAGIC = 32768, b"CD001"
#: Names that ISO 9660 level 1 has, as File IDs are (PS3.10 Section 8.2).
_LEVEL_1 = re.compile(r"[A-Z0-9_]{1,8}").fullmatch
_JOLIET = 64  # characters of a name


def _library() -> None:
    if pycdlib is None:
        raise InvalidArgument("ISO images need pycdlib", hint="pip install 'dicomnet[media]'")


def is_image(path: Path) -> bool:
    """Whether a file is an ISO 9660 image."""
    with path.open("rb") as file:
        file.seek(_DESCRIPTOR + 1)
        return file.read(len(_MAGIC)) == _MAGIC


def write_image(folder: Path, target: Path, label: str) -> None:
    """An image of a folder.

    Raises:
        InvalidArgument: pycdlib is not installed; or a name beside the file-set is longer than images can have.
    """
    _library()
    image = pycdlib.PyCdlib()
    image.new(interchange_level=1, joliet=3, vol_ident=label[:16])
    for path in sorted(folder.rglob("*")):
        inside = PurePosixPath("/", path.relative_to(folder).as_posix())
        if len(path.name) > _JOLIET:
            raise InvalidArgument(f'"{path.name}" is too long a name for an ISO image')
        plain = all(_LEVEL_1(part) for part in inside.parts[1:])
        if path.is_dir():
            image.add_directory(str(inside) if plain else None, joliet_path=str(inside))
        else:
            image.add_file(str(path), f"{inside}.;1" if plain else None, joliet_path=str(inside))
    image.write(str(target))
    image.close()


def unpack_image(path: Path, folder: Path) -> None:
    """All files of an image, by their Joliet names where it has such, else by those of ISO 9660 without versions.

    Raises:
        InvalidArgument: pycdlib is not installed.
        OSError: it is no image that can be read, or has a name that leads out of the folder.
    """
    _library()
    image = pycdlib.PyCdlib()
    try:
        image.open(str(path))
    except PyCdlibException as error:
        raise OSError(f"no ISO image that can be read: {error}") from error
    try:
        kind = "joliet_path" if image.has_joliet() else "iso_path"
        for where, _, names in image.walk(**{kind: "/"}):
            inside = folder.joinpath(*PurePosixPath(where).parts[1:])
            inside.mkdir(parents=True, exist_ok=True)
            for name in names:
                plain = name.partition(";")[0].rstrip(".")
                if plain in ("", "..") or set(plain) & {"/", "\\", "\0"}:
                    raise OSError(f"a file is called {name!r}")
                image.get_file_from_iso(str(inside / plain), **{kind: f"{where.rstrip('/')}/{name}"})
    except PyCdlibException as error:
        raise OSError(f"no ISO image that can be read: {error}") from error
    finally:
        image.close()
