"""Finds add-ins by name: shipped ones, installed ones (entry points), the server's own folder, or "module:object"."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InvalidArgument, escaped
from ..version import __version__
from .hookspecs import HOOKS, PROJECT
from .settings import Table

__all__ = ["ENTRY_POINTS", "AddInError", "Finder", "Found", "resolved"]

ENTRY_POINTS = "dicomnet.addins"
FOLDER = "addins"
#: The add-ins that ship with the server.
SHIPPED = {
    "verification": "dicomnet.server.shipped.verification:Verification",
    "storage-folder": "dicomnet.server.shipped.storage_folder:StorageFolder",
    "dicom-log": "dicomnet.server.shipped.dicom_log:DicomLog",
    "webhook": "dicomnet.server.shipped.webhook:Webhook",
    "exec": "dicomnet.server.shipped.exec:Exec",
    "printer": "dicomnet.server.shipped.printer:Printer",
    "availability": "dicomnet.server.shipped.availability:Availability",
    "media": "dicomnet.server.shipped.media:Media",
}


class AddInError(InvalidArgument):
    """An add-in that cannot be used: which, where it is, and why."""


@dataclass(frozen=True, slots=True)
class Found:
    """An add-in that was loaded.

    Attributes:
        name: as it is enabled.
        plugin: the object with its hooks.
        place: where it is from: a file, or a distribution and its version.
    """

    name: str
    plugin: object
    place: str

    @property
    def settings_model(self) -> type[Table]:
        """The model of its table of settings."""
        model = getattr(self.plugin, "Settings", Table)
        if not (isinstance(model, type) and issubclass(model, Table)):
            raise AddInError(f"add-in {self.name} ({self.place}): Settings is no model derived from settings.Table")
        return model

    @property
    def description(self) -> str:
        """What it says of itself, in one line."""
        text = getattr(self.plugin, "description", "") or inspect.getdoc(self.plugin) or ""
        return str(text).strip().split("\n")[0]

    def hooks(self) -> dict[str, Callable[..., Any]]:
        """Its functions that are marked as hooks."""
        found = {}
        for name in dir(self.plugin):
            function = inspect.getattr_static(self.plugin, name, None)
            function = getattr(function, "__func__", function)
            if hasattr(function, f"{PROJECT}_impl"):
                found[name] = getattr(self.plugin, name)
        return found


class Finder:
    """Finds add-ins for one server.

    Args:
        directory: the server's, whose `addins/` is looked at; None has no folder.
        given: add-ins that the embedding program brought along, by name.
    """

    def __init__(self, directory: Path | None = None, given: dict[str, object] | None = None) -> None:
        self._folder = None if directory is None else directory / FOLDER
        self._given = dict(given or {})

    def names(self) -> Iterator[tuple[str, str]]:
        """What could be enabled: names, and where each is from."""
        yield from ((name, "given by the program") for name in self._given)
        yield from ((name, str(path)) for name, path in self._in_folder().items())
        yield from ((name, "dicomnet") for name in SHIPPED)
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            yield point.name, _distribution(point)

    def find(self, name: str) -> Found:
        """Load an add-in and check what it is.

        Raises:
            AddInError: there is none of this name, or it is broken.
        """
        plugin, place = self._load(name)
        if inspect.isclass(plugin):
            plugin = _called(plugin, name, place)
        found = Found(name, plugin, place)
        _check_hooks(found)
        _check_version(found)
        _ = found.settings_model
        return found

    def _load(self, name: str) -> tuple[object, str]:
        if name in self._given:
            return self._given[name], "given by the program"
        path = self._in_folder().get(name)
        if path is not None:
            return _addin_of(_module_from(path, name), name, str(path)), str(path)
        if ":" in name:
            return resolved(name, name, name), name
        if name in SHIPPED:
            return resolved(SHIPPED[name], name, "dicomnet"), "dicomnet"
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
            place = _distribution(point)
            return resolved(point.value, name, place), place
        known = [one for one, _ in self.names()]
        near = get_close_matches(name, known, n=1)
        where = f" or {self._folder}" if self._folder is not None else ""
        hint = f"Is it {near[0]}?" if near else f"There are {', '.join(known)}."
        raise AddInError(f'there is no add-in "{escaped(name)}" among what is installed{where}', hint=hint)

    def _in_folder(self) -> dict[str, Path]:
        """Modules and packages of the server's own folder."""
        if self._folder is None or not self._folder.is_dir():
            return {}
        found = {}
        for path in sorted(self._folder.iterdir()):
            if path.suffix == ".py" and path.stem.isidentifier():
                found[path.stem] = path
            elif (path / "__init__.py").is_file():
                found[path.name] = path / "__init__.py"
        return found


