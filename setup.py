"""Build the Cython core. ``DICOMNET_BUILD`` picks how: ``release`` (default), ``debug`` or ``trace`` (coverage)."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILD = os.environ.get("DICOMNET_BUILD", "release")
FLAGS = {"release": ["-O3", "-g0"], "debug": ["-O0", "-g"], "trace": ["-O1"]}
MACROS = {"release": [("NDEBUG", "1")], "debug": [], "trace": [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]}
if BUILD not in FLAGS:
    sys.exit(f"DICOMNET_BUILD={BUILD}: expected one of {', '.join(FLAGS)}")

extensions = [
    Extension(
        f"dicomnet.{path.stem}",
        [path.as_posix()],
        extra_compile_args=[] if sys.platform == "win32" else FLAGS[BUILD],
        define_macros=MACROS[BUILD],
    )
    for path in sorted(Path("dicomnet").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        # cythonize compares time stamps, not directives: without force a trace build would reuse release C.
        force=BUILD != "release" or bool(os.environ.get("CI")),
        compiler_directives={
            "language_level": 3,
            "embedsignature": True,
            "boundscheck": BUILD != "release",
            "wraparound": False,
            "cdivision": True,
            "linetrace": BUILD == "trace",
        },
    ),
)
