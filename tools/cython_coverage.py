"""Cython's coverage plugin, for a package whose inline functions live in a .pxd that no extension is named after."""

from __future__ import annotations

import os
from typing import Any

from Cython.Coverage import CythonModuleReporter, Plugin


class WithDeclarations(Plugin):
    """As Cython's, but a .pxd is looked for in every C file, and has the lines that any of them compiled."""

    def file_reporter(self, filename: str) -> Any:
        if not filename.endswith(".pxd"):
            return super().file_reporter(filename)
        folder = os.path.dirname(filename)
        c_file, relative = "", filename
        code: dict[int, str] = {}
        for c_file in sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".c")):
            self._read_source_lines(c_file, filename)
            for found, lines in self._parsed_c_files[c_file].items():
                if filename.endswith(f"{os.sep}{os.path.normpath(found)}"):
                    relative = found
                    code |= lines
            self._c_files_map.pop(filename, None)
        excluded: set[int] | frozenset[int] = self._excluded_lines_map.get(relative, frozenset())
        return CythonModuleReporter(c_file, filename, relative, code, excluded)


def coverage_init(registry: Any, options: Any) -> None:
    registry.add_file_tracer(WithDeclarations())
