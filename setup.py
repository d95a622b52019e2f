"""Build the Cython core. ``DICOMNET_BUILD``: ``release`` (default), ``debug``, ``trace`` (coverage) or ``sanitize``."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILD = os.environ.get("DICOMNET_BUILD", "release")
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
FLAGS = {"release": ["-O3", "-g0"], "debug": ["-O0", "-g"], "trace": ["-O1"], "sanitize": ["-O1", "-g", *SANITIZE]}
# Coverage's C tracer hears of Cython's lines by the old protocol, also from Python 3.13 on.
TRACE = [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
MACROS = {"release": [("NDEBUG", "1")], "debug": [], "trace": TRACE, "sanitize": []}
if BUILD not in FLAGS:
    sys.exit(f"DICOMNET_BUILD={BUILD}: expected one of {', '.join(FLAGS)}")

extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [path.as_posix()],
        extra_compile_args=[] if sys.platform == "win32" else FLAGS[BUILD],
        extra_link_args=SANITIZE if BUILD == "sanitize" else [],
        define_macros=MACROS[BUILD],
    )
    for path in sorted(Path("dicomnet").rglob("*.pyx"))
]

setup(
    options={"build_ext": {"parallel": os.cpu_count() or 1}},  # how many compilers run at a time
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