def _distribution(point: importlib.metadata.EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _failed(name: str, place: str, error: Exception) -> AddInError:
    at = ""
    trace = error.__traceback__
    while trace is not None:
        at = f" at {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return AddInError(f"add-in {name} ({place}) cannot be loaded: {type(error).__name__}: {error}{at}")


def _called(kind: Callable[[], object], name: str, place: str) -> object:
    try:
        return kind()
    except Exception as error:
        raise _failed(name, place, error) from error


def resolved(reference: str, name: str, place: str) -> object:
    """What stands at ``module:attribute``.

    Raises:
        AddInError: it cannot be loaded; with ``name`` and ``place``, for people.
    """
    module_name, _, attribute = reference.partition(":")
    try:
        here: Any = importlib.import_module(module_name)
        for part in filter(None, attribute.split(".")):
            here = getattr(here, part)
    except Exception as error:
        raise _failed(name, place, error) from error
    return here


def _module_from(path: Path, name: str) -> ModuleType:
    """Load a file of the folder; anew each time, so that a reload sees what was changed."""
    full = f"dicomnet_server_addins.{name}"
    sys.modules.pop(full, None)
    locations = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(full, path, submodule_search_locations=locations)
    assert spec is not None, "the path of a Python file"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(full, None)
        raise _failed(name, str(path), error) from error
    return module


def _addin_of(module: ModuleType, name: str, place: str) -> object:
    """The add-in in a module of the folder: its one class with hooks, or the module itself."""
    classes = [
        one
        for one in vars(module).values()
        if inspect.isclass(one) and one.__module__ == module.__name__ and _has_hooks(one)
    ]
    if len(classes) > 1:
        raise AddInError(f"add-in {name} ({place}): {', '.join(one.__name__ for one in classes)} all have hooks")
    if classes:
        return classes[0]
    if not _has_hooks(module):
        raise AddInError(f"add-in {name} ({place}) has no hooks", hint="Mark its functions with @hookimpl.")
    return module


def _has_hooks(thing: object) -> bool:
    return any(hasattr(value, f"{PROJECT}_impl") for value in vars(thing).values())


def _check_hooks(found: Found) -> None:
    hooks = found.hooks()
    if not hooks:
        raise AddInError(f"add-in {found.name} ({found.place}) has no hooks", hint="Mark its functions with @hookimpl.")
    for name, function in hooks.items():
        _check_hook(found, name, function)


def _check_hook(found: Found, name: str, function: Callable[..., Any]) -> None:
    code = getattr(function, "__code__", None)
    at = f", {code.co_filename} line {code.co_firstlineno}" if code is not None else ""
    where = f"add-in {found.name} ({found.place}{at})"
    if name not in HOOKS:
        near = get_close_matches(name, HOOKS, n=1)
        hint = f"Is it {near[0]}?" if near else f"There are {', '.join(HOOKS)}."
        raise AddInError(f"{where}: there is no hook {name}", hint=hint)
    for parameter in inspect.signature(function).parameters:
        if parameter not in HOOKS[name]:
            near = get_close_matches(parameter, HOOKS[name], n=1)
            hint = f"Is it {near[0]}?" if near else f"It may take {', '.join(HOOKS[name])}."
            raise AddInError(f"{where}: the hook {name} has no argument {parameter}", hint=hint)


def _check_version(found: Found) -> None:
    wanted = str(getattr(found.plugin, "requires", "0"))
    running = __version__
    if _numbers(running) < _numbers(wanted):
        raise AddInError(
            f"add-in {found.name} ({found.place}) needs dicomnet {wanted}, and this is {running}",
            hint="pip install --upgrade dicomnet",
        )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
