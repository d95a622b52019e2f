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
        code: dict[int, str] = {}
        found = None
        for name in sorted(os.listdir(folder)):
            if name.endswith(".c"):
                relative, lines = self._read_source_lines(os.path.join(folder, name), filename)
                if lines:
                    found = found or (os.path.join(folder, name), relative)
                    code |= lines
                self._c_files_map.pop(filename, None)
        if found is None:
            return None
        excluded: set[int] | frozenset[int] = self._excluded_lines_map.get(found[1], frozenset())
        return CythonModuleReporter(found[0], filename, found[1], code, excluded)


def coverage_init(registry: Any, options: Any) -> None:
    registry.add_file_tracer(WithDeclarations())
